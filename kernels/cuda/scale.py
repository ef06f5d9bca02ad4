"""Scales of channels: numbers in units become (x - shift) / scale, and y = x scale + shift brings the units back.

x, y, dx, dy are flat, N samples of C channels of `positions` numbers each; shift and scale are (C,). Parallel plan:
neighbouring threads own neighbouring numbers, so that a warp reads and writes whole lines of memory. Why the difference
comes first: reference/scale.py.
"""

from numba import prange

from ..compiler.kernel import kernel


@kernel
def forward(x, shift, scale, y, positions):
    """y = (x - shift) / scale for each channel."""
    for i in prange(y.size):
        c = i // positions % scale.size
        y[i] = (x[i] - shift[c]) / scale[c]


@kernel
def backward_input(scale, dy, dx, positions):
    """dx = dy / scale for each channel."""
    for i in prange(dx.size):
        c = i // positions % scale.size
        dx[i] = dy[i] / scale[c]


@kernel
def inverse(x, shift, scale, y, positions):
    """y = x scale + shift for each channel."""
    for i in prange(y.size):
        c = i // positions % scale.size
        y[i] = x[i] * scale[c] + shift[c]


@kernel
def inverse_backward_input(scale, dy, dx, positions):
    """dx = dy scale for each channel."""
    for i in prange(dx.size):
        c = i // positions % scale.size
        dx[i] = dy[i] * scale[c]
