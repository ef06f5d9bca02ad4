"""Layer normalisation of samples that are columns, in NumPy: arrays (F, N), statistics (1, N); gradients add up."""

import numpy as np


def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample."""
    mean[...] = np.mean(x, axis=0)
    inverse_deviation[...] = 1 / np.sqrt(np.var(x, axis=0) + epsilon)
    y[...] = gain[:, None] * ((x - mean) * inverse_deviation) + offset[:, None]


def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    h, g = (x - mean) * inverse_deviation, gain[:, None] * dy
    dx[...] = inverse_deviation * (g - np.mean(g, axis=0) - h * np.mean(g * h, axis=0))


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain += sum over the samples of dy h, doffset += sum over the samples of dy."""
    dgain += np.sum(dy * ((x - mean) * inverse_deviation), axis=1)
    doffset += np.sum(dy, axis=1)
