"""A run for each fold of the data and each seed, and the mean of their figures: the work of `nnjit run --folds`.

The runs are directories of their own inside one directory, ``fold-1-seed-0`` and so on. Its file `many.toml` holds the
config, the number of folds and the seeds, so that what was interrupted can be continued; `results.csv` and
`results.json` hold the figures of the runs that have ended. Runs that train at a time are jobs of joblib's processes,
which find the compiled code in the cache.
"""

import copy
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, DivergenceError, RunExists, UsageError
from ..program.state import MAX_SEED
from ..registry.specs import quoted
from ..storage import checkpoint, folders, toml
from ..storage.run_directory import RunDirectory
from ..terminal.live import rewritable
from ..training import config_file
from ..training.progress import Quiet, Silent, reporter
from ..training.run_and_draw import draw_together
from ..training.signals import Listening
from . import launch
from .figures import best_figures, mean_and_deviation, write_table
from .trainings import Trainings

FILE = "many.toml"


def read_seeds(text: str) -> list[int]:
    """Read "0..4", "1,5,9" or both together as a list of seeds.

    Raises
    ------
    UsageError
    """
    seeds: list[int] = []
    for piece in text.split(","):
        first, dots, last = piece.strip().partition("..")
        if not first.isdecimal() or (dots and not last.isdecimal()):
            raise UsageError(f"--seeds {quoted(text)}: expected seeds such as 0..4 or 1,5,9")
        begin, end = int(first), int(last if dots else first)
        if not begin <= end <= MAX_SEED:
            raise UsageError(f"--seeds {quoted(text)}: a seed is from 0 to {MAX_SEED}, and a range goes up")
        seeds += range(begin, end + 1)
    if twice := next((seed for i, seed in enumerate(seeds) if seed in seeds[:i]), None):
        raise UsageError(f"--seeds {quoted(text)}: the seed {twice} is given twice")
    return seeds


class Job(NamedTuple):
    """One run of many: directory, config and its name, plug-ins to continue it, and the beginning of its row."""

    path: Path
    table: dict[str, Any]
    source_name: str
    plugins: tuple[str, ...]
    row: dict[str, Any]

    def train(self, reporting: Callable[[], Any]) -> dict[str, Any]:
        """Train what is missing of the run; return its row: with figures, or "failed", or "stopped", a signal.

        Remarks that the reporter does not show are in "remarks". Its pictures would take as long as a short training:
        `nnjit plot` draws them.
        """
        try:
            if (self.path / "config.toml").is_file():
                finished = launch.resume(self.path, self.plugins, reporting=reporting, pictures=False)
            else:
                finished = launch.start(self.table, self.path, self.source_name, reporting, pictures=False)
        except DivergenceError as error:
            return {**self.row, "failed": str(error)}
        if finished.trainer.history.interrupted is not None:
            return {**self.row, "stopped": finished.trainer.history.interrupted}
        remarks = {"remarks": finished.trainer.history.remarks} if reporting is not reporter else {}
        return {**self.row, **best_figures(self.path), **remarks}

    def train_apart(self) -> dict[str, Any]:
        """Train in a worker, which outlives Ctrl-C: a worker that dies takes the others with it."""
        try:
            return self.train(Silent)
        except KeyboardInterrupt:  # before the training, or while predictions are written
            return {**self.row, "stopped": int(signal.SIGINT)}


