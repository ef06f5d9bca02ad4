"""Embedding of categories: a code, a whole number v from 0 to count - 1, becomes row v of its column's table.

x (N, features), y (N, width), dx and dy are flat. Input columns[k], in ascending order, holds one of counts[k] codes
and becomes sizes[k] numbers where it stands; the others are passed on. table holds the tables of the columns one after
the other, row by row. A number that is no code gives NaN. Parallel plan: a thread owns a number of y, of dx, or of
dtable, for which it reads the codes of all samples: no atomic additions, so the sums have one order.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel
from ..cpu.codes import row_of

ROWS = 512  # samples of a partial sum: the error of a sum grows with the number of its terms


@kernel
def forward(x, table, y, features, width, columns, counts, sizes):
    """y = x with each code replaced by its row."""
    for i in prange(y.size):
        n, to, at, first, result, found = i // width, i % width, i % width, 0, 0.0, False
        for k in range(len(columns)):
            place = to - at + columns[k]  # of the column's first number in y
            if found or to < place:
                continue
            if to < place + sizes[k]:
                row = row_of(x[n * features + columns[k]], counts[k])
                result = table[first + row * sizes[k] + to - place] if row >= 0 else np.nan
                found = True
            at -= sizes[k] - 1
            first += counts[k] * sizes[k]
        y[i] = result if found else x[n * features + at]


@kernel
def backward_input(x, dy, dx, features, width, columns, counts, sizes):
    """dx = dy for the inputs that are passed on, 0 for codes."""
    for i in prange(dx.size):
        n, at, to, result, found = i // features, i % features, i % features, 0.0, False
        for k in range(len(columns)):
            if columns[k] == at:
                result = 0.0 if row_of(x[i], counts[k]) >= 0 else np.nan
                found = True
            if columns[k] < at:
                to += sizes[k] - 1
        dx[i] = result if found else dy[n * width + to]


@kernel
def backward_table(x, dy, dtable, features, width, columns, counts, sizes):
    """dtable[v] = sum of dy over the samples whose code is v; NaN in the whole table of a column with no such code."""
    for i in prange(dtable.size):
        k, first, to = 0, 0, columns[0]
        while i >= first + counts[k] * sizes[k]:
            first += counts[k] * sizes[k]
            to += columns[k + 1] - columns[k] + sizes[k] - 1
            k += 1
        wanted, j, total = (i - first) // sizes[k], (i - first) % sizes[k], 0.0
        for start in range(0, x.size // features, ROWS):
            portion = 0.0
            for n in range(start, min(x.size // features, start + ROWS)):
                row = row_of(x[n * features + columns[k]], counts[k])
                if row < 0:
                    portion = np.nan
                elif row == wanted:
                    portion += dy[n * width + to + j]
            total += portion
        dtable[i] = total
