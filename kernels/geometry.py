"""Convolution arithmetic: sizes, padding and receptive fields of sliding windows. Pure Python; imports only the errors.

In one dimension an input of i cells is padded by `before` and `after` cells, p = before + after, and a kernel of k
cells with dilation d spans k' = d (k - 1) + 1 cells. With steps of s cells (stride) it has

    o = floor((i + p - k') / s) + 1

positions: the general formula of the lecture (section on convolutional layers) with k' for k. The total padding is
`valid` p = 0, `same` p = k' - 1 (then o = i for s = 1), `full` p = 2 (k' - 1) (then o = i + k' - 1 for s = 1). If the
total is odd, the extra cell comes after. "same" is the lecture's for every stride; TensorFlow's depends on the stride.
See also V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
"""

from dataclasses import dataclass

from ..errors import ShapeError, SpecError

BORDERS = ("zeros", "edge", "reflect", "wrap")  # contents of padding cells; kernels get the index
WORDS = ("valid", "same", "full")
LARGEST = 2**31 - 1  # largest number of any option, so that products of two fit a 64-bit index


def effective_kernel(k, d=1):
    """Cells spanned by a kernel of k cells with dilation d: k' = d (k - 1) + 1."""
    return d * (k - 1) + 1


def output_size(i, k, s=1, d=1, p=(0, 0), name="kernel"):
    """Positions of a kernel of size k on i cells: floor((i + p - k') / s) + 1.

    Parameters
    ----------
    i, k, s, d : int
        Cells of the input and of the kernel, stride, dilation.
    p : (int, int)
        Cells added before and after.
    name : str
        Name of the kernel in errors.

    Raises
    ------
    ShapeError : the kernel does not fit the padded input.
    """
    room = i + p[0] + p[1] - effective_kernel(k, d)
    if room < 0:
        dilated = f" with dilation {d} (spanning {effective_kernel(k, d)})" if d > 1 else ""
        padding = p[0] if p[0] == p[1] else p
        raise ShapeError(
            f"{name} {k}{dilated} does not fit an input of {i} with padding {padding}:"
            f" {-room} more cells are needed; choose a smaller kernel or more padding"
        )
    return room // s + 1


def transposed_size(o, k, s=1, d=1, p=(0, 0), output_padding=0, name="kernel"):
    """Return the smallest i that the convolution (k, s, d, p) maps to o, plus `output_padding` cells after it.

    Raises
    ------
    ShapeError : the result would be less than 1, or `output_padding` is not less than stride or dilation.
    """
    if output_padding >= max(s, d):
        raise ShapeError(f"{name} {k}: output_padding {output_padding} must be less than stride {s} or dilation {d}")
    i = (o - 1) * s + effective_kernel(k, d) - p[0] - p[1] + output_padding
    if i < 1:
        raise ShapeError(f"{name} {k} with stride {s} and padding {p} leaves nothing of an input of {o}: i = {i}")
    return i


def receptive_field(chain):
    """Input cells on which an output cell of a chain of windows depends, in 1D: 1 + sum (k'_l - 1) prod_{j<l} s_j.

    Parameters
    ----------
    chain : iterable of (k, s, d)
        Kernel, stride, dilation, from the input to the output.
    """
    field = step = 1
    for k, s, d in chain:
        field += (effective_kernel(k, d) - 1) * step
        step *= s
    return field


def source(q, i, border):
    """Return the input cell whose value position q has (padding is outside 0..i-1), or -1 for zero.

    `border` is an index of `BORDERS`; "reflect" and "wrap" allow less than i cells of padding on each side.
    """
    if 0 <= q < i:
        return q
    if border == 1:
        return 0 if q < 0 else i - 1
    if border == 2:
        return -q if q < 0 else 2 * (i - 1) - q
    if border == 3:
        return q + i if q < 0 else q - i
    return -1


def connections(i, k, s=1, d=1, p=(0, 0), border=0):
    """Count the pairs (output cell, input cell) that a window connects in 1D: the non-zeros of its matrix."""
    seen = 0
    for j in range(output_size(i, k, s, d, p)):
        cells = {source(j * s + t * d - p[0], i, border) for t in range(k)}
        seen += len(cells - {-1})
    return seen


