"""Convolution (cross-correlation, as everywhere in the field) and its backward pass.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f. Images have three
dimensions here (a leading 1 for each missing one), so a tap k and a position o are triples.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 where nothing is padded, W (F, m, *kernel) with
m = C / groups, b (F,) or (0,), y (N, F, *out). `before` is the padding before each dimension, `border` an index of
geometry.BORDERS.

Parallel plan: forward and backward_input loop over samples, padding included; the gradients loop over filters, whose
rows of dW are sums over the batch that one iteration owns.

Inside, an image is a flat array: a tap is a fixed offset into the padded image, so a filter is a weighted sum of
shifted images. Four of them are added in one pass along a row, which LLVM vectorises where the stride is 1: one load
and one store of the sum for four products. What is missing to a multiple of four has weight 0 and repeats the last tap.
Indices are unsigned (uintp), or Numba would test each for "counted from the end".
"""

from numba import prange, uintp

from .. import geometry
from ..compiler import helper, kernel
from .conv_tiles import backward_input_tiles, backward_weight_tiles, blocks_of, forward_tiles

_source = helper(geometry.source)


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    N = y.shape[0]
    image = padded if padded.size else x
    P, Wf, B, Y = image.reshape(-1), W.reshape(-1), b.reshape(-1), y.reshape(-1)
    for n in prange(N):
        if padded.size:
            for c in range(x.shape[1]):
                _pad(n, c, x, padded, before, border)
        forward_tiles(n, P, image.shape[1:], Wf, W.shape[1:], B, b.size > 0, Y, y.shape[1:], stride, dilation, groups)


@kernel
def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, first = (dx, before) if inside else (dpadded, (0, 0, 0))
    Wf, dY, U, dX = W.reshape(-1), dy.reshape(-1), framed.reshape(-1), image.reshape(-1)
    shapes = (W.shape[1:], dy.shape[1:], framed.shape[1:], image.shape[1:])
    for n in prange(dy.shape[0]):
        backward_input_tiles(
            n, Wf, shapes[0], dY, shapes[1], U, shapes[2], dX, shapes[3], stride, dilation, groups, first
        )
        if not inside:
            _fold(n, dpadded, dx, before, border)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    image = padded if padded.size else x
    P, dY, dWf = image.reshape(-1), dy.reshape(-1), dW.reshape(-1)
    shapes = (image.shape[1:], dy.shape[1:], dW.shape[1:])
    for block in prange(blocks_of(dW, groups)):
        backward_weight_tiles(block, dy.shape[0], P, shapes[0], dY, shapes[1], dWf, shapes[2], stride, dilation, groups)


@kernel
def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    N, _, OD, OH, OW = dy.shape
    for f in prange(db.size):
        total = 0.0
        for n in range(N):
            for d in range(OD):
                for h in range(OH):
                    for w in range(OW):
                        total += dy[n, f, d, h, w]
        db[f] = total


# -- the loops, shared with conv_transpose -----------------------------------------------------------------------------


@helper
def _offset(tap, kernel, dilation, image):
    """Flat offset of a tap, counted over (a, k_1, k_2, k_3), in a padded image (D, H, W)."""
    KD, KH, KW = kernel
    D, H, W = image
    a, d, h, w = tap // (KD * KH * KW), tap // (KH * KW) % KD, tap // KW % KH, tap % KW
    return ((a * D + d * dilation[0]) * H + h * dilation[1]) * W + w * dilation[2]


