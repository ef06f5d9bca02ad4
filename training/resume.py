"""The conditions under which a training may continue a checkpoint."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.split import Split
from ..errors import DataError, UsageError
from ..registry import schedules
from .settings import Settings


def fingerprints(train: Split, validation: Split | None) -> dict[str, Any]:
    """Return fingerprints of the data, to compare when the run is resumed."""
    parts = {"training": train, "validation": validation}
    return {name: None if split is None else split.fingerprint() for name, split in parts.items()}


def check_data(progress: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise DataError if the fingerprints found are not those of the checkpoint's data."""
    if "data" in progress:
        for part, now in found.items():
            _check_part(part, progress["data"][part], now)


def check_steps(progress: Mapping[str, Any], settings: Settings, batch_size: int, steps_per_epoch: int) -> None:
    """Raise UsageError if the checkpoint's steps had another batch size or other learning rates."""
    epochs, former_size = progress.get("epochs"), progress.get("batch_size", batch_size)
    if former_size != batch_size:
        raise UsageError(
            f"training.batch_size: the run was trained in batches of {former_size}, and cannot be continued in "
            f"batches of {batch_size}"
        )
    done, more = progress["step"], settings.epochs
    if not done or epochs in (None, more):
        return
    schedule, steps = settings.schedule, np.arange(done + 1)
    former, rates = (
        settings.optimizer.lr * schedule.factor(steps, steps_per_epoch * each, steps_per_epoch)
        for each in (epochs, more)
    )
    if not np.allclose(former[:done], rates[:done], rtol=1e-9, atol=0):
        way = f"continue it with --epochs {epochs}, or " if progress["epoch"] < epochs else ""
        raise UsageError(
            f"training.epochs: the schedule {schedules.name_of(type(schedule))} depends on the number of "
            f"epochs: with {more} instead of {epochs} the learning rate would jump from {former[done - 1]:.4g} to "
            f"{rates[done]:.4g} at step {done + 1}; {way}start a new run with --epochs {more}"
        )


def _check_part(part, former, now):
    """Raise DataError if a part of the data changed; `former` and `now` are fingerprints or None."""
    former, now = former or {"rows": 0}, now or {"rows": 0}
    keys = [key for key in {**former, **now} if key != "scale"]  # which older versions had
    changed = [key for key in keys if former.get(key) != now.get(key)]
    if not changed:
        return
    what = {
        "rows": f"it has {now['rows']} rows, and had {former['rows']}",
        "samples": "the contents of its samples are not the same",
        "targets": "the contents of its labels or targets are not the same",
        "weights": "the weights of its samples are not the same",
    }
    why = what.get(changed[0], f"its {changed[0]} is {now.get(changed[0])}, and was {former.get(changed[0])}")
    raise DataError(f"the {part} data changed since the run began: {why}; start a new run, or bring the data back")
