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


def _whole_range():
    """Return every 4096th finite float32."""
    x = np.arange(0, 2**32, 2**12, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return x[np.isfinite(x)]


def _wide(name, x):
    """Compute y and y' in float64, without cancellation."""
    e, positive = np.exp(-np.abs(x)), x > 0
    s, rest = np.where(positive, 1, e) / (1 + e), np.where(positive, e, 1) / (1 + e)
    phi = np.exp(-0.5 * np.square(x)) / math.sqrt(2 * math.pi)
    Phi = np.vectorize(math.erfc)(-x * math.sqrt(0.5)) / 2
    a, scale, alpha = 1.3, 1.0507009873554805, 1.6732632423543772
    return {
        "relu": (np.where(positive, x, 0), positive * 1.0),
        "leaky_relu": (np.where(positive, x, 0.02 * x), np.where(positive, 1, 0.02)),
        "elu": (np.where(positive, x, a * np.expm1(np.minimum(x, 0))), np.where(positive, 1, a * e)),
        "selu": (
            scale * np.where(positive, x, alpha * np.expm1(np.minimum(x, 0))),
            scale * np.where(positive, 1, alpha * e),
        ),
        "gelu": (x * Phi, Phi + x * phi),
        "silu": (x * s, s * (1 + x * rest)),
        "softplus": (np.maximum(x, 0) + np.log1p(e), s),
        "sigmoid": (s, s * rest),
        "tanh": (np.tanh(x), 1 / np.square(np.cosh(np.clip(x, -300, 300)))),
    }[name]  # fmt: skip


# Allowed units in the last place, and allowed absolute error: near zeros of y' (gelu, silu), and for y' from y.
UNITS = {"gelu": (8, 5e-7), "silu": (4, 3e-7), "sigmoid": (4, 2e-7), "tanh": (4, 5e-7)}


@every
def test_over_the_whole_range_of_float32(name):
    x = _whole_range()
    got = run(registry.create(SPECS[name]), x[None], np.ones_like(x)[None])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        y, slope = _wide(name, x.astype(np.float64))
        units, beside = UNITS.get(name, (3, 0.0))
        tiny = np.finfo(np.float32).tiny  # below it results may be 0, and factors of a slope too
        for found, exact, extra in ((got["y"][0], y, tiny * np.maximum(1, np.abs(x))), (got["dx"][0], slope, 2 * tiny)):
            extra = extra + (beside if exact is slope else 0)
            allowed = units * np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64) + extra
            finite = np.isfinite(exact.astype(np.float32))
            off = np.where(finite, np.abs(found - exact), 0)
            worst = np.argmax(off - np.where(finite, allowed, 0))
            assert (off <= allowed)[finite].all(), (x[worst], found[worst], exact[worst])
            assert not np.isfinite(found[~finite]).any()


def test_signs_of_zero_and_subnormal_numbers():
    """y(-0) = -0 for formulas that are odd at 0, and a subnormal result is as exact as others."""
    x = np.array([[-0.0, -1e-40, -1e-38]], np.float32)
    for name in ("elu", "selu", "tanh", "leaky_relu"):
        y = run(registry.create(name), x)["y"][0]
        assert np.signbit(y).all(), name
    np.testing.assert_array_equal(run(registry.create("elu"), x)["y"], x)


def test_slopes_far_below_zero():
    x = np.array([[-20.0, -60.0]], np.float32)
    for name, scale in {"elu": 1.0, "selu": 1.0507009873554805 * 1.6732632423543772}.items():
        slope = run(registry.create(name), x, np.ones_like(x))["dx"]
        np.testing.assert_allclose(slope, scale * np.exp(x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softplus", "sigmoid", "tanh"])
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
