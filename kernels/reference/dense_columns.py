"""The affine layer on samples that are columns, in NumPy: Z = W A + b. dW and db are added to; b may be empty."""

import numpy as np


def forward(x, W, b, y):
    """y (n, N) = W x + b, with x (m, N), W (n, m) and b (n,) or (0,)."""
    y[...] = W @ x
    if b.size:
        y += b[:, None]


def backward_input(W, dy, dx):
    """dx (m, N) = W^T dy: the factor (W[l+1])^T delta[l+1] of (3)."""
    dx[...] = W.T @ dy


def backward_weight(x, dy, dW):
    """dW += dy x^T: dW_jk = sum over the samples of delta_j a_k (5)."""
    dW += dy @ x.T


def backward_bias(dy, db):
    """db += the sum of the columns of dy: db_j = sum over the samples of delta_j (4)."""
    if db.size:
        db += np.sum(dy, axis=1)
