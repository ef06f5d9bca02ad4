"""The affine layer for few samples in small networks, where kernels are compiled into the program.

All sizes are constants there, so LLVM unrolls the loops. W is read once, where it lies. A group of rows meets x in
products, vector by vector, and a tree of shuffles sums all rows of the group at once (`store_sums`), as many results as
a vector holds: the sums are those of matrix_transposed.add_dot_products, in the same order. Rows of up to four numbers
are written out, so that lanes are results; so are columns of backward_input.

Parallel plan: an iteration is one sample; in backward_input up to four samples, in backward_weight a block of dW.
"""

from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from .batch import SHORT
from .dense import block_of, short_product
from .matrix import micro_kernel, product, shares
from .tile import BYTES, MASKS, lanes
from .view import View
from .words import ZERO, dot, outer, store, store_sums, zeros


@inlined
def short_row(start, W, j, a, b, c, d, m):
    """Return start + the product of row j of W, of m <= SHORT numbers, and the first m of the numbers a, b, c and d."""
    if m == 1:
        return start + W[j, 0] * a
    if m == 2:
        return (start + W[j, 1] * b) + W[j, 0] * a
    if m == 3:
        return (start + W[j, 2] * c) + (W[j, 0] * a + W[j, 1] * b)
    return ((start + W[j, 0] * a) + W[j, 1] * b) + (W[j, 3] * d + W[j, 2] * c)


def group_of_rows(rows):
    """y (rows) = W x + b for a group of rows of W (rows, m); without a bias b is y."""

    @inlined
    def multiply(W, x, b, y, m, biased):
        L = lanes(y)
        tile, whole = zeros(y, rows, 1) * -1.0, m - m % L  # -0, with which LLVM knows that the first sum is a product
        for k in range(0, whole, L):
            tile = dot(tile, W.column(k), x.column(k))
        if whole < m:
            tile = dot(tile, W.column(whole), x.column(whole), m - whole)
        if biased:
            store_sums(y, tile, b)
        else:
            store_sums(y, tile)

    return multiply


def groups_of_rows(sizes):
    """y = W x + b from row j on, in groups of the first of `sizes`, and what is left in groups of the others."""
    size, *smaller = sizes
    multiply, rest = group_of_rows(size), groups_of_rows(smaller) if smaller else None

    @inlined
    def groups(W, x, b, y, j, biased):
        n, m = y.row_stride, W.row_stride
        last = n - (n - j) % size if size <= lanes(y) else j
        for i in range(j, last, size):  # counted, so that LLVM unrolls it
            multiply(W.row(i), x, b.column(i), y.column(i), m, biased)
        rest(W, x, b, y, last, biased)

    @inlined
    def single_rows(W, x, b, y, j, biased):
        for i in range(j, y.row_stride):
            multiply(W.row(i), x, b.column(i), y.column(i), W.row_stride, biased)

    return groups if smaller else single_rows


