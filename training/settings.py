"""Settings of a training, with the defaults that `Network.fit`, `Network.compile` and `nnjit run` share."""

from dataclasses import dataclass
from typing import Any

from ..program.state import MAX_SEED
from ..registry import losses, optimizers, schedules
from ..registry.annotations import checked
from . import clip
from .metrics import base


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

    def __post_init__(self) -> None:
        self.epochs = checked("epochs", self.epochs, int, 1)
        self.batch_size = checked("batch_size", self.batch_size, int, 0)
        self.seed = checked("seed", self.seed, int, 0, MAX_SEED)
        self.norm = checked("norm", self.norm, float)
        self.loss = losses.create(self.loss)
        self.optimizer = optimizers.create(self.optimizer)
        self.schedule = schedules.create(self.schedule)
        self.clip = clip.create(self.clip)
        self.metrics = base.create(self.metrics)
