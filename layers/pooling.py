"""Pooling layers: one number for each window of each map, for 1 to 3 spatial dimensions."""

from math import prod
from typing import Literal

from ..errors import ShapeError, SpecError
from ..kernels import geometry
from ..registry import name_of, register
from .base import Layer, operation
from .conv import lifted, spatial_rank

# Operations that pooling_pairs.py of kernels/cpu has too.
WITH_PAIRS = (
    "pooling.max_forward", "pooling.max_backward_input", "pooling.average_forward", "pooling.average_backward_input",
)  # fmt: skip
EXACT = 2**24  # numbers of cells up to it are exact in float32


class Pooling(Layer):
    """A window of `size` cells moves over each map: (N, C, *in) -> (N, C, *out).

    out = floor((in + p - size) / stride) + 1. Options are those of `conv`: one number for every dimension or one a
    dimension; `stride` is the size where it is not given; each side's padding is less than the window.
    """

    def validate(self):
        for rank in (1, 2, 3):
            try:
                return self._window(rank)
            except SpecError as error:
                failed = error
        raise failed

    def window(self, in_shape):
        """Return the sliding window: kernel, stride, dilation and padding of each dimension."""
        return self._window(spatial_rank(name_of(type(self)), in_shape))

    def _window(self, rank):
        size, stride, padding = (getattr(self, name) for name in ("size", "stride", "padding"))  # of the subclass
        stride = size if stride is None else stride
        return geometry.Window.of(name_of(type(self)), rank, size, stride, padding, option="size")

    def kernel(self, attribute, in_shape):
        """On the CPU the kernels of pooling_pairs for windows of two columns side by side."""
        kernel = getattr(self, attribute)
        name = getattr(kernel, "name", None)  # a subclass may have kernels without one
        if name in WITH_PAIRS and self._are_pairs(in_shape, separate=name.endswith("backward_input")):
            return operation(name, form=3, cpu="pooling_pairs")
        return kernel

    def _are_pairs(self, in_shape, separate):
        """Return whether windows are two adjacent columns, side by side within the map, and do not overlap."""
        window = self.window(in_shape)
        last = [
            (o - 1) * s + k for o, s, k in zip(window.output(in_shape[1:]), window.stride, window.kernel, strict=True)
        ]
        inside = not any(window.before) and all(end <= size for end, size in zip(last, in_shape[1:], strict=True))
        apart = all(s >= k for s, k in zip(window.stride, window.kernel, strict=True))
        return inside and window.kernel[-1] == window.stride[-1] == 2 and (apart or not separate)

    def output_shape(self, in_shape):
        window = self.window(in_shape)
        window.check_inside()
        return (in_shape[0], *window.output(in_shape[1:]))

    def scalars(self, in_shape):
        window = self.window(in_shape)
        return {
            "size": lifted(window.kernel, 1),
            "stride": lifted(window.stride, 1),
            "pad_before": lifted(window.before, 0),
        }

    def operations(self, in_shape):
        return prod(self.output_shape(in_shape)) * prod(self.window(in_shape).kernel)


@register("maxpool")
class MaxPool(Pooling):
    """y = the largest number of each window; padding never wins, ties go to the first cell in row order.

    (N, C, *in) -> (N, C, *out), out = floor((in + p - size) / stride) + 1.

    Parameters
    ----------
    size, stride : int or tuple of int
        Cells of the window, and of its steps; without a stride, windows do not overlap.
    padding : "valid", "same", "full", int or tuple
        As in `conv`; each side less than the window.
    """

    size: int | tuple
    stride: int | tuple | None = None
    padding: Literal["valid", "same", "full"] | int | tuple = "valid"

    forward = operation("pooling.max_forward", form=3)
    backward_input = operation("pooling.max_backward_input", form=3)
    jvp = operation("jvp.max_pool", form=3)
    check_cases = [
        ("(1)", (1, 1)),
        ("(2)", (3, 7)),
        ("(2)", (2, 4, 5)),
        ("((3, 2), stride=2, padding=1)", (1, 5, 3)),
        ("(2, stride=1, padding=((0, 1), (1, 0), (0, 0)))", (2, 2, 3, 2)),
    ]

    def output_shape(self, in_shape):
        out = super().output_shape(in_shape)
        if prod(in_shape[1:]) > EXACT:
            raise ShapeError(f"{name_of(type(self))}: a map has at most {EXACT} cells, got {prod(in_shape[1:])}")
        return out

    def scratch(self, in_shape):
        return {"argmax": ("N", *self.output_shape(in_shape))}


