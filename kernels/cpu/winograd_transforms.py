"""The transforms of Winograd's algorithm: B^T d B of the image, G g G^T of the weights, A^T M A of the products.

    V[e, k] = (B^T d B)[e]      map k; a vector holds neighbouring tiles
    U[e, r] = (G g G^T)[e]      result r; a vector holds maps
    Y = A^T M[:, r] A + b[r]    result r; a vector holds neighbouring tiles

Row i and column j of a 4 x 4 matrix are its place e = 4 i + j. V, U and M are Vectors: [place, map or result], each a
row of tiles or of maps. `bt`, `g` and `at` are the matrices of the header of winograd.py times one column, whose
numbers are vectors. A transform multiplies the columns of a tile (or its rows, since (B^T d) B = B^T (d B)), then the
rows of what comes out.
"""

from typing import NamedTuple

from ..compiler.kernel import inlined
from ..compiler.linked import linked
from .conv_terms import Size
from .rearrange import halves, load_column, store_interleaved, transpose
from .tile import BYTES, lanes, stack_array
from .view import Images, Vectors, View
from .winograd_rule import keep_sums, sums_with
from .words import fill, load, store, zeros

TAPS = 4 * BYTES  # numbers of up to 16 taps of a vector of maps


class Strip(NamedTuple):
    """Tiles that go through all steps together: some columns of some rows, across the ends of samples."""

    start: int  # the first row of tiles, counted over all samples
    rows: int
    left: int  # the first column of tiles
    columns: int
    down: int  # rows of tiles of one sample


@inlined
def bt(a, b, c, d):
    """B^T times a column of four."""
    return a - c, b + c, c - b, b - d


@inlined
def g(a, b, c):
    """G times a column of three."""
    half, middle = (a + c) * 0.5, b * 0.5
    return a, half + middle, half - middle, c


@inlined
def at(a, b, c, d):
    """A^T times a column of four."""
    return a + b + c, b - c - d


@inlined
def column_of(M):
    """Return a column of 4 x 4 places that begins where M does."""
    return load(M, 1, 1), load(M.row(4), 1, 1), load(M.row(8), 1, 1), load(M.row(12), 1, 1)


@inlined
def row_of(D):
    """Return a row of 4 x 4 places that begins where D does."""
    return load(D, 1, 1), load(D.row(1), 1, 1), load(D.row(2), 1, 1), load(D.row(3), 1, 1)


@inlined
def store_column(V, vectors, columns=None):
    """Store four vectors as the column of 4 x 4 places that begins where V does."""
    store(V, vectors[0], columns)
    store(V.row(4), vectors[1], columns)
    store(V.row(8), vectors[2], columns)
    store(V.row(12), vectors[3], columns)


@inlined
def store_row(U, vectors, columns=None):
    """Store four vectors as the row of 4 x 4 places that begins where U does."""
    store(U, vectors[0], columns)
    store(U.row(1), vectors[1], columns)
    store(U.row(2), vectors[2], columns)
    store(U.row(3), vectors[3], columns)


# -- the image ---------------------------------------------------------------------------------------------------------


