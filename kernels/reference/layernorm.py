"""Layer normalisation, in NumPy: each sample over all of its features (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

All arrays are flat: x, y, dx, dy are (N, F) in C order; gain and offset (F,); mean and inverse_deviation (N,).
"""

import numpy as np


def forward(x, gain, offset, y, mean, inverse_deviation, epsilon):
    """y = gain (x - m) / sqrt(v + epsilon) + offset, with m and v (biased, 1/F) of each sample.

    mean, inverse_deviation : (N,), written for the backward pass
    """
    x = x.reshape(-1, gain.size)
    mean[...] = np.mean(x, axis=1)
    inverse_deviation[...] = 1 / np.sqrt(np.var(x, axis=1) + epsilon)
    for n in np.flatnonzero(~(inverse_deviation > 0)):  # the sum or the squares overflow
        mean[n], inverse_deviation[n] = _scaled(x[n], epsilon)
    y[...] = (gain * _normal(x, mean, inverse_deviation) + offset).ravel()


def backward_input(x, gain, mean, inverse_deviation, dy, dx):
    """dx = r (g - mean(g) - h mean(g h)), g = gain dy, h = (x - m) r, with means over a sample's F features."""
    h, g = _normal(x, mean, inverse_deviation), gain * dy.reshape(-1, gain.size)
    mean_g, mean_gh = (np.mean(a, axis=1, keepdims=True) for a in (g, g * h))
    centred, r = x.reshape(g.shape) - mean[:, None], inverse_deviation[:, None]
    dx[...] = (r * (g - mean_g - centred * (r * mean_gh))).ravel()  # r first, see batchnorm.py


def backward_parameters(x, mean, inverse_deviation, dy, dgain, doffset):
    """dgain = sum over the batch of dy h, doffset = sum over the batch of dy."""
    dy = dy.reshape(mean.size, -1)
    dgain[...] = np.sum(dy * _normal(x, mean, inverse_deviation), axis=0)
    doffset[...] = np.sum(dy, axis=0)


def _normal(x, mean, inverse_deviation):
    """Return the normalised features h (N, F)."""
    return (x.reshape(mean.size, -1) - mean[:, None]) * inverse_deviation[:, None]


def _scaled(x, epsilon):
    """Return the mean and 1 / sqrt(v + epsilon) of numbers (F,), as multiples of a power of two; NaN if not finite."""
    mantissa, exponent = np.frexp(np.max(np.abs(x)))
    if not np.isfinite(mantissa):
        return np.nan, np.nan
    multiples = np.ldexp(x, -exponent)
    return np.ldexp(np.mean(multiples), exponent), 1 / np.hypot(np.ldexp(np.std(multiples), exponent), np.sqrt(epsilon))
