"""Convolution backward to the input with positions of a row in the lanes of a vector, for few maps.

    dX[n, a, i] = sum over f, k with o s + k d = i of W[f, a, k] dY[n, f, o]

The sums of forward (conv_by_position.py) with the taps reversed and filters summed in place of maps, over deltas in a
halo of zeros (`U`). With a stride the cells are taken by their remainder modulo the stride, each with the taps that it
meets (conv_terms.remainder): such cells do not follow each other in dX, so they are computed on the stack (`scatter`).

No race: the caller's iteration owns the samples of dX, and of U where deltas need a halo.
"""

from ..compiler.kernel import helper
from .conv_by_position import Correlation, correlate
from .conv_packing import ROOM
from .conv_terms import ALL_LIVE, Size, Steps, frame_of, images, remainder, remainders, size_of, volume
from .padding import pad_and_dilate
from .tile import panel
from .view import Images, View
from .words import ZERO


@helper
def backward_input_by_position(first, end, W, dy, U, padded, dx, window):
    """dx of the samples from `first` to before `end`, which begin `window.before` cells behind the padded image.

    U has the padded deltas of these samples, of the shape `padded`: if that is the shape of dy, they are in U already.
    """
    taps, out, image, dilation = size_of(W), size_of(dy), size_of(dx), window.dilation
    kernel = Steps(taps.depth, taps.rows, taps.columns)
    frame = frame_of(kernel, window.stride, dilation, out.rows)
    deltas, dX, weights = images(dy.reshape(-1), out), images(dx.reshape(-1), image), images(W.reshape(-1), taps)
    for n in range(first, end if volume(out) < volume(padded) else first):
        pad_and_dilate(deltas.at(n, 0, 0, 0, 0), U.at(n - first, 0, 0, 0, 0), out, padded, frame.gaps, frame.edge)
    for r in range(remainders(frame)):
        part = remainder(r, frame, kernel, dilation, window.before, image)
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
    """A view of the weights from a tap backwards, `step` taps apart: its samples are maps, its maps filters."""
    return Images(
        W, W.map_stride, W.sample_stride, -step.depth * W.depth_stride, -step.row * W.row_stride, -step.column
    )


@helper
def backward_remainder(N, U, W, dX, shape, frame, live):
    """The cells of one remainder, of N samples and one group."""
    step = frame.classes
    if step.depth * step.row * step.column == 1:
        correlate(N, U, W, View(W, 1, 1), dX, ZERO, shape, live)
        return
    cells = Images(
        dX, dX.sample_stride, dX.map_stride, step.depth * dX.depth_stride, step.row * dX.row_stride, step.column
    )
    for n in range(N if volume(shape.out) else 0):
        correlate_apart(U.at(n, 0, 0, 0, 0), W, cells.at(n, 0, 0, 0, 0), shape)


@helper
def correlate_apart(U, W, dX, shape):
    """`correlate` of a sample whose results do not follow each other: some rows of some maps at a time on the stack."""
    T, sums, out = panel(U, ROOM), shape.sums, shape.out
    wide = min(out.columns, ROOM)
    band = min(out.rows, ROOM // wide)
    maps = max(1, min(out.maps, ROOM // (band * wide)))
    if maps < min(out.maps, 8):  # fewer rows rather than fewer maps: those share what is loaded
        maps = min(out.maps, 8)
        band = max(1, ROOM // (maps * wide))
        maps = max(1, min(out.maps, ROOM // (band * wide)))
    for a in range(0, out.maps, maps):
        for d in range(out.depth):
            for h in range(0, out.rows, band):
                for o in range(0, out.columns, wide):
                    part = Size(min(maps, out.maps - a), 1, min(band, out.rows - h), min(wide, out.columns - o))
                    results, taps = images(T, part), volume(sums)
                    if taps:  # a stride larger than the kernel leaves cells out
                        correlate(1, U.at(0, 0, d, h, o), W.at(a, 0, 0, 0, 0), View(W, 1, 1), results, ZERO,
                                  Correlation(sums, part, shape.stride, shape.dilation), ALL_LIVE)  # fmt: skip
                    scatter(results, dX.at(0, a, d, h, o), part, taps == 0)


@helper
def scatter(results, dX, part, empty):
    """The cells dX of a part = the results, or 0 if these are sums of no terms."""
    for i in range(part.maps * part.rows):
        a, h = i // part.rows, i % part.rows
        row = View(results.at(0, a, 0, h, 0), 0, 1)
        cells = View(dX.at(0, a, 0, h, 0), 0, dX.column_stride)
        for w in range(part.columns):
            cells[0, w] = 0 if empty else row[0, w]
