"""The gradient of the weights with filters in the lanes of vectors: the loops behind conv_by_filter.backward_weight.

    dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, a, o s + k d]                        (conv.py)

Lanes are filters, so deltas are transposed to Z[position, filter]; a tile has R maps (or taps of a row) by C vectors of
filters. The loops around the micro-kernel (`sum_of_positions`), which `gradient` runs for up to two vectors of filters
and some maps of their group::

    for PORTION samples                           then D is added to dW
      for each sample, for each band of rows      transpose_deltas: Z of at most BAND numbers, in first-level cache
        for each tap (or row of taps)
          for up to HEIGHT maps (or taps)         D[(map, tap), filter] += x~[map, position + tap] Z[position, filter]
            for each position of the band         R x C vectors of sums stay in registers

The sum of a band is made in registers and then added to D, and those of a portion are added to dW: the error of a sum
grows with its terms.

No race: the caller's iteration owns its filters and maps of dW; D and Z lie on its own stack. Blocks and the order of
sums depend on shapes only, never on threads.
"""

from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked
from .conv_by_filter_tiles import BAND, HEIGHT, HEIGHTS, ROOM, Band, band_of
from .conv_terms import Size, Window, every, volume
from .rearrange import transpose
from .sizes import of_size
from .tile import lanes, stack_array
from .view import Images, View
from .words import load, outer, store, zeros

PORTION = 512  # samples whose gradients are summed before they are added to those of all


