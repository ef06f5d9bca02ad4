"""Layer normalisation, in NumPy: each sample over all of its features (Ba, Kiros & Hinton 2016, arXiv:1607.06450)."""

import numpy as np


def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample.

    x, y : (N, *shape)
    gain, offset : shape, F numbers, learned
    mean, inverse_deviation : (N,), written for the backward pass
    """
    axes = tuple(range(1, x.ndim))
    mean[...] = np.mean(x, axis=axes)
    inverse_deviation[...] = 1 / np.sqrt(np.var(x, axis=axes) + epsilon)
    y[...] = gain * _normal(x, mean, inverse_deviation) + offset


def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    axes = tuple(range(1, x.ndim))
    h, g = _normal(x, mean, inverse_deviation), gain * dy
    centred = g - np.mean(g, axis=axes, keepdims=True) - h * np.mean(g * h, axis=axes, keepdims=True)
    dx[...] = _of_sample(inverse_deviation, x) * centred


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum over the batch of dy h, doffset = sum over the batch of dy."""
    dgain[...] = np.sum(dy * _normal(x, mean, inverse_deviation), axis=0)
    doffset[...] = np.sum(dy, axis=0)


def _normal(x, mean, inverse_deviation):
    return (x - _of_sample(mean, x)) * _of_sample(inverse_deviation, x)


def _of_sample(v, x):
    """v (N,) as (N, 1, ..., 1), to meet x (N, *shape)."""
    return v.reshape(-1, *(1,) * (x.ndim - 1))
