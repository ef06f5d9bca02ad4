"""Losses of samples that are columns, in NumPy: those of loss.py on the transposed outputs."""

import numpy as np

from . import loss as rows


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


def cross_entropy_labels(y, target, loss):
    """C_i = -log softmax(y)_t, with y (C, N) and whole numbers target (N,); NaN for a label outside 0..C-1."""
    rows.cross_entropy_labels(np.ascontiguousarray(y.T), target, loss)


def cross_entropy_labels_backward(y, target, dy):
    """dC_i/dy = softmax(y) - one-hot(t); NaN for a label outside 0..C-1."""
    rows.cross_entropy_labels_backward(y.T, target, dy.T)
