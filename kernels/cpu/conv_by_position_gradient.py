"""The gradient of a convolution's weights with positions in the lanes, behind conv.py, for few filters.

    dW[f, a, k] = sum over samples n and positions o of dY[n, f, o] x~[n, g m + a, o s + k d]    (conv.py)

A row of deltas times the row of the image that a tap meets is a vector of products; a tile holds a few filters by a few
terms of such vectors, which are summed at the end. The terms of a tile are the taps of one row, or, if a row has one
tap, the maps. The loops around the micro-kernel:

    blocks of dW (block_of)                            one iteration each of the caller's prange
      samples, planes and rows of deltas               as many as stay in the first-level cache (in_bands)
        maps and rows of taps                          add_rows_of_taps
          filters by MR, 3 or 1                        add_filters
            terms by 5, 3, 2 or 1                      filters_by_terms
              samples, rows, vectors of a row          micro_kernel

Rows are read in one of three ways:

    directly     where they are
    spread       if rows of deltas end within a vector: the deltas are copied, rows as far apart as those of the image
                 with zeros between them, so that all rows are one long row, without tails
    packed       if rows fill their vectors badly, or the stride leaves gaps: the rows of the image are copied for each
                 tap of a row, one after the other

No race: an iteration owns a block of dW, which is a sum over the whole batch. Blocks depend on shapes only.
"""

from typing import NamedTuple

from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked
from .conv_packing import ROOM, pack_taps, packing_pays, panel_shape
from .conv_terms import Block, Sizes, Window, images_of, size_of, volume
from .padding import copy_row
from .sizes import by_size
from .tile import MASKS, MR, REGISTERS, lanes, stack_array
from .view import Images, View
from .words import dot, hsum_add, store, zeros

NEAR = 8192  # numbers of deltas that are used again and again: they stay in the first-level cache
EIGHT = 8  # filters whose deltas are used together
FILTERS = 16  # filters of a block, at most


class Positions(NamedTuple):
    """The range of a sum: samples, the rows of each, the positions of a row."""

    samples: int
    rows: int
    columns: int


# -- the way of rows ---------------------------------------------------------------------------------------------------


@helper
def backward_weight_block(block, x, dy, dW, window):
    """Compute a block of dW from the padded images x."""
    image, taps, out = size_of(x), size_of(dW), size_of(dy)
    a = block.filter // (out.maps // window.groups) * taps.maps + block.map
    X, dY, weights = images_of(x), images_of(dy), images_of(dW)
    weight_gradient(x.shape[0], X.at(0, a, 0, 0, 0), dY.at(0, block.filter, 0, 0, 0),
                    weights.at(block.filter, block.map, 0, 0, 0), block, Sizes(image, taps, out), window)  # fmt: skip


@linked
def weight_gradient(N, X: Images, dY: Images, dW: Images, block: Block, sizes: Sizes, window: Window):
    """dW of a block of whole rows of taps: sums over N samples. X, dY and dW begin at its first map and filter."""
    taps, stride, columns, pitch = sizes.sums, window.stride, sizes.out.columns, sizes.image.columns
    for f in range(block.filters):
        for a in range(block.maps):
            for k in range(block.first, block.end):
                dW[f, a, 0, 0, k] = 0
    filters = min(EIGHT, block.filters) if MASKS else EIGHT
    if packing_pays(filters, taps.rows, stride.column, columns, lanes(X)):
        add_packed(N, X, dY, dW, block, sizes, window)
    elif stride.row == 1 and spreads(columns, pitch, lanes(X)):
        add_spread(N, X, dY, dW, block, sizes, window, pitch)
    else:
        add_directly(N, X, dY, dW, block, sizes, window, columns)


