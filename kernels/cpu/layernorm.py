"""Layer normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per sample over its F features.

Parallel plan: forward and backward_input loop over samples. The gradients of gain and offset are sums over the batch,
so their iterations own blocks of 64 features and run along rows in memory. Sources are in reference/layernorm.py.
"""

import numpy as np
from numba import prange

from ..compiler import kernel


@kernel
def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    N, F = x.shape[0], gain.size
    x2, y2, a, b = x.reshape((N, F)), y.reshape((N, F)), gain.reshape(F), offset.reshape(F)
    for n in prange(N):
        total = 0.0
        for j in range(F):
            total += x2[n, j]
        m = total / float(F)
        total = 0.0
        for j in range(F):
            total += (x2[n, j] - m) * (x2[n, j] - m)
        r = 1.0 / np.sqrt(total / float(F) + epsilon)
        for j in range(F):
            y2[n, j] = a[j] * ((x2[n, j] - m) * r) + b[j]
        mean[n] = m
        inverse_deviation[n] = r


@kernel
def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    N, F = x.shape[0], gain.size
    x2, dy2, dx2, a = x.reshape((N, F)), dy.reshape((N, F)), dx.reshape((N, F)), gain.reshape(F)
    for n in prange(N):
        m, r = mean[n], inverse_deviation[n]
        sum_g = 0.0
        sum_gh = 0.0
        for j in range(F):
            g = a[j] * dy2[n, j]
            sum_g += g
            sum_gh += g * (x2[n, j] - m)
        shift, slope = sum_g / float(F), sum_gh * r * r / float(F)
        for j in range(F):
            dx2[n, j] = r * (a[j] * dy2[n, j] - shift - (x2[n, j] - m) * slope)


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum over the batch of dy h, doffset = sum over the batch of dy."""
    N, F = x.shape[0], dgain.size
    x2, dy2, da, db = x.reshape((N, F)), dy.reshape((N, F)), dgain.reshape(F), doffset.reshape(F)
    for block in prange((F + 63) // 64):
        start, stop = 64 * block, min(64 * block + 64, F)
        for j in range(start, stop):
            da[j] = 0.0
            db[j] = 0.0
        for n in range(N):
            m, r = mean[n], inverse_deviation[n]
            for j in range(start, stop):
                da[j] += dy2[n, j] * ((x2[n, j] - m) * r)
                db[j] += dy2[n, j]
