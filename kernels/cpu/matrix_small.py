"""Products of small matrices on register tiles, without packing: C = A B, C += A B, or A B with a bias for each row.

    C[i, j] = or += sum over k of A[i, k] B[k, j]       A (M, K), B (K, N), C (M, N); rows of B and C are contiguous

The loops around the micro-kernel::

    for j in range(0, N, 2 vectors)
      for i in range(0, M, mr)                         mr = 8, 4 or 1: by_size
        for k in range(K)                              micro_kernel: mr x 2 vectors of C stay in registers

Few rows fill a tile of their own height; the last columns, one vector or less, are masked. Two vectors of B for 128
terms are half of a first-level cache of 32 kB, while the rows of A come from the second-level cache.
"""

from ..compiler.kernel import inlined
from ..compiler.linked import linked
from .sizes import by_size
from .tile import REGISTERS, lanes
from .view import View
from .words import ADD, BIAS, fill, load, outer, store, zeros

HEIGHTS = (8 if REGISTERS == 32 else 6, 4, 1)  # rows of a tile of two vectors: with its factors it fills 16 registers
NARROW_HEIGHTS = (8, 4, 1)  # of one vector: 8 sums hide the latency of a fused step


def micro_kernel(nr):
    """C (mr rows, nr vectors) = A (mr, K) B (K, nr vectors), from `start` on; with BIAS that is b of each row."""

    def of_rows(mr):
        @inlined
        def multiply(A, B, b, C, K, start, columns=None):
            tile = zeros(C, mr, nr)
            if start == BIAS:
                tile = fill(b, mr, nr)
            elif start == ADD:
                tile = load(C, mr, nr, columns)
            for k in range(K):
                tile = outer(tile, A.column(k), B.row(k), columns)
            store(C, tile, columns)

        return multiply

    return of_rows


def rows_of(nr, heights):
    """C (M rows, nr vectors) by tiles of `heights` rows."""
    some_rows = by_size(micro_kernel(nr), heights)

    @inlined
    def multiply(A, B, b, C, M, K, start, columns=None):
        i = 0
        while i < M:
            i += some_rows(M - i, A.row(i), B, b.row(i), C.row(i), K, start, columns)

    return multiply


two_vectors, one_vector = rows_of(2, HEIGHTS), rows_of(1, NARROW_HEIGHTS)


@linked
def multiply(A: View, B: View, b: View, C: View, M, N, K, start):
    """C (M, N) = A (M, K) B (K, N) from `start` on: ZERO, ADD (C itself) or BIAS (b in each column)."""
    B, C, L = View(B, B.row_stride, 1), View(C, C.row_stride, 1), lanes(C)  # tells LLVM: contiguous
    whole = N - N % (2 * L)
    for j in range(0, whole, 2 * L):
        two_vectors(A, B.column(j), b, C.column(j), M, K, start)
    for j in range(whole, N, L):
        one_vector(A, B.column(j), b, C.column(j), M, K, start, N - j)
