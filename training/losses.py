"""Losses C_i of one sample; the cost is their mean over the batch (lecture, (1)).

A plug-in's loss has two kernels with the same arguments as these; its options are bound by name::

    @registry.losses.register("log_cosh")
    class LogCosh(Loss):
        @kernel
        def forward(y, target, loss): ...      # loss (N,)
        @kernel
        def backward(y, target, dy): ...       # dC_i/dy, without 1/N
"""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError, SpecError
from ..kernels.compiler.kernel import Kernel
from ..kernels.operations import Operation, columns_of, operation
from ..registry import Options, losses


class Loss(Options):
    """Base of losses. Targets have the output's shape, or are class numbers (N,) for the ``_labels`` kernels.

    `Network.fit`, `evaluate` and the command line call `targets` for every split.

    Attributes
    ----------
    forward, backward : kernel or operation
        C_i into ``loss`` (N,), and dC_i/dy into ``dy``; every loss has both.
    forward_labels, backward_labels : kernel or operation, or None
        The same for class numbers as targets; None if the loss takes values only.
    classification : bool
        The outputs are scores of classes, so that an accuracy can be computed.
    independent : bool
        Each output is the logit of a separate yes or no; classes do not exclude each other.
    """

    forward: ClassVar[Kernel | Operation]
    backward: ClassVar[Kernel | Operation]
    forward_labels: ClassVar[Kernel | Operation | None] = None
    backward_labels: ClassVar[Kernel | Operation | None] = None
    classification: ClassVar[bool] = False
    independent: ClassVar[bool] = False

    def column_kernel(self, attribute: str, out_shape: tuple[int, ...]) -> Kernel | Operation | None:
        """Return the kernel of an attribute for samples that are columns; None if there is none.

        ``y`` and ``dy`` are (outputs, N) then; targets keep a row for each sample. By default operations of nnjit
        have one, other kernels have none. See `Layer.column_kernel`.
        """
        return columns_of(getattr(self, attribute))

    def validate_shape(self, out_shape: tuple[int, ...]) -> None:
        """Raise ShapeError for an output shape (without the batch) that the loss cannot take."""

    def targets(self, y: NDArray[Any], out_shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the targets in the form the kernels take.

        Parameters
        ----------
        y : ndarray
            Labels (N,), whole numbers from 0, or values (N, ...).
        out_shape : tuple of int
            Of the network, without the batch.

        Raises
        ------
        ShapeError, DataError
            They do not fit the output, or the loss does not take such values; the message says which it takes.
        """
        if y.ndim == 1 and self.forward_labels is not None:
            check_labels(y, out_shape[0])
        elif y.shape[1:] != out_shape:
            came = f"{y.shape[1:]} of" if y.ndim > 1 else "one number a sample,"
            labels = " or class numbers" if self.forward_labels is not None else ""
            name = losses.name_of(type(self))
            raise ShapeError(f"{name} takes targets of the output's shape {out_shape}{labels}, got {came} {y.dtype}")
        return y


def check_labels(y: NDArray[Any], outputs: int) -> None:
    """Raise ShapeError for labels (N,) beyond the classes of this number of outputs; one output means two classes."""
    classes, largest = max(outputs, 2), int(y.max())
    if largest >= classes:
        begin = largest == classes and y.min() >= 1
        hint = "; the labels begin at 1, and 0 should be the first: subtract 1" if begin else ""
        plural = "s" if outputs > 1 else ""
        raise ShapeError(
            f"label {largest}, but the network has {outputs} output{plural}, for the labels 0 to {classes - 1}{hint}"
        )


@losses.register("quadratic")
class Quadratic(Loss):
    """C_i = 1/2 ||y - t||_2^2, the lecture's (1)."""

    forward = operation("loss.quadratic", form="matrix")
    backward = operation("loss.quadratic_backward", form="matrix")


@losses.register("cross_entropy")
class CrossEntropy(Loss):
    """C_i = -sum_c t_c log softmax(y)_c, softmax inside. Targets are class numbers (N,), one-hot or soft (N, C).

    Soft targets are probabilities: none is negative, and a row sums to 1 (within 1e-3; 1e-2 in half precision).
    """

    forward = operation("loss.cross_entropy", form="matrix")
    backward = operation("loss.cross_entropy_backward", form="matrix")
    forward_labels = operation("loss.cross_entropy_labels", form="matrix")
    backward_labels = operation("loss.cross_entropy_labels_backward", form="matrix")
    classification = True

    def validate_shape(self, out_shape):
        if len(out_shape) != 1 or out_shape[0] < 2:
            raise ShapeError(
                f"cross_entropy: expected an output of shape (classes,) with at least 2 classes, got {out_shape};"
                " end the network with flatten and dense(classes)"
            )

    def targets(self, y, out_shape):
        y = super().targets(y, out_shape)
        if y.ndim > 1:
            sums, least = y.sum(axis=1, dtype=np.float64), y.min(axis=1)
            wrong = (least < 0) | (np.abs(sums - 1) > (1e-2 if y.dtype == np.float16 else 1e-3))
            if wrong.any():
                row = int(wrong.argmax())
                what = f"holds {least[row]:.6g}" if least[row] < 0 else f"sums to {sums[row]:.6g}"
                raise DataError(
                    "cross_entropy takes rows of probabilities, from 0 on and of sum 1, but row "
                    f"{row} (counted from 0) {what}; for several classes at once use binary_cross_entropy"
                )
        return y


@losses.register("binary_cross_entropy")
class BinaryCrossEntropy(Loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)), the sigmoid s inside.

    Each output is a logit. Targets are from 0 to 1 and have the output's shape: (N, K) has 1 for each of K classes that
    is present. A network with one output also takes labels (N,), 0 and 1.
    """

    forward = operation("loss.binary_cross_entropy", form="matrix")
    backward = operation("loss.binary_cross_entropy_backward", form="matrix")
    classification = True
    independent = True

    def targets(self, y, out_shape):
        if y.ndim == 1 and out_shape == (1,):
            y = y[:, None]
        y = super().targets(y, out_shape)
        least, largest = float(y.min()), float(y.max())
        if least < 0 or largest > 1:
            remedy = "(y + 1) / 2 for -1 and 1" if least < 0 else f"divide by {largest:g}, or take y > 0"
            if out_shape == (1,) and least >= 0 and y.dtype.kind in "iu" and largest < 100:
                remedy = "labels of more than two classes are for cross_entropy"
            raise DataError(
                f"binary_cross_entropy takes targets from 0 to 1, but these are from {least:g} to {largest:g}: {remedy}"
            )
        return y


@losses.register("mse")
class MSE(Loss):
    """C_i = mean over the sample's outputs of (y - t)^2."""

    forward = operation("loss.mse", form="matrix")
    backward = operation("loss.mse_backward", form="matrix")


@losses.register("mae")
class MAE(Loss):
    """C_i = mean over the sample's outputs of |y - t|; the gradient is 0 at 0."""

    forward = operation("loss.mae", form="matrix")
    backward = operation("loss.mae_backward", form="matrix")


@losses.register("huber")
class Huber(Loss):
    """C_i = mean of e^2/2 for |e| <= delta, else delta (|e| - delta/2), e = y - t (Huber 1964)."""

    delta: float = 1.0

    forward = operation("loss.huber", form="matrix")
    backward = operation("loss.huber_backward", form="matrix")

    def validate(self):
        if not 0 < self.delta < math.inf:
            raise SpecError(f"huber: delta must be a finite number above 0, got {self.delta}")


@losses.register("lp")
class Lp(Loss):
    """C_i = ||y - t||_p^p = sum |y - t|^p for any finite p > 0; the gradient is taken as 0 at 0."""

    p: float = 2.0

    forward = operation("loss.lp", form="matrix")
    backward = operation("loss.lp_backward", form="matrix")

    def column_kernel(self, attribute, out_shape):
        return None  # powers are computed one by one in either form

    def validate(self):
        if not 0 < self.p < math.inf:
            raise SpecError(f"lp: p must be a finite number above 0, got {self.p}")
