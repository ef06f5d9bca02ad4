"""Read the log of a run: steps and epochs as arrays.

`log.jsonl` holds one JSON object per line. A line with `"epoch_end": true` summarizes an epoch; any other is one step.
"""

import json
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UnknownName

LOG = "log.jsonl"
MANY = "many.toml"  # in a directory of runs for several seeds or folds
SWEEP = "sweep.toml"  # in a directory of runs with different values of options


@dataclass(frozen=True)
class RunLog:
    """The log of a run.

    Attributes
    ----------
    directory : pathlib.Path
    name : str
        The directory's own name.
    steps, epochs : list of dict
        Records as logged, each with an integer `step` that increases from one record to the next.
    unreadable : int
        Lines in the middle of the log that are not records (an incomplete last line is not counted).
    group : str or None
        The name of the directory that holds the run and others, which are drawn together.
    """

    directory: Path
    name: str
    steps: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    unreadable: int = 0
    group: str | None = None

    @property
    def loss_name(self) -> str:
        """The kind of the losses, such as "cross_entropy"; "" if neither the log nor the config says it."""
        found = next((record["loss_name"] for record in self.epochs if isinstance(record.get("loss_name"), str)), None)
        if found is None:
            try:
                found = tomllib.loads((self.directory / "config.toml").read_text(encoding="utf-8"))["training"]["loss"]
            except (OSError, ValueError, KeyError, TypeError):
                found = ""
        return str(found)

    @property
    def steps_per_epoch(self) -> int | None:
        """The number of steps of an epoch, if all epochs in the log have the same."""
        steps, epochs = self.series("step", of="epochs", x="epoch")[::-1]
        good = (epochs > 0) & (steps > 0)
        each = np.unique(steps[good] / epochs[good])
        return int(each[0]) if len(each) == 1 and each[0] >= 1 and each[0] % 1 == 0 else None

    def series(self, key: str, of: str = "steps", x: str = "step") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values logged under `key`, with their abscissas.

        Parameters
        ----------
        key : str
            A key of the records; `"gradient_norms/dense.5"` reaches into a table.
        of : "steps" or "epochs"
        x : str
            The key to read the abscissa from.

        Returns
        -------
        x, y : float64 arrays of equal length
            Records without the key are omitted; a logged value that is not finite is NaN (a JSON null) or infinite.
        """
        outer, _, layer = key.partition("/")
        pairs = []
        for record in getattr(self, of):
            values = record.get(outer) if layer else record
            if isinstance(values, dict) and (layer or outer) in values:
                pairs.append((_number(record.get(x)), _number(values[layer or outer])))
        xs, ys = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
        return xs, ys

    def training_loss(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (step, loss) of the logged steps, or of the epochs if no step was logged."""
        steps = self.series("loss")
        return steps if len(steps[0]) else self.series("loss", of="epochs")

    def layers(self, key: str, of: str = "steps") -> list[str]:
        """Names of the layers in the tables logged under `key`, in depth order."""
        tables = (record[key] for record in getattr(self, of) if isinstance(record.get(key), dict))
        return list(dict.fromkeys(name for table in tables for name in table))

    def best_epoch(self, having: str = "val_loss") -> dict[str, Any] | None:
        """Return the epoch record with the lowest validation loss among those with the key `having`; the first of ties.

        Without any validation loss return the last such record, and None if there is none.
        """
        candidates = [record for record in self.epochs if record.get(having) is not None]
        scored = [record for record in candidates if np.isfinite(_number(record.get("val_loss")))]
        if scored:
            return min(scored, key=lambda record: record["val_loss"])
        return candidates[-1] if candidates else None


PathLike: TypeAlias = str | os.PathLike[str]
Runs: TypeAlias = Sequence[PathLike | RunLog]


