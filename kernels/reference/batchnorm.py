"""Batch normalisation, in NumPy (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1 and section 3).

x, y, dx, dy are (N, C, positions), with positions = prod(spatial), 1 for (N, C). Statistics are per channel over the
M = N * positions numbers of the batch. The batch is divided by its biased deviation (1/M); the running variance takes
the unbiased one (1/(M - 1)), as the paper and PyTorch have it.
"""

import numpy as np


def forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel.

    gain, offset : (C,), learned
    running_mean, running_variance : (C,), m and v outside training; training sets them to
        momentum * running + (1 - momentum) * batch, unless M = 1 (one number has no variance); where that is not
        finite, they stay, and the channel's results are NaN
    mean, inverse_deviation : (C,), m and 1 / sqrt(v + epsilon), written for the backward pass
    """
    if training:
        M = x.size // gain.size
        mean[...] = np.mean(x, axis=(0, 2))
        variance = np.var(x, axis=(0, 2))
        if M > 1:
            moved_mean = momentum * running_mean + (1 - momentum) * mean
            moved_variance = momentum * running_variance + (1 - momentum) * variance * (M / (M - 1))
            finite = np.isfinite(moved_mean) & np.isfinite(moved_variance)
            running_mean[finite], running_variance[finite] = moved_mean[finite], moved_variance[finite]
            mean[~finite] = variance[~finite] = np.nan
        inverse_deviation[...] = 1 / np.sqrt(variance + epsilon)
    else:
        mean[...] = running_mean
        inverse_deviation[...] = 1 / np.sqrt(running_variance + epsilon)
    y[...] = _column(gain * inverse_deviation) * (x - _column(mean)) + _column(offset)


def backward_input(x, gain, mean, inverse_deviation, dy, dx, training):
    """dx = gain r (dy - mean(dy) - h mean(dy h)), h = (x - m) r, with means over the M numbers of a channel.

    Outside training m and r do not depend on x, so that dx = gain r dy.
    """
    r = _column(inverse_deviation)
    h = (x - _column(mean)) * r
    mean_dy, mean_dyh = (np.mean(a, axis=(0, 2), keepdims=True) for a in (dy, dy * h))
    # r first, as in the kernels: where h is a number too small to store, an infinite mean gives no NaN
    centred = dy - mean_dy - (x - _column(mean)) * (r * mean_dyh) if training else dy
    dx[...] = _column(gain * inverse_deviation) * centred


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum of dy h and doffset = sum of dy over the M numbers of a channel."""
    h = (x - _column(mean)) * _column(inverse_deviation)
    dgain[...] = np.sum(dy * h, axis=(0, 2))
    doffset[...] = np.sum(dy, axis=(0, 2))


def _column(v):
    """Return v (C,) as (C, 1), which broadcasts to (N, C, positions)."""
    return v[:, None]
