"""Samples into and out of a program: rows of a data set into the batch, rows of the output into an array.

Parallel plan: one iteration copies one sample or number; the program gives every block its own samples. Indices are
unsigned (uintp), or Numba would test each for "counted from the end" and copy number by number.
"""

from numba import prange, uintp

from ..compiler.kernel import kernel
from .tile import read
from .view import View
from .words import prefetch

SHORT = 4  # numbers of a row that kernels meet one by one. A caller has often just written them so: a vector would wait


@kernel
def gather(source, order, first, width, batch):
    """batch[n] = source[order[first + n]], rows of `width` numbers, everything flat."""
    count, rows = batch.size // width, View(source, width, 1)
    for n in prange(count):
        at, row = uintp(order[first + n] * width), uintp(n * width)
        for i in range(uintp(width)):
            batch[row + i] = source[at + i]
        if count <= SHORT and first + count + n < order.size:  # a sample of the next step, which would wait for it
            prefetch(rows.row(order[first + count + n]), width)


@kernel
def copy(source, at, batch):
    """batch = source[at : at + batch.size], both flat."""
    for i in prange(batch.size):
        batch[i] = read(source, at + i) if batch.size <= SHORT else source[uintp(at + i)]


@kernel
def put(batch, at, target):
    """target[at : at + batch.size] = batch, both flat."""
    for i in prange(batch.size):
        target[uintp(at + i)] = batch[i]
