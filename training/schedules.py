"""Schedules: factors of the learning rate for each step."""

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import SpecError
from ..program.memory import need
from ..registry import Options, schedules
from .optimizers import Optimizer


class Schedule(Options):
    """Base of schedules.

    Attributes
    ----------
    constant : bool
        The factor is 1 at every step, so none needs to be stored.
    """

    constant: ClassVar[bool] = False

    def factor(self, steps: NDArray[Any], total: int, steps_per_epoch: int) -> NDArray[Any]:
        """Return factors of the learning rate.

        Parameters
        ----------
        steps : ndarray of int
            Indices of steps, from 0.
        total : int
            Steps of the whole training.
        steps_per_epoch : int

        Returns
        -------
        ndarray of float64, like `steps`
        """
        raise NotImplementedError


@schedules.register("constant")
class Constant(Schedule):
    """The factor 1 at every step."""

    constant = True

    def factor(self, steps, total, steps_per_epoch):
        return np.ones(np.shape(steps))


@schedules.register("step")
class Step(Schedule):
    """The factor gamma^k after k times `every` epochs."""

    every: float
    gamma: float = 0.1

    def validate(self):
        if not 0 < self.every < math.inf:
            raise SpecError(f"step: every must be a number of epochs above 0, got {self.every}")
        if not 0 < self.gamma < math.inf:
            raise SpecError(f"step: gamma must be a finite number above 0, got {self.gamma}")

    def factor(self, steps, total, steps_per_epoch):
        k = np.floor(np.asarray(steps) / (self.every * steps_per_epoch) + 1e-9)  # 0.1 * 30 is a little above 3
        return self.gamma**k


@schedules.register("exponential")
class Exponential(Schedule):
    """The factor gamma^e after e epochs and parts of epochs: gamma an epoch, a little at each step.

    At the first step of an epoch it is that of ``step(every=1, gamma=...)``, which stays the same during the epoch.
    """

    gamma: float

    def validate(self):
        if not 0 < self.gamma < math.inf:
            raise SpecError(
                f"exponential: gamma must be a finite number above 0, the factor of an epoch, got {self.gamma}"
            )

    def factor(self, steps, total, steps_per_epoch):
        return self.gamma ** (np.asarray(steps) / steps_per_epoch)


@schedules.register("cosine")
class Cosine(Schedule):
    """From 1 down to `final` along half a cosine over the whole training (Loshchilov & Hutter 2017, arXiv:1608.03983).

    f(t) = final + (1 - final) (1 + cos(pi t / total)) / 2, the paper's (5) without restarts.
    """

    final: float = 0.0

    def validate(self):
        if not 0 <= self.final <= 1:
            raise SpecError(f"cosine: final must be from 0 to 1, the share of lr that is left, got {self.final}")

    def factor(self, steps, total, steps_per_epoch):
        done = np.minimum(np.asarray(steps) / total, 1.0)
        return self.final + (1 - self.final) * (1 + np.cos(np.pi * done)) / 2


@schedules.register("warmup")
class WarmUp(Schedule):
    """A straight line up to 1 over the first epochs (Goyal et al. 2017, arXiv:1706.02677), then another schedule.

    The first step has factor 1/W and step W factor 1, for W = ceil(epochs * steps_per_epoch). The other schedule begins
    after W steps and counts its steps from there: cosine falls over the rest of the training.
    """

    epochs: float = 1.0
    then: Any = "constant"

    def validate(self):
        if not 0 < self.epochs < math.inf:
            raise SpecError(f"warmup: epochs must be a number above 0, got {self.epochs}")
        try:
            self._then = schedules.create(self.then)
        except SpecError as error:
            raise SpecError(f"warmup: then: {error}") from None

    def factor(self, steps, total, steps_per_epoch):
        steps = np.asarray(steps)
        W = math.ceil(min(self.epochs * steps_per_epoch, 2**53))  # no training has more steps
        rest = self._then.factor(np.maximum(steps - W, 0), max(total - W, 1), steps_per_epoch)
        return np.where(steps < W, (steps + 1) / W, rest)


def learning_rates(
    optimizer: Optimizer, schedule: Schedule, total: int, steps_per_epoch: int, dtype: DTypeLike = np.float64
) -> NDArray[np.float64]:
    """Return the learning rates of all steps, or one if they are equal; SpecError beyond the range of `dtype`."""
    steps = total if not schedule.constant else 1
    need(4 * 8 * steps, f"epochs: the learning rates of {steps} steps")
    with np.errstate(all="ignore"):
        factors = np.asarray(schedule.factor(np.arange(steps), total, steps_per_epoch), float)
        rates = optimizer.lr * factors
    if factors.shape != (steps,) or not ((rates <= np.finfo(dtype).max) & (rates >= 0)).all():
        name = schedules.name_of(type(schedule))
        raise SpecError(
            f"schedule: {name} must give a finite factor from 0 on for each of the {steps} steps, and a learning rate "
            f"that {np.dtype(dtype)} can hold"
        )
    return rates
