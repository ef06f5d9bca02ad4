"""Means of windows: sums of columns in a buffer, a vector of windows at a time.

    forward    sum_rows        T = the sum of the rows that a row of windows sees: a window becomes a row of numbers
               mean_row        the sum of each window's columns, divided by its cells
    backward   divide          each window's share for a cell
               spread          shares `stride` apart in a row of zeros
               add_shares      every cell takes the shares of the windows that see its column, in every row

No loop has a case for borders. A vector may write over the start of the next row of results, which is written later;
writes never pass the end of the map's results.

Windows too wide for a buffer are summed cell by cell.
"""

from typing import NamedTuple

from ..compiler.kernel import inlined
from ..compiler.linked import array, linked
from .pooling_windows import ROOM, Rows, Windows, cells_across, columns_of, row_pitch, row_place, rows_of, volume
from .pooling_words import fill_row, over, ramp, row, times
from .rearrange import halves, store_interleaved
from .tile import lanes
from .view import View
from .words import load, most, store, zeros


class Span(NamedTuple):
    """Adjacent windows of a row, and the columns that they see."""

    count: int  # windows
    size: int  # columns of a window
    step: int  # columns from window to window
    start: int  # the first column that they see; it may lie before the map
    cells: int  # columns that they see
    width: int  # columns of the map


@inlined
def span_of(ow, count, windows):
    """Return the columns that `count` windows from the ow-th of a row on see."""
    size, stride = windows.size.column, windows.stride.column
    start, cells = ow * stride - windows.pad_before.column, cells_across(count, size, stride)
    return Span(count, size, stride, start, cells, windows.image.column)


# -- forward -----------------------------------------------------------------------------------------------------------


@inlined
def average_pieces(P, i, windows, pieces, padded, T, Y):
    """Y of map i by way of sums of columns in the buffer T; with `padded` padding counts."""
    size, out, pitch = windows.size, windows.out, row_pitch(pieces.count, windows, lanes(P))
    last, end = (i + 1) * volume(windows.image), (i + 1) * volume(out)
    for od in range(out.depth):
        for top in range(0, out.row, pieces.rows):
            for ow in range(0, out.column, pieces.count):
                span = span_of(ow, min(pieces.count, out.column - ow), windows)
                count = min(pieces.rows, out.row - top)
                for r in range(count):
                    sum_rows(P, rows_of(i, od, top + r, windows), span, last, row(T, r * pitch))
                for r in range(count):
                    place = ((i * out.depth + od) * out.row + top + r) * out.column + ow
                    room = end - place if pieces.count == out.column else span.count
                    rows, means = rows_of(i, od, top + r, windows), row(Y, place)
                    height = size.depth * size.row if padded else rows.planes * rows.rows
                    mean_row(row(T, r * pitch), span, height, padded, means, room)


@linked
def sum_rows(P: array, rows: Rows, span: Span, last, T: View):
    """T = the sum of each column of the rows, 0 outside of the map; P[last] lies behind the map.

    Two vectors behind the columns are written, too.
    """
    L, T, nothing = lanes(P), row(T), zeros(P, 1, 1)
    first, end = max(span.start, 0), min(span.start + span.cells, span.width)
    bottom = row_place(rows, rows.planes - 1, rows.rows - 1)
    fill_row(T, 0, first - span.start, nothing)
    for c in range(first, end, L):
        total, columns = nothing, L if bottom + c + L <= last else end - c
        for d in range(rows.planes):
            for h in range(rows.rows):
                total = total + load(row(P, row_place(rows, d, h) + c), 1, 1, columns)
        store(T.column(c - span.start), total)
    fill_row(T, end - span.start, span.cells + 2 * L, nothing)


@inlined
def mean_row(T, span, height, padded, Y, room):
    """Y = the mean of each window, from the sums of its columns in T; at most `room` numbers are written."""
    if span.step > 2:
        sum_distant_columns(T, span, Y)
        divide(Y, span, height, padded, Y, room)
    else:
        mean_columns(T, span, height, padded, Y, room)


@linked
def mean_columns(T: View, span: Span, height, padded, Y: View, room):
    """`mean_row` for windows one or two columns apart, a vector of them at a time."""
    L, T, Y = lanes(T), row(T), row(Y)
    for o in range(0, span.count, L):
        mean = over(sum_columns(T, o, span.size, span.step), cells_of(T, o, span, height, padded))
        store(Y.column(o), mean, L if o + L <= room else span.count - o)


@linked
def sum_distant_columns(T: View, span: Span, Y: View):
    """Y = the sum of each window, for windows more than two columns apart: one after the other."""
    T, Y, step = row(T), row(Y), span.step
    for o in range(span.count):
        total = T[0, o * step]
        for c in range(o * step + 1, o * step + span.size):
            total += T[0, c]
        Y[0, o] = total


