"""The directory of a run: config, log, program, checkpoints and pictures. Never overwritten, never half there.

A new run is written complete in a hidden directory beside it and takes its name by a rename. An existing empty
directory may be the current one or a mount, so it is filled, not replaced: the config is written last, and without it
the directory is no run. The log is appended line by line; what lies behind the last checkpoint is cut off when a run is
resumed, so the two always agree.
"""

import errno
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from ..errors import CheckpointError, RunExists
from ..program.program import NetworkLike
from . import checkpoint

TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # what a rename to a name that another process took fails with


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
        path : where; RunExists if there is something already
        config : str
            The resolved config, TOML.
        network : Network
        source : str
            The program's text.
        progress : dict
            The state of training to begin with.
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
                open(place / "log.jsonl", "x").close()  # only one process can make it
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
        """RunExists unless the directory can be made, or is there and empty; returns it without symbolic links."""
        place = Path(os.path.realpath(self.path))
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise self._exists()
        return place

    def _exists(self):
        way = f", or continue it with --resume {self.path}" if (self.path / "config.toml").is_file() else ""
        return RunExists(f"{self.path}: exists already; choose another directory{way}")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunDirectory":
        """An existing run; CheckpointError if the directory is none."""
        path = Path(path)
        missing = [f for f in ("config.toml", "last.safetensors") if not (path / f).is_file()]
        if missing:
            raise CheckpointError(f"{path}: not a run directory (it lacks {' and '.join(missing)})")
        return cls(path)

    @property
    def config(self) -> str:
        return (self.path / "config.toml").read_text()

    def records(self) -> list[dict[str, Any]]:
        """The log's objects; a torn last line is left out."""
        found = []
        for line in (self.path / "log.jsonl").read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def rewind(self, step: int, epoch: int) -> list[dict[str, Any]]:
        """Cut the log off behind a step, the one the checkpoint was taken at, and epochs that were not complete."""
        kept = [r for r in self.records() if r["step"] <= step and not (r.get("epoch_end") and r["epoch"] > epoch)]
        with checkpoint.atomic(self.path / "log.jsonl") as file:
            file.write("".join(map(_line, kept)).encode())
        return kept

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write records to the log, each a line."""
        if self._log is None:
            self._log = open(self.path / "log.jsonl", "a")  # noqa: SIM115 - open as long as the run
        self._log.write("".join(map(_line, records)))
        self._log.flush()

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
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value):
    """JSON knows no NaN or infinity: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