# As many rows as 256 bits of either type have numbers, then fewer.
SIZE = min(BYTES, 32)
groups = groups_of_rows(sorted({SIZE // 4, SIZE // 8, 4, 1}, reverse=True))


@kernel
def forward(x, W, b, y):
    """y (N, n) = x (N, m) W^T + b, with W (n, m) and b (n,) or (0,)."""
    N, m = x.shape
    n = W.shape[0]
    weights, samples, biases, results = View(W, m, 1), View(x, m, 1), View(b, n, 1), View(y, n, 1)
    for i in prange(N):
        if 1 <= m <= SHORT:
            last = m - 1
            first, second, third, fourth = x[i, 0], x[i, min(1, last)], x[i, min(2, last)], x[i, last]
            for j in range(uintp(n)):
                y[i, j] = short_row(b[j] if b.size else 0.0, W, j, first, second, third, fourth, m)
            continue
        groups(weights, samples.row(i), biases, results.row(i), 0, b.size > 0)


@inlined
def short_column(W, k, a, b, c, d, n):
    """Return the product of column k of W, of n <= SHORT numbers, and the first n of the numbers a, b, c and d."""
    if n == 1:
        return W[0, k] * a
    if n == 2:
        return W[0, k] * a + W[1, k] * b
    if n == 3:
        return W[0, k] * a + W[1, k] * b + W[2, k] * c
    return (W[0, k] * a + W[1, k] * b) + (W[2, k] * c + W[3, k] * d)


VECTORS = 4  # of a row of dx that are summed at once: as many as hide the latency of a sum
SAMPLES, PAIR = 4, 2  # samples that read W together, and vectors of their rows: as many sums as hide it, too
four_vectors = micro_kernel(1, VECTORS)
samples_wide, samples_narrow = micro_kernel(SAMPLES, PAIR), micro_kernel(SAMPLES, 1)


@inlined
def one_vector(A, B, C, K, start, columns, b_columns):
    """C (1, columns) = A (1, K) B (K, columns) in a vector: the sum of four sums, whose latencies overlap."""
    a, b, c, d = zeros(C, 1, 1), zeros(C, 1, 1), zeros(C, 1, 1), zeros(C, 1, 1)
    whole = K - K % 4
    for k in range(0, whole, 4):
        a = outer(a, A.column(k), B.row(k), b_columns)
        b = outer(b, A.column(k + 1), B.row(k + 1), b_columns)
        c = outer(c, A.column(k + 2), B.row(k + 2), b_columns)
        d = outer(d, A.column(k + 3), B.row(k + 3), b_columns)
    for k in range(whole, K):
        a = outer(a, A.column(k), B.row(k), b_columns)
    store(C, (a + b) + (c + d), columns)


def rows_of_input(wide, narrow, vectors):
    """dx = dy W for some samples, `vectors` of each at once, and what is left one by one."""

    @inlined
    def multiply(deltas, weights, results, n, m):
        L = lanes(deltas)
        whole = m - m % (vectors * L)
        for k in range(0, whole, vectors * L):
            wide(deltas, weights.column(k), results.column(k), n, ZERO)
        for k in range(whole, m, L):
            narrow(deltas, weights.column(k), results.column(k), n, ZERO, m - k, m - k)

    return multiply


single_sample = rows_of_input(four_vectors, one_vector, VECTORS)
some_samples = rows_of_input(samples_wide, samples_narrow, PAIR)


@kernel
def backward_input(W, dy, dx):
    """dx (N, m) = dy (N, n) W: the factor (W[l+1])^T delta[l+1] of (3)."""
    N, n = dy.shape
    m = W.shape[1]
    weights, deltas, results = View(W, m, 1), View(dy, n, 1), View(dx, m, 1)
    together = N - N % SAMPLES if n > SHORT else 0
    for i in prange(N - together + together // SAMPLES):
        at = i * SAMPLES
        if at < together:
            some_samples(deltas.row(at), weights, results.row(at), n, m)
            continue
        at = i + together - together // SAMPLES
        if 1 <= n <= SHORT:
            last = n - 1
            first, second, third, fourth = dy[at, 0], dy[at, min(1, last)], dy[at, min(2, last)], dy[at, last]
            for k in range(uintp(m)):
                dx[at, k] = short_column(W, k, first, second, third, fourth, n)
        else:
            single_sample(deltas.row(at), weights, results.row(at), n, m)


def outer_row(vectors):
    """Vectors of a row of C = those of a row of B times a number: without a sum, and whatever overlaps C."""

    @inlined
    def multiply(A, B, C, columns=None):
        negative_zero = zeros(C, 1, vectors) * -1.0  # with it LLVM knows that the first sum is a product
        store(C, outer(negative_zero, A, B, columns), columns)

    return multiply


outer_row_wide, outer_row_narrow = outer_row(VECTORS), outer_row(1)


@inlined
def outer_product(A, B, C, n, m):
    """C (n, m) = A (n, 1) B (1, m)."""
    L = lanes(C)
    whole = m - m % (VECTORS * L)
    for j in range(n):
        for k in range(0, whole, VECTORS * L):
            outer_row_wide(A.row(j), B.column(k), C.at(j, k))
        for k in range(whole, m, L):
            outer_row_narrow(A.row(j), B.column(k), C.at(j, k), m - k)


@kernel
def backward_weight(x, dy, dW):
    """dW_jk = sum over the batch of delta_j a_k (5)."""
    N, m = x.shape
    n = dy.shape[1]
    tall, wide, across, down = shares(n, m, lanes(x), 0)
    in_vectors = m >= lanes(x) or (MASKS and m * n >= lanes(x))
    for number in prange(across * down):
        block = block_of(number, tall, wide, across, n, m)
        dY, X = View(dy, 1, n).row(block.top), View(x, m, 1).column(block.left)
        weights = View(dW, m, 1).at(block.top, block.left)
        if N == 1 and in_vectors:
            outer_product(dY, X, weights, block.rows, block.columns)
        elif N == 1:
            for j in range(uintp(block.top), uintp(block.top + block.rows)):
                for k in range(uintp(block.left), uintp(block.left + block.columns)):
                    dW[j, k] = dy[0, j] * x[0, k]
        elif in_vectors:
            product(dY, X, weights, block.rows, block.columns, N, ZERO)
        else:
            short_product(dY, X, weights, block, N, 0.0)
