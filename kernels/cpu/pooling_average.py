"""Means of windows: sums of columns in a buffer, a vector of windows at a time.

    forward    sum_rows: T = the sum of the rows that a row of windows sees, so that a window is a row of numbers;
               sum_columns: the sum of each window's columns; divide: by its cells
    backward   divide: each window's share for a cell; spread: shares `stride` apart in a row of zeros;
               add_shares: every cell takes the shares of the windows that see its column, in every row

No loop has a case for borders. A vector may write over the start of the next row of results, which is written later;
writes never pass the end of the map's results.

Windows too wide for a buffer are summed cell by cell.
"""

from typing import NamedTuple

from ..compiler.kernel import array, inlined, linked
from .pooling_windows import ROOM, Rows, Windows, cells_across, columns_of, row_pitch, row_place, rows_of, volume
from .pooling_words import fill_row, over, ramp, row, times
from .tile import lanes
from .view import View
from .words import halves, load, most, store, store_interleaved, zeros


class Span(NamedTuple):
    """Adjacent windows of a row, and the columns that they see."""

    count: int  # windows
    start: int  # the first column; it may lie before the map
    cells: int  # columns


@inlined
def span_of(ow, count, windows):
    """The columns that `count` windows from the ow-th of a row on see."""
    size, stride = windows.size.column, windows.stride.column
    return Span(count, ow * stride - windows.pad_before.column, cells_across(count, size, stride))


# -- forward -----------------------------------------------------------------------------------------------------------


@inlined
def average_pieces(P, i, windows, pieces, padded, T, Y):
    """Y of map i by way of sums of columns in the buffer T; with `padded` padding counts."""
    size, image, out, pitch = windows.size, windows.image, windows.out, row_pitch(pieces.count, windows, lanes(P))
    last, end = (i + 1) * volume(image), (i + 1) * volume(out)
    for od in range(out.depth):
        for top in range(0, out.row, pieces.rows):
            for ow in range(0, out.column, pieces.count):
                span = span_of(ow, min(pieces.count, out.column - ow), windows)
                count = min(pieces.rows, out.row - top)
                for r in range(count):
                    sum_rows(P, rows_of(i, od, top + r, windows), span, image.column, last, row(T, r * pitch))
                for r in range(count):
                    place = ((i * out.depth + od) * out.row + top + r) * out.column + ow
                    room = end - place if pieces.count == out.column else span.count
                    rows, means = rows_of(i, od, top + r, windows), row(Y, place)
                    sum_columns(row(T, r * pitch), span, windows, means, room)
                    height = size.depth * size.row if padded else rows.planes * rows.rows
                    divide(means, span, height, windows, padded, means, room)


@linked
def sum_rows(P: array, rows: Rows, span: Span, W, last, T: View):
    """T = the sum of each column of the rows, 0 outside of the map; P[last] lies behind the map.

    Two vectors behind the columns are written, too.
    """
    L, T, nothing = lanes(P), row(T), zeros(P, 1, 1)
    first, end = max(span.start, 0), min(span.start + span.cells, W)
    bottom = row_place(rows, rows.planes - 1, rows.rows - 1)
    fill_row(T, 0, first - span.start, nothing)
    for c in range(first, end, L):
        total, columns = nothing, L if bottom + c + L <= last else end - c
        for d in range(rows.planes):
            for h in range(rows.rows):
                total = total + load(row(P, row_place(rows, d, h) + c), 1, 1, columns)
        store(T.column(c - span.start), total)
    fill_row(T, end - span.start, span.cells + 2 * L, nothing)


@linked
def sum_columns(T: View, span: Span, windows: Windows, Y: View, room):
    """Y = the sum of each window in T; at most `room` numbers are written."""
    L, T, Y, size, step = lanes(T), row(T), row(Y), windows.size.column, windows.stride.column
    if step > 2:
        for o in range(span.count):
            total = T[0, o * step]
            for c in range(o * step + 1, o * step + size):
                total += T[0, c]
            Y[0, o] = total
        return
    for o in range(0, span.count, L):
        store(Y.column(o), vector_of_sums(T, o, size, step), L if o + L <= room else span.count - o)


@inlined
def vector_of_sums(T, o, size, step):
    """The sums of a vector of windows from the o-th on, one or two columns apart."""
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


@linked
def divide(X: View, span: Span, height, windows: Windows, padded, Y: View, room):
    """Y = X / cells of each window, which are `height` rows of all its columns, or (not padded) of those in the map.

    X and Y may be the same.
    """
    L, X, Y, size, step = lanes(X), row(X), row(Y), windows.size.column, windows.stride.column
    nothing, one = zeros(X, 1, 1), ramp(X, 1, 0)
    for o in range(0, span.count, L):
        first, columns = span.start + o * step, ramp(X, size, 0)
        if not padded:
            left, right = ramp(X, -first, -step), ramp(X, first + size - windows.image.column, step)  # outside the map
            columns = most(columns - most(nothing, left) - most(nothing, right), one)
        mean = over(load(X.column(o), 1, 1, span.count - o), times(ramp(X, height, 0), columns))
        store(Y.column(o), mean, L if o + L <= room else span.count - o)


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
    size, stride, image, out, L = windows.size.column, windows.stride.column, windows.image, windows.out, lanes(dY)
    last = (i + 1) * volume(image)
    for r in range(out.depth * out.row):
        rows, place = rows_of(i, r // out.row, r % out.row, windows), (i * out.depth * out.row + r) * out.column
        height = windows.size.depth * windows.size.row if padded else rows.planes * rows.rows
        for ow in range(0, out.column, count):
            span = span_of(ow, min(count, out.column - ow), windows)
            divide(row(dY, place + ow), span, height, windows, padded, row(T), ROOM)
            spread(T, span.count, stride, G, size - 1, span.cells + size + L)
            add_shares(dX, rows, span, image.column, G, size, last)


@linked
def spread(T: array, count, step, G: array, first, end):
    """G[first + o step] = T[o], o < count; all other numbers before G[end] are 0."""
    L, nothing = lanes(T), zeros(T, 1, 1)
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
def add_shares(dX: array, rows: Rows, span: Span, W, G: array, size, last):
    """dX += the shares of all windows that see a cell: `size` numbers of G, which begins size - 1 columns before them.

    dX[last] lies behind the map.
    """
    L, first, end = lanes(dX), max(span.start, 0), min(span.start + span.cells, W)
    free = span.start + span.cells <= W  # no window gives to columns behind, unless windows share with padding
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
