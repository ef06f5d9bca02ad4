"""A run that trains in another process, followed by its files: the work of `nnjit watch`."""

import json
import os
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, UsageError
from ..registry.specs import nearest
from ..storage.run_directory import RunDirectory
from ..terminal.quantities import duration
from ..training import config_file
from ..training.history import History
from ..training.progress import reporter as new_reporter

EVERY = 0.2  # seconds between two looks at the files
QUIET = 2.0  # seconds without a record before the process is looked for
SILENCE = 60.0  # seconds without a record that are said; then twice, four times as many
CONFIG, MANY = "config.toml", "many.toml"


class Ended(NamedTuple):
    """How a run ended: a sentence, and whether the run ended by itself, as it should."""

    sentence: str
    well: bool


class LogFile:
    """The log of a run while another process writes it."""

    def __init__(self, path: Path) -> None:
        self._path, self._number, self._read, self._rest = path, None, 0, b""  # type: Path, int | None, int, bytes

    def more(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the records since the last call, and whether the file was replaced: then all records.

        A line without its end is kept for the next call; lines that are not records are left out.
        """
        try:
            with open(self._path, "rb") as file:
                about = os.fstat(file.fileno())
                replaced = self._number is not None and (self._number != about.st_ino or about.st_size < self._read)
                if replaced:
                    self._read, self._rest = 0, b""
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return [], False
        self._number, self._read = about.st_ino, self._read + len(text)
        *lines, self._rest = (self._rest + text).split(b"\n")
        return [record for record in map(_record, lines) if record is not None], replaced


def _record(line):
    """Return the record on a line; None if it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    whole = all(type(found.get(name)) is int for name in ("epoch", "step"))
    return found if whole and isinstance(found.get("seconds"), (int, float)) else None


class Watch:
    """A run that is followed.

    Parameters
    ----------
    path : path of the run directory
    reporting : function or None
        Returns the context manager that shows the run; None: the one for the kind of standard output.
    """

    def __init__(self, path: str | os.PathLike[str], reporting: Callable[[], Any] | None = None) -> None:
        self.path, self._reporting = Path(path), reporting or new_reporter
        self._directory = RunDirectory(self.path)
        self._log = LogFile(self.path / "log.jsonl")
        self.history = History()
        self._steps, self._started = 0, False

    def follow(self) -> Ended:
        """Show the run until it ends, or until a signal ends this process.

        Raises
        ------
        CheckpointError
            The path is something else than a run or a place for one; the message names the nearest run.
        UsageError
            It is a directory of several runs.
        """
        self._refuse()
        with self._reporting() as reporter:
            if not (self.path / CONFIG).is_file():
                reporter.say([f"waiting for a run at {self.path}; Ctrl-C ends the waiting"])
                while not (self.path / CONFIG).is_file():
                    time.sleep(EVERY)
                    self._refuse_many()
            return self._follow(reporter)

    def _follow(self, reporter):
        last, said = time.monotonic(), SILENCE
        while True:
            state = self._directory.state()  # before the log, which is complete when the state says the end
            records, replaced = self._log.more()
            if replaced:
                reporter.say(["the run is continued from its last checkpoint"])
                self.history = History()
            if state or records:
                self._show(reporter, state, records)
            if state.get("state", "running") != "running" or (not state and self._is_complete()):
                if not records:
                    return self._conclude(reporter, state)
                continue
            if not (self.path / CONFIG).is_file():
                return self._conclude(reporter, {"state": "failed", "why": "its directory was removed"})
            now = time.monotonic()
            last, said = (now, SILENCE) if records else (last, said)
            if now - last > QUIET and self._directory.is_held() is False and self._directory.state() == state:
                return self._conclude(reporter, {"state": "killed"})
            if now - last > said:
                reporter.say([f"no record for {duration(now - last)}"])
                said *= 2
            time.sleep(EVERY)

    def _show(self, reporter, state, records):
        """Give the reporter what it would have had from the trainer."""
        if not self._started:
            self._started = True
            reporter.start(state.get("epochs") or self._configured(), state.get("at_most", False))
            reporter.say(state.get("lines", []))
        self._steps = state.get("steps") or self._steps
        for record in records:
            if record.get("epoch_end"):
                reporter.epoch(record)
                self._steps = self._steps or record["step"] // record["epoch"]
        self.history.add(records)
        if records:
            reporter.ran(records[-1]["seconds"])
        latest = max((some[-1] for some in (self.history.steps, self.history.epochs) if some), key=_place, default=None)
        if latest is not None:
            epoch, steps = latest["epoch"] + bool(latest.get("epoch_end")), self._steps  # an ended epoch has its line
            done = latest["step"] - (epoch - 1) * steps if steps or epoch == 1 else 0
            if epoch <= reporter.epochs:
                reporter.progress(epoch, done, steps, latest.get("loss"))

    def _configured(self):
        """Return the number of epochs of the config, for a run without a state."""
        training = config_file.read(self.path / CONFIG)[0].get("training", {})
        return training.get("epochs", 0) if isinstance(training, dict) else 0

    def _is_complete(self):
        epochs = self.history.epochs
        return bool(epochs) and epochs[-1]["epoch"] == self._configured()

    def _conclude(self, reporter, state):
        """End the lines, and say how the run ended."""
        history, how = self.history, state.get("state", "finished")
        history.stopped = state.get("why") if how == "stopped" else None
        history.restored, history.remarks = state.get("restored"), state.get("remarks", [])
        reporter.end(history)
        latest = max((some[-1] for some in (history.steps, history.epochs) if some), key=_place, default=None)
        where = "before its first step" if latest is None else f"after step {latest['step']} (epoch {latest['epoch']})"
        way = f"continue it with nnjit run --resume {shlex.quote(str(self.path))}"
        if how in ("finished", "stopped"):
            took = "" if latest is None else f", in {duration(latest['seconds'])}"
            return Ended(f"{self.path}: {how} {where}{took}", True)
        if how == "interrupted":
            return Ended(f"{self.path}: {state.get('why')} stopped the run {where}; {way}", False)
        if how == "failed":
            return Ended(f"{self.path}: the run failed {where}: {state.get('why')}", False)
        return Ended(f"{self.path}: the process that trained is gone, killed {where}; {way}", False)

    def _refuse(self):
        """Raise an error for a path at which no run is or will be."""
        path = self.path
        self._refuse_many()
        if (path / CONFIG).is_file():
            return
        if path.is_dir():
            inside = _runs_in(path)
            if not inside and not any(not name.startswith(".") and name != "log.jsonl" for name in os.listdir(path)):
                return  # an empty directory, which a run may fill
            near = f"; it holds the run {inside[-1]}" if inside else _near(path)
            raise CheckpointError(f"{path}: not a run directory (it lacks {CONFIG}){near}")
        if path.exists():
            raise CheckpointError(f"{path}: a file, but a run directory was expected{_near(path)}")
        # runs/digits-4 may be the next one after runs/digits-3; runs/digit-3 is a slip.
        numbered = {re.sub(r"\d+$", "", run.name) for run in _runs_in(path.parent)}
        if re.sub(r"\d+$", "", path.name) not in numbered and (near := _near(path)):
            raise CheckpointError(f"{path}: there is no such run{near}")

    def _refuse_many(self):
        if (self.path / MANY).is_file():
            inside = _runs_in(self.path)
            such = f", such as {inside[-1]}" if inside else ""
            raise UsageError(f"{self.path} holds a run for each fold and seed; watch one of them{such}")


def _place(record):
    return record["step"], bool(record.get("epoch_end"))


def _runs_in(folder):
    """Return the runs in a folder, that with the newest log last."""
    try:
        found = [path for path in folder.iterdir() if (path / CONFIG).is_file()]
        return sorted(found, key=lambda path: (path / "log.jsonl").stat().st_mtime)
    except OSError:
        return []


def _near(path):
    """Return "; did you mean RUN?" for a run with a name like that of a path, or ""."""
    found = nearest(path.name, [run.name for run in _runs_in(path.absolute().parent)])
    return f"; did you mean {path.parent / found[0]}?" if found else ""
