"""Trials of one config whose options have ranges: the work of `nnjit sweep`.

The trials are run directories inside one directory, ``trial-0`` and so on. Its file `sweep.toml` holds the config with
its ranges, `study.db` what the trials gave (see `study`), and `results.csv` the same as a table. Trials that train at a
time are jobs of processes; only the first process writes the study.
"""

import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, RunExists, UsageError
from ..kernels.compiler.cache import digest
from ..storage import checkpoint, folders, toml
from ..storage.run_directory import RunDirectory
from ..terminal.live import rewritable
from ..training import config_file
from ..training.progress import Silent, reporter
from ..training.signals import Listening
from . import launch
from .figures import write_table
from .ranges import FORM, Range, filled, label, opened
from .search import Search, check_with_data, completed, find_ranges, portable, read_search, refuse_other_rows
from .study import FILE as STUDY
from .study import Study, import_optuna
from .trainings import Trainings
from .trial import Judge, Trial, begin_worker, train_apart

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = "sweep.toml"


class Sweep(Trainings):
    """Trials of a config with ranges.

    Rows have "trial", "state" (complete, pruned or failed), "values" by the path of their range, "figures" of the best
    epoch, "why", and "same as", an earlier trial with the same values.

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
    """

    what, files = "trials", (FILE, STUDY)

    def __init__(
        self,
        path: str | os.PathLike[str],
        tree: dict[str, Any],
        ranges: list[Range],
        search: Search,
        plugins: Sequence[str] = (),
        source_name: str = "",
    ) -> None:
        super().__init__(path, plugins, source_name)
        self.ranges, self.search, self._tree = ranges, search, tree
        self._unfinished: list[tuple[int, dict[str, Any]]] = []  # trials to continue: number and values
        self._begun = 0  # trials
        self._others: set[Any] = set()  # child processes that are no workers
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
        ranges = find_ranges(tree, source_name)
        if not ranges:
            raise UsageError(
                f"{source_name or 'the config'} has no range, such as lr = {FORM.partition(' or ')[0]}; nnjit run "
                f"{source_name} trains it as it is".replace("  ", " ")
            )
        refuse_other_rows(ranges, source_name)
        if output is not None:
            if (Path(output) / FILE).is_file():
                way = f"continue it with nnjit sweep --resume {output}"
                raise RunExists(f"{output}: exists already; {way}, or choose another name")
            RunDirectory(output).refuse_existing()
        resolved, prepared = check_with_data(tree, ranges, source_name)
        search = completed(search, ranges, prepared, trials, resolved.settings.seed, source_name)
        tree = portable(tree, ranges, resolved)
        if output is not None:
            path, made = Path(output), folders.make(Path(output), exist_ok=True)
        else:
            path, made = folders.numbered(launch.name_of(resolved, source_name))
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
        ranges = find_ranges(tree, source_name)
        if not ranges or not search.metric or search.direction is None or search.seed is None:
            raise CheckpointError(f"{source_name}: not the config of a sweep, which has ranges and a section [sweep]")
        sweep = cls(path, tree, ranges, search, plugins, source_name)
        sweep._study = sweep._open_study(new=False)
        if trials is not None:
            count = math.prod(each.size() for each in ranges)
            sweep.search.trials = int(count) if search.trials == count < trials else trials
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
            yield from self._gathered(self._in_turn() if workers == 1 else self._at_once(workers))

    @property
    def total(self) -> int:
        return self.search.trials

    def _name(self, row):
        return f"trial-{row['trial']}"

    def _place(self, row):
        return row["trial"]

    def _count(self, row):
        if "same as" not in row:
            self._tell(row)

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
        """Train in processes. The trials of workers that were killed are continued from their last checkpoints."""
        self._begun = len(self.rows) + len(self._unfinished)
        self._others = set(multiprocessing.active_children())
        lost, killed = 0, True
        with Listening(self._stop):
            while killed and self.signal is None:
                training: dict[int, Trial] = {}
                killed = False
                try:
                    for row in self._in_workers(workers, training):
                        lost = 0
                        yield row
                except BrokenProcessPool:
                    killed, lost = True, lost + 1
                    again = [(number, trial.row["values"]) for number, trial in sorted(training.items())]
                    self._unfinished = [*again, *self._unfinished]
                    self._lost(lost, workers)

    def _in_workers(self, workers, training):
        """Yield the rows of trials that worker processes train; `training` has those that have not ended.

        Raises BrokenProcessPool if a worker was killed.
        """
        given = self._tree.get("run", {}).get("threads")
        threads = given if isinstance(given, int) else 1
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), begin_worker, (threads,))
        futures: set[Future[dict[str, Any]]] = set()
        try:
            while True:
                while self.signal is None and len(futures) < workers and (job := self._next()) is not None:
                    if isinstance(job, Trial):
                        training[job.row["trial"]] = job
                        futures.add(pool.submit(train_apart, job))
                    else:
                        yield job
                if not futures:
                    return
                ended, futures = wait(futures, return_when=FIRST_COMPLETED)
                for each in ended:
                    row = each.result()
                    del training[row["trial"]]
                    yield row
        finally:
            # A worker that was killed while it waited for a trial leaves a lock, for which others may wait for ever.
            for child in self._children():
                child.kill()
            pool.shutdown()

    def _children(self):
        """Return the worker processes."""
        return [child for child in multiprocessing.active_children() if child not in self._others]

    def _stop(self, number):
        """Take a signal, and give it to the workers, which do not get it from the terminal."""
        self.signal = number
        for child in self._children():
            with suppress(OSError):
                os.kill(child.pid, number)

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

    def _write(self):
        """Write the table of the trials that have ended."""
        rows = []
        for row in self.rows:
            values = {path: label(value) for path, value in row["values"].items()}
            more = {name: row[name] for name in ("same as", "why") if name in row}
            rows.append({"trial": row["trial"], "state": row["state"], **values, **row["figures"], **more})
        write_table(self.path / "results.csv", rows)
