"""Flushing of subnormal numbers to 0: one rule for the reference, CPU and CUDA.

Below the smallest normal number (1.2e-38 in float32) some processors take a hundred times as long for an operation, and
decaying moments never leave that range: 0.9 times a few smallest units is rounded up again. So the update rules,
softmax, gelu and the gradients of losses that contain exponentials store `flush` of their results, and ``np.exp`` in
kernels and formulas is `exp`.
"""

import numpy as np


def flush(x):
    """Return x, or 0 if |x| is below the smallest normal number of its type; infinities and NaN stay.

    Kernels and formulas may call it: compiled, it is a comparison and a selection, without a branch.
    """
    return np.where(np.abs(x) < np.finfo(np.result_type(x)).tiny, 0, x)[()]


def exp(x):
    """Return the exponential function of x, flushed."""
    return flush(np.exp(x))
