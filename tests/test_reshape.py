"""Layers that only change shapes, and the container residual: options, shapes, and a network that uses them."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import ShapeError, SpecError, UnknownName


def test_shapes():
    assert registry.create("flatten").output_shape((3, 4, 5)) == (60,)
    assert registry.create("identity").output_shape((3, 4)) == (3, 4)
    assert registry.create("reshape((5, 12))").output_shape((3, 4, 5)) == (5, 12)
    assert registry.create("reshape([2, -1, 3])").output_shape((3, 4, 5)) == (2, 10, 3)
    assert registry.create("reshape(60)").output_shape((3, 4, 5)) == (60,)
    assert registry.create("reshape(-1)").output_shape((3, 4)) == (12,)


@pytest.mark.parametrize("spec", ["reshape((7, 2))", "reshape((-1, 7))", "reshape(59)"])
def test_numbers_that_do_not_fill_the_shape(spec):
    with pytest.raises(ShapeError, match="60 elements"):
        registry.create(spec).output_shape((3, 4, 5))


@pytest.mark.parametrize("spec", ["reshape(())", "reshape((-1, -1))", "reshape((2, 0))", "reshape(-2)"])
def test_impossible_shapes(spec):
    with pytest.raises(SpecError, match="reshape: sizes must be at least 1"):
        registry.create(spec)


@pytest.mark.parametrize("name", ["flatten", "reshape(6)", "identity"])
def test_no_work(name):
    layer = registry.create(name)
    assert layer.forward is None and layer.alias and layer.operations((3, 2)) == 0


def test_order_is_channels_then_space():
    net = registry.compose(["reshape((2, 3, 2))", "identity", "flatten"], (4, 3), dtype="float64")
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    np.testing.assert_array_equal(net.forward(x), x.reshape(5, 12))
    np.testing.assert_array_equal(net.backward(x.reshape(5, 12)), x)


def test_residual_adds_its_input():
    inner = ["dense(4)", "tanh"]
    net = registry.compose([("residual", {"layers": inner})], (4,), dtype="float64", seed=3)
    x, dy = np.random.default_rng(1).normal(size=(2, 6, 4))
    W, b = net.parameters["residual.1.dense.1.W"], net.parameters["residual.1.dense.1.b"]
    f = np.tanh(x @ W.T + b)
    np.testing.assert_allclose(net.forward(x), f + x, rtol=1e-13)
    np.testing.assert_allclose(net.backward(dy), (dy * (1 - f**2)) @ W + dy, rtol=1e-13)


def test_residual_says_what_is_wrong_inside():
    with pytest.raises(SpecError, match=r"residual: .*at least one layer"):
        registry.create(("residual", {"layers": []}))
    with pytest.raises(SpecError, match="residual: layer 2: dense"):
        registry.create(("residual", {"layers": ["relu", "dense('x')"]}))
    with pytest.raises(UnknownName, match="dense"):
        registry.create(("residual", {"layers": ["dens(3)"]}))
    with pytest.raises(ShapeError, match="agree"):
        registry.compose([("residual", {"layers": ["dense(3)"]})], (4,))


def test_residual_spec_reads_back():
    layer = registry.create("residual(['dense(4)', 'relu'])")
    again = registry.create(layer.spec())
    assert [type(a) for a in layer.contents()] == [type(a) for a in again.contents()] and len(again.contents()) == 2
