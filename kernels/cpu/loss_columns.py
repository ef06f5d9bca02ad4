"""Losses of samples that are columns: C_i into loss (N,), dC_i/dy without 1/N into dy; y and dy are (F, N).

Targets keep a row for each sample, labels are (N,). Formulas are those of loss.py; exponentials of all samples run side
by side in vectors. Parallel plan: none here; see dense_columns.py.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from ..compiler.subnormal import flush
from .columns import MOST, tops
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
def weigh(weight, loss, dy):
    """C_i = w_i C_i and its gradient, for the weight w_i of a sample (N,)."""
    for _ in prange(1):
        for i in range(uintp(loss.size)):
            loss[i] *= weight[i]
        for j in range(uintp(dy.shape[0])):
            for i in range(uintp(dy.shape[1])):
                dy[j, i] *= weight[i]


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
def clear(loss):
    """loss = 0."""
    for i in range(uintp(loss.size)):
        loss[i] = 0.0


@kernel
def mae(y, target, loss):
    """C_i = mean over the sample's outputs of |y - t|."""
    for _ in prange(1):
        clear(loss)
        for j in range(uintp(y.shape[0])):
            for i in range(uintp(y.shape[1])):
                loss[i] += abs(y[j, i] - target[i, j])
        for i in range(uintp(loss.size)):
            loss[i] = loss[i] / float(y.shape[0])


@kernel
def mae_backward(y, target, dy):
    """dC_i/dy = sign(y - t) / F, 0 where y = t."""
    factor = 1.0 / float(y.shape[0])
    for j in prange(uintp(y.shape[0])):
        for i in range(uintp(y.shape[1])):
            dy[j, i] = factor * np.sign(y[j, i] - target[i, j])


@kernel
def huber(y, target, loss, delta):
    """C_i = mean of e^2/2 for |e| <= delta, else delta (|e| - delta/2); e = y - t (Huber 1964, doi:10/d93dtm)."""
    for _ in prange(1):
        clear(loss)
        for j in range(uintp(y.shape[0])):
            for i in range(uintp(y.shape[1])):
                e = abs(y[j, i] - target[i, j])
                inside = delta if e > delta else e
                loss[i] += inside * (e - 0.5 * inside)
        for i in range(uintp(loss.size)):
            loss[i] = loss[i] / float(y.shape[0])


@kernel
def huber_backward(y, target, dy, delta):
    """dC_i/dy = e / F, cut off at +- delta / F."""
    factor = 1.0 / float(y.shape[0])
    for j in prange(uintp(y.shape[0])):
        for i in range(uintp(y.shape[1])):
            e = y[j, i] - target[i, j]
            e = delta if e > delta else e
            e = -delta if e < -delta else e
            dy[j, i] = factor * e


@inlined
def column(target, j, found):
    """Copy the targets of output j: a loop that computes exponentials is one of vectors only without gaps."""
    for i in range(uintp(target.shape[0])):
        found[i] = target[i, j]


@kernel
def binary_cross_entropy(y, target, loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)) on logits y; written max(y, 0) - t y + log(1 + exp(-|y|))."""
    t = stack_array(y, MOST)
    for _ in prange(1):
        clear(loss)
        for j in range(uintp(y.shape[0])):
            column(target, j, t)
            for i in range(uintp(y.shape[1])):
                z = y[j, i]
                loss[i] += (0.0 if z < 0.0 else z) - t[i] * z + np.log1p(np.exp(-abs(z)))
        for i in range(uintp(loss.size)):
            loss[i] = loss[i] / float(y.shape[0])


@kernel
def binary_cross_entropy_backward(y, target, dy):
    """dC_i/dy = (s(y) - t) / F, s the logistic sigmoid."""
    factor, t = 1.0 / float(y.shape[0]), stack_array(y, MOST)
    for j in prange(uintp(y.shape[0])):
        column(target, j, t)
        for i in range(uintp(y.shape[1])):
            e = np.exp(-abs(y[j, i]))
            s = (e if y[j, i] < 0.0 else 1.0) / (1.0 + e)
            dy[j, i] = flush(factor * (s - t[i]))


@kernel
def cross_entropy(y, target, loss):
    """C_i = -sum_c t_c log softmax(y)_c, with y (C, N), target (N, C): one-hot or soft targets, log-sum-exp form."""
    C, N, top, total = uintp(y.shape[0]), uintp(y.shape[1]), stack_array(y, MOST), stack_array(y, MOST)
    for _ in prange(1):
        tops(y, top)
        for i in range(N):
            loss[i] = total[i] = 0.0
        for c in range(C):
            for i in range(N):
                total[i] += np.exp(y[c, i] - top[i])
        for i in range(N):
            total[i] = np.log(total[i])
        for c in range(C):
            for i in range(N):
                loss[i] += target[i, c] * (total[i] - (y[c, i] - top[i]))


@kernel
def cross_entropy_backward(y, target, dy):
    """dC_i/dy = softmax(y) sum_c t_c - t: a[L] - y where the targets sum to 1."""
    C, N, top = uintp(y.shape[0]), uintp(y.shape[1]), stack_array(y, MOST)
    total, mass = stack_array(y, MOST), stack_array(y, MOST)
    for _ in prange(1):
        tops(y, top)
        for i in range(N):
            total[i] = mass[i] = 0.0
        for c in range(C):
            for i in range(N):
                dy[c, i] = np.exp(y[c, i] - top[i])
                total[i] += dy[c, i]
            for i in range(N):
                mass[i] += target[i, c]
        for i in range(N):
            total[i] = mass[i] / total[i]  # by 1 to C
        for c in range(C):
            for i in range(N):
                dy[c, i] = flush(dy[c, i] * total[i] - target[i, c])


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
