"""Losses of samples that are columns, in NumPy: those of loss.py on the transposed outputs."""

import numpy as np

from . import loss as rows


def weigh(weight, loss, dy):
    """C_i = w_i C_i and its gradient, for the weight w_i of a sample (N,)."""
    rows.weigh(weight, loss, dy.T)


def quadratic(y, target, loss):
    """C_i = 1/2 ||y_i - t_i||_2^2, the lecture's (1)."""
    rows.quadratic(y.T, target, loss)


def quadratic_backward(y, target, dy):
    """dC_i/dy = y - t: the factor (a[L] - y) of (2)."""
    rows.quadratic_backward(y.T, target, dy.T)


def mse(y, target, loss):
    """C_i = mean over the sample's outputs of (y - t)^2."""
    rows.mse(y.T, target, loss)


def mse_backward(y, target, dy):
    """dC_i/dy = 2 (y - t) / F for F outputs a sample."""
    rows.mse_backward(y.T, target, dy.T)


def mae(y, target, loss):
    """C_i = mean over the sample's outputs of |y - t|."""
    rows.mae(y.T, target, loss)


def mae_backward(y, target, dy):
    """dC_i/dy = sign(y - t) / F, 0 where y = t."""
    rows.mae_backward(y.T, target, dy.T)


def huber(y, target, loss, delta):
    """C_i = mean of e^2/2 for |e| <= delta, else delta (|e| - delta/2); e = y - t (Huber 1964, doi:10/d93dtm)."""
    rows.huber(y.T, target, loss, delta)


def huber_backward(y, target, dy, delta):
    """dC_i/dy = e / F, clipped to +- delta / F."""
    rows.huber_backward(y.T, target, dy.T, delta)


def binary_cross_entropy(y, target, loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)) on logits y; written max(y, 0) - t y + log(1 + exp(-|y|))."""
    rows.binary_cross_entropy(y.T, target, loss)


def binary_cross_entropy_backward(y, target, dy):
    """dC_i/dy = (s(y) - t) / F, s the logistic sigmoid."""
    rows.binary_cross_entropy_backward(y.T, target, dy.T)


def cross_entropy(y, target, loss):
    """C_i = -sum_c t_c log softmax(y)_c, with y (C, N), target (N, C): one-hot or soft targets, log-sum-exp form."""
    rows.cross_entropy(np.ascontiguousarray(y.T), target, loss)


def cross_entropy_backward(y, target, dy):
    """dC_i/dy = softmax(y) sum_c t_c - t: a[L] - y where the targets sum to 1."""
    rows.cross_entropy_backward(y.T, target, dy.T)


def cross_entropy_labels(y, target, loss):
    """C_i = -log softmax(y)_t, with y (C, N) and whole numbers target (N,); NaN for a label outside 0..C-1."""
    rows.cross_entropy_labels(np.ascontiguousarray(y.T), target, loss)


def cross_entropy_labels_backward(y, target, dy):
    """dC_i/dy = softmax(y) - one-hot(t); NaN for a label outside 0..C-1."""
    rows.cross_entropy_labels_backward(y.T, target, dy.T)
