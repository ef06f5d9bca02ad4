"""Activations and softmax: PyTorch's values, central differences, conventions at kinks, extreme arguments."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from layer_runner import run
from nnjit import registry
from nnjit.errors import SpecError

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
SPECS = {
    "relu": "relu", "leaky_relu": "leaky_relu(0.02)", "elu": "elu(1.3)", "selu": "selu", "gelu": "gelu",
    "silu": "silu", "softplus": "softplus", "sigmoid": "sigmoid", "tanh": "tanh",
}  # fmt: skip
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}
both = pytest.mark.parametrize("folder", ["cpu", "reference"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every = pytest.mark.parametrize("name", SPECS)


def near(a, b, dtype, scale=1.0):
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype] * scale, atol=TOLERANCE[dtype] * scale)


@every
@both
@dtypes
def test_against_pytorch(name, folder, dtype):
    v = {key: VECTORS[f"activation.{name}.{key}"] for key in ("x", "y", "dy", "dx")}
    got = run(registry.create(SPECS[name]), v["x"].astype(dtype), v["dy"].astype(dtype), folder=folder)
    near(got["y"], v["y"], dtype)
    near(got["dx"], v["dx"], dtype, scale=4)


@every
def test_derivative_is_that_of_the_formula(name):
    layer = registry.create(SPECS[name])
    x = np.random.default_rng(3).uniform(-4, 4, 40)
    x = x[np.abs(x) > 1e-3]  # kinks
    h = 1e-5
    got = run(layer, x, np.ones_like(x), folder="reference")
    up, down = (run(layer, x + s, folder="reference")["y"] for s in (h, -h))
    np.testing.assert_allclose(got["dx"], (up - down) / (2 * h), atol=1e-9)


@both
@pytest.mark.parametrize(
    "spec, slope", [("relu", 0.0), ("leaky_relu(0.3)", 0.3), ("elu(0.7)", 0.7), ("softplus", 0.5), ("gelu", 0.5)]
)
def test_slope_at_zero(spec, slope, folder):
    got = run(registry.create(spec), np.zeros((1, 2)), np.ones((1, 2)), folder=folder)
    np.testing.assert_allclose(got["dx"], slope)


@every
@both
@dtypes
def test_extreme_arguments_stay_finite_and_nan_goes_through(name, folder, dtype):
    x = np.array([[-1e15, -800.0, -100.0, 100.0, 800.0, 1e15]], dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = run(registry.create(SPECS[name]), x, np.ones_like(x), folder=folder)
    assert np.isfinite(got["y"]).all() and np.isfinite(got["dx"]).all()
    assert (np.abs(got["dx"]) <= 1.8).all()
    lost = run(registry.create(SPECS[name]), np.full((1, 3), np.nan, dtype), folder=folder)
    assert np.isnan(lost["y"]).all()


@every
def test_formulas_hold_for_python_numbers(name):
    layer = registry.create(SPECS[name])
    options = list(layer.options().values())
    for x in (-1e4, -3.0, 0.0, 3.0, 1e4):
        y = layer.forward.function(x, *options)
        slope = layer.backward_input.function(y if "y" in layer.backward_input.arguments else x, *options)
        assert math.isfinite(y) and math.isfinite(slope)


def test_far_tails_keep_their_relative_accuracy():
    x = np.array([[-30.0, -10.0]])
    tail = run(registry.create("gelu"), x)["y"][0]
    exact = [-30.0 * 4.906713927148187e-198, -10.0 * 7.619853024160526e-24]  # x Phi(x), Phi from tables
    np.testing.assert_allclose(tail, exact, rtol=1e-12)
    slope = run(registry.create("softplus"), x, np.ones_like(x))["dx"]
    np.testing.assert_allclose(slope, np.exp(x) / (1 + np.exp(x)), rtol=1e-12)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu", "softplus", "sigmoid", "tanh"])
def test_backward_names_y_only_so_that_x_is_freed(name):
    assert "x" not in registry.get(name).backward_input.arguments


def test_initializers_that_suit():
    assert registry.get("relu").initializer == "he" and registry.get("selu").initializer == "lecun"
    assert registry.get("sigmoid").initializer is None and registry.get("tanh").initializer is None


@pytest.mark.parametrize("spec", ["leaky_relu(-0.1)", "elu(-1.0)", "elu(inf)"])
def test_alpha_must_keep_the_sign(spec):
    with pytest.raises(SpecError, match="alpha must be"):
        registry.create(spec)


@pytest.mark.parametrize("case", ["rows", "image"])
@both
@dtypes
def test_softmax_against_pytorch(case, folder, dtype):
    v = {key: VECTORS[f"softmax.{case}.{key}"] for key in ("x", "y", "dy", "dx")}
    got = run(registry.create("softmax"), v["x"].astype(dtype), v["dy"].astype(dtype), folder=folder)
    near(got["y"], v["y"], dtype, scale=4)
    near(got["dx"], v["dx"], dtype, scale=4)


@both
def test_softmax_of_huge_numbers(folder):
    got = run(registry.create("softmax"), np.array([[1e8, 1e8, -1e8], [-1e30, 0.0, 1e30]], np.float32), folder=folder)
    np.testing.assert_array_equal(got["y"], [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert np.isnan(run(registry.create("softmax"), np.array([[0.0, np.nan]]), folder=folder)["y"]).all()
