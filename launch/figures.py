"""Figures of runs on disk: those of the best epoch, and what differs in their configs."""

import csv
import io
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..errors import CheckpointError
from ..storage import checkpoint
from ..storage.run_directory import RunDirectory
from ..training.progress import figures

ABOUT = ("run", "fold", "seed", "epoch", "failed")  # columns that no mean is taken of


def best_figures(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the best epoch of a run and its losses and metrics; the last one's if there is no best yet.

    Figures of the test set, if they were measured, have names that begin with "test_".

    Raises
    ------
    CheckpointError
        The path is not a run directory.
    """
    directory = RunDirectory.open(path)
    progress = checkpoint.read(directory.path)[1].get("progress") or {}
    epoch = progress.get("epoch", 0)
    record = next((r for r in directory.records() if r.get("epoch_end") and r["epoch"] == epoch), None)
    found: dict[str, Any] = {"epoch": epoch} | ({} if record is None else figures(record))
    tested = directory.test()
    return found | {f"test_{name}": value for name, value in tested.items() if isinstance(value, float)}


def mean_and_deviation(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return means and sample standard deviations (divided by n - 1) of the columns that every row has.

    Rows of runs that failed have no figures and are left out; one row has no deviation.
    """
    rows = [row for row in rows if "failed" not in row]
    names = [name for name in (rows[0] if rows else {}) if name not in ABOUT and all(name in row for row in rows)]
    means = {name: fmean(row[name] for row in rows) for name in names}
    return means, {name: stdev(row[name] for row in rows) for name in names if len(rows) > 1}


def flat_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the config of a run as one table: "training.epochs" -> 10.

    Raises
    ------
    CheckpointError
        The path is not a run directory, or its config cannot be read.
    """
    file = RunDirectory.open(path).path / "config.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from None
    sections = {name: keys for name, keys in table.items() if isinstance(keys, dict)}
    return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the keys whose values are not the same in all configs, in the order of the configs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def runs_in(path: str | os.PathLike[str]) -> list[Path]:
    """Return the runs that a path stands for: itself, or those in a directory of folds and seeds.

    Raises
    ------
    CheckpointError
        It is neither.
    """
    place = Path(path)
    if (place / "config.toml").is_file() or not place.is_dir():
        return [RunDirectory.open(place).path]
    found = sorted((each.parent for each in place.glob("*/config.toml")), key=_numbers)
    if not found:
        raise CheckpointError(f"{path}: neither a run directory nor one that holds runs")
    return found


def _numbers(path):
    """Sort fold-10 after fold-9."""
    return [int(word) if word.isdecimal() else -1 for word in path.name.split("-")], path.name


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with a column for each name that one of them has."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with checkpoint.atomic(path) as file:
        file.write(text.getvalue().encode())
