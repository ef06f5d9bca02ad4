"""Pooling of windows two columns wide, side by side and all within the map: no buffer, a vector of windows at a time.

The kernels are those of pooling.py, chosen by layers/pooling.py: max_forward, average_forward, and, for windows that do
not overlap, max_backward_input, average_backward_input. No race: an iteration owns a map.

Two vectors of a row of the map, taken apart into even and odd columns (`halves`), are the left and the right cells of
a vector of windows. Windows of one plane and two rows, the usual ones, are passed as literals, so that LLVM unrolls
their loops. The last vector of a row of windows begins earlier where it would end behind the row, so that some windows
are computed twice.

max_backward and mean_backward write every cell that windows see. Their writes behind a row fall on the next row, which
is written later.
"""

from typing import NamedTuple

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from ..compiler.linked import array, linked
from .pooling_max import better
from .pooling_windows import Rows, cover, moved, row_place, rows_of, volume, windows_of
from .pooling_words import ramp, row, times, where_equal
from .rearrange import halves, store_interleaved
from .tile import lanes
from .words import load, store, zeros


class Plane(NamedTuple):
    """The windows of a plane of results."""

    rows: Rows  # the rows of the map that the first row of windows sees
    number: int  # their first cell's number in its map
    step: int  # numbers from the rows of one row of windows to those of the next
    high: int  # rows of windows
    count: int  # windows of a row
    last: int  # vectors of cells may reach behind a row of windows up to this number of the array
    out: int  # number of the first result in the array
    end: int  # number behind the map's last result


@inlined
def plane_of(i, od, windows, last):
    """Plane od of the results of map i."""
    image, out = windows.image, windows.out
    rows, per_map = rows_of(i, od, 0, windows), volume(out)
    first = i * per_map + od * out.row * out.column
    return Plane(rows, rows.first - i * volume(image), windows.stride.row * image.column, out.row, out.column, last,
                 first, (i + 1) * per_map)  # fmt: skip


@inlined
def vector_start(k, count, L):
    """Return the start of the vector at k, moved back so that it ends within `count`, if it can."""
    return max(0, min(k, count - L))


@inlined
def fits(rows, L, last):
    """Return whether two vectors from the beginning of each of the rows end before `last`."""
    return row_place(rows, rows.planes - 1, rows.rows - 1) + 2 * L <= last


# -- means -------------------------------------------------------------------------------------------------------------


@inlined
def mean_vector(P, rows, planes, height, columns=None):
    """Return the means of a vector of windows, of whose rows `columns` numbers are read."""
    total = zeros(P, 1, 2)
    for d in range(planes):
        for h in range(height):
            total = total + load(row(P, row_place(rows, d, h)), 1, 2, columns)
    left, right = halves(total)
    return times(left + right, ramp(P, 0.5 / float(planes * height), 0))


@linked
def mean_pairs(P: array, plane: Plane, Y: array):
    """Y = the mean of each window."""
    if plane.rows.planes == 1 and plane.rows.rows == 2:
        mean_pairs_of_size(P, plane, 1, 2, Y)
    else:
        mean_pairs_of_size(P, plane, plane.rows.planes, plane.rows.rows, Y)


@inlined
def mean_pairs_of_size(P, plane, planes, height, Y):
    """`mean_pairs` of windows of `planes` times `height` rows."""
    L = lanes(P)
    for oh in range(plane.high):
        for k in range(0, plane.count, L):
            o = vector_start(k, plane.count, L)
            rows, place = moved(plane.rows, oh * plane.step + 2 * o), plane.out + oh * plane.count + o
            width = L if place + L <= plane.end else plane.count
            if plane.count >= L or fits(rows, L, plane.last):
                means = mean_vector(P, rows, planes, height)
            else:
                means = mean_vector(P, rows, planes, height, 2 * plane.count)
            store(row(Y, place), means, width)


@linked
def mean_backward(dX: array, plane: Plane, dY: array):
    """dX = dY / cells in every cell of each window."""
    L = lanes(dX)
    for oh in range(plane.high):
        for k in range(0, plane.count, L):
            o = vector_start(k, plane.count, L)
            rows, place = moved(plane.rows, oh * plane.step + 2 * o), plane.out + oh * plane.count + o
            delta = load(row(dY, place), 1, 1, min(plane.count, L))
            share = times(delta, ramp(dX, 0.5 / float(rows.planes * rows.rows), 0))
            columns = 2 * L if plane.count >= L or fits(rows, L, plane.last) else 2 * plane.count
            for d in range(rows.planes):
                for h in range(rows.rows):
                    store_interleaved(row(dX, row_place(rows, d, h)), share, share, columns)


# -- maxima ------------------------------------------------------------------------------------------------------------


@inlined
def max_vector(P, rows, planes, height, columns=None):
    """Return the largest numbers of a vector of windows, and the distances of their cells from the first one."""
    top, best = ramp(P, -np.inf, 0), zeros(P, 1, 1)
    for d in range(planes):
        for h in range(height):
            distance = d * rows.plane_step + h * rows.row_step
            left, right = halves(load(row(P, rows.first + distance), 1, 2, columns))
            top, best = better(left, ramp(P, distance, 0), top, best)
            top, best = better(right, ramp(P, distance + 1, 0), top, best)
    return top, best


