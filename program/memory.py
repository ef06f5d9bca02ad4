"""Aligned arrays for a state, and a check that they fit into memory."""

import os

import numpy as np

from ..errors import SpecError


def need(size, what):
    """Raise SpecError if `size` bytes are more than this machine's memory; `what` begins the sentence."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return
    if size > memory:
        raise SpecError(f"{what} take {size / 1e9:.3g} GB, and this machine has {memory / 1e9:.3g} GB")


def aligned(size, dtype):
    """Return zeros that begin at a cache line, so that vector loads do not cross lines."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros(size * item + 64, np.uint8)
    first = -raw.ctypes.data % 64
    return raw[first : first + size * item].view(dtype)
