"""Embedding of categories: a code, a whole number v from 0 to count - 1, becomes row v of its column's table.

x (N, features), y (N, width), dx and dy are flat. Input columns[k], in ascending order, holds one of counts[k] codes
and becomes sizes[k] numbers where it stands; the others are passed on. table holds the tables of the columns one after
the other, row by row. A number that is no code gives NaN: a kernel cannot raise. Parallel plan: an iteration owns a
sample, or for the gradient the table of a column, which it adds to in the order of the samples; so no two iterations
write one row, and the sums do not depend on the threads.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import kernel
from .codes import row_of


@kernel
def forward(x, table, y, features, width, columns, counts, sizes):
    """y = x with each code replaced by its row."""
    for n in prange(y.size // width):
        at, to, first, column = n * features, n * width, 0, 0
        for k in range(len(columns)):
            for _ in range(columns[k] - column):
                y[uintp(to)] = x[uintp(at)]
                at, to = at + 1, to + 1
            row, size = row_of(x[uintp(at)], counts[k]), sizes[k]
            for j in range(size):
                y[uintp(to + j)] = table[uintp(first + row * size + j)] if row >= 0 else np.nan
            at, to, first, column = at + 1, to + size, first + counts[k] * size, columns[k] + 1
        for _ in range(features - column):
            y[uintp(to)] = x[uintp(at)]
            at, to = at + 1, to + 1


@kernel
def backward_input(x, dy, dx, features, width, columns, counts, sizes):
    """dx = dy for the inputs that are passed on, 0 for codes."""
    for n in prange(dx.size // features):
        at, to, column = n * features, n * width, 0
        for k in range(len(columns)):
            for _ in range(columns[k] - column):
                dx[uintp(at)] = dy[uintp(to)]
                at, to = at + 1, to + 1
            dx[uintp(at)] = 0.0 if row_of(x[uintp(at)], counts[k]) >= 0 else np.nan
            at, to, column = at + 1, to + sizes[k], columns[k] + 1
        for _ in range(features - column):
            dx[uintp(at)] = dy[uintp(to)]
            at, to = at + 1, to + 1


@kernel
def backward_table(x, dy, dtable, features, width, columns, counts, sizes):
    """dtable[v] = sum of dy over the samples whose code is v; NaN in the whole table of a column with no such code."""
    for k in prange(len(columns)):
        count, size, first, to = counts[k], sizes[k], 0, columns[k]
        for before in range(k):
            first += counts[before] * sizes[before]
            to += sizes[before] - 1
        for i in range(first, first + count * size):
            dtable[uintp(i)] = 0.0
        unknown = 0
        for n in range(x.size // features):
            row = row_of(x[uintp(n * features + columns[k])], count)
            if row < 0:
                unknown += 1
                continue
            for j in range(size):
                dtable[uintp(first + row * size + j)] += dy[uintp(n * width + to + j)]
        for i in range(first, first + count * size if unknown else first):
            dtable[uintp(i)] = np.nan
