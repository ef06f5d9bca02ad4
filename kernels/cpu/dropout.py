"""Inverted dropout with a mask that is computed, not stored: a hash of (seed, index of the element in the batch).

Parallel plan: every number by itself, over flat arrays; the mask does not depend on blocks or threads. All whole
numbers are uint64, since Numba turns sums of uint64 and int64 into floats. Sources are in reference/dropout.py.
"""

import numpy as np
from numba import njit, prange

from ..compiler.kernel import inlined, kernel


@njit  # not a helper: on CUDA the lines before the loop run in Python
def mix(z):
    """Return the finaliser of SplitMix64: every bit of the result depends on every bit of z (modulo 2**64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@inlined
def stays(key, index, limit):
    """Return whether the element with this index, counted from 1, stays: its random 24 bits reach the limit."""
    return mix(key + np.uint64(index) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40) >= limit


@kernel
def forward(x, y, rate, training, seed, first, features):
    """y = x / (1 - rate) where the element stays, else 0; outside training y = x."""
    key, limit = mix(np.uint64(seed)), np.uint64(np.float32(rate) * np.float32(16777216.0))
    scale = 1.0 / (1.0 - rate)
    start = first * features + 1
    for i in prange(x.size):
        factor = scale if stays(key, start + i, limit) else 0.0
        y[i] = x[i] * factor if training else x[i]


@kernel
def backward_input(dy, dx, rate, training, seed, first, features):
    """dx = dy / (1 - rate) where the element stayed, else 0; outside training dx = dy."""
    key, limit = mix(np.uint64(seed)), np.uint64(np.float32(rate) * np.float32(16777216.0))
    scale = 1.0 / (1.0 - rate)
    start = first * features + 1
    for i in prange(dx.size):
        factor = scale if stays(key, start + i, limit) else 0.0
        dx[i] = dy[i] * factor if training else dy[i]
