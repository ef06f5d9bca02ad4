"""The terms of a convolution: named shapes, packed weights, and the taps that meet a cell.

A result of a convolution is a sum over terms: maps and, in each map, taps. `pack_weights` lays the weights of a tile's
results out in the order of the terms, and tabulates where in the image each term lies.

Backward to the input moves the taps, reversed, over the deltas. With a stride s it is s products in each dimension:
cells whose position leaves the remainder r meet only the taps r, r + s, ... (`remainder`). The deltas lie in a frame of
zeros as wide as the taps reach.
"""

from typing import NamedTuple

from ..compiler.kernel import helper, inlined
from ..compiler.linked import linked, places
from .rearrange import transpose
from .tile import lanes
from .view import Images, View


class Steps(NamedTuple):
    """A number for each spatial dimension: a stride, a dilation, a position, a count."""

    depth: int
    row: int
    column: int


class Size(NamedTuple):
    """The shape of a sample: of an image, of a result, or of what is summed (maps, and taps in each dimension)."""

    maps: int
    depth: int
    rows: int
    columns: int


class Window(NamedTuple):
    """The window of a layer. `pad_before` is the padding before each dimension; `border` indexes BORDERS."""

    stride: Steps
    dilation: Steps
    pad_before: Steps
    groups: int
    border: int


class Sizes(NamedTuple):
    """The shapes of one sample: the image, what is summed for a result, the results."""

    image: Size
    sums: Size
    out: Size


class Share(NamedTuple):
    """The results of one iteration of forward: samples from `first` to before `end`, `filters` of each group."""

    first: int
    end: int
    filter: int  # the first one of the group
    filters: int


class Block(NamedTuple):
    """The results of one iteration of backward_weight: filters, maps of their group, taps from `first` to `end` - 1."""

    filter: int
    filters: int
    map: int
    maps: int
    first: int
    end: int


class LiveRows(NamedTuple):
    """The rows of a plane that may hold other numbers than 0: from `first` to before `end`, taps `dilation` apart."""

    first: int
    end: int
    dilation: int


ALL_LIVE = LiveRows(0, 2**30, 1)


@helper
def steps(triple):
    """Return a kernel's tuple of three numbers, named."""
    return Steps(triple[0], triple[1], triple[2])


@helper
def window(stride, dilation, groups, pad_before, border):
    """Return a kernel's arguments, named."""
    return Window(steps(stride), steps(dilation), steps(pad_before), groups, border)


@helper
def size_of(array):
    """Return the shape of a sample of an array (N, C, D, H, W); of weights: maps and taps."""
    return Size(array.shape[1], array.shape[2], array.shape[3], array.shape[4])


@helper
def volume(size):
    """Numbers of one map."""
    return size.depth * size.rows * size.columns


@helper
def images(data, size, first=0):
    """Return a view of samples of a shape, one after the other, in a flat array from number `first` on."""
    each = volume(size)
    return Images(data, size.maps * each, each, size.rows * size.columns, size.columns, 1, first)


@helper
def images_of(array):
    """Return a view of an array (N, C, D, H, W)."""
    return images(array.reshape(-1), size_of(array))


@helper
def every(P, step):
    """Return the cells of a view of images that lie `step` apart."""
    return Images(
        P, P.sample_stride, P.map_stride, P.depth_stride * step.depth, P.row_stride * step.row,
        P.column_stride * step.column,
    )  # fmt: skip


@linked
def pack_weights(R, sums: Size, W: Images, P: Images, V: View, terms: places, first):
    """V[k, r] = W of result r and term k, then zeros to the end of the row; terms[k] = where in P the term lies.

    Terms are counted from `first`. W's samples are results. The strides of P are those from map to map and from tap to
    tap. Rows of taps are outermost, so that those at a border can be left out.
    """
    k, row, L = first, View(V.row(first), V.row_stride, 1), lanes(V)  # tells LLVM: contiguous
    K, along = sums.maps * sums.columns, W.column_stride == 1 and W.map_stride == sums.columns
    turned = sums.depth * sums.rows == 1 and along and V.row_stride == R and R % L == 0 and K >= L
    if turned:  # each result's weights lie in the order of the terms
        _pack_squares(R, K, View(W, W.sample_stride, 1), row)
    copied, width = (0, 0) if turned else (R, V.row_stride)
    for d in range(sums.depth):
        for h in range(sums.rows):
            for a in range(sums.maps):
                place = a * P.map_stride + d * P.depth_stride + h * P.row_stride
                taps = View(W.at(0, a, d, h, 0), W.sample_stride, W.column_stride)
                for w in range(sums.columns):
                    terms[k] = place + w * P.column_stride
                    _pack_term(copied, width, taps.column(w), row)
                    k, row = k + 1, row.row(1)


