"""The affine layer z = W a + b and its backward pass, (3) to (5) of the lecture.

Parallel plan: forward and backward_input loop over samples, which are independent; the gradients loop over their own
rows, so each is a sum over the batch that one iteration owns. The inner loop always runs along a row in memory.
"""

from numba import prange

from ..compiler import kernel


@kernel
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    N, m = x.shape
    n = W.shape[0]
    for i in prange(N):
        for j in range(n):
            z = b[j] if b.size else 0.0
            for k in range(m):
                z += W[j, k] * x[i, k]
            y[i, j] = z


@kernel
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    N, n = dy.shape
    m = W.shape[1]
    for i in prange(N):
        for k in range(m):
            dx[i, k] = 0.0
        for j in range(n):
            delta = dy[i, j]
            for k in range(m):
                dx[i, k] += delta * W[j, k]


@kernel
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    N, m = x.shape
    n = dy.shape[1]
    for j in prange(n):
        for k in range(m):
            dW[j, k] = 0.0
        for i in range(N):
            delta = dy[i, j]
            for k in range(m):
                dW[j, k] += delta * x[i, k]


@kernel
def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    N = dy.shape[0]
    for j in prange(db.size):
        total = 0.0
        for i in range(N):
            total += dy[i, j]
        db[j] = total
