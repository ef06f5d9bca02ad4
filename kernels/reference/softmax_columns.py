"""Softmax of samples that are columns, in NumPy: that of softmax.py on the transposed arrays, which are (C, N)."""

from . import softmax as rows


def forward(x, y):
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x); without the maximum exp could overflow."""
    rows.forward(x.T, y.T)


def backward_input(y, dy, dx):
    """dx_c = y_c (dy_c - sum_k dy_k y_k): the Jacobian diag(y) - y y^T applied to dy."""
    rows.backward_input(y.T, dy.T, dx.T)
