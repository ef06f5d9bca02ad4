"""Reductions over the threads of a block."""

from numba import cuda

from ..gpu.device_code import block_helper


@block_helper
def total(value, cells):
    """Return the sum of the block's values to every thread; `cells` is shared memory, one number for each thread.

    A tree adds in a fixed order, so the bits do not depend on the order of the threads. The number of threads in the
    block must be a power of two, and all of them must call this.
    """
    t, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()  # a thread may still read the previous sum
    cells[t] = value
    cuda.syncthreads()
    while half > 0:
        if t < half:
            cells[t] += cells[t + half]
        cuda.syncthreads()
        half //= 2
    return cells[0]


@block_helper
def largest(value, cells):
    """Return the largest of the block's values, NaN if one is NaN; used like `total`."""
    t, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()
    cells[t] = value
    cuda.syncthreads()
    while half > 0:
        if t < half and (cells[t + half] > cells[t] or cells[t + half] != cells[t + half]):
            cells[t] = cells[t + half]
        cuda.syncthreads()
        half //= 2
    return cells[0]
