"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the
whole map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.

Max and average take as many neighbouring windows at once as a vector has numbers (pooling_tiles.py). Backward, cell
j s + r of a window is cell r of the window j places on. So what the windows give to cells r is summed first, by
Horner's rule with a move by one place for each j (t, and t_out for what moves out of the vector), and added to dx in
one go, always in the same vectors: those that overlap would each wait for the one before to be written.

Elsewhere maxima are selected, not branched to: which cell is the largest is what no processor can predict. Maps are
flat arrays, indices unsigned (uintp), or Numba would test each for "counted from the end".
"""

from math import inf, sqrt

from numba import njit, prange, uintp

from ..compiler import INLINED, helper, kernel
from .pooling_tiles import add_cells, cells, later, minus, over, ramp, times, where_equal, where_more
from .tile import interleave, lanes, load, most, store, strided, where_same, zero


@njit
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@njit
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return (v > largest) | ((v != v) & (largest == largest))


@helper
def _claim(P, p, dP, H, W, size, width, dY, y):
    """dP = dY at the first largest number of each of `width` windows of pairs from P[p] on, 0 at the others.

    For windows that neither overlap nor meet a border: what is not read and added to takes half the time.
    """
    nothing, rest = zero(P, 1, 1), load(dY, y, 0, 1, 1, width, 0)
    top = strided(P, p, 2, 2, width)
    for d in range(size[0]):
        for h in range(size[1]):
            for w in range(2):
                top = most(top, strided(P, p + (d * H + h) * W + w, 2, 2, width))
    for d in range(size[0]):
        for h in range(size[1]):
            at = p + (d * H + h) * W
            v = strided(P, at, 2, 2, width)
            first = where_same(v, top, rest, nothing)
            rest = where_same(v, top, nothing, rest)
            second = where_same(strided(P, at + 1, 2, 2, width), top, rest, nothing)
            rest = where_same(strided(P, at + 1, 2, 2, width), top, nothing, rest)
            interleave(dP, at, first, second, 2 * width)


@helper
def _count(like, cell, rows, W, size, stride, count_padding):
    """Cells by which a sum is divided, for windows from `cell` on: all, or those of `rows` rows that lie in the input.

    Of a row they are the window's without those before the input and behind it.
    """
    if count_padding:
        return ramp(like, size[0] * size[1] * size[2], 0)
    nothing = zero(like, 1, 1)
    before, behind = ramp(like, -cell, -stride[2]), ramp(like, cell + size[2] - W, stride[2])
    return times(
        ramp(like, rows, 0), minus(minus(ramp(like, size[2], 0), most(nothing, before)), most(nothing, behind))
    )


@njit(**INLINED)
def _part(like, delta, best, k, w, size):
    """What cell w of a row of `size` cells, whose first has the number k, gets of delta: all if it is the best."""
    return where_equal(best, ramp(like, k + w if w < size else -1, 0), delta, zero(like, 1, 1))


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    numbers, tops = x.reshape(-1), y.reshape(-1)
    lowest, by = ramp(x, -inf, 0.0), 2 if stride[2] == 2 else 1
    steps = (size[2] + by - 1) // by
    for i in prange(N * C):
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for o in range(0, OW, lanes(x)):
                    top, cell = lowest, o * stride[2] - before[2]
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(steps):
                                w = by * j
                                v, next = cells(numbers, row, cell + w, W, stride[2], lowest)
                                top = most(top, v)
                                if w + 1 < min(w + by, size[2]):
                                    top = most(top, next)
                    store(tops, ((i * OD + od) * OH + oh) * OW + o, 0, top, OW - o, None)


@kernel
def max_backward_input(x, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows.

    A window's cells are numbered in row order; `best` is the number of its first largest cell.
    """
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    numbers, slopes, deltas = x.reshape(-1), dx.reshape(-1), dy.reshape(-1)
    places, n = (size[2] + stride[2] - 1) // stride[2], lanes(dx)
    residues = 1 if stride[2] == 2 else min(stride[2], size[2])
    lowest, nothing, by = ramp(x, -inf, 0.0), zero(x, 1, 1), 2 if stride[2] == 2 else 1
    steps = (size[2] + by - 1) // by
    pairs = size == stride and stride[2] == 2 and before == (0, 0, 0)
    pairs = pairs and OD * size[0] <= D and OH * size[1] <= H and OW * 2 <= W
    covered = pairs and OD * size[0] == D and OH * size[1] == H and OW * 2 == W
    for i in prange(N * C):
        for j in range(uintp(i * D * H * W), uintp((i + (not covered)) * D * H * W)):
            slopes[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for o in range(0, OW, lanes(x)):
                    cell, k = o * stride[2] - before[2], 0
                    z = ((i * OD + od) * OH + oh) * OW + o
                    if pairs:
                        _claim(numbers, ((i * D + d0) * H + h0) * W + cell, slopes, H, W, size, OW - o, deltas, z)
                        continue
                    top, best = lowest, most(nothing, ramp(x, -cell, -stride[2]))  # the first cell in the input
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(steps):
                                w = by * j
                                v, next = cells(numbers, row, cell + w, W, stride[2], lowest)
                                best = where_more(top, v, ramp(x, k + w, 0), best)
                                top = most(top, v)
                                if w + 1 < min(w + by, size[2]):
                                    best = where_more(top, next, ramp(x, k + w + 1, 0), best)
                                    top = most(top, next)
                            k += size[2]
                    delta, k = load(deltas, z, 0, 1, 1, OW - o, 0), 0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for r in range(residues):
                                for first in range(0, places, n):
                                    j = min(first + n, places) - 1
                                    w, t_out, u_out = r + j * stride[2], nothing, nothing
                                    t = _part(x, delta, best, k, w, size[2])
                                    u = _part(x, delta, best, k, w + 1, size[2])
                                    while j > first:
                                        j, w = j - 1, w - stride[2]
                                        t_out, u_out = later(t, t_out), later(u, u_out)
                                        t = later(nothing, t) + _part(x, delta, best, k, w, size[2])
                                        u = later(nothing, u) + _part(x, delta, best, k, w + 1, size[2])
                                    at = cell + r + first * stride[2]
                                    add_cells(slopes, row, at, W, stride[2], t, u)
                                    if places > 1:
                                        add_cells(slopes, row, at + n * stride[2], W, stride[2], t_out, u_out)
                            k += size[2]


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    numbers, means = x.reshape(-1), y.reshape(-1)
    nothing, by = zero(x, 1, 1), 2 if stride[2] == 2 else 1
    steps = (size[2] + by - 1) // by
    for i in prange(N * C):
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for o in range(0, OW, lanes(x)):
                    total, cell = nothing, o * stride[2] - before[2]
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            row = ((i * D + d) * H + h) * W
                            for j in range(steps):
                                w = by * j
                                v, next = cells(numbers, row, cell + w, W, stride[2], nothing)
                                total = total + v
                                if w + 1 < min(w + by, size[2]):
                                    total = total + next
                    count = _count(x, cell, (d1 - d0) * (h1 - h0), W, size, stride, count_padding)
                    store(means, ((i * OD + od) * OH + oh) * OW + o, 0, over(total, count), OW - o, None)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    slopes, deltas = dx.reshape(-1), dy.reshape(-1)
    places, n = (size[2] + stride[2] - 1) // stride[2], lanes(dx)
    residues = 1 if stride[2] == 2 else min(stride[2], size[2])
    nothing = zero(dy, 1, 1)
    for i in prange(N * C):
        for j in range(uintp(i * D * H * W), uintp((i + 1) * D * H * W)):
            slopes[j] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for o in range(0, OW, lanes(dy)):
                    cell = o * stride[2] - before[2]
                    count = _count(dy, cell, (d1 - d0) * (h1 - h0), W, size, stride, count_padding)
                    share = over(load(deltas, ((i * OD + od) * OH + oh) * OW + o, 0, 1, 1, OW - o, 0), count)
                    for r in range(residues):
                        for first in range(0, places, n):
                            j = min(first + n, places) - 1
                            w, t_out, u_out = r + j * stride[2], nothing, nothing
                            t, u = share if w < size[2] else nothing, share if w + 1 < size[2] else nothing
                            while j > first:
                                j -= 1
                                t_out, u_out = later(t, t_out), later(u, u_out)
                                t, u = later(nothing, t) + share, later(nothing, u) + share
                            at = cell + r + first * stride[2]
                            for d in range(d0, d1):
                                for h in range(h0, h1):
                                    row = ((i * D + d) * H + h) * W
                                    add_cells(slopes, row, at, W, stride[2], t, u)
                                    if places > 1:
                                        add_cells(slopes, row, at + n * stride[2], W, stride[2], t_out, u_out)


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