@linked
def divide(X: View, span: Span, height, padded, Y: View, room):
    """Y = X / cells of each window; at most `room` numbers are written. X and Y may be the same."""
    L, X, Y = lanes(X), row(X), row(Y)
    for o in range(0, span.count, L):
        share = over(load(X.column(o), 1, 1, span.count - o), cells_of(X, o, span, height, padded))
        store(Y.column(o), share, L if o + L <= room else span.count - o)


@inlined
def sum_columns(T, o, size, step):
    """Return the sums of a vector of windows from the o-th on, one or two columns apart."""
    total = zeros(T, 1, 1)
    for w in range(0, size, step):
        if step == 1:
            total = total + load(T.column(o + w), 1, 1)
        else:
            even, odd = halves(load(T.column(2 * o + w), 1, 2))
            total = total + even
            if w + 1 < size:
                total = total + odd
    return total


@inlined
def cells_of(like, o, span, height, padded):
    """Return the cells of the windows from the o-th on: `height` rows of all columns or (not padded) of the map's."""
    first, columns = span.start + o * span.step, ramp(like, span.size, 0)
    if not padded:
        nothing, one = zeros(like, 1, 1), ramp(like, 1, 0)
        left, right = ramp(like, -first, -span.step), ramp(like, first + span.size - span.width, span.step)  # outside
        columns = most(columns - most(nothing, left) - most(nothing, right), one)
    return times(ramp(like, height, 0), columns)


@linked
def average_cell_by_cell(P: array, i, windows: Windows, padded, Y: array):
    """Y of map i without a buffer, for windows too wide for it."""
    size, out = windows.size, windows.out
    for o in range(volume(out)):
        rows = rows_of(i, o // (out.row * out.column), o // out.column % out.row, windows)
        columns, total = columns_of(o % out.column, windows), 0.0
        for d in range(rows.planes):
            for h in range(rows.rows):
                first = row_place(rows, d, h)
                for j in range(first + columns.first, first + columns.end):
                    total += P[j]
        cells = volume(size) if padded else rows.planes * rows.rows * (columns.end - columns.first)
        Y[i * volume(out) + o] = total / float(cells)


# -- backward ----------------------------------------------------------------------------------------------------------


@inlined
def add_average_deltas(dY, i, windows, count, padded, T, G, dX):
    """dX of map i += what the windows give to their cells; `count` windows share the buffers T and G."""
    out, last = windows.out, (i + 1) * volume(windows.image)
    for r in range(out.depth * out.row):
        rows, place = rows_of(i, r // out.row, r % out.row, windows), (i * out.depth * out.row + r) * out.column
        height = windows.size.depth * windows.size.row if padded else rows.planes * rows.rows
        for ow in range(0, out.column, count):
            span = span_of(ow, min(count, out.column - ow), windows)
            divide(row(dY, place + ow), span, height, padded, row(T), ROOM)
            spread(T, span, G)
            add_shares(dX, rows, span, G, last)


@linked
def spread(T: array, span: Span, G: array):
    """G[size - 1 + o step] = T[o] for each window o; all other numbers that `add_shares` reads are 0."""
    L, nothing, count, step = lanes(T), zeros(T, 1, 1), span.count, span.step
    first, end = span.size - 1, span.cells + span.size + L
    if step == 2:
        fill_row(G, 0, first, nothing)
        for o in range(0, count, L):
            store_interleaved(row(G, first + 2 * o), load(row(T, o), 1, 1, count - o), nothing, 2 * L)
        fill_row(G, first + 2 * count, end, nothing)
        return
    fill_row(G, 0, end, nothing)
    for o in range(count):
        G[first + o * step] = T[o]


@linked
def add_shares(dX: array, rows: Rows, span: Span, G: array, last):
    """dX += the shares of all windows that see a cell: `size` numbers of G, which begins size - 1 columns before them.

    dX[last] lies behind the map.
    """
    L, size, first, end = lanes(dX), span.size, max(span.start, 0), min(span.start + span.cells, span.width)
    free = span.start + span.cells <= span.width  # no window gives to columns behind, unless windows share with padding
    for c in range(first, end, L):
        k, share = c - span.start + size - 1, zeros(dX, 1, 1)
        for w in range(size):
            share = share + load(row(G, k - w), 1, 1)
        for d in range(rows.planes):
            for h in range(rows.rows):
                place = row_place(rows, d, h) + c
                columns = L if free and place + L <= last else end - c
                store(row(dX, place), load(row(dX, place), 1, 1, columns) + share, columns)


@linked
def add_average_deltas_cell_by_cell(dY: array, i, windows: Windows, padded, dX: array):
    """`add_average_deltas` without buffers, for windows too wide for them."""
    size, out = windows.size, windows.out
    for o in range(volume(out)):
        rows = rows_of(i, o // (out.row * out.column), o // out.column % out.row, windows)
        columns = columns_of(o % out.column, windows)
        cells = volume(size) if padded else rows.planes * rows.rows * (columns.end - columns.first)
        share = dY[i * volume(out) + o] / float(cells)
        for d in range(rows.planes):
            for h in range(rows.rows):
                first = row_place(rows, d, h)
                for j in range(first + columns.first, first + columns.end):
                    dX[j] += share
