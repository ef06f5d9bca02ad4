"""Batch normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per channel over batch and positions.

x, y, dx, dy are (N, C, positions). Parallel plan: one iteration a channel, which reads its N rows. Sums are taken over
a row, then over ROWS rows, then over all, so that float32 stays accurate for large batches. The variance takes a second
pass, the sum of (x - m)^2: the one-pass form sum x^2 - M m^2 cancels. Sources are in reference/batchnorm.py.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel

ROWS = 512  # samples in a partial sum: the rounding error of a sum grows with its terms


@kernel
def forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel; in training the running statistics move.

    They move if a channel has two or more numbers. A channel whose statistics overflow gives NaN and moves nothing.
    """
    N, C, positions = x.shape
    M, unbiased = float(N * positions), float(N * positions) / float(max(N * positions - 1, 1))
    for c in prange(C):
        m, v = running_mean[c], running_variance[c]
        if training:
            total = 0.0
            portion = 0.0
            for n in range(N):
                row = 0.0
                for i in range(positions):
                    row += x[n, c, i]
                portion += row
                if n % ROWS == ROWS - 1:
                    total += portion
                    portion = 0.0
            total += portion
            m = total / M
            total = 0.0
            portion = 0.0
            for n in range(N):
                row = 0.0
                for i in range(positions):
                    row += (x[n, c, i] - m) * (x[n, c, i] - m)
                portion += row
                if n % ROWS == ROWS - 1:
                    total += portion
                    portion = 0.0
            total += portion
            v = total / M
            if N * positions > 1:
                moved_mean = momentum * running_mean[c] + (1.0 - momentum) * m
                moved_variance = momentum * running_variance[c] + (1.0 - momentum) * v * unbiased
                if abs(moved_mean) < float(np.inf) and moved_variance < float(np.inf):
                    running_mean[c], running_variance[c] = moved_mean, moved_variance
                else:  # prediction could not be right: training must not go on with 1 / sqrt(infinity) = 0
                    m, v = np.nan, np.nan
        mean[c] = m
        inverse_deviation[c] = 1.0 / np.sqrt(v + epsilon)
        a, b = gain[c] / np.sqrt(v + epsilon), offset[c]
        for n in range(N):
            for i in range(positions):
                y[n, c, i] = a * (x[n, c, i] - m) + b


@kernel
def backward_input(x, gain, mean, inverse_deviation, dy, dx, training):
    """dx = gain r (dy - mean(dy) - h mean(dy h)), h = (x - m) r; outside training dx = gain r dy."""
    N, C, positions = x.shape
    M = float(N * positions)
    for c in prange(C):
        m, r = mean[c], inverse_deviation[c]
        a = gain[c] * r
        if not training:  # x is not read: 0 times an infinite one would be NaN
            for n in range(N):
                for i in range(positions):
                    dx[n, c, i] = a * dy[n, c, i]
            continue
        sum_dy, sum_dyh = 0.0, 0.0
        portion, portion_h = 0.0, 0.0
        for n in range(N):
            row, row_h = 0.0, 0.0
            for i in range(positions):
                row += dy[n, c, i]
                row_h += dy[n, c, i] * ((x[n, c, i] - m) * r)
            portion += row
            portion_h += row_h
            if n % ROWS == ROWS - 1:
                sum_dy += portion
                sum_dyh += portion_h
                portion, portion_h = 0.0, 0.0
        sum_dy += portion
        sum_dyh += portion_h
        shift, slope = sum_dy / M, r * (sum_dyh / M)
        for n in range(N):
            for i in range(positions):
                dx[n, c, i] = a * (dy[n, c, i] - shift - (x[n, c, i] - m) * slope)


@kernel
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum of dy h and doffset = sum of dy over the M numbers of a channel."""
    N, C, positions = x.shape
    for c in prange(C):
        m, r = mean[c], inverse_deviation[c]
        sum_dy, sum_dyh = 0.0, 0.0
        portion, portion_h = 0.0, 0.0
        for n in range(N):
            row, row_h = 0.0, 0.0
            for i in range(positions):
                row += dy[n, c, i]
                row_h += dy[n, c, i] * ((x[n, c, i] - m) * r)
            portion += row
            portion_h += row_h
            if n % ROWS == ROWS - 1:
                sum_dy += portion
                sum_dyh += portion_h
                portion, portion_h = 0.0, 0.0
        sum_dy += portion
        sum_dyh += portion_h
        dgain[c] = sum_dyh
        doffset[c] = sum_dy
