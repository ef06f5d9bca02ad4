"""Convolution cell by cell, by its definition: what is taken where numbers are not finite.

The fast kernels multiply zeros that the definition does not have: those of padding, of the frame around deltas, between
rows of deltas. A zero adds nothing to a sum of finite numbers, but NaN where it meets an infinite one. So forward and
backward_input look at the weights (`bounded`), backward_weight at its result, and what is not finite is computed again:
here a sum has the cells of the image only, as PyTorch has it.

No race: the caller's iteration owns the results.
"""

import numpy as np

from ..compiler.kernel import helper
from ..compiler.linked import array, linked, places
from .conv_terms import Block, Size, Sizes, Steps, Window, images, size_of, volume
from .tile import numbers
from .view import Images, View


@linked
def look(count, P: array, p, found: places):
    """found[0] = 1 where the sum of |x| over P[p : p + count] is finite, else 0."""
    total = 0.0
    for i in range(p, p + count):
        total += abs(P[i])
    found[0] = 1 if total < float(np.inf) else 0


@helper
def bounded(count, P, p):
    """Return whether the sum of |x| over P[p : p + count] is finite."""
    found = numbers(1)
    look(count, P, p, found)
    return found[0] == 1


@helper
def inside(d, h, w, size):
    """Return whether a cell lies in the image."""
    return 0 <= d < size.depth and 0 <= h < size.rows and 0 <= w < size.columns


@linked
def forward_cells(X: Images, W: Images, b: View, biased, Y: Images, sizes: Sizes, window: Window):
    """Y = the results of a sample of one group from its image X, not padded; b[f, 0] is added if `biased`."""
    image, taps, out = sizes.image, sizes.sums, sizes.out
    stride, dilation, pad_before = window.stride, window.dilation, window.pad_before
    each, per_plane, per_row = volume(out), out.rows * out.columns, out.columns
    for o in range(out.maps * each):
        f, od, oh, ow = o // each, o % each // per_plane, o % per_plane // per_row, o % per_row
        total = b[f, 0] if biased else 0.0
        for k in range(volume(taps)):
            d = od * stride.depth + k // (taps.rows * taps.columns) * dilation.depth - pad_before.depth
            h = oh * stride.row + k // taps.columns % taps.rows * dilation.row - pad_before.row
            w = ow * stride.column + k % taps.columns * dilation.column - pad_before.column
            if inside(d, h, w, image):
                for a in range(taps.maps):
                    total += W[f, a, 0, 0, k] * X[0, a, d, h, w]
        Y[0, f, od, oh, ow] = total


@linked
def backward_input_cells(dY: Images, W: Images, dX: Images, sizes: Sizes, window: Window):
    """dX = what the deltas dY of a sample of one group give back to its image."""
    image, taps, out = sizes.image, sizes.sums, sizes.out
    stride, dilation, pad_before = window.stride, window.dilation, window.pad_before
    each, per_plane, per_row = volume(out), out.rows * out.columns, out.columns
    for i in range(image.maps * volume(image)):
        dX[0, 0, 0, 0, i] = 0.0
    for o in range(out.maps * each):
        f, od, oh, ow = o // each, o % each // per_plane, o % per_plane // per_row, o % per_row
        for k in range(volume(taps)):
            d = od * stride.depth + k // (taps.rows * taps.columns) * dilation.depth - pad_before.depth
            h = oh * stride.row + k // taps.columns % taps.rows * dilation.row - pad_before.row
            w = ow * stride.column + k % taps.columns * dilation.column - pad_before.column
            if inside(d, h, w, image):
                for a in range(image.maps):
                    dX[0, a, d, h, w] += W[f, a, 0, 0, k] * dY[0, f, od, oh, ow]


