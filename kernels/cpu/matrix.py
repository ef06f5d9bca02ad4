"""Matrix products on register tiles: C = A B and C += A B, behind the affine layer and 1 x 1 convolution.

    C[i, j] = or += sum over k of A[i, k] B[k, j]       A (M, K), B (K, N), C (M, N); rows of B and C are contiguous

The loops around the micro-kernel (Goto & van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008; loops
are numbered and sizes named as in BLIS)::

    blocks of C, at most MC rows high          one iteration each of the caller's prange           loops 5 and 3
      for k in range(0, K, KC)                 pack_a, where terms of A lie far apart              loop 4
        for j in range(0, N, NR vectors)       pack_b: KC x NR vectors of B, in first-level cache  loop 2
          for i in range(0, M, MR)             row_tiles                                           loop 1
            for k                              micro_kernel: MR x NR vectors of C stay in registers

BLIS packs B outside of the loop over blocks of rows. Here each block packs panels of its own and shares nothing. With
few rows packing does not pay, and B is read where it is (direct_product).

No race: an iteration of the caller's loop writes its own block of C; what is packed lies on its own stack. Blocks and
the order of sums depend on M, N and K only, never on threads.
"""

from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked, seldom
from .rearrange import copy
from .tile import BYTES, MR, NR, lanes, stack_array
from .view import View
from .words import ADD, load, outer, store, zeros

MC = 512  # rows of a block of C, at most: its packed rows of A take a fraction of the second-level cache
KC = 24576 // (NR * BYTES)  # terms that are packed at once: a panel takes 24 kB, half of a first-level cache
PANEL = KC * NR * BYTES // 4  # numbers of a packed panel of B
PAD = 16  # numbers between rows of packed A: rows a power of two apart would share few lines of the cache
PACKED = (KC + PAD) * MC  # numbers of packed A
PORTION = 1024  # terms that are summed before they are added to C: the error of a sum grows with its terms
PACK_FROM = 64  # rows of A that make packing a panel of B pay


def micro_kernel(mr, nr):
    """C (mr rows, nr vectors) = A (mr, K) B (K, nr vectors), or += if `start` is ADD: in registers for all K terms."""

    @inlined
    def multiply(A, B, C, K, start, columns=None, b_columns=None):
        tile = zeros(C, mr, nr)
        for k in range(K):
            tile = outer(tile, A.column(k), B.row(k), b_columns)
        if start == ADD:  # only now: a long sum is made of portions
            tile = tile + load(C, mr, nr, columns)
        store(C, tile, columns)

    return multiply


wide_tile, wide_row = micro_kernel(MR, NR), micro_kernel(1, NR)


def row_tiles(tile, row):
    """Loop 1: C (M rows) by tiles of MR rows, then row by row.

    `columns` of C exist, and of B `b_columns`: all of the tile's, where they are not given.
    """

    @inlined
    def multiply(A, B, C, M, K, start, columns, b_columns=None):
        tiled = M if M >= MR and start != ADD else M - M % MR  # the last tile may overlap: some rows are written twice
        for i in range(0, tiled, MR):
            top = min(i, M - MR)
            tile(A.row(top), B, C.row(top), K, start, columns, b_columns)
        for i in range(tiled, M):
            row(A.row(i), B, C.row(i), K, start, columns, b_columns)

    return multiply


wide_tiles = row_tiles(wide_tile, wide_row)
narrow_tiles = row_tiles(micro_kernel(MR, 1), micro_kernel(1, 1))


@linked
def product(A: View, B: View, C: View, M, N, K, start):
    """C (M, N) = A (M, K) B (K, N), or += if `start` is ADD."""
    if M >= PACK_FROM:
        packed_product(A, B, C, M, N, K, start)
    else:
        direct_product(A, B, C, M, N, K, start)


def unreached_by_product(M):
    """List what `product` of at most M rows does not reach."""
    return [packed_product] if M < PACK_FROM else []


@linked
def direct_product(A: View, B: View, C: View, M, N, K, start):
    """`product` of few rows, without packing: NR vectors of B stay near while all rows of A meet them."""
    L = lanes(C)
    width = NR * L
    whole = N - N % width
    for k in range(0, K, PORTION):
        terms, first, left = min(PORTION, K - k), start if k == 0 else ADD, A.column(k)
        for j in range(0, whole, width):
            wide_tiles(left, B.at(k, j), C.column(j), M, terms, first, width)
        for j in range(whole, N, L):
            narrow_tiles(left, B.at(k, j), C.column(j), M, terms, first, N - j, N - j)


@seldom
def packed_product(A: View, B: View, C: View, M, N, K, start):
    """`product` of many rows, which meet packed panels of B."""
    S, T, width = stack_array(C, PACKED), stack_array(C, PANEL), NR * lanes(C)
    panel = View(T, width, 1)
    packs = A.row_stride == 1 and A.column_stride > M and 2 * width < N and M <= MC
    for k in range(0, K, KC):
        deep, first = min(KC, K - k), start if k == 0 else ADD
        packed = View(S, deep + PAD, 1)
        if packs:
            pack_a(A.column(k), packed, M, deep)
        for j in range(0, N, width):
            pack_b(B.at(k, j), panel, deep, N - j)
            if packs:
                packed_row_tiles(packed, panel, C.column(j), M, deep, first, N - j)
            else:
                wide_tiles(A.column(k), panel, C.column(j), M, deep, first, N - j)


@inlined
def pack_b(B, panel, K, columns):
    """panel (K, NR vectors) = the first `columns` columns of B, then zeros."""
    L = lanes(B)
    for k in range(K):
        for j in range(0, NR * L, L):
            copy(panel.at(k, j), B.at(k, j), columns - j)


@linked
def pack_a(A: View, packed: View, M, K):
    """Pack A (M, K), whose columns are contiguous, so that a tile reads its MR rows from one stretch of memory.

    Rows i to i + MR are the columns of packed.row(i), one after the other; the last M % MR rows stand as they are.
    """
    columns = View(A, 1, A.column_stride)  # tells LLVM: contiguous, so that it copies vectors
    for k in range(K):
        for i in range(0, M - M % MR, MR):
            tile = View(packed.row(i), 1, MR)
            for r in range(MR):
                tile[r, k] = columns[i + r, k]
        for i in range(M - M % MR, M):
            packed[i, k] = A[i, k]


@inlined
def packed_row_tiles(packed, B, C, M, K, start, columns):
    """Loop 1 on rows that `pack_a` packed."""
    for i in range(0, M - M % MR, MR):
        wide_tile(View(packed.row(i), 1, MR), B, C.row(i), K, start, columns)
    for i in range(M - M % MR, M):
        wide_row(View(packed.row(i), 1, 1), B, C.row(i), K, start, columns)


@helper
def shares(M, N, vector, least):
    """Divide a result of M x N: rows and columns of a block, blocks side by side and below each other; at most 16.

    A block is whole panels of NR vectors wide, at least `least` columns.
    """
    width, tall = NR * vector, min(M, MC)
    down = (M + tall - 1) // max(tall, 1)
    panels = (N + width - 1) // width
    each = max((panels * down + 15) // 16, (least + width - 1) // width)
    wide = min(N, each * width)
    return tall, wide, (N + wide - 1) // max(wide, 1), down
