"""Layer normalisation of samples that are columns: means and variances of all samples run side by side in vectors.

Arrays are (F, N); mean and inverse_deviation are (1, N). The gradients of gain and offset are added to. Parallel plan:
none here; see dense_columns.py. Indices are unsigned, as in layernorm.py.
"""

import numpy as np
from numba import prange, uintp

from ..compiler.arithmetic import add
from ..compiler.kernel import kernel
from .columns import MOST
from .moments import scaled_moments
from .tile import stack_array


@kernel
def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    F, N, share = uintp(gain.size), uintp(x.shape[1]), 1.0 / float(gain.size)
    for _ in prange(1):
        for i in range(N):
            mean[0, i] = 0.0
            inverse_deviation[0, i] = 0.0
        for j in range(F):
            for i in range(N):
                mean[0, i] += x[j, i]
        for i in range(N):
            mean[0, i] *= share
        for j in range(F):
            for i in range(N):
                inverse_deviation[0, i] += (x[j, i] - mean[0, i]) * (x[j, i] - mean[0, i])
        overflows = 0
        for i in range(N):
            overflows += not inverse_deviation[0, i] < float(np.inf)
        for i in range(N):
            inverse_deviation[0, i] = 1.0 / np.sqrt(inverse_deviation[0, i] * share + epsilon)
        if overflows > 0:
            for i in range(N):
                if not inverse_deviation[0, i] > 0.0:
                    mean[0, i], inverse_deviation[0, i] = scaled_moments(x[:, i], epsilon)
        for j in range(F):
            for i in range(N):
                y[j, i] = gain[j] * ((x[j, i] - mean[0, i]) * inverse_deviation[0, i]) + offset[j]


@kernel
def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    F, N, share = uintp(gain.size), uintp(x.shape[1]), 1.0 / float(gain.size)
    shift, slope = stack_array(x, MOST), stack_array(x, MOST)
    for _ in prange(1):
        for i in range(N):
            shift[i] = slope[i] = 0.0
        for j in range(F):
            for i in range(N):
                g = gain[j] * dy[j, i]
                shift[i] += g
                slope[i] += g * ((x[j, i] - mean[0, i]) * inverse_deviation[0, i])
        for i in range(N):
            shift[i] *= share
            slope[i] *= inverse_deviation[0, i] * share
        for j in range(F):
            for i in range(N):
                rest = gain[j] * dy[j, i] - shift[i] - (x[j, i] - mean[0, i]) * slope[i]
                dx[j, i] = inverse_deviation[0, i] * rest


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain += sum over the samples of dy h, doffset += sum over the samples of dy."""
    N = uintp(x.shape[1])
    for j in prange(uintp(dgain.size)):
        total_gain, total_offset = 0.0, 0.0
        for i in range(N):
            total_gain = add(total_gain, dy[j, i] * ((x[j, i] - mean[0, i]) * inverse_deviation[0, i]))
            total_offset = add(total_offset, dy[j, i])
        dgain[j] += total_gain
        doffset[j] += total_offset
