"""The affine layer on samples that are columns, Z = W A + b, and its backward pass, (3) to (5) of the lecture.

Feature j of all samples is row j of A (m, N) and Z (n, N), so that samples fill the vectors and every sum over features
stays within a lane. A narrow network passes tiles of samples through all layers in this form (program/schedule.py).

    Z = W A + b       dA = W^T dZ       dW += dZ A^T       db += sum of the columns of dZ

Parallel plan: none here. The program gives each thread other tiles, and each block of samples a gradient for its sums;
so dW and db are added to, in the order of the tiles.
"""

from numba import prange, uintp

from ..compiler.arithmetic import add
from ..compiler.kernel import kernel
from ..compiler.linked import linked
from .matrix import PANEL
from .matrix_small import multiply
from .matrix_transposed import add_dot_products, pack_transposed
from .tile import lanes, stack_array
from .view import View
from .words import ADD, BIAS, ZERO


@kernel
def forward(x, W, b, y):
    """y (n, N) = W x + b, with x (m, N), W (n, m) and b (n,) or (0,)."""
    (n, N), m = y.shape, W.shape[1]
    for _ in prange(1):
        start = BIAS if b.size else ZERO
        multiply(View(W, m, 1), View(x, N, 1), View(b, 1, 1), View(y, N, 1), n, N, m, start)


@kernel
def backward_input(W, dy, dx):
    """dx (m, N) = W^T dy: the factor (W[l+1])^T delta[l+1] of (3)."""
    (m, N), n = dx.shape, W.shape[0]
    for _ in prange(1):
        multiply(View(W, 1, m), View(dy, N, 1), View(W, 1, 1), View(dx, N, 1), m, N, n, ZERO)


@linked
def add_product_of_columns(A: View, B: View, C: View, M, N, K):
    """C (M, N) += A B^T, with A (M, K) and B (N, K): panels of B^T are made, so that no sum is across a vector."""
    T, width = stack_array(C, PANEL), 2 * lanes(C)
    panel = View(T, width, 1)
    for j in range(0, N, width):
        pack_transposed(B.row(j), panel, N - j, K)
        multiply(A, panel, A, C.column(j), M, min(width, N - j), K, ADD)


@kernel
def backward_weight(x, dy, dW):
    """dW += dy x^T: dW_jk = sum over the samples of delta_j a_k (5)."""
    (m, N), n = x.shape, dy.shape[0]
    for _ in prange(1):
        if m < lanes(x):
            add_dot_products(View(dy, N, 1), View(x, N, 1), View(dW, m, 1), n, m, N)
        else:
            add_product_of_columns(View(dy, N, 1), View(x, N, 1), View(dW, m, 1), n, m, N)


@kernel
def backward_bias(dy, db):
    """db += the sum of the columns of dy: db_j = sum over the samples of delta_j (4)."""
    N = dy.shape[1]
    for j in prange(db.size):
        total = 0.0
        for i in range(uintp(N)):
            total = add(total, dy[uintp(j), i])
        db[uintp(j)] += total