@helper
def spreads(columns, pitch, L):
    """Return whether rows of deltas are spread: then vectors run on over the end of a row. Masks cost less."""
    tails = not MASKS and columns % L > 0 and L <= columns < pitch <= columns + L
    return tails and 4 * pitch <= 5 * ((columns + L - 1) // L * L) and EIGHT * pitch <= NEAR


def in_bands(add_band):
    """Add to dW the products of all deltas, by `add_band` as many as stay in cache for all maps of the block.

    `pitch` is what a row of deltas takes there.
    """

    @inlined
    def add_bands(N, X, dY, dW, block, sizes, window, pitch):
        out, stride = sizes.out, window.stride
        band, at_once = min(out.rows, max(1, NEAR // (EIGHT * pitch))), max(1, NEAR // (EIGHT * out.rows * pitch))
        for n in range(0, N, at_once):
            for d in range(out.depth):
                for h in range(0, out.rows, band):
                    over = Positions(min(at_once, N - n), min(band, out.rows - h), out.columns)
                    cells = X.at(n, 0, d * stride.depth, h * stride.row, 0)
                    for f in range(0, block.filters, EIGHT):
                        add_band(min(EIGHT, block.filters - f), over, cells, dY.at(n, f, d, h, 0),
                                 dW.at(f, 0, 0, 0, 0), block, sizes, window)  # fmt: skip

    return add_bands


@inlined
def add_band(filters, over, X, dY, dW, block, sizes, window):
    """Add the products of some rows where they are: of one long row, if rows follow each other here and there."""
    follow = sizes.sums.columns == 1 and window.stride.row * X.row_stride == over.columns
    rows = Positions(over.samples, 1, over.rows * over.columns) if follow else over
    add_rows_of_taps(filters, rows, X, dY, dW, block, sizes, window)


@inlined
def add_band_spread(filters, over, X, dY, dW, block, sizes, window):
    """Add the products of some rows of deltas, which are copied, as far apart as those of the image."""
    pitch = X.row_stride
    each = over.rows * pitch
    Z = Images(stack_array(X, NEAR), filters * each, each, 0, pitch, 1)
    for i in range(over.samples * filters):
        n, f = i // filters, i % filters
        deltas, copied = dY.at(n, f, 0, 0, 0), Z.at(n, f, 0, 0, 0)
        spread(View(deltas, dY.row_stride, 1), View(copied, pitch, 1), over.rows, over.columns)
    row = Positions(over.samples, 1, each - pitch + over.columns)
    add_rows_of_taps(filters, row, X, Z, dW, block, sizes, window)


add_directly, add_spread = in_bands(add_band), in_bands(add_band_spread)


@linked
def spread(deltas: View, Z: View, rows, columns):
    """Copy rows of deltas into Z, with zeros between them."""
    L, pitch = lanes(deltas), Z.row_stride
    for h in range(rows):
        if h + 1 < rows:  # not more than a vector of them, before the row itself
            store(Z.at(h, pitch - L), zeros(deltas, 1, 1))
        copy_row(Z.row(h), deltas.row(h), columns)


# -- packed rows -------------------------------------------------------------------------------------------------------


@inlined
def add_packed(N, X, dY, dW, block, sizes, window):
    """Add the products of all deltas, by packed rows of the image: as many rows and samples as have room."""
    taps, out, stride, room = sizes.sums, sizes.out, window.stride, ROOM - lanes(X)
    panel = panel_shape(room, 1, taps, stride.row, window.dilation.row, out)
    tall = panel.tall and block.end - block.first == volume(taps)  # all rows of taps share what is packed
    for h in range(0, out.rows, panel.rows):
        for o in range(0, out.columns, panel.columns):
            rows, columns = min(panel.rows, out.rows - h), min(panel.columns, out.columns - o)
            at_once = max(1, room // (taps.columns * (rows + (panel.extra if tall else 0)) * columns))
            for n in range(0, N, at_once):
                add_packed_rows(Positions(min(at_once, N - n), rows, columns),
                                X.at(n, 0, 0, h * stride.row, o * stride.column), dY.at(n, 0, 0, h, o), dW, tall, block,
                                sizes, window)  # fmt: skip


@inlined
def add_packed_rows(over, X, dY, dW, tall, block, sizes, window):
    """Add the products of some rows: X is packed for each map and row of taps, or, if `tall`, for all rows at once."""
    taps, dilation, stride, columns = sizes.sums, window.dilation, window.stride, over.columns
    at_once, row = taps.rows if tall else 1, Positions(over.samples, 1, over.rows * columns)
    high = over.rows + (at_once - 1) * dilation.row
    each = high * columns
    packed = Images(stack_array(X, ROOM), taps.columns * each, each, 0, columns, 1)  # maps are the taps of a row
    for a in range(block.maps):
        for d in range(sizes.out.depth):
            for k in range(block.first // taps.columns, block.end // taps.columns, at_once):
                cells = X.at(0, a, d * stride.depth + k // taps.rows * dilation.depth, k % taps.rows * dilation.row, 0)
                pack_samples(over.samples, cells, packed, taps.columns, high, columns, window)
                for i in range(at_once):
                    weights = View(dW.at(0, a, 0, 0, (k + i) * taps.columns), dW.sample_stride, 1)
                    add_filters(block.filters, taps.columns, row, packed.at(0, 0, 0, i * dilation.row, 0),
                                dY.at(0, 0, d, 0, 0), weights)  # fmt: skip


@inlined
def pack_samples(samples, X, packed, taps, rows, columns, window):
    """For each sample and tap of a row: `rows` rows of every stride-th cell that the tap meets."""
    for n in range(samples):
        cells = View(X.at(n, 0, 0, 0, 0), window.stride.row * X.row_stride, window.stride.column)
        pack_taps(cells, View(packed.at(n, 0, 0, 0, 0), columns, 1), taps, window.dilation.column, rows, columns)


# -- products of rows --------------------------------------------------------------------------------------------------


@inlined
def add_rows_of_taps(filters, over, X, dY, dW, block, sizes, window):
    """Add to dW the products of some rows of deltas: for all maps and rows of taps of the block."""
    taps, dilation, rows = sizes.sums, window.dilation, window.stride.row * X.row_stride
    single = taps.columns == 1  # then the terms of a tile are maps
    terms, apart = (block.maps, X.map_stride) if single else (taps.columns, dilation.column)
    for a in range(1 if single else block.maps):
        for k in range(block.first // taps.columns, block.end // taps.columns):
            cells = X.at(0, a, k // taps.rows * dilation.depth, k % taps.rows * dilation.row, 0)
            weights = dW.at(0, a, 0, 0, k * taps.columns)
            add_filters(filters, terms, over, Images(cells, X.sample_stride, apart, 0, rows, 1), dY,
                        View(weights, dW.sample_stride, dW.map_stride if single else 1))  # fmt: skip


def micro_kernel(filters, terms):
    """dW (filters, terms) += sums of products: filters are maps of dY, terms are maps of X."""

    @inlined
    def multiply(over, X, dY, dW):
        L = lanes(dY)
        tile, whole = zeros(dY, filters, terms), over.columns - over.columns % L
        for n in range(over.samples):
            for h in range(over.rows):
                z, x = View(dY.at(n, 0, 0, h, 0), dY.map_stride, 1), View(X.at(n, 0, 0, h, 0), X.map_stride, 1)
                for i in range(0, whole, L):
                    tile = dot(tile, z.column(i), x.column(i))
                if whole < over.columns:
                    tile = dot(tile, z.column(whole), x.column(whole), over.columns - whole)
        hsum_add(dW, tile)

    return multiply


def filters_by_terms(filters, sizes):
    """dW (filters, terms) += ..., as many terms at a time as there are registers for: one of `sizes`."""
    add = by_size(lambda terms: micro_kernel(filters, terms), sizes)
    most, some = sizes[:2]

    @linked
    def add_terms(terms, over: Positions, X: Images, dY: Images, dW: View):
        k = 0
        while k < terms:
            left = terms - k
            size = some if left == most + 1 else left  # rather than leave one behind
            k += add(size, over, X.at(0, k, 0, 0, 0), dY, dW.column(k))

    return add_terms


# Terms at a time, by the number of filters.
SIZES = {MR: (3, 2, 1), 3: (5, 3, 1) if REGISTERS == 32 else (3, 2, 1), 1: (5, 3, 1)}
ADD_TERMS = {filters: filters_by_terms(filters, sizes) for filters, sizes in SIZES.items()}
add_terms_of_one = ADD_TERMS[1]
by_filters = by_size(ADD_TERMS.get, (MR, 3, 1))


@helper
def add_filters(filters, terms, over, X, dY, dW):
    """dW (filters, terms) += sums of products over some positions: filters are maps of dY, terms are maps of X."""
    f = 0
    while f < filters:
        left = filters - f
        f += by_filters(3 if left == 6 else left, terms, over, X, dY.at(0, f, 0, 0, 0), dW.row(f))


# -- how the gradient is divided ---------------------------------------------------------------------------------------


@helper
def shares(F, taps, groups):
    """Return filters and maps of a block, and runs of rows of taps: about 8 blocks for F filters in each group."""
    m, rows = taps.maps, taps.depth * taps.rows
    filters = min(F, FILTERS)
    blocks = groups * ((F + filters - 1) // filters)
    maps = max(1, min(m, m * blocks // 8))
    blocks *= (m + maps - 1) // maps
    if blocks >= 4:
        return filters, maps, 1
    if blocks == 1 and filters >= 6 and filters % 2 == 0:
        return filters // 2, maps, min(rows, 2)
    return filters, maps, rows


@helper
def blocks_of(dW, groups):
    """Return the number of blocks of dW."""
    F = dW.shape[0] // groups
    filters, maps, runs = shares(F, size_of(dW), groups)
    return groups * ((F + filters - 1) // filters) * ((dW.shape[1] + maps - 1) // maps) * runs


@helper
def block_of(i, dW, groups):
    """Return the i-th block of dW."""
    F, taps = dW.shape[0] // groups, size_of(dW)
    filters, maps, runs = shares(F, taps, groups)
    rows, across, down = taps.depth * taps.rows, (taps.maps + maps - 1) // maps, (F + filters - 1) // filters
    run, i = i % runs, i // runs
    a, i = i % across * maps, i // across
    g, f = i // down, i % down * filters
    first, end = run * rows // runs * taps.columns, (run + 1) * rows // runs * taps.columns
    return Block(g * F + f, min(filters, F - f), a, min(maps, taps.maps - a), first, end)
