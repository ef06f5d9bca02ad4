"""Transposed convolution: the exact adjoint of `conv` with the same options, plus b.

    y[n, c, i] = b[c] + sum over x[n, f, o] W[f, c - g m, k] with i = o s + k d - before   (then the border's adjoint)

Where conv maps (C, *in) to (F, *out), this layer maps (F, *out) to (C, *in) with the same W (F, m, *kernel), m = C /
groups: its first axis counts the *input* maps of this layer, its second the output maps of a group (the layout of
PyTorch). So forward is conv's backward_input, backward_input is conv's forward, and backward_weight is conv's with x
and dy in each other's place. Shapes: x (N, F, *out), y (N, C, *in), padded (N, C, *padded in) or size 0.

Parallel plan: as in conv.py, but backward_weight loops over the output maps c: an iteration pads dy[:, c] and owns
dW[:, c - g m]. The gradient of b is conv.backward_bias.

backward_input runs on conv's register tiles. The other two are plain loops: an image is a flat array, a tap a fixed
offset into it; four products are added in one pass along a row, which LLVM vectorises where the stride is 1. Filters
that make no four go one by one: a weight of 0 in place of the missing ones would make NaN of an infinite number.
Indices are unsigned (uintp), or Numba would test each for "counted from the end".
"""

from numba import prange, uintp

from ..compiler.kernel import add, helper, kernel
from .conv_cells import bounded, forward_by_cells, mend_weights
from .conv_terms import Block, Share, window
from .conv_tiles import forward_tiles
from .padding import fold, pad_maps

SAMPLES = 64  # whose sums are added up before they are added to the sum of all


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = conv's adjoint applied to x, plus b; `padded` is working space."""
    N, C, D, H, width = y.shape
    image = padded if padded.size else y
    for n in prange(N):
        _spread(n, W, x, image, stride, dilation, groups)
        if padded.size:
            fold(n, padded, y, before, border)
        if b.size:
            for c in range(C):
                for d in range(D):
                    for h in range(H):
                        for w in range(width):
                            y[n, c, d, h, w] += b[c]


