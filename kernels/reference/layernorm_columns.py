"""Layer normalisation of samples that are columns, in NumPy: arrays (F, N), statistics (1, N); gradients add up."""

import numpy as np

from . import layernorm


def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    rows = np.empty(y.size, y.dtype)
    layernorm.forward(x.T.ravel(), gain, offset, rows, mean[0], inverse_deviation[0], epsilon)
    y[...] = rows.reshape(y.shape[::-1]).T


def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    h, g = (x - mean) * inverse_deviation, gain[:, None] * dy
    dx[...] = inverse_deviation * (g - np.mean(g, axis=0) - h * np.mean(g * h, axis=0))


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain += sum over the samples of dy h, doffset += sum over the samples of dy."""
    dgain += np.sum(dy * ((x - mean) * inverse_deviation), axis=1)
    doffset += np.sum(dy, axis=1)
