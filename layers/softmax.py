"""Softmax as a layer; the loss cross_entropy applies it already."""

from ..kernels.operations import columns_of
from ..registry import register
from .base import Layer, operation


@register("softmax")
class Softmax(Layer):
    """y_c = exp(x_c) / sum_k exp(x_k) over the channel axis. (N, C, *spatial) -> same shape."""

    forward = operation("softmax.forward", form="channels")
    backward_input = operation("softmax.backward_input", form="channels")
    symmetric = True
    check_cases = [("", (1,)), ("", (5,)), ("", (3, 2, 3))]

    def column_kernel(self, attribute, in_shape):
        return columns_of(self.kernel(attribute, in_shape)) if len(in_shape) == 1 else None

    def sees(self, in_shape):
        return "all" if len(in_shape) == 1 else "same"
