"""Functions that NumPy lacks, for formulas and kernels; compiled, they are the arithmetic of functions.py.

In plain Python they take one number.
"""

import math

import numpy as np

from .subnormal import exp, flush

ROOT_HALF = math.sqrt(0.5)  # factor of x in Phi(x) = erfc(-sqrt(1/2) x) / 2
NORMAL_PEAK = 1 / math.sqrt(2 * math.pi)  # density of the normal distribution at 0


def normal_cdf(x):
    """Return the normal distribution function of x, flushed; by erfc, since 1 + erf would cancel for x far below 0."""
    return flush(type(x)(0.5 * math.erfc(-ROOT_HALF * x)))


def normal_pdf(x):
    """Return the density of the normal distribution at x, flushed."""
    return flush(NORMAL_PEAK * exp(-0.5 * x * x))


def log1p_exp(x):
    """Return log(1 + exp(x)), flushed, for x <= 0; other x have no meaning."""
    return flush(np.log1p(exp(x)))


FUNCTIONS = (normal_cdf, normal_pdf, log1p_exp)
