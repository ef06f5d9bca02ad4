"""The training loop with losses, update rules, schedules and metrics; the config.

A plug-in's loss, update rule or schedule derives from the base class that is imported from here.
"""

from ..layers.base import kernel, operation
from .losses import Loss
from .optimizers import Optimizer
from .schedules import Schedule

__all__ = ["Loss", "Optimizer", "Schedule", "kernel", "operation"]
