"""The training loop with losses, update rules, schedules and metrics; the config.

A plug-in's loss, update rule, schedule or metric derives from the base class that is imported from here.
"""

from ..layers.base import kernel, operation
from .losses import Loss
from .metrics.base import Metric
from .optimizers import Optimizer
from .schedules import Schedule

__all__ = ["Loss", "Metric", "Optimizer", "Schedule", "kernel", "operation"]
