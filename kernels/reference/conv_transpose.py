"""Transposed convolution in NumPy: the exact adjoint of `conv` with the same options, plus b.

    y[n, c, i] = b[c] + sum over x[n, f, o] W[f, c - g m, k] with i = o s + k d - pad_before (then the border's adjoint)

If conv maps (C, *in) to (F, *out), this layer maps (F, *out) to (C, *in) with the same W (F, m, *kernel), m = C /
groups: its first axis counts the *input* maps of this layer, its second the output maps of a group (the layout of
PyTorch). Shapes: x (N, F, *out), y (N, C, *in), padded (N, C, *padded in) or size 0.
"""

import numpy as np

from . import conv


def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = conv's adjoint applied to x, plus b; `padded` is scratch."""
    dy_padded = np.empty(0, W.dtype)  # scratch that NumPy does not need
    conv.backward_input(W, x, dy_padded, padded, y, stride, dilation, groups, pad_before, border)
    if b.size:
        y += b[:, None, None, None]


def backward_input(W, dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx = conv applied to dy."""
    conv.forward(dy, W, np.empty(0, W.dtype), dpadded, dx, stride, dilation, groups, pad_before, border)


def backward_weight(x, dy, dpadded, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of x[n, f, o] dy~[n, g m + a, o s + k d]."""
    backward_input(
        np.zeros_like(dW), dy, dpadded, np.empty_like(x), stride, dilation, groups, pad_before, border
    )  # pads dy
    conv.backward_weight(dy, dpadded, x, dW, stride, dilation, groups, pad_before, border)
