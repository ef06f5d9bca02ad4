"""Convolution with positions of a row in the lanes of a vector: forward, and the sums of backward to the input.

    Y[n, f, o] = start + sum over terms (a, k) of W[f, a, k] P[n, a, o s + k d]             P padded; o, s, k, d triples

A row of an image is contiguous and a tap is a fixed offset into it, so this is a matrix product whose right factor, the
shifted image, is never written: Y (filters, positions) = W (filters, terms) X (terms, positions), where row k of X
begins offsets[k] numbers into P. The loops around the micro-kernel::

    for f in range(0, filters, R)               pack_weights: the terms of R filters, as many as have room
      for n, d                                  samples, planes of the result
        for h                                   runs of rows that meet the same taps: those at a border leave some out
          for r in range(0, rows, C)            rectangle: tiles of C vectors below each other, or along one row
            for k                               micro_kernel: R x C vectors of Y stay in registers

Where rows fill their vectors badly, or the stride leaves gaps, a few maps are packed first (correlate_packed,
conv_packing.py). One tap at every position is a matrix product (matrix.py).

No race: the caller's iteration owns the maps and samples of Y; what is packed lies on its own stack.
"""

from typing import NamedTuple

from ..compiler.kernel import helper, inlined
from ..compiler.linked import array, linked, places, seldom
from .conv_packing import ROOM, Panel, pack_taps, packing_pays, panel_shape
from .conv_terms import ALL_LIVE, LiveRows, Size, Steps, images, live_taps, pack_weights, size_of, volume
from .matrix import product, unreached_by_product
from .sizes import by_size
from .tile import MASKS, REGISTERS, lanes, numbers, stack_array
from .view import Images, Vectors, View
from .words import ADD, BIAS, ZERO, fill, load, outer, store, zeros

TERMS = 2048  # terms of a sum whose weights are packed at once: 64 kB in float32
WEIGHTS = 8 * TERMS  # numbers of packed weights


class Terms(NamedTuple):
    """The terms of a sum, packed: weights[k, r] is the weight of term k for filter r; the terms first to end - 1."""

    weights: array
    offsets: places  # where in the image each term lies
    first: int
    end: int


class Correlation(NamedTuple):
    """The shape of a correlation of one sample."""

    sums: Size  # maps and taps that are summed for a result
    out: Size  # filters and positions
    stride: Steps  # from position to position
    dilation: Steps  # from tap to tap


def micro_kernel(R, C):
    """Y (R filters, C vectors of positions) = start + sum over terms k of weights[k, :] (x) X[offsets[k], :]."""

    @inlined
    def correlate_tile(terms, X, b, Y, start, columns=None):
        W = View(terms.weights, 1, R)
        if start == BIAS:
            tile = fill(b, R, C)
        elif start == ZERO:
            tile = zeros(Y, R, C)
        else:
            tile = load(Y, R, C, columns)
        for k in range(terms.first, terms.end):
            tile = outer(tile, W.column(k), X.row(terms.offsets[k]), columns)
        store(Y, tile, columns)

    return correlate_tile


