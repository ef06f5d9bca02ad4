"""The affine layer of the lecture: z = W a + b."""

from ..errors import ShapeError
from ..kernels.operations import columns_of
from ..registry import register
from ..registry.annotations import checked
from .base import Layer, operation, weight, zeros


@register("dense")
class Dense(Layer):
    """z = W x + b (lecture, definition of z). (N, m) -> (N, n), W (n, m), b (n,)."""

    units: int
    bias: bool = True
    init: str | dict | tuple | None = None

    forward = operation("dense.forward", few="dense_few")
    backward_input = operation("dense.backward_input", few="dense_few")
    backward_weight = operation("dense.backward_weight", few="dense_few")
    backward_bias = operation("dense.backward_bias")
    linear = ("b",)
    reads_channels = False
    check_cases = [("(1)", (1,)), ("(3)", (3,)), ("(5, bias=False)", (7,)), ("(6)", (101,))]

    def column_kernel(self, attribute, in_shape):
        return columns_of(self.kernel(attribute, in_shape))

    def validate(self):
        checked("dense: units", self.units, int, 1)

    def output_shape(self, in_shape):
        if len(in_shape) != 1:
            raise ShapeError(f"dense: expected an input of shape (features,), got {in_shape}; put flatten before it")
        return (self.units,)

    def parameters(self, in_shape):
        W = weight((self.units, in_shape[0]), fan_in=in_shape[0], fan_out=self.units, init=self.init)
        return {"W": W, "b": zeros((self.units if self.bias else 0,))}

    def operations(self, in_shape):
        return self.units * in_shape[0]

    def connections(self, in_shape):
        return self.units * in_shape[0]
