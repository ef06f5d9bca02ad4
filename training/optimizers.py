"""Update rules of theta by its gradient.

An optimizer has a kernel over flat arrays and the moments it keeps between steps. The kernel's arguments are bound by
name: ``theta``, ``gradient`` (mean over the batch), the moments, ``rate`` (eta of this step), ``step`` (from 1), and
the options. The kernel passes numbers through `flush` (kernels/compiler/subnormal.py) before it stores them.
"""

import math
from typing import ClassVar

import numpy as np

from ..errors import SpecError
from ..kernels.compiler.kernel import Kernel
from ..kernels.operations import Operation, operation
from ..registry import Options, optimizers

HIDDEN = 100  # epsilon is that many times what is lost, so that a step is right to 1 %


class Optimizer(Options):
    """Base of update rules; the first option is lr, the learning rate that schedules multiply.

    `update` and `moments` may be properties that depend on the options.
    """

    lr: float

    update: ClassVar[Kernel | Operation]
    moments: ClassVar[tuple[str, ...]] = ()  # arrays of the size of theta that start at 0
    squares: ClassVar[bool] = False  # whether moments hold squares; a gradient whose square overflows stops the run

    def validate(self) -> None:
        _within(self, "lr", self.lr, 0, math.inf)

    def check_dtype(self, dtype: np.dtype) -> None:
        """Raise SpecError for options with which rounding in a network's dtype would spoil the update."""


@optimizers.register("sgd")
class SGD(Optimizer):
    """theta <- theta - eta g (lecture, update formula), g with weight_decay * theta added.

    With momentum v <- momentum v + g takes the place of g (Polyak 1964), with nesterov g + momentum v
    (Sutskever et al. 2013), as in PyTorch.
    """

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def validate(self):
        super().validate()
        _within(self, "momentum", self.momentum, 0, 1)
        _within(self, "weight_decay", self.weight_decay, 0, math.inf)
        if self.nesterov and self.momentum == 0:
            raise SpecError("sgd: nesterov needs a momentum above 0, such as momentum=0.9")

    @property
    def update(self):  # type: ignore[override]  # a property, as `Optimizer` allows
        return operation("update.sgd" if self.momentum else "update.gradient_descent")

    @property
    def moments(self):  # type: ignore[override]
        return ("velocity",) if self.momentum else ()


@optimizers.register("rmsprop")
class RMSProp(Optimizer):
    """theta <- theta - eta g / (sqrt(s) + epsilon), s the decaying mean of g^2 (Tieleman & Hinton 2012, lecture 6e)."""

    lr: float = 1e-3
    decay: float = 0.9
    epsilon: float = 1e-8

    update = operation("update.rmsprop")
    moments = ("second_moment",)
    squares = True

    def validate(self):
        super().validate()
        _within(self, "decay", self.decay, 0, 1)
        _positive(self, "epsilon", self.epsilon)

    def check_dtype(self, dtype):
        _above_roots(self, self.epsilon, dtype, 1.0)


@optimizers.register("adam")
class Adam(Optimizer):
    """Decaying means of g and g^2, corrected for bias (Kingma & Ba 2015, arXiv:1412.6980).

    weight_decay is an l_2 penalty: weight_decay * theta is added to g. adamw has decay apart from the gradient.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    update = operation("update.adam")
    moments = ("first_moment", "second_moment")
    squares = True

    def validate(self):
        super().validate()
        _within(self, "beta1", self.beta1, 0, 1)
        _within(self, "beta2", self.beta2, 0, 1)
        _positive(self, "epsilon", self.epsilon)
        _within(self, "weight_decay", self.weight_decay, 0, math.inf)

    def check_dtype(self, dtype):
        _above_roots(self, self.epsilon, dtype, math.sqrt(1 - self.beta2))


@optimizers.register("adamw")
class AdamW(Adam):
    """Adam with theta multiplied by 1 - eta weight_decay separately (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    weight_decay: float = 0.01

    update = operation("update.adamw")


def _within(optimizer, option, value, low, high):
    """Check an option: from `low` on, below `high`."""
    if not low <= value < high:
        upper = "a finite number" if high == math.inf else f"below {high}"
        raise SpecError(f"{_name(optimizer)}: {option} must be {upper} and at least {low}, got {value}")


def _positive(optimizer, option, value):
    if not 0 < value < math.inf:
        raise SpecError(f"{_name(optimizer)}: {option} must be a finite number above 0, got {value}")


def _above_roots(optimizer, epsilon, dtype, factor):
    """Check that epsilon hides what is lost of small gradients: squares below the smallest number become 0.

    ``factor`` times the corrected root of a moment is the root of the moment.
    """
    least = HIDDEN * math.sqrt(np.finfo(dtype).tiny) / factor
    if epsilon < least:
        raise SpecError(
            f"{_name(optimizer)}: epsilon must be at least {least:.2g} in {dtype}, got {epsilon:g}: squares of small "
            "gradients become 0 there, and the step would be too long"
        )


def _name(optimizer):
    try:
        return optimizers.name_of(type(optimizer))
    except LookupError:
        return type(optimizer).__name__
