"""Settings of a training, with the defaults that `Network.fit`, `Network.compile` and `nnjit run` share."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..program.state import MAX_SEED
from ..registry import losses, optimizers, schedules
from ..registry.annotations import checked
from . import clip, weights
from .metrics import base

NEEDS_PATIENCE = "it is the least improvement that patience counts; give patience too, a number of epochs"


@dataclass
class Settings:
    """Settings of a training; the names are those of the config's [training], which describes each.

    Loss, optimizer, schedule, clip and metrics are given as specs or instances, and are instances afterwards.
    """

    loss: Any = "cross_entropy"
    optimizer: Any = "adam(lr=3e-3)"
    schedule: Any = "constant"
    clip: Any = None
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0
    norm: float = 2.0
    metrics: Any = ()
    patience: int | None = None
    min_delta: float = 0.0
    class_weights: Any = None

    def __post_init__(self) -> None:
        self.epochs = checked("epochs", self.epochs, int, 1)
        self.batch_size = checked("batch_size", self.batch_size, int, 0)
        self.seed = checked("seed", self.seed, int, 0, MAX_SEED)
        self.norm = checked("norm", self.norm, float)
        self.patience = None if self.patience is None else checked("patience", self.patience, int, 1)
        self.min_delta = checked("min_delta", self.min_delta, float, 0)
        if self.min_delta == math.inf:
            raise SpecError("min_delta: expected a finite number from 0 on, got inf")
        if self.min_delta and self.patience is None:
            raise SpecError(f"min_delta: {NEEDS_PATIENCE}")
        self.loss = losses.create(self.loss)
        self.optimizer = optimizers.create(self.optimizer)
        self.schedule = schedules.create(self.schedule)
        self.clip = clip.create(self.clip)
        self.metrics = base.create(self.metrics)
        self.class_weights = weights.create(self.class_weights)
