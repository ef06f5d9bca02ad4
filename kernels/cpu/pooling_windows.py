"""Windows of pooling: the cells of a map that they see, and how many of them share a buffer.

The window at position o begins at cell o stride - pad_before of each dimension, which may lie before the map. Maps are
flat: cell (d, h, w) of map i is number ((i D + d) H + h) W + w of x.
"""

from typing import NamedTuple

from ..compiler.kernel import inlined
from .conv_terms import Steps, steps

ROOM = 2048  # numbers of a buffer on the stack: 8 kB in float32, a fraction of the first-level cache


class Windows(NamedTuple):
    """All windows of a map, and the shapes of the map and of its results."""

    size: Steps
    stride: Steps
    pad_before: Steps
    image: Steps
    out: Steps


class Rows(NamedTuple):
    """The rows of a map that a row of windows sees, from border to border: `planes` times `rows` of them."""

    first: int  # number of the first row's first cell in the array
    planes: int
    plane_step: int  # numbers from plane to plane
    rows: int  # of each plane
    row_step: int


class Columns(NamedTuple):
    """The columns of the map that a window sees: from `first` to before `end`."""

    first: int
    end: int


class Pieces(NamedTuple):
    """The windows that share a buffer: rows of windows, and windows of a row; 0 where it is too small for one."""

    rows: int
    count: int


@inlined
def windows_of(size, stride, pad_before, x, y):
    """Return a kernel's arguments, named."""
    return Windows(steps(size), steps(stride), steps(pad_before), steps(x.shape[2:]), steps(y.shape[2:]))


@inlined
def volume(shape):
    """Cells of a box."""
    return shape.depth * shape.row * shape.column


@inlined
def seen(o, size, stride, pad_before, image):
    """First and last + 1 of a dimension's cells of the map in the window at position o."""
    start = o * stride - pad_before
    return max(start, 0), min(start + size, image)


@inlined
def rows_of(i, od, oh, windows):
    """Return the rows that a row of windows of map i sees."""
    size, stride, pad, image = windows.size, windows.stride, windows.pad_before, windows.image
    d0, d1 = seen(od, size.depth, stride.depth, pad.depth, image.depth)
    h0, h1 = seen(oh, size.row, stride.row, pad.row, image.row)
    first = ((i * image.depth + d0) * image.row + h0) * image.column
    return Rows(first, d1 - d0, image.row * image.column, h1 - h0, image.column)


@inlined
def row_place(rows, d, h):
    """Return the number of the first cell of row h of plane d in the array."""
    return rows.first + d * rows.plane_step + h * rows.row_step


@inlined
def moved(rows, distance):
    """Rows that begin `distance` numbers further on."""
    return Rows(rows.first + distance, rows.planes, rows.plane_step, rows.rows, rows.row_step)


@inlined
def columns_of(ow, windows):
    """Return the columns of the map in the window at column ow."""
    first, end = seen(ow, windows.size.column, windows.stride.column, windows.pad_before.column, windows.image.column)
    return Columns(first, end)


@inlined
def first_cell(od, oh, ow, windows):
    """Return the first cell of a window; it may lie before the map."""
    stride, pad = windows.stride, windows.pad_before
    return Steps(od * stride.depth - pad.depth, oh * stride.row - pad.row, ow * stride.column - pad.column)


@inlined
def cells_across(count, size, stride):
    """Cells of a dimension that `count` adjacent windows see."""
    return (count - 1) * stride + size


@inlined
def cover(windows):
    """Return whether windows that do not overlap see every cell of the map."""
    size, image, out = windows.size, windows.image, windows.out
    return (
        out.depth * size.depth == image.depth
        and out.row * size.row == image.row
        and out.column * size.column == image.column
    )


# -- how many windows share a buffer -----------------------------------------------------------------------------------


@inlined
def windows_of_row(windows, L):
    """Return the number of windows of a row that share a buffer of one row, in vectors of L."""
    return (ROOM - 4 * L - 2 * windows.size.column) // windows.stride.column // L * L


@inlined
def row_pieces(windows, L):
    """Windows that share a buffer of rows: a row of it holds the sums of the columns that a row of windows sees.

    Several rows of windows, since the processor waits for a number that it reads soon after it is written.
    """
    count = max(1, min(windows_of_row(windows, L), windows.out.column))
    return Pieces(max(1, min(windows.out.row, ROOM // row_pitch(count, windows, L))), count)


@inlined
def row_pitch(count, windows, L):
    """Numbers from row to row of a buffer of rows: two vectors may be written behind the columns."""
    return cells_across(count, windows.size.column, windows.stride.column) + 2 * L


@inlined
def box_pieces(windows, L):
    """Windows whose cells share a buffer: the box of cells that they see."""
    size, stride, out = windows.size, windows.stride, windows.out
    room = ROOM - 4 * L * stride.column
    count = min(max(0, (room // (size.depth * size.row) - size.column) // stride.column + 1), out.column)
    columns = cells_across(max(count, 1), size.column, stride.column)
    return Pieces(min(max(1, (room // (size.depth * columns) - size.row) // stride.row + 1), out.row), count)