@helper
def shares(filters, maps, taps, groups, width):
    """Divide the gradient of each group into filters and maps of a block: eight blocks, unless that does not pay."""
    filters, panels = min(filters, width), groups * ((filters + width - 1) // width)
    least = max(1, min(maps, (63 + taps) // taps))  # maps that make transposing the deltas for a block pay
    return filters, min(max(least, min(maps, maps * panels // 8)), ROOM // (taps * width))


# -- the micro-kernel --------------------------------------------------------------------------------------------------


def sum_of_positions(R, C):
    """D (R maps, C vectors of filters) += the sum over a band's positions of P's maps times the row of Z."""

    @inlined
    def add(P, Z, band, D):
        tile = zeros(P, R, C)
        for h in range(band.rows):
            image = View(P.at(0, 0, 0, h, 0), P.map_stride, P.column_stride)
            for o in range(band.columns):
                tile = outer(tile, image.column(o), Z)
                Z = Z.row(1)
        store(D, tile + load(D, R, C))

    return add


def sum_of_positions_by_turns(R, C):
    """`sum_of_positions` of small tiles: two sums of every other position, since one would wait for itself."""

    @inlined
    def add(P, Z, band, D):
        even, odd = zeros(P, R, C), zeros(P, R, C)
        for h in range(band.rows):
            image = View(P.at(0, 0, 0, h, 0), P.map_stride, P.column_stride)
            for o in range(0, band.columns - 1, 2):
                even = outer(even, image.column(o), Z)
                odd = outer(odd, image.column(o + 1), Z.row(1))
                Z = Z.row(2)
            if band.columns % 2:
                even = outer(even, image.column(band.columns - 1), Z)
                Z = Z.row(1)
        store(D, even + odd + load(D, R, C))

    return add


def sums_of_positions(C, micro_kernel):
    """`micro_kernel` of C vectors of filters and any number of maps."""
    tile_of = of_size(lambda R: micro_kernel(R, C), HEIGHTS)

    @linked
    def add(maps, P: Images, Z: View, band: Band, D: View):
        """D (maps, filters) += the sums over a band, in tiles of about the same height."""
        rows = View(Z, C * lanes(P), 1)
        tiles = (maps + HEIGHT - 1) // HEIGHT
        high, more = maps // tiles, maps % tiles
        for i in range(tiles):
            R = high + 1 if i < more else high
            tile_of(R, P, rows, band, D)
            P, D = P.at(0, R, 0, 0, 0), D.row(R)

    return add


sums_of_two, sums_of_one = sums_of_positions(2, sum_of_positions), sums_of_positions(1, sum_of_positions_by_turns)
three_by_two = sum_of_positions_by_turns(3, 2)


@linked
def sums_of_three_maps(P: Images, Z: View, band: Band, D: View):
    """D (three maps, two vectors of filters) += the sums over a band."""
    three_by_two(P, View(Z, 2 * lanes(P), 1), band, D)


# -- the loops around it -----------------------------------------------------------------------------------------------


@linked
def gradient(N, P: Images, dY: Images, dW: Images, sums: Size, out: Size, window: Window):
    """dW of `out.maps` filters (at most two vectors) and `sums.maps` maps: sums over N padded images P, deltas dY."""
    S, T, L = stack_array(P, ROOM), stack_array(P, BAND), lanes(P)
    width = 2 * L if out.maps > L else L
    D, Z, band = View(S, width, 1), View(T, width, 1), band_of(out, width)
    for first in range(0, N, PORTION):
        for i in range(sums.maps * volume(sums) * width):
            S[i] = 0
        for n in range(first, min(N, first + PORTION)):
            add_sample(P.at(n, 0, 0, 0, 0), dY.at(n, 0, 0, 0, 0), Z, D, sums, out, band, window)
        add_to_weights(dW, D, out.maps, sums, first > 0)


@inlined
def add_sample(P, dY, Z, D, sums, out, band, window):
    """D += the gradient of a sample, one band after the other."""
    stride = window.stride
    for d in range(out.depth):
        for h in range(0, out.rows, band.rows):
            for o in range(0, out.columns, band.columns):
                some = Band(min(band.rows, out.rows - h), min(band.columns, out.columns - o))
                transpose_deltas(out.maps, some.rows * some.columns, View(dY.at(0, 0, d, h, o), dY.map_stride, 1), Z)
                image = P.at(0, 0, d * stride.depth, h * stride.row, o * stride.column)
                if sums.maps < 4 and sums.maps < sums.columns:  # taps fill a tile better
                    add_rows_of_taps(image, Z, D, sums, some, window)
                else:
                    add_taps(image, Z, D, sums, some, window)


@inlined
def add_taps(image, Z, D, sums, band, window):
    """D += the sums over a band, in tiles of maps, one tap after the other."""
    taps, positions, K = every(image, window.dilation), every(image, window.stride), volume(sums)
    for k in range(sums.depth * sums.rows):
        for w in range(sums.columns):
            first = taps.at(0, 0, k // sums.rows, k % sums.rows, w)
            totals = View(D.row(k * sums.columns + w), K * D.row_stride, 1)
            add_tiles(sums.maps, side_by_side(first, taps.map_stride, positions), Z, band, totals)


@inlined
def add_rows_of_taps(image, Z, D, sums, band, window):
    """D += the sums over a band, in tiles of the taps of a row, one map and one row of taps after the other."""
    taps, positions, rows = every(image, window.dilation), every(image, window.stride), sums.depth * sums.rows
    for a in range(sums.maps):
        for k in range(rows):
            first = taps.at(0, a, k // sums.rows, k % sums.rows, 0)
            totals = D.row((a * rows + k) * sums.columns)
            add_tiles(sums.columns, side_by_side(first, taps.column_stride, positions), Z, band, totals)


@helper
def side_by_side(first, stride, positions):
    """Planes of positions that begin `stride` numbers apart, as the maps of one image."""
    return Images(first, 0, stride, 0, positions.row_stride, positions.column_stride)


@inlined
def add_tiles(maps, P, Z, band, D):
    """D += the sums over a band of maps, or of what `side_by_side` takes for maps."""
    if Z.row_stride == lanes(P):
        sums_of_one(maps, P, Z, band, D)
    elif maps == 3:
        sums_of_three_maps(P, Z, band, D)
    else:
        sums_of_two(maps, P, Z, band, D)


@linked
def transpose_deltas(R, count, dY: View, Z: View):
    """Z[o, r] = dY[r, o] at `count` positions of R filters; the rest of a row of Z has no meaning."""
    deltas, width, L = View(dY, dY.row_stride, 1), Z.row_stride, lanes(Z)
    if count < L:
        for o in range(count):
            for r in range(width):
                Z[o, r] = deltas[min(r, R - 1), o]
        return
    for r in range(0, width, L):
        for o in range(0, count, L):
            at = min(o, count - L)  # the last squares overlap
            transpose(Z.at(at, r), deltas.at(min(r, R - 1), at), max(1, R - r))


@helper
def add_to_weights(dW, D, filters, sums, more):
    """dW[f, a, k] = D[(a, k), f], added to what a portion before left there if there are `more`."""
    K = volume(sums)
    for f in range(filters):
        for a in range(sums.maps):
            taps, totals = View(dW.at(f, a, 0, 0, 0), K, 1), D.at(a * K, f)
            for k in range(K):
                taps[0, k] = totals[k, 0] + (taps[0, k] if more else 0.0)
