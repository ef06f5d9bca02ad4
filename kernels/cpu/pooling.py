"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the
whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.

Maps are flat arrays here, a window some rows of cells that follow each other. Maxima are selected, not branched to:
which cell is the largest is what no processor can predict. Indices are unsigned (uintp), or Numba would test each for
"counted from the end".
"""

from math import inf, sqrt

from numba import njit, prange, uintp

from ..compiler import helper, kernel
from .tile import add, interleave, lanes, load, most, spread, store, strided, where_same, zero


@njit
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@njit
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return (v > largest) | ((v != v) & (largest == largest))


@njit
def _inside(image, out, size, stride, before):
    """Whether every window lies in the input."""
    inside = True
    for k in range(3):
        inside &= before[k] == 0 and (out[k] - 1) * stride[k] + size[k] <= image[k]
    return inside


def _largest(fixed):
    """The largest number of each of `width` windows beside each other, the first of which begins at P[p]."""

    @helper
    def largest(P, p, H, W, size, step, width):
        top = strided(P, p, fixed, step, width)
        for d in range(size[0]):
            for h in range(size[1]):
                for w in range(size[2]):
                    top = most(top, strided(P, p + (d * H + h) * W + w, fixed, step, width))
        return top

    return largest


_largest_of_pairs, _largest_of_all = _largest(2), _largest(0)


@helper
def _claim(P, p, dP, H, W, size, step, width, dY, y, fresh):
    """dP = dY at the first largest number of each of `width` windows from P[p] on; the other numbers get nothing.

    fresh: dP is not set yet, and the windows, of pairs, cover it; otherwise is added to what is there.
    """
    nothing = zero(P, 1, 1)
    rest = load(dY, y, 0, 1, 1, width, 0)
    if fresh:
        top = _largest_of_pairs(P, p, H, W, size, step, width)
        for d in range(size[0]):
            for h in range(size[1]):
                at = p + (d * H + h) * W
                v = strided(P, at, 2, 2, width)
                first = where_same(v, top, rest, nothing)
                rest = where_same(v, top, nothing, rest)
                v = strided(P, at + 1, 2, 2, width)
                second = where_same(v, top, rest, nothing)
                rest = where_same(v, top, nothing, rest)
                interleave(dP, at, first, second, width)
    else:
        top = _largest_of_all(P, p, H, W, size, step, width)
        for d in range(size[0]):
            for h in range(size[1]):
                for w in range(size[2]):
                    at = p + (d * H + h) * W + w
                    v = strided(P, at, 0, step, width)
                    part = where_same(v, top, rest, nothing)
                    rest = where_same(v, top, nothing, rest)
                    spread(dP, at, step, add(strided(dP, at, 0, step, width), part), width)


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window: tap by tap along a row of windows, which share the test for the border."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    cells, tops = x.reshape(-1), y.reshape(-1)
    step = uintp(stride[2])
    inside = _inside(x.shape[2:], y.shape[2:], size, stride, before)
    for i in prange(N * C):
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                z = ((i * OD + od) * OH + oh) * OW
                if inside:
                    p = ((i * D + d0) * H + h0) * W
                    for o in range(0, OW, lanes(x)):
                        q, some = p + o * stride[2], OW - o
                        if stride[2] == 2:
                            top = _largest_of_pairs(cells, q, H, W, size, 2, some)
                        else:
                            top = _largest_of_all(cells, q, H, W, size, stride[2], some)
                        store(tops, z + o, 0, top, some, None)
                    continue
                for j in range(uintp(z), uintp(z + OW)):
                    tops[j] = -inf
                for d in range(d0, d1):
                    for h in range(h0, h1):
                        for t in range(-before[2], size[2] - before[2]):
                            first = max(0, -(t // stride[2]))  # window whose tap t lies in the input, and the last + 1
                            last = min(OW, (W - 1 - t) // stride[2] + 1)
                            q, top = uintp(((i * D + d) * H + h) * W + first * stride[2] + t), uintp(z + first)
                            for j in range(uintp(max(0, last - first))):
                                v, largest = cells[q + j * step], tops[top + j]
                                tops[top + j] = v if _beats(v, largest) else largest


@kernel
def max_backward_input(x, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    cells, slopes, deltas = x.reshape(-1), dx.reshape(-1), dy.reshape(-1)
    inside = _inside(x.shape[2:], dy.shape[2:], size, stride, before)
    pairs = inside and stride[2] == 2 and size == stride
    covered = pairs and OW * 2 == W and OH * size[1] == H and OD * size[0] == D
    for i in prange(N * C):
        n, c = i // C, i % C
        for j in range(uintp(i * D * H * W), uintp((i + (not covered)) * D * H * W)):
            slopes[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                if inside:
                    p, z = ((i * D + d0) * H + h0) * W, ((i * OD + od) * OH + oh) * OW
                    for o in range(0, OW, lanes(x)):
                        q = p + o * stride[2]
                        _claim(cells, q, slopes, H, W, size, stride[2], OW - o, deltas, z + o, pairs)
                    continue
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    at = uintp(((i * D + d0) * H + h0) * W + w0)
                    largest = cells[at]
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(uintp(row + w0), uintp(row + w1)):
                                better = _beats(cells[j], largest)
                                largest = cells[j] if better else largest
                                at = j if better else at
                    slopes[at] += dy[n, c, od, oh, ow]


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
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
                    count = size[0] * size[1] * size[2] if count_padding else (d1 - d0) * (h1 - h0) * (w1 - w0)
                    total = 0.0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(uintp(row + w0), uintp(row + w1)):
                                total += cells[j]
                    y[n, c, od, oh, ow] = total / float(count)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    slopes = dx.reshape(-1)
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
                    count = size[0] * size[1] * size[2] if count_padding else (d1 - d0) * (h1 - h0) * (w1 - w0)
                    share = dy[n, c, od, oh, ow] / float(count)
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(uintp(row + w0), uintp(row + w1)):
                                slopes[j] += share


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
