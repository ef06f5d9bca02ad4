"""Derivatives in forward mode of layers that are neither linear nor formulas: dy, that of y in the direction dx.

x, y, dx, dy are flat for layer normalisation and embeddings, else (N, C, *spatial) with three spatial dimensions;
argmax is that of pooling.py. Parallel plan: an iteration owns a sample, or a map. Formulas are in reference/jvp.py.
"""

from math import inf

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import kernel
from .codes import row_of


@kernel
def layernorm(x, gain, mean, inverse_deviation, dx, dy):
    """dy = gain r (dx - mean(dx) - h mean(h dx)), h = (x - m) r, with means over a sample's F features."""
    F, share = gain.size, 1.0 / float(gain.size)
    for n in prange(mean.size):
        at, m, r = uintp(n * F), mean[n], inverse_deviation[n]
        total, total_h = 0.0, 0.0
        for j in range(uintp(F)):
            total += dx[at + j]
            total_h += ((x[at + j] - m) * r) * dx[at + j]
        shift, slope = total * share, r * (total_h * share)
        for j in range(uintp(F)):
            dy[at + j] = gain[j] * (r * (dx[at + j] - shift - (x[at + j] - m) * slope))


@kernel
def embedding(x, dx, dy, features, width, columns, counts, sizes):
    """dy = dx for the inputs that are passed on, 0 for the numbers of codes; see embedding.py."""
    for n in prange(dx.size // features):
        at, to, column = n * features, n * width, 0
        for k in range(len(columns)):
            for _ in range(columns[k] - column):
                dy[uintp(to)] = dx[uintp(at)]
                at, to = at + 1, to + 1
            row = row_of(x[uintp(at)], counts[k])
            for j in range(sizes[k]):
                dy[uintp(to + j)] = 0.0 if row >= 0 else np.nan
            at, to, column = at + 1, to + sizes[k], columns[k] + 1
        for _ in range(features - column):
            dy[uintp(to)] = dx[uintp(at)]
            at, to = at + 1, to + 1


@kernel
def max_pool(argmax, dx, dy):
    """dy = dx at the argmax of each window."""
    maps, cells = dx.shape[0] * dx.shape[1], dx.shape[2] * dx.shape[3] * dx.shape[4]
    windows = dy.shape[2] * dy.shape[3] * dy.shape[4]
    best, slopes, results = argmax.reshape(-1), dx.reshape(-1), dy.reshape(-1)
    for i in prange(maps):
        for o in range(i * windows, (i + 1) * windows):
            results[o] = slopes[i * cells + int(best[o])]


@kernel
def global_max_pool(x, dx, dy):
    """dy = dx at the first largest cell of each map."""
    N, C, D, H, W = x.shape
    cells, slopes = x.reshape(-1), dx.reshape(-1)
    for i in prange(N * C):
        best = i * D * H * W
        for j in range(i * D * H * W, (i + 1) * D * H * W):
            if cells[j] > cells[best] or (cells[j] != cells[j] and cells[best] == cells[best]):
                best = j
        dy[i // C, i % C] = slopes[best]


@kernel
def lp_pool(x, y, dx, dy, size, stride, pad_before, p):
    """dy = sum over each window of sign(x) (|x| / y)^(p-1) dx, 0 where y = 0."""
    N, C, D, H, W = x.shape
    for i in prange(N * C):
        n, c = i // C, i % C
        for o in range(y.shape[2] * y.shape[3] * y.shape[4]):
            od, oh, ow = o // (y.shape[3] * y.shape[4]), o // y.shape[4] % y.shape[3], o % y.shape[4]
            norm, total, found = y[n, c, od, oh, ow], 0.0, False
            for k in range(size[0] * size[1] * size[2]):
                d = od * stride[0] - pad_before[0] + k // (size[1] * size[2])
                h = oh * stride[1] - pad_before[1] + k // size[2] % size[1]
                w = ow * stride[2] - pad_before[2] + k % size[2]
                if not (0 <= d < D and 0 <= h < H and 0 <= w < W):
                    continue
                value = x[n, c, d, h, w]
                wins = not found and (abs(value) == norm or value != value)
                found = found or wins
                slope = np.sign(value) * (abs(value) / norm) ** (p - 1.0) if p != inf else np.sign(value) * wins
                total += slope * dx[n, c, d, h, w] if slope != 0.0 else 0.0
            dy[n, c, od, oh, ow] = total if norm != 0.0 else 0.0
