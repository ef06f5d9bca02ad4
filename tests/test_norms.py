"""The lecture's norm ||x||_p and metric, p in {0.5, 1, 2, 3, inf}, whole and from chunks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit.errors import SpecError
from nnjit.kernels.cpu import norm as cpu
from nnjit.kernels.reference import norm as reference
from nnjit.program.norms import lp_norm
from numba import types

PS = [0.5, 1.0, 2.0, 3.0, math.inf]
numbers = st.lists(st.integers(-(10**9), 10**9).map(lambda n: n / 10**6), min_size=1, max_size=12)


def formula(x, p):
    """Compute the lecture's formula term by term."""
    if p == math.inf:
        return max(abs(v) for v in x)
    total = math.fsum(abs(v) ** p for v in x)
    return total ** (1 / p) if p >= 1 else total


@pytest.mark.parametrize("p", PS)
def test_exact_values(p):
    assert lp_norm([[3.0, -4.0], [0.0, 12.0]], p) == pytest.approx(
        {0.5: 3**0.5 + 2 + 12**0.5, 1.0: 19, 2.0: 13, 3.0: (27 + 64 + 1728) ** (1 / 3), math.inf: 12}[p], rel=1e-14
    )
    assert lp_norm([], p) == 0 and lp_norm([0.0, 0.0], p) == 0


@given(x=numbers, y=numbers, p=st.sampled_from(PS))
@settings(max_examples=200, deadline=None)
def test_formula_triangle_and_homogeneity(x, y, p):
    n = min(len(x), len(y))
    x, y = np.array(x[:n]), np.array(y[:n])
    close = {"rel": 1e-12, "abs": 1e-300}
    assert lp_norm(x, p) == pytest.approx(formula(x, p), **close)
    assert lp_norm(x + y, p) <= (lp_norm(x, p) + lp_norm(y, p)) * (1 + 1e-12)
    degree = p if p < 1 else 1.0
    assert lp_norm(-3 * x, p) == pytest.approx(3**degree * lp_norm(x, p), **close)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_neither_overflow_nor_underflow(p, size):
    assert lp_norm([3 * size, -4 * size], p) / size == pytest.approx(formula([3, 4], p), rel=1e-14)


@pytest.mark.parametrize("p", PS)
def test_infinite_and_missing_numbers_show(p):
    assert lp_norm([1.0, -math.inf], p) == math.inf
    assert math.isnan(lp_norm([1.0, math.nan, 2.0], p))


@pytest.mark.parametrize("p", [0.0, -1.0, math.nan])
def test_p_must_be_positive(p):
    with pytest.raises(SpecError, match="p: expected"):
        lp_norm([1.0], p)


def combine(sums, p):
    """Return the norm from the sums of |x_i|^p over its chunks, by the formula that a program's text has."""
    if p == math.inf:
        return max(sums)
    return sum(sums) if p < 1 else sum(sums) ** (1 / p)


def partial(g, sums, index, p, folder):
    if folder == "reference":
        return reference.partial(g, sums, index, p)
    real = types.float32 if g.dtype == np.float32 else types.float64
    signature = (types.Array(real, 1, "C"), types.Array(types.float64, 1, "C"), types.intp, real)
    cpu.partial.compile(signature, g.dtype.type)[1](g, sums, index, g.dtype.type(p), 0, 1)


@pytest.mark.parametrize("folder", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", PS)
def test_chunks_combine_to_the_norm_of_the_whole(p, dtype, folder):
    g = np.random.default_rng(0).normal(size=1000).astype(dtype)
    bounds, sums = [0, 1, 400, 401, 1000, 1000], np.full(6, np.nan)
    for index in range(5):
        partial(g[bounds[index] : bounds[index + 1]], sums, index, p, folder)
    assert np.isnan(sums[5])  # it writes one element only
    tolerance = 1e-6 if dtype == np.float32 and p not in (1.0, 2.0, math.inf) else 1e-13
    assert combine(sums[:5], p) == pytest.approx(lp_norm(g, p), rel=tolerance)
    assert combine(sums[2:3], p) == pytest.approx(lp_norm(g[400:401], p), rel=tolerance)


@pytest.mark.parametrize("folder", ["cpu", "reference"])
@pytest.mark.parametrize("p", PS)
def test_nan_reaches_the_sum_wherever_it_stands(p, folder):
    for place in range(3):
        g, sums = np.ones(3, np.float32), np.zeros(1)
        g[place] = np.nan
        partial(g, sums, 0, p, folder)
        assert np.isnan(sums[0])


def test_float32_squares_are_summed_in_float64():
    sums = np.zeros(1)
    for folder in ("cpu", "reference"):
        partial(np.array([3e30, 4e30], np.float32), sums, 0, 2.0, folder)
        assert math.sqrt(sums[0]) == pytest.approx(5e30, rel=1e-6)


@pytest.mark.parametrize("folder", [cpu, reference])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale(folder, dtype):
    g = np.arange(5, dtype=dtype)
    folder.scale(g, 0.5)
    np.testing.assert_array_equal(g, np.array([0, 0.5, 1, 1.5, 2], dtype))
