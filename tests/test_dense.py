"""The affine layer: PyTorch's values, the lecture's (3) to (5) written out, any width, no bias."""

from pathlib import Path

import numpy as np
import pytest
from layer_runner import run
from nnjit import registry
from nnjit.errors import ShapeError, SpecError

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
both = pytest.mark.parametrize("folder", ["cpu", "reference"])
dtypes = pytest.mark.parametrize("dtype, tolerance", [(np.float32, 5e-6), (np.float64, 1e-13)])


@both
@dtypes
def test_against_pytorch(folder, dtype, tolerance):
    v = {key: VECTORS[f"dense.plain.{key}"] for key in ("x", "W", "b", "y", "dy", "dx", "dW", "db")}
    own = {"W": v["W"], "b": v["b"]}
    got = run(registry.create("dense(4)"), v["x"].astype(dtype), v["dy"].astype(dtype), own, folder)
    for name in ("y", "dx", "dW", "db"):
        np.testing.assert_allclose(got[name], v[name], rtol=tolerance, atol=tolerance, err_msg=name)


@both
@pytest.mark.parametrize("N, m, n", [(1, 1, 1), (3, 2, 5), (7, 33, 17), (2, 65, 3)])
def test_lecture_element_by_element(N, m, n, folder):
    rng = np.random.default_rng(N + m + n)
    x, delta, W, b = (rng.normal(size=s) for s in ((N, m), (N, n), (n, m), n))
    got = run(registry.create(("dense", {"units": n})), x, delta, {"W": W, "b": b}, folder)
    for i in range(N):
        for j in range(n):
            z = sum(W[j, k] * x[i, k] for k in range(m)) + b[j]
            assert got["y"][i, j] == pytest.approx(z, rel=1e-11, abs=1e-12)
    for j in range(n):
        assert got["db"][j] == pytest.approx(sum(delta[i, j] for i in range(N)), rel=1e-11, abs=1e-12)  # (4)
        for k in range(m):
            dW = sum(delta[i, j] * x[i, k] for i in range(N))  # (5)
            assert got["dW"][j, k] == pytest.approx(dW, rel=1e-11, abs=1e-12)
    for i in range(N):
        for k in range(m):
            dx = sum(W[j, k] * delta[i, j] for j in range(n))  # (3) without sigma'
            assert got["dx"][i, k] == pytest.approx(dx, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize(
    "N, m, n",
    [
        (9, 16, 8), (13, 40, 49), (65, 131, 64), (70, 17, 131), (258, 130, 50), (515, 33, 20), (67, 805, 530),
        (259, 263, 7700),  # packs both factors
        (70, 15, 131), (600, 1, 40), (64, 3, 300), (33, 7, 530),  # the gradient is turned
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-13)])
def test_every_way_of_the_matrix_product(N, m, n, dtype, tolerance):
    """Sizes around tiles, packed panels and blocks, with all tails, between guards that must not change."""
    from nnjit.kernels.cpu import dense

    rng = np.random.default_rng(N)
    x, W, b, dy = (rng.standard_normal(s).astype(dtype) for s in ((N, m), (n, m), n, (N, n)))
    expected = {"y": x @ W.T + b, "dx": dy @ W, "dW": dy.T @ x}
    guarded = {name: np.full(a.size + 128, np.nan, dtype) for name, a in expected.items()}
    y, dx, dW = (guarded[name][64:-64].reshape(a.shape) for name, a in expected.items())
    dense.forward(x, W, b, y)
    dense.backward_input(W, dy, dx)
    dense.backward_weight(x, dy, dW)
    for name, a in expected.items():
        np.testing.assert_allclose(guarded[name][64:-64].reshape(a.shape), a, atol=tolerance * m**0.5 * 8, err_msg=name)
        assert np.isnan(guarded[name][:64]).all() and np.isnan(guarded[name][-64:]).all(), name


@both
def test_without_bias(folder):
    x, dy, W = np.ones((2, 3)), np.ones((2, 4)), np.arange(12.0).reshape(4, 3)
    got = run(registry.create("dense(4, bias=False)"), x, dy, {"W": W}, folder)
    np.testing.assert_array_equal(got["y"], [[3, 12, 21, 30]] * 2)
    assert got["db"].shape == (0,)


def test_shapes_and_fans():
    layer = registry.create("dense(5)")
    assert layer.output_shape((7,)) == (5,) and layer.operations((7,)) == 35
    W = layer.parameters((7,))["W"]
    assert (W.shape, W.fan_in, W.fan_out) == ((5, 7), 7, 5)
    with pytest.raises(ShapeError, match="flatten"):
        layer.output_shape((1, 8, 8))


def test_units_are_a_whole_number():
    with pytest.raises(SpecError, match="units"):
        registry.create("dense(2.5)")
