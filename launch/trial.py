"""A trial of a sweep: its training, the judge that stops it, and the processes that train several at a time."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DivergenceError, ShapeError, SpecError
from ..storage.run_directory import RunDirectory
from ..training.progress import Silent
from . import launch
from .figures import best_figures
from .study import import_optuna

COMPARED = 20  # most epochs of a trial after which it is compared with others, evenly spaced
FIRST = 5  # trials that are not pruned; later ones are compared with those that were not
WARM_UP = 4  # the part of the epochs that every trial trains: a quarter


class Judge:
    """Follows the records of a trial; stops it if it is worse than the median of the trials before.

    Optuna's median pruner compares its best figure so far with the others' figures after the same epoch, up to
    `COMPARED` times.

    Parameters
    ----------
    metric : str
    direction : str
        "minimize" or "maximize".
    others : list of dict of int to float
        Figures of complete trials by epoch.

    Attributes
    ----------
    steps : dict of int to float
        Figures of this trial by epoch.
    pruned : int or None
        The epoch after which it was stopped.
    why : str
        The reason, for `state.json`; "" while there is none.
    """

    def __init__(self, metric: str, direction: str, others: Sequence[Mapping[int, float]]) -> None:
        self.metric, self.direction, self.others = metric, direction, others
        self.steps: dict[int, float] = {}
        self.pruned: int | None = None

    def begin(self, trainer: Any) -> None:
        """Take up a training, also one that is continued."""
        self.follow(trainer.settings.epochs, trainer.history.epochs)

    def follow(self, epochs: int, records: Sequence[Mapping[str, Any]]) -> None:
        """Take the number of epochs in all, and the records of those so far."""
        optuna = import_optuna()
        self._epochs, self._every = epochs, max(1, epochs // COMPARED)
        pruner = optuna.pruners.MedianPruner(FIRST, n_warmup_steps=epochs // WARM_UP)
        study = optuna.create_study(direction=self.direction, pruner=pruner)
        study.add_trials([optuna.trial.create_trial(value=0.0, intermediate_values=dict(one)) for one in self.others])
        self._trial = study.ask()
        for record in records:
            self.epoch(record)

    def epoch(self, record: Mapping[str, Any]) -> bool:
        """Take the record of an epoch; return whether the trial stops after it."""
        epoch, figure = record["epoch"], record.get(self.metric)
        if epoch % self._every or self.pruned is not None or not isinstance(figure, (int, float)):
            return self.pruned is not None
        self.steps[epoch] = figure
        self._trial.report(figure, epoch)
        if epoch < self._epochs and self._trial.should_prune():
            self.pruned = epoch
        return self.pruned is not None

    @property
    def why(self) -> str:
        if self.pruned is None:
            return ""
        return (
            f"pruned after epoch {self.pruned} of {self._epochs}, where its best {self.metric} so far was worse than "
            "the median of the trials before"
        )


class Trial(NamedTuple):
    """One run of a sweep: directory, config and its name, plug-ins to continue it, the beginning of its row, its judge.

    `judge` is None in a sweep without pruning.
    """

    path: Path
    table: dict[str, Any]
    source_name: str
    plugins: tuple[str, ...]
    row: dict[str, Any]
    judge: Judge | None

    def train(self, reporting: Callable[[], Any]) -> dict[str, Any]:
        """Train what is missing of the trial; return its row: its state and figures, or "stopped", a signal.

        "steps" are its figures by epoch; remarks that the reporter does not show are in "remarks".
        """
        callbacks = [] if self.judge is None else [self.judge]
        try:
            if not (self.path / "config.toml").is_file():
                finished = launch.start(self.table, self.path, self.source_name, reporting, callbacks, pictures=False)
            elif self._was_pruned():
                return self._row({})
            else:
                finished = launch.resume(
                    self.path, self.plugins, reporting=reporting, callbacks=callbacks, pictures=False
                )
        except (DivergenceError, SpecError, ShapeError) as error:  # of these values; others may do
            return {**self.row, "state": "failed", "why": str(error)}
        if finished.trainer.history.interrupted is not None:
            return {**self.row, "stopped": finished.trainer.history.interrupted}
        return self._row({"remarks": finished.trainer.history.remarks} if reporting is Silent else {})

    def _was_pruned(self):
        """Return whether the trial was pruned in a process that ended before it could say so."""
        directory = RunDirectory(self.path)
        state = directory.state()
        if self.judge is not None and state.get("state") == "stopped":
            self.judge.follow(state["epochs"], [each for each in directory.records() if each.get("epoch_end")])
        return self.judge is not None and self.judge.pruned is not None

    def _row(self, more):
        steps, pruned = ({}, None) if self.judge is None else (self.judge.steps, self.judge.pruned)
        state = {"state": "complete"} if pruned is None else {"state": "pruned", "why": f"after epoch {pruned}"}
        return {**self.row, **state, "figures": best_figures(self.path), "steps": steps, **more}


# -- worker processes --------------------------------------------------------------------------------------------------


class _Worker:
    """The state of a worker process."""

    works = False  # on a trial


def begin_worker(threads: int) -> None:
    """Prepare a worker: its threads, signals from the first process only, and an end with that process."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # else Ctrl-C would come twice, from the terminal and from the first process
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    launch.use_threads(threads)


def _interrupt(number, frame):
    """End the work on a trial that does not train yet, or not any more; a worker without work goes on."""
    if _Worker.works:
        raise KeyboardInterrupt(number)


def _end_with_parent():
    """End this process if the first one was killed: it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def train_apart(trial: Trial) -> dict[str, Any]:
    """Train a trial in a worker, which outlives signals: a worker that dies takes the others with it."""
    _Worker.works = True
    try:
        return trial.train(Silent)
    except KeyboardInterrupt as interrupt:
        return {**trial.row, "stopped": interrupt.args[0] if interrupt.args else int(signal.SIGINT)}
    finally:
        _Worker.works = False
