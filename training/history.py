"""The records of a training."""

import math
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .progress import figures


@dataclass
class History:
    """Records of a training; its repr is three lines: how far it went, its last figures and its best ones.

    Each remark is a further line.

    Attributes
    ----------
    steps, epochs : list of dict
        Records of steps and of epochs, as in the log.
    interrupted : int or None
        The number of the signal that ended the run early.
    stopped : str or None
        The reason if patience or a callback ended it before its last epoch.
    restored : int or None
        With `patience`: the epoch whose parameters the network has, the best. None: they are those of the last step.
    remarks : list of str
        One sentence with a remedy for each reason to doubt that it learned: gradients of 0, a loss like that of a
        constant prediction, an end far above the best epoch. See `remarks`.
    written : list of pathlib.Path
        The predictions and pictures that were written at the end of a run with a directory.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: int | None = None
    stopped: str | None = None
    restored: int | None = None
    remarks: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            (self.epochs if record.get("epoch_end") else self.steps).append(record)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one number per epoch, such as "val_accuracy" or "f1(average='none')/setosa"; NaN where there is none.

        Raises
        ------
        UsageError
            The epochs have a number for each class; the message says how to name one.
        """
        outer, _, inner = name.partition("/")
        found = [record.get(outer, math.nan) for record in self.epochs]
        table = next((value for value in found if isinstance(value, dict)), None)
        if table is None:
            return np.array(found if not inner else [math.nan] * len(found), dtype=float)
        if not inner:
            raise UsageError(
                f"column: {name} is a number for each of {', '.join(table)}; give one, {name}/{next(iter(table))}"
            )
        return np.array([value.get(inner, math.nan) if isinstance(value, dict) else math.nan for value in found], float)

    def ending(self) -> str:
        """Say why the training ended early and which parameters it restored; "" if it did neither."""
        parts = []
        if self.stopped is not None:
            parts.append(f"stopped after epoch {len(self.epochs)}: {self.stopped}")
        if self.restored is not None:
            record = next((record for record in self.epochs if record["epoch"] == self.restored), {})
            figure = f" ({judged(record)} {record[judged(record)]:.4g})" if record else ""
            parts.append(f"the best parameters, of epoch {self.restored}{figure}, are restored")
        return "; ".join(parts)

    def how_it_ended(self) -> dict[str, Any]:
        """Return for a run directory how the training ended: "finished", "stopped" or "interrupted", and details."""
        how = "finished" if self.stopped is None else "stopped"
        why = self.stopped
        if self.interrupted is not None:
            how, why = "interrupted", signal.Signals(self.interrupted).name
        details = {"why": why, "restored": self.restored, "remarks": self.remarks}
        return {"state": how} | {name: value for name, value in details.items() if value}

    def __repr__(self) -> str:
        finite = [record for record in self.epochs if isinstance(record.get(judged(record)), float)]
        finite = [record for record in finite if math.isfinite(record[judged(record)])]
        best = min(finite, key=lambda record: record[judged(record)], default=None)
        steps = max((records[-1]["step"] for records in (self.epochs, self.steps) if records), default=0)
        way = [f"{len(self.epochs)} epochs, {steps} steps"]
        if self.interrupted is not None:
            way.append(f"interrupted by {signal.Signals(self.interrupted).name}")
        if self.stopped is not None:
            way.append(f"stopped: {self.stopped}")
        lines = ["; ".join(way)]
        for name, record in (("last", self.epochs[-1] if self.epochs else None), ("best", best)):
            numbers = "no epoch" if record is None else f"epoch {record['epoch']}"
            numbers += ", restored" if name == "best" and record and record["epoch"] == self.restored else ""
            numbers += "".join(f"  {key} {number:.4g}" for key, number in figures(record or {}).items())
            lines.append(f"{name}: {numbers}")
        return "\n".join([*lines, *(f"note: {remark}" for remark in self.remarks)])


def judged(record: dict[str, Any]) -> str:
    """Return the name of the figure by which an epoch is judged: the validation loss, or without one the loss."""
    return "val_loss" if "val_loss" in record else "loss"
