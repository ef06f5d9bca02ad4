"""Inverted dropout on samples that are columns, in NumPy: the mask of dropout.py."""

from . import dropout


def forward(x, y, rate, training, seed, first, features):
    """y = x / (1 - rate) where the element stays, else 0; outside training y = x. x and y are (features, N)."""
    rows = x.T.flatten()  # a copy
    dropout.forward(rows, rows, rate, training, seed, first, features)
    y[...] = rows.reshape(-1, features).T


def backward_input(dy, dx, rate, training, seed, first, features):
    """dx = dy / (1 - rate) where the element stayed, else 0; outside training dx = dy."""
    rows = dy.T.flatten()
    dropout.backward_input(rows, rows, rate, training, seed, first, features)
    dx[...] = rows.reshape(-1, features).T
