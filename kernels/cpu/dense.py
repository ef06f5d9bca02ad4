"""The affine layer z = W a + b and its backward pass, (3) to (5) of the lecture, as matrix products.

Parallel plan: the result is divided into blocks of rows and columns, each written by one iteration; a block is a matrix
product of matrix.py, whose sums run in the same order whatever the blocks. Rows shorter than a vector are left to plain
loops, which LLVM unrolls where the sizes are constant (tiny networks); a larger gradient with such rows is computed as
its transpose. Indices of the biases are unsigned (uintp): Numba would test signed ones for "counted from the end".
"""

from typing import NamedTuple

from numba import prange, uintp

from ..compiler.arithmetic import add
from ..compiler.kernel import inlined, kernel
from .matrix import product, shares, unreached_by_product
from .matrix_transposed import (
    LEAST_COLUMNS,
    TRANSPOSE_FROM,
    add_product_transposed,
    unreached_by_product_transposed,
)
from .tile import lanes, stack_array
from .view import View
from .words import ZERO

COLUMNS = 64  # biases of an iteration: their partial sums stay in the first-level cache
TURNED = 2048  # numbers of a gradient that are turned at once: they stay in the first-level cache
TURN_FROM = 1024  # numbers of dy that pay for turning a gradient
ROWS = 512  # terms of a partial sum: the rounding error of a sum grows with its terms


class Block(NamedTuple):
    """A block of a matrix: its first row and column, its rows and columns."""

    top: int
    left: int
    rows: int
    columns: int


@inlined
def block_of(number, tall, wide, across, M, N):
    """Block `number` of a matrix of M x N; blocks are tall x wide, `across` of them side by side."""
    top, left = number // across * tall, number % across * wide
    return Block(top, left, min(tall, M - top), min(wide, N - left))


@inlined
def short_product(A, B, C, block, K, zero):
    """C = A B for a block of C, whose rows are short; `zero` is 0 in the type of the numbers."""
    B, C = View(B, B.row_stride, 1), View(C, C.row_stride, 1)  # tells LLVM: contiguous
    for i in range(block.rows):
        for j in range(block.columns):
            total = zero
            for first in range(0, K, ROWS):
                portion = zero
                for k in range(first, min(K, first + ROWS)):
                    portion = add(portion, A[i, k] * B[k, j])
                total += portion
            C[i, j] = total


@inlined
def product_of_short_rows(A, B, C, block, K):
    """C = A B for a block of C with rows shorter than a vector, as C^T = B^T A^T: rows of C^T fill vectors."""
    T, slice = stack_array(C, TURNED), TURNED // lanes(C)
    for i in range(0, block.rows, slice):
        rows = min(slice, block.rows - i)
        turned = View(T, rows, 1)
        product(View(B, 1, B.row_stride), View(A.row(i), A.column_stride, 1), turned, block.columns, rows, K, ZERO)
        for j in range(rows):
            for k in range(block.columns):
                C[i + j, k] = turned[k, j]


@kernel
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    N, m = x.shape
    n, short = W.shape[0], m < lanes(x)
    tall, wide, across, down = shares(N, n, lanes(x), LEAST_COLUMNS if N >= TRANSPOSE_FROM else 0)
    for number in prange(across * down):
        block = block_of(number, tall, wide, across, N, n)
        for i in range(block.top, block.top + (block.rows if short else 0)):
            for j in range(uintp(block.left), uintp(block.left + block.columns)):
                z = b[j] if b.size else 0.0
                for k in range(m):
                    z += W[j, k] * x[i, k]
                y[i, j] = z
        if short:
            continue
        for i in range(block.top, block.top + block.rows):
            for j in range(uintp(block.left), uintp(block.left + block.columns)):
                y[i, j] = b[j] if b.size else 0.0
        X, weights, Y = View(x, m, 1).row(block.top), View(W, m, 1).row(block.left), View(y, n, 1)
        add_product_transposed(X, weights, Y.at(block.top, block.left), block.rows, block.columns, m)


@forward.unreached
def unreached_by_forward(given):
    return unreached_by_product_transposed(given.x.shape[0], lanes.py_func(given.x))


@kernel
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    N, n = dy.shape
    m = W.shape[1]
    tall, wide, across, down = shares(N, m, lanes(W), 0)
    for number in prange(across * down):
        block = block_of(number, tall, wide, across, N, m)
        dY, weights = View(dy, n, 1).row(block.top), View(W, m, 1).column(block.left)
        dX = View(dx, m, 1).at(block.top, block.left)
        if m < lanes(W):
            short_product(dY, weights, dX, block, n, 0.0)
        else:
            product(dY, weights, dX, block.rows, block.columns, n, ZERO)


@backward_input.unreached
def unreached_by_backward_input(given):
    return unreached_by_product(given.dy.shape[0])


@kernel
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    N, m = x.shape
    n = dy.shape[1]
    tall, wide, across, down = shares(n, m, lanes(x), 0)
    for number in prange(across * down):
        block = block_of(number, tall, wide, across, n, m)
        dY, X = View(dy, 1, n).row(block.top), View(x, m, 1).column(block.left)
        weights = View(dW, m, 1).at(block.top, block.left)
        if m < lanes(x) and (block.rows < lanes(x) or N * block.rows < TURN_FROM):
            short_product(dY, X, weights, block, N, 0.0)
        elif m < lanes(x):
            product_of_short_rows(dY, X, weights, block, N)
        else:
            product(dY, X, weights, block.rows, block.columns, N, ZERO)


@backward_weight.unreached
def unreached_by_backward_weight(given):
    return unreached_by_product(given.dy.shape[1])


@kernel
def backward_bias(dy, db):
    """db_j = sum over the batch of delta_j (4)."""
    N, n, portion = dy.shape[0], db.size, stack_array(dy, COLUMNS)
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
