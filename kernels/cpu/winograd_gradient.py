"""Winograd's algorithm backward to the weights: dW = sum over samples and tiles of G^T [(B^T d B) . (A dy A^T)] G.

    Z[e, t] = (A dy A^T)[e]                             dy: the 2 x 2 deltas of tile t; the adjoint of A^T M A
    D[e] (K, R) = V[e] (K, tiles) Z[e] (tiles, R)       the gradient of U[e], transposed
    dW[r, k] = G^T D[:, k, r] G                         the adjoint of G g G^T

Vectors hold filters here: the deltas of a strip are transposed first (deltas do not overlap, tiles do), then D[e] is a
sum over tiles of columns of V[e] times rows of Z[e]. V, Z and D are Vectors: [place, map or tile], each a row of tiles
or of filters. The loops around the micro-kernel::

    columns of tiles, then rows             a strip: two vectors of tiles
      input_transform, dy_transform         V and Z of the strip
      for e, for k by MR maps               add_products
        for r by 2 or 1 vectors             micro_kernel of matrix.py: MR x 2 vectors of D stay in registers
    filter_gradient

No race: the caller's iteration owns its block of dW, a sum over the batch.
"""

import numpy as np

from ..compiler.kernel import helper, inlined
from ..compiler.linked import array, linked, places
from .conv_terms import Size
from .matrix import micro_kernel
from .rearrange import transpose
from .sizes import by_size
from .tile import BYTES, MR, lanes, stack_array
from .view import Images, Vectors, View
from .winograd_transforms import Strip, input_transform, row_of, store_row
from .words import ADD, load, most, store, zeros

SQUARE = 32  # maps and filters of a block of the gradient
STRIP = 264 * BYTES  # numbers of either factor of a strip: two vectors of tiles
TRANSPOSED = 96 * BYTES  # numbers of two rows of deltas, filters beside each other
TAPS = 8 * BYTES  # numbers of nine taps of a vector of filters, of two limits, and of a square of taps
SUMS = 16 * (SQUARE * SQUARE + 16)  # numbers of the gradient, transformed
PAIRS = SQUARE * SQUARE + 1  # whole numbers of `found`: how many pairs of filter and map, then each of them
RUN = 32  # strips that are summed before they are added to the sum of all: the error of a sum grows with its terms
SMALL, SMALL_DOUBLE = 2.0**-20, 2.0**-49  # 8 eps of float32 and float64, see `drop_remains`


@inlined
def a(x, y, zero):
    """Return a times a column of two."""
    return x, x + y, x - y, zero - y


@inlined
def gt(a, b, c, d):
    """G^T times a column of four."""
    half = (b + c) * 0.5
    return a + half, (b - c) * 0.5, half + d


@linked
def gradient(N, dY: Images, out: Size, P: Images, image: Size, dW: Vectors, found: places):
    """dW[filter, map] of a block of filters (out.maps) and maps (image.maps), at most SQUARE of either, of N samples.

    `found`: the pairs whose gradient is not finite (`filter_gradient`).
    """
    S, X, T = stack_array(P, STRIP), stack_array(P, STRIP), stack_array(P, TRANSPOSED)
    run, total = stack_array(P, SUMS), stack_array(P, SUMS)
    L, K, R = lanes(P), image.maps, out.maps
    down, across = (out.rows + 1) // 2, (out.columns + 1) // 2
    columns = min(across, 2 * L)
    rows, filters = 2 * L // columns, (R + L - 1) // L * L
    place = (K + 7) // 8 * 8 * filters + L
    D, strips, runs = Vectors(run, place, filters), 0, 0
    for i in range(16 * place):
        run[i] = 0
    for left in range(0, across, columns):
        for start in range(0, N * down, rows):
            if strips == RUN:
                add_run(16 * place, run, total, runs)
                strips, runs = 0, runs + 1
            strip = Strip(start, min(rows, N * down - start), left, min(columns, across - left), down)
            count = strip.rows * strip.columns
            tiles = (count + L - 1) // L * L
            V, Z = Vectors(S, K * tiles + L, tiles), Vectors(X, count * filters + L, filters)
            input_transform(P, image, strip, V)
            dy_transform(dY, out, strip, View(T, filters, 1), Z)
            add_products(K, count, V, Z, D)
            strips += 1
    for i in range(16 * place if runs else 0):
        run[i] += total[i]
    filter_gradient(R, K, D, dW, found)


@linked
def add_run(count, run: array, total: array, runs):
    """Add the sums of a run to the total of the `runs` before it, and begin another."""
    for i in range(count):
        total[i] = run[i] + (total[i] if runs else 0.0)
        run[i] = 0


# -- products of transforms --------------------------------------------------------------------------------------------


@linked
def dy_transform(dY: Images, out: Size, strip: Strip, T: View, Z: Vectors):
    """Z[e, t] = (A d A^T)[e], d the 2 x 2 deltas of each filter at tile t; the deltas are transposed in T."""
    L, zero, T = lanes(Z), zeros(Z, 1, 1), View(T, T.row_stride, 1)  # tells LLVM: contiguous
    exist = min(2 * strip.columns, out.columns - 2 * strip.left)
    above, below = T.row(L), T.row(7 * L)  # a vector of deltas may begin too early
    for i in range(strip.rows):
        n, h = (strip.start + i) // strip.down, (strip.start + i) % strip.down
        deltas = View(dY.at(n, 0, 0, 0, 0), dY.map_stride, 1)
        for j in range(2):
            row = above if j == 0 else below
            count = exist if 2 * h + j < out.rows else 0
            if count:
                transpose_deltas(deltas, out, (2 * h + j) * out.columns + 2 * strip.left, count, row)
            for q in range(count, 2 * strip.columns):
                for r in range(T.row_stride):
                    row[q, r] = 0
        for t in range(strip.columns):
            for r in range(0, T.row_stride, L):
                x, y = above.at(2 * t, r), below.at(2 * t, r)
                first = a(load(x, 1, 1), load(y, 1, 1), zero)
                second = a(load(x.row(1), 1, 1), load(y.row(1), 1, 1), zero)
                to = View(Z.at(0, i * strip.columns + t), Z.row_stride, 1, r)
                store_row(to, a(first[0], second[0], zero))
                store_row(to.row(4), a(first[1], second[1], zero))
                store_row(to.row(8), a(first[2], second[2], zero))
                store_row(to.row(12), a(first[3], second[3], zero))


