"""Losses of one sample and their gradients: C_i into loss (N,), dC_i/dy without 1/N into dy.

y and target are (N, F), F outputs a sample. Parallel plan: samples are independent. Formulas and sources are in
reference/loss.py. A label outside 0..C-1 gives NaN for its sample: a kernel cannot raise.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel
from ..compiler.subnormal import flush
from .rows import largest


@kernel
def weigh(weight, loss, dy):
    """C_i = w_i C_i and its gradient, for the weight w_i of a sample (N,)."""
    N, F = dy.shape
    for n in prange(N):
        loss[n] *= weight[n]
        for j in range(F):
            dy[n, j] *= weight[n]


@kernel
def quadratic(y, target, loss):
    """C_i = 1/2 ||y_i - t_i||_2^2, the lecture's (1)."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            e = y[n, j] - target[n, j]
            total += e * e
        loss[n] = 0.5 * total


@kernel
def quadratic_backward(y, target, dy):
    """dC_i/dy = y - t: the factor (a[L] - y) of (2)."""
    N, F = y.shape
    for n in prange(N):
        for j in range(F):
            dy[n, j] = y[n, j] - target[n, j]


@kernel
def mse(y, target, loss):
    """C_i = mean over the sample's outputs of (y - t)^2."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            e = y[n, j] - target[n, j]
            total += e * e
        loss[n] = total / float(F)


@kernel
def mse_backward(y, target, dy):
    """dC_i/dy = 2 (y - t) / F for F outputs a sample."""
    N, F = y.shape
    factor = 2.0 / float(F)
    for n in prange(N):
        for j in range(F):
            dy[n, j] = factor * (y[n, j] - target[n, j])


@kernel
def mae(y, target, loss):
    """C_i = mean over the sample's outputs of |y - t|."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            total += abs(y[n, j] - target[n, j])
        loss[n] = total / float(F)


@kernel
def mae_backward(y, target, dy):
    """dC_i/dy = sign(y - t) / F, 0 where y = t."""
    N, F = y.shape
    factor = 1.0 / float(F)
    for n in prange(N):
        for j in range(F):
            dy[n, j] = factor * np.sign(y[n, j] - target[n, j])


@kernel
def huber(y, target, loss, delta):
    """C_i = mean of e^2/2 for |e| <= delta, else delta (|e| - delta/2); e = y - t (Huber 1964, doi:10/d93dtm)."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            e = abs(y[n, j] - target[n, j])
            inside = delta if e > delta else e
            total += inside * (e - 0.5 * inside)
        loss[n] = total / float(F)


@kernel
def huber_backward(y, target, dy, delta):
    """dC_i/dy = e / F, cut off at +- delta / F."""
    N, F = y.shape
    factor = 1.0 / float(F)
    for n in prange(N):
        for j in range(F):
            e = y[n, j] - target[n, j]
            e = delta if e > delta else e
            e = -delta if e < -delta else e
            dy[n, j] = factor * e


@kernel
def lp(y, target, loss, p):
    """C_i = ||y - t||_p^p = sum |y - t|^p, any finite p > 0 (lecture, norm and metric)."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            total += abs(y[n, j] - target[n, j]) ** p
        loss[n] = total


@kernel
def lp_backward(y, target, dy, p):
    """dC_i/dy = p |e|^(p - 1) sign(e), taken as 0 at e = 0 for every p."""
    N, F = y.shape
    for n in prange(N):
        for j in range(F):
            e = y[n, j] - target[n, j]
            dy[n, j] = p * abs(e) ** (p - 1.0) * np.sign(e) if e != 0.0 else 0.0


@kernel
def binary_cross_entropy(y, target, loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)) on logits y; written max(y, 0) - t y + log(1 + exp(-|y|))."""
    N, F = y.shape
    for n in prange(N):
        total = 0.0
        for j in range(F):
            z = y[n, j]
            total += (0.0 if z < 0.0 else z) - target[n, j] * z + np.log1p(np.exp(-abs(z)))
        loss[n] = total / float(F)


@kernel
def binary_cross_entropy_backward(y, target, dy):
    """dC_i/dy = (s(y) - t) / F, s the logistic sigmoid."""
    N, F = y.shape
    factor = 1.0 / float(F)
    for n in prange(N):
        for j in range(F):
            e = np.exp(-abs(y[n, j]))
            s = (e if y[n, j] < 0.0 else 1.0) / (1.0 + e)
            dy[n, j] = flush(factor * (s - target[n, j]))


@kernel
def cross_entropy(y, target, loss):
    """C_i = -sum_c t_c log softmax(y)_c, with y, target (N, C): one-hot or soft targets, log-sum-exp form."""
    N, C = y.shape
    flat = y.reshape(-1)
    for n in prange(N):
        top = largest(flat, n * C, C)
        total = 0.0
        for c in range(C):
            total += np.exp(y[n, c] - top)
        log_total = np.log(total)
        cost = 0.0
        for c in range(C):
            cost += target[n, c] * (log_total - (y[n, c] - top))
        loss[n] = cost


@kernel
def cross_entropy_backward(y, target, dy):
    """dC_i/dy = softmax(y) sum_c t_c - t: a[L] - y where the targets sum to 1."""
    N, C = y.shape
    flat = y.reshape(-1)
    for n in prange(N):
        top = largest(flat, n * C, C)
        total = 0.0
        mass = 0.0
        for c in range(C):
            e = np.exp(y[n, c] - top)
            dy[n, c] = e
            total += e
            mass += target[n, c]
        share = mass / total  # total is from 1 to C
        for c in range(C):
            dy[n, c] = flush(dy[n, c] * share - target[n, c])


@kernel
def cross_entropy_labels(y, target, loss):
    """C_i = -log softmax(y)_t, with y (N, C) and whole numbers target (N,); NaN for a label outside 0..C-1."""
    N, C = y.shape
    flat = y.reshape(-1)
    for n in prange(N):
        top = largest(flat, n * C, C)
        total = 0.0
        for c in range(C):
            total += np.exp(y[n, c] - top)
        label = target[n]
        loss[n] = np.log(total) - (y[n, label] - top) if 0 <= label < C else np.nan


@kernel
def cross_entropy_labels_backward(y, target, dy):
    """dC_i/dy = softmax(y) - one-hot(t); NaN for a label outside 0..C-1."""
    N, C = y.shape
    flat = y.reshape(-1)
    for n in prange(N):
        top = largest(flat, n * C, C)
        total = 0.0
        for c in range(C):
            e = np.exp(y[n, c] - top)
            dy[n, c] = e
            total += e
        label = target[n]
        valid = 0 <= label < C
        share = 1.0 / total if valid else np.nan
        for c in range(C):
            dy[n, c] = flush(dy[n, c] * share)
        if valid:
            dy[n, label] -= 1.0
