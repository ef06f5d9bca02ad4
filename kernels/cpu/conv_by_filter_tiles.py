"""The loops of conv_by_filter.py for one sample: results at all positions, in tiles of positions by filters.

    Y[f, o] = b[f] + sum over terms k of W[f, k] P[o + place of k]           a term is a map and a tap

Forward and backward to the input share them; of the latter, results are maps and terms have filters. Results f, f + 1,
... of up to two vectors are the lanes. The loops of `convolve` around the micro-kernel::

    for up to two vectors of results
      for each band of rows             M[position, result] of at most BAND numbers, in the first-level cache
        for each row                    line_of_two, line_of_one
          for up to HEIGHT positions
            for each term               micro_kernel: R x C vectors of results stay in registers
        unpack                          Y[result, position] = M[position, result], transposed

Weights are packed before (`pack`), so that a tile reads them from one stretch of memory, and serve some samples. All
terms are in one loop, with a table of their places in the image.

No race: the caller's iteration owns the results; M lies on its own stack.
"""

from typing import NamedTuple

from ..compiler.kernel import helper, inlined
from ..compiler.linked import array, linked, places
from .conv_terms import LiveRows, Size, live_taps, pack_weights, volume
from .rearrange import transpose
from .sizes import of_size
from .tile import REGISTERS, lanes, stack_array
from .view import Images, View
from .words import load, outer, store

HEIGHT = 8 if REGISTERS == 32 else 6  # rows of the tallest tile two vectors wide: with its factors it fills registers
HEIGHTS = tuple(R for R in (6, 5, 4, 8, 7, 3, 2, 1) if R <= HEIGHT)  # the commonest first (measured)
ROOM = 65536  # numbers of packed weights, or of a block of their gradient: they stay in the second-level cache
TERMS = 2048  # terms of a result, at most: the table of their places has room for them
BAND = 4096  # numbers of results, or of transposed deltas: they stay in the first-level cache
WIDEST = 32  # results of two vectors of the largest kind


class Band(NamedTuple):
    """The shape of a part of a plane."""

    rows: int
    columns: int


@helper
def band_of(out, width):
    """Return the largest band whose positions, `width` numbers each, have room in BAND."""
    columns = min(out.columns, BAND // width)
    return Band(min(out.rows, BAND // width // columns), columns)


# -- packed weights ----------------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """Packed weights of some results, and where in the image their terms lie."""

    weights: View  # from row f on those of the results f, f + 1, ... of up to two vectors, term by term
    terms: places
    first: int  # the first one of the terms


@helper
def at_once(K, L):
    """Return the number of results, of K terms each, whose weights have room."""
    return max(L, ROOM // max(K, 1) // (2 * L) * 2 * L)


@helper
def pack(R, W, P, sums, packed):
    """Pack the weights of R results, W's samples. The strides of P are those from map to map and from tap to tap."""
    L = lanes(W)
    for f in range(0, R, 2 * L):
        width = 2 * L if R - f > L else L
        pack_weights(min(width, R - f), sums, W.at(f, 0, 0, 0, 0), P, View(packed.weights.row(f), width, 1),
                     packed.terms, packed.first)  # fmt: skip


# -- the micro-kernel and the loops around it --------------------------------------------------------------------------


def micro_kernel(R, C):
    """M (R positions, C vectors of results) = the bias + the sum over the terms from `first` to before `end`."""

    @inlined
    def compute(image, terms, first, end, V, bias, M):
        tile = load(bias, R, C)
        for k in range(first, end):
            tile = outer(tile, image.column(terms[k]), V.row(k))
        store(M, tile)

    return compute


def line(C):
    """`micro_kernel` of C vectors of results and any number of positions."""
    tile_of = of_size(lambda R: micro_kernel(R, C), HEIGHTS)

    @linked
    def compute(image: View, terms: places, first, end, V: View, bias: array, M: View, count):
        """M (count positions, results), in tiles of about the same height; the image's rows are positions."""
        width, P = C * lanes(image), View(image, image.row_stride, 1)
        weights, start, results = View(V, width, 1), View(bias, 0, 1), View(M, width, 1)
        tiles = (count + HEIGHT - 1) // HEIGHT
        high, more = count // tiles, count % tiles
        for i in range(tiles):
            o = i * high + min(i, more)
            tile_of(high + 1 if i < more else high, P.row(o), terms, first, end, weights, start, results.row(o))

    return compute


line_of_two, line_of_one = line(2), line(1)


@linked
def convolve(P: Images, packed: Packed, b: View, biased, Y: Images, sums: Size, out: Size, live: LiveRows):
    """Y = `out.maps` results at the positions of a sample; b[f, 0] is added if `biased`.

    The strides of P are those from position to position. Rows of P that are not live are zeros, which are left out.
    """
    S, bias, L = stack_array(P, BAND), stack_array(P, WIDEST), lanes(P)
    if volume(out) == 0:
        return
    for f in range(0, out.maps, 2 * L):
        width = 2 * L if out.maps - f > L else L
        some = min(width, out.maps - f)
        for r in range(width):
            bias[r] = b[f + r, 0] if biased and r < some else 0
        weights = Packed(View(packed.weights.row(f), width, 1), packed.terms, packed.first)
        results = Size(some, out.depth, out.rows, out.columns)
        convolve_bands(P, weights, bias, View(S, width, 1), Y.at(0, f, 0, 0, 0), sums, results, live)


@inlined
def convolve_bands(P, packed, bias, M, Y, sums, out, live):
    """`convolve` of up to two vectors of results, one band of rows after the other."""
    band = band_of(out, M.row_stride)
    flat = band.columns == out.columns == Y.row_stride and Y.column_stride == 1  # rows of a band follow each other in Y
    for d in range(out.depth):
        for h in range(0, out.rows, band.rows):
            for o in range(0, out.columns, band.columns):
                rows, columns = min(band.rows, out.rows - h), min(band.columns, out.columns - o)
                convolve_band(P.at(0, 0, d, h, o), packed, bias, M, Band(rows, columns), h, sums, live)
                for i in range(1 if flat else rows):
                    unpack(out.maps, rows * columns if flat else columns, M.row(i * columns),
                           View(Y.at(0, 0, d, h + i, o), Y.map_stride, Y.column_stride))  # fmt: skip


@inlined
def convolve_band(P, packed, bias, M, band, row, sums, live):
    """M (positions of a band whose first row is `row`, results) = the bias and the sums over all live terms."""
    K = sums.maps * sums.columns  # terms of a row of taps
    for i in range(band.rows):
        tap, last = live_taps(row + i, live, sums.rows) if sums.depth == 1 else (0, sums.depth * sums.rows)
        first, end = packed.first + tap * K, packed.first + last * K
        image, results = View(P.at(0, 0, 0, i, 0), P.column_stride, 1), M.row(i * band.columns)
        if M.row_stride == lanes(P):
            line_of_one(image, packed.terms, first, end, packed.weights, bias, results, band.columns)
        else:
            line_of_two(image, packed.terms, first, end, packed.weights, bias, results, band.columns)


@linked
def unpack(R, count, M: View, Y: View):
    """Y[r, o] = M[o, r] for R results at `count` positions."""
    L, rows = lanes(M), View(Y, Y.row_stride, 1)
    whole = R - R % L if Y.column_stride == 1 and count >= L else 0
    for r in range(0, whole, L):
        for o in range(0, count, L):
            at = min(o, count - L)  # the last squares may overlap
            transpose(rows.at(r, at), M.at(at, r))
    for r in range(whole, R):
        for o in range(count):
            Y[r, o] = M[o, r]
