"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums and
never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the whole
map as the window and give y (N, C).

Parallel plan: every kernel loops over the N C maps, which do not touch each other. In backward a map is set to zero,
then every window adds to its cells: windows may overlap, but one iteration owns the map.
"""

from math import inf

from numba import njit, prange

from ..compiler import kernel


@njit
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@njit
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return v > largest or (v != v and largest == largest)


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
    for i in prange(N * C):
        n, c = i // C, i % C
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    largest = x[n, c, d0, h0, w0]
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            for w in range(w0, w1):
                                v = x[n, c, d, h, w]
                                if _beats(v, largest):
                                    largest = v
                    y[n, c, od, oh, ow] = largest


@kernel
def max_backward_input(x, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    for i in prange(N * C):
        n, c = i // C, i % C
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    dx[n, c, d, h, w] = 0.0
        for od in range(OD):
            d0, d1 = _cells(od, stride[0], before[0], size[0], D)
            for oh in range(OH):
                h0, h1 = _cells(oh, stride[1], before[1], size[1], H)
                for ow in range(OW):
                    w0, w1 = _cells(ow, stride[2], before[2], size[2], W)
                    largest, ld, lh, lw = x[n, c, d0, h0, w0], d0, h0, w0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            for w in range(w0, w1):
                                v = x[n, c, d, h, w]
                                if _beats(v, largest):
                                    largest, ld, lh, lw = v, d, h, w
                    dx[n, c, ld, lh, lw] += dy[n, c, od, oh, ow]


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
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
                            for w in range(w0, w1):
                                total += x[n, c, d, h, w]
                    y[n, c, od, oh, ow] = total / float(count)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = dx.shape[2:]
    for i in prange(N * C):
        n, c = i // C, i % C
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    dx[n, c, d, h, w] = 0.0
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
                            for w in range(w0, w1):
                                dx[n, c, d, h, w] += share


@kernel
def lp_forward(x, y, size, stride, before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    N, C, OD, OH, OW = y.shape
    D, H, W = x.shape[2:]
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
                            for w in range(w0, w1):
                                v = abs(x[n, c, d, h, w])
                                if _beats(v, largest):
                                    largest = v
                    if p == inf or not 0.0 < largest < inf:  # also nothing to divide by, or no number
                        y[n, c, od, oh, ow] = largest
                        continue
                    total = 0.0
                    for d in range(d0, d1):
                        for h in range(h0, h1):
                            for w in range(w0, w1):
                                r = abs(x[n, c, d, h, w]) / largest
                                total += r * r if p == 2.0 else r**p
                    y[n, c, od, oh, ow] = largest * total ** (1.0 / p)


@kernel
def lp_backward_input(x, y, dy, dx, size, stride, before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    N, C, OD, OH, OW = dy.shape
    D, H, W = x.shape[2:]
    for i in prange(N * C):
        n, c = i // C, i % C
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    dx[n, c, d, h, w] = 0.0
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
                            for w in range(w0, w1):
                                v = x[n, c, d, h, w]
                                signed = delta if v > 0.0 else -delta
                                if p == inf:
                                    if free and not abs(v) < norm:
                                        free = False
                                        dx[n, c, d, h, w] += signed
                                elif p == 2.0:
                                    if free:
                                        dx[n, c, d, h, w] += delta * (v / norm)
                                elif free and v != 0.0:
                                    dx[n, c, d, h, w] += signed * (abs(v) / norm) ** (p - 1.0)


@kernel
def global_average_forward(x, y):
    """y (N, C) = the mean of each map."""
    N, C, D, H, W = x.shape
    for i in prange(N * C):
        n, c = i // C, i % C
        total = 0.0
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    total += x[n, c, d, h, w]
        y[n, c] = total / float(D * H * W)


@kernel
def global_average_backward_input(dy, dx):
    """dx = dy / cells."""
    N, C, D, H, W = dx.shape
    for i in prange(N * C):
        n, c = i // C, i % C
        share = dy[n, c] / float(D * H * W)
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    dx[n, c, d, h, w] = share


@kernel
def global_max_forward(x, y):
    """y (N, C) = the largest of each map."""
    N, C, D, H, W = x.shape
    for i in prange(N * C):
        n, c = i // C, i % C
        largest = x[n, c, 0, 0, 0]
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    v = x[n, c, d, h, w]
                    if _beats(v, largest):
                        largest = v
        y[n, c] = largest


@kernel
def global_max_backward_input(x, dy, dx):
    """dx = dy at the first largest cell of each map."""
    N, C, D, H, W = x.shape
    for i in prange(N * C):
        n, c = i // C, i % C
        largest, ld, lh, lw = x[n, c, 0, 0, 0], 0, 0, 0
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    dx[n, c, d, h, w] = 0.0
                    v = x[n, c, d, h, w]
                    if _beats(v, largest):
                        largest, ld, lh, lw = v, d, h, w
        dx[n, c, ld, lh, lw] = dy[n, c]
