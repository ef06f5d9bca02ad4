"""Transposed convolution: the exact adjoint of `conv` with the same options, plus b.

    y[n, c, i] = b[c] + sum over x[n, f, o] W[f, c - g m, k] with i = o s + k d - before   (then the border's adjoint)

Where conv maps (C, *in) to (F, *out), this layer maps (F, *out) to (C, *in) with the same W (F, m, *kernel), m = C /
groups: its first axis counts the *input* maps of this layer, its second the output maps of a group (the layout of
PyTorch). So forward is conv's backward_input, backward_input is conv's forward, and backward_weight is conv's with x
and dy in each other's place. Shapes: x (N, F, *out), y (N, C, *in), padded (N, C, *padded in) or size 0.

Parallel plan: as in conv.py, but backward_weight loops over the output maps c: an iteration pads dy[:, c] and owns
dW[:, c - g m]. The gradient of b is conv.backward_bias.
"""

from numba import prange

from ..compiler import kernel
from .conv import _correlate, _fold, _pad, _products, _spread


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = conv's adjoint applied to x, plus b; `padded` is working space."""
    N, C, D, H, width = y.shape
    image = padded if padded.size else y
    for n in prange(N):
        _spread(n, W, x, image, stride, dilation, groups)
        if padded.size:
            _fold(n, padded, y, before, border)
        if b.size:
            for c in range(C):
                for d in range(D):
                    for h in range(H):
                        for w in range(width):
                            y[n, c, d, h, w] += b[c]


@kernel
def backward_input(W, dy, dpadded, dx, stride, dilation, groups, before, border):
    """dx = conv applied to dy."""
    N, F, OD, OH, OW = dx.shape
    image = dpadded if dpadded.size else dy
    for n in prange(N):
        if dpadded.size:
            for c in range(dy.shape[1]):
                _pad(n, c, dy, dpadded, before, border)
        for f in range(F):
            for d in range(OD):
                for h in range(OH):
                    for w in range(OW):
                        dx[n, f, d, h, w] = 0.0
        _correlate(n, image, W, dx, stride, dilation, groups)


@kernel
def backward_weight(x, dy, dpadded, dW, stride, dilation, groups, before, border):
    """dW[f, a, k] = sum over the batch and positions o of x[n, f, o] dy~[n, g m + a, o s + k d]."""
    N, F = x.shape[:2]
    m, each = dW.shape[1], F // groups
    image = dpadded if dpadded.size else dy
    for c in prange(dy.shape[1]):
        if dpadded.size:
            for n in range(N):
                _pad(n, c, dy, dpadded, before, border)
        for f in range(c // m * each, (c // m + 1) * each):
            _products(image, c, 1, x, f, dW, f, c % m, stride, dilation)
