"""Changes of shape: input and output are the same memory, in the order (C, *spatial)."""

import math

from ..errors import ShapeError, SpecError
from ..registry import register
from .base import Layer


@register("flatten")
class Flatten(Layer):
    """(N, C, *spatial) -> (N, C * prod(spatial))."""

    forward = None
    alias = True
    reads_channels = False
    check_cases = [("", (1,)), ("", (2, 3)), ("", (2, 1, 3, 2))]

    def output_shape(self, in_shape):
        return (math.prod(in_shape),)

    def operations(self, in_shape):
        return 0


@register("reshape")
class Reshape(Layer):
    """(N, *in_shape) -> (N, *shape); one size may be -1, which is computed from the others."""

    shape: tuple[int, ...] | int

    forward = None
    alias = True
    reads_channels = False
    check_cases = [("((6,))", (2, 3)), ("((3, -1, 2))", (2, 3, 5)), ("(1)", (1,))]

    def validate(self):
        sizes = self._sizes()
        if not sizes or sizes.count(-1) > 1 or any(n < 1 and n != -1 for n in sizes):
            raise SpecError(f"reshape: sizes must be at least 1, at most one of them may be -1, got {self.shape}")

    def output_shape(self, in_shape):
        sizes, total = self._sizes(), math.prod(in_shape)
        known = math.prod(n for n in sizes if n != -1)
        if total % known or (-1 not in sizes and total != known):
            raise ShapeError(f"reshape: an input of shape {in_shape} has {total} elements, which do not fill {sizes}")
        return tuple(total // known if n == -1 else n for n in sizes)

    def operations(self, in_shape):
        return 0

    def _sizes(self):
        return (self.shape,) if isinstance(self.shape, int) else self.shape
