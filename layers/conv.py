"""Convolutional layers of 1, 2 and 3 dimensions."""

from math import inf, prod
from typing import ClassVar, Literal

from ..errors import ShapeError, SpecError
from ..kernels import geometry
from ..kernels.cpu import conv_by_filter, conv_depthwise
from ..registry import name_of, register
from .base import Layer, operation, weight, zeros

# Winograd's algorithm serves 3 x 3 taps from this product of maps and filters on (measured). Fewer save less than the
# transforms cost, or leave a gradient undivided between threads.
WINOGRAD_FROM = {"conv.forward": 256, "conv.backward_input": 256, "conv.backward_weight": 1024}
WINOGRAD_MAPS = range(16, 257)  # maps on either side; with more its factors would not stay in cache

# Operations that conv_by_filter.py and conv_depthwise.py of kernels/cpu have too.
WITH_ALTERNATIVES = ("conv.forward", "conv.backward_input", "conv.backward_weight")


@register("conv")
class Conv(Layer):
    """y = W * x~ + b: every filter is moved over the padded input x~ (cross-correlation).

    (N, C, *in) -> (N, filters, *out) with out = floor((in + p - k') / stride) + 1 and k' = dilation (k - 1) + 1, for
    1 to 3 spatial dimensions. W (filters, C / groups, *kernel_size), b (filters,).

    Parameters
    ----------
    filters : int
        Output maps.
    kernel_size, stride, dilation : int or tuple of int
        One number for every dimension, or one a dimension.
    padding : "valid", "same", "full", int or tuple
        Total p = 0, k' - 1 or 2 (k' - 1); a number pads each side by that much; a flat tuple has one number a
        dimension, a nested one (before, after) pairs. "same" keeps the size at stride 1, as in the lecture; at larger
        strides TensorFlow's differs.
    groups : int
        Input and output maps fall into groups that do not see each other (groups = C: depthwise).
    border : "zeros", "edge", "reflect" or "wrap"
        What padding shows.
    bias : bool
    init : spec or None
        Initialiser of W; None chooses by the activation that follows.
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

    rank: ClassVar[int | None] = None  # spatial dimensions; None takes the input's

    forward = operation("conv.forward", form=3)
    backward_input = operation("conv.backward_input", form=3)
    linear = ("b",)
    backward_weight = operation("conv.backward_weight", form=3)
    backward_bias = operation("conv.backward_bias", form=3)
    check_cases = [
        ("(1, 1)", (1, 1)),
        ("(3, 3, stride=2)", (2, 8)),
        ("(4, 3, padding='same', groups=2)", (2, 5, 4)),
        ("(2, (3, 2), stride=(1, 3), dilation=(2, 1), padding=((1, 0), (0, 2)), bias=False)", (1, 7, 5)),
        ("(2, 3, padding='same', border='edge')", (1, 3, 4)),
        ("(1, 3, padding='full', border='reflect')", (2, 4, 5)),
        ("(1, 2, padding='full', border='wrap', stride=2)", (1, 3, 5)),
        ("(2, 2, padding=1)", (1, 2, 3, 2)),
        ("(5, (3, 2))", (1, 10, 19)),
    ]

    def kernel(self, attribute, in_shape):
        """On the CPU another algorithm where it wins: winograd, conv_by_filter or conv_depthwise of kernels/cpu."""
        kernel = getattr(self, attribute)
        window, maps, one = self.window(in_shape), (in_shape[0], self.filters), (1, 1)
        if (
            (window.kernel, window.stride, window.dilation, self.groups) == ((3, 3), one, one, 1)
            and all(m in WINOGRAD_MAPS for m in maps)
            and prod(maps) >= WINOGRAD_FROM.get(kernel.name, inf)
        ):
            return operation(kernel.name, form=3, cpu="winograd")
        if kernel.name in WITH_ALTERNATIVES and self._depthwise(in_shape):
            return operation(kernel.name, form=3, cpu="conv_depthwise")
        if kernel.name in WITH_ALTERNATIVES and self._by_filter(kernel.name, in_shape):
            return operation(kernel.name, form=3, cpu="conv_by_filter")
        return kernel

    def _depthwise(self, in_shape):
        """Return whether each filter sees a separate map, at stride 1 and among zeros, that fits a nearby cache."""
        window = self.window(in_shape)
        alone = self.groups == self.filters == in_shape[0] > 1 and self.border == "zeros"
        return (
            alone
            and max(window.stride) == 1
            and conv_depthwise.suits(in_shape[1:], window.kernel, window.dilation, window.padding)
        )

    def _by_filter(self, name, in_shape):
        """Return whether results (for the gradient of the input: maps) fill vectors, and each sums enough terms."""
        window = self.window(in_shape)
        taps = prod(window.kernel)
        results, terms = self.filters // self.groups, in_shape[0] // self.groups * taps
        if name == "conv.backward_weight":
            return conv_by_filter.suits(results, taps)
        if name == "conv.backward_input":
            results, terms, width = terms // taps, results * taps, in_shape[-1]
        else:
            width = window.output(in_shape[1:])[-1]
        return conv_by_filter.suits(results, terms, width, window.stride[-1]) and taps * prod(window.stride) > 1

    def validate(self):
        for option in ("filters", "groups"):
            geometry.per_dimension(getattr(self, option), 1, f"{name_of(type(self))}: {option}")
        for rank in (1, 2, 3) if self.rank is None else (self.rank,):
            try:
                return self._window(rank)
            except SpecError as error:
                failed = error
        raise failed

    def window(self, in_shape):
        """Return the sliding window: kernel, stride, dilation and padding of each dimension."""
        return self._window(spatial_rank(name_of(type(self)), in_shape, self.rank))

    def _window(self, rank):
        name = name_of(type(self))
        return geometry.Window.of(name, rank, self.kernel_size, self.stride, self.padding, self.dilation)

    def output_shape(self, in_shape):
        window = self.window(in_shape)
        check_groups(window.name, self.groups, {"input maps": in_shape[0], "filters": self.filters})
        window.check_border(in_shape[1:], self.border)
        return (self.filters, *window.output(in_shape[1:]))

    def parameters(self, in_shape):
        maps, kernel = in_shape[0] // self.groups, self.window(in_shape).kernel
        size = prod(kernel)
        W = weight((self.filters, maps, *kernel), maps * size, self.filters // self.groups * size, self.init)
        return {"W": W, "b": zeros((self.filters if self.bias else 0,))}

    def scratch(self, in_shape):
        window = self.window(in_shape)
        rows = zip(window.padded(in_shape[1:]), window.kernel, window.stride, window.dilation, strict=True)
        haloed = (i + d * (k - 1) if d > 1 else (i - 1) // s + 1 + (k - 1) // s for i, k, s, d in rows)
        padded = padded_scratch(window, in_shape[0], in_shape[1:])
        return {**padded, "haloed_dy": ("N", self.filters, *haloed)}  # deltas in a halo of zeros, as far as taps reach

    def scalars(self, in_shape):
        return window_scalars(self.window(in_shape), self.groups, self.border)

    def operations(self, in_shape):
        taps = in_shape[0] // self.groups * prod(self.window(in_shape).kernel)
        return taps * prod(self.output_shape(in_shape))

    def connections(self, in_shape):
        """Return how many numbers of this layer's dense matrix are not zero by its structure."""
        window = self.window(in_shape)
        rows = zip(in_shape[1:], window.kernel, window.stride, window.dilation, window.padding, strict=True)
        border = geometry.BORDERS.index(self.border)
        return self.filters * (in_shape[0] // self.groups) * prod(geometry.connections(*row, border) for row in rows)


@register("conv1d")
class Conv1d(Conv):
    """`conv` for inputs (N, C, length) only."""

    rank = 1
    check_cases = [("(2, 3)", (3, 5)), ("(2, 2, stride=3, padding='full', border='edge')", (1, 7))]


@register("conv2d")
class Conv2d(Conv):
    """`conv` for inputs (N, C, height, width) only."""

    rank = 2
    check_cases = [("(2, 3)", (1, 3, 3)), ("(3, 2, stride=2, groups=3)", (3, 5, 4))]


@register("conv3d")
class Conv3d(Conv):
    """`conv` for inputs (N, C, depth, height, width) only."""

    rank = 3
    check_cases = [("(1, 2)", (2, 2, 3, 2)), ("(2, (1, 2, 3), padding='same')", (1, 2, 2, 3))]


def spatial_rank(name, in_shape, rank=None):
    """Return the number of spatial dimensions of an input (C, *spatial).

    Raises
    ------
    ShapeError : it is not `rank`, or not 1 to 3.
    """
    found = len(in_shape) - 1
    if found not in ((1, 2, 3) if rank is None else (rank,)):
        wanted = "(C, *spatial) with 1 to 3 spatial dimensions"
        if rank is not None:
            wanted = f"(C, {', '.join(('depth', 'height', 'width')[3 - rank :])})" if rank > 1 else "(C, length)"
        raise ShapeError(f"{name}: expected an input of shape {wanted}, got {tuple(in_shape)}")
    return found


def check_groups(name, groups, counts):
    """ShapeError unless every count of maps is a multiple of the groups."""
    for what, count in counts.items():
        if count % groups:
            raise ShapeError(f"{name}: {what} must be a multiple of groups {groups}, got {count}")


def lifted(values, fill):
    """One number for each of three dimensions: images of fewer have leading dimensions of size 1."""
    return (fill,) * (3 - len(values)) + tuple(values)


def padded_scratch(window, maps, spatial):
    """Return the padded image of every sample; nothing where nothing is padded."""
    if any(map(any, window.padding)):
        return {"padded": ("N", maps, *window.padded(spatial))}
    return {"padded": ("N", 0, *(0 for _ in spatial))}


def window_scalars(window, groups, border):
    """Return what the kernels of conv and conv_transpose bind besides arrays."""
    return {
        "stride": lifted(window.stride, 1),
        "dilation": lifted(window.dilation, 1),
        "groups": groups,
        "pad_before": lifted(window.before, 0),
        "border": geometry.BORDERS.index(border),
    }
