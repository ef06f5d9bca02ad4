"""The compiled exp and its kin in kernels, against NumPy's, PyTorch's and mpmath's in a wider type."""

import math

import mpmath
import numpy as np
import pytest
from every_float32 import FUNCTIONS, errors
from nnjit import registry
from nnjit.kernels.compiler import functions, special

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e30, -1e30, 1.0, -1.0, -1.5, np.finfo(np.float64).max]
EDGES = {  # of overflow, of subnormal results, of n
    np.float32: (88.722, 88.723, -87.33654, -87.4, -103.9, -104.1, 13.0, -12.9, -13.19, -13.21, 9.19, 9.21, 1.9e38),
    np.float64: (709.78, 709.79, -708.39, -708.5, -745.1, -745.2, 37.5, -37.5, -37.59, -37.61, 26.5, 26.6, 1e308),
}
# Largest errors in units in the last place in float32 and in float64, as functions.py states them.
UNITS = {
    "exp": (1.1, 1.1), "expm1": (1.7, 2.2), "tanh": (2.0, 2.7), "log1p": (1.8, 1.8), "erfc": (6.0, 6.0),
    "normal_cdf": (6.0, 6.0), "normal_pdf": (2.2, 2.2), "log1p_exp": (2.4, 2.4),
}  # fmt: skip


def drawn(real, count=20_000):
    rng = np.random.default_rng(0)
    edge = -1.05 * EDGES[real][5]
    numbers = [rng.uniform(-edge, edge, count + 1), rng.normal(0, 3, count), rng.normal(0, 1e-4, count // 10)]
    numbers += [rng.uniform(-1, 1, count // 10), rng.uniform(-edge, edge, count // 10), SPECIAL, EDGES[real]]
    with np.errstate(over="ignore"):
        numbers[4] = np.exp(numbers[4])
        return np.concatenate(numbers).astype(real)


def test_every_function_has_its_measure():
    assert {*functions.NAMES, *(f.__name__ for f in special.FUNCTIONS)} == {*FUNCTIONS} == {*UNITS}
    stated = {line.split()[0]: line.split()[1:3] for line in functions.__doc__.splitlines() if line[:4].strip()}
    assert {name: tuple(map(float, stated[name])) for name in UNITS} == UNITS


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("real, wide", [(np.float32, np.float64), (np.float64, np.longdouble)])
def test_units_in_the_last_place(name, real, wide):
    oracle, x = None, drawn(real)
    if name in ("erfc", "normal_cdf"):
        exact, x = (mpmath.erfc if name == "erfc" else mpmath.ncdf), drawn(real, 1_000)

        def oracle(numbers):
            with mpmath.workdps(30):
                values = [exact(mpmath.mpf(float(number))) for number in np.clip(numbers, -100, 100)]
            return np.array([wide(mpmath.nstr(value, 22)) for value in values])

    off, at, wrong, given = errors(name, x, wide, oracle)
    assert not wrong.any(), given[wrong]
    assert off <= UNITS[name][real is np.float64], at


def test_plain_functions_agree():
    """The functions of special.py in plain Python and as NumPy's scalars, as the reference calls them."""
    for x in (-700.0, -40.0, -3.0, -0.0, 0.5, 30.0, math.inf, math.nan):
        for function in special.FUNCTIONS:
            if function is special.log1p_exp and x > 0:
                continue
            found = np.empty(1)
            FUNCTIONS[function.__name__][0](np.array([x]), found)
            np.testing.assert_allclose(found[0], function(x), rtol=1e-12)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_the_last_numbers_have_the_same_bits(real):
    """A masked vector writes no number beyond the end of an array."""
    x = np.random.default_rng(0).normal(0, 2, 100).astype(real)
    for name in ("tanh", "gelu", "relu"):
        formula, whole = registry.create(name).forward, np.empty_like(x)
        formula(x, whole)
        for n in (1, 3, 4, 7, 16, 33):
            found = np.full(100, 9, real)
            formula(x[:n], found[:n])
            np.testing.assert_array_equal(found, np.where(np.arange(100) < n, whole, 9))
