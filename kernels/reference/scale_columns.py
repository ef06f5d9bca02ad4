"""Scales of features where samples are columns, in NumPy: x, y, dx, dy are (C, N); see scale.py."""


def forward(x, shift, scale, y):
    """y = (x - shift) / scale for each feature."""
    y[...] = (x - shift[:, None]) / scale[:, None]


def backward_input(scale, dy, dx):
    """dx = dy / scale for each feature."""
    dx[...] = dy / scale[:, None]


def inverse(x, shift, scale, y):
    """y = x scale + shift for each feature."""
    y[...] = x * scale[:, None] + shift[:, None]


def inverse_backward_input(scale, dy, dx):
    """dx = dy scale for each feature."""
    dx[...] = dy * scale[:, None]
