"""The rows of a batch that are those of a Jacobian: what they share, a unit vector in each, and its results.

Parallel plan: one iteration a row; everything is flat.
"""

from numba import prange, uintp

from ..compiler.kernel import kernel


@kernel
def repeat(width, batch):
    """batch[n] = batch[0] for every n, rows of `width` numbers."""
    for n in prange(batch.size // width - 1):
        for i in range(uintp(width)):
            batch[uintp((n + 1) * width) + i] = batch[i]


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
