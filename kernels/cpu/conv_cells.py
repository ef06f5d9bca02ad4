"""Convolution cell by cell, by its definition: what is taken where numbers are not finite.

The fast kernels multiply zeros that are not there: those of padding, of the frame around deltas, between rows of
deltas. A zero adds nothing to a sum of finite numbers, but NaN where it meets an infinite one. So forward and
backward_input look at the weights (`bounded`), backward_weight at its result, and what is not finite is computed again:
here a sum has the cells of the image only, as PyTorch has it.

Sizes are those of a sample and a group (see conv.py); W is taken in steps ws from filter to filter and map to map.
"""

import numpy as np

from ..compiler.kernel import array, helper, linked, places
from .tile import numbers


@linked
def look(count, P: array, p, found: places):
    """found[0] = 1 where the sum of |x| over P[p : p + count] is finite, else 0."""
    total = 0.0
    for i in range(p, p + count):
        total += abs(P[i])
    found[0] = 1 if total < float(np.inf) else 0


@helper
def bounded(count, P, p):
    """Whether the sum of |x| over P[p : p + count] is finite."""
    found = numbers(1)
    look(count, P, p, found)
    return found[0] == 1


@linked
def forward_cells(F, X: array, x, image: 4, W: array, w, ws: 2, kernel: 3, B: array, b, biased, Y: array, y, out: 3,
                  stride: 3, dilation: 3, before: 3):  # fmt: skip
    """Y[y :] = F filters at `out` positions of the maps X[x :] of shape `image`, not padded."""
    m, D, H, width = image
    KD, KH, KW = kernel
    OD, OH, OW = out
    for o in range(F * OD * OH * OW):
        f, od, oh, ow = o // (OD * OH * OW), o // (OH * OW) % OD, o // OW % OH, o % OW
        total = B[b + f] if biased else 0.0
        for k in range(KD * KH * KW):
            d = od * stride[0] + k // (KH * KW) * dilation[0] - before[0]
            h = oh * stride[1] + k // KW % KH * dilation[1] - before[1]
            i = ow * stride[2] + k % KW * dilation[2] - before[2]
            if 0 <= d < D and 0 <= h < H and 0 <= i < width:
                for a in range(m):
                    total += W[w + f * ws[0] + a * ws[1] + k] * X[x + ((a * D + d) * H + h) * width + i]
        Y[y + o] = total


@linked
def backward_input_cells(m, dY: array, y, out: 4, W: array, w, ws: 2, kernel: 3, dX: array, x, image: 3, stride: 3,
                         dilation: 3, before: 3):  # fmt: skip
    """dX[x :] = what the deltas dY[y :] of shape `out` give back to m maps of shape `image`."""
    F, OD, OH, OW = out
    D, H, width = image
    KD, KH, KW = kernel
    for i in range(m * D * H * width):
        dX[x + i] = 0.0
    for o in range(F * OD * OH * OW):
        f, od, oh, ow = o // (OD * OH * OW), o // (OH * OW) % OD, o // OW % OH, o % OW
        for k in range(KD * KH * KW):
            d = od * stride[0] + k // (KH * KW) * dilation[0] - before[0]
            h = oh * stride[1] + k // KW % KH * dilation[1] - before[1]
            i = ow * stride[2] + k % KW * dilation[2] - before[2]
            if 0 <= d < D and 0 <= h < H and 0 <= i < width:
                for a in range(m):
                    dX[x + ((a * D + d) * H + h) * width + i] += W[w + f * ws[0] + a * ws[1] + k] * dY[y + o]


