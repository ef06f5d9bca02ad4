"""Softmax over the channel axis, in NumPy: y_c = exp(x_c) / sum_k exp(x_k) (Bridle 1990, doi:10/bq2cgv)."""

import numpy as np


def forward(x, y):
    """y (N, C, *spatial) from x of the same shape; the maximum is subtracted first, so exp cannot overflow."""
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    y[...] = e / np.sum(e, axis=1, keepdims=True)


def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    dx[...] = y * (dy - np.sum(dy * y, axis=1, keepdims=True))
