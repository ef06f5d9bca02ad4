"""Transposed convolution: the exact adjoint of `conv` with the same options, plus b.

    y[n, c, i] = b[c] + sum over x[n, f, o] W[f, c - g m, k] with i = o s + k d - pad_before (then the border's adjoint)

If conv maps (C, *in) to (F, *out), this layer maps (F, *out) to (C, *in) with the same W (F, m, *kernel), m = C /
groups: its first axis counts the *input* maps of this layer, its second the output maps of a group (the layout of
PyTorch). So forward is conv's backward_input, backward_input is conv's forward, and backward_weight is conv's with x
and dy exchanged. Shapes: x (N, F, *out), y (N, C, *in), padded (N, C, *padded in) or size 0.

Parallel plan: conv.py. The gradient of b is conv.backward_bias.
"""

from ..gpu.launch import launcher, launches, workspace
from .conv import _fold, adjoint, correlate, pad, weight_gradient


@launcher
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = conv's adjoint applied to x, plus b; `padded` is scratch."""
    if border == 0 or not padded.size:
        return adjoint(W, x, b, None, y, stride, dilation, groups, pad_before)
    found = adjoint(W, x, workspace(0, W), None, padded, stride, dilation, groups, (0, 0, 0))
    return found + launches(_fold, (padded, b, y, pad_before, border))


@launcher
def backward_input(W, dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx = conv applied to dy."""
    image = dpadded if dpadded.size else dy
    return pad(dy, dpadded, pad_before, border) + correlate(image, W, workspace(0, W), dx, stride, dilation, groups)


@launcher
def backward_weight(x, dy, dpadded, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of x[n, f, o] dy~[n, g m + a, o s + k d]."""
    return pad(dy, dpadded, pad_before, border) + weight_gradient(
        dpadded if dpadded.size else dy, x, dW, stride, dilation, groups
    )