@linked
def backward_weight_cells(N, X: Images, dY: Images, dW: View, ends: Block, sizes: Sizes, window: Window):
    """dW[0, k] of one filter and one map, for the taps k of `ends`: sums over the cells of N samples."""
    image, taps, out = sizes.image, sizes.sums, sizes.out
    stride, dilation, pad_before = window.stride, window.dilation, window.pad_before
    for k in range(ends.first, ends.end):
        total = 0.0
        for n in range(N):
            for o in range(volume(out)):
                od, oh, ow = o // (out.rows * out.columns), o // out.columns % out.rows, o % out.columns
                d = od * stride.depth + k // (taps.rows * taps.columns) * dilation.depth - pad_before.depth
                h = oh * stride.row + k // taps.columns % taps.rows * dilation.row - pad_before.row
                w = ow * stride.column + k % taps.columns * dilation.column - pad_before.column
                if inside(d, h, w, image):
                    total += dY[n, 0, od, oh, ow] * X[n, 0, d, h, w]
        dW[0, k] = total


@helper
def group_size(size, groups):
    """Return a sample's shape with the maps of one group."""
    return Size(size.maps // groups, size.depth, size.rows, size.columns)


@helper
def forward_by_cells(share, x, W, b, y, window):
    """y of an iteration's share."""
    image, taps, out = size_of(x), size_of(W), size_of(y)
    F = out.maps // window.groups
    results = Size(share.filters, out.depth, out.rows, out.columns)
    sizes = Sizes(group_size(image, window.groups), taps, results)
    X, weights, Y = images(x.reshape(-1), image), images(W.reshape(-1), taps), images(y.reshape(-1), out)
    bias = View(b.reshape(-1) if b.size else W.reshape(-1), 1, 1)
    for i in range((share.end - share.first) * window.groups):
        n, g = share.first + i // window.groups, i % window.groups
        f = g * F + share.filter
        forward_cells(X.at(n, g * taps.maps, 0, 0, 0), weights.at(f, 0, 0, 0, 0), bias.at(f if b.size else 0, 0),
                      b.size > 0, Y.at(n, f, 0, 0, 0), sizes, window)  # fmt: skip


@helper
def backward_input_by_cells(first, end, W, dy, dx, window):
    """dx, or the padded dx with `pad_before` 0, of the samples from `first` to before `end`."""
    image, taps, out = size_of(dx), size_of(W), size_of(dy)
    sizes = Sizes(group_size(image, window.groups), taps, group_size(out, window.groups))
    dX, weights, dY = images(dx.reshape(-1), image), images(W.reshape(-1), taps), images(dy.reshape(-1), out)
    for i in range((end - first) * window.groups):
        n, g = first + i // window.groups, i % window.groups
        f = g * sizes.out.maps
        backward_input_cells(dY.at(n, f, 0, 0, 0), weights.at(f, 0, 0, 0, 0), dX.at(n, g * taps.maps, 0, 0, 0), sizes,
                             window)  # fmt: skip


@helper
def mend_weights(block, x, padded, dy, dW, window):
    """Compute a block of dW again where it is not finite."""
    whole = window.border > 0 and padded.size > 0  # a border that is not zeros is part of the image
    taps, out, each = size_of(dW), size_of(dy), dW.shape[1]
    image = size_of(padded) if whole else size_of(x)
    pad_before = Steps(0, 0, 0) if whole else window.pad_before
    plain = Window(window.stride, window.dilation, pad_before, window.groups, window.border)
    X, dY = images(padded.reshape(-1) if whole else x.reshape(-1), image), images(dy.reshape(-1), out)
    K, weights = volume(taps), dW.reshape(-1)
    for f in range(block.filter, block.filter + block.filters):
        first = (f * each + block.map) * K
        # the maps' taps follow each other: one look for all of them
        finite = block.first == 0 and block.end == K and bounded(block.maps * K, weights, first)
        for a in range(0 if finite else block.maps):
            if not bounded(block.end - block.first, weights, first + a * K + block.first):
                c = f // (out.maps // window.groups) * each + block.map + a
                backward_weight_cells(x.shape[0], X.at(0, c, 0, 0, 0), dY.at(0, f, 0, 0, 0),
                                      View(weights, 0, 1, first + a * K), block, Sizes(image, taps, out),
                                      plain)  # fmt: skip
