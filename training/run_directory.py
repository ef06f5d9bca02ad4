"""The directory of a run: config, log, program, checkpoints and pictures. Never overwritten, never half there.

A new run is written complete in a hidden directory beside it and takes its name by a rename. The log is appended line
by line; what lies behind the last checkpoint is cut off when a run is resumed, so the two always agree.
"""

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

from ..errors import CheckpointError, RunExists
from . import checkpoint


class RunDirectory:
    """A run on disk; made by `create` or `open`."""

    def __init__(self, path):
        self.path = Path(path)
        self._log = None

    @classmethod
    def create(cls, path, config, network, source, progress):
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
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunExists(f"{path}: exists already; choose another directory, or continue it with --resume {path}")
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            os.chmod(hidden, 0o755)
            (hidden / "config.toml").write_text(config)
            (hidden / "program.py").write_text(source)
            (hidden / "summary.txt").write_text(network.summary() + "\n")
            (hidden / "log.jsonl").touch()
            checkpoint.save(network, hidden / "last.safetensors", progress=progress)
            os.rename(hidden, path)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        checkpoint.sync_folder(path.parent)
        return cls(path)

    @classmethod
    def open(cls, path):
        """An existing run; CheckpointError if the directory is none."""
        path = Path(path)
        missing = [f for f in ("config.toml", "last.safetensors") if not (path / f).is_file()]
        if missing:
            raise CheckpointError(f"{path}: not a run directory (it lacks {' and '.join(missing)})")
        return cls(path)

    @property
    def config(self):
        return (self.path / "config.toml").read_text()

    def records(self):
        """The log's objects; a torn last line is left out."""
        found = []
        for line in (self.path / "log.jsonl").read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def rewind(self, step, epoch):
        """Cut the log off behind a step, the one the checkpoint was taken at, and epochs that were not complete."""
        kept = [r for r in self.records() if r["step"] <= step and not (r.get("epoch_end") and r["epoch"] > epoch)]
        with checkpoint.atomic(self.path / "log.jsonl") as file:
            file.write("".join(map(_line, kept)).encode())
        return kept

    def append(self, records):
        """Write records to the log, each a line."""
        if self._log is None:
            self._log = open(self.path / "log.jsonl", "a")  # noqa: SIM115 - open as long as the run
        self._log.write("".join(map(_line, records)))
        self._log.flush()

    def close(self):
        if self._log is not None:
            self._log.close()
            self._log = None

    def checkpoint(self, network, moments, progress, best=False):
        """Write last.safetensors, and best.safetensors before it where this is the best."""
        if best:
            checkpoint.save(network, self.path / "best.safetensors", progress=progress)
        checkpoint.save(network, self.path / "last.safetensors", moments, progress)


def _line(record):
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(value):
    """JSON knows no NaN or infinity: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list) else value
