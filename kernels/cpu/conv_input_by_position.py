"""Convolution backward to the input with positions of a row in the lanes of a vector, for few maps.

    dX[n, a, i] = sum over f, k with o s + k d = i of W[f, a, k] dY[n, f, o]

The sums of forward (conv_by_position.py) with the taps reversed and filters summed in place of maps, over deltas in a
halo of zeros (`U`). With a stride the cells are taken by their remainder modulo the stride, each with the taps that it
meets (conv_terms.remainder): such cells do not follow each other in dX, so they are computed on the stack (`scatter`).

No race: the caller's iteration owns the samples of dX, and of U where deltas need a halo.
"""

from ..compiler.kernel import helper
from ..compiler.linked import linked
from .conv_by_position import Correlation, correlate
from .conv_packing import ROOM
from .conv_terms import ALL_LIVE, Size, Steps, frame_of, images, remainder, remainders, size_of, volume
from .padding import pad_and_dilate
from .tile import stack_array
from .view import Images, View
from .words import ZERO


@helper
def backward_input_by_position(first, end, W, dy, U, padded, dx, window):
    """dx of the samples from `first` to before `end`, which begin `window.pad_before` cells behind the padded image.

    U has the padded deltas of these samples, of the shape `padded`: if that is the shape of dy, they are in U already.
    """
    taps, out, image, dilation = size_of(W), size_of(dy), size_of(dx), window.dilation
    kernel = Steps(taps.depth, taps.rows, taps.columns)
    frame = frame_of(kernel, window.stride, dilation, out.rows)
    deltas, dX, weights = images(dy, out), images(dx, image), images(W, taps)
    for n in range(first, end if volume(out) < volume(padded) else first):
        pad_and_dilate(deltas.at(n, 0, 0, 0, 0), U.at(n - first, 0, 0, 0, 0), out, padded, frame.gaps, frame.edge)
    for r in range(remainders(frame)):
        part = remainder(r, frame, kernel, dilation, window.pad_before, image)
        for g in range(window.groups):
            f = g * (out.maps // window.groups)
            tap = weights.at(f, 0, part.tap.depth, part.tap.row, part.tap.column)
            source = U.at(0, f, part.deltas.depth, part.deltas.row, part.deltas.column)
            result = dX.at(first, g * taps.maps, part.cell.depth, part.cell.row, part.cell.column)
            sums = Size(out.maps // window.groups, part.taps.depth, part.taps.row, part.taps.column)
            cells = Size(taps.maps, part.cells.depth, part.cells.row, part.cells.column)
            shape = Correlation(sums, cells, Steps(1, 1, 1), dilation)
            backward_remainder(end - first, source, reversed_taps(tap, frame.classes), result, shape, frame, part.live)


@helper
def reversed_taps(W, step):
    """Return a view of the weights from a tap backwards, `step` taps apart: its samples are maps, its maps filters."""
    return Images(
        W, W.map_stride, W.sample_stride, -step.depth * W.depth_stride, -step.row * W.row_stride, -step.column
    )


@helper
def backward_remainder(N, U, W, dX, shape, frame, live):
    """Compute the cells of one remainder, of N samples and one group."""
    step = frame.classes
    if step.depth * step.row * step.column == 1:
        correlate(N, U, W, View(W, 1, 1), dX, ZERO, shape, live)
        return
    cells = Images(
        dX, dX.sample_stride, dX.map_stride, step.depth * dX.depth_stride, step.row * dX.row_stride, step.column
    )
    empty = volume(shape.sums) == 0  # a stride larger than the kernel leaves cells out
    for n in range(N if volume(shape.out) else 0):
        if empty:
            clear(cells.at(n, 0, 0, 0, 0), shape.out)
        else:
            correlate_apart(U.at(n, 0, 0, 0, 0), W, cells.at(n, 0, 0, 0, 0), shape)


@helper
def correlate_apart(U, W, dX, shape):
    """`correlate` of a sample whose results do not follow each other: a part of them at a time, on the stack."""
    T, out, most = stack_array(U, ROOM), shape.out, part_size(shape.out)
    for a in range(0, out.maps, most.maps):
        for d in range(out.depth):
            for h in range(0, out.rows, most.rows):
                for o in range(0, out.columns, most.columns):
                    rows, columns = min(most.rows, out.rows - h), min(most.columns, out.columns - o)
                    part = Size(min(most.maps, out.maps - a), 1, rows, columns)
                    own = Correlation(shape.sums, part, shape.stride, shape.dilation)
                    source, taps, results = U.at(0, 0, d, h, o), W.at(a, 0, 0, 0, 0), images(T, part)
                    correlate(1, source, taps, View(W, 1, 1), results, ZERO, own, ALL_LIVE)
                    scatter(results, dX.at(0, a, d, h, o), part)


@helper
def part_size(out):
    """Return the shape of the results, all those of a plane if possible, that are computed at once."""
    columns = min(out.columns, ROOM)
    rows = min(out.rows, ROOM // columns)
    maps = max(1, min(out.maps, ROOM // (rows * columns)))
    if maps < min(out.maps, 8):  # fewer rows rather than fewer maps: those share what is loaded
        rows = max(1, ROOM // (min(out.maps, 8) * columns))
        maps = max(1, min(out.maps, ROOM // (rows * columns)))
    return Size(maps, 1, rows, columns)


@helper
def scatter(results, dX, size):
    """Copy the results to the cells dX, of the shape `size`."""
    for i in range(size.maps * size.rows):
        a, h = i // size.rows, i % size.rows
        row, cells = View(results.at(0, a, 0, h, 0), 0, 1), View(dX.at(0, a, 0, h, 0), 0, dX.column_stride)
        for w in range(size.columns):
            cells[0, w] = row[0, w]


@linked
def clear(dX: Images, size: Size):
    """Set the cells dX, of the shape `size`, to 0."""
    for a in range(size.maps):
        for i in range(size.depth * size.rows):
            cells = View(dX.at(0, a, i // size.rows, i % size.rows, 0), 0, dX.column_stride)
            for w in range(size.columns):
                cells[0, w] = 0