@inlined
def _pack_squares(R, K, W, V):
    """V (K, R) = W (R, K), transposed, in squares of which the last ones may overlap."""
    L = lanes(V)
    for r in range(0, R, L):
        for k in range(0, K, L):
            at = min(k, K - L)
            transpose(V.at(at, r), W.at(r, at))


@inlined
def _pack_term(R, width, results, row):
    """Copy the first R of a column of results to a row of `width` numbers, then zeros."""
    for r in range(R):
        row[0, r] = results[r, 0]
    for r in range(R, width):
        row[0, r] = 0


@helper
def live_taps(row, live, taps):
    """Return the first and the last + 1 of `taps` rows of taps that meet a live row, for the result's row `row`."""
    first = min(taps, max(0, (live.first - row + live.dilation - 1) // live.dilation))
    return first, max(first, min(taps, (live.end - 1 - row) // live.dilation + 1))


# -- remainders of the stride ------------------------------------------------------------------------------------------


class Remainder(NamedTuple):
    """Cells of the input that lie `classes` apart, and the taps that they meet, `classes` apart too, reversed."""

    cell: Steps  # the first cell
    cells: Steps  # how many in each dimension
    tap: Steps  # the first tap
    taps: Steps  # how many
    deltas: Steps  # where in the frame the first tap of the first cell lies
    live: LiveRows  # the rows of the frame that hold deltas, counted from there


class Frame(NamedTuple):
    """Deltas in a frame of zeros, spread by `gaps`, and the remainders that are computed one by one."""

    classes: Steps  # remainders that are computed separately; 1 with dilation, where deltas get gaps instead
    edge: Steps  # zeros before the deltas: as far as the taps of a remainder reach
    gaps: Steps  # from delta to delta
    rows: int  # from the first row of deltas to the last one


@helper
def frame_of(taps, stride, dilation, delta_rows):
    """Return the frame in which `backward_input` of these taps needs deltas, of `delta_rows` rows."""
    d = stride.depth if dilation.depth == 1 else 1
    h = stride.row if dilation.row == 1 else 1
    w = stride.column if dilation.column == 1 else 1
    edge = Steps(
        (taps.depth - 1) // d * dilation.depth, (taps.row - 1) // h * dilation.row,
        (taps.column - 1) // w * dilation.column,
    )  # fmt: skip
    gaps = Steps(stride.depth // d, stride.row // h, stride.column // w)
    return Frame(Steps(d, h, w), edge, gaps, (delta_rows - 1) * gaps.row + 1)


@helper
def remainders(frame):
    """Return the number of remainders."""
    return frame.classes.depth * frame.classes.row * frame.classes.column


@helper
def _count(n, step):
    """Return the number of multiples of `step` below n, from 0 on."""
    return (n + step - 1) // step


@helper
def remainder(r, frame, taps, dilation, pad_before, image):
    """Return the r-th remainder of an image padded by `pad_before`."""
    step = frame.classes
    cell = Steps(r // (step.row * step.column), r // step.column % step.row, r % step.column)
    place = Steps(cell.depth + pad_before.depth, cell.row + pad_before.row, cell.column + pad_before.column)
    first = Steps(place.depth % step.depth, place.row % step.row, place.column % step.column)
    met = Steps(
        _count(taps.depth - first.depth, step.depth), _count(taps.row - first.row, step.row),
        _count(taps.column - first.column, step.column),
    )  # fmt: skip
    tap = Steps(
        first.depth + (met.depth - 1) * step.depth, first.row + (met.row - 1) * step.row,
        first.column + (met.column - 1) * step.column,
    )  # fmt: skip
    cells = Steps(
        _count(image.depth - cell.depth, step.depth), _count(image.rows - cell.row, step.row),
        _count(image.columns - cell.column, step.column),
    )  # fmt: skip
    deltas = Steps(
        place.depth // step.depth + frame.edge.depth - (met.depth - 1) * dilation.depth,
        place.row // step.row + frame.edge.row - (met.row - 1) * dilation.row,
        place.column // step.column + frame.edge.column - (met.column - 1) * dilation.column,
    )
    top = frame.edge.row - deltas.row
    return Remainder(cell, cells, tap, met, deltas, LiveRows(top, top + frame.rows, dilation.row))
