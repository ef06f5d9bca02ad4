"""Subnormal numbers are stored as 0: one rule for the reference, CPU and CUDA.

Below the smallest normal number (1.2e-38 in float32) processors may take a hundred times as long for an operation, and
decaying means never leave that range: rounding holds 0.9 of the smallest number up. So update rules, exp, softmax, the
gradients of the losses that take exponentials, and every formula pass what they store through `flush`.
"""

import numpy as np


def flush(x):
    """Return x, or 0 where |x| is below the smallest normal number of its type; infinities and NaN stay.

    Kernels and formulas may call it: compiled, it is a comparison and a selection, without a branch.
    """
    return np.where(np.abs(x) < np.finfo(np.result_type(x)).tiny, 0, x)[()]
