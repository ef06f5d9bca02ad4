"""Scales of channels: numbers in units become (x - shift) / scale, and y = x scale + shift brings the units back.

x, y, dx, dy are flat, N samples of C channels of `positions` numbers each; shift and scale are (C,). Parallel plan: an
iteration owns a sample. A feature is a channel of one number, so samples of features run along the channels, in
vectors; samples of maps run along the positions. Why the difference comes first: reference/scale.py.
"""

from numba import prange, uintp

from ..compiler.kernel import kernel


@kernel
def forward(x, shift, scale, y, positions):
    """y = (x - shift) / scale for each channel."""
    C = scale.size
    for n in prange(y.size // (C * positions)):
        at = uintp(n * C * positions)
        if positions == 1:
            for c in range(uintp(C)):
                y[at + c] = (x[at + c] - shift[c]) / scale[c]
            continue
        for c in range(uintp(C)):
            for i in range(uintp(positions)):
                y[at + i] = (x[at + i] - shift[c]) / scale[c]
            at += uintp(positions)


@kernel
def backward_input(scale, dy, dx, positions):
    """dx = dy / scale for each channel."""
    C = scale.size
    for n in prange(dx.size // (C * positions)):
        at = uintp(n * C * positions)
        if positions == 1:
            for c in range(uintp(C)):
                dx[at + c] = dy[at + c] / scale[c]
            continue
        for c in range(uintp(C)):
            for i in range(uintp(positions)):
                dx[at + i] = dy[at + i] / scale[c]
            at += uintp(positions)


@kernel
def inverse(x, shift, scale, y, positions):
    """y = x scale + shift for each channel."""
    C = scale.size
    for n in prange(y.size // (C * positions)):
        at = uintp(n * C * positions)
        if positions == 1:
            for c in range(uintp(C)):
                y[at + c] = x[at + c] * scale[c] + shift[c]
            continue
        for c in range(uintp(C)):
            for i in range(uintp(positions)):
                y[at + i] = x[at + i] * scale[c] + shift[c]
            at += uintp(positions)


@kernel
def inverse_backward_input(scale, dy, dx, positions):
    """dx = dy scale for each channel."""
    C = scale.size
    for n in prange(dx.size // (C * positions)):
        at = uintp(n * C * positions)
        if positions == 1:
            for c in range(uintp(C)):
                dx[at + c] = dy[at + c] * scale[c]
            continue
        for c in range(uintp(C)):
            for i in range(uintp(positions)):
                dx[at + i] = dy[at + i] * scale[c]
            at += uintp(positions)
