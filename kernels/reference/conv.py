"""Convolution (cross-correlation) in NumPy, tap by tap.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f; the lecture's kernel
(n, m, k_1, ..., k_N). Backward is (3) to (5) of the lecture for this sparse, shared matrix.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 without padding, W (F, m, *kernel) with m = C / groups,
b (F,) or (0,), y (N, F, *out); any number of dimensions. `pad_before` is the padding before each dimension, `border` an
index of geometry.BORDERS. A border of zeros adds nothing: sums are over the cells of the image, so that an infinite
weight or delta gives no NaN there.
"""

import numpy as np

MODES = ("constant", "edge", "reflect", "wrap")  # np.pad's names of geometry.BORDERS


def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    if padded.size:
        sides = [(0, 0), (0, 0), *_sides(x, padded, pad_before)]
        padded[...] = np.pad(x, sides, MODES[border])  # type: ignore[call-overload]
    y[...] = b[:, None, None, None] if b.size else 0
    for tap, positions, cells, image in _taps(x, padded, W, y, stride, dilation, pad_before, border):
        for maps, inputs in _groups(W, groups):
            seen = image[cells][:, inputs]
            y[positions][:, maps] += np.einsum("na...,fa->nf...", seen, W[(maps, slice(None), *tap)])


def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding; `haloed_dy` is scratch (unused)."""
    target = dpadded if dpadded.size else dx
    target[...] = 0
    for tap in np.ndindex(W.shape[2:]):
        seen = (slice(None), slice(None), *_positions(tap, dy, stride, dilation))
        for maps, inputs in _groups(W, groups):
            target[seen][:, inputs] += np.einsum("nf...,fa->na...", dy[:, maps], W[(maps, slice(None), *tap)])
    if dpadded.size:
        dx[...] = _fold(dpadded, dx, pad_before, border)


def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    dW[...] = 0
    for tap, positions, cells, image in _taps(x, padded, dW, dy, stride, dilation, pad_before, border):
        for maps, inputs in _groups(dW, groups):
            seen = image[cells][:, inputs]
            dW[(maps, slice(None), *tap)] = np.einsum("nadhw,nfdhw->fa", seen, dy[positions][:, maps])


def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    if db.size:
        db[...] = dy.sum(axis=(0, 2, 3, 4))


def _taps(x, padded, W, y, stride, dilation, pad_before, border):
    """Yield each tap, slices of the positions whose cell exists and of those cells, and the image of the cells."""
    image, offset = (x, pad_before) if border == 0 or not padded.size else (padded, (0, 0, 0))
    for tap in np.ndindex(W.shape[2:]):
        positions, cells = [slice(None)] * 2, [slice(None)] * 2
        rows = zip(tap, y.shape[2:], image.shape[2:], stride, dilation, offset, strict=True)
        for t, o, i, s, d, b in rows:
            first = max(0, -((t * d - b) // s))  # the first o with o s + t d - b >= 0
            last = min(o, (i - 1 - t * d + b) // s + 1)
            positions.append(slice(first, max(first, last)))
            begin = first * s + t * d - b
            cells.append(slice(begin, begin + (last - first - 1) * s + 1, s) if last > first else slice(0, 0))
        yield tap, tuple(positions), tuple(cells), image


def _positions(tap, dy, stride, dilation):
    """Slices of the padded input with the cells of one tap at all positions."""
    rows = zip(tap, dy.shape[2:], stride, dilation, strict=True)
    return tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, o, s, d in rows)


def _groups(W, groups):
    """Slices of output and input maps, group by group."""
    each, m = len(W) // groups, W.shape[1]
    return [(slice(g * each, (g + 1) * each), slice(g * m, (g + 1) * m)) for g in range(groups)]


def _sides(x, padded, pad_before):
    return [(b, p - i - b) for b, p, i in zip(pad_before, padded.shape[2:], x.shape[2:], strict=True)]


def _fold(dpadded, dx, pad_before, border):
    """Apply the adjoint of np.pad: along each axis add every cell to its source."""
    for axis, sides in enumerate(_sides(dx, dpadded, pad_before), start=2):
        i = dx.shape[axis]
        constant = {"constant_values": -1} if border == 0 else {}
        source = np.pad(np.arange(i), sides, MODES[border], **constant)  # type: ignore[call-overload]
        cells, folded = np.moveaxis(dpadded, axis, 0), np.zeros((i, *np.delete(dpadded.shape, axis)), dx.dtype)
        np.add.at(folded, source[source >= 0], cells[source >= 0])
        dpadded = np.moveaxis(folded, 0, axis)
    return dpadded
