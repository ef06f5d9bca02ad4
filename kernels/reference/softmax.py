"""Softmax over the channel axis, in NumPy: y_c = exp(x_c) / sum_k exp(x_k) (Bridle 1990, doi:10/bq2cgv).

Arrays are (N, C, positions), with positions = prod(spatial), 1 for (N, C).
"""

import numpy as np

from ..compiler.subnormal import flush


def forward(x, y):
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x); without the maximum exp could overflow."""
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    y[...] = flush(e / np.sum(e, axis=1, keepdims=True))


def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    dx[...] = y * (dy - np.sum(dy * y, axis=1, keepdims=True))
