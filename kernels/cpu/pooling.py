"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the
whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.

Max and average take a row of windows at a time, in three passes over buffers on the stack (pooling_tiles.py):

1. down: the rows that the windows see become one row, column by column (the largest number or the sum; backward also
   which row it came from);
2. along: the columns of each window become one number;
3. backward: what each window gives, set s apart in a buffer of zeros, is collected by the cells: cell c gets from the
   window at (c - w) / s for each of its columns w, if that is where the largest number was.

Each pass reads and writes vectors one after the other, and what lies outside the map is in the buffers, so no loop has
a case for borders. A vector may reach over the end of its row: what it writes there is written anew by the next row,
and the last row of a map is careful.

Maxima are selected, not branched to: which cell is the largest is what no processor can predict. Maps are flat arrays,
indices unsigned (uintp), or Numba would test each for "counted from the end".
"""

from math import inf, sqrt

from numba import prange, uintp

from ..compiler import inlined, kernel
from .pooling_tiles import (
    ROOM, along, claim, collect, down, highest_along, highest_down, minus, over, pairs, ramp, spread, times, wipe,
)  # fmt: skip
from .tile import interleave, lanes, load, most, panel, store, zero


@inlined
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@inlined
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return (v > largest) | ((v != v) & (largest == largest))


@inlined
def _paired(size, stride, before, out, image):
    """Whether the windows are two columns beside each other, all within the map: then no buffer is needed."""
    inside = out[0] * stride[0] - stride[0] + size[0] <= image[0] and out[1] * stride[1] - stride[1] + size[1] <= image[1]
    two = size[2] == 2 and stride[2] == 2 and out[2] * 2 <= image[2]
    return two and inside and before[0] == 0 and before[1] == 0 and before[2] == 0


@inlined
def _windows(size, stride, L):
    """How many windows of a row are taken at once: their cells have room in a buffer."""
    return (ROOM - 4 * L - 2 * size) // stride // L * L


@inlined
def _count(like, cell, rows, W, size, stride, count_padding):
    """Cells by which a sum is divided, for windows from `cell` on: all, or those of `rows` rows that lie in the input.

    Of a row they are the window's without those before the input and behind it.
    """
    if count_padding:
        return ramp(like, size[0] * size[1] * size[2], 0)
    nothing = zero(like, 1, 1)
    before, behind = ramp(like, -cell, -stride[2]), ramp(like, cell + size[2] - W, stride[2])
    columns = minus(minus(ramp(like, size[2], 0), most(nothing, before)), most(nothing, behind))
    return times(ramp(like, rows, 0), most(columns, ramp(like, 1, 0)))  # behind the last window there may be none


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    P, Y, T, L = x.reshape(-1), y.reshape(-1), panel(x, ROOM), lanes(x)
    some = _windows(size[2], stride[2], L)
    two = _paired(size, stride, before, y.shape[2:], x.shape[2:])
    for i in prange(N * C):
        end = (i + 1) * OD * OH * OW
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH if some > 0 else 0):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                rows = (((i * D + d0) * H + h0) * W, d1 - d0, H * W, h1 - h0, W)
                for k in range(0, OW if two else 0, L):
                    o = min(k, max(0, OW - L))  # the last ones may begin earlier: some windows twice
                    z, some_rows = ((i * OD + od) * OH + oh) * OW + o, (rows[0] + 2 * o, *rows[1:])
                    if OW >= L:
                        store(Y, z, 0, pairs(P, some_rows, None, 1), None, None)
                    else:
                        store(Y, z, 0, pairs(P, some_rows, 2 * OW, 1), L if z + L <= end else OW, None)
                for o in range(OW if two else 0, OW, some):
                    count, z = min(some, OW - o), ((i * OD + od) * OH + oh) * OW + o
                    down(P, rows, o * stride[2] - before[2], W, (count - 1) * stride[2] + size[2], T, -inf, 1)
                    for k in range(0, count, L):
                        top = along(T, k * stride[2], size[2], stride[2], 1)
                        store(Y, z + k, 0, top, L if z + k + L <= end else count - k, None)
            for oh in range(0 if some > 0 else OH):  # windows too wide for a buffer
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    largest = -inf
                    for row in range((d1 - d0) * (h1 - h0)):
                        first = ((i * D + d0 + row // (h1 - h0)) * H + h0 + row % (h1 - h0)) * W
                        for j in range(uintp(first + w0), uintp(first + w1)):
                            largest = P[j] if _beats(P[j], largest) else largest
                    Y[((i * OD + od) * OH + oh) * OW + ow] = largest


@kernel
def max_backward_input(x, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows.

    A window's cells are numbered in row order; what is largest is told by its number.
    """
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    P, dX, dY, L = x.reshape(-1), dx.reshape(-1), dy.reshape(-1), lanes(x)
    T, R, B, G = panel(x, ROOM), panel(x, ROOM), panel(x, ROOM), panel(x, ROOM)
    some = _windows(size[2], stride[2], L)
    two = _paired(size, stride, before, dy.shape[2:], x.shape[2:])
    apart = two and stride[0] >= size[0] and stride[1] >= size[1]  # windows do not overlap
    covered = apart and OD * size[0] == D and OH * size[1] == H and OW * 2 == W
    for i in prange(N * C):
        end = (i + 1) * D * H * W
        for j in range(uintp(i * D * H * W), uintp(i * D * H * W if covered else end)):
            dX[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH if some > 0 else 0):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                rows = (((i * D + d0) * H + h0) * W, d1 - d0, H * W, h1 - h0, W)
                for k in range(0, OW if apart else 0, L):
                    o = min(k, max(0, OW - L))  # the last ones may begin earlier: some windows twice
                    z, some_rows = ((i * OD + od) * OH + oh) * OW + o, (rows[0] + 2 * o, *rows[1:])
                    if OW >= L:
                        claim(P, some_rows, dX, load(dY, z, 0, 1, 1, None, None), None, 2 * L)
                    else:
                        claim(P, some_rows, dX, load(dY, z, 0, 1, 1, OW, None), 2 * OW, 2 * OW)
                for o in range(OW if apart else 0, OW, some):
                    count, z = min(some, OW - o), ((i * OD + od) * OH + oh) * OW + o
                    start, cells = o * stride[2] - before[2], (count - 1) * stride[2] + size[2]
                    highest_down(P, rows, start, W, cells, T, R, size[2])
                    wipe(B, cells + size[2] + L, -1.0)
                    wipe(G, cells + size[2] + L, 0.0)
                    for k in range(0, count, L):
                        best = highest_along(T, R, k * stride[2], size[2], stride[2], start + k * stride[2])
                        spread(B, size[2] - 1 + k * stride[2], stride[2], best, count - k, -1.0)
                        delta = load(dY, z + k, 0, 1, 1, count - k, None)
                        spread(G, size[2] - 1 + k * stride[2], stride[2], delta, count - k, 0.0)
                    collect(dX, rows, start, W, cells, B, G, size[2], end)
            for oh in range(0 if some > 0 else OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    at = uintp(((i * D + d0) * H + h0) * W + w0)
                    for row in range((d1 - d0) * (h1 - h0)):
                        first = ((i * D + d0 + row // (h1 - h0)) * H + h0 + row % (h1 - h0)) * W
                        for j in range(uintp(first + w0), uintp(first + w1)):
                            at = j if _beats(P[j], P[at]) else at
                    dX[at] += dY[((i * OD + od) * OH + oh) * OW + ow]


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    P, Y, T, L = x.reshape(-1), y.reshape(-1), panel(x, ROOM), lanes(x)
    some = _windows(size[2], stride[2], L)
    two = _paired(size, stride, before, y.shape[2:], x.shape[2:])
    for i in prange(N * C):
        end = (i + 1) * OD * OH * OW
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH if some > 0 else 0):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                rows = (((i * D + d0) * H + h0) * W, d1 - d0, H * W, h1 - h0, W)
                for k in range(0, OW if two else 0, L):
                    o = min(k, max(0, OW - L))
                    z, some_rows = ((i * OD + od) * OH + oh) * OW + o, (rows[0] + 2 * o, *rows[1:])
                    cells = ramp(x, size[0] * size[1] * 2, 0)
                    if OW >= L:
                        store(Y, z, 0, over(pairs(P, some_rows, None, 0), cells), None, None)
                    else:
                        mean = over(pairs(P, some_rows, 2 * OW, 0), cells)
                        store(Y, z, 0, mean, L if z + L <= end else OW, None)
                for o in range(OW if two else 0, OW, some):
                    count, z = min(some, OW - o), ((i * OD + od) * OH + oh) * OW + o
                    start = o * stride[2] - before[2]
                    down(P, rows, start, W, (count - 1) * stride[2] + size[2], T, 0.0, 0)
                    for k in range(0, count, L):
                        cell = start + k * stride[2]
                        cells = _count(x, cell, (d1 - d0) * (h1 - h0), W, size, stride, count_padding)
                        mean = over(along(T, k * stride[2], size[2], stride[2], 0), cells)
                        store(Y, z + k, 0, mean, L if z + k + L <= end else count - k, None)
            for oh in range(0 if some > 0 else OH):  # windows too wide for a buffer
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    total, cells = 0.0, (d1 - d0) * (h1 - h0) * (w1 - w0)
                    for row in range((d1 - d0) * (h1 - h0)):
                        first = ((i * D + d0 + row // (h1 - h0)) * H + h0 + row % (h1 - h0)) * W
                        for j in range(uintp(first + w0), uintp(first + w1)):
                            total += P[j]
                    cells = size[0] * size[1] * size[2] if count_padding else cells
                    Y[((i * OD + od) * OH + oh) * OW + ow] = total / float(cells)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    dX, dY, G, L = dx.reshape(-1), dy.reshape(-1), panel(dy, ROOM), lanes(dy)
    some = _windows(size[2], stride[2], L)
    two = _paired(size, stride, before, dy.shape[2:], dx.shape[2:])
    apart = two and stride[0] >= size[0] and stride[1] >= size[1]  # windows do not overlap
    for i in prange(N * C):
        end = (i + 1) * D * H * W
        for j in range(uintp(i * D * H * W), uintp(end)):
            dX[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH if some > 0 else 0):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                rows = (((i * D + d0) * H + h0) * W, d1 - d0, H * W, h1 - h0, W)
                for k in range(0, OW if apart else 0, L):
                    o = min(k, max(0, OW - L))
                    z, width = ((i * OD + od) * OH + oh) * OW + o, min(OW, L)
                    share = over(load(dY, z, 0, 1, 1, width, None), ramp(dy, size[0] * size[1] * 2, 0))
                    for row in range(rows[1] * rows[3]):
                        at = rows[0] + row // rows[3] * rows[2] + row % rows[3] * rows[4] + 2 * o
                        interleave(dX, at, share, share, 2 * width)
                for o in range(OW if apart else 0, OW, some):
                    count, z = min(some, OW - o), ((i * OD + od) * OH + oh) * OW + o
                    start, cells = o * stride[2] - before[2], (count - 1) * stride[2] + size[2]
                    wipe(G, cells + size[2] + L, 0.0)
                    for k in range(0, count, L):
                        cell = start + k * stride[2]
                        share = over(
                            load(dY, z + k, 0, 1, 1, count - k, None),
                            _count(dy, cell, (d1 - d0) * (h1 - h0), W, size, stride, count_padding),
                        )
                        spread(G, size[2] - 1 + k * stride[2], stride[2], share, count - k, 0.0)
                    collect(dX, rows, start, W, cells, G, G, -size[2], end)
            for oh in range(0 if some > 0 else OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    cells = (d1 - d0) * (h1 - h0) * (w1 - w0)
                    cells = size[0] * size[1] * size[2] if count_padding else cells
                    share = dY[((i * OD + od) * OH + oh) * OW + ow] / float(cells)
                    for row in range((d1 - d0) * (h1 - h0)):
                        first = ((i * D + d0 + row // (h1 - h0)) * H + h0 + row % (h1 - h0)) * W
                        for j in range(uintp(first + w0), uintp(first + w1)):
                            dX[j] += share


@kernel
def lp_forward(x, y, size, stride, before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    cells = x.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    largest = 0.0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(uintp(row + w0), uintp(row + w1)):
                                v = abs(cells[j])
                                largest = v if _beats(v, largest) else largest
                    norm = largest
                    if p != inf and 0.0 < largest < inf:  # else there is nothing to divide by, or no number
                        total = 0.0
                        for d in range(d0, d1):
                            for h in range(h0, h1):
                                row = ((i * D + d) * H + h) * W
                                for j in range(uintp(row + w0), uintp(row + w1)):
                                    ratio = abs(cells[j]) / largest
                                    total += ratio * ratio if p == 2.0 else ratio**p
                        norm = largest * (sqrt(total) if p == 2.0 else total ** (1.0 / p))
                    y[n, c, od, oh, ow] = norm


@kernel
def lp_backward_input(x, y, dy, dx, size, stride, before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    cells, slopes = x.reshape(-1), dx.reshape(-1)
    for i in prange(N * C):
        n, c = i // C, i % C
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            slopes[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    norm, delta = y[n, c, od, oh, ow], dy[n, c, od, oh, ow]
                    free = norm != 0.0  # for p = inf: until a cell has taken dy
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(uintp(row + w0), uintp(row + w1)):
                                v = cells[j]
                                signed = delta if v > 0.0 else -delta
                                if p == inf:
                                    if free and not abs(v) < norm:
                                        free = False
                                        slopes[j] += signed
                                elif p == 2.0:
                                    if free:
                                        slopes[j] += delta * (v / norm)
                                elif free and v != 0.0:
                                    slopes[j] += signed * (abs(v) / norm) ** (p - 1.0)


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
            largest = cells[j] if _beats(cells[j], largest) else largest
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
            better = _beats(cells[j], largest)
            largest = cells[j] if better else largest
            at = j if better else at
        slopes[at] = dy[n, c]
