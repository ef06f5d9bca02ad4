"""Inverted dropout, in NumPy (Srivastava et al. 2014, jmlr.org/papers/v15/srivastava14a.html).

The mask depends only on seed and index of the element in the batch: blocks, threads, devices and resumed runs all draw
the same mask, and the backward pass draws it again instead of keeping it. The generator is SplitMix64 (Steele, Lea &
Flood 2014, doi:10.1145/2660193.2660195); the seed is mixed once before use, so that neighbouring seeds give unrelated
masks.
"""

import numpy as np


def forward(x, y, rate, training, seed, first, features):
    """y = x / (1 - rate) where the element stays, else 0; outside training y = x.

    x, y : flat, n rows of `features` numbers, of which the first is row `first` of the batch
    rate : probability that an element is dropped, 0 <= rate < 1
    """
    y[...] = x * _factors(x, rate, seed, first * features) if training else x


def backward_input(dy, dx, rate, training, seed, first, features):
    """dx = dy / (1 - rate) where the element stayed, else 0; outside training dx = dy."""
    dx[...] = dy * _factors(dy, rate, seed, first * features) if training else dy


def _factors(x, rate, seed, start):
    """Return 1 / (1 - rate) or 0 for each of x.size elements from index `start`, in the dtype of x."""
    index = np.arange(start + 1, start + 1 + x.size).astype(np.uint64)
    bits = _mix(_mix(np.array([seed], np.int64).astype(np.uint64)) + index * np.uint64(0x9E3779B97F4A7C15))
    stays = bits >> np.uint64(40) >= int(np.float32(rate) * 2**24)  # 24 bits, the precision of a float32
    one, rate = x.dtype.type(1), x.dtype.type(rate)
    return np.where(stays, one / (one - rate), x.dtype.type(0))


def _mix(z):
    """Finaliser of SplitMix64: every bit of the result depends on every bit of z (modulo 2**64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
