"""Maxima of windows: piece by piece of the map in a buffer, a vector of windows at a time.

    for pieces of the map              load_window: the cells that a piece's windows see, -inf outside of the map
      for rows of windows
        for vectors of windows         max_rows: all of them compare their cells in row order (max_cells)

One comparison selects the larger number and the distance of its cell from the window's first cell. No loop has a case
for borders. A vector may write over the start of the next row of results, which is written later; writes never pass the
end of the map's results.

Windows too large for the buffer are compared cell by cell.
"""

from typing import NamedTuple

import numpy as np

from ..compiler.kernel import inlined
from ..compiler.linked import array, linked
from .conv_terms import Steps
from .pooling_windows import Windows, cells_across, columns_of, first_cell, row_place, rows_of, volume
from .pooling_words import fill_row, ramp, row, where_beats
from .rearrange import halves, load_column
from .tile import lanes
from .view import View
from .words import load, most, store, zeros


class Piece(NamedTuple):
    """Windows of a map, and the box of cells that they see."""

    rows: int  # rows of windows
    count: int  # windows of a row
    first: Steps  # the first cell of the box; it may lie before the map
    cells: Steps  # the shape of the box
    out: int  # number of the first result in the array
    end: int  # number behind the last result that may be written


@inlined
def beats(v, largest):
    """Return whether v is larger, or the first NaN."""
    return (v > largest) | ((v != v) & (largest == largest))


@inlined
def max_pieces(P, i, windows, pieces, T, Y, argmax):
    """Y and argmax of map i, by pieces of the map in the buffer T."""
    size, stride, out, per_map = windows.size, windows.stride, windows.out, volume(windows.out)
    for od in range(out.depth):
        for oh in range(0, out.row, pieces.rows):
            for ow in range(0, out.column, pieces.count):
                rows, count = min(pieces.rows, out.row - oh), min(pieces.count, out.column - ow)
                cells = Steps(
                    size.depth, cells_across(rows, size.row, stride.row),
                    cells_across(count, size.column, stride.column),
                )  # fmt: skip
                place = i * per_map + (od * out.row + oh) * out.column + ow
                end = (i + 1) * per_map if pieces.count == out.column else place + (rows - 1) * out.column + count
                piece = Piece(rows, count, first_cell(od, oh, ow, windows), cells, place, end)
                load_window(P, i * volume(windows.image), windows.image, piece, T)
                max_windows(T, piece, windows, Y, argmax)


@linked
def load_window(P: array, base, image: Steps, piece: Piece, T: array):
    """T = the box of a piece of the map at P[base], row by row, with -inf outside of the map."""
    L, first, cells = lanes(P), piece.first, piece.cells
    d0, h0, w0 = max(first.depth, 0), max(first.row, 0), max(first.column, 0)
    d1, h1 = min(first.depth + cells.depth, image.depth), min(first.row + cells.row, image.row)
    count = min(first.column + cells.column, image.column) - w0
    if (d1 - d0) * (h1 - h0) * count < volume(cells):
        fill_row(T, 0, volume(cells), ramp(P, -np.inf, 0))
    for d in range(d0, d1):
        for h in range(h0, h1):
            source = row(P, base + (d * image.row + h) * image.column + w0)
            target = row(T, ((d - first.depth) * cells.row + h - first.row) * cells.column + w0 - first.column)
            if count < L:
                store(target, load(source, 1, 1, count), count)
                continue
            for c in range(0, count, L):
                o = min(c, count - L)  # the last vector ends with the row
                store(target.column(o), load(source.column(o), 1, 1))


