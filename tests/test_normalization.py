"""Batch and layer normalisation: PyTorch's values, moments, running statistics, accuracy far from zero."""

from pathlib import Path

import numpy as np
import pytest
from layer_runner import run
from nnjit import registry
from nnjit.errors import SpecError

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
both = pytest.mark.parametrize("folder", ["cpu", "reference"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
cases = pytest.mark.parametrize("case", ["rows", "image", "volume"])


def vectors(name):
    return {key.removeprefix(name + "."): VECTORS[key] for key in VECTORS.files if key.startswith(name + ".")}


def near(got, want, dtype):
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@cases
@both
@dtypes
def test_batchnorm_against_pytorch(case, folder, dtype):
    v = vectors(f"batchnorm.{case}")
    layer = registry.create("batchnorm(momentum=0.8, epsilon=1e-3)")  # 1 - PyTorch's momentum
    own = {"gain": v["gain"], "offset": v["offset"]}
    buffers = {"running_mean": v["mean0"], "running_variance": v["variance0"]}
    x, dy = v["x"].astype(dtype), v["dy"].astype(dtype)
    got = run(layer, x, dy, own, folder, buffers=buffers)
    for ours, theirs in {
        "y": "y", "dx": "dx", "dgain": "dgain", "doffset": "doffset", "running_mean": "mean1",
        "running_variance": "variance1",
    }.items():  # fmt: skip
        near(got[ours], v[theirs], dtype)
    got = run(layer, x, None, own, folder, training=False, buffers=buffers)
    near(got["y"], v["predicted"], dtype)
    near(got["running_mean"], v["mean0"], dtype)  # prediction leaves them


@both
def test_batchnorm_backward_in_prediction(folder):
    """Outside training m and v do not depend on x, so each channel is affine."""
    rng = np.random.default_rng(0)
    x, dy, own = *rng.normal(size=(2, 4, 3, 5)), {"gain": np.array([2.0, -1.0, 0.5]), "offset": np.zeros(3)}
    buffers = {"running_mean": rng.normal(size=3), "running_variance": rng.uniform(0.5, 2, 3)}
    got = run(registry.create("batchnorm"), x, dy, own, folder, training=False, buffers=buffers)
    r = 1 / np.sqrt(buffers["running_variance"] + 1e-5)
    h = (x - buffers["running_mean"][:, None]) * r[:, None]
    np.testing.assert_allclose(got["dx"], (own["gain"] * r)[:, None] * dy, rtol=1e-12)
    np.testing.assert_allclose(got["dgain"], (dy * h).sum(axis=(0, 2)), rtol=1e-12)


@cases
@both
@dtypes
def test_layernorm_against_pytorch(case, folder, dtype):
    v = vectors(f"layernorm.{case}")
    own = {"gain": v["gain"], "offset": v["offset"]}
    got = run(registry.create("layernorm(1e-3)"), v["x"].astype(dtype), v["dy"].astype(dtype), own, folder)
    for name in ("y", "dx", "dgain", "doffset"):
        near(got[name], v[name], dtype)


@both
@pytest.mark.parametrize("name, axes, shape", [("batchnorm", (0, 2), (3,)), ("layernorm", (1, 2), (3, 5))])
def test_output_has_the_moments_of_offset_and_gain(name, axes, shape, folder):
    x = np.random.default_rng(0).normal(3, 7, (8, 3, 5))
    got = run(registry.create(name), x, None, {"gain": np.full(shape, 2.0), "offset": np.full(shape, -1.0)}, folder)
    np.testing.assert_allclose(got["y"].mean(axis=axes), -1, atol=1e-12)
    np.testing.assert_allclose(got["y"].std(axis=axes), 2, rtol=1e-5)


def test_a_batch_of_one_number():
    got = run(registry.create("batchnorm"), np.array([[4.0]]), np.array([[1.0]]), {"gain": [2.0], "offset": [0.5]})
    assert got["y"][0, 0] == 0.5 and got["dx"][0, 0] == 0
    assert got["running_mean"][0] == pytest.approx(0.4) and got["running_variance"][0] == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["batchnorm", "layernorm"])
def test_float32_far_from_zero(name):
    """Mean 1000, deviation 1: the one-pass variance would be lost in float32."""
    x = np.random.default_rng(0).normal(1000, 1, (64, 4, 9)).astype(np.float32)
    exact = run(registry.create(name), x.astype(np.float64), folder="reference", seed=2)["y"]
    np.testing.assert_allclose(run(registry.create(name), x, seed=2)["y"], exact, atol=2e-3)


def test_wide_layers_own_whole_blocks_of_features():
    """More than 64 features, and not a multiple: every gradient is written once."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 5, 150))
    got, want = (run(registry.create("layernorm"), x, dy, folder=folder) for folder in ("cpu", "reference"))
    for name in ("dgain", "doffset", "dx"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-11, atol=1e-12)


def test_prediction_uses_what_training_gathered():
    """After many batches of one distribution the running statistics are its moments."""
    net = registry.compose(["batchnorm(momentum=0.5)"], (2,), dtype="float64")
    rng = np.random.default_rng(0)
    for _ in range(40):
        net.forward(rng.normal([1, -2], [3, 0.5], (500, 2)), training=True)
    running = net.buffers["batchnorm.1.running_mean"], net.buffers["batchnorm.1.running_variance"]
    np.testing.assert_allclose(running[0], [1, -2], atol=0.4)
    np.testing.assert_allclose(running[1], [9, 0.25], rtol=0.2)
    x = rng.normal(size=(3, 2))
    np.testing.assert_allclose(net.forward(x), (x - running[0]) / np.sqrt(running[1] + 1e-5), rtol=1e-12)


@pytest.mark.parametrize(
    "spec", ["batchnorm(momentum=1.1)", "batchnorm(momentum=-0.1)", "batchnorm(epsilon=0)", "layernorm(-1)"]
)
def test_options(spec):
    with pytest.raises(SpecError, match="must be"):
        registry.create(spec)
