"""The affine layer z = W a + b and its backward pass, (3) to (5) of the lecture, as matrix products on tiles.

Parallel plan: product.py. In forward both factors, rows of x and rows of W, are contiguous along the sum; in
backward_input W is contiguous across the sum, in backward_weight both factors are. The gradient of b is a sum over
the batch: a thread owns an output and adds its samples, the threads of a warp read neighbouring outputs.
"""

from numba import prange

from ..compiler.kernel import kernel
from ..gpu.launch import launcher, workspace
from .product import Factor, multiply

ROWS = 512  # samples of a partial sum: the error of a sum grows with the number of its terms


@launcher
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    (N, m), n = x.shape, W.shape[0]
    return multiply(Factor(x.reshape(-1), (m, 1)), Factor(W.reshape(-1), (m, 1)), b, y.reshape(-1), N, n, m)


@launcher
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    (N, n), m = dy.shape, W.shape[1]
    B = Factor(W.reshape(-1), (1, m), along_k=False)
    return multiply(Factor(dy.reshape(-1), (n, 1)), B, workspace(0, W), dx.reshape(-1), N, m, n)


@launcher
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    (N, m), n = x.shape, dy.shape[1]
    A, B = Factor(dy.reshape(-1), (1, n), along_k=False), Factor(x.reshape(-1), (1, m), along_k=False)
    return multiply(A, B, workspace(0, x), dW.reshape(-1), n, m, N)


@kernel
def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    N = dy.shape[0]
    for j in prange(db.size):
        total = 0.0
        for first in range(0, N, ROWS):
            portion = 0.0
            for i in range(first, min(N, first + ROWS)):
                portion += dy[i, j]
            total += portion
        db[j] = total