@linked
def backward_weight_cells(N, X: array, x, xn, image: 3, dY: array, y, yn, out: 3, dW: array, w, kernel: 3, first, last,
                          stride: 3, dilation: 3, before: 3):  # fmt: skip
    """dW[w + first : w + last] of one filter, whose deltas begin at dY[y], and one map, which begins at X[x].

    Samples are xn and yn apart.
    """
    D, H, width = image
    _, KH, KW = kernel
    OD, OH, OW = out
    for k in range(first, last):
        total = 0.0
        for n in range(N):
            for o in range(OD * OH * OW):
                d = o // (OH * OW) * stride[0] + k // (KH * KW) * dilation[0] - before[0]
                h = o // OW % OH * stride[1] + k // KW % KH * dilation[1] - before[1]
                i = o % OW * stride[2] + k % KW * dilation[2] - before[2]
                if 0 <= d < D and 0 <= h < H and 0 <= i < width:
                    total += dY[y + n * yn + o] * X[x + n * xn + (d * H + h) * width + i]
        dW[w + k] = total


@helper
def forward_by_cells(first, last, f, some, x, W, B, biased, y, stride, dilation, groups, before):
    """y of the samples from `first` to before `last`, filters f to f + some of each group."""
    F, C, each, m = y.shape[1], x.shape[1], y.shape[1] // groups, W.shape[1]
    K, volume, plane = W[0, 0].size, x.shape[2] * x.shape[3] * x.shape[4], y.shape[2] * y.shape[3] * y.shape[4]
    X, Wf, Y = x.reshape(-1), W.reshape(-1), y.reshape(-1)
    for i in range((last - first) * groups):
        n, g = first + i // groups, i % groups
        k = g * each + f
        forward_cells(some, X, (n * C + g * m) * volume, (m, *x.shape[2:]), Wf, k * m * K, (m * K, K), W.shape[2:],
                      B, k, biased, Y, (n * F + k) * plane, y.shape[2:], stride, dilation, before)  # fmt: skip


@helper
def backward_input_by_cells(first, last, W, dy, dx, stride, dilation, groups, before):
    """dx, or the padded dx with `before` 0, of the samples from `first` to before `last`."""
    F, C, each, m = dy.shape[1], dx.shape[1], dy.shape[1] // groups, W.shape[1]
    K, volume, plane = W[0, 0].size, dx.shape[2] * dx.shape[3] * dx.shape[4], dy.shape[2] * dy.shape[3] * dy.shape[4]
    dY, Wf, dX = dy.reshape(-1), W.reshape(-1), dx.reshape(-1)
    for i in range((last - first) * groups):
        n, g = first + i // groups, i % groups
        backward_input_cells(m, dY, (n * F + g * each) * plane, (each, *dy.shape[2:]), Wf, g * each * m * K, (m * K, K),
                             W.shape[2:], dX, (n * C + g * m) * volume, dx.shape[2:], stride, dilation,
                             before)  # fmt: skip


@helper
def mend_weights(f, filters, a, maps, first, last, x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW[f : f + filters, a : a + maps], taps from `first` to before `last`, once more where it is not finite."""
    K, dWf = dW[0, 0].size, dW.reshape(-1)
    image = x if border == 0 or not padded.size else padded
    offset = before if border == 0 else (0, 0, 0)
    N, F, C, m = x.shape[0], dy.shape[1], x.shape[1], dW.shape[1]
    X, dY = image.reshape(-1), dy.reshape(-1)
    volume, plane = image.shape[2] * image.shape[3] * image.shape[4], dy.shape[2] * dy.shape[3] * dy.shape[4]
    for r in range(f, f + filters):
        # the maps' taps follow each other: one look for all of them
        finite = first == 0 and last == K and bounded(maps * K, dWf, (r * m + a) * K)
        for c in range(a, a if finite else a + maps):
            if not bounded(last - first, dWf, (r * m + c) * K + first):
                at, w = (r // (F // groups) * m + c) * volume, (r * m + c) * K
                backward_weight_cells(N, X, at, C * volume, image.shape[2:], dY, r * plane, F * plane, dy.shape[2:],
                                      dWf, w, dW.shape[2:], first, last, stride, dilation, offset)  # fmt: skip
