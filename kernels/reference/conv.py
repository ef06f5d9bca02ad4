"""Convolution (cross-correlation) in NumPy, by windows and einsum.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f; the lecture's kernel
(n, m, k_1, ..., k_N). Backward is (3) to (5) of the lecture for this sparse, shared matrix.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 where nothing is padded, W (F, m, *kernel) with
m = C / groups, b (F,) or (0,), y (N, F, *out); any number of dimensions. `before` is the padding before each dimension,
`border` an index of geometry.BORDERS.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MODES = ("constant", "edge", "reflect", "wrap")  # np.pad's names of geometry.BORDERS


def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    if padded.size:
        padded[...] = np.pad(x, [(0, 0), (0, 0), *_sides(x, padded, before)], MODES[border])
    windows = _windows(padded if padded.size else x, W, y, stride, dilation)
    for maps, inputs in _groups(W, groups):
        y[:, maps] = np.einsum("nadhwijk,faijk->nfdhw", windows[:, inputs], W[maps], optimize=True)
    if b.size:
        y += b[:, None, None, None]


def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding; `framed` is working space."""
    target = dpadded if dpadded.size else dx
    target[...] = 0
    for tap in np.ndindex(W.shape[2:]):
        seen = (slice(None), slice(None), *_positions(tap, dy, stride, dilation))
        for maps, inputs in _groups(W, groups):
            target[seen][:, inputs] += np.einsum("nf...,fa->na...", dy[:, maps], W[(maps, slice(None), *tap)])
    if dpadded.size:
        dx[...] = _fold(dpadded, dx, before, border)


def backward_weight(x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    windows = _windows(padded if padded.size else x, dW, dy, stride, dilation)
    for maps, inputs in _groups(dW, groups):
        dW[maps] = np.einsum("nadhwijk,nfdhw->faijk", windows[:, inputs], dy[:, maps], optimize=True)


def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    if db.size:
        db[...] = dy.sum(axis=(0, 2, 3, 4))


def _windows(x, W, y, stride, dilation):
    """A view (N, C, *out, *kernel) of the padded input."""
    spans = tuple(d * (k - 1) + 1 for k, d in zip(W.shape[2:], dilation, strict=True))
    windows = sliding_window_view(x, spans, axis=(2, 3, 4))
    places = tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(y.shape[2:], stride, strict=True))
    return windows[(slice(None), slice(None), *places, *(slice(None, None, d) for d in dilation))]


def _positions(tap, dy, stride, dilation):
    """Slices of the padded input that one tap sees from all positions."""
    rows = zip(tap, dy.shape[2:], stride, dilation, strict=True)
    return tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, o, s, d in rows)


def _groups(W, groups):
    """Slices of output and input maps, group by group."""
    each, m = len(W) // groups, W.shape[1]
    return [(slice(g * each, (g + 1) * each), slice(g * m, (g + 1) * m)) for g in range(groups)]


def _sides(x, padded, before):
    return [(b, p - i - b) for b, p, i in zip(before, padded.shape[2:], x.shape[2:], strict=True)]


def _fold(dpadded, dx, before, border):
    """The adjoint of np.pad: along each axis the transpose of the 0-1 matrix that pads."""
    for axis, sides in enumerate(_sides(dx, dpadded, before), start=2):
        i = dx.shape[axis]
        constant = {"constant_values": -1} if border == 0 else {}
        source = np.pad(np.arange(i), sides, MODES[border], **constant)
        matrix = (source[:, None] == np.arange(i)).astype(dx.dtype)  # (padded, i)
        dpadded = np.moveaxis(np.tensordot(dpadded, matrix, axes=(axis, 0)), -1, axis)
    return dpadded