def read(run_dir: PathLike | RunLog) -> RunLog:
    """Read a run directory; a RunLog is returned unchanged.

    An incomplete last line is ignored. A run that was killed and resumed may have logged some steps twice; the later
    records replace the earlier ones.

    Raises
    ------
    UnknownName
        No such directory.
    DataError
        The directory holds no log, or the log has no record.
    """
    if isinstance(run_dir, RunLog):
        return run_dir
    directory = Path(run_dir)
    try:
        text = (directory / LOG).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        kind = UnknownName if not directory.exists() else DataError
        raise kind(_not_a_run(directory)) from None
    except OSError as error:
        raise DataError(f"{directory / LOG}: cannot be read ({error.strerror})") from None

    lines = text.split("\n")  # the part after the last line end is empty or incomplete
    records = [_record(line) for line in lines]
    unreadable = sum(record is None and bool(line.strip()) for record, line in zip(records[:-1], lines, strict=False))
    steps: list[dict[str, Any]] = []
    epochs: list[dict[str, Any]] = []
    for record in records:
        if record is None:
            continue
        ends_epoch = record.get("epoch_end") is True
        # Steps at or after this one were logged before a kill and repeated since.
        _forget(steps, record["step"] + ends_epoch)
        _forget(epochs, record["step"])
        (epochs if ends_epoch else steps).append(record)
    if not steps and not epochs:
        raise DataError(f"{directory / LOG}: expected a log with at least one step, but no line holds a record")
    return RunLog(directory, directory.resolve().name, steps, epochs, unreadable)


def expand(path: PathLike | RunLog) -> list[RunLog]:
    """Read a run directory, or the runs inside the directory of a sweep, or those of `nnjit run --seeds`, as a group.

    Raises
    ------
    UnknownName, DataError
        As `read`.
    """
    if isinstance(path, RunLog) or not any((Path(path) / file).is_file() for file in (MANY, SWEEP)):
        return [read(path)]
    inside = [run for run in _runs_in(Path(path)) if (run / LOG).stat().st_size]
    if not inside:
        raise DataError(f"{path}: none of its runs has begun yet")
    inside.sort(key=lambda run: [int(part) if part.isdecimal() else -1 for part in run.name.split("-")])
    if (Path(path) / SWEEP).is_file():
        return [read(run) for run in inside]
    return [replace(read(run), group=Path(path).resolve().name) for run in inside]


def read_all(run_dirs: Runs, has_data: Callable[[RunLog], bool], needs: str) -> list[RunLog]:
    """Read the runs of one plot, and keep those that have its data.

    Runs with equal names are labelled by their paths. Raises DataError, which names the data that the plot `needs`, if
    no run has it.
    """
    runs = [run for run_dir in run_dirs for run in expand(run_dir)]
    kept = [run for run in runs if has_data(run)]
    if not kept:
        listed = ", ".join(str(run.directory) for run in runs) or "no run given"
        raise DataError(f"{listed}: nothing to draw, the plot needs {needs}")
    names = [run.name for run in kept]
    return [run if names.count(run.name) == 1 else replace(run, name=str(run.directory)) for run in kept]


def _number(value):
    """Convert a logged number to float; anything else (null, text) to NaN."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _record(line):
    """Parse the record on a line; None if the line is not a complete record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    ok = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if ok else None


def _forget(records, step):
    while records and records[-1]["step"] >= step:
        records.pop()


def _not_a_run(directory):
    """Return the error message for a directory without a log, with the runs that may have been meant."""
    inside = _runs_in(directory)
    beside = _runs_in(directory.absolute().parent)
    near = get_close_matches(directory.absolute().name, [path.name for path in beside], n=3, cutoff=0.5)
    state = "no such run directory" if not directory.exists() else "not a run directory"
    sentence = f"{directory}: {state}, a directory with {LOG} was expected"
    if inside:
        return f"{sentence}; it holds the runs {', '.join(str(directory / path.name) for path in inside[:3])}"
    if near:
        return f"{sentence}; did you mean {' or '.join(str(directory.parent / name) for name in near)}?"
    return sentence


def _runs_in(directory):
    try:
        return sorted(path for path in directory.iterdir() if (path / LOG).is_file())
    except OSError:
        return []