@linked
def max_pairs(P: array, plane: Plane, Y: array, argmax: array):
    """Y = the largest number of each window, argmax = the number of its cell in the map."""
    if plane.rows.planes == 1 and plane.rows.rows == 2:
        max_pairs_of_size(P, plane, 1, 2, Y, argmax)
    else:
        max_pairs_of_size(P, plane, plane.rows.planes, plane.rows.rows, Y, argmax)


@inlined
def max_pairs_of_size(P, plane, planes, height, Y, argmax):
    """`max_pairs` of windows of `planes` times `height` rows."""
    L = lanes(P)
    for oh in range(plane.high):
        for k in range(0, plane.count, L):
            o = vector_start(k, plane.count, L)
            distance, place = oh * plane.step + 2 * o, plane.out + oh * plane.count + o
            rows, width = moved(plane.rows, distance), L if place + L <= plane.end else plane.count
            if plane.count >= L or fits(rows, L, plane.last):
                top, best = max_vector(P, rows, planes, height)
            else:
                top, best = max_vector(P, rows, planes, height, 2 * plane.count)
            store(row(Y, place), top, width)
            store(row(argmax, place), best + ramp(P, plane.number + distance, 2), width)


@inlined
def store_max_delta(dX, rows, planes, height, best, delta, columns):
    """dX = delta in the cell of each of a vector of windows that is `best` numbers on, 0 in the others."""
    nothing = zeros(dX, 1, 1)
    for d in range(planes):
        for h in range(height):
            distance = d * rows.plane_step + h * rows.row_step
            left = where_equal(best, ramp(dX, distance, 0), delta, nothing)
            right = where_equal(best, ramp(dX, distance + 1, 0), delta, nothing)
            store_interleaved(row(dX, rows.first + distance), left, right, columns)


@linked
def max_backward(dX: array, plane: Plane, argmax: array, dY: array):
    """dX = dY in the cell argmax of each window, 0 in the others."""
    if plane.rows.planes == 1 and plane.rows.rows == 2:
        max_backward_of_size(dX, plane, 1, 2, argmax, dY)
    else:
        max_backward_of_size(dX, plane, plane.rows.planes, plane.rows.rows, argmax, dY)


@inlined
def max_backward_of_size(dX, plane, planes, height, argmax, dY):
    """`max_backward` of windows of `planes` times `height` rows."""
    L = lanes(dX)
    for oh in range(plane.high):
        for k in range(0, plane.count, L):
            o = vector_start(k, plane.count, L)
            distance, place, width = oh * plane.step + 2 * o, plane.out + oh * plane.count + o, min(plane.count, L)
            rows = moved(plane.rows, distance)
            best, delta = load(row(argmax, place), 1, 1, width), load(row(dY, place), 1, 1, width)
            best = best - ramp(dX, plane.number + distance, 2)
            if plane.count >= L or fits(rows, L, plane.last):
                store_max_delta(dX, rows, planes, height, best, delta, 2 * L)
            else:
                store_max_delta(dX, rows, planes, height, best, delta, 2 * plane.count)


# -- kernels -----------------------------------------------------------------------------------------------------------


@kernel
def max_forward(x, y, argmax, size, stride, pad_before):
    """y = the largest of each window, argmax = the number of its cell in the map."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y, A, cells = x.reshape(-1), y.reshape(-1), argmax.reshape(-1), volume(windows.image)
    for i in prange(maps):
        for od in range(windows.out.depth):
            max_pairs(P, plane_of(i, od, windows, (i + 1) * cells), Y, A)


@kernel
def max_backward_input(argmax, dy, dx, size, stride, pad_before):
    """dx = dy at the argmax of each window, 0 elsewhere."""
    maps, windows = dx.shape[0] * dx.shape[1], windows_of(size, stride, pad_before, dx, dy)
    A, dX, dY, covered, cells = (
        argmax.reshape(-1),
        dx.reshape(-1),
        dy.reshape(-1),
        cover(windows),
        volume(windows.image),
    )
    for i in prange(maps):
        first, end = i * cells, (i + 1) * cells
        for j in range(uintp(first), uintp(first if covered else end)):
            dX[j] = 0.0
        for od in range(windows.out.depth):
            last = end if covered and windows.size.depth == 1 else 0
            max_backward(dX, plane_of(i, od, windows, last), A, dY)


@kernel
def average_forward(x, y, size, stride, pad_before, count_padding):
    """y = the mean of each window; there is no padding to count."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y, cells = x.reshape(-1), y.reshape(-1), volume(windows.image)
    for i in prange(maps):
        for od in range(windows.out.depth):
            mean_pairs(P, plane_of(i, od, windows, (i + 1) * cells), Y)


@kernel
def average_backward_input(dy, dx, size, stride, pad_before, count_padding):
    """dx = dy / cells in every cell of each window, 0 elsewhere."""
    maps, windows = dx.shape[0] * dx.shape[1], windows_of(size, stride, pad_before, dx, dy)
    dX, dY, cells, covered = dx.reshape(-1), dy.reshape(-1), volume(windows.image), cover(windows)
    for i in prange(maps):
        first, end = i * cells, (i + 1) * cells
        for j in range(uintp(first), uintp(first if covered else end)):
            dX[j] = 0.0
        for od in range(windows.out.depth):
            last = end if covered and windows.size.depth == 1 else 0
            mean_backward(dX, plane_of(i, od, windows, last), dY)
