"""Pooling in NumPy: the windows of the padded input as one array (N, C, *out, cells), then a reduction.

    max      y = max x_i                        dx gets dy at the argmax: the window's first largest cell, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - pad_before. Padding adds nothing to
sums and never wins a maximum; NaN always does. x (N, C, *in), y and argmax (N, C, *out), three dimensions; argmax is a
cell's number in its map, in row order. The global forms take the whole map as the window and give y (N, C).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def max_forward(x, y, argmax, size, stride, pad_before):
    """y = the largest of each window, argmax = the number of its cell in the map."""
    numbers = np.arange(1, np.prod(x.shape[2:]) + 1, dtype=float).reshape(1, 1, *x.shape[2:])
    numbers = _windows(numbers, y[:1, :1], size, stride, pad_before, 0)  # 0: outside the map
    values = _windows(x, y, size, stride, pad_before, -np.inf)
    y[...] = values.max(axis=-1)
    wins = ((values == y[..., None]) | np.isnan(values)) & (numbers > 0)
    argmax[...] = (_first(wins) * numbers).sum(axis=-1) - 1


def max_backward_input(argmax, dy, dx, size, stride, pad_before):
    """dx = dy at the argmax of each window, summed over windows."""
    maps = np.arange(dx.shape[0] * dx.shape[1])[:, None]
    slopes = np.zeros((maps.size, np.prod(dx.shape[2:])), dx.dtype)
    np.add.at(slopes, (maps, argmax.reshape(maps.size, -1).astype(int)), dy.reshape(maps.size, -1))
    dx[...] = slopes.reshape(dx.shape)


def average_forward(x, y, size, stride, pad_before, count_padding):
    """y = the mean of each window."""
    counts = _counts(x, y, size, stride, pad_before, count_padding)
    y[...] = _windows(x, y, size, stride, pad_before, 0).sum(axis=-1) / counts


def average_backward_input(dy, dx, size, stride, pad_before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    share = dy / _counts(dx, dy, size, stride, pad_before, count_padding)
    _scatter(np.repeat(share[..., None], np.prod(size), axis=-1), dx, size, stride, pad_before)


def lp_forward(x, y, size, stride, pad_before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    values = np.abs(_windows(x, y, size, stride, pad_before, 0))
    largest = values.max(axis=-1)
    y[...] = largest
    if p != np.inf:
        usual = (largest > 0) & (largest < np.inf)
        ratios = values[usual] / largest[usual][:, None]
        y[usual] *= (ratios**p).sum(axis=-1) ** (1 / p)


def lp_backward_input(x, y, dy, dx, size, stride, pad_before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    values = _windows(x, dy, size, stride, pad_before, 0)
    norms = np.where(y == 0, 1, y)[..., None].astype(x.dtype)
    if p == np.inf:
        slopes = np.where(_first((np.abs(values) == norms) | np.isnan(values)), np.sign(values), 0)
    else:
        slopes = np.sign(values) * (np.abs(values) / norms) ** (p - 1)
    _scatter(np.where(slopes == 0, 0, slopes * dy[..., None]), dx, size, stride, pad_before)


def global_average_forward(x, y):
    """y (N, C) = the mean of each map."""
    y[...] = x.mean(axis=(2, 3, 4))


def global_average_backward_input(dy, dx):
    """dx = dy / cells."""
    dx[...] = (dy / np.prod(dx.shape[2:], dtype=dx.dtype))[..., None, None, None]


def global_max_forward(x, y):
    """y (N, C) = the largest of each map."""
    y[...] = x.max(axis=(2, 3, 4))


def global_max_backward_input(x, dy, dx):
    """dx = dy at the first largest cell of each map."""
    cells = x.reshape(*x.shape[:2], -1)
    wins = (cells == cells.max(axis=-1, keepdims=True)) | np.isnan(cells)
    dx[...] = np.where(_first(wins), dy[..., None], 0).reshape(x.shape)


def _windows(x, y, size, stride, pad_before, value):
    """(N, C, *out, cells of a window), padded with `value`."""
    padded = np.pad(x, [(0, 0), (0, 0), *_sides(x, y, size, stride, pad_before)], constant_values=value)
    windows = sliding_window_view(padded, size, axis=(2, 3, 4))
    places = tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(y.shape[2:], stride, strict=True))
    return windows[(slice(None), slice(None), *places)].reshape(*y.shape, -1)


def _sides(x, y, size, stride, pad_before):
    """Return padding as far as the last window reaches."""
    rows = zip(pad_before, y.shape[2:], stride, size, x.shape[2:], strict=True)
    return [(b, max(0, (o - 1) * s + k - b - i)) for b, o, s, k, i in rows]


def _first(wins):
    """1 at the first True of the last axis, else 0."""
    return wins & (np.cumsum(wins, axis=-1) == 1)


def _scatter(parts, dx, size, stride, pad_before):
    """dx = the sum of what each window (N, C, *out, cells) gives to each of its cells."""
    out = parts.shape[2:5]
    padded = np.zeros(
        dx.shape[:2] + tuple(b + i + s * k for b, i, s, k in zip(pad_before, dx.shape[2:], stride, size, strict=True)),
        dx.dtype,
    )
    for cell, tap in enumerate(np.ndindex(tuple(size))):
        places = (slice(t, t + (o - 1) * s + 1, s) for t, o, s in zip(tap, out, stride, strict=True))
        padded[(slice(None), slice(None), *places)] += parts[..., cell]
    inner = (slice(b, b + i) for b, i in zip(pad_before, dx.shape[2:], strict=True))
    dx[...] = padded[(slice(None), slice(None), *inner)]


def _counts(x, y, size, stride, pad_before, count_padding):
    """Cells of each window that a mean divides by."""
    if count_padding:
        return np.prod(size).astype(x.dtype)
    return _windows(np.ones_like(x[:1, :1]), y[:1, :1], size, stride, pad_before, 0).sum(axis=-1)
