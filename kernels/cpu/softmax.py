"""Softmax over the channel axis: y_c = exp(x_c) / sum_k exp(x_k), and its Jacobian diag(y) - y y^T.

Parallel plan: samples are independent. Positions of an image are independent too; within a sample they are the loop
above the channels, since three passes over the C numbers of one position need no memory beside y.
"""

import numpy as np
from numba import prange

from ..compiler import kernel


@kernel
def forward(x, y):
    """y (N, C, *spatial) from x of the same shape; the maximum is subtracted first, so exp cannot overflow."""
    N, C = x.shape[:2]
    S = x.size // (N * C)
    x3, y3 = x.reshape((N, C, S)), y.reshape((N, C, S))
    for n in prange(N):
        for s in range(S):
            largest = x3[n, 0, s]
            for c in range(1, C):
                if x3[n, c, s] > largest:
                    largest = x3[n, c, s]
            total = 0.0
            for c in range(C):
                e = np.exp(x3[n, c, s] - largest)
                y3[n, c, s] = e
                total += e
            for c in range(C):
                y3[n, c, s] /= total


@kernel
def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    N, C = y.shape[:2]
    S = y.size // (N * C)
    y3, dy3, dx3 = y.reshape((N, C, S)), dy.reshape((N, C, S)), dx.reshape((N, C, S))
    for n in prange(N):
        for s in range(S):
            total = 0.0
            for c in range(C):
                total += dy3[n, c, s] * y3[n, c, s]
            for c in range(C):
                dx3[n, c, s] = y3[n, c, s] * (dy3[n, c, s] - total)
