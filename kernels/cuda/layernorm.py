"""Layer normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per sample over its F features.

Arrays are flat; sample n is x[n F : (n + 1) F]. Parallel plan: in forward and backward_input a block of threads owns a
sample: neighbouring threads read neighbouring features, and a tree in shared memory joins their sums in a fixed order.
The gradients of gain and offset are sums over the batch: a thread owns a feature and adds its samples, the threads of
a warp read neighbouring features. Sources are in reference/layernorm.py.
"""

import numpy as np
from numba import cuda, prange

from ..compiler.kernel import kernel
from ..cpu.moments import scaled_moments
from ..gpu.device_code import block_kernel, real
from ..gpu.launch import THREADS, launch, launcher
from .block import total

ROWS = 512  # samples of a partial sum: the error of a sum grows with the number of its terms


@launcher
def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    yield launch(_forward, mean.size, THREADS, x, gain, offset, y, mean, inverse_deviation, epsilon)


@launcher
def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    yield launch(_backward_input, mean.size, THREADS, x, gain, mean, inverse_deviation, dy, dx)


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum over the batch of dy h, doffset = sum over the batch of dy."""
    F = dgain.size
    for j in prange(F):
        sum_dy, sum_dyh = 0.0, 0.0
        for first in range(0, mean.size, ROWS):
            portion, portion_h = 0.0, 0.0
            for n in range(first, min(mean.size, first + ROWS)):
                portion_h += dy[n * F + j] * ((x[n * F + j] - mean[n]) * inverse_deviation[n])
                portion += dy[n * F + j]
            sum_dy += portion
            sum_dyh += portion_h
        dgain[j] = sum_dyh
        doffset[j] = sum_dy


@block_kernel
def _forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """Forward pass of a sample: mean, variance, then y."""
    cells = cuda.shared.array(THREADS, real)
    n, t, F = cuda.blockIdx.x, cuda.threadIdx.x, gain.size
    at = n * F
    part = 0.0
    for j in range(t, F, THREADS):
        part += x[at + j]
    m = total(part, cells) / float(F)
    part = 0.0
    for j in range(t, F, THREADS):
        part += (x[at + j] - m) * (x[at + j] - m)
    r = 1.0 / np.sqrt(total(part, cells) / float(F) + epsilon)
    if not r > 0.0:  # the sum or the squares overflow: each thread computes the same
        m, r = scaled_moments(x[at : at + F], epsilon)
    for j in range(t, F, THREADS):
        y[at + j] = gain[j] * ((x[at + j] - m) * r) + offset[j]
    if t == 0:
        mean[n] = m
        inverse_deviation[n] = r


@block_kernel
def _backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """Gradient of a sample's input: the two means, then dx."""
    cells = cuda.shared.array(THREADS, real)
    n, t, F = cuda.blockIdx.x, cuda.threadIdx.x, gain.size
    at, m, r = n * F, mean[n], inverse_deviation[n]
    part, part_h = 0.0, 0.0
    for j in range(t, F, THREADS):
        g = gain[j] * dy[at + j]
        part += g
        part_h += g * ((x[at + j] - m) * r)
    shift = total(part, cells) / float(F)
    slope = total(part_h, cells) / float(F)
    for j in range(t, F, THREADS):
        dx[at + j] = r * (gain[j] * dy[at + j] - shift - (x[at + j] - m) * (r * slope))