@helper
def transpose_deltas(deltas, out, first, count, T):
    """T[q, r] = deltas[r, first + q]: `count` numbers of a row of the deltas of `out.maps` filters."""
    L, plane = lanes(deltas), out.rows * out.columns
    if plane < L:
        for q in range(count):
            for r in range(out.maps):
                T[q, r] = deltas[r, first + q]
        return
    for q in range(0, count, L):
        j = min(q, plane - L - first)  # the last vector may begin before the row
        for r in range(0, out.maps, L):
            transpose(T.at(j, r), deltas.at(r, first + j), out.maps - r)


vectors_of_filters = by_size(lambda vectors: micro_kernel(MR, vectors), (2, 1))


@linked
def add_products(K, count, V: Vectors, Z: Vectors, D: Vectors):
    """D[e, k] += sum over `count` tiles t of V[e, k, t] Z[e, t].

    A strip is summed before it is added to D: no sum of a whole batch runs in one number.
    """
    L = lanes(V)
    for e in range(16):
        B = View(Z.row(e), Z.vector_stride, 1)
        for k in range(0, K, MR):
            A, C, r = View(V.at(e, k), V.vector_stride, 1), View(D.at(e, k), D.vector_stride, 1), 0
            while r < Z.vector_stride:
                r += L * vectors_of_filters((Z.vector_stride - r) // L, A, B.column(r), C.column(r), count, ADD)


# -- the gradient of the taps ------------------------------------------------------------------------------------------


@linked
def filter_gradient(R, K, D: Vectors, dW: Vectors, found: places):
    """dW[r, k] = G^T D[:, k, r] G: nine taps.

    `found` counts the pairs r, k with a number that is not finite, then holds SQUARE r + k of each.
    """
    L = lanes(D)
    T = View(stack_array(D, TAPS), L, 1)
    taps, largest = T.row(16), T.row(9)
    small = SMALL if 4 * L == BYTES else SMALL_DOUBLE
    found[0] = 0
    for k in range(K):
        for r in range(0, R, L):
            nine_taps(View(D.at(0, k), D.row_stride, 1, r), T, largest)
            transpose(taps, T)
            filters, hidden = min(L, R - r), 0.0
            for v in range(filters):
                to = View(dW.at(r + v, k), 9, 1)
                store(to, load(taps.row(v), 1, 1), min(9, L))
                for i in range(L, 9):
                    to[0, i] = T[i, v]
                # NaN and infinity are hidden too
                hidden += 0.0 if small * largest[0, v] + largest[1, v] <= 0.0 else 1.0
            if hidden > 0.0:
                drop_remains(filters, View(dW.at(r, k), dW.row_stride, 1), largest, found, SQUARE * r + k)


@inlined
def nine_taps(D, T, largest):
    """T (9, filters) = G^T D G; largest = the largest magnitude of nine, then the smallest with a minus sign."""
    zero = zeros(D, 1, 1)
    p, q, r, s = gt(*row_of(D)), gt(*row_of(D.row(4))), gt(*row_of(D.row(8))), gt(*row_of(D.row(12)))
    first, second, third = gt(p[0], q[0], r[0], s[0]), gt(p[1], q[1], r[1], s[1]), gt(p[2], q[2], r[2], s[2])
    store_column_of_taps(T, first)
    store_column_of_taps(T.row(1), second)
    store_column_of_taps(T.row(2), third)
    high, low = extremes(zero, zero - abs(first[0]), first, zero)
    high, low = extremes(*extremes(high, low, second, zero), third, zero)
    store(largest, high)
    store(largest.row(1), low)


@inlined
def store_column_of_taps(T, vectors):
    """Store three vectors as the column of 3 x 3 taps that begins where T does."""
    store(T, vectors[0])
    store(T.row(3), vectors[1])
    store(T.row(6), vectors[2])


@inlined
def extremes(high, low, vectors, zero):
    """Return the largest magnitude and the smallest with a minus sign, three vectors included."""
    a, b, c = vectors
    a, b, c = abs(a), abs(b), abs(c)
    high = most(most(high, a), most(b, c))
    return high, most(most(low, zero - a), most(zero - b, zero - c))


@linked
def drop_remains(R, dW: View, largest: View, found: places, pair):
    """Set those of nine numbers dW[r, :9] to 0 that are below 8 eps of the largest: the transforms round off as much.

    (An optimizer that divides by the gradient's size would make whole steps of such remains where the gradient is 0.)
    A filter with a number that is not finite is noted in `found`, as `pair` + SQUARE r.
    """
    small = SMALL if 4 * lanes(dW) == BYTES else SMALL_DOUBLE
    dW, largest = View(dW, dW.row_stride, 1), View(largest, largest.row_stride, 1)  # tells LLVM: contiguous
    for r in range(R):
        size = 0.0
        for i in range(9):
            size += abs(dW[r, i])
        if size < float(np.inf):
            for i in range(9):
                if abs(dW[r, i]) < small * largest[0, r]:
                    dW[r, i] = 0.0
        else:
            found[0] += 1
            found[found[0]] = pair + SQUARE * r
