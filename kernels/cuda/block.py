"""What the threads of a block do together."""

from numba import cuda

from ..gpu.device_code import block_helper


@block_helper
def total(value, cells):
    """The sum of the block's values, which every thread gets; `cells` is shared memory, a number a thread.

    A tree of additions in a fixed order, so the bits do not depend on which thread is first. The block must have a
    power of two of threads, and all of them must come here.
    """
    t, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()  # somebody may still read the last sum
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
    """The largest of the block's values, NaN if there is one; as `total`."""
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