def rectangle_of_tiles(R, C):
    """R filters at all positions of a rectangle, in tiles of C vectors below each other, or one.

    Unless Y is added to, the last vector of a row and the last rows of a column may begin earlier than they need: some
    positions are computed twice. With masks rows of less than a vector make tiles, too, and the rows that are left go
    alone from R = 4 on: four sums at once hide the latency of an addition.
    """
    many, one = micro_kernel(R, C), micro_kernel(R, 1)
    overlaps = not MASKS or R < 4

    @inlined
    def rectangle(terms, X, b, Y, start, rows, columns):
        L = lanes(Y)
        for v in range((columns + L - 1) // L):
            o = columns - L if start != ADD and v * L > columns - L >= 0 else v * L
            tiled = rows if overlaps and start != ADD and rows >= C else rows - rows % C
            if columns - o < L and not MASKS:
                tiled = 0
            Z = Vectors(Y, Y.row_stride, Y.vector_stride, o)
            for i in range(0, tiled, C):
                r = min(i, rows - C)
                if MASKS:
                    many(terms, X.at(o, r), b, Z.column(r), start, columns - o)
                else:
                    many(terms, X.at(o, r), b, Z.column(r), start)
            for r in range(tiled, rows):
                one(terms, X.at(o, r), b, Z.column(r), start, columns - o)

    return rectangle


def rows_of_tiles(R, C):
    """R filters at `rows` rows of `columns` positions: a rectangle, or the vectors of one long row and what is left."""
    rectangle = rectangle_of_tiles(R, C)

    @seldom
    def rows_of_positions(terms: Terms, X: Vectors, b: View, Y: Vectors, start, rows, columns):
        L, b = lanes(Y), View(b, 1, 1)
        long = rows == 1 and columns > L  # its vectors, `step` apart, are rows of a rectangle: tiles have C of them
        step = columns - L if start != ADD and columns < 2 * L else L  # two vectors, of which the second begins earlier
        x_step, y_step = (step, step) if long else (X.vector_stride, Y.vector_stride)
        for rest in range(2 if long and step == L and columns % L else 1):
            o, high, wide = 0, rows, columns
            if rest:  # a vector that begins earlier, or part of one
                o = columns - L if start != ADD else columns - columns % L
                wide = columns - o
            elif long:
                high, wide = columns // L + (step < L), L
            rectangle(terms, Vectors(X, 1, x_step, o), b, Vectors(Y, Y.row_stride, y_step, o), start, high, wide)

    return rows_of_positions


# Filters and vectors of a tile: as many numbers as the registers have room for. More filters load the image less often.
TILES = {8: 3, 6: 4, 4: 4, 1: 8} if REGISTERS == 32 else {6: 2, 4: 3, 2: 4, 1: 8}
MOST, SOME, FEW, ONE = TILES
rows_of_most, rows_of_some, rows_of_few, rows_of_one = (rows_of_tiles(*tile) for tile in TILES.items())
_rows = {MOST: rows_of_most, SOME: rows_of_some, FEW: rows_of_few, ONE: rows_of_one}
rows_of_filters = by_size(_rows.get, (MOST, SOME, FEW, ONE))  # of R filters, R from `filters_at_once`


@helper
def filters_at_once(left):
    """Return the number of filters that are taken at once of those left: as many as leave no odd ones behind."""
    if left == MOST or left == MOST + 1 or left == MOST + 3 or left >= MOST + SOME:
        return MOST
    return SOME if left >= SOME else FEW if left >= FEW else 1


# -- correlation -------------------------------------------------------------------------------------------------------


@linked
def correlate(N, P: Images, W: Images, b: View, Y: Images, start, shape: Correlation, live: LiveRows):
    """Y = the sums of N padded images P; rows of a plane of P that are not live are zeros (at stride 1 only)."""
    sums, out = shape.sums, shape.out
    if volume(sums) == 1 and P.map_stride == volume(out):
        correlate_single_taps(N, P, W, b, Y, start, shape)
    elif packing_pays(out.maps, sums.rows, shape.stride.column, out.columns, lanes(P)):
        correlate_packed(N, P, W, b, Y, start, shape)
    else:
        correlate_in_place(N, P, W, b, Y, start, shape, live)


@helper
def correlate_single_taps(N, P, W, b, Y, start, shape):
    """`correlate` of one tap at every position: a matrix product."""
    F, positions = shape.out.maps, volume(shape.out)
    for n in range(N):
        image, result = View(P.at(n, 0, 0, 0, 0), P.map_stride, 1), View(Y.at(n, 0, 0, 0, 0), Y.map_stride, 1)
        for f in range(F if start == BIAS else 0):
            for i in range(positions):
                result[f, i] = b[f, 0]
        first = ZERO if start == ZERO else ADD
        product(View(W, W.sample_stride, W.map_stride), image, result, F, positions, shape.sums.maps, first)


@seldom
def correlate_in_place(N, P: Images, W: Images, b: View, Y: Images, start, shape: Correlation, live: LiveRows):
    """`correlate`, reading rows where they are."""
    sums, out, stride, dilation = shape.sums, shape.out, shape.stride, shape.dilation
    V, offsets = stack_array(P, WEIGHTS), numbers(TERMS)
    taps = Images(P, 0, P.map_stride, dilation.depth * P.depth_stride, dilation.row * P.row_stride, dilation.column)
    some = max(1, TERMS // volume(sums))  # maps whose weights have room
    f = 0
    while f < out.maps:
        R = filters_at_once(out.maps - f)
        for a in range(0, sums.maps, some):
            part = Size(min(some, sums.maps - a), sums.depth, sums.rows, sums.columns)
            pack_weights(R, part, W.at(f, a, 0, 0, 0), taps, View(V, R, 1), offsets, 0)
            for i in range(N * out.depth):
                n, d = i // out.depth, i % out.depth
                X = Vectors(P.at(n, a, d * stride.depth, 0, 0), 1, stride.row * P.row_stride)
                Z = Vectors(Y.at(n, f, d, 0, 0), Y.map_stride, Y.row_stride)
                terms, first = Terms(V, offsets, 0, part.maps * sums.columns), start if a == 0 else ADD
                correlate_plane(R, terms, X, b.row(f), Z, first, shape, live)
        f += R


@helper
def correlate_plane(R, terms, X, b, Y, start, shape, live):
    """Compute a plane of R filters, in runs of rows that meet the same taps; `terms` are those of a row."""
    sums, rows, row = shape.sums, shape.out.rows, terms.end
    h = 0
    while h < rows:
        count, (first, end) = 1, live_taps(h, live, sums.rows)
        if sums.depth > 1:  # no row of taps is left out
            count, first, end = rows - h, 0, sums.depth * sums.rows
        elif end - first == sums.rows:
            count = min(rows, live.end - (sums.rows - 1) * live.dilation) - h
        run = Terms(terms.weights, terms.offsets, first * row, end * row)
        rows_of_filters(R, run, X.column(h), b, Y.column(h), start, count, shape.out.columns)
        h += count


@seldom
def correlate_packed(N, P: Images, W: Images, b: View, Y: Images, start, shape: Correlation):
    """`correlate`, packing the rows of some positions at a time for R filters."""
    out, stride = shape.out, shape.stride
    panel = panel_shape(ROOM - lanes(P), shape.sums.maps, shape.sums, stride.row, shape.dilation.row, out)
    f = 0
    while f < out.maps:
        R = filters_at_once(out.maps - f)
        for i in range(N * out.depth):
            n, d = i // out.depth, i % out.depth
            for h in range(0, out.rows, panel.rows):
                for o in range(0, out.columns, panel.columns):
                    rows, columns = min(panel.rows, out.rows - h), min(panel.columns, out.columns - o)
                    X = P.at(n, 0, d * stride.depth, h * stride.row, o * stride.column)
                    part = Panel(panel.tall, rows, columns, panel.extra)
                    correlate_panel(R, X, W.at(f, 0, 0, 0, 0), b.row(f), Y.at(n, f, d, h, o), start, shape, part)
        f += R


@helper
def correlate_panel(R, P, W, b, Y, start, shape, panel):
    """Compute R filters at the positions of a panel, from as many maps at a time as it has room for."""
    T, V, offsets = stack_array(P, ROOM), stack_array(P, WEIGHTS), numbers(TERMS)
    sums, dilation, columns = shape.sums, shape.dilation, panel.columns
    high, tall = (
        panel.rows + panel.extra,
        sums.rows if panel.tall else 1,
    )  # rows that are packed, of taps that share them
    each = sums.columns * high * columns  # packed numbers of a map
    maps = min((ROOM - lanes(P)) // each, max(1, TERMS // (sums.rows * sums.columns)))
    taps = Images(T, 0, each, 0, dilation.row * columns, high * columns)
    Z = Vectors(Y, Y.map_stride, Y.row_stride)
    for kd in range(sums.depth):
        for kh in range(0, sums.rows, tall):
            for a in range(0, sums.maps, maps):
                part = Size(min(maps, sums.maps - a), 1, tall, sums.columns)
                for e in range(part.maps):
                    image = P.at(0, a + e, kd * dilation.depth, kh * dilation.row, 0)
                    rows = View(image, shape.stride.row * P.row_stride, shape.stride.column)
                    pack_taps(rows, View(T, columns, 1, e * each), sums.columns, dilation.column, high, columns)
                pack_weights(R, part, W.at(0, a, kd, kh, 0), taps, View(V, R, 1), offsets, 0)
                terms, first = Terms(V, offsets, 0, part.maps * volume(part)), ADD if kd + kh + a else start
                rows_of_filters(R, terms, Vectors(T, 1, 0), b, Z, first, 1, panel.rows * columns)


def unreached_by_correlate(filters, tap_rows, stride, columns, L):
    """List what `correlate` does not reach for some numbers of filters, with L numbers in a vector."""
    heights = set()
    for left in filters:
        while left > 0:
            R = filters_at_once.py_func(left)
            heights.add(R)
            left -= R
    found = unreached_by_product(max(filters)) + [rows for R, rows in _rows.items() if R not in heights]
    pays = [packing_pays.py_func(F, tap_rows, stride, columns, L) for F in filters]
    if all(pays):
        found.append(correlate_in_place)
    if not any(pays):
        found.append(correlate_packed)
    return found


@helper
def forward_by_position(share, P, W, b, y, window):
    """y of an iteration's share, from padded images P that begin with the first sample of the share."""
    taps, out = size_of(W), size_of(y)
    results = Size(share.filters, out.depth, out.rows, out.columns)
    shape = Correlation(taps, results, window.stride, window.dilation)
    weights, Y, bias, start = images(W, taps), images(y, out), View(b, 1, 1), BIAS if b.size else ZERO
    for g in range(window.groups):
        f = g * (out.maps // window.groups) + share.filter
        image, result = P.at(0, g * taps.maps, 0, 0, 0), Y.at(share.first, f, 0, 0, 0)
        own = weights.at(f, 0, 0, 0, 0)
        correlate(share.end - share.first, image, own, bias.row(f), result, start, shape, ALL_LIVE)
