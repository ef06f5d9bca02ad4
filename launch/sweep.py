"""Trials of one config whose options have ranges: the work of `nnjit sweep`.

The trials are run directories inside one directory, ``trial-0`` and so on. Its file `sweep.toml` holds the config with
its ranges, `study.db` what the trials gave (see `study`), and `results.csv` the same as a table. Trials that train at a
time are jobs of processes; only the first process writes the study.
"""

import csv
import io
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import CheckpointError, DivergenceError, NnjitError, RunExists, ShapeError, SpecError, UsageError
from ..kernels.compiler.cache import digest
from ..registry import Spec
from ..registry.specs import did_you_mean, shown
from ..storage import checkpoint, toml
from ..storage.run_directory import RunDirectory
from ..terminal.live import rewritable
from ..training import config_file
from ..training.config import Resolved, resolve
from ..training.progress import Silent, reporter
from ..training.signals import Listening
from ..training.spec_check import Problems, inside
from . import launch
from .figures import best_figures
from .ranges import FORM, Range, filled, find, label, opened
from .study import FILE as STUDY
from .study import Study, import_optuna

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = "sweep.toml"
LOST = 3  # as often workers may be killed one after the other, without a trial that ends
COMPARED = 20  # most epochs of a trial after which it is compared with others, evenly spaced
FIRST = 5  # trials that are not pruned; later ones are compared with those that were not
WARM_UP = 4  # the part of the epochs that every trial trains: a quarter
# Options that decide which rows trials are judged by.
ROWS = ("path", "name", "dataset", "validation", "test")


class Search(BaseModel):
    """The section [sweep]; descriptions complete the sentence "expected ..."."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trials: Annotated[int, Field(ge=1)] = Field(default=20, description="a whole number from 1 on")
    metric: str = Field(default="", description='a figure of an epoch, such as "val_loss" or "val_accuracy"')
    direction: Literal["minimize", "maximize"] | None = Field(default=None, description='"minimize" or "maximize"')
    prune: bool = Field(default=True, description="true or false")
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        default=None, description="a whole number from 0 to 2147483647"
    )


def read_search(table: Any, source_name: str = "") -> Search:
    """Read the section [sweep] of a config; raise SpecError for all its mistakes."""
    problems = Problems()
    if not isinstance(table, dict):
        problems.add("sweep", f"expected a section [sweep], got {shown(table)}")
    else:
        try:
            return Search.model_validate(table)
        except ValidationError as errors:
            for key, kind in {str(error["loc"][0]): error["type"] for error in errors.errors()}.items():
                if kind == "extra_forbidden":
                    takes = f"; [sweep] takes {', '.join(Search.model_fields)}"
                    what = "unknown option" + (did_you_mean(key, Search.model_fields) or takes)
                else:
                    what = f"expected {Search.model_fields[key].description}, got {shown(table[key])}"
                problems.add(inside("sweep", key), what)
    problems.report(source_name)
    raise AssertionError


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
    """

    __name__ = "pruning"  # History.stopped: the callback pruning returned True

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


