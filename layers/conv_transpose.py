"""Transposed convolution: a layer that is the adjoint of a convolution, to enlarge images."""

from math import prod
from typing import Literal

from ..kernels import geometry
from ..registry import name_of, register
from .base import operation, weight, zeros
from .conv import Conv, check_groups, padded_scratch, window_scalars


@register("conv_transpose")
class ConvTranspose(Conv):
    """The exact adjoint of `conv` with the same options, plus b: <conv(u), x> = <u, conv_transpose(x)> without biases.

    (N, C, *in) -> (N, filters, *out) with out the smallest size that such a conv maps to `in`, plus `output_padding`:
    out = (in - 1) stride + k' - p + output_padding. W (C, filters / groups, *kernel_size), b (filters,). W holds the
    weights of the adjoint conv, which maps filters to C, in PyTorch's layout.

    Parameters
    ----------
    filters, kernel_size, stride, padding, dilation, groups, border, bias, init :
        As in `conv`: padding and border are those of the conv, so padding makes the output smaller.
    output_padding : int or tuple of int
        Cells added after each dimension of the output, fewer than stride or dilation. If they are fewer than the
        stride, the conv maps the output back to the input's shape.
    """

    filters: int
    kernel_size: int | tuple
    stride: int | tuple = 1
    padding: Literal["valid", "same", "full"] | int | tuple = "valid"
    dilation: int | tuple = 1
    groups: int = 1
    border: Literal["zeros", "edge", "reflect", "wrap"] = "zeros"
    bias: bool = True
    init: str | dict | tuple | None = None
    output_padding: int | tuple = 0

    forward = operation("conv_transpose.forward", form=3)
    backward_input = operation("conv_transpose.backward_input", form=3)
    backward_weight = operation("conv_transpose.backward_weight", form=3)
    linear = ("b",)
    check_cases = [
        ("(1, 1)", (1, 1)),
        ("(3, 3, stride=2)", (2, 4)),
        ("(2, 3, stride=2, padding='same', groups=2)", (2, 3, 2)),
        ("(1, (3, 2), dilation=(1, 2), bias=False)", (2, 3, 1)),
        ("(2, 2, stride=2)", (1, 2, 1, 2)),
    ]

    def _window(self, rank):
        geometry.per_dimension(self.output_padding, rank, f"{name_of(type(self))}: output_padding", least=0)
        return super()._window(rank)

    def output_shape(self, in_shape):
        window = self.window(in_shape)
        check_groups(window.name, self.groups, {"input maps": in_shape[0], "filters": self.filters})
        extra = geometry.per_dimension(self.output_padding, len(in_shape) - 1, "output_padding", least=0)
        spatial = window.input(in_shape[1:], extra)
        window.check_border(spatial, self.border)
        return (self.filters, *spatial)

    def parameters(self, in_shape):
        window, maps = self.window(in_shape), self.filters // self.groups
        size = prod(window.kernel)
        inputs = in_shape[0] // self.groups * size // prod(window.stride)  # average number of terms of one output
        W = weight((in_shape[0], maps, *window.kernel), max(1, inputs), maps * size, self.init)
        return {"W": W, "b": zeros((self.filters if self.bias else 0,))}

    def scratch(self, in_shape):
        return padded_scratch(self.window(in_shape), self.filters, self.output_shape(in_shape)[1:])

    def scalars(self, in_shape):
        return window_scalars(self.window(in_shape), self.groups, self.border)

    def operations(self, in_shape):
        return self.filters // self.groups * prod(self.window(in_shape).kernel) * prod(in_shape)

    def sees(self, in_shape):
        return "varies"

    def connections(self, in_shape):
        """Return how many elements of the layer's dense matrix are not zero by its structure."""
        conv = Conv(in_shape[0], self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.border)
        return conv.connections(self.output_shape(in_shape))


@register("conv_transpose1d")
class ConvTranspose1d(ConvTranspose):
    """`conv_transpose` for inputs (N, C, length) only."""

    rank = 1
    check_cases = [("(2, 3)", (3, 5))]


@register("conv_transpose2d")
class ConvTranspose2d(ConvTranspose):
    """`conv_transpose` for inputs (N, C, height, width) only."""

    rank = 2
    check_cases = [("(2, 3, stride=2)", (1, 3, 2))]


@register("conv_transpose3d")
class ConvTranspose3d(ConvTranspose):
    """`conv_transpose` for inputs (N, C, depth, height, width) only."""

    rank = 3
    check_cases = [("(1, 2)", (2, 1, 3, 2))]
