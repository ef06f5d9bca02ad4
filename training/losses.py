"""Losses C_i of one sample; the cost is their mean over the batch (lecture, (1)).

A loss of one's own names two kernels with the same arguments as these, its options bound by name::

    @registry.losses.register("log_cosh")
    class LogCosh(Loss):
        @kernel
        def forward(y, target, loss): ...      # loss (N,)
        @kernel
        def backward(y, target, dy): ...       # dC_i/dy, without 1/N
"""

import math
from typing import ClassVar

from ..errors import ShapeError, SpecError
from ..kernels.compiler import Kernel
from ..kernels.operations import Operation, operation
from ..registry import Options, losses


class Loss(Options):
    """Base of losses. Targets have the output's shape, or are class numbers (N,) for the ``_labels`` kernels."""

    forward: ClassVar[Kernel | Operation]
    backward: ClassVar[Kernel | Operation]
    forward_labels: ClassVar[Kernel | Operation | None] = None
    backward_labels: ClassVar[Kernel | Operation | None] = None
    classification: ClassVar[bool] = False  # outputs are scores of classes, so accuracy says something

    def validate_shape(self, out_shape):
        """Raise ShapeError for an output shape (without the batch) that the loss cannot take."""


@losses.register("quadratic")
class Quadratic(Loss):
    """C_i = 1/2 ||y - t||_2^2, the lecture's (1)."""

    forward = operation("loss.quadratic", form="matrix")
    backward = operation("loss.quadratic_backward", form="matrix")


@losses.register("cross_entropy")
class CrossEntropy(Loss):
    """C_i = -sum_c t_c log softmax(y)_c, softmax inside. Targets are class numbers (N,), one-hot or soft (N, C)."""

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


@losses.register("binary_cross_entropy")
class BinaryCrossEntropy(Loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)), the sigmoid s inside. Targets from 0 to 1."""

    forward = operation("loss.binary_cross_entropy", form="matrix")
    backward = operation("loss.binary_cross_entropy_backward", form="matrix")
    classification = True


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

    def validate(self):
        if not 0 < self.p < math.inf:
            raise SpecError(f"lp: p must be a finite number above 0, got {self.p}")
