"""Flat arrays for a state."""

import numpy as np


def aligned(size, dtype):
    """Zeros that begin at a cache line, so that vector loads do not cross lines."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros(size * item + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size * item].view(dtype)
