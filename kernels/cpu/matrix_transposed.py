"""Matrix products with a transposed factor on register tiles: C += A B^T, behind the affine layer's forward pass.

    C[i, j] += sum over k of A[i, k] B[j, k]            A (M, K), B (N, K), C (M, N); rows of all three are contiguous

Neighbours in a row of C belong to different rows of B, so vectors of B must be made. By the number of rows of A:

    many (add_packed_product)      the loops of matrix.py: pack_transposed makes a panel of B^T, which all rows meet
    some (add_by_transposing)      C^T += B A^T: two vectors of rows of A are transposed, and lanes are rows of A
    few (add_dot_products)         dot products, summed across vectors at the end

No race: see matrix.py.
"""

from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked, seldom
from .matrix import KC, MC, PACKED, PAD, PANEL, micro_kernel, wide_tiles
from .rearrange import transpose
from .sizes import by_size
from .tile import BYTES, MR, NR, REGISTERS, lanes, stack_array
from .view import View
from .words import ADD, ZERO, dot, hsum_add, load, store, zeros

PACK_FROM = 256  # rows of A that make transposing panels of B pay
TRANSPOSE_FROM = (2 if REGISTERS == 16 else 3) * BYTES // 4  # rows of A from which vectors of them beat dot products
PACK_A_FROM = 10  # panels of B that make packing rows of A pay: 1.05 times as fast for 2048 x 2048 x 2048
LEAST_COLUMNS = 128  # of a block that transposes rows of A: with fewer that takes more than a sixth of its time
L2_NUMBERS = 49152  # numbers that stay in the second-level cache while they are read again and again
RESULTS = 8192  # numbers of C^T that are transposed at once: they stay in the first-level cache


@linked
def add_product_transposed(A: View, B: View, C: View, M, N, K):
    """C (M, N) += A (M, K) B^T, with B (N, K)."""
    L = lanes(C)
    if M >= PACK_FROM and N >= L:
        add_packed_product(A, B, C, M, N, K)
        return
    done = M - M % (2 * L) if M >= TRANSPOSE_FROM else 0
    for i in range(0, done, 2 * L):
        add_by_transposing(A.row(i), B, C.row(i), N, K)
    add_dot_products(A.row(done), B, C.row(done), M - done, N, K)


def unreached_by_product_transposed(M, L):
    """List what `add_product_transposed` of at most M rows does not reach, with L numbers in a vector."""
    return [function for function, rows in ((add_packed_product, PACK_FROM), (add_by_transposing, 2 * L)) if rows > M]


@seldom
def add_packed_product(A: View, B: View, C: View, M, N, K):
    """`add_product_transposed` of many rows, which meet packed panels of B^T."""
    A, B, C = View(A, A.row_stride, 1), View(B, B.row_stride, 1), View(C, C.row_stride, 1)  # tells LLVM: contiguous
    S, T, width = stack_array(C, PACKED), stack_array(C, PANEL), NR * lanes(C)
    panel = View(T, width, 1)
    for k in range(0, K, KC):
        deep, rows = min(KC, K - k), A.column(k)
        if deep == KC and M <= MC and PACK_A_FROM * width <= N:
            rows = View(S, KC + PAD, 1)
            pack_rows(A.column(k), rows, M)
        for j in range(0, N, width):
            pack_transposed(B.at(j, k), panel, N - j, deep)
            wide_tiles(rows, panel, C.column(j), M, deep, ADD, N - j)


@helper
def pack_rows(A, packed, M):
    """packed = A (M, KC), row by row."""
    for i in range(M):
        for k in range(0, KC, 4 * lanes(A)):
            store(packed.at(i, k), load(A.at(i, k), 1, 4))


