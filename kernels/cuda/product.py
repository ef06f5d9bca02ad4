"""Matrix products, and convolutions as matrix products whose factors are read through tables of offsets.

    C[g, i, j] = bias + sum over k of A(g, i, k) B(g, k, j)        for M rows i, N columns j, groups g

The index of an element is given in one of two ways. *Steps*, for the dense layer: A(i, k) is A[i sa + k ka]. *Tables*,
for convolutions: A(i, k) is A[rows_a[i] + inner_a[k]], and likewise for B and C: the offset of a position plus that of
a tap. Every window of an image is such a sum, so no matrix of windows is written first.

Parallel plan. A block of threads computes a tile of C; the grid covers all tiles of all groups, and in z also shares
of the sum over k if the tiles alone would not fill the device. The sum runs in steps of `depth`: the block copies a
piece of A (rows x depth) and of B (depth x columns) to shared memory, two buffers of each, so that the next piece is on
its way from global memory to registers while the last one is multiplied. A thread holds side x side elements of C in
registers: for each k it reads 2 side numbers of shared memory, four at a time, and does side^2 multiplications. A warp
reads few different rows of A and many columns of B; pieces are read from global memory along their contiguous
direction, 128 bits at a time if addresses allow.

With tensor cores (launch.precision, kernels/gpu/tensor.py) only the middle of the plan differs: pieces are stored line
by line in shared memory, rounded on their way there; a warp has a part of the tile, cut into 16 x 8 elements, and in
each step its lanes read their words of A and B (32 different banks) and add the products to their elements of C.

The thread that has the sum in a register also adds the bias and applies an epilogue, a formula of a later kernel
(launch.with_epilogue).

No races: a tile belongs to one block; threads exchange numbers through shared memory only, with a barrier between the
writing of a buffer and its reading. Shares of the sum are written to separate memory and added in their order by a
second kernel, so the bits are the same in every run.
"""

from dataclasses import dataclass
from functools import cache as memoize

import numpy as np
from numba import cuda

from ...errors import DeviceError
from .. import geometry
from ..gpu import tensor
from ..gpu.device_code import SIMULATED, block_helper, block_kernel, real
from ..gpu.launch import PRECISION, THREADS, address, blocks, launch, storing, table, workspace
from ..gpu.vector import load4, store4

BLOCKS = 128  # least number of tiles before tiles shrink, then the sum is shared: about the processors of a large GPU
MOST = 65535  # largest number of blocks in y and z of a grid
SHARE = 256  # least number of terms in a share of the sum


@dataclass(frozen=True)
class Tile:
    """Tile of C: rows x columns for a block, side x side for a thread; depth is the number of k of one step."""

    rows: int
    columns: int
    depth: int
    side: int

    @property
    def threads(self):
        return self.rows * self.columns // self.side**2


@dataclass(frozen=True)
class TensorTile:
    """Tile of C: rows x columns for a block, down x across for a warp; depth is the number of k of one step, in 16s."""

    rows: int
    columns: int
    depth: int
    down: int
    across: int

    @property
    def threads(self):
        return self.rows // self.down * (self.columns // self.across) * 32


TILES = [Tile(16, 16, 16, 4)] if SIMULATED else [Tile(128, 128, 8, 8), Tile(64, 64, 16, 4), Tile(32, 32, 16, 4)]
TENSOR_TILES = [TensorTile(16, 16, 16, 16, 16)]
if not SIMULATED:
    TENSOR_TILES = [TensorTile(128, 128, 16, 64, 32), TensorTile(64, 64, 16, 32, 32), TensorTile(32, 32, 16, 16, 16)]


