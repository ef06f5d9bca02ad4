"""Norms of the gradient, chunk by chunk: partial sums of |g_i|^p, so that all chunks together give every layer's norm.

Parallel plan: `partial` is one block of threads: neighbouring threads read neighbouring numbers, and a tree in shared
memory joins their sums in a fixed order; the program measures all chunks in one launch (step.py). In `scale` the
numbers of a thread are a grid's width apart.
"""

import numpy as np
from numba import cuda

from ..cpu.norm import scale  # noqa: F401 - for both devices
from ..gpu.device_code import block_helper, block_kernel
from ..gpu.launch import THREADS, launch, launcher
from .block import largest, total


@launcher
def partial(g, sums, index, p):
    """sums[index] = sum |g_i|^p over this chunk of the gradient, max |g_i| for p = inf; summed in float64."""
    yield launch(_partial, 1, THREADS, g, sums, index, p)


@block_kernel
def _partial(g, sums, index, p):
    """Sum over all of g, by one block."""
    cells = cuda.shared.array(THREADS, np.float64)
    found = chunk_norm(g, 0, g.size, np.float64(p), cells)
    if cuda.threadIdx.x == 0:
        sums[index] = found


@block_helper
def chunk_norm(g, first, last, p, cells):
    """Return sum |g_i|^p over first <= i < last, or the largest |g_i|, to all threads of a block; in float64."""
    t = cuda.threadIdx.x
    part = np.float64(0)
    if p == np.inf:
        for i in range(first + t, last, THREADS):
            a = np.float64(abs(g[i]))
            if a > part or a != a:
                part = a
        return largest(part, cells)
    if p == 2:
        for i in range(first + t, last, THREADS):
            part += np.float64(g[i]) * np.float64(g[i])
    elif p == 1:
        for i in range(first + t, last, THREADS):
            part += np.float64(abs(g[i]))
    else:
        for i in range(first + t, last, THREADS):
            part += np.float64(abs(g[i])) ** p
    return total(part, cells)
