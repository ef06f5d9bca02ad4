"""The affine layer, in NumPy: z = W a + b (lecture, definition of the pre-activations). b may be empty: no bias."""

import numpy as np


def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    y[...] = x @ W.T
    if b.size:
        y += b


def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    dx[...] = dy @ W


def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    dW[...] = dy.T @ x


def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    if db.size:
        db[...] = np.sum(dy, axis=0)
