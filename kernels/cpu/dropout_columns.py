"""Inverted dropout on samples that are columns, with the mask of dropout.py: that of the element's index in the batch.

Parallel plan: none here; see dense_columns.py.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import kernel
from .dropout import mix, stays


@kernel
def forward(x, y, rate, training, seed, first, features):
    """y = x / (1 - rate) where the element stays, else 0; outside training y = x. x and y are (features, N)."""
    key, limit = mix(np.uint64(seed)), np.uint64(np.float32(rate) * np.float32(16777216.0))
    scale = 1.0 / (1.0 - rate)
    for j in prange(features):
        for i in range(x.shape[1]):
            factor = scale if stays(key, (first + i) * features + j + 1, limit) else 0.0
            y[j, i] = x[j, i] * factor if training else x[j, i]


@kernel
def backward_input(dy, dx, rate, training, seed, first, features):
    """dx = dy / (1 - rate) where the element stayed, else 0; outside training dx = dy."""
    key, limit = mix(np.uint64(seed)), np.uint64(np.float32(rate) * np.float32(16777216.0))
    scale = 1.0 / (1.0 - rate)
    for j in prange(features):
        for i in range(dx.shape[1]):
            factor = scale if stays(key, (first + i) * features + j + 1, limit) else 0.0
            dx[j, i] = dy[j, i] * factor if training else dy[j, i]
