"""Batch and layer normalisation: PyTorch's values, moments, running statistics, accuracy far from zero."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from layer_runner import run
from nnjit import registry
from nnjit.errors import DivergenceError, SpecError
from nnjit.kernels.counters import STOP
from nnjit.program.program import Program

pytestmark = pytest.mark.usefixtures("linked")  # test_few.py: inlined programs

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
    near(got["running_mean"], v["mean0"], dtype)  # prediction does not change them


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


@both
@dtypes
@pytest.mark.parametrize("shape, moves", [((1, 2), False), ((2, 2), True), ((1, 2, 3), True), ((1, 2, 1, 1), False)])
def test_one_number_of_a_channel_moves_nothing(shape, moves, folder, dtype):
    """One number has no variance; two have one, from two samples or from two positions."""
    x = np.random.default_rng(0).normal(4, 2, shape).astype(dtype)
    got = run(registry.create("batchnorm"), x, np.ones_like(x), {"gain": [2.0, 1.0], "offset": [0.5, 0.0]}, folder)
    assert (got["running_mean"] != 0).all() == moves and (got["running_variance"] != 1).all() == moves
    if not moves:
        assert (got["y"].reshape(-1, 2) == [0.5, 0.0]).all() and (got["dx"] == 0).all()


@both
@dtypes
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38, 3e38])
def test_statistics_move_only_by_finite_batches(bad, folder, dtype):
    x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(dtype)
    x[2, 1, 3] = bad
    with np.errstate(all="ignore"):
        got = run(registry.create("batchnorm"), x, None, folder=folder)
    moved = (got["running_mean"] != 0) & (got["running_variance"] != 1)
    finite = bool(np.isfinite(bad)) and dtype is np.float64  # in float32 the variance of such numbers is infinite
    assert moved.tolist() == [True, finite, True]
    assert np.isfinite(got["running_mean"]).all() and np.isfinite(got["running_variance"]).all()


def test_last_batch_of_one_sample():
    """33 rows in batches of 32: the running statistics are those of the 32, and a warning says why."""
    x = np.random.default_rng(0).normal(3, 2, (33, 4)).astype(np.float32)
    net = registry.compose(["batchnorm", "dense(3)"], (4,))
    with pytest.warns(UserWarning, match=r"the last batch \(1 of 33 samples\) .* batchnorm.1"):
        net.fit(x, np.arange(33) % 3, epochs=120, batch_size=32, optimizer="sgd(lr=0.0001)")
    running = net.buffers["batchnorm.1.running_variance"]
    assert (np.abs(running / x.var(axis=0, ddof=1) - 1) < 0.25).all()


def test_batches_of_one_sample_are_warned_of(monkeypatch):
    """The warning comes before anything is compiled."""
    monkeypatch.setattr(Program, "compile", lambda program: program)
    net = registry.compose(["dense(3)", "batchnorm", "dense(3)"], (4,))
    with pytest.warns(UserWarning, match="a training batch of 1 has one number .* batchnorm.2"):
        net.compile(loss="mse", optimizer="sgd", batch_size=1)
    positions = registry.compose(["conv(2, 3)", "batchnorm", "flatten", "dense(2)"], (1, 4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        positions.compile(loss="mse", optimizer="sgd", batch_size=1)
        net.compile(loss="mse", optimizer="sgd", batch_size=2)


def test_a_bad_step_leaves_the_network_and_the_next_call_as_they_were():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4)).astype(np.float32), np.arange(32) % 3
    bad = x.copy()
    bad[5, 2] = np.nan
    nets = [registry.compose(["batchnorm", "dense(3)"], (4,), seed=1) for _ in range(2)]
    programs = [net.compile(loss="cross_entropy", optimizer="sgd(lr=0.1)", batch_size=32) for net in nets]
    hurt, well = programs
    assert np.isnan(hurt.step(hurt.state, bad, y)) and hurt.state.counters[STOP] == 1
    nets[1].buffers["batchnorm.1.running_mean"][:] = nets[0].buffers["batchnorm.1.running_mean"]
    nets[1].buffers["batchnorm.1.running_variance"][:] = nets[0].buffers["batchnorm.1.running_variance"]
    assert all(np.isfinite(buffer).all() for buffer in nets[0].buffers.values())
    order = np.arange(32)
    for program in programs:
        assert np.isfinite(program.epoch(program.state, x, y, order)) and program.state.counters[STOP] == 0
    np.testing.assert_array_equal(nets[0].theta, nets[1].theta)
    assert np.isnan(hurt.epoch(hurt.state, bad, y, order))
    assert hurt.step(hurt.state, x, y) == well.step(well.state, x, y)


def test_fit_again_after_a_divergence():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype(np.float32), np.arange(64) % 3
    far = x.copy()
    far[5:7, 2] = 3e38  # finite, but their sum is not
    net = registry.compose(["batchnorm", "dense(3)"], (4,))
    with pytest.raises(DivergenceError):
        net.fit(far, y, epochs=1, batch_size=64)
    net.fit(x, y, epochs=30, batch_size=32)
    assert np.isfinite(net.predict(x)).all()
    np.testing.assert_allclose(net.buffers["batchnorm.1.running_variance"], x.var(axis=0, ddof=1), rtol=0.3)


def test_statistics_of_a_very_long_batch():
    """300,000 samples in float32: sums run in portions."""
    rng = np.random.default_rng(0)
    x, dy = (rng.random((300_000, 2)).astype(np.float32) for _ in range(2))
    got = run(registry.create("batchnorm"), x, dy)
    np.testing.assert_allclose(got["mean"], x.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(got["doffset"], dy.sum(axis=0, dtype=np.float64), rtol=1e-6)
    got = run(registry.create("layernorm"), x, dy)
    np.testing.assert_allclose(got["doffset"], dy.sum(axis=0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("name", ["batchnorm", "layernorm"])
def test_float32_far_from_zero(name):
    """Mean 1000, deviation 1: the one-pass variance would be lost in float32."""
    x = np.random.default_rng(0).normal(1000, 1, (64, 4, 9)).astype(np.float32)
    exact = run(registry.create(name), x.astype(np.float64), folder="reference", seed=2)["y"]
    np.testing.assert_allclose(run(registry.create(name), x, seed=2)["y"], exact, atol=2e-3)


def test_wide_layers_own_whole_blocks_of_features():
    """With more than 64 features, not a multiple of 64, every gradient is written once."""
    rng = np.random.default_rng(1)
    x, dy = rng.normal(size=(2, 5, 150))
    got, want = (run(registry.create("layernorm"), x, dy, folder=folder) for folder in ("cpu", "reference"))
    for name in ("dgain", "doffset", "dx"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("samples, features", [(11, 1000), (2, 5000)])
def test_a_sample_is_normalised_in_a_group_as_alone(samples, features):
    """Groups of four samples of 1,000 features, the last of three; of one sample of 5,000."""
    x, layer = np.random.default_rng(2).normal(2, 3, (samples, features)), registry.create("layernorm")
    y = run(layer, x)["y"]
    np.testing.assert_allclose(y, run(layer, x, folder="reference")["y"], rtol=1e-10, atol=1e-12)
    assert (y == np.concatenate([run(layer, row[None])["y"] for row in x])).all()


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