@kernel
def backward_input(W, dy, dpadded, dx, stride, dilation, groups, before, border):
    """dx = conv applied to dy."""
    image = dpadded if dpadded.size else dy
    P, Wf, dX = image.reshape(-1), W.reshape(-1), dx.reshape(-1)
    shapes, C = (image.shape[1:], W.shape[1:], dx.shape[1:]), dy.shape[1]
    volume = C * image.shape[2] * image.shape[3] * image.shape[4]
    for n in prange(dx.shape[0]):
        pad_maps(n * C, (n + 1) * C, 1, dy, dpadded, before, border)
        forward_tiles(n, 1, P, n * volume, shapes[0], Wf, shapes[1], Wf, False, dX, shapes[2], stride, dilation, groups,
                      0, W.shape[0] // groups)  # fmt: skip
        if dpadded.size and border == 0 and not bounded(W.size, Wf, 0):
            forward_by_cells(Share(n, n + 1, 0, W.shape[0] // groups), dy, W, Wf[:0], dx,
                             window(stride, dilation, groups, before, border))  # fmt: skip


@kernel
def backward_weight(x, dy, dpadded, dW, stride, dilation, groups, before, border):
    """dW[f, a, k] = sum over the batch and positions o of x[n, f, o] dy~[n, g m + a, o s + k d]."""
    N, F = x.shape[:2]
    m, each = dW.shape[1], F // groups
    image = dpadded if dpadded.size else dy
    for c in prange(dy.shape[1]):
        pad_maps(c, N * dy.shape[1], dy.shape[1], dy, dpadded, before, border)
        for f in range(c // m * each, (c // m + 1) * each):
            _products(image, c, 1, x, f, dW, f, c % m, stride, dilation)
        mend_weights(Block(c // m * each, each, c % m, 1, 0, dW[0, 0].size), dy, dpadded, x, dW,
                     window(stride, dilation, groups, before, border))  # fmt: skip


# -- the loops ---------------------------------------------------------------------------------------------------------


@helper
def _offset(tap, kernel, dilation, image):
    """Flat offset of a tap, counted over (a, k_1, k_2, k_3), in a padded image (D, H, W)."""
    KD, KH, KW = kernel
    D, H, W = image
    a, d, h, w = tap // (KD * KH * KW), tap // (KH * KW) % KD, tap // KW % KH, tap % KW
    return ((a * D + d * dilation[0]) * H + h * dilation[1]) * W + w * dilation[2]


@helper
def _spread(n, W, dy, dx, stride, dilation, groups):
    """dx[n] = the adjoint of _correlate applied to dy[n]: every dy goes back to where its taps came from."""
    F, OD, OH, OW = dy.shape[1:]
    C, D, H, width = dx.shape[1:]
    m, KD, KH, KW = W.shape[1:]
    zero = W.dtype.type(0)
    deltas, images = dy.reshape(-1), dx.reshape(-1)
    step, plane = uintp(stride[2]), uintp(OD * OH * OW)
    each = F // groups
    for c in range(C):
        start = (n * C + c) * D * H * width
        for j in range(uintp(start), uintp(start + D * H * width)):
            images[j] = zero
        first, rest = c // m * each, each % 4  # filters of this group; those that make no four go one by one
        for i in range(each // 4 + rest):
            four = i < each // 4
            f = first + (4 * i if four else each - rest + i - each // 4)
            for t in range(KD * KH * KW):
                kd, kh, kw = t // (KH * KW), t // KW % KH, t % KW
                p = start + _offset(t, W.shape[2:], dilation, dx.shape[2:])
                for d in range(OD):
                    for h in range(OH):
                        q = uintp(p + (d * stride[0] * H + h * stride[1]) * width)
                        z = uintp((((n * F + f) * OD + d) * OH + h) * OW)
                        if four:
                            u0, u1 = W[f, c % m, kd, kh, kw], W[f + 1, c % m, kd, kh, kw]
                            u2, u3 = W[f + 2, c % m, kd, kh, kw], W[f + 3, c % m, kd, kh, kw]
                            z1, z2, z3 = z + plane, z + plane + plane, z + plane + plane + plane
                            for j in range(uintp(OW)):
                                images[q + j * step] += (
                                    u0 * deltas[z + j] + u1 * deltas[z1 + j] + u2 * deltas[z2 + j] + u3 * deltas[z3 + j]
                                )
                        else:
                            u0 = W[f, c % m, kd, kh, kw]
                            for j in range(uintp(OW)):
                                images[q + j * step] += u0 * deltas[z + j]


@helper
def _products(x, channel, m, dy, f, dW, row, column, stride, dilation):
    """dW[row, column : column + m] = sum over batch and positions of dy[:, f] times x[:, channel : channel + m].

    Rows are summed, then those of SAMPLES samples, then all.
    """
    N, F, OD, OH, OW = dy.shape
    C, D, H, width = x.shape[1:]
    volume = dW[0, 0].size
    taps = m * volume
    weights, images, deltas = dW.reshape(-1), x.reshape(-1), dy.reshape(-1)
    first = (row * dW.shape[1] + column) * volume
    step, zero = uintp(stride[2]), dW.dtype.type(0)
    for t in range(0, taps, 4):
        t1, t2, t3 = min(t + 1, taps - 1), min(t + 2, taps - 1), min(t + 3, taps - 1)
        p0 = _offset(t, dW.shape[2:], dilation, x.shape[2:])
        p1 = _offset(t1, dW.shape[2:], dilation, x.shape[2:])
        p2 = _offset(t2, dW.shape[2:], dilation, x.shape[2:])
        p3 = _offset(t3, dW.shape[2:], dilation, x.shape[2:])
        s0 = s1 = s2 = s3 = zero
        for block in range(0, N, SAMPLES):
            b0 = b1 = b2 = b3 = zero
            for i in range(min(N - block, SAMPLES) * OD):
                n, d = block + i // OD, i % OD
                for h in range(OH):
                    at = (((n * C + channel) * D + d * stride[0]) * H + h * stride[1]) * width
                    q0, q1, q2, q3 = uintp(p0 + at), uintp(p1 + at), uintp(p2 + at), uintp(p3 + at)
                    z = uintp((((n * F + f) * OD + d) * OH + h) * OW)
                    r0 = r1 = r2 = r3 = zero
                    for j in range(uintp(OW)):
                        delta = deltas[z + j]
                        r0 = add(r0, delta * images[q0 + j * step])
                        r1 = add(r1, delta * images[q1 + j * step])
                        r2 = add(r2, delta * images[q2 + j * step])
                        r3 = add(r3, delta * images[q3 + j * step])
                    b0, b1, b2, b3 = b0 + r0, b1 + r1, b2 + r2, b3 + r3
            s0, s1, s2, s3 = s0 + b0, s1 + b1, s2 + b2, s3 + b3
        weights[first + t], weights[first + t1], weights[first + t2], weights[first + t3] = s0, s1, s2, s3
