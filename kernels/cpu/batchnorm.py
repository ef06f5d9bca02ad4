"""Batch normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per channel over batch and positions.

Parallel plan: channels are independent, so each is one iteration that reads its N rows of S = prod(spatial) numbers.
Sums are made row by row and then over rows, which keeps float32 exact enough for large batches. The variance takes a
second pass, sum of (x - m)^2: the one-pass form sum x^2 - M m^2 cancels. Sources are in reference/batchnorm.py.
"""

import numpy as np
from numba import prange

from ..compiler import kernel


@kernel
def forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel; in training the running statistics move."""
    N, C = x.shape[:2]
    S = x.size // (N * C)
    x3, y3 = x.reshape((N, C, S)), y.reshape((N, C, S))
    M = float(N * S)
    unbiased = M / float(max(N * S - 1, 1))
    for c in prange(C):
        if training:
            total = 0.0
            for n in range(N):
                row = 0.0
                for s in range(S):
                    row += x3[n, c, s]
                total += row
            m = total / M
            total = 0.0
            for n in range(N):
                row = 0.0
                for s in range(S):
                    row += (x3[n, c, s] - m) * (x3[n, c, s] - m)
                total += row
            v = total / M
            running_mean[c] = momentum * running_mean[c] + (1.0 - momentum) * m
            running_variance[c] = momentum * running_variance[c] + (1.0 - momentum) * v * unbiased
            r = 1.0 / np.sqrt(v + epsilon)
            mean[c] = m
            inverse_deviation[c] = r
        else:
            m = running_mean[c]
            r = 1.0 / np.sqrt(running_variance[c] + epsilon)
        a, b = gain[c] * r, offset[c]
        for n in range(N):
            for s in range(S):
                y3[n, c, s] = a * (x3[n, c, s] - m) + b


@kernel
def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = gain r (dy - mean(dy) - h mean(dy h)), h = (x - m) r, with means over the M numbers of a channel."""
    N, C = x.shape[:2]
    S = x.size // (N * C)
    x3, dy3, dx3 = x.reshape((N, C, S)), dy.reshape((N, C, S)), dx.reshape((N, C, S))
    M = float(N * S)
    for c in prange(C):
        m, r = mean[c], inverse_deviation[c]
        sum_dy = 0.0
        sum_dyh = 0.0
        for n in range(N):
            row = 0.0
            row_h = 0.0
            for s in range(S):
                row += dy3[n, c, s]
                row_h += dy3[n, c, s] * (x3[n, c, s] - m)
            sum_dy += row
            sum_dyh += row_h * r
        a, shift, slope = gain[c] * r, sum_dy / M, r * sum_dyh / M
        for n in range(N):
            for s in range(S):
                dx3[n, c, s] = a * (dy3[n, c, s] - shift - (x3[n, c, s] - m) * slope)


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum of dy h and doffset = sum of dy over the M numbers of a channel."""
    N, C = x.shape[:2]
    S = x.size // (N * C)
    x3, dy3 = x.reshape((N, C, S)), dy.reshape((N, C, S))
    for c in prange(C):
        m, r = mean[c], inverse_deviation[c]
        sum_dy = 0.0
        sum_dyh = 0.0
        for n in range(N):
            row = 0.0
            row_h = 0.0
            for s in range(S):
                row += dy3[n, c, s]
                row_h += dy3[n, c, s] * (x3[n, c, s] - m)
            sum_dy += row
            sum_dyh += row_h * r
        dgain[c] = sum_dyh
        doffset[c] = sum_dy