class Sweep:
    """Trials of a config with ranges.

    Parameters
    ----------
    path : path of the directory that holds them
    tree : dict
        The config without its section [sweep], as `ranges.opened` returns it.
    ranges : list of Range
    search : Search
        Complete.
    plugins : sequence of str
        The values of --plugin, to continue trials.
    source_name : str
        The name of the config in errors.

    Attributes
    ----------
    rows : list of dict
        The trials that have ended, in their order: "trial", "state" (complete, pruned or failed), "values" by the path
        of their range, "figures" of the best epoch, "why", and "same as", an earlier trial with the same values.
    stopped : list of str
        The trials that a signal stopped.
    signal : int or None
        That signal.
    remarks : list of str
        Those on the latest trial (`History.remarks`), if they were not shown while it ran.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tree: dict[str, Any],
        ranges: list[Range],
        search: Search,
        plugins: Sequence[str] = (),
        source_name: str = "",
    ) -> None:
        self.path, self.ranges, self.search = Path(path), ranges, search
        self.rows: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.signal: int | None = None
        self.remarks: list[str] = []
        self._tree, self._plugins, self._source_name = tree, plugins, source_name
        self._made: list[Path] = []  # directories that did not exist before
        self._unfinished: list[tuple[int, dict[str, Any]]] = []
        self._begun = 0  # trials
        self._study: Study  # by `create` and `open`

    @classmethod
    def create(
        cls,
        table: dict[str, Any],
        output: str | os.PathLike[str] | None,
        source_name: str,
        trials: int | None = None,
    ) -> "Sweep":
        """Make the directory of a new sweep: `output`, or the next free one of ``runs/<name>-<k>``.

        Parameters
        ----------
        table : dict
            The config, as `config_file.read` returns it.
        output : path or None
        source_name : str
            The name of the config in errors.
        trials : int or None
            The number of trials; None: that of the config.

        Raises
        ------
        NnjitError
            Optuna is missing; the config or a bound of a range is wrong; or something is at `output`.
        """
        import_optuna()
        table = dict(table)
        search = read_search(table.pop("sweep", {}), source_name)
        config_file.load_plugins(table)
        tree = opened(table)
        ranges = _find(tree, source_name)
        if not ranges:
            raise UsageError(
                f"{source_name or 'the config'} has no range, such as lr = {FORM.partition(' or ')[0]}; nnjit run "
                f"{source_name} trains it as it is".replace("  ", " ")
            )
        _refuse_other_rows(ranges, source_name)
        if output is not None:
            if (Path(output) / FILE).is_file():
                way = f"continue it with nnjit sweep --resume {output}"
                raise RunExists(f"{output}: exists already; {way}, or choose another name")
            RunDirectory(output).refuse_existing()
        resolved, prepared = _check_with_data(tree, ranges, source_name)
        search = _completed(search, ranges, prepared, trials, resolved.settings.seed, source_name)
        tree = _portable(tree, ranges, resolved)
        if output is not None:
            path, made = Path(output), _make(Path(output), exist_ok=True)
        else:
            path, made = _numbered(launch.name_of(resolved, source_name))
        sweep = cls(path, tree, ranges, search, resolved.config.run.plugins, source_name)
        sweep._made = made
        with checkpoint.atomic(path / FILE) as file:
            file.write(toml.write({"sweep": search.model_dump(), **filled(tree, {})}).encode())
        sweep._study = sweep._open_study(new=True)
        if search.trials == math.prod(each.size() for each in ranges):
            sweep._study.try_all()
        return sweep

    @classmethod
    def open(cls, path: str | os.PathLike[str], plugins: Sequence[str] = (), trials: int | None = None) -> "Sweep":
        """Open the directory of a sweep, to continue; `trials` is a new number of them.

        Raises
        ------
        NnjitError
            It is not one, or its study cannot be used; or its config names plug-ins that are not given.
        """
        import_optuna()
        if not (Path(path) / FILE).is_file():
            run = (Path(path) / "config.toml").is_file() or (Path(path) / "many.toml").is_file()
            way = f"; nnjit run --resume {path} continues it" if run else ""
            raise CheckpointError(f"{path}: not the directory of a sweep (it lacks {FILE}){way}")
        table, source_name = config_file.read(Path(path) / FILE)
        search = read_search(table.pop("sweep", {}), source_name)
        config_file.need_plugins(table, plugins, source_name)
        tree = opened(table)
        ranges = _find(tree, source_name)
        if not ranges or not search.metric or search.direction is None or search.seed is None:
            raise CheckpointError(f"{source_name}: not the config of a sweep, which has ranges and a section [sweep]")
        sweep = cls(path, tree, ranges, search, plugins, source_name)
        sweep._study = sweep._open_study(new=False)
        if trials is not None:
            count = math.prod(each.size() for each in ranges)
            sweep.search.trials = count if search.trials == count < trials else trials
        sweep.rows, sweep._unfinished = sweep._study.rows(), sweep._study.unfinished()
        search.trials = max(search.trials, len(sweep.rows) + len(sweep._unfinished))  # of an earlier --trials
        return sweep

    def _open_study(self, new):
        about = self.search.model_dump(exclude={"trials"})
        fingerprint = digest(toml.write({"sweep": about, **filled(self._tree, {})}))
        return Study(
            self.path / STUDY, self.ranges, self.search.seed or 0, self.search.direction or "minimize", fingerprint, new
        )

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best trial that is complete; None if there is none."""
        complete = [row for row in self.rows if row["state"] == "complete" and "same as" not in row]
        choose = min if self.search.direction == "minimize" else max
        return choose(complete, key=lambda row: row["figures"][self.search.metric], default=None)

    def train(self, workers: int = 1) -> Iterator[dict[str, Any]]:
        """Train what is missing; yield the row of each trial that has ended. Ends early after a `signal`.

        Parameters
        ----------
        workers : int
            The number of trials at a time. More than one are processes, with one thread each unless the config says
            another number; which values a trial has then depends on which trials have ended.

        Raises
        ------
        NnjitError
            Another process works on the sweep; the config does not fit the data; or workers are killed again and
            again. A trial that diverges is a row with the state "failed" instead.
        """
        with self._held():
            try:
                for row in self._in_turn() if workers == 1 else self._at_once(workers):
                    if "stopped" in row:
                        self.stopped.append(f"trial-{row['trial']}")
                        self.signal = row["stopped"]
                        continue
                    self.remarks = row.pop("remarks", [])
                    if "same as" not in row:
                        self._tell(row)
                    self.rows.append(row)
                    self.rows.sort(key=lambda one: one["trial"])
                    self._write()
                    yield row
            except NnjitError:
                self._remove_empty()
                raise

    def _tell(self, row):
        """End a trial in the study; one without a finite figure has failed."""
        steps, metric = row.pop("steps", {}), self.search.metric
        value = row["figures"].get(metric) if row["state"] == "complete" else None
        if row["state"] == "complete" and (value is None or not math.isfinite(value)):
            row |= {"state": "failed", "why": f"its {metric} is not a finite number"}
            value = None
        self._study.tell(row["trial"], row, value, {epoch: n for epoch, n in steps.items() if math.isfinite(n)})

    def _next(self):
        """Begin a trial: return a Trial, or the row of one that repeats an earlier trial, or None if there is none."""
        if self._unfinished:
            return self._trial(*self._unfinished.pop(0))
        if self._begun >= self.search.trials:
            return None
        number, values = self._study.ask()
        self._begun += 1
        earlier = next((row for row in self.rows if row["values"] == values), None)
        if earlier is None:
            return self._trial(number, values)
        row = {**earlier, "trial": number, "same as": earlier.get("same as", earlier["trial"])}
        value = earlier["figures"][self.search.metric] if earlier["state"] == "complete" else None
        self._study.tell(number, row, value, {})
        return row

    def _trial(self, number, values):
        table = filled(self._tree, {each.place: values[each.path] for each in self.ranges})
        search, judge = self.search, None
        if search.prune:
            judge = Judge(search.metric, search.direction or "minimize", self._study.completed())
        row = {"trial": number, "values": values, "figures": {}}
        path = self.path.absolute() / f"trial-{number}"
        return Trial(path, table, self._source_name, tuple(self._plugins), row, judge)

    def _in_turn(self):
        """Train in this process, trial after trial, until a signal comes."""
        reporting: Callable[[], Any] = reporter if rewritable(sys.stdout) else Silent
        self._begun = len(self.rows) + len(self._unfinished)
        while (job := self._next()) is not None:
            row = job.train(reporting) if isinstance(job, Trial) else job
            yield row
            if "stopped" in row:
                return

    def _at_once(self, workers):
        """Train in processes. The trial of a worker that was killed is continued from its last checkpoint."""
        run = self._tree.get("run", {})
        threads = run.get("threads") if isinstance(run.get("threads"), int) else 1
        self._begun = len(self.rows) + len(self._unfinished)
        lost, over = 0, False
        with Listening(self._stop):
            while self.signal is None and not over:
                running: dict[Any, Trial] = {}
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(workers, context, _begin_worker, (threads,)) as pool:
                    while self.signal is None or running:
                        while self.signal is None and len(running) < workers and not over:
                            job = self._next()
                            over = job is None
                            if isinstance(job, Trial):
                                running[pool.submit(_apart, job)] = job
                            elif job is not None:
                                yield job
                        if not running:
                            break
                        broken = False
                        for ended in wait(running, return_when=FIRST_COMPLETED).done:
                            try:
                                row = ended.result()
                            except BrokenProcessPool:
                                broken = True
                                continue
                            del running[ended]
                            lost = 0
                            yield row
                        if broken:
                            break
                if running:  # workers were killed
                    lost, over = lost + 1, False
                    self._unfinished = [(job.row["trial"], job.row["values"]) for job in running.values()]
                    if lost == LOST and self.signal is None:
                        raise NnjitError(
                            f"{self.path}: processes that train were killed {lost} times in a row (is there enough "
                            f"memory for {workers} trials at a time?)"
                        )

    def _stop(self, number):
        """Take a signal, and give it to the workers, which do not get it from the terminal."""
        self.signal = number
        for child in multiprocessing.active_children():
            with suppress(OSError):
                os.kill(child.pid or os.getpid(), number)

    def results(self) -> list[Path]:
        """Draw the study; return the pictures and the file of the figures."""
        return [self.path / "results.csv", *self._study.draw(self.path, self.search.metric)]

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the sweep, so that no other process works on it."""
        with open(self.path / FILE, "rb") as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UsageError(f"{self.path}: another process works on this sweep; wait for its end") from None
                except OSError:  # a file system without locks
                    pass
            yield

    def _remove_empty(self):
        """Remove what was made if no trial was begun in it."""
        if self._made and {file.name for file in self.path.iterdir()} <= {FILE, STUDY}:
            for name in (FILE, STUDY):
                (self.path / name).unlink(missing_ok=True)
            for folder in self._made:
                folder.rmdir()

    def _write(self):
        """Write the table of the trials that have ended."""
        rows = []
        for row in self.rows:
            values = {path: label(value) for path, value in row["values"].items()}
            more = {name: row[name] for name in ("same as", "why") if name in row}
            rows.append({"trial": row["trial"], "state": row["state"], **values, **row["figures"], **more})
        columns = dict.fromkeys(name for row in rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with checkpoint.atomic(self.path / "results.csv") as file:
            file.write(text.getvalue().encode())


# -- checks before the first trial -------------------------------------------------------------------------------------


def _find(tree, source_name):
    return find(tree, lambda table: resolve(table, source_name), source_name)


def _first(ranges):
    """Return a value for each range: its first one."""
    return {each.place: each.ends()[0][1] for each in ranges}


def _refuse_other_rows(ranges, source_name):
    """Refuse ranges of what the trials are judged by."""
    problems = Problems()
    for each in ranges:
        if each.path in ("training.seed", "run.fold"):
            way = "seeds" if each.path == "training.seed" else "folds"
            problems.add(each.path, f"trials must be judged by the same rows; nnjit run --{way} trains a run for each")
        elif each.place[0] == "data" and each.place[-1] in ROWS:
            problems.add(each.path, "trials must be judged by the same rows, so that it cannot have a range")
    problems.report(source_name)


def _check_with_data(tree, ranges, source_name):
    """Make the network of every bound for the data; return what the first values give, resolved and prepared."""
    first = _first(ranges)
    resolved = resolve(filled(tree, first), source_name)
    prepared = launch.prepare(resolved, source_name)
    problems = Problems()
    for each in ranges:
        for what, value in each.ends():
            one = resolve(filled(tree, {**first, each.place: value}), source_name)
            try:
                launch.prepare(one, source_name, dataset=None if each.place[0] == "data" else prepared.dataset)
            except (SpecError, ShapeError) as error:
                problems.add(each.path, f"{what}: {str(error).removeprefix(f'{source_name}: ')}")
    problems.report(source_name)
    return resolved, prepared


def _completed(search, ranges, prepared, trials, seed, source_name):
    """Return the section [sweep] with what was not given."""
    trainer, problems = prepared.trainer, Problems()
    known = ["loss"]
    if trainer.validation is not None:
        known += ["val_loss", *(f"val_{name}" for name in trainer.metrics.metrics)]
    metric = search.metric or "val_loss"
    if metric not in known:
        lacks = "" if trainer.validation is not None else "; the data has no validation set: give it validation=0.2"
        problems.add("sweep.metric", f"{metric} is no figure of its epochs: {', '.join(known)}{lacks}")
    direction = search.direction or ("minimize" if metric in ("val_loss", "loss") else None)
    if direction is None and metric in known:
        problems.add("sweep.direction", f'say whether a better {metric} is higher, "maximize", or lower, "minimize"')
    varied = [each.path for each in ranges if each.path.startswith(("training.loss", "training.class_weights"))]
    if metric in ("val_loss", "loss") and varied:
        others = [name for name in known if "loss" not in name] or ["a metric"]
        problems.add("sweep.metric", f"{varied[0]} has a range, so losses cannot be compared; judge by {others[-1]}")
    problems.report(source_name)
    count = math.prod(each.size() for each in ranges)
    wanted = trials or search.trials
    about = {"metric": metric, "direction": direction, "seed": seed if search.seed is None else search.seed}
    return search.model_copy(update={**about, "trials": int(min(wanted, count))})


def _portable(tree: dict[str, Any], ranges: list[Range], resolved: Resolved) -> dict[str, Any]:
    """Return the config with absolute paths of data and plug-ins, so that it can be continued from any folder."""
    whole = launch.portable(resolved)
    if "data" in tree:
        varied = any(each.place[0] == "data" for each in ranges)
        tree = {**tree, "data": _absolute(tree["data"]) if varied else whole.data}
    if whole.run.plugins:
        tree = {**tree, "run": {**tree["run"], "plugins": whole.run.plugins}}
    return tree


def _absolute(data):
    """Return a section [data] that holds a range with absolute paths."""
    if isinstance(data, Spec):
        return Spec(data.name, data.args, _absolute(data.kwargs))
    if not isinstance(data, dict):
        return data
    return {key: _absolute_value(key, value) for key, value in data.items()}


def _absolute_value(key, value):
    if isinstance(value, str) and (key == "path" or key.endswith("_path")):
        return config_file.absolute(value)
    return _absolute(value)


# -- directories and workers -------------------------------------------------------------------------------------------


def _numbered(name):
    """Make the first of runs/<name>-1, -2, ... that does not exist; return it and the directories that were made."""
    for k in count(1):
        path = Path("runs") / f"{name}-{k}"
        with suppress(FileExistsError):
            return path, _make(path)


def _make(path, exist_ok=False):
    """Make a directory and those above it; return the new ones, the innermost first."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    return made


class _Worker:
    """The state of a worker process."""

    works = False  # on a trial


def _begin_worker(threads):
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


def _apart(trial):
    """Train a trial in a worker, which outlives signals: a worker that dies takes the others with it."""
    _Worker.works = True
    try:
        return trial.train(Silent)
    except KeyboardInterrupt as interrupt:
        return {**trial.row, "stopped": interrupt.args[0] if interrupt.args else int(signal.SIGINT)}
    finally:
        _Worker.works = False
