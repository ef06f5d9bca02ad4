"""The study of a sweep: which values the trials have, and what they gave, kept by Optuna in one SQLite file.

The values of a trial depend on the seed of the sweep, the trial's number and the trials that have ended, not on the
process: so a sweep that is continued has the trials of one that was not interrupted. Only one process writes the file.
"""

import os
import random
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, UsageError
from .ranges import Range

FILE = "study.db"
NAME = "nnjit"  # of the study in the file
SLICES, PAIRS = 6, 4  # most options in a picture of slices, and in one of pairs
LOCKED = 5.0  # seconds to wait for another program that writes the file


def import_optuna() -> Any:
    """Return Optuna; raise UsageError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError('nnjit sweep needs Optuna: pip install "nnjit[optuna]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """Trials with their values and results.

    Parameters
    ----------
    path : path of the file
    ranges : sequence of Range
    seed : int
    direction : "minimize" or "maximize"
    fingerprint : str
        That of the config; a file of another one is refused.
    new : bool
        Make the file; otherwise it must be there.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, locked, or the study of another config.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        ranges: Sequence[Range],
        seed: int,
        direction: str,
        fingerprint: str,
        new: bool,
    ) -> None:
        self._path, self._ranges, self._seed, self._optuna = Path(path), ranges, seed, import_optuna()
        if new == self._path.exists():
            raise CheckpointError(f"{path}: {'exists already' if new else 'the study of the sweep is missing'}")
        with self._reading():
            storage = self._optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": self._connect})
            if new:
                self._study = self._optuna.create_study(storage=storage, study_name=NAME, direction=direction)
                self._study.set_user_attr("config", fingerprint)
            else:
                self._study = self._optuna.load_study(study_name=NAME, storage=storage)
            found = self._study.user_attrs.get("config")
        if found != fingerprint:
            raise CheckpointError(f"{path}: the study belongs to another config than the sweep.toml beside it")

    def _connect(self):
        # By a function: a URL gives characters such as "?" in a path another meaning.
        return sqlite3.connect(self._path, timeout=LOCKED, check_same_thread=False)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors of the file into sentences, and hide Optuna's remarks on what is experimental."""
        exceptions = self._optuna.exceptions
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except KeyError:
            raise CheckpointError(f"{self._path}: holds no study of nnjit sweep") from None
        except Exception as error:
            cause = error.__cause__ if isinstance(error, exceptions.StorageInternalError) else error
            if not type(cause).__module__.startswith(("sqlalchemy", "sqlite3", "alembic")) and not (
                isinstance(cause, RuntimeError) and "table schema" in str(cause)
            ):
                raise
            why = str(getattr(cause, "orig", None) or cause).splitlines()[0]
            locked = "; another program has it open" if "locked" in why else ""
            raise CheckpointError(f"{self._path}: cannot be used as the study of a sweep ({why}{locked})") from None

    def try_all(self) -> None:
        """Give the trials all combinations of the values, each once, in an order that the seed determines."""
        values = [each.values() if each.choices is None else each.marks() for each in self._ranges]
        combinations = list(product(*values))
        random.Random(self._seed).shuffle(combinations)
        with self._reading():
            for one in combinations:
                self._study.enqueue_trial({each.name: mark for each, mark in zip(self._ranges, one, strict=True)})

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Begin a trial; return its number, from 0, and the value of each range by its path."""
        with self._reading():
            trials = self._study.get_trials(deepcopy=False)
            waiting = [each.number for each in trials if each.state == self._optuna.trial.TrialState.WAITING]
            self._study.sampler = self._sampler(min(waiting, default=len(trials)))
            trial = self._study.ask()
            return trial.number, self._values(trial)

    def unfinished(self) -> list[tuple[int, dict[str, Any]]]:
        """Return number and values of the trials that were begun and have not ended."""
        with self._reading():
            running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
            found = []
            for each in running:  # a kill may have left one without all its values
                self._study.sampler = self._sampler(each.number)
                found.append((each.number, self._values(self._optuna.trial.Trial(self._study, each._trial_id))))
            return found

    def _sampler(self, number):
        """Return the sampler for a trial: random values for the first ten, then tree-structured Parzen estimators."""
        seed = random.Random(f"{self._seed} {number}").getrandbits(32)
        return self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _values(self, trial):
        return {each.path: self._value(trial, each) for each in self._ranges}

    def _value(self, trial, each):
        if each.choices is not None:
            marks = each.marks()
            return each.choices[marks.index(trial.suggest_categorical(each.name, marks))]
        if each.whole:
            return trial.suggest_int(each.name, each.low, each.high, step=each.step or 1, log=each.log)
        return trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)

    def tell(self, number: int, row: dict[str, Any], value: float | None, steps: dict[int, float]) -> None:
        """End a trial.

        Parameters
        ----------
        number : int
        row : dict
            What `rows` returns of it.
        value : float or None
            Its figure; None: it was pruned, or failed, and counts as worse than the others, so that its neighbours
            are avoided.
        steps : dict of int to float
            Its figure after some epochs.
        """
        states = self._optuna.trial.TrialState
        with self._reading():
            found = self._study.get_trials(deepcopy=False)[number]
            trial = self._optuna.trial.Trial(self._study, found._trial_id)
            for epoch, figure in steps.items():
                trial.report(figure, epoch)
            trial.set_user_attr("row", row)
            if value is None:
                self._study.tell(number, state=states.PRUNED)
            else:
                self._study.tell(number, value)

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the trials that have ended, in their order."""
        with self._reading():
            trials = self._study.get_trials(deepcopy=False)
        return [trial.user_attrs["row"] for trial in trials if trial.state.is_finished()]

    def completed(self) -> list[dict[int, float]]:
        """Return the figures by epoch of the trials that were neither pruned nor failed."""
        with self._reading():
            states = (self._optuna.trial.TrialState.COMPLETE,)
            return [trial.intermediate_values for trial in self._study.get_trials(deepcopy=False, states=states)]

    def draw(self, folder: Path, figure: str) -> list[Path]:
        """Draw the trials that were neither pruned nor failed, by Optuna's own pictures; return the files.

        Parameters
        ----------
        folder : path
        figure : str
            The name of what the trials are judged by.
        """
        import matplotlib

        matplotlib.use("agg")  # no window
        from matplotlib import pyplot

        with self._reading():
            plots = self._optuna.visualization.matplotlib
            trials = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,))
            varied = [each for each in self._ranges if len({trial.params[each.name] for trial in trials}) > 1]
            names = [each.name for each in varied]
            numbers = [each.name for each in varied if each.choices is None]  # Optuna's contours number the choices
            chosen: dict[str, Any] = {"history": (plots.plot_optimization_history, {})} if len(trials) > 1 else {}
            if len(names) > 1 and len({trial.value for trial in trials}) > 1:
                evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()  # it needs no scikit-learn
                chosen["importances"] = plots.plot_param_importances, {"evaluator": evaluator, "params": names}
            if names:
                chosen["slice"] = plots.plot_slice, {"params": names[:SLICES]}
            if len(numbers) > 1:
                chosen["contour"] = plots.plot_contour, {"params": numbers[:PAIRS]}
            files = []
            for name, (plot, options) in chosen.items():
                plot(self._study, target_name=figure, **options)
                files.append(folder / f"{name}.png")
                pyplot.savefig(files[-1], bbox_inches="tight", dpi=100)
                pyplot.close()
        return files
