"""Batch normalisation: y = gain (x - m) / sqrt(v + epsilon) + offset, statistics per channel over batch and positions.

x, y, dx, dy are (N, C, positions). Parallel plan: a block of threads owns a channel. Neighbouring threads read
neighbouring numbers of the channel, each thread adds its own in registers, and a tree in shared memory joins these sums
in a fixed order; the second and third pass mostly find the channel in the L2 cache. No block writes what another reads.
The variance takes a second pass, sum of (x - m)^2: the one-pass form sum x^2 - M m^2 cancels. Sources:
reference/batchnorm.py.
"""

import numpy as np
from numba import cuda

from ..gpu.device_code import SIMULATED, block_helper, block_kernel, real
from ..gpu.launch import THREADS, launch, launcher
from .block import total

WIDE = THREADS if SIMULATED else 1024  # threads of a block: the most, because channels are few
REGISTERS = 64  # registers of a thread: a multiprocessor has 65,536


@launcher
def forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel.

    Training updates the running statistics of channels of two or more numbers; if they overflow, y is NaN.
    """
    yield launch(
        _forward, x.shape[1], WIDE, x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation,
        momentum, epsilon, training,
    )  # fmt: skip


@launcher
def backward_input(x, gain, mean, inverse_deviation, dy, dx, training):
    """dx = gain r (dy - mean(dy) - h mean(dy h)), h = (x - m) r; outside training m and r are given: dx = gain r dy."""
    yield launch(_backward_input, x.shape[1], WIDE, x, gain, mean, inverse_deviation, dy, dx, training)


@launcher
def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum of dy h and doffset = sum of dy over the M numbers of a channel."""
    yield launch(_backward_parameters, x.shape[1], WIDE, x, mean, inverse_deviation, dy, dgain, doffset)


@block_helper
def _next(n, i, rows, rest, positions):
    """Advance sample and position by WIDE = rows positions + rest numbers, without a division."""
    n, i = n + rows, i + rest
    return (n + 1, i - positions) if i >= positions else (n, i)


@block_kernel(registers=REGISTERS)
def _forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """Forward pass of a channel: mean, variance, then y."""
    cells = cuda.shared.array(WIDE, real)
    c, t = cuda.blockIdx.x, cuda.threadIdx.x
    N, _, positions = x.shape
    count, rows, rest = N * positions, WIDE // positions, WIDE % positions
    old_mean, old_variance = running_mean[c], running_variance[c]
    m, v = old_mean, old_variance
    if training:
        part = 0.0
        n, i = t // positions, t % positions
        while n < N:
            part += x[n, c, i]
            n, i = _next(n, i, rows, rest, positions)
        m = total(part, cells) / float(count)
        part = 0.0
        n, i = t // positions, t % positions
        while n < N:
            part += (x[n, c, i] - m) * (x[n, c, i] - m)
            n, i = _next(n, i, rows, rest, positions)
        v = total(part, cells) / float(count)
        if count > 1:
            unbiased = float(count) / float(count - 1)
            moved_mean = momentum * old_mean + (1.0 - momentum) * m
            moved_variance = momentum * old_variance + (1.0 - momentum) * v * unbiased
            if not (abs(moved_mean) < float(np.inf) and moved_variance < float(np.inf)):
                m, v = np.nan, np.nan
            elif t == 0:
                running_mean[c], running_variance[c] = moved_mean, moved_variance
    if t == 0:
        mean[c] = m
        inverse_deviation[c] = 1.0 / np.sqrt(v + epsilon)
    a, b = gain[c] / np.sqrt(v + epsilon), offset[c]
    n, i = t // positions, t % positions
    while n < N:
        y[n, c, i] = a * (x[n, c, i] - m) + b
        n, i = _next(n, i, rows, rest, positions)


@block_kernel(registers=REGISTERS)
def _backward_input(x, gain, mean, inverse_deviation, dy, dx, training):
    """Gradient of a channel's input: the two sums, then dx."""
    cells = cuda.shared.array(WIDE, real)
    c, t = cuda.blockIdx.x, cuda.threadIdx.x
    N, _, positions = x.shape
    count, rows, rest = N * positions, WIDE // positions, WIDE % positions
    m, r = mean[c], inverse_deviation[c]
    shift, slope = 0.0, 0.0
    if training:
        part, part_h = 0.0, 0.0
        n, i = t // positions, t % positions
        while n < N:
            part += dy[n, c, i]
            part_h += dy[n, c, i] * ((x[n, c, i] - m) * r)
            n, i = _next(n, i, rows, rest, positions)
        shift = total(part, cells) / float(count)
        slope = total(part_h, cells) / float(count)
    a = gain[c] * r
    n, i = t // positions, t % positions
    while n < N:
        centred = dy[n, c, i]
        if training:  # prediction does not read x: 0 times an infinite x would be NaN
            centred = centred - shift - (x[n, c, i] - m) * (r * slope)
        dx[n, c, i] = a * centred
        n, i = _next(n, i, rows, rest, positions)


@block_kernel(registers=REGISTERS)
def _backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """Gradients of a channel's gain and offset: the two sums."""
    cells = cuda.shared.array(WIDE, real)
    c, t = cuda.blockIdx.x, cuda.threadIdx.x
    N, _, positions = x.shape
    rows, rest = WIDE // positions, WIDE % positions
    m, r = mean[c], inverse_deviation[c]
    part, part_h = 0.0, 0.0
    n, i = t // positions, t % positions
    while n < N:
        part += dy[n, c, i]
        part_h += dy[n, c, i] * ((x[n, c, i] - m) * r)
        n, i = _next(n, i, rows, rest, positions)
    sum_dy, sum_dyh = total(part, cells), total(part_h, cells)
    if t == 0:
        dgain[c] = sum_dyh
        doffset[c] = sum_dy
