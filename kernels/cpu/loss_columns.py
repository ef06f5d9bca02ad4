"""Losses of samples that are columns: C_i into loss (N,), dC_i/dy without 1/N into dy; y and dy are (F, N).

Targets keep a row for each sample, labels are (N,). Formulas are those of loss.py; exponentials of all samples run side
by side in vectors. Parallel plan: none here; see dense_columns.py.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from ..compiler.subnormal import flush
from .columns import MOST
from .tile import stack_array


@inlined
def sum_of_squares(y, target, loss):
    """loss[i] = sum over the outputs j of (y[j, i] - target[i, j])^2."""
    F, N = uintp(y.shape[0]), uintp(y.shape[1])
    for i in range(N):
        loss[i] = (y[0, i] - target[i, 0]) * (y[0, i] - target[i, 0])
    for j in range(uintp(1), F):
        for i in range(N):
            loss[i] += (y[j, i] - target[i, j]) * (y[j, i] - target[i, j])


@kernel
def quadratic(y, target, loss):
    """C_i = 1/2 ||y_i - t_i||_2^2, the lecture's (1)."""
    for _ in prange(1):
        sum_of_squares(y, target, loss)
        for i in range(loss.size):
            loss[i] = 0.5 * loss[i]


@kernel
def quadratic_backward(y, target, dy):
    """dC_i/dy = y - t: the factor (a[L] - y) of (2)."""
    for j in prange(uintp(y.shape[0])):
        for i in range(uintp(y.shape[1])):
            dy[j, i] = y[j, i] - target[i, j]


@kernel
def mse(y, target, loss):
    """C_i = mean over the sample's outputs of (y - t)^2."""
    for _ in prange(1):
        sum_of_squares(y, target, loss)
        for i in range(loss.size):
            loss[i] = loss[i] / float(y.shape[0])


@kernel
def mse_backward(y, target, dy):
    """dC_i/dy = 2 (y - t) / F for F outputs a sample."""
    factor = 2.0 / float(y.shape[0])
    for j in prange(uintp(y.shape[0])):
        for i in range(uintp(y.shape[1])):
            dy[j, i] = factor * (y[j, i] - target[i, j])


@inlined
def tops(y, top):
    """Write the largest output of each sample into top; of outputs with a NaN, any of them or NaN."""
    N = uintp(y.shape[1])
    for i in range(N):
        top[i] = y[0, i]
    for c in range(uintp(1), uintp(y.shape[0])):
        for i in range(N):
            top[i] = y[c, i] if y[c, i] > top[i] else top[i]


@kernel
def cross_entropy_labels(y, target, loss):
    """C_i = -log softmax(y)_t, with y (C, N) and whole numbers target (N,); NaN for a label outside 0..C-1."""
    C, N, top = y.shape[0], uintp(y.shape[1]), stack_array(y, MOST)
    for _ in prange(1):
        tops(y, top)
        for i in range(N):
            loss[i] = 0.0
        for c in range(uintp(C)):
            for i in range(N):
                loss[i] += np.exp(y[c, i] - top[i])
        for i in range(N):
            label = target[i]
            loss[i] = np.log(loss[i]) - (y[uintp(label), i] - top[i]) if 0 <= label < C else np.nan


@kernel
def cross_entropy_labels_backward(y, target, dy):
    """dC_i/dy = softmax(y) - one-hot(t); NaN for a label outside 0..C-1."""
    C, N, top, total = y.shape[0], uintp(y.shape[1]), stack_array(y, MOST), stack_array(y, MOST)
    for _ in prange(1):
        tops(y, top)
        for i in range(N):
            total[i] = 0.0
        for c in range(uintp(C)):
            for i in range(N):
                dy[c, i] = np.exp(y[c, i] - top[i])
                total[i] += dy[c, i]
        for i in range(N):
            total[i] = 1.0 / total[i] if 0 <= target[i] < C else np.nan
        for c in range(uintp(C)):
            for i in range(N):
                dy[c, i] = flush(dy[c, i] * total[i])
        for i in range(N):
            if 0 <= target[i] < C:
                dy[uintp(target[i]), i] -= 1.0