@dataclass(frozen=True)
class Factor:
    """A or B of a product.

    Parameters
    ----------
    array : flat array
    steps : (int, int)
        Step from row to row (A) or column to column (B), and step from k to k; used without tables.
    along_k : bool
        True if neighbouring k, rather than rows or columns, are contiguous in memory.
    outer, inner : arrays of whole numbers, or None
        Offsets of the rows or columns, and of the k.
    group : int
        Step from group to group.
    """

    array: object
    steps: tuple = (0, 0)
    along_k: bool = True
    outer: object = None
    inner: object = None
    group: int = 0

    def wide(self, K, outer):
        """Return whether it can be read four numbers at a time: no four crosses an edge, and all are aligned."""
        if self.outer is not None:
            return False
        run, step = (K, self.steps[0]) if self.along_k else (outer, self.steps[1])
        return run % 4 == step % 4 == self.group % 4 == 0 and address(self.array) % 16 == 0


def multiply(A, B, bias, C, M, N, K, columns_of=None, rows_of=None, groups=1, group=0, by_row=False):
    """Return the launches of a product.

    Parameters
    ----------
    A, B : Factor
    bias : flat array of size 0, groups M (by_row) or groups N
    C : flat array
        Written whole; without tables row i begins at i N.
    M, N, K : int
        Rows and columns of one group, length of the sum.
    rows_of, columns_of : arrays of whole numbers or None
        Offsets of the rows and columns of C.
    groups, group : int
        Number of groups, and the offset in C from one to the next.
    """
    if min(M, N) == 0:
        return []
    if max(A.array.size, B.array.size, C.size) > geometry.LARGEST:  # offsets are 32-bit numbers
        raise DeviceError("arrays of more than 2**31 numbers are too large for a product on CUDA; use a smaller batch")
    if groups > MOST or -(-M // TILES[-1].rows) > MOST:
        raise DeviceError(f"a product on CUDA takes at most {MOST} groups and {MOST * TILES[-1].rows} rows")
    form = tensor.FORMS.get(PRECISION.get())
    # A float64 takes two registers: the largest tile would not fit.
    every = TENSOR_TILES if form else [t for t in TILES if C.dtype == np.float32 or t.side < 8]
    tile = next((t for t in every if _tiles(t, M, N) * groups >= BLOCKS), every[-1])
    tiles = _tiles(tile, M, N) * groups
    splits = max(1, min(-(-BLOCKS // tiles), K // SHARE))
    per = -(-max(K, 1) // (splits * tile.depth)) * tile.depth
    splits = max(1, -(-K // per))
    pairs = (A.outer, A.inner), (B.inner, B.outer), (rows_of, columns_of)
    tables = tuple(pair[0] is not None for pair in pairs)
    given = [each for pair in pairs for each in pair if each is not None]
    places = table(np.concatenate([*given, np.zeros(1, np.int64)]), C)
    grid = (-(-N // tile.columns), -(-M // tile.rows), splits * groups)
    sizes, steps, jumps = (M, N, K, per, groups), (*A.steps, *B.steps), (A.group, B.group, group)
    way = tile, form, A.along_k, B.along_k, tables, A.wide(K, M), B.wide(K, N), by_row
    made = _tensor_product if form else _product

    def whole(finish=None, kept=True, out=C, x=C, y=C):
        code = made(*way, False, finish, kept)
        return launch(code, grid, tile.threads, A.array, B.array, bias, C, out, x, y, places, sizes, steps, jumps)

    def joined(finish=None, kept=True, out=C, x=C, y=C):
        code, sizes = (
            _join_kernel(by_row, tables[2], finish, kept),
            (M, N, groups, splits, group, places.size - M - N - 1),
        )
        return launch(code, blocks(M * N * groups), THREADS, shares, bias, C, out, x, y, places, sizes)

    if splits == 1:
        return [storing(whole, C)]
    shares = workspace(splits * groups * M * N, C)
    parts = launch(
        made(*way, True, None, True), grid, tile.threads, A.array, B.array, bias, *(shares,) * 4, places, sizes, steps,
        jumps,
    )  # fmt: skip
    return [parts, storing(joined, C)]


def _tiles(tile, M, N):
    return -(-M // tile.rows) * -(-N // tile.columns)


@memoize
def _product(tile, form, a_along_k, b_along_k, tables, a_wide, b_wide, by_row, shared, finish, kept):
    """Make the kernel for a tile and for the layout of its factors in memory."""
    ROWS, COLUMNS, DEPTH, SIDE, THREADS = tile.rows, tile.columns, tile.depth, tile.side, tile.threads
    HALF = SIDE // 4  # fours of a thread: 4 rows (columns) at ty * 4, and 4 more half a tile further
    ACROSS = COLUMNS // SIDE  # threads in a row of the tile
    A_LINE, B_LINE = ROWS + 4, COLUMNS + 4  # pitch in shared memory; 4 more, so that rows fall into different banks
    A_EACH, B_EACH = ROWS * DEPTH // THREADS, COLUMNS * DEPTH // THREADS  # numbers that a thread copies
    A_SHARED, B_SHARED, EACH = 2 * DEPTH * A_LINE, 2 * DEPTH * B_LINE, SIDE * SIDE  # sizes must be constants
    A_TABLES, B_TABLES, _ = tables
    place_a, fetch_a, keep_a = _copy_functions(ROWS, DEPTH, THREADS, a_along_k, a_wide, A_TABLES)
    place_b, fetch_b, keep_b = _copy_functions(COLUMNS, DEPTH, THREADS, b_along_k, b_wide, B_TABLES)
    store = _epilogue(by_row, tables[2], shared, finish, kept)

    @block_kernel(registers=128 if SIDE == 8 else None)  # so that a multiprocessor holds two blocks
    def product(A, B, bias, C, out, x, y, T, sizes, steps, groups):
        a_buffers = cuda.shared.array(A_SHARED, real)
        b_buffers = cuda.shared.array(B_SHARED, real)
        sums, done = cuda.local.array(EACH, real), cuda.local.array(EACH, real)
        fa, fb = cuda.local.array(SIDE, real), cuda.local.array(SIDE, real)
        next_a, next_b = cuda.local.array(A_EACH, real), cuda.local.array(B_EACH, real)
        at_a, at_b = cuda.local.array(A_EACH, np.int32), cuda.local.array(B_EACH, np.int32)
        M, N, K, per, count = sizes
        t = cuda.threadIdx.x
        tx, ty = t % ACROSS, t // ACROSS
        split, g = cuda.blockIdx.z // count, cuda.blockIdx.z % count
        row, column = cuda.blockIdx.y * ROWS, cuda.blockIdx.x * COLUMNS
        of_b = M + K if A_TABLES else 0  # index in T of the tables of B, then of those of C
        of_c = of_b + K + N if B_TABLES else of_b
        first = split * per
        last = min(first + per, K)
        place_a(t, row, M, steps[0], T, 0, g * groups[0], at_a)
        place_b(t, column, N, steps[2], T, of_b + K, g * groups[1], at_b)
        for i in range(EACH):
            sums[i] = 0.0
        rounds = (last - first + DEPTH - 1) // DEPTH
        for s in range(rounds + 1):
            if s < rounds:
                fetch_a(A, t, first + s * DEPTH, last, steps[1], T, M, at_a, next_a)
                fetch_b(B, t, first + s * DEPTH, last, steps[3], T, of_b, at_b, next_b)
            if s > 0:
                for k in range(DEPTH):
                    a = (((s - 1) % 2) * DEPTH + k) * A_LINE + ty * 4
                    b = (((s - 1) % 2) * DEPTH + k) * B_LINE + tx * 4
                    for h in range(HALF):
                        fa[4 * h], fa[4 * h + 1], fa[4 * h + 2], fa[4 * h + 3] = load4(a_buffers, a + h * (ROWS // 2))
                        fb[4 * h], fb[4 * h + 1], fb[4 * h + 2], fb[4 * h + 3] = load4(
                            b_buffers, b + h * (COLUMNS // 2)
                        )
                    for i in range(SIDE):
                        for j in range(SIDE):
                            sums[i * SIDE + j] += fa[i] * fb[j]
            if s < rounds:
                keep_a(a_buffers, (s % 2) * DEPTH * A_LINE, A_LINE, t, next_a)
                keep_b(b_buffers, (s % 2) * DEPTH * B_LINE, B_LINE, t, next_b)
            cuda.syncthreads()
        for i in range(EACH):  # sums stay in registers even if the loop over a long formula is not unrolled
            done[i] = sums[i]
        for i in range(SIDE):
            m = row + ty * 4 + i % 4 + i // 4 * (ROWS // 2)
            if m < M:
                for j in range(SIDE):
                    n = column + tx * 4 + j % 4 + j // 4 * (COLUMNS // 2)
                    if n < N:
                        store(done[i * SIDE + j], m, n, g, split, bias, C, out, x, y, T, of_c, sizes, groups[2])

    return product


@memoize
def _tensor_product(tile, form, a_along_k, b_along_k, tables, a_wide, b_wide, by_row, shared, finish, kept):
    """Make the kernel for tensor cores, which multiply numbers that `form` rounds."""
    ROWS, COLUMNS, DEPTH, THREADS = tile.rows, tile.columns, tile.depth, tile.threads
    DOWN, ACROSS = tile.down // 16, tile.across // 8  # pieces of C of a warp
    WARPS = COLUMNS // tile.across  # warps in a row of the tile
    WROWS, WCOLUMNS = tile.down, tile.across
    EACH, STEP, HALF = form.each, 8 * form.each, 4 * form.each  # numbers of a word, of an instruction, of half of it
    LINE = DEPTH + HALF  # pitch in shared memory; 4 words more, so that a warp reads from different banks
    A_EACH, B_EACH = ROWS * DEPTH // THREADS, COLUMNS * DEPTH // THREADS
    A_SHARED, B_SHARED, SUMS = 2 * ROWS * LINE, 2 * COLUMNS * LINE, DOWN * ACROSS * 4
    A_WORDS, B_WORDS = DOWN * 4, ACROSS * 2
    WORD = form.type
    A_TABLES, B_TABLES, _ = tables
    place_a, fetch_a, keep_a = _copy_functions(ROWS, DEPTH, THREADS, a_along_k, a_wide, A_TABLES, form)
    place_b, fetch_b, keep_b = _copy_functions(COLUMNS, DEPTH, THREADS, b_along_k, b_wide, B_TABLES, form)
    store = _epilogue(by_row, tables[2], shared, finish, kept)
    word, mma = tensor.word, tensor.multiplying(form)

    @block_kernel
    def product(A, B, bias, C, out, x, y, T, sizes, steps, groups):
        a_buffers = cuda.shared.array(A_SHARED, WORD)
        b_buffers = cuda.shared.array(B_SHARED, WORD)
        sums, done = cuda.local.array(SUMS, real), cuda.local.array(SUMS, real)
        fa, fb = cuda.local.array(A_WORDS, np.uint32), cuda.local.array(B_WORDS, np.uint32)
        next_a, next_b = cuda.local.array(A_EACH, real), cuda.local.array(B_EACH, real)
        at_a, at_b = cuda.local.array(A_EACH, np.int32), cuda.local.array(B_EACH, np.int32)
        M, N, K, per, count = sizes
        t = cuda.threadIdx.x
        lane, warp = t % 32, t // 32
        down, across = warp // WARPS * WROWS + lane // 4, warp % WARPS * WCOLUMNS  # row g of the warp, its columns
        split, g = cuda.blockIdx.z // count, cuda.blockIdx.z % count
        row, column = cuda.blockIdx.y * ROWS, cuda.blockIdx.x * COLUMNS
        of_b = M + K if A_TABLES else 0  # index in T of the tables of B, then of those of C
        of_c = of_b + K + N if B_TABLES else of_b
        first = split * per
        last = min(first + per, K)
        place_a(t, row, M, steps[0], T, 0, g * groups[0], at_a)
        place_b(t, column, N, steps[2], T, of_b + K, g * groups[1], at_b)
        for i in range(SUMS):
            sums[i] = 0.0
        rounds = (last - first + DEPTH - 1) // DEPTH
        for s in range(rounds + 1):
            if s < rounds:
                fetch_a(A, t, first + s * DEPTH, last, steps[1], T, M, at_a, next_a)
                fetch_b(B, t, first + s * DEPTH, last, steps[3], T, of_b, at_b, next_b)
            if s > 0:
                for k in range(0, DEPTH, STEP):
                    a = ((s - 1) % 2 * ROWS + down) * LINE + k + lane % 4 * EACH
                    b = ((s - 1) % 2 * COLUMNS + across + lane // 4) * LINE + k + lane % 4 * EACH
                    for i in range(DOWN):
                        for h in range(4):
                            fa[4 * i + h] = word(a_buffers, a + (16 * i + h % 2 * 8) * LINE + h // 2 * HALF)
                    for j in range(ACROSS):
                        for h in range(2):
                            fb[2 * j + h] = word(b_buffers, b + 8 * j * LINE + h * HALF)
                    for i in range(DOWN):
                        for j in range(ACROSS):
                            c = (i * ACROSS + j) * 4
                            sums[c], sums[c + 1], sums[c + 2], sums[c + 3] = mma(
                                fa[4 * i], fa[4 * i + 1], fa[4 * i + 2], fa[4 * i + 3], fb[2 * j], fb[2 * j + 1],
                                sums[c], sums[c + 1], sums[c + 2], sums[c + 3],
                            )  # fmt: skip
            if s < rounds:
                keep_a(a_buffers, s % 2 * ROWS * LINE, LINE, t, next_a)
                keep_b(b_buffers, s % 2 * COLUMNS * LINE, LINE, t, next_b)
            cuda.syncthreads()
        for i in range(SUMS):  # as in _product
            done[i] = sums[i]
        for i in range(2 * DOWN):
            m = row + down + 8 * i
            if m < M:
                for j in range(2 * ACROSS):
                    n = column + across + lane % 4 * 2 + 8 * (j // 2) + j % 2
                    if n < N:
                        z = done[(i // 2 * ACROSS + j // 2) * 4 + i % 2 * 2 + j % 2]
                        store(z, m, n, g, split, bias, C, out, x, y, T, of_c, sizes, groups[2])

    return product


@memoize
def _epilogue(by_row, tables, shared, finish, kept):
    """Make the epilogue of a sum z: store a share of it, or else apply bias and formula and store the result.

    If `kept`, the number that the formula reads is stored too.
    """
    FINISHED = finish is not None
    finish = finish or _unchanged

    @block_helper
    def store(z, m, n, g, split, bias, C, out, x, y, T, of_c, sizes, group):
        if shared:
            C[((split * sizes[4] + g) * sizes[0] + m) * sizes[1] + n] = z
        else:
            if bias.size > 0:
                z += bias[g * sizes[0] + m] if by_row else bias[g * sizes[1] + n]
            at = g * group + T[of_c + m] + T[of_c + sizes[0] + n] if tables else m * sizes[1] + n
            if kept:
                C[at] = z
            if FINISHED:
                out[at] = finish(z, x, y, at)

    return store


@block_helper
def _unchanged(z, x, y, at):
    return z


@memoize
def _copy_functions(LINES, DEPTH, THREADS, along_k, wide, tables, form=None):
    """Make the functions by which a thread copies its share of a piece: offsets, global to registers, to shared memory.

    The piece has LINES rows or columns ("lines") and DEPTH k. In the contiguous direction all numbers of a thread (or
    fours of them) have the same index; in the other direction they are STEP apart.
    """
    EACH = LINES * DEPTH // THREADS
    FOUR = 4 if wide else 1
    ALONG = (DEPTH if along_k else LINES) // FOUR
    STEP = THREADS // ALONG
    assert STEP * ALONG == THREADS
    rounded = tensor.rounding(form) if form else None

    @block_helper
    def place(t, first, count, step, T, base, group, at):
        """Store the offset of each number's line; lines beyond the edge repeat the last and give no result."""
        for e in range(EACH // FOUR):
            if along_k:
                line = min(first + t // ALONG + e * STEP, count - 1)
            else:
                line = min(first + t % ALONG * FOUR, count - FOUR)
            at[e] = group + (T[base + line] if tables else line * step)

    @block_helper
    def take(array, at, into, e):
        if wide:
            into[4 * e], into[4 * e + 1], into[4 * e + 2], into[4 * e + 3] = load4(array, at)
        else:
            into[e] = array[np.uintp(at)]

    @block_helper
    def fetch(array, t, first, last, step, T, base, at, into):
        """Copy from global memory to registers, zeros after the last k."""
        for e in range(EACH):
            into[e] = 0.0
        if along_k:
            k = first + t % ALONG * FOUR
            if k < last:
                inner = T[np.uintp(base + k)] if tables else k * step
                for e in range(EACH // FOUR):
                    take(array, at[e] + inner, into, e)
        else:
            for e in range(EACH // FOUR):
                k = first + t // ALONG + e * STEP
                if k < last:
                    take(array, at[e] + (T[np.uintp(base + k)] if tables else k * step), into, e)

    @block_helper
    def keep(buffer, base, line_size, t, kept):
        """Copy from registers to shared memory, k by k."""
        along, across = t % ALONG, t // ALONG
        for e in range(EACH // FOUR):
            if along_k:
                at = base + along * FOUR * line_size + across + e * STEP
                for f in range(FOUR):
                    buffer[np.uintp(at + f * line_size)] = kept[e * FOUR + f]
            elif wide:
                at = base + (across + e * STEP) * line_size + along * 4
                store4(buffer, at, kept[4 * e], kept[4 * e + 1], kept[4 * e + 2], kept[4 * e + 3])
            else:
                buffer[np.uintp(base + (across + e * STEP) * line_size + along)] = kept[e]

    @block_helper
    def keep_rounded(buffer, base, line_size, t, kept):
        """Copy from registers to shared memory, rounded, line by line."""
        along, across = t % ALONG, t // ALONG
        for e in range(EACH // FOUR):
            if along_k and wide:
                at = base + (across + e * STEP) * line_size + along * 4
                a, b, c, d = kept[4 * e], kept[4 * e + 1], kept[4 * e + 2], kept[4 * e + 3]
                store4(buffer, at, rounded(a), rounded(b), rounded(c), rounded(d))
            elif along_k:
                buffer[np.uintp(base + (across + e * STEP) * line_size + along)] = rounded(kept[e])
            else:
                for f in range(FOUR):
                    at = base + (along * FOUR + f) * line_size + across + e * STEP
                    buffer[np.uintp(at)] = rounded(kept[e * FOUR + f])

    return place, fetch, keep_rounded if form else keep


@memoize
def _join_kernel(by_row, tables, finish, kept):
    """Make the kernel C = bias + the shares of the sum, in their order, then the formula; a thread for each number."""
    store = _epilogue(by_row, tables, False, finish, kept)

    @block_kernel
    def join(shares, bias, C, out, x, y, T, sizes):
        M, N, groups, splits, group, first = sizes
        for i in range(cuda.grid(1), groups * M * N, cuda.gridsize(1)):
            z = 0.0
            for s in range(splits):
                z += shares[s * groups * M * N + i]
            store(z, i // N % M, i % N, i // (M * N), 0, bias, C, out, x, y, T, first, sizes, group)

    return join
