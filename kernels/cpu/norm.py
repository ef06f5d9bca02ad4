"""Norms of the gradient, chunk by chunk: partial sums of |g_i|^p, so that all chunks together give every layer's norm.

Parallel plan: `partial` is one iteration, since the program already divides theta into chunks; `scale` has one for each
number.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel


@kernel
def partial(g, sums, index, p):
    """sums[index] = sum |g_i|^p over this chunk of the gradient, max |g_i| for p = inf; summed in float64."""
    for _ in prange(1):
        total = np.float64(0.0)
        if p == 2.0:
            for i in range(g.size):
                total += np.float64(g[i]) * np.float64(g[i])
        elif p == 1.0:
            for i in range(g.size):
                total += np.float64(abs(g[i]))
        elif p == np.inf:
            for i in range(g.size):
                a = np.float64(abs(g[i]))
                if a > total or a != a:  # NaN stays
                    total = a
        else:
            for i in range(g.size):
                total += np.float64(abs(g[i])) ** np.float64(p)
        sums[index] = total


@kernel
def scale(g, factor):
    """g <- factor g: the 1/N of (4) and (5), or clipping."""
    for i in prange(g.size):
        g[i] *= factor