@linked
def input_transform(P: Images, image: Size, strip: Strip, V: Vectors):
    """V[e, k] = (B^T d B)[e] of the tiles d of a strip in map k, row by row.

    Surplus numbers of the last vector of a row are overwritten by the next row's.
    """
    L, room = lanes(P), V.vector_stride
    n, top = strip.start // strip.down, strip.start % strip.down
    vectors = strip.rows * ((strip.columns + L - 1) // L)  # one loop over rows and columns: half the time of two
    corner = P.at(n, 0, 0, 2 * top, 2 * strip.left)
    for k in range(image.maps):
        h, j, t = top, 0, 0
        row, places = corner.at(0, k, 0, 0, 0), View(V.at(0, k), V.row_stride, 1)
        for _ in range(vectors):
            exist, below = image.columns - 2 * (strip.left + j), image.rows - 2 * h > 3  # of odd sizes the last do not
            tiles, to = View(row, row.row_stride, 1, 2 * j), places.column(t + j)
            if exist >= 2 * L + 2 and below and t + j + L <= room:
                transform_tiles(tiles, to)
            else:
                transform_tiles(tiles, to, exist, exist if below else 0, min(L, room - t - j))
            j += L
            if j >= strip.columns:
                h, j, t, row = h + 1, 0, t + strip.columns, row.at(0, 0, 0, 2, 0)
                if h == strip.down:
                    h, row = 0, row.at(1, 0, 0, -2 * strip.down, 0)


@inlined
def transform_tiles(tiles, V, exist=None, last=None, room=None):
    """V = B^T d B of a vector of tiles d: `exist` numbers of a row exist, `last` of the last row; V takes `room`."""
    a, b = bt(*tile_row(tiles, exist)), bt(*tile_row(tiles.row(1), exist))
    c, d = bt(*tile_row(tiles.row(2), exist)), bt(*tile_row(tiles.row(3), last))
    store_column(V, bt(a[0], b[0], c[0], d[0]), room)
    store_column(V.row(1), bt(a[1], b[1], c[1], d[1]), room)
    store_column(V.row(2), bt(a[2], b[2], c[2], d[2]), room)
    store_column(V.row(3), bt(a[3], b[3], c[3], d[3]), room)


@inlined
def tile_row(row, exist=None):
    """Return the first, second, third, fourth numbers in a row of a vector of tiles; `exist` numbers of it exist."""
    first, second = halves(load(row, 1, 2, exist))
    if exist is None:
        third, fourth = halves(load(row.column(2), 1, 2))
    else:
        third, fourth = halves(load(row.column(2), 1, 2, exist - 2))
    return first, second, third, fourth


# -- the weights -------------------------------------------------------------------------------------------------------


@linked
def filter_transform(R, K, W: Images, U: Vectors, S: View, begun):
    """U[e, r] = (G g G^T)[e] of the taps g[i] = W[r, k, 0, 0, i] of K maps.

    S = the sums of |W| and of W^2, or += if `begun`.
    """
    L = lanes(W)
    total, squares, T = zeros(W, 1, 1), zeros(W, 1, 1), stack_array(W, TAPS)
    # one row per tap, the last one first where W is turned round: rows of T are in the order of memory
    taps = View(T, L, 1) if W.column_stride > 0 else View(T, -L, 1, 8 * L)
    for r in range(R):
        for k in range(0, K, L):
            maps = min(L, K - k)
            if maps == L and r < R - 1:  # vectors of W reach over the last tap, but not over the end of W
                transpose_taps(W.at(r, k, 0, 0, 0), View(T, L, 1))
            else:
                for i in range(9):
                    store(taps.row(i), load_column(View(W.at(r, k, 0, 0, i), W.map_stride, 1), 0, maps))
            a, b, c = column_of_taps(taps), column_of_taps(taps.row(1)), column_of_taps(taps.row(2))
            total, squares = sums_with(*sums_with(*sums_with(total, squares, *a), *b), *c)
            a, b, c = g(*a), g(*b), g(*c)
            places = View(U.at(0, r), U.row_stride, 1, k)
            store_row(places, g(a[0], b[0], c[0]), maps)
            store_row(places.row(4), g(a[1], b[1], c[1]), maps)
            store_row(places.row(8), g(a[2], b[2], c[2]), maps)
            store_row(places.row(12), g(a[3], b[3], c[3]), maps)
    keep_sums(total, squares, S, begun)


@inlined
def transpose_taps(W, T):
    """T[i] = the tap that is the i-th in memory, of a vector of maps."""
    L, first, step = lanes(W), 0 if W.column_stride > 0 else 8, 1 if W.column_stride > 0 else -1
    for i in range(0, 8, L):  # squares of L taps, the first eight together; one square of 16 holds all nine
        transpose(T.row(i), View(W.at(0, 0, 0, 0, first + i * step), W.map_stride, 1))
    if L < 9:
        store(T.row(8), load_column(View(W.at(0, 0, 0, 0, 8 - first), W.map_stride, 1), 0, L))


@inlined
def column_of_taps(taps):
    """Return a column of 3 x 3 taps that begins where `taps` does."""
    return load(taps, 1, 1), load(taps.row(3), 1, 1), load(taps.row(6), 1, 1)


# -- the results -------------------------------------------------------------------------------------------------------


@linked
def output_transform(R, M: Vectors, bias: View, biased, Y: Images, out: Size, strip: Strip):
    """Y[:, r] = A^T M[:, r] A + bias[r, 0], the 2 x 2 results of the tiles of a strip put where they belong."""
    L, n, top = lanes(M), strip.start // strip.down, strip.start % strip.down
    for r in range(R):
        offset = fill(bias.row(r), 1, 1) if biased else zeros(M, 1, 1)
        s, h, tiles = n, top, View(M.at(0, r), M.row_stride, 1)
        for i in range(strip.rows):
            rows = View(Y.at(s, r, 0, 2 * h, 2 * strip.left), Y.row_stride, 1)
            for j in range(0, strip.columns, L):
                exist = min(2 * (strip.columns - j), out.columns - 2 * (strip.left + j))
                both = 2 * h + 1 < out.rows
                transform_products(tiles.column(i * strip.columns + j), offset, rows.column(2 * j), exist, both)
            s, h = (s, h + 1) if h + 1 < strip.down else (s + 1, 0)


@inlined
def transform_products(M, offset, Y, exist, both):
    """Y = A^T M A + offset, a vector of 2 x 2 results: `exist` numbers of a row exist, and one row or `both`."""
    a, b = at(*column_of(M)), at(*column_of(M.row(1)))
    c, d = at(*column_of(M.row(2))), at(*column_of(M.row(3)))
    even, odd = at(a[0], b[0], c[0], d[0])
    store_interleaved(Y, even + offset, odd + offset, exist)
    if both:
        even, odd = at(a[1], b[1], c[1], d[1])
        store_interleaved(Y.row(1), even + offset, odd + offset, exist)
