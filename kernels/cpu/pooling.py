"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the
whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.

Forward takes a row of windows at a time, in two passes over buffers on the stack (pooling_tiles.py):

1. down: the rows that the windows see become one row, column by column (the largest number or the sum);
2. along: the columns of each window become one number.

Each pass reads and writes vectors one after the other, and what lies outside the map is in the buffers, so no loop has
a case for borders. Windows of two columns side by side need no buffer. Backward:

    max        a vector of windows looks, from its last cell to its first, for the one that is y, then each gives its dy
               to that cell; windows with columns outside the map do so one by one
    average    what each window gives, set s apart in a buffer of zeros, is collected by the cells

A vector may reach over the end of its row: what it writes there is written anew by the next row, and the last row of a
map is careful.

Maxima are selected, not branched to: which cell is the largest is what no processor can predict. Maps are flat arrays,
indices unsigned (uintp), or Numba would test each for "counted from the end".
"""

from math import inf, sqrt

from numba import prange, uintp

from ..compiler import inlined, kernel
from .pooling_tiles import ROOM, along, award, claim, collect, deal, divide, down, pairs, spread
from .tile import lanes, panel

EXACT = 2**24  # whole numbers below it are exact in float32: how far a cell is from another


@inlined
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


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
def _windows(size, stride, L):
    """How many windows of a row are taken at once: their cells have room in a buffer."""
    return (ROOM - 4 * L - 2 * size) // stride // L * L


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    P, Y, T, L = x.reshape(-1), y.reshape(-1), panel(x, ROOM), lanes(x)
    some, two = _windows(size[2], stride[2], L), _paired(size, stride, before, y.shape[2:], x.shape[2:])
    for i in prange(N * C):
        end = (i + 1) * OD * OH * OW
        for od in range(OD):
            for oh in range(OH):
                rows, z = _rows(i, od, oh, size, stride, before, (D, H, W)), ((i * OD + od) * OH + oh) * OW
                if two:
                    pairs(P, rows, OW, 0, (i + 1) * D * H * W, Y, z, end)
                elif some > 0:
                    for o in range(0, OW, some):
                        count = min(some, OW - o)
                        down(P, rows, o * stride[2] - before[2], W, (count - 1) * stride[2] + size[2], T, 1)
                        along(T, count, size[2], stride[2], 1, Y, z + o, end)
                else:  # windows too wide for a buffer
                    for o in range(OW):
                        w0, w1 = _cells(o, stride[2], before[2], size[2], W)
                        at = uintp(rows[0] + w0)
                        for r in range(rows[1] * rows[3]):
                            first = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                            for j in range(uintp(first + w0), uintp(first + w1)):
                                at = j if _beats(P[j], P[at]) else at
                        Y[z + o] = P[at]


@kernel
def max_backward_input(x, y, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows; y is what `max_forward` gave."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    P, Y, dX, dY = x.reshape(-1), y.reshape(-1), dx.reshape(-1), dy.reshape(-1)
    o0 = min(OW, (before[2] + stride[2] - 1) // stride[2])
    o1 = max(o0, min(OW, (W - size[2] + before[2]) // stride[2] + 1))  # from o0 on, windows with all columns in the map
    o1 = o1 if (size[0] * H + size[1]) * W < EXACT else o0
    apart = _paired(size, stride, before, dy.shape[2:], x.shape[2:]) and stride[0] >= size[0] and stride[1] >= size[1]
    covered = apart and OD * size[0] == D and OH * size[1] == H and OW * 2 == W
    for i in prange(N * C):
        end = (i + 1) * D * H * W
        for j in range(uintp(i * D * H * W), uintp(i * D * H * W if covered else end)):
            dX[j] = 0.0
        for od in range(OD):
            for oh in range(OH):
                rows, z = _rows(i, od, oh, size, stride, before, (D, H, W)), ((i * OD + od) * OH + oh) * OW
                if apart:
                    claim(P, rows, OW, end if covered and size[0] == 1 else 0, dX, Y, dY, z)
                    continue
                first = o0 * stride[2] - before[2]
                inside = (rows[0] + first, rows[1], rows[2], rows[3], rows[4])
                award(P, inside, o1 - o0, size[2], stride[2], end, Y, dY, z + o0, dX)
                for o in range(OW):
                    if o0 <= o < o1:
                        continue
                    w0, w1 = _cells(o, stride[2], before[2], size[2], W)
                    top, at = Y[z + o], uintp(0)
                    for r in range(rows[1] * rows[3] - 1, -1, -1):
                        begin = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                        for j in range(begin + w1 - 1, begin + w0 - 1, -1):
                            v = P[uintp(j)]
                            at = uintp(j) if (v == top) | (v != v) else at
                    dX[at] += dY[z + o]


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    P, Y, T, L = x.reshape(-1), y.reshape(-1), panel(x, ROOM), lanes(x)
    some, two = _windows(size[2], stride[2], L), _paired(size, stride, before, y.shape[2:], x.shape[2:])
    for i in prange(N * C):
        end = (i + 1) * OD * OH * OW
        for od in range(OD):
            for oh in range(OH):
                rows, z = _rows(i, od, oh, size, stride, before, (D, H, W)), ((i * OD + od) * OH + oh) * OW
                if two:
                    pairs(P, rows, OW, rows[1] * rows[3] * 2, (i + 1) * D * H * W, Y, z, end)
                    continue
                if some > 0:
                    for o in range(0, OW, some):
                        count = min(some, OW - o)
                        down(P, rows, o * stride[2] - before[2], W, (count - 1) * stride[2] + size[2], T, 0)
                        along(T, count, size[2], stride[2], 0, Y, z + o, end)
                else:  # windows too wide for a buffer
                    for o in range(OW):
                        w0, w1 = _cells(o, stride[2], before[2], size[2], W)
                        total = 0.0
                        for r in range(rows[1] * rows[3]):
                            first = rows[0] + r // rows[3] * rows[2] + r % rows[3] * rows[4]
                            for j in range(uintp(first + w0), uintp(first + w1)):
                                total += P[j]
                        Y[z + o] = total
                high = size[0] * size[1] if count_padding else rows[1] * rows[3]
                divide(Y, z, OW, high, size[2], stride[2], -before[2], W, count_padding, Y, z, end)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    dX, dY, G, T, L = dx.reshape(-1), dy.reshape(-1), panel(dy, ROOM), panel(dy, ROOM), lanes(dy)
    some = _windows(size[2], stride[2], L)
    two = _paired(size, stride, before, dy.shape[2:], dx.shape[2:]) and some >= OW
    apart = two and stride[0] >= size[0] and stride[1] >= size[1]  # windows do not overlap
    for i in prange(N * C):
        end = (i + 1) * D * H * W
        for j in range(uintp(i * D * H * W), uintp(end)):
            dX[j] = 0.0
        for od in range(OD):
            for oh in range(OH):
                rows, z = _rows(i, od, oh, size, stride, before, (D, H, W)), ((i * OD + od) * OH + oh) * OW
                high = size[0] * size[1] if count_padding else rows[1] * rows[3]
                for first in range(0, OW if some > 0 else 0, max(some, 1)):
                    count = min(some, OW - first)
                    start, cells = first * stride[2] - before[2], (count - 1) * stride[2] + size[2]
                    divide(dY, z + first, count, high, size[2], stride[2], start, W, count_padding, T, 0, ROOM)
                    if apart:
                        deal(dX, rows, count, T)
                        continue
                    spread(T, 0, count, stride[2], G, size[2] - 1, cells + size[2] + L)
                    collect(dX, rows, start, W, cells, G, size[2], end)
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
