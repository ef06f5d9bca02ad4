"""Layer normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per sample over its F features.

Arrays are flat; sample n is x[n F : (n + 1) F]. Parallel plan: an iteration of forward owns a group of samples, so that
the root of one is computed during the sums of the next; an iteration of backward_input owns a sample. The gradients of
gain and offset are sums over the batch, so each iteration owns COLUMNS features and reads rows of them. Indices are
unsigned (uintp): Numba would test signed ones for "counted from the end", and LLVM would not vectorise. Sources are in
reference/layernorm.py.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import kernel
from .moments import scaled_moments
from .tile import stack_array

GROUP = 4096  # numbers of x that stay in the first-level cache from the variances of some samples to their y
ROWS = 512  # samples in a partial sum: the rounding error of a sum grows with its terms
COLUMNS = 64  # features of an iteration: their partial sums stay in the first-level cache


@kernel
def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    F, N, share = gain.size, mean.size, 1.0 / float(gain.size)
    samples = max(1, GROUP // F)
    for group in prange((N + samples - 1) // samples):
        start, stop = uintp(group * samples), uintp(min((group + 1) * samples, N))
        overflows = 0
        for n in range(start, stop):
            at = n * uintp(F)
            total = 0.0
            for j in range(uintp(F)):
                total += x[at + j]
            m = total * share
            total = 0.0
            for j in range(uintp(F)):
                total += (x[at + j] - m) * (x[at + j] - m)
            mean[n] = m
            inverse_deviation[n] = 1.0 / np.sqrt(total * share + epsilon)
            overflows += not total < float(np.inf)
        if overflows > 0:  # not in the loop above: a call there, even of what seldom runs, costs up to a tenth
            for n in range(start, stop):
                if not inverse_deviation[n] > 0.0:
                    mean[n], inverse_deviation[n] = scaled_moments(x[n * uintp(F) : (n + 1) * uintp(F)], epsilon)
        for n in range(start, stop):
            at, m, r = n * uintp(F), mean[n], inverse_deviation[n]
            for j in range(uintp(F)):
                y[at + j] = gain[j] * ((x[at + j] - m) * r) + offset[j]


@kernel
def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    F, share = gain.size, 1.0 / float(gain.size)
    for n in prange(mean.size):
        at, m, r = uintp(n * F), mean[n], inverse_deviation[n]
        sum_g, sum_gh = 0.0, 0.0
        for j in range(uintp(F)):
            g = gain[j] * dy[at + j]
            sum_g += g
            sum_gh += g * ((x[at + j] - m) * r)
        shift, slope = sum_g * share, r * (sum_gh * share)
        for j in range(uintp(F)):
            dx[at + j] = r * (gain[j] * dy[at + j] - shift - (x[at + j] - m) * slope)


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum over the batch of dy h, doffset = sum over the batch of dy."""
    F = dgain.size
    part_gain, part_offset = stack_array(x, COLUMNS), stack_array(x, COLUMNS)
    for block in prange((F + COLUMNS - 1) // COLUMNS):
        start, stop = uintp(block * COLUMNS), uintp(min((block + 1) * COLUMNS, F))
        for j in range(start, stop):
            dgain[j] = 0.0
            doffset[j] = 0.0
        for first in range(0, mean.size, ROWS):
            for j in range(uintp(COLUMNS)):
                part_gain[j] = part_offset[j] = 0.0
            for n in range(first, min(mean.size, first + ROWS)):
                at, m, r = uintp(n * F) + start, mean[n], inverse_deviation[n]
                for j in range(stop - start):
                    part_gain[j] += dy[at + j] * ((x[at + j] - m) * r)
                    part_offset[j] += dy[at + j]
            for j in range(stop - start):
                dgain[start + j] += part_gain[j]
                doffset[start + j] += part_offset[j]
