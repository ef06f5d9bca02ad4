"""The affine layer z = W a + b and its backward pass, (3) to (5) of the lecture, as matrix products.

Parallel plan: the result is divided into blocks of rows and columns, each written by one iteration; a block is a matrix
product of matrix.py, whose sums run in the same order whatever the blocks. Rows shorter than a vector are left to plain
loops, which LLVM unrolls where the sizes are constant (tiny networks). Indices of the biases are unsigned (uintp), or
Numba would test each for "counted from the end".
"""

from numba import prange, uintp

from ..compiler.kernel import add, helper, kernel
from .matrix import product, shares
from .matrix_transposed import LEAST_COLUMNS, TRANSPOSE_FROM, add_product_transposed
from .tile import lanes, panel
from .view import View
from .words import ZERO

COLUMNS = 64  # whose sums are taken at once, row after row
ROWS = 512  # that are summed before they are added to the sum of all: a sum's error grows with its terms


@helper
def _combination(A, a, sa, ka, B, Y, y, rows, columns, K, m):
    """Y[y + i m + j] = sum over k < K of A[a + i sa + k ka] B[k m + j], for few columns j."""
    for i in range(rows):
        for j in range(columns):
            total = Y.dtype.type(0)
            for first in range(0, K, ROWS):
                portion = Y.dtype.type(0)
                for k in range(first, min(K, first + ROWS)):
                    portion = add(portion, A.flat[a + i * sa + k * ka] * B.flat[k * m + j])
                total += portion
            Y.flat[y + i * m + j] = total


@kernel
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    N, m = x.shape
    n = W.shape[0]
    tall, wide, across, down = shares(N, n, lanes(x), LEAST_COLUMNS if N >= TRANSPOSE_FROM else 0)
    for block in prange(across * down):
        top, left = block // across * tall, block % across * wide
        rows, columns = min(tall, N - top), min(wide, n - left)
        if m < lanes(x):
            for i in range(top, top + rows):
                for j in range(uintp(left), uintp(left + columns)):
                    z = b[j] if b.size else 0.0
                    for k in range(m):
                        z += W[j, k] * x[i, k]
                    y[i, j] = z
            continue
        for i in range(top, top + rows):
            for j in range(uintp(left), uintp(left + columns)):
                y[i, j] = b[j] if b.size else 0.0
        result = View(y, n, 1).at(top, left)
        add_product_transposed(View(x, m, 1).row(top), View(W, m, 1).row(left), result, rows, columns, m)


@kernel
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    N, n = dy.shape
    m = W.shape[1]
    tall, wide, across, down = shares(N, m, lanes(W), 0)
    for block in prange(across * down):
        top, left = block // across * tall, block % across * wide
        rows, columns = min(tall, N - top), min(wide, m - left)
        if m < lanes(W):
            _combination(dy, top * n, n, 1, W, dx, top * m + left, rows, columns, n, m)
        else:
            result = View(dx, m, 1).at(top, left)
            product(View(dy, n, 1).row(top), View(W, m, 1).column(left), result, rows, columns, n, ZERO)


@kernel
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    N, m = x.shape
    n = dy.shape[1]
    tall, wide, across, down = shares(n, m, lanes(x), 0)
    for block in prange(across * down):
        top, left = block // across * tall, block % across * wide
        rows, columns = min(tall, n - top), min(wide, m - left)
        if m < lanes(x):
            _combination(dy, top, 1, n, x, dW, top * m + left, rows, columns, N, m)
        else:
            result = View(dW, m, 1).at(top, left)
            product(View(dy, 1, n).row(top), View(x, m, 1).column(left), result, rows, columns, N, ZERO)


@kernel
def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    N, n, portion = dy.shape[0], db.size, panel(dy, COLUMNS)
    for block in prange((n + COLUMNS - 1) // COLUMNS):
        first, last = uintp(block * COLUMNS), uintp(min(n, (block + 1) * COLUMNS))
        for j in range(first, last):
            db[j] = dy[0, j] if N == 1 else 0.0
        if N == 1:
            continue
        for top in range(0, N, ROWS):
            for j in range(uintp(COLUMNS)):
                portion[j] = 0.0
            for i in range(top, min(N, top + ROWS)):
                for j in range(last - first):
                    portion[j] += dy[i, first + j]
            for j in range(last - first):
                db[first + j] += portion[j]
