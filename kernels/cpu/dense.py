"""The affine layer z = W a + b and its backward pass, (3) to (5) of the lecture, as matrix products on register tiles.

Parallel plan: forward and backward_input give four samples to an iteration, backward_weight four rows of dW; each
output is written by one iteration, whatever the parts. Forward multiplies rows with rows, so its tile runs along the
sum (`inner`) and is summed at the end; the other two run along the rows of W, dx and dW (`outer`). Rows shorter than a
vector are left to plain loops, which LLVM unrolls where the sizes are constant (tiny networks).
"""

from numba import prange

from ..compiler import helper, kernel
from .tile import WIDE, inner, lanes, outer, store, sums, zero


def _dots(R, C):
    """R x C products of rows: y[i + r, j + c] += sum_k x[i + r, k] W[j + c, k]."""

    @helper
    def dots(x, W, y, i, j, m, n):
        t = zero(x, R, C)
        L = lanes(x)
        for k in range(0, m - L + 1, L):
            t = inner(t, x, i * m + k, m, W, j * m + k, m, None)
        if m % L:
            k = m - m % L
            t = inner(t, x, i * m + k, m, W, j * m + k, m, m - k)
        sums(y, i * n + j, n, 1, t)

    return dots


def _combination(R):
    """R rows of C, each a combination of the rows of B: C[i + r] = sum_k A[a + r sa + k ka] B[k]."""

    @helper
    def combination(A, a, sa, ka, B, C, i, K, m):
        if m < lanes(B):
            for r in range(R):
                for j in range(m):
                    total = C.dtype.type(0)
                    for k in range(K):
                        total += A.flat[a + r * sa + k * ka] * B.flat[k * m + j]
                    C.flat[(i + r) * m + j] = total
            return
        width = WIDE * lanes(B)
        for j in range(0, m - width + 1, width):
            t = zero(B, R, WIDE)
            for k in range(K):
                t = outer(t, A, a + k * ka, sa, B, k * m + j, None, None)
            store(C, i * m + j, m, t, None, None)
        for j in range(m - m % width, m, 2 * lanes(B)):
            t = zero(B, R, 2)
            for k in range(K):
                t = outer(t, A, a + k * ka, sa, B, k * m + j, m - j, None)
            store(C, i * m + j, m, t, m - j, None)

    return combination


_dots_4x4, _dots_4x1, _dots_1x4, _dots_1x1 = _dots(4, 4), _dots(4, 1), _dots(1, 4), _dots(1, 1)
_four, _one = _combination(4), _combination(1)


@kernel
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    N, m = x.shape
    n = W.shape[0]
    for block in prange((N + 3) // 4):
        first, last = block * 4, min(block * 4 + 4, N)
        if m < lanes(x):
            for i in range(first, last):
                for j in range(n):
                    z = b[j] if b.size else 0.0
                    for k in range(m):
                        z += W[j, k] * x[i, k]
                    y[i, j] = z
            continue
        for i in range(first, last):
            for j in range(n):
                y[i, j] = b[j] if b.size else 0.0
        for j in range(0, n - n % 4, 4):
            if last - first == 4:
                _dots_4x4(x, W, y, first, j, m, n)
            else:
                for i in range(first, last):
                    _dots_1x4(x, W, y, i, j, m, n)
        for j in range(n - n % 4, n):
            if last - first == 4:
                _dots_4x1(x, W, y, first, j, m, n)
            else:
                for i in range(first, last):
                    _dots_1x1(x, W, y, i, j, m, n)


@kernel
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    N, n = dy.shape
    m = W.shape[1]
    for block in prange((N + 3) // 4):
        i = block * 4
        if i + 4 <= N:
            _four(dy, i * n, n, 1, W, dx, i, n, m)
        else:
            for k in range(i, N):
                _one(dy, k * n, n, 1, W, dx, k, n, m)


@kernel
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    N, m = x.shape
    n = dy.shape[1]
    for block in prange((n + 3) // 4):
        j = block * 4
        if j + 4 <= n:
            _four(dy, j, 1, n, x, dW, j, N, m)
        else:
            for k in range(j, n):
                _one(dy, k, 1, n, x, dW, k, N, m)


@kernel
def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    N = dy.shape[0]
    for j in prange(db.size):
        total = 0.0
        for i in range(N):
            total += dy[i, j]
        db[j] = total
