"""Softmax over the channel axis: y_c = exp(x_c) / sum_k exp(x_k), and its Jacobian diag(y) - y y^T.

Arrays are (N, C, positions). Parallel plan: one iteration a sample, position by position: three passes over the
channels of a position need no memory but y. With one position, the usual case, the channels follow each other in
memory, and the passes are vector loops.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import kernel
from ..compiler.subnormal import flush
from .rows import largest


@kernel
def forward(x, y):
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x): the maximum goes first, so exp cannot overflow."""
    N, C, positions = x.shape
    flat, out = x.reshape(-1), y.reshape(-1)
    for n in prange(N):
        if positions == 1:
            top, total = largest(flat, n * C, C), 0.0
            for j in range(uintp(n * C), uintp(n * C + C)):
                e = np.exp(flat[j] - top)
                out[j] = e
                total += e
            share = 1.0 / total  # total is from 1 to C
            for j in range(uintp(n * C), uintp(n * C + C)):
                out[j] = flush(out[j] * share)
            continue
        for i in range(positions):
            top = x[n, 0, i]
            for c in range(1, C):
                if x[n, c, i] > top:
                    top = x[n, c, i]
            total = 0.0
            for c in range(C):
                e = np.exp(x[n, c, i] - top)
                y[n, c, i] = e
                total += e
            share = 1.0 / total
            for c in range(C):
                y[n, c, i] = flush(y[n, c, i] * share)


@kernel
def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    N, C, positions = y.shape
    a, da, dz = y.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    for n in prange(N):
        if positions == 1:
            total = 0.0
            for j in range(uintp(n * C), uintp(n * C + C)):
                total += da[j] * a[j]
            for j in range(uintp(n * C), uintp(n * C + C)):
                dz[j] = a[j] * (da[j] - total)
            continue
        for i in range(positions):
            total = 0.0
            for c in range(C):
                total += dy[n, c, i] * y[n, c, i]
            for c in range(C):
                dx[n, c, i] = y[n, c, i] * (dy[n, c, i] - total)
