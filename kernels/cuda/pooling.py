"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the first largest cell of the window, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - before. Padding adds nothing to sums
and never wins a maximum; NaN always does. x (N, C, *in), y (N, C, *out), three dimensions; the global forms take the
whole map as the window and give y (N, C).

Parallel plan: a thread owns a number of what is written. Forward it goes over its window. Backward it owns a cell of
dx and goes over the windows that see the cell, in their order; for a maximum it looks up which cell of each has won.
That reads a window once for each of its cells, mostly from cache, but two threads never write to one place. The global
forms give a map to a block of threads.
"""

from math import inf

import numpy as np
from numba import cuda, prange

from ..compiler import helper, kernel
from ..launch import THREADS, block_kernel, launch, launcher, real
from .block import total


@helper
def _cells(o, s, before, size, i):
    """First and last + 1 of the input's cells in the window at position o."""
    start = o * s - before
    return max(start, 0), min(start + size, i)


@helper
def _windows(q, s, before, size, count):
    """First and last + 1 of the positions whose windows see the cell q."""
    return max((q + before - size) // s + 1, 0), min((q + before) // s + 1, count)


@helper
def _beats(v, largest):
    """Whether v is larger, or the first NaN."""
    return v > largest or (v != v and largest == largest)


@helper
def _winner(cells, image, shape, o, size, stride, before, magnitude):
    """The flat index of the first largest number (or magnitude) in the window at position o of a map."""
    D, H, W = shape
    d0, d1 = _cells(o[0], stride[0], before[0], size[0], D)
    h0, h1 = _cells(o[1], stride[1], before[1], size[1], H)
    w0, w1 = _cells(o[2], stride[2], before[2], size[2], W)
    best = ((image * D + d0) * H + h0) * W + w0
    top = abs(cells[best]) if magnitude else cells[best]
    for d in range(d0, d1):
        for h in range(h0, h1):
            for w in range(w0, w1):
                at = ((image * D + d) * H + h) * W + w
                v = abs(cells[at]) if magnitude else cells[at]
                if _beats(v, top):
                    best, top = at, v
    return best


@kernel
def max_forward(x, y, size, stride, before):
    """y = the largest of each window."""
    shape, cells, tops = x.shape[2:], x.reshape(-1), y.reshape(-1)
    OD, OH, OW = y.shape[2:]
    for i in prange(y.size):
        o = (i // (OW * OH) % OD, i // OW % OH, i % OW)
        tops[i] = cells[_winner(cells, i // (OW * OH * OD), shape, o, size, stride, before, False)]


@kernel
def max_backward_input(x, dy, dx, size, stride, before):
    """dx = dy at the first largest cell of each window, summed over windows."""
    shape, cells, deltas, slopes = x.shape[2:], x.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    D, H, W = x.shape[2:]
    OD, OH, OW = dy.shape[2:]
    for i in prange(dx.size):
        image = i // (W * H * D)
        d0, d1 = _windows(i // (W * H) % D, stride[0], before[0], size[0], OD)
        h0, h1 = _windows(i // W % H, stride[1], before[1], size[1], OH)
        w0, w1 = _windows(i % W, stride[2], before[2], size[2], OW)
        total = 0.0
        for d in range(d0, d1):
            for h in range(h0, h1):
                for w in range(w0, w1):
                    if _winner(cells, image, shape, (d, h, w), size, stride, before, False) == i:
                        total += deltas[((image * OD + d) * OH + h) * OW + w]
        slopes[i] = total


@kernel
def average_forward(x, y, size, stride, before, count_padding):
    """y = the mean of each window."""
    D, H, W = x.shape[2:]
    OD, OH, OW = y.shape[2:]
    cells, means = x.reshape(-1), y.reshape(-1)
    for i in prange(y.size):
        image = i // (OW * OH * OD)
        d0, d1 = _cells(i // (OW * OH) % OD, stride[0], before[0], size[0], D)
        h0, h1 = _cells(i // OW % OH, stride[1], before[1], size[1], H)
        w0, w1 = _cells(i % OW, stride[2], before[2], size[2], W)
        total = 0.0
        for d in range(d0, d1):
            for h in range(h0, h1):
                for w in range(w0, w1):
                    total += cells[((image * D + d) * H + h) * W + w]
        count = size[0] * size[1] * size[2] if count_padding else (d1 - d0) * (h1 - h0) * (w1 - w0)
        means[i] = total / float(count)


@kernel
def average_backward_input(dy, dx, size, stride, before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    D, H, W = dx.shape[2:]
    OD, OH, OW = dy.shape[2:]
    deltas, slopes = dy.reshape(-1), dx.reshape(-1)
    for i in prange(dx.size):
        image = i // (W * H * D)
        d0, d1 = _windows(i // (W * H) % D, stride[0], before[0], size[0], OD)
        h0, h1 = _windows(i // W % H, stride[1], before[1], size[1], OH)
        w0, w1 = _windows(i % W, stride[2], before[2], size[2], OW)
        total = 0.0
        for d in range(d0, d1):
            a0, a1 = _cells(d, stride[0], before[0], size[0], D)
            for h in range(h0, h1):
                b0, b1 = _cells(h, stride[1], before[1], size[1], H)
                for w in range(w0, w1):
                    c0, c1 = _cells(w, stride[2], before[2], size[2], W)
                    count = size[0] * size[1] * size[2] if count_padding else (a1 - a0) * (b1 - b0) * (c1 - c0)
                    total += deltas[((image * OD + d) * OH + h) * OW + w] / float(count)
        slopes[i] = total


@kernel
def lp_forward(x, y, size, stride, before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    shape, cells, norms = x.shape[2:], x.reshape(-1), y.reshape(-1)
    D, H, W = x.shape[2:]
    OD, OH, OW = y.shape[2:]
    for i in prange(y.size):
        image = i // (OW * OH * OD)
        o = (i // (OW * OH) % OD, i // OW % OH, i % OW)
        largest = abs(cells[_winner(cells, image, shape, o, size, stride, before, True)])
        if p != inf and 0.0 < largest < inf:
            d0, d1 = _cells(o[0], stride[0], before[0], size[0], D)
            h0, h1 = _cells(o[1], stride[1], before[1], size[1], H)
            w0, w1 = _cells(o[2], stride[2], before[2], size[2], W)
            total = 0.0
            for d in range(d0, d1):
                for h in range(h0, h1):
                    for w in range(w0, w1):
                        ratio = abs(cells[((image * D + d) * H + h) * W + w]) / largest
                        total += ratio * ratio if p == 2.0 else ratio**p
            largest *= np.sqrt(total) if p == 2.0 else total ** (1.0 / p)
        norms[i] = largest


@kernel
def lp_backward_input(x, y, dy, dx, size, stride, before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    shape, cells, norms = x.shape[2:], x.reshape(-1), y.reshape(-1)
    deltas, slopes = dy.reshape(-1), dx.reshape(-1)
    D, H, W = x.shape[2:]
    OD, OH, OW = dy.shape[2:]
    for i in prange(dx.size):
        image = i // (W * H * D)
        d0, d1 = _windows(i // (W * H) % D, stride[0], before[0], size[0], OD)
        h0, h1 = _windows(i // W % H, stride[1], before[1], size[1], OH)
        w0, w1 = _windows(i % W, stride[2], before[2], size[2], OW)
        total = 0.0
        for d in range(d0, d1):
            for h in range(h0, h1):
                for w in range(w0, w1):
                    o = ((image * OD + d) * OH + h) * OW + w
                    norm = norms[o] if norms[o] != 0.0 else 1.0
                    ratio = abs(cells[i]) / norm
                    if p == inf:
                        wins = _winner(cells, image, shape, (d, h, w), size, stride, before, True) == i
                        slope = 1.0 if wins else 0.0
                    elif p == 2.0:
                        slope = ratio
                    else:
                        slope = ratio ** (p - 1.0)
                    total += np.sign(cells[i]) * slope * deltas[o]
        slopes[i] = total


@launcher
def global_average_forward(x, y):
    """y (N, C) = the mean of each map."""
    yield launch(_mean, y.size, THREADS, x.reshape(-1), y.reshape(-1))


@kernel
def global_average_backward_input(dy, dx):
    """dx = dy / cells."""
    deltas, slopes = dy.reshape(-1), dx.reshape(-1)
    count = dx.size // dy.size
    for i in prange(dx.size):
        slopes[i] = deltas[i // count] / float(count)


@launcher
def global_max_forward(x, y):
    """y (N, C) = the largest of each map."""
    yield launch(_largest, y.size, THREADS, x.reshape(-1), y.reshape(-1), y.reshape(-1), False)


@launcher
def global_max_backward_input(x, dy, dx):
    """dx = dy at the first largest cell of each map."""
    yield launch(_largest, dy.size, THREADS, x.reshape(-1), dy.reshape(-1), dx.reshape(-1), True)


@block_kernel
def _mean(x, y):
    """A map."""
    cells = cuda.shared.array(THREADS, real)
    image, t = cuda.blockIdx.x, cuda.threadIdx.x
    count = x.size // y.size
    part = 0.0
    for i in range(t, count, THREADS):
        part += x[image * count + i]
    part = total(part, cells)
    if t == 0:
        y[image] = part / float(count)


@block_kernel
def _largest(x, y, into, backward):
    """A map: the threads find the first largest number; it is written to y, or dy to its place in dx."""
    tops = cuda.shared.array(THREADS, real)
    places = cuda.shared.array(THREADS, np.int64)
    image, t = cuda.blockIdx.x, cuda.threadIdx.x
    count = x.size // y.size
    best, top = image * count, x[image * count]
    for i in range(t, count, THREADS):
        v = x[image * count + i]
        if _beats(v, top):
            best, top = image * count + i, v
    tops[t], places[t] = top, best
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            v, at, top = tops[t + half], places[t + half], tops[t]
            tie = (v == top or (v != v and top != top)) and at < places[t]
            if _beats(v, top) or tie:
                tops[t], places[t] = v, at
        cuda.syncthreads()
        half //= 2
    if not backward:
        if t == 0:
            into[image] = tops[0]
    else:
        for i in range(t, count, THREADS):
            at = image * count + i
            into[at] = y[image] if at == places[0] else 0.0