@register("avgpool")
class AvgPool(Pooling):
    """y = the mean of each window.

    (N, C, *in) -> (N, C, *out), out = floor((in + p - size) / stride) + 1.

    Parameters
    ----------
    size, stride, padding :
        As in `maxpool`.
    count_padding : bool
        Whether padding counts as cells of value 0; else the mean is over the cells of the input.
    """

    size: int | tuple
    stride: int | tuple | None = None
    padding: Literal["valid", "same", "full"] | int | tuple = "valid"
    count_padding: bool = False

    forward = operation("pooling.average_forward", form=3)
    backward_input = operation("pooling.average_backward_input", form=3)
    linear = ()
    check_cases = [
        ("(2)", (3, 7)),
        ("(3, stride=2, padding=1)", (1, 5, 3)),
        ("((3, 2), stride=1, padding=1, count_padding=True)", (2, 3, 2)),
        ("(2)", (1, 2, 3, 2)),
    ]

    def scalars(self, in_shape):
        return super().scalars(in_shape) | {"count_padding": self.count_padding}


@register("lppool")
class LpPool(Pooling):
    """y = (sum |x|^p)^(1/p) over each window; padding adds zeros. Its gradient is taken as 0 where y = 0.

    (N, C, *in) -> (N, C, *out), out = floor((in + padding - size) / stride) + 1.

    Parameters
    ----------
    size, stride, padding :
        As in `maxpool`.
    p : float
        At least 1; inf is the largest |x|.
    """

    size: int | tuple
    p: float = 2.0
    stride: int | tuple | None = None
    padding: Literal["valid", "same", "full"] | int | tuple = "valid"

    forward = operation("pooling.lp_forward", form=3)
    backward_input = operation("pooling.lp_backward_input", form=3)
    jvp = operation("jvp.lp_pool", form=3)
    check_cases = [("(2)", (3, 7)), ("(3, p=3, stride=2, padding=1)", (1, 5, 3)), ("(2, p=1.5)", (1, 2, 3, 2))]

    def validate(self):
        if not self.p >= 1:
            raise SpecError(f"{name_of(type(self))}: p: expected a number of at least 1, got {self.p}")
        super().validate()

    def scalars(self, in_shape):
        return super().scalars(in_shape) | {"p": self.p}


class GlobalPooling(Layer):
    """One number a map: (N, C, *spatial) -> (N, C)."""

    check_cases = [("", (3, 1)), ("", (2, 3, 5)), ("", (1, 2, 3, 2))]

    def output_shape(self, in_shape):
        spatial_rank(name_of(type(self)), in_shape)
        return (in_shape[0],)

    def operations(self, in_shape):
        return prod(in_shape)


@register("global_avgpool")
class GlobalAvgPool(GlobalPooling):
    """y = the mean of each map: (N, C, *spatial) -> (N, C)."""

    forward = operation("pooling.global_average_forward", form=3)
    backward_input = operation("pooling.global_average_backward_input", form=3)
    linear = ()


@register("global_maxpool")
class GlobalMaxPool(GlobalPooling):
    """y = the largest number of each map: (N, C, *spatial) -> (N, C); ties go to the first cell in row order."""

    forward = operation("pooling.global_max_forward", form=3)
    backward_input = operation("pooling.global_max_backward_input", form=3)
    jvp = operation("jvp.global_max_pool", form=3)
