"""Norms of the gradient, chunk by chunk, in NumPy (lecture, definition of the l_p norm)."""

import numpy as np


def partial(g, sums, index, p):
    """sums[index] = sum |g_i|^p over this chunk of the gradient, max |g_i| for p = inf.

    g : (n,), any n
    sums : float64, one number for each chunk; the sum is in float64 for every dtype of g
    """
    a = np.abs(g.astype(np.float64))
    sums[index] = np.max(a, initial=0.0) if p == np.inf else np.sum(a**p)


def scale(g, factor):
    """g <- factor g: the 1/N of (4) and (5), or clipping."""
    g *= g.dtype.type(factor)
