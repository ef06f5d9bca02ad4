"""Initialisers: moments by formula, bounds, types, and a network's default choice."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import SpecError

FAN_IN, FAN_OUT, SHAPE = 30, 70, (400, 300)
VARIANCE = {"he": 2 / FAN_IN, "glorot": 2 / (FAN_IN + FAN_OUT), "lecun": 1 / FAN_IN}


def draw(spec, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return registry.initializers.create(spec).draw(rng, SHAPE, FAN_IN, FAN_OUT, dtype)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("name", VARIANCE)
def test_moments(name, distribution):
    drawn = draw(f"{name}('{distribution}')")
    n, kurtosis = drawn.size, 3 if distribution == "normal" else 1.8
    assert drawn.mean() == pytest.approx(0, abs=5 * np.sqrt(VARIANCE[name] / n))
    assert drawn.var() == pytest.approx(VARIANCE[name], rel=5 * np.sqrt((kurtosis - 1) / n))
    fourth = np.mean(drawn**4) / drawn.var() ** 2
    assert fourth == pytest.approx(kurtosis, rel=0.03)
    if distribution == "uniform":
        assert np.abs(drawn).max() <= np.sqrt(3 * VARIANCE[name])


def test_fixed():
    assert draw("normal").std() == pytest.approx(0.5, rel=0.02)  # the ten-point example's 0.5
    shifted = draw("normal(std=0.1, mean=2)")
    assert shifted.mean() == pytest.approx(2, rel=1e-2) and shifted.std() == pytest.approx(0.1, rel=0.02)
    assert (draw("zeros") == 0).all() and (draw("constant(-1.5)") == -1.5).all()


@pytest.mark.parametrize("spec", ["he", "glorot('uniform')", "lecun", "normal", "zeros", "constant(2)"])
def test_shape_type_and_seed(spec):
    single, double = draw(spec, np.float32), draw(spec)
    assert single.shape == SHAPE and single.dtype == np.float32 and double.dtype == np.float64
    np.testing.assert_array_equal(single, double.astype(np.float32))
    np.testing.assert_array_equal(draw(spec), double)
    if spec[0] in "hgln":
        assert (draw(spec, seed=1) != double).any()


def test_what_a_network_chooses():
    """He before ReLU, LeCun before SELU, Glorot otherwise; a spec of the layer wins."""
    net = registry.compose("dense(200) relu dense(200) selu dense(200) tanh dense(200, init='normal(0.01)') relu", 200)
    deviations = [net.parameters[f"dense.{k}.W"].std() for k in (1, 3, 5, 7)]
    np.testing.assert_allclose(deviations, [0.1, np.sqrt(1 / 200), np.sqrt(1 / 200), 0.01], rtol=0.03)


@pytest.mark.parametrize("spec", ["he('gauss')", "normal(-1)", "normal(inf)", "constant(inf)", "constant"])
def test_options(spec):
    with pytest.raises(SpecError):
        registry.initializers.create(spec)
