"""l_p norms of windows and their derivatives, cell by cell: most of the time goes to powers.

A norm is computed as largest (sum (|x_i| / largest)^p)^(1/p), so that no power overflows.
"""

from math import inf, sqrt

import numpy as np

from ..compiler.linked import array, linked
from .pooling_max import beats
from .pooling_windows import Rows, Windows, columns_of, row_place


class number:
    """Annotation of `linked` functions: a number of the arrays' type."""

    @staticmethod
    def argument_type(element):
        return element


@linked
def lp_norms(P: array, rows: Rows, windows: Windows, Y: array, first, p: number):
    """Y[first :] = the l_p norms of a row of windows."""
    for ow in range(windows.out.column):
        columns = columns_of(ow, windows)
        largest = 0.0
        for d in range(rows.planes):
            for h in range(rows.rows):
                start = row_place(rows, d, h)
                for j in range(start + columns.first, start + columns.end):
                    largest = abs(P[j]) if beats(abs(P[j]), largest) else largest
        Y[first + ow] = largest
        if p == inf or not 0.0 < largest < inf:  # there is nothing to divide by, or no number
            continue
        total = 0.0
        for d in range(rows.planes):
            for h in range(rows.rows):
                start = row_place(rows, d, h)
                for j in range(start + columns.first, start + columns.end):
                    ratio = abs(P[j]) / largest
                    total += ratio * ratio if p == 2.0 else ratio**p
        Y[first + ow] = largest * (sqrt(total) if p == 2.0 else total ** (1.0 / p))


@linked
def add_lp_deltas(P: array, rows: Rows, windows: Windows, Y: array, dY: array, first, p: number, dX: array):
    """dX += dY sign(x) (|x| / Y)^(p-1) in every cell of each window of a row, whose results begin at Y[first]."""
    for ow in range(windows.out.column):
        columns, norm, delta = columns_of(ow, windows), Y[first + ow], dY[first + ow]
        for d in range(rows.planes if norm != 0.0 else 0):
            for h in range(rows.rows):
                start = row_place(rows, d, h)
                for j in range(start + columns.first, start + columns.end):
                    v = P[j]
                    slope = v / norm if p == 2.0 else np.sign(v) * (abs(v) / norm) ** (p - 1.0)
                    dX[j] += slope * delta if slope != 0.0 else 0.0  # 0 times infinity is NaN


@linked
def add_max_norm_deltas(P: array, rows: Rows, windows: Windows, Y: array, dY: array, first, dX: array):
    """`add_lp_deltas` for p = inf: dX += dY sign(x) in the first largest cell of each window."""
    for ow in range(windows.out.column):
        columns, norm, delta = columns_of(ow, windows), Y[first + ow], dY[first + ow]
        free = norm != 0.0  # until a cell has taken delta
        for d in range(rows.planes):
            for h in range(rows.rows):
                start = row_place(rows, d, h)
                for j in range(start + columns.first, start + columns.end):
                    taken = free and (abs(P[j]) == norm or P[j] != P[j])
                    dX[j] += np.sign(P[j]) * delta if taken else 0.0
                    free = free and not taken
