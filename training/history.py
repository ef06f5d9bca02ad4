"""The records of a training."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class History:
    """Records of a training: `steps` and `epochs` are those of the log."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: int | None = None  # the number of the signal that ended the run early

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            (self.epochs if record.get("epoch_end") else self.steps).append(record)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one number per epoch, such as "val_accuracy"; NaN where an epoch lacks it."""
        return np.array([record.get(name, math.nan) for record in self.epochs], dtype=float)
