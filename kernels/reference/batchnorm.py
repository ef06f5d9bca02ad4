"""Batch normalisation, in NumPy (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1 and section 3).

Statistics are per channel over the batch and all positions: M = N * prod(spatial) numbers. The batch is divided by its
biased deviation (1/M); the running variance takes the unbiased one (1/(M - 1)), as the paper and PyTorch have it.
"""

import numpy as np


def forward(x, gain, offset, y, running_mean, running_variance, mean, inverse_deviation, momentum, epsilon, training):
    """y = gain (x - m) / sqrt(v + epsilon) + offset for each channel.

    x, y : (N, C, *spatial)
    gain, offset : (C,), learned
    running_mean, running_variance : (C,), in training moved to momentum * running + (1 - momentum) * batch;
        outside training m and v are they
    mean, inverse_deviation : (C,), written in training for the backward pass
    """
    if training:
        axes = (0, *range(2, x.ndim))
        M = x.size // x.shape[1]
        mean[...] = np.mean(x, axis=axes)
        variance = np.var(x, axis=axes)
        inverse_deviation[...] = 1 / np.sqrt(variance + epsilon)
        running_mean[...] = momentum * running_mean + (1 - momentum) * mean
        running_variance[...] = momentum * running_variance + (1 - momentum) * variance * (M / max(M - 1, 1))
        m, r = mean, inverse_deviation
    else:
        m, r = running_mean, 1 / np.sqrt(running_variance + epsilon)
    y[...] = _of_channel(gain * r, x) * (x - _of_channel(m, x)) + _of_channel(offset, x)


def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = gain r (dy - mean(dy) - h mean(dy h)), h = (x - m) r, with means over the M numbers of a channel."""
    axes = (0, *range(2, x.ndim))
    h = (x - _of_channel(mean, x)) * _of_channel(inverse_deviation, x)
    centred = dy - np.mean(dy, axis=axes, keepdims=True) - h * np.mean(dy * h, axis=axes, keepdims=True)
    dx[...] = _of_channel(gain * inverse_deviation, x) * centred


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum of dy h and doffset = sum of dy over the M numbers of a channel."""
    axes = (0, *range(2, x.ndim))
    h = (x - _of_channel(mean, x)) * _of_channel(inverse_deviation, x)
    dgain[...] = np.sum(dy * h, axis=axes)
    doffset[...] = np.sum(dy, axis=axes)


def _of_channel(v, x):
    """v (C,) as (C, 1, ..., 1), to meet x (N, C, *spatial)."""
    return v.reshape(-1, *(1,) * (x.ndim - 2))
