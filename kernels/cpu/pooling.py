"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the argmax: the window's first largest cell, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - pad_before. Padding adds nothing to
sums and never wins a maximum; NaN always does. x (N, C, *in), y and argmax (N, C, *out), three dimensions; argmax is a
cell's number in its map, in row order. The global forms take the whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps. No race: an iteration reads and writes its own map only; where
windows overlap in backward, it sets its map to zero and adds.

    maxima       pooling_max.py       a piece of the map in a buffer
    means        pooling_average.py   sums of columns in a buffer
    l_p norms    pooling_lp.py        cell by cell

For windows of two columns side by side, the usual ones, layers/pooling.py chooses the kernels of pooling_pairs.py.

Buffers are on the stack. They hold what lies outside the map, too, so that no loop has a case for borders, and results
are computed in vectors of windows. Windows too large for a buffer are computed cell by cell.

Maps are flat arrays and their indices unsigned (uintp): Numba would test signed ones for "counted from the end".
"""

from math import inf

from numba import prange, uintp

from ..compiler.kernel import kernel
from .pooling_average import (
    add_average_deltas,
    add_average_deltas_cell_by_cell,
    average_cell_by_cell,
    average_pieces,
)
from .pooling_lp import add_lp_deltas, add_max_norm_deltas, lp_norms
from .pooling_max import beats, max_cell_by_cell, max_pieces
from .pooling_windows import (
    ROOM,
    box_pieces,
    row_pieces,
    rows_of,
    volume,
    windows_of,
    windows_of_row,
)
from .tile import lanes, stack_array


@kernel
def max_forward(x, y, argmax, size, stride, pad_before):
    """y = the largest of each window, argmax = the number of its cell in the map."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y, A, T = x.reshape(-1), y.reshape(-1), argmax.reshape(-1), stack_array(x, ROOM)
    pieces = box_pieces(windows, lanes(x))
    for i in prange(maps):
        if pieces.count > 0:
            max_pieces(P, i, windows, pieces, T, Y, A)
        else:
            max_cell_by_cell(P, i, windows, Y, A)


@kernel
def max_backward_input(argmax, dy, dx, size, stride, pad_before):
    """dx = dy at the argmax of each window, summed over windows."""
    maps, windows = dx.shape[0] * dx.shape[1], windows_of(size, stride, pad_before, dx, dy)
    A, dX, dY = argmax.reshape(-1), dx.reshape(-1), dy.reshape(-1)
    cells, results = volume(windows.image), volume(windows.out)
    for i in prange(maps):
        for j in range(uintp(i * cells), uintp((i + 1) * cells)):
            dX[j] = 0.0
        for o in range(uintp(i * results), uintp((i + 1) * results)):
            j = uintp(i * cells + int(A[o]))
            dX[j] = dY[o] + dX[j]  # in this order dY is loaded while the processor waits for dX


@kernel
def average_forward(x, y, size, stride, pad_before, count_padding):
    """y = the mean of each window."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y, T, L = x.reshape(-1), y.reshape(-1), stack_array(x, ROOM), lanes(x)
    fit, pieces = windows_of_row(windows, L) > 0, row_pieces(windows, L)
    for i in prange(maps):
        if fit:
            average_pieces(P, i, windows, pieces, count_padding, T, Y)
        else:
            average_cell_by_cell(P, i, windows, count_padding, Y)


@kernel
def average_backward_input(dy, dx, size, stride, pad_before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    maps, windows = dx.shape[0] * dx.shape[1], windows_of(size, stride, pad_before, dx, dy)
    dX, dY, T, G = dx.reshape(-1), dy.reshape(-1), stack_array(dy, ROOM), stack_array(dy, ROOM)
    cells, count = volume(windows.image), windows_of_row(windows, lanes(dy))
    for i in prange(maps):
        for j in range(uintp(i * cells), uintp((i + 1) * cells)):
            dX[j] = 0.0
        if count > 0:
            add_average_deltas(dY, i, windows, count, count_padding, T, G, dX)
        else:
            add_average_deltas_cell_by_cell(dY, i, windows, count_padding, dX)


@kernel
def lp_forward(x, y, size, stride, pad_before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y = x.reshape(-1), y.reshape(-1)
    out = windows.out
    for i in prange(maps):
        for r in range(out.depth * out.row):
            rows, first = rows_of(i, r // out.row, r % out.row, windows), (i * out.depth * out.row + r) * out.column
            lp_norms(P, rows, windows, Y, first, p)


@kernel
def lp_backward_input(x, y, dy, dx, size, stride, pad_before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    maps, windows = x.shape[0] * x.shape[1], windows_of(size, stride, pad_before, x, y)
    P, Y, dY, dX = x.reshape(-1), y.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    out, cells = windows.out, volume(windows.image)
    for i in prange(maps):
        for j in range(uintp(i * cells), uintp((i + 1) * cells)):
            dX[j] = 0.0
        for r in range(out.depth * out.row):
            rows, first = rows_of(i, r // out.row, r % out.row, windows), (i * out.depth * out.row + r) * out.column
            if p == inf:
                add_max_norm_deltas(P, rows, windows, Y, dY, first, dX)
            else:
                add_lp_deltas(P, rows, windows, Y, dY, first, p, dX)


@kernel
def global_average_forward(x, y):
    """y (N, C) = the mean of each map."""
    N, C, D, H, W = x.shape
    cells = x.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        total = 0.0
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            total += cells[j]
        y[n, c] = total / float(D * H * W)


@kernel
def global_average_backward_input(dy, dx):
    """dx = dy / cells."""
    N, C, D, H, W = dx.shape
    slopes = dx.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        share = dy[n, c] / float(D * H * W)
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            slopes[j] = share


@kernel
def global_max_forward(x, y):
    """y (N, C) = the largest of each map."""
    N, C, D, H, W = x.shape
    cells = x.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        largest = -inf
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            largest = cells[j] if beats(cells[j], largest) else largest
        y[n, c] = largest


@kernel
def global_max_backward_input(x, dy, dx):
    """dx = dy at the first largest cell of each map."""
    N, C, D, H, W = x.shape
    cells, slopes = x.reshape(-1), dx.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        at = uintp(i * D * H * W)
        largest = cells[at]
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            slopes[j] = 0.0
            better = beats(cells[j], largest)
            largest = cells[j] if better else largest
            at = j if better else at
        slopes[at] = dy[n, c]
