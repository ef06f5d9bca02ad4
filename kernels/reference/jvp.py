"""Derivatives in forward mode, in NumPy: dy, the derivative of y in the direction dx (Griewank & Walther, Evaluating
Derivatives, 2008, chapter 3).

Each is the transpose of the layer's backward_input, which gives dx from dy: see layernorm.py, embedding.py and
pooling.py for the shapes and the names.
"""

import numpy as np

from .embedding import _known, _numbers, _places
from .pooling import _first, _windows


def layernorm(x, gain, mean, inverse_deviation, dx, dy):
    """dy = gain r (dx - mean(dx) - h mean(h dx)), h = (x - m) r, with means over a sample's F features."""
    x, t, r = x.reshape(mean.size, -1), dx.reshape(mean.size, -1), inverse_deviation[:, None]
    h = (x - mean[:, None]) * r
    centred = t - np.mean(t, axis=1, keepdims=True) - h * np.mean(h * t, axis=1, keepdims=True)
    dy[...] = (gain * (r * centred)).ravel()


def embedding(x, dx, dy, features, width, columns, counts, sizes):
    """dy = dx for the inputs that are passed on, 0 for the numbers of codes; see embedding.py."""
    x, dx, dy = x.reshape(-1, features), dx.reshape(-1, features), dy.reshape(-1, width)
    dy[:, _numbers(width, columns, sizes)] = np.delete(dx, columns, axis=1)
    for column, count, place in zip(columns, counts, _places(columns, sizes), strict=True):
        dy[:, place] = np.where(_known(x[:, column], count), 0, np.nan)[:, None]


def max_pool(argmax, dx, dy):
    """dy = dx at the argmax of each window."""
    maps = dx.shape[0] * dx.shape[1]
    places = argmax.reshape(maps, -1).astype(int)
    dy[...] = np.take_along_axis(dx.reshape(maps, -1), places, axis=1).reshape(dy.shape)


def global_max_pool(x, dx, dy):
    """dy = dx at the first largest cell of each map."""
    cells = x.reshape(*x.shape[:2], -1)
    wins = _first((cells == cells.max(axis=-1, keepdims=True)) | np.isnan(cells))
    dy[...] = np.where(wins, dx.reshape(cells.shape), 0).sum(axis=-1)


def lp_pool(x, y, dx, dy, size, stride, pad_before, p):
    """dy = sum over each window of sign(x) (|x| / y)^(p-1) dx, 0 where y = 0."""
    values, t = (_windows(a, y, size, stride, pad_before, 0) for a in (x, dx))
    norms = np.where(y == 0, 1, y)[..., None].astype(x.dtype)
    if p == np.inf:
        slopes = np.where(_first((np.abs(values) == norms) | np.isnan(values)), np.sign(values), 0)
    else:
        slopes = np.sign(values) * (np.abs(values) / norms) ** (p - 1)
    dy[...] = np.where(slopes == 0, 0, slopes * t).sum(axis=-1)
