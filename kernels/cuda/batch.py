"""Samples in and out of a program: rows of a data set into the batch, rows of the output into an array.

Parallel plan: neighbouring threads copy neighbouring numbers of the batch, so that a warp reads and writes whole lines
of memory. One thread writes each number of the target.
"""

from numba import prange

from ..compiler.kernel import kernel


@kernel
def gather(source, order, first, width, batch):
    """batch[n] = source[order[first + n]], rows of `width` numbers, everything flat."""
    for i in prange(batch.size):
        batch[i] = source[order[first + i // width] * width + i % width]


@kernel
def copy(source, at, batch):
    """batch = source[at : at + batch.size], both flat."""
    for i in prange(batch.size):
        batch[i] = source[at + i]


@kernel
def put(batch, at, target):
    """target[at : at + batch.size] = batch, both flat."""
    for i in prange(batch.size):
        target[at + i] = batch[i]
