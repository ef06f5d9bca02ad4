"""Softmax of samples that are columns: maxima and sums of all samples run side by side in vectors.

Arrays are (C, N), without positions. The formulas are those of softmax.py. Parallel plan: none here; see
dense_columns.py.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import kernel
from ..compiler.subnormal import flush
from .columns import MOST, tops
from .tile import stack_array


@kernel
def forward(x, y):
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x): the maximum goes first, so exp cannot overflow."""
    C, N = uintp(x.shape[0]), uintp(x.shape[1])
    top, total = stack_array(x, MOST), stack_array(x, MOST)
    for _ in prange(1):
        tops(x, top)
        for i in range(N):
            total[i] = 0.0
        for c in range(C):
            for i in range(N):
                y[c, i] = np.exp(x[c, i] - top[i])
                total[i] += y[c, i]
        for i in range(N):
            total[i] = 1.0 / total[i]  # of 1 to C
        for c in range(C):
            for i in range(N):
                y[c, i] = flush(y[c, i] * total[i])


@kernel
def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    C, N, total = uintp(y.shape[0]), uintp(y.shape[1]), stack_array(y, MOST)
    for _ in prange(1):
        for i in range(N):
            total[i] = 0.0
        for c in range(C):
            for i in range(N):
                total[i] += dy[c, i] * y[c, i]
        for c in range(C):
            for i in range(N):
                dx[c, i] = y[c, i] * (dy[c, i] - total[i])
