"""Scales of features where samples are columns: the samples of a feature run in vectors.

x, y, dx, dy are (C, N), shift and scale (C,). Parallel plan: none here; see dense_columns.py. Indices are unsigned, as
in layernorm.py.
"""

from numba import prange, uintp

from ..compiler.kernel import kernel


@kernel
def forward(x, shift, scale, y):
    """y = (x - shift) / scale for each feature."""
    for c in prange(uintp(scale.size)):
        for i in range(uintp(y.shape[1])):
            y[c, i] = (x[c, i] - shift[c]) / scale[c]


@kernel
def backward_input(scale, dy, dx):
    """dx = dy / scale for each feature."""
    for c in prange(uintp(scale.size)):
        for i in range(uintp(dx.shape[1])):
            dx[c, i] = dy[c, i] / scale[c]


@kernel
def inverse(x, shift, scale, y):
    """y = x scale + shift for each feature."""
    for c in prange(uintp(scale.size)):
        for i in range(uintp(y.shape[1])):
            y[c, i] = x[c, i] * scale[c] + shift[c]


@kernel
def inverse_backward_input(scale, dy, dx):
    """dx = dy scale for each feature."""
    for c in prange(uintp(scale.size)):
        for i in range(uintp(dx.shape[1])):
            dx[c, i] = dy[c, i] * scale[c]