@helper
def pack_transposed(B, panel, N, K):
    """panel (K, as many of N as it is wide) = B^T, with B (N, K)."""
    L, width = lanes(B), panel.row_stride
    for j in range(0, min(width, N), L):  # few rows at once, each far: many may share lines of the cache
        for k in range(0, K - L + 1, L):
            if width <= N:
                transpose(panel.at(k, j), B.at(j, k))
            else:
                transpose(panel.at(k, j), B.at(j, k), N - j)
    for k in range(K - K % L, K):
        for j in range(min(width, N)):
            panel[k, j] = B[j, k]


columns_of_two_vectors = by_size(lambda rows: micro_kernel(rows, 2), (6, 4, 1))


@seldom
def add_by_transposing(A: View, B: View, C: View, N, K):
    """C += A B^T for two vectors of rows of A, as C^T += B A^T: lanes are rows of A, so no sum is across a vector."""
    A, B, C, L = View(A, A.row_stride, 1), View(B, B.row_stride, 1), View(C, C.row_stride, 1), lanes(C)
    T, S, rows = stack_array(C, PANEL), stack_array(C, RESULTS), 2 * L
    panel, results = View(T, rows, 1), View(S, rows, 1)
    parts = (K * rows + PANEL - 1) // PANEL
    step, nc = (K + parts * L - 1) // (parts * L) * L, RESULTS // rows
    for j in range(0, N, nc):
        count = min(N - j, nc)
        for k in range(0, K, step):
            deep, i = min(step, K - k), 0
            pack_transposed(A.column(k), panel, rows, deep)
            while i < count:
                start = ZERO if k == 0 else ADD
                i += columns_of_two_vectors(count - i, B.at(j + i, k), panel, results.row(i), deep, start)
        add_transposed(results, View(T, L, 1), C.column(j), count)


@inlined
def add_transposed(results, square, C, N):
    """C (two vectors of rows, N) += results^T, by squares of a vector of vectors."""
    L = lanes(C)
    for j in range(0, N - N % L, L):
        for i in range(0, 2 * L, L):
            transpose(square, results.at(j, i))
            for k in range(L):
                store(C.at(i + k, j), load(C.at(i + k, j), 1, 1) + load(square.row(k), 1, 1))
    for i in range(2 * L):
        for j in range(N - N % L, N):
            C[i, j] += results[j, i]


def dot_products(mr, nr):
    """C (mr, nr) += mr x nr dot products of rows of A (mr, K) and B (nr, K): vectors of products, summed at the end."""

    @inlined
    def multiply(A, B, C, K):
        L = lanes(C)
        tile, whole = zeros(C, mr, nr), K - K % L
        for k in range(0, whole, L):
            tile = dot(tile, A.column(k), B.column(k))
        if whole < K:
            tile = dot(tile, A.column(whole), B.column(whole), K - whole)
        hsum_add(C, tile)

    return multiply


tall_by_three, tall_by_one, row_by_four, row_by_one = (
    dot_products(*size) for size in ((MR, 3), (MR, 1), (1, 4), (1, 1))
)


@linked
def add_dot_products(A: View, B: View, C: View, M, N, K):
    """`add_product_transposed` of few rows: all of them meet nc rows of B while these are in the second-level cache."""
    A, B, C = View(A, A.row_stride, 1), View(B, B.row_stride, 1), View(C, C.row_stride, 1)
    nc = max(3, L2_NUMBERS // K // 3 * 3)
    for first in range(0, N, nc):
        last = min(N, first + nc)
        whole = last - (last - first) % 3
        for i in range(0, M - M % MR, MR):
            for j in range(first, whole, 3):
                tall_by_three(A.row(i), B.row(j), C.at(i, j), K)
            for j in range(whole, last):
                tall_by_one(A.row(i), B.row(j), C.at(i, j), K)
        whole = last - (last - first) % 4
        for i in range(M - M % MR, M):
            for j in range(first, whole, 4):
                row_by_four(A.row(i), B.row(j), C.at(i, j), K)
            for j in range(whole, last):
                row_by_one(A.row(i), B.row(j), C.at(i, j), K)
