"""Samples in and out of a program: rows of a data set into the batch, rows of the output into an array.

Parallel plan: one iteration copies one sample; the program gives every block its own samples.
"""

from numba import prange

from ..compiler import kernel


@kernel
def gather(source, order, first, width, batch):
    """batch[n] = source[order[first + n]], rows of `width` numbers, everything flat."""
    for n in prange(batch.size // width):
        at = order[first + n] * width
        for i in range(width):
            batch[n * width + i] = source[at + i]


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