class Many(Trainings):
    """Runs of one config, for every fold and every seed; rows hold figures of their best epochs, and of the test set.

    Parameters
    ----------
    path : path of the directory that holds them
    table : dict
        The config.
    folds : int or None
        The number of folds; None: the data is divided as its reader does.
    seeds : list of int or None
        None: the seed of the config.
    plugins : sequence of str
        The values of --plugin, to continue runs.
    source_name : str
        The name of the config in errors.
    """

    what, files = "runs", (FILE,)

    def __init__(
        self,
        path: str | os.PathLike[str],
        table: dict[str, Any],
        folds: int | None,
        seeds: Sequence[int] | None,
        plugins: Sequence[str] = (),
        source_name: str = "",
    ) -> None:
        super().__init__(path, plugins, source_name)
        self.folds, self.seeds, self._table = folds, seeds, table

    @classmethod
    def create(
        cls,
        table: dict[str, Any],
        output: str | os.PathLike[str] | None,
        source_name: str,
        folds: int | None,
        seeds: Sequence[int] | None,
    ) -> "Many":
        """Make the directory of new runs: `output`, or the next free one of ``runs/<name>-<k>``.

        Raises
        ------
        NnjitError
            The config is wrong; or something is at `output`.
        """
        resolved = launch.read_config(table, source_name)
        if resolved.config.run.fold is not None:
            raise UsageError("run.fold: it names the fold of one run; leave it out, or do not give --folds and --seeds")
        table, whole = copy.deepcopy(table), launch.portable(resolved)  # without defaults: each run finds the same
        if "data" in table:
            table["data"] = whole.data
        if whole.run.plugins:
            table["run"]["plugins"] = whole.run.plugins
        if output is not None:
            if (Path(output) / FILE).is_file():
                raise RunExists(f"{output}: exists already; continue it with --resume {output}, or choose another name")
            RunDirectory(output).refuse_existing()
            path, made = Path(output), folders.make(Path(output), exist_ok=True)
        else:
            path, made = folders.numbered(launch.name_of(resolved, source_name))
        text = {key: value for key, value in (("folds", folds), ("seeds", seeds)) if value is not None}
        with checkpoint.atomic(path / FILE) as file:
            file.write(toml.write({"many": text, **table}).encode())
        many = cls(path, table, folds, seeds, resolved.config.run.plugins, source_name)
        many._made = made
        return many

    @classmethod
    def open(cls, path: str | os.PathLike[str], plugins: Sequence[str] = ()) -> "Many":
        """Open a directory of runs, to continue.

        Raises
        ------
        NnjitError
            It is not one; or its config names plug-ins that are not given.
        """
        table, source_name = config_file.read(Path(path) / FILE)
        many = table.pop("many", {})
        folds, seeds = many.get("folds"), many.get("seeds")
        whole = isinstance(folds, int | None) and (seeds is None or all(isinstance(seed, int) for seed in seeds))
        if not whole or (folds is None and seeds is None):
            raise CheckpointError(f"{source_name}: expected folds or seeds in its section [many]")
        config_file.need_plugins(table, plugins, source_name)
        found = cls(path, table, folds, seeds, plugins, source_name)
        found.rows = [row for row in _read_rows(Path(path)) if row.get("run") in found.names]
        return found

    @property
    def names(self) -> dict[str, tuple[int | None, int | None]]:
        """Map the name of each run to its fold and its seed (None: that of the config)."""
        folds = [None] if self.folds is None else range(1, self.folds + 1)
        pairs = list(product(folds, [None] if self.seeds is None else self.seeds))
        words = [((f"fold-{k}",) if k else ()) + ((f"seed-{seed}",) if seed is not None else ()) for k, seed in pairs]
        return {"-".join(word): pair for word, pair in zip(words, pairs, strict=True)}

    def train(self, workers: int = 1, scheduler: str | None = None) -> Iterator[dict[str, Any]]:
        """Train what is missing; yield the row of each run that has ended. Ends early after a `signal`.

        Parameters
        ----------
        workers : int
            The number of runs at a time. More than one are processes, with one thread each unless the config says
            another number. A signal reaches them from a terminal; they stop as single runs do.
        scheduler : str or None
            The address of a Dask scheduler, whose workers train instead, each as many runs at a time as it has threads.

        Raises
        ------
        NnjitError
            The config does not fit the data; workers are killed again and again; or those of a scheduler do not have
            what the runs need. A divergence is a row with "failed" instead.
        """
        ended = {row["run"] for row in self.rows}
        jobs = {name: self._job(name, *pair) for name, pair in self.names.items() if name not in ended}
        return self._gathered(self._trained(jobs, workers, scheduler))

    @property
    def total(self) -> int:
        return len(self.names)

    def _name(self, row):
        return row["run"]

    def _place(self, row):
        return list(self.names).index(row["run"])

    def _job(self, name, fold, seed):
        """Return what a process must know of a run."""
        table = copy.deepcopy(self._table)
        row: dict[str, Any] = {"run": name}
        if fold is not None:
            config_file.assign(table, ["run", "fold"], [fold, self.folds])
            row["fold"] = fold
        if seed is not None:
            config_file.assign(table, ["training", "seed"], seed)
            row["seed"] = seed
        return Job(self.path.absolute() / name, table, self._source_name, tuple(self._plugins), row)

    def _trained(self, jobs, workers, scheduler):
        if scheduler is not None:
            return self._on_cluster(jobs, scheduler)
        return self._in_turn(jobs) if workers == 1 else self._at_once(jobs, workers)

    def _in_turn(self, jobs):
        """Train in this process, run after run, until a signal comes."""
        reporting: Callable[[], Any] = reporter if rewritable(sys.stdout) else Quiet
        for job in jobs.values():
            row = job.train(reporting)
            yield row
            if "stopped" in row:
                return

    def _at_once(self, jobs, workers):
        """Train in processes. The run of a worker that was killed is continued from its last checkpoint."""
        try:
            from joblib import Parallel, delayed, parallel_config
        except ImportError as error:
            raise UsageError('--workers needs joblib: pip install "nnjit[joblib]"') from error
        if not jobs:
            return
        self._compile(jobs)
        threads = self._threads or 1
        lost = 0
        with Listening(self._stop):
            while jobs and self.signal is None:
                with parallel_config("loky", inner_max_num_threads=threads):
                    pool = Parallel(min(workers, len(jobs)), return_as="generator_unordered", pre_dispatch="n_jobs")
                    rows = pool(delayed(Job.train_apart)(job) for job in self._until_a_signal(list(jobs.values())))
                    try:
                        for row in rows:
                            del jobs[row["run"]]
                            lost = 0
                            yield row
                    except BrokenProcessPool:
                        lost += 1
                        self._lost(lost, workers)

    def _on_cluster(self, jobs, address):
        """Train on the workers of a scheduler, after each of them was checked."""
        from .cluster import Cluster

        if not jobs:
            return
        resolved = launch.read_config(next(iter(jobs.values())).table, self._source_name)
        with Cluster(address, self.path.absolute(), resolved) as cluster:
            cluster.check()
            self._compile(jobs)
            with Listening(self._stop):
                yield from cluster.train(jobs, self._threads, lambda: self.signal)

    @property
    def _threads(self):
        """The number of threads of a run that the config says, or None."""
        return self._table.get("run", {}).get("threads")

    def _compile(self, jobs):
        """Compile for all runs, by which the config is checked once."""
        first = next(iter(jobs.values()))
        with reporter() as reporting:
            config = launch.read_config(first.table, self._source_name)
            launch.prepare(config, self._source_name, reporting).trainer.compile()

    def _stop(self, number):
        self.signal = number

    def _until_a_signal(self, jobs):
        for job in jobs:
            if self.signal is None:
                yield job

    def results(self) -> list[Path]:
        """Draw losses and metrics of the runs together; return these files and those of the figures."""
        return [self.path / "results.csv", self.path / "results.json", *draw_together(self.path)]

    def _write(self):
        """Write the figures of the runs that have ended."""
        means, deviations = mean_and_deviation(self.rows)
        about = {"mean of": sum("failed" not in row for row in self.rows), "deviation": "of a sample, n - 1"}
        found = {"runs": self.rows, "mean": means, "standard deviation": deviations, **about}
        with checkpoint.atomic(self.path / "results.json") as file:
            file.write((json.dumps(found, indent=2) + "\n").encode())
        rows = [*self.rows, {"run": "mean", **means}, {"run": "standard deviation", **deviations}]
        write_table(self.path / "results.csv", rows)


def _read_rows(path):
    """Return the rows of results.json; none if it was not written yet."""
    try:
        rows = json.loads((path / "results.json").read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [row for row in rows if isinstance(row, dict)]
