"""Softmax over the channel axis: y_c = exp(x_c) / sum_k exp(x_k), and its Jacobian diag(y) - y y^T.

Arrays are (N, C, positions). Parallel plan: a thread has one position of one sample and passes over its channels three
times; neighbouring threads have neighbouring positions, so a warp of an image reads whole lines.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel
from ..compiler.subnormal import flush


@kernel
def forward(x, y):
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x): the maximum goes first, so exp cannot overflow."""
    N, C, positions = x.shape
    for k in prange(N * positions):
        n, i = k // positions, k % positions
        largest = x[n, 0, i]
        for c in range(1, C):
            if x[n, c, i] > largest:
                largest = x[n, c, i]
        total = 0.0
        for c in range(C):
            e = np.exp(x[n, c, i] - largest)
            y[n, c, i] = e
            total += e
        share = 1.0 / total  # total is from 1 to C
        for c in range(C):
            y[n, c, i] = flush(y[n, c, i] * share)


@kernel
def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    N, C, positions = y.shape
    for k in prange(N * positions):
        n, i = k // positions, k % positions
        total = 0.0
        for c in range(C):
            total += dy[n, c, i] * y[n, c, i]
        for c in range(C):
            dx[n, c, i] = y[n, c, i] * (dy[n, c, i] - total)
