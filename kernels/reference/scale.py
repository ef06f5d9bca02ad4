"""Scales of channels, in NumPy: numbers in units become (x - shift) / scale, and y scale + shift brings the units back.

x, y, dx, dy are flat, N samples of C channels of `positions` numbers each; shift and scale are (C,). The difference
comes first: x scale' + shift' with scale' = 1 / scale would lose the digits of x where the shift is large, as it loses
those of a variance in one pass (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115).
"""


def forward(x, shift, scale, y, positions):
    """y = (x - shift) / scale for each channel."""
    channels = x.reshape(-1, shift.size, positions)
    y[...] = ((channels - shift[:, None]) / scale[:, None]).ravel()


def backward_input(scale, dy, dx, positions):
    """dx = dy / scale for each channel."""
    dx[...] = (dy.reshape(-1, scale.size, positions) / scale[:, None]).ravel()


def inverse(x, shift, scale, y, positions):
    """y = x scale + shift for each channel."""
    y[...] = (x.reshape(-1, shift.size, positions) * scale[:, None] + shift[:, None]).ravel()


def inverse_backward_input(scale, dy, dx, positions):
    """dx = dy scale for each channel."""
    dx[...] = (dy.reshape(-1, scale.size, positions) * scale[:, None]).ravel()
