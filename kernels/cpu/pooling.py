"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the winner: the window's first largest cell, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y and winner (N, C, *out), three dimensions; the winner is a
cell's number in its map, in row order. The global forms take the whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.

Forward works on a buffer on the stack (pooling_tiles.py), which holds what lies outside the map too, so no loop has a
case for borders, and writes vectors of windows one after the other:

    max        a piece of the map is laid out; of a vector of windows all look at their cells in row order, and beside
               the largest number goes how far its cell is, kept for backward as `winner`
    average    down: the rows that a row of windows sees become one, their sum; along: the columns of each window

Windows of two columns side by side need no buffer. Backward:

    max        every window gives its dy to its winner, one after the other
    average    what each window gives, set s apart in a buffer of zeros, is collected by the cells

Where windows of two columns do not overlap, a vector of windows writes all of its cells.

A vector may reach over the end of its row: what it writes there is written anew by the next row, and the last row of a
map is careful.

Maxima are selected, not branched to: which cell is the largest is what no processor can predict. Maps are flat arrays,
indices unsigned (uintp), or Numba would test each for "counted from the end".
"""

from math import inf, sqrt

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from .pooling_tiles import ROOM, along, collect, divide, down, give, lay, pairs, share_out, spread, top_pairs, tops
from .tile import lanes, panel


@inlined
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@inlined
def _begin(o, stride, before):
    """The first cell of the window at position o."""
    return o[0] * stride[0] - before[0], o[1] * stride[1] - before[1], o[2] * stride[2] - before[2]


@inlined
def _rows(i, od, oh, size, stride, before, image):
    """The rows that a row of windows of map i sees, as `pooling_tiles` wants them."""
    D, H, W = image
    d0, d1 = _cells(od, stride[0], before[0], size[0], D)
    h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
    return ((i * D + d0) * H + h0) * W, d1 - d0, H * W, h1 - h0, W


@inlined
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return (v > largest) | ((v != v) & (largest == largest))


@inlined
def _paired(size, stride, before, out, image):
    """Whether the windows are two columns beside each other, all within the map: then no buffer is needed."""
    deep = (out[0] - 1) * stride[0] + size[0] <= image[0] and before[0] == 0
    high = (out[1] - 1) * stride[1] + size[1] <= image[1] and before[1] == 0
    return deep and high and size[2] == 2 and stride[2] == 2 and out[2] * 2 <= image[2] and before[2] == 0


@inlined
def _apart(size, stride, before, out, image):
    """Whether windows are `_paired` and do not overlap."""
    return _paired(size, stride, before, out, image) and stride[0] >= size[0] and stride[1] >= size[1]


@inlined
def _covered(size, out, image):
    """Whether windows that do not overlap leave no cell out."""
    return out[0] * size[0] == image[0] and out[1] * size[1] == image[1] and out[2] * size[2] == image[2]


@inlined
def _windows(size, stride, L):
    """How many windows of a row are taken at once: their cells have room in a buffer."""
    return (ROOM - 4 * L - 2 * size) // stride // L * L


@inlined
def _pieces(some, size, stride, out, L):
    """How many windows of a row and how many rows are taken at once, and the numbers that a row has in the buffer.

    What is written into a buffer is best read some time later, or the processor waits for it.
    """
    many = max(1, min(some, out[2]))
    pitch = (many - 1) * stride + size + 2 * L
    return many, max(1, min(out[1], ROOM // pitch)), pitch


@inlined
def _strip(size, stride, out, L):
    """How many rows of windows and windows of a row are taken at once: their cells have room in a buffer; 0: none."""
    room = ROOM - 4 * L * stride[2]
    many = min(max(0, (room // (size[0] * size[1]) - size[2]) // stride[2] + 1), out[2])
    cells = (max(many, 1) - 1) * stride[2] + size[2]
    return min(max(1, (room // (size[0] * cells) - size[1]) // stride[1] + 1), out[1]), many


@kernel
def max_forward(x, y, winner, size, stride, before):
    """y = the largest of each window, winner = the number of its cell in the map."""
    N, C, OD, OH, OW = y.shape
    image, out = x.shape[2:], y.shape[2:]
    D, H, W = image
    P, Y, Z, T = x.reshape(-1), y.reshape(-1), winner.reshape(-1), panel(x, ROOM)
    two, (high, many) = _paired(size, stride, before, out, image), _strip(size, stride, out, lanes(x))
    for i in prange(N * C):
        base, last, end = i * D * H * W, (i + 1) * D * H * W, (i + 1) * OD * OH * OW
        for od in range(OD):
            z = (i * OD + od) * OH * OW
            if two:
                rows = _rows(i, od, 0, size, stride, before, image)
                top_pairs(P, rows, rows[0] - base, OH, stride[1] * W, OW, last, Y, Z, z, end)
            elif many > 0:
                for oh in range(0, OH, high):
                    for o in range(0, OW, many):
                        count, at = (min(high, OH - oh), min(many, OW - o)), z + oh * OW + o
                        first = _begin((od, oh, o), stride, before)
                        shape = (size[0], (count[0] - 1) * stride[1] + size[1], (count[1] - 1) * stride[2] + size[2])
                        lay(P, base, image, first, shape, T)
                        stop = end if many == OW else at + (count[0] - 1) * OW + count[1]
                        tops(T, shape, size, stride, image, first, count, OW, Y, Z, at, stop)
            else:  # windows too large for a buffer
                for k in range(OH * OW):
                    rows = _rows(i, od, k // OW, size, stride, before, image)
                    w0, w1 = _cells(k % OW, stride[2], before[2], size[2], W)
                    best = uintp(rows[0] + w0)
                    for r in range(rows[1] * rows[3]):
                        row = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                        for j in range(uintp(row + w0), uintp(row + w1)):
                            best = j if _beats(P[j], P[best]) else best
                    Y[z + k], Z[z + k] = P[best], best - uintp(base)


@kernel
def max_backward_input(winner, dy, dx, size, stride, before):
    """dx = dy at the winner of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    Z, dX, dY, windows = winner.reshape(-1), dx.reshape(-1), dy.reshape(-1), OD * OH * OW
    out, image = dy.shape[2:], dx.shape[2:]
    apart, covered = _apart(size, stride, before, out, image), _covered(size, out, image)
    for i in prange(N * C):
        base, last = i * D * H * W, (i + 1) * D * H * W
        for j in range(uintp(base), uintp(base if apart and covered else last)):
            dX[j] = 0.0
        for od in range(OD if apart else 0):
            rows, z = _rows(i, od, 0, size, stride, before, (D, H, W)), (i * OD + od) * OH * OW
            give(dX, rows, rows[0] - base, OH, stride[1] * W, OW, last if covered and size[0] == 1 else 0, Z, dY, z)
        for o in range(uintp(i * windows), uintp(i * windows if apart else (i + 1) * windows)):
            j = uintp(base + int(Z[o]))
            dX[j] = dY[o] + dX[j]  # in this order dY is loaded while the processor waits for dX


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    P, Y, T, L = x.reshape(-1), y.reshape(-1), panel(x, ROOM), lanes(x)
    two, some = _paired(size, stride, before, y.shape[2:], x.shape[2:]), _windows(size[2], stride[2], L)
    many, high, pitch = _pieces(some, size[2], stride[2], y.shape[2:], L)
    for i in prange(N * C):
        last, end = (i + 1) * D * H * W, (i + 1) * OD * OH * OW
        for od in range(OD):
            z = (i * OD + od) * OH * OW
            if two:
                rows = _rows(i, od, 0, size, stride, before, (D, H, W))
                pairs(P, rows, OH, stride[1] * W, OW, last, Y, z, end)
                continue
            for first in range(0, OH if some > 0 else 0, high):
                for o in range(0, OW, many):
                    count, start = min(many, OW - o), o * stride[2] - before[2]
                    cells = (count - 1) * stride[2] + size[2]
                    for oh in range(first, min(first + high, OH)):
                        rows = _rows(i, od, oh, size, stride, before, (D, H, W))
                        down(P, rows, start, W, cells, last, T, (oh - first) * pitch)
                    for oh in range(first, min(first + high, OH)):
                        at = z + oh * OW + o
                        stop = end if many == OW else at + count
                        along(T, (oh - first) * pitch, count, size[2], stride[2], Y, at, stop)
                        rows = _rows(i, od, oh, size, stride, before, (D, H, W))
                        cells = size[0] * size[1] if count_padding else rows[1] * rows[3]
                        divide(Y, at, count, cells, size[2], stride[2], start, W, count_padding, Y, at, stop)
            for k in range(0 if some > 0 else OH * OW):  # windows too wide for a buffer
                rows = _rows(i, od, k // OW, size, stride, before, (D, H, W))
                w0, w1 = _cells(k % OW, stride[2], before[2], size[2], W)
                total, cells = 0.0, rows[1] * rows[3] * (w1 - w0)
                for r in range(rows[1] * rows[3]):
                    row = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                    for j in range(uintp(row + w0), uintp(row + w1)):
                        total += P[j]
                Y[z + k] = total / float(size[0] * size[1] * size[2] if count_padding else cells)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    dX, dY, G, T, L = dx.reshape(-1), dy.reshape(-1), panel(dy, ROOM), panel(dy, ROOM), lanes(dy)
    out, image = dy.shape[2:], dx.shape[2:]
    apart, covered = _apart(size, stride, before, out, image), _covered(size, out, image)
    some = _windows(size[2], stride[2], L)
    for i in prange(N * C):
        base, last = i * D * H * W, (i + 1) * D * H * W
        for j in range(uintp(base), uintp(base if apart and covered else last)):
            dX[j] = 0.0
        for od in range(OD if apart else 0):
            rows, z = _rows(i, od, 0, size, stride, before, (D, H, W)), (i * OD + od) * OH * OW
            share_out(dX, rows, OH, stride[1] * W, OW, last if covered and size[0] == 1 else 0, dY, z)
        for od in range(0 if apart else OD):
            for oh in range(OH):
                rows, z = _rows(i, od, oh, size, stride, before, (D, H, W)), ((i * OD + od) * OH + oh) * OW
                high = size[0] * size[1] if count_padding else rows[1] * rows[3]
                for first in range(0, OW if some > 0 else 0, max(some, 1)):
                    count = min(some, OW - first)
                    start, cells = first * stride[2] - before[2], (count - 1) * stride[2] + size[2]
                    divide(dY, z + first, count, high, size[2], stride[2], start, W, count_padding, T, 0, ROOM)
                    spread(T, 0, count, stride[2], G, size[2] - 1, cells + size[2] + L)
                    collect(dX, rows, start, W, cells, G, size[2], last)
                for o in range(0 if some > 0 else OW):
                    w0, w1 = _cells(o, stride[2], before[2], size[2], W)
                    share = dY[z + o] / float(high * (size[2] if count_padding else w1 - w0))
                    for r in range(rows[1] * rows[3]):
                        at = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                        for j in range(uintp(at + w0), uintp(at + w1)):
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
                                v, slope = cells[j], 0.0
                                if p == inf:
                                    wins = free and (abs(v) == norm or v != v)
                                    slope = np.sign(v) if wins else 0.0
                                    free = free and not wins
                                elif free:
                                    slope = v / norm if p == 2.0 else np.sign(v) * (abs(v) / norm) ** (p - 1.0)
                                slopes[j] += slope * delta if slope != 0.0 else 0.0  # 0 times infinity is NaN


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