@linked
def max_windows(T: array, piece: Piece, windows: Windows, Y: array, argmax: array):
    """`max_rows` with the usual sizes and steps as literals: LLVM unrolls all loops over a window's cells."""
    size, step = windows.size, windows.stride.column
    box = (size.depth, size.row, size.column)
    if size.depth == 1 and size.row == 3 and size.column == 3 and step == 2:
        max_rows(T, piece, windows, (1, 3, 3), 2, Y, argmax)
    elif size.depth == 1 and size.row == 3 and size.column == 3 and step == 1:
        max_rows(T, piece, windows, (1, 3, 3), 1, Y, argmax)
    elif step == 1:
        max_rows(T, piece, windows, box, 1, Y, argmax)
    elif step == 2:
        max_rows(T, piece, windows, box, 2, Y, argmax)
    else:
        max_rows(T, piece, windows, box, step, Y, argmax)


@inlined
def max_rows(T, piece, windows, size, step, Y, argmax):
    """Y = the largest number of each window of a piece, whose box is in T; argmax = its number in the map.

    The windows of `size` (planes, rows, columns) are `step` apart in a row.
    """
    L, image = lanes(T), windows.image
    for oh in range(piece.rows):
        d, h = piece.first.depth, piece.first.row + oh * windows.stride.row
        number = (d * image.row + h) * image.column + piece.first.column
        inside = (max(-d, 0) * image.row + max(-h, 0)) * image.column
        for o in range(0, piece.count, L):
            w = piece.first.column + o * step
            cell = oh * windows.stride.row * piece.cells.column + o * step
            place = piece.out + oh * windows.out.column + o
            nearest = ramp(T, inside, 0) + most(ramp(T, -w, -step), zeros(T, 1, 1))
            top, best = max_cells(T, cell, piece.cells, size, step, image, nearest)
            width = L if place + L <= piece.end else piece.count - o
            store(row(Y, place), top, width)
            store(row(argmax, place), best + ramp(T, number + o * step, step), width)


@inlined
def max_cells(T, cell, cells, size, step, image, nearest):
    """Return the largest numbers of a vector of windows, and how far their cells are from each window's first cell.

    The windows of `size` (planes, rows, columns) are `step` apart; the first begins at T[cell], in a box of the shape
    `cells`. `nearest` is the distance of each window's first cell within the map.
    """
    top, best, columns = ramp(T, -np.inf, 0), nearest, size[2]
    for d in range(size[0]):
        for h in range(size[1]):
            k = cell + (d * cells.row + h) * cells.column
            distance = ramp(T, (d * image.row + h) * image.column, 0)
            for w in range(0, columns, 2):
                right = distance + ramp(T, w + 1, 0)
                v, u = adjacent_cells(T, k + w, step)
                top, best = better(v, distance + ramp(T, w, 0), top, best)
                if w + 1 < columns:
                    top, best = better(u, right, top, best)
    return top, best


@inlined
def adjacent_cells(T, k, step):
    """Return the vectors T[k], T[k + step], ... and T[k + 1], T[k + 1 + step], ..."""
    if step == 2:
        return halves(load(row(T, k), 1, 2))
    if step == 1:
        return load(row(T, k), 1, 1), load(row(T, k + 1), 1, 1)
    L = lanes(T)
    return load_column(View(T, step, 1, k), 0, L), load_column(View(T, step, 1, k + 1), 0, L)


@inlined
def better(v, distance, top, best):
    """Return the larger of `top` and v, and the distance of its cell: that of v or `best`."""
    return where_beats(v, top, v, top), where_beats(v, top, distance, best)


@linked
def max_cell_by_cell(P: array, i, windows: Windows, Y: array, argmax: array):
    """Y and argmax of map i without a buffer, for windows too large for it."""
    image, out = windows.image, windows.out
    for o in range(volume(out)):
        rows = rows_of(i, o // (out.row * out.column), o // out.column % out.row, windows)
        columns, place = columns_of(o % out.column, windows), i * volume(out) + o
        best = rows.first + columns.first
        for d in range(rows.planes):
            for h in range(rows.rows):
                first = row_place(rows, d, h)
                for j in range(first + columns.first, first + columns.end):
                    best = j if beats(P[j], P[best]) else best
        Y[place], argmax[place] = P[best], best - i * volume(image)
