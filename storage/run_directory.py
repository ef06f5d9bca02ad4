"""The directory of a run: config, log, program, checkpoints and pictures; never overwritten, never incomplete.

A new run is written to a hidden directory next to it, which then takes its name by a rename. An existing empty
directory may be the current one or a mount, so it is filled, not replaced: the config is written last, and a directory
without it is not a run. The log is appended line by line. A resumed run first cuts off the lines after the last
checkpoint, so that the two always agree.
"""

import csv
import errno
import io
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, RunExists
from ..program.protocols import NetworkLike
from . import checkpoint

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # errors of a rename to a name that another process took


class RunDirectory:
    """A run on disk; made by `create` or `open`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._log: IO[str] | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: str,
        network: NetworkLike,
        source: str,
        progress: Mapping[str, Any],
    ) -> "RunDirectory":
        """Make a new run: its texts and the checkpoint of the untrained network.

        Parameters
        ----------
        path : str or path
        config : str
            The resolved config, TOML.
        network : Network
        source : str
            The program's text.
        progress : dict
            The initial state of training.

        Raises
        ------
        RunExists : the path exists and is not an empty directory.
        """
        run = cls(path)
        place = run.refuse_existing()

        def fill(folder):
            (folder / "program.py").write_text(source)
            (folder / "summary.txt").write_text(network.summary() + "\n")
            checkpoint.save(network, folder / "last.safetensors", progress=progress)
            (folder / "config.toml").write_text(config)

        if place.is_dir():
            try:
                open(place / "log.jsonl", "x").close()  # only one process can create it
            except FileExistsError:
                raise run._exists() from None
            try:
                fill(place)
            except BaseException:
                for file in place.iterdir():
                    file.unlink()
                raise
            checkpoint.sync_folder(place)
            return run
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
        try:
            os.chmod(hidden, 0o755)
            (hidden / "log.jsonl").touch()
            fill(hidden)
            os.rename(hidden, place)
        except BaseException as error:
            shutil.rmtree(hidden, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in TAKEN and place.exists():  # by another process, meanwhile
                raise run._exists() from None
            raise
        checkpoint.sync_folder(place.parent)
        return run

    def refuse_existing(self) -> Path:
        """Return the path without symbolic links; raise RunExists unless it is free or an empty directory."""
        place = Path(os.path.realpath(self.path))
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise self._exists()
        return place

    def _exists(self):
        way = f", or continue it with --resume {self.path}" if (self.path / "config.toml").is_file() else ""
        return RunExists(f"{self.path}: exists already; choose another directory{way}")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """Open an existing run; raise CheckpointError for any other directory."""
        path = Path(path)
        missing = [f for f in ("config.toml", "last.safetensors") if not (path / f).is_file()]
        if missing:
            raise CheckpointError(f"{path}: not a run directory (it lacks {' and '.join(missing)})")
        return cls(path)

    @property
    def config(self) -> str:
        return (self.path / "config.toml").read_text()

    def records(self) -> list[dict[str, Any]]:
        """Return the log's objects without an incomplete last line."""
        found = []
        for line in (self.path / "log.jsonl").read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def record_test(self, figures: Mapping[str, Any]) -> None:
        """Write the figures of the test set, `test.json`."""
        with checkpoint.atomic(self.path / "test.json") as file:
            file.write((json.dumps(_finite(dict(figures)), indent=2) + "\n").encode())

    def record_predictions(self, tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> Path:
        """Write the predictions of the best parameters, `predictions.safetensors`; return its path."""
        from safetensors.numpy import save

        path = self.path / "predictions.safetensors"
        with checkpoint.atomic(path) as file:
            arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
            file.write(save(arrays, {"nnjit": json.dumps(about)}))
        return path

    def record_mistakes(self, listed: tuple[Sequence[str], Sequence[Sequence[Any]]] | None) -> list[Path]:
        """Write a table, (head, columns), as `mistakes.csv`; return its path. None: remove an earlier one."""
        path = self.path / "mistakes.csv"
        if listed is None:
            path.unlink(missing_ok=True)  # of a run that was continued
            return []
        text, (head, columns) = io.StringIO(), listed
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([str(cell) for cell in row] for row in zip(*columns, strict=True))
        with checkpoint.atomic(path) as file:
            file.write(text.getvalue().encode())
        return [path]

    def test(self) -> dict[str, Any]:
        """Return the figures of the test set; empty if it was not measured."""
        try:
            found = json.loads((self.path / "test.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def rewind(self, step: int, epoch: int) -> list[dict[str, Any]]:
        """Cut the log off after the step and the last complete epoch of a checkpoint; return the remaining records."""
        kept = [r for r in self.records() if r["step"] <= step and not (r.get("epoch_end") and r["epoch"] > epoch)]
        with checkpoint.atomic(self.path / "log.jsonl") as file:
            file.write("".join(map(_line, kept)).encode())
        return kept

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records to the log, one on each line."""
        if self._log is None:
            self._log = open(self.path / "log.jsonl", "a")  # noqa: SIM115 - open as long as the run
        self._log.write("".join(map(_line, records)))
        self._log.flush()

    def begin(self, **about: Any) -> None:
        """Say in `state.json` that a process trains, and hold the log until `close`, so that others can see it.

        Parameters
        ----------
        about : what `nnjit watch` needs: "epochs", "steps" of an epoch, "at_most", "lines"
        """
        if self._log is None:
            self._log = open(self.path / "log.jsonl", "a")  # noqa: SIM115 - open as long as the run
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write_state({"state": "running", "host": platform.node(), **about})

    def conclude(self, state: str, **details: Any) -> None:
        """Say in `state.json` how the run ended: "finished", "stopped", "interrupted" or "failed", and why."""
        about = {name: value for name, value in self.state().items() if name not in ("host", "why", "remarks")}
        self._write_state(about | {"state": state, **details})

    def _write_state(self, state):
        with checkpoint.atomic(self.path / "state.json") as file:
            file.write((json.dumps(state) + "\n").encode())

    def state(self) -> dict[str, Any]:
        """Return what `state.json` says of the run; empty if there is none, as in a run that has not begun."""
        try:
            found = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def is_held(self) -> bool | None:
        """Return whether a process holds the log; None if that cannot be known from here.

        The system ends the hold with the process, however it ends; processes of other machines may be out of sight.
        """
        if fcntl is None:
            return None
        try:
            with open(self.path / "log.jsonl", "rb") as log:
                fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return None
        return False if self.state().get("host") == platform.node() else None

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def checkpoint(
        self, name: str, network: NetworkLike, tensors: Mapping[str, NDArray[Any]], progress: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, "best" or "last"."""
        checkpoint.save(network, self.path / f"{name}.safetensors", tensors, progress)


def _line(record):
    try:
        return _encode(record) + "\n"
    except ValueError:  # NaN or infinity
        return _encode(_finite(record)) + "\n"


_encode = json.JSONEncoder(allow_nan=False).encode  # made once; json.dumps makes an encoder for each call with options


def _finite(value):
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