@helper
def _correlate(n, x, W, y, stride, dilation, groups):
    """y[n] += W * x[n], x padded."""
    F, OD, OH, OW = y.shape[1:]
    C, D, H, width = x.shape[1:]
    taps = W[0].size
    zero = W.dtype.type(0)
    weights, images, sums = W.reshape(-1), x.reshape(-1), y.reshape(-1)
    step = uintp(stride[2])
    for f in range(F):
        first = (n * C + f // (F // groups) * W.shape[1]) * D * H * width
        for t in range(0, taps, 4):
            t1, t2, t3 = min(t + 1, taps - 1), min(t + 2, taps - 1), min(t + 3, taps - 1)
            p0 = first + _offset(t, W.shape[2:], dilation, x.shape[2:])
            p1 = first + _offset(t1, W.shape[2:], dilation, x.shape[2:])
            p2 = first + _offset(t2, W.shape[2:], dilation, x.shape[2:])
            p3 = first + _offset(t3, W.shape[2:], dilation, x.shape[2:])
            u0 = weights[f * taps + t]
            u1 = weights[f * taps + t1] if t + 1 < taps else zero
            u2 = weights[f * taps + t2] if t + 2 < taps else zero
            u3 = weights[f * taps + t3] if t + 3 < taps else zero
            for d in range(OD):
                for h in range(OH):
                    row = (d * stride[0] * H + h * stride[1]) * width
                    q0, q1, q2, q3 = uintp(p0 + row), uintp(p1 + row), uintp(p2 + row), uintp(p3 + row)
                    z = uintp((((n * F + f) * OD + d) * OH + h) * OW)
                    for j in range(uintp(OW)):
                        at = j * step
                        sums[z + j] += (
                            u0 * images[q0 + at] + u1 * images[q1 + at] + u2 * images[q2 + at] + u3 * images[q3 + at]
                        )


@helper
def _spread(n, W, dy, dx, stride, dilation, groups):
    """dx[n] = the adjoint of _correlate applied to dy[n]: every dy goes back to where its taps came from."""
    F, OD, OH, OW = dy.shape[1:]
    C, D, H, width = dx.shape[1:]
    m, KD, KH, KW = W.shape[1:]
    zero = W.dtype.type(0)
    deltas, images = dy.reshape(-1), dx.reshape(-1)
    step = uintp(stride[2])
    each = F // groups
    for c in range(C):
        start = (n * C + c) * D * H * width
        for j in range(uintp(start), uintp(start + D * H * width)):
            images[j] = zero
        last = (c // m + 1) * each - 1  # filter of this group
        for f in range(last + 1 - each, last + 1, 4):
            f1, f2, f3 = min(f + 1, last), min(f + 2, last), min(f + 3, last)
            for t in range(KD * KH * KW):
                kd, kh, kw = t // (KH * KW), t // KW % KH, t % KW
                p = start + _offset(t, W.shape[2:], dilation, dx.shape[2:])
                u0 = W[f, c % m, kd, kh, kw]
                u1 = W[f1, c % m, kd, kh, kw] if f + 1 <= last else zero
                u2 = W[f2, c % m, kd, kh, kw] if f + 2 <= last else zero
                u3 = W[f3, c % m, kd, kh, kw] if f + 3 <= last else zero
                for d in range(OD):
                    for h in range(OH):
                        q = uintp(p + (d * stride[0] * H + h * stride[1]) * width)
                        z0 = uintp((((n * F + f) * OD + d) * OH + h) * OW)
                        z1 = z0 + uintp((f1 - f) * OD * OH * OW)
                        z2 = z0 + uintp((f2 - f) * OD * OH * OW)
                        z3 = z0 + uintp((f3 - f) * OD * OH * OW)
                        for j in range(uintp(OW)):
                            images[q + j * step] += (
                                u0 * deltas[z0 + j] + u1 * deltas[z1 + j] + u2 * deltas[z2 + j] + u3 * deltas[z3 + j]
                            )


@helper
def _products(x, channel, m, dy, f, dW, row, column, stride, dilation):
    """dW[row, column : column + m] = sum over batch and positions of dy[:, f] times x[:, channel : channel + m]."""
    N, F, OD, OH, OW = dy.shape
    C, D, H, width = x.shape[1:]
    volume = dW[0, 0].size
    taps = m * volume
    weights, images, deltas = dW.reshape(-1), x.reshape(-1), dy.reshape(-1)
    first = (row * dW.shape[1] + column) * volume
    step = uintp(stride[2])
    for t in range(0, taps, 4):
        t1, t2, t3 = min(t + 1, taps - 1), min(t + 2, taps - 1), min(t + 3, taps - 1)
        p0 = _offset(t, dW.shape[2:], dilation, x.shape[2:])
        p1 = _offset(t1, dW.shape[2:], dilation, x.shape[2:])
        p2 = _offset(t2, dW.shape[2:], dilation, x.shape[2:])
        p3 = _offset(t3, dW.shape[2:], dilation, x.shape[2:])
        s0 = s1 = s2 = s3 = dW.dtype.type(0)
        for n in range(N):
            for d in range(OD):
                for h in range(OH):
                    at = (((n * C + channel) * D + d * stride[0]) * H + h * stride[1]) * width
                    q0, q1, q2, q3 = uintp(p0 + at), uintp(p1 + at), uintp(p2 + at), uintp(p3 + at)
                    z = uintp((((n * F + f) * OD + d) * OH + h) * OW)
                    for j in range(uintp(OW)):
                        delta = deltas[z + j]
                        s0 += delta * images[q0 + j * step]
                        s1 += delta * images[q1 + j * step]
                        s2 += delta * images[q2 + j * step]
                        s3 += delta * images[q3 + j * step]
        weights[first + t], weights[first + t1], weights[first + t2], weights[first + t3] = s0, s1, s2, s3


@helper
def _pad(n, c, x, padded, before, border):
    """padded[n, c] = x[n, c] with its border: every cell shows its source, or zero."""
    D, H, W = x.shape[2:]
    PD, PH, PW = padded.shape[2:]
    zero = x.dtype.type(0)
    images, cells = x.reshape(-1), padded.reshape(-1)
    for d in range(PD):
        for h in range(PH):
            sd, sh = _source(d - before[0], D, border), _source(h - before[1], H, border)
            at = (((n * x.shape[1] + c) * D + sd) * H + sh) * W
            to = (((n * x.shape[1] + c) * PD + d) * PH + h) * PW
            if sd < 0 or sh < 0:
                for w in range(uintp(to), uintp(to + PW)):
                    cells[w] = zero
            else:
                for w in range(uintp(W)):
                    cells[uintp(to + before[2]) + w] = images[uintp(at) + w]
                for w in range(PW - W):  # the cells before, then those after
                    w += 0 if w < before[2] else W
                    sw = _source(w - before[2], W, border)
                    cells[to + w] = images[at + sw] if sw >= 0 else zero


@helper
def _fold(n, dpadded, dx, before, border):
    """dx[n] = the adjoint of _pad: every cell of the padded image gives back to its source."""
    C, D, H, W = dx.shape[1:]
    PD, PH, PW = dpadded.shape[2:]
    images, cells = dx.reshape(-1), dpadded.reshape(-1)
    for j in range(uintp(n * C * D * H * W), uintp((n + 1) * C * D * H * W)):
        images[j] = dx.dtype.type(0)
    for c in range(C):
        for d in range(PD):
            for h in range(PH):
                sd, sh = _source(d - before[0], D, border), _source(h - before[1], H, border)
                if sd < 0 or sh < 0:
                    continue
                at = (((n * C + c) * D + sd) * H + sh) * W
                to = (((n * C + c) * PD + d) * PH + h) * PW
                for w in range(uintp(W)):
                    images[uintp(at) + w] += cells[uintp(to + before[2]) + w]
                for w in range(PW - W):
                    w += 0 if w < before[2] else W
                    sw = _source(w - before[2], W, border)
                    if sw >= 0:
                        images[at + sw] += cells[to + w]
