"""The compiled exp, expm1 and tanh in kernels, against NumPy's in a wider type."""

import numpy as np
import pytest
from nnjit.kernels.compiler.functions import NAMES
from nnjit.kernels.compiler.kernel import kernel
from numba import prange


@kernel
def all_three(x, exp, expm1, tanh):
    for i in prange(x.size):
        exp[i] = np.exp(x[i])
        expm1[i] = np.expm1(x[i])
        tanh[i] = np.tanh(x[i])


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30]
EDGES = {np.float32: (88.722, 88.723, -87.4, -103.9, -104.1), np.float64: (709.78, 709.79, -708.5, -745.1, -745.2)}


@pytest.mark.parametrize("real, wide", [(np.float32, np.float64), (np.float64, np.longdouble)])
def test_units_in_the_last_place(real, wide):
    rng = np.random.default_rng(0)
    edge = -1.05 * EDGES[real][-1]
    x = [rng.uniform(-edge, edge, 20_001), rng.normal(size=20_000), rng.normal(0, 1e-4, 2_000), SPECIAL, EDGES[real]]
    x = np.concatenate(x).astype(real)
    values = [np.empty_like(x) for _ in NAMES]
    all_three(x, *values)
    for name, found in zip(NAMES, values, strict=True):
        with np.errstate(over="ignore"):
            exact = getattr(np, name)(x.astype(wide))
            expected = exact.astype(real)
        if name == "exp":  # subnormal.py
            exact = np.where(expected < np.finfo(real).tiny, 0, exact)
            expected = exact.astype(real)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(found[~finite], expected[~finite])
        off = np.abs(found[finite] - exact[finite]) / np.spacing(np.abs(expected[finite])).astype(wide)
        assert off.max() < (2.5 if name == "exp" else 5), (name, x[finite][off.argmax()])
