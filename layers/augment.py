"""Augmentation: layers that change each sample at random in training, so that no epoch shows the same samples.

In prediction, in validation and in exported code they are y = x. A draw depends only on the seed, the step and the
place of the sample in its batch: it is the same for any number of threads, on both devices, and after a resume. They
stand behind a scale of raw data (`minmax`, `standardize`) and before the layers that learn.
"""

from math import prod
from typing import Literal

from ..errors import ShapeError, SpecError
from ..registry import register
from .base import Layer, operation
from .conv import lifted, spatial_rank


@register("random_flip")
class RandomFlip(Layer):
    """In training mirror half of the samples, chosen at random; in prediction y = x.

    (N, C, length), (N, C, height, width) or (N, C, depth, height, width), all maps of a sample alike.

    Parameters
    ----------
    axes : "horizontal", "vertical" or "both"
        Reverse the columns (left and right change places), the rows (top and bottom), or each of the two, drawn
        separately: then a quarter of the samples stays as it is. A length has columns alone.
    """

    axes: Literal["horizontal", "vertical", "both"] = "horizontal"

    forward = operation("augment.flip", form="flat")
    backward_input = operation("augment.flip_backward_input", form="flat")
    symmetric = True  # in prediction: the identity
    check_cases = [
        ("", (1, 1)),
        ("", (2, 7)),
        ("('vertical')", (3, 5, 4)),
        ("('both')", (2, 4, 5)),
        ("('both')", (2, 3, 2, 3)),
    ]

    def output_shape(self, in_shape):
        if spatial_rank("random_flip", in_shape) == 1 and self.axes != "horizontal":
            raise ShapeError(
                f"random_flip: axes {self.axes!r} takes an input with rows, (C, height, width) or (C, depth, height,"
                f" width), got {tuple(in_shape)}; choose axes 'horizontal'"
            )
        return in_shape

    def scalars(self, in_shape):
        chosen = {name: self.axes in (name, "both") for name in ("horizontal", "vertical")}
        return {**chosen, **_planes(in_shape)}


@register("random_crop")
class RandomCrop(Layer):
    """In training pad each sample and cut a window of its former size at random; in prediction y = x.

    So the sample moves by a whole number of cells from -padding to padding along each spatial axis, each as likely:
    (N, C, length), (N, C, height, width) or (N, C, depth, height, width), all maps of a sample alike. The shape stays
    as it is, so prediction takes whole samples (RandomCrop(size, padding) of torchvision, for the size of the data).

    Parameters
    ----------
    padding : int
        Cells on each side of every spatial axis, less than the axis has.
    border : "zeros" or "reflect"
        What padding shows: zeros, or the cells next to the border in reverse, without the border's own (as in `conv`).
    """

    padding: int
    border: Literal["zeros", "reflect"] = "zeros"

    forward = operation("augment.crop", form="flat")
    backward_input = operation("augment.crop_backward_input", form="flat")
    symmetric = True  # in prediction: the identity
    check_cases = [
        ("(0)", (1, 1)),
        ("(2)", (2, 7)),
        ("(3, 'reflect')", (2, 4)),
        ("(2)", (3, 5, 4)),
        ("(3, 'reflect')", (2, 4, 5)),
        ("(1)", (2, 3, 2, 3)),
        ("(1, 'reflect')", (1, 2, 3, 3)),
    ]

    def validate(self):
        if self.padding < 0:
            raise SpecError(f"random_crop: padding must be 0 or more cells, got {self.padding}")

    def output_shape(self, in_shape):
        spatial_rank("random_crop", in_shape)
        if self.padding >= min(in_shape[1:]):
            raise ShapeError(
                f"random_crop: padding must be less than the {min(in_shape[1:])} cells of the shortest spatial axis of"
                f" the input {tuple(in_shape)}, got {self.padding}"
            )
        return in_shape

    def scalars(self, in_shape):
        pads = lifted((self.padding,) * (len(in_shape) - 1), 0)
        depth, height, width = lifted(tuple(in_shape[1:]), 1)
        reflect, maps = self.border == "reflect", in_shape[0]
        return {"pads": pads, "reflect": reflect, "maps": maps, "depth": depth, "height": height, "width": width}


@register("random_rotation")
class RandomRotation(Layer):
    """In training turn each sample about its centre by a random angle; in prediction y = x.

    (N, C, height, width), all maps of a sample alike, or (N, C, depth, height, width), whose planes of rows and columns
    turn alike. The shape stays as it is. A place reads its number by bilinear interpolation between four cells, as
    grid_sample of PyTorch does with align_corners=False; outside the input there are zeros.

    Parameters
    ----------
    degrees : float
        Angles are uniform from -degrees to degrees, 0 to 180.
    """

    degrees: float

    forward = operation("augment.rotate", form="flat")
    backward_input = operation("augment.rotate_backward_input", form="flat")
    symmetric = True  # in prediction: the identity
    check_cases = [
        ("(180)", (1, 1, 1)),
        ("(30)", (3, 5, 4)),
        ("(180)", (2, 4, 7)),
        ("(90)", (2, 2, 3, 5)),
        ("(0)", (1, 3, 2)),
    ]

    def validate(self):
        if not 0 <= self.degrees <= 180:
            raise SpecError(
                f"random_rotation: degrees must be from 0 to 180 (the largest angle, either way), got {self.degrees}"
            )

    def output_shape(self, in_shape):
        if len(in_shape) not in (3, 4):
            raise ShapeError(
                "random_rotation: expected an input of shape (C, height, width) or (C, depth, height, width), got"
                f" {tuple(in_shape)}"
            )
        return in_shape

    def scalars(self, in_shape):
        return {"degrees": self.degrees, **_planes(in_shape)}


@register("noise")
class Noise(Layer):
    """In training y = x + deviation z, each z drawn from the normal distribution; in prediction y = x. Any shape.

    A draw depends only on seed, step and element, and lies within 5.8 deviations. On the CPU its samples are rows, also
    in a network whose narrow layers take columns.

    Parameters
    ----------
    deviation : float
        Standard deviation, 0 or more, in the units of the input: behind minmax(0, 255) a pixel is 0 to 1.
    """

    deviation: float

    forward = operation("augment.noise", form="flat")
    backward_input = operation("augment.noise_backward_input", form="flat")
    symmetric = True
    check_cases = [("(0.5)", (7,)), ("(0.1)", (2, 3, 5)), ("(0.0)", (1,))]

    def validate(self):
        if not 0 <= self.deviation < float("inf"):
            raise SpecError(f"noise: deviation must be 0 or more, in the units of the input, got {self.deviation}")

    def scalars(self, in_shape):
        return {"deviation": self.deviation, "features": prod(in_shape)}


def _planes(in_shape):
    """Return the planes of a sample, and the rows and columns of each."""
    height, width = (1, *in_shape[1:])[-2:]
    return {"maps": prod(in_shape) // (height * width), "height": height, "width": width}
