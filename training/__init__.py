"""The training loop, and what it is made of: losses, update rules, schedules, metrics; the config.

A loss, an update rule or a schedule of one's own derives from the base class that stands here.
"""

from ..layers.base import kernel, operation
from .losses import Loss
from .optimizers import Optimizer
from .schedules import Schedule

__all__ = ["Loss", "Optimizer", "Schedule", "kernel", "operation"]
