"""Samples and unit vectors of a Jacobian: one sample in every row of a batch, a unit vector in each, and its results.

Parallel plan: one iteration a row; everything is flat.
"""

from numba import prange, uintp

from ..compiler.kernel import kernel


@kernel
def repeat(source, at, width, batch):
    """batch[n] = source[at : at + width] for every n, everything flat."""
    for n in prange(batch.size // width):
        for i in range(uintp(width)):
            batch[uintp(n * width) + i] = source[uintp(at) + i]


@kernel
def unit(first, width, batch):
    """batch[n] = the unit vector number first + n, rows of `width` numbers."""
    for n in prange(batch.size // width):
        for i in range(width):
            batch[n * width + i] = 1.0 if i == first + n else 0.0


@kernel
def put_columns(batch, at, width, step, target):
    """Column n of a matrix of rows of `step` numbers, which begins at target[at - n], = row n of the batch."""
    for n in prange(batch.size // width):
        for i in range(width):
            target[at + n + i * step] = batch[n * width + i]