def per_dimension(value, rank, name, least=1):
    """Return one whole number for each dimension; a single number stands for all.

    Raises
    ------
    SpecError : the tuple has another length, or a value is not a whole number from `least`; `name` begins the sentence.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) != rank:
        raise SpecError(f"{name}: expected one number or {rank} (one for each dimension), got {value}")
    return tuple(_whole(v, name, least) for v in values)


def paddings(padding, kernel, dilation, name="padding"):
    """Return (before, after) for each dimension.

    Parameters
    ----------
    padding : "valid", "same", "full", int or tuple
        A number pads each side; a flat tuple has a number for each dimension, a nested one (before, after) pairs.
    kernel, dilation : tuple of int
        A number for each dimension.
    """
    if isinstance(padding, str):
        if padding not in WORDS:
            raise SpecError(f"{name}: expected valid, same, full, a number or a tuple, got {padding!r}")
        totals = [WORDS.index(padding) * (effective_kernel(k, d) - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sides = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * len(kernel)
    if len(sides) != len(kernel):
        raise SpecError(
            f"{name}: expected one number or {len(kernel)} numbers or (before, after) pairs (one for each dimension),"
            f" got {padding}"
        )
    return tuple(_pair(side, name) for side in sides)


def _pair(side, name):
    if isinstance(side, (tuple, list)):
        if len(side) != 2:
            raise SpecError(f"{name}: expected a pair (before, after), got {tuple(side)}")
        return _whole(side[0], name, 0), _whole(side[1], name, 0)
    return (_whole(side, name, 0),) * 2


def _whole(value, name, least):
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise SpecError(f"{name}: expected whole numbers from {least} to {LARGEST}, got {value!r}")
    return value


@dataclass(frozen=True)
class Window:
    """A kernel that slides over 1 to 3 dimensions: the formulas above for each dimension.

    Parameters
    ----------
    name : str
        Name of the layer in errors.
    kernel, stride, dilation : tuple of int
    padding : tuple of (int, int)
    """

    name: str
    kernel: tuple
    stride: tuple
    dilation: tuple
    padding: tuple

    @classmethod
    def of(cls, name, rank, kernel, stride=1, padding="valid", dilation=1, option="kernel_size"):
        """Make a window from options as a user writes them; raise SpecError for wrong ones."""
        kernel = per_dimension(kernel, rank, f"{name}: {option}")
        stride = per_dimension(stride, rank, f"{name}: stride")
        dilation = per_dimension(dilation, rank, f"{name}: dilation")
        return cls(name, kernel, stride, dilation, paddings(padding, kernel, dilation, f"{name}: padding"))

    @property
    def before(self):
        """Padding before each dimension."""
        return tuple(before for before, _ in self.padding)

    def output(self, spatial):
        """Return the sizes of the output for an input of these sizes."""
        rows = zip(spatial, self.kernel, self.stride, self.dilation, self.padding, strict=True)
        return tuple(output_size(*row, name=f"{self.name}: kernel") for row in rows)

    def input(self, spatial, output_padding):
        """Return the sizes of the smallest input with an output of these sizes, plus `output_padding` cells after."""
        rows = zip(spatial, self.kernel, self.stride, self.dilation, self.padding, output_padding, strict=True)
        return tuple(transposed_size(*row, name=f"{self.name}: kernel") for row in rows)  # type: ignore[misc]  # zip of six

    def padded(self, spatial):
        """Return the sizes of the padded input."""
        return tuple(before + i + after for i, (before, after) in zip(spatial, self.padding, strict=True))

    def check_border(self, spatial, border):
        """Raise ShapeError unless the padding of "reflect" and "wrap" is less than the input's size."""
        for i, (before, after) in zip(spatial, self.padding, strict=True):
            if border in ("reflect", "wrap") and max(before, after) >= i:
                raise ShapeError(
                    f"{self.name}: border {border!r} takes padding of less than the input's {i} cells on each side,"
                    f" got {(before, after)}"
                )

    def check_inside(self):
        """Raise ShapeError if a window could lie entirely in the padding."""
        for k, d, pair in zip(self.kernel, self.dilation, self.padding, strict=True):
            if max(pair) >= effective_kernel(k, d):
                raise ShapeError(
                    f"{self.name}: padding of each side must be less than the window's {effective_kernel(k, d)} cells,"
                    f" got {pair}"
                )
