"""The training loop: epochs of the compiled program, a log, checkpoints, and resuming after every interruption.

A short epoch is one call of a compiled function; a long one is divided into calls of about `PAUSE` seconds, between
which progress is shown, signals are handled and checkpoints are written. Epochs of less than `SHORT` seconds are run
several in a row (see `several`), and then recorded together. Neither changes a bit of the result. Checkpoints are
written every `KEEP` seconds; between two of them the state after the last whole epoch and the best parameters are kept
in memory.
"""

import math
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.schema import Schema, check_raw
from ..data.split import Split
from ..errors import UsageError
from ..kernels.counters import SEED, STEP, STOP
from ..program.program import Program
from ..program.protocols import NetworkLike
from ..storage.checkpoint import fill, tensors_of
from ..storage.run_directory import RunDirectory
from . import shared_arrays
from .callbacks import listeners, stops, why_stopped
from .changes import update_ratios
from .checkpoints import Checkpoints
from .divergence import diverged, not_finite
from .epoch_metrics import EpochMetrics
from .fitting import fit_layers, ranges_of, raw_range_of, takes_units, units_of
from .history import History, judged
from .measure import IN_MEMORY, MeanLoss, targets_for
from .orders import Orders
from .program_log import ProgramLog
from .ranks import Ranks
from .remarks import STEPS, Remarks
from .resume import check_data, check_steps, fingerprints
from .schedules import learning_rates
from .settings import Settings
from .several import Several
from .shard import Job, Shard, compile_steps, fill_statistics, statistics_of
from .signals import Listening
from .weights import weighted

PAUSE = 0.2  # seconds between two checks for signals and reports of progress
SHORT = 0.01  # seconds; epochs shorter than this are run several in a row
MOST_STEPS = 1000  # steps of a call, which the program's log of 1024 rows must hold


class Trainer:
    """Trains a network on splits.

    Parameters
    ----------
    network : Network
    train, validation : Split, Split or None
    settings : Settings
    reporter : object or None
        Its methods are called during training: compiling(done, total), begin(trainer), progress(epoch, done, steps,
        loss), epoch(record), end(history).
    schema : Schema or None
        Names and ranges of the samples, kept with the network; None: arrays without names.
    checkpoint : (tensors, progress) or None
        A checkpoint to continue, as `storage.checkpoint.read` returns it; None: start with the network as it is, and
        fit its layers that are fitted to training data (see `fitting`).
    callbacks : iterable
        Objects with any of these methods, or functions of an epoch's record, which may stop the run; see `Network.fit`.
    ranks : Ranks or None
        The processes that train together, of which this is rank 0; `recruit` brings in the others.

    Attributes
    ----------
    units : Units or None
        The units of the targets, if the network's last layer restores them; loss and targets are then without units.
    weighting : str
        How the losses of samples are weighted; "" if they are not.
    loss_name : str
        What the losses of the records are, such as "mse of scaled targets".

    Raises
    ------
    ShapeError, SpecError, DataError
        Network, data and settings do not fit each other.
    DataError
        The data are not those of the checkpoint.
    UsageError
        The batch size is not that of the checkpoint, or its steps would have had other learning rates.
    """

    def __init__(
        self,
        network: NetworkLike,
        train: Split,
        validation: Split | None,
        settings: Settings,
        reporter: Any = None,
        schema: Schema | None = None,
        checkpoint: tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None = None,
        callbacks: Iterable[Any] = (),
        ranks: Ranks | None = None,
    ) -> None:
        self.network, self.settings, self.reporter, self.ranks = network, settings, reporter, ranks
        self._callbacks = listeners(callbacks)
        # A callback may stop the run or read the network after each epoch, so no further one may have begun.
        self._watched = any(hasattr(each, "epoch") for each in self._callbacks)
        self._stopped_by: str | None = None
        self.loss, self.optimizer, self.schedule = settings.loss, settings.optimizer, settings.schedule
        self.batch_size = min(settings.batch_size or len(train), len(train))
        if ranks is not None and self.batch_size < ranks.size:
            raise UsageError(
                f"training.batch_size: {ranks.size} processes divide each batch, but it holds {self.batch_size} "
                f"sample{'s' * (self.batch_size > 1)}; start fewer of them"
            )
        self.steps_per_epoch = -(-len(train) // self.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        self.schema = Schema.of(train) if schema is None else schema
        self.train = targets_for(train, network, self.loss)
        self.units = units_of(network, self.loss)
        if checkpoint is None:
            fit_layers(network, self.train, self.schema)
        else:
            fill(network, checkpoint[0], "checkpoint")
        if (node := takes_units(network)) is not None and not train.holds_bytes:
            self.schema = replace(self.schema, ranges=ranges_of(train, node.x.shape))
        if (raw_range := raw_range_of(network)) is not None:
            check_raw(train, raw_range)
            self.schema = replace(self.schema, raw_range=raw_range)
        self.validation: Split | None = None
        if validation is not None:
            self.validation = self.schema.checked(targets_for(validation, network, self.loss))
        self._fingerprints = partial(fingerprints, self.train, self.validation)  # with targets as they are
        self.train, self.validation, self.weighting = weighted(
            self.train, self.validation, settings.class_weights, self.loss, prod(network.output_shape),
            self.schema.classes,
        )  # fmt: skip
        if self.units is not None:
            self.train = self.units.split(self.train)
            self.validation = None if self.validation is None else self.units.split(self.validation)
        self.labels = self.train.y.ndim == 1
        self.metrics = EpochMetrics(network, self.train, self.validation, settings, self.schema, self.units)
        scaled = {"values": " of unscaled targets" if self.units is None else " of scaled targets"}
        weights = "" if self.train.weights is None else "weighted "
        self.loss_name = f"{weights}{self.loss.spec()}{scaled.get(self.metrics.outputs.kind, '')}"
        rates = learning_rates(
            self.optimizer, self.schedule, self.total, self.steps_per_epoch, network.dtype
        )  # fmt: skip
        body: Any = network if self.units is None else self.units.body
        self.program = Program(
            body, self.loss, self.optimizer, self.batch_size, labels=self.labels, clip=settings.clip, rates=rates,
            norm=settings.norm, weighted=self.train.weights is not None, ranks=1 if ranks is None else ranks.size,
            global_statistics=ranks is not None and ranks.global_statistics,
        )  # fmt: skip
        last = len(train) % self.batch_size
        if last:
            network.graph.warn_of_batches(last, f"the last batch ({last} of {len(train)} samples)")
        self.history = History()
        self.progress: dict[str, Any] = {"epoch": 0, "step": 0, "done": 0, "loss_sum": 0.0, "best": None}
        # The epoch with the best figure; for `patience` that of the last improvement, and the figure it was to.
        self.progress |= {"best_epoch": None, "improved": 0, "to_beat": None}
        self.progress |= {"seconds": 0.0, "epochs": settings.epochs, "batch_size": self.batch_size}
        self._before = network.theta.copy()
        self._log = ProgramLog(self.program, self.total)
        self._remarks = Remarks(self)
        self._statistics: NDArray[Any] | None = None  # of batches, of each rank, if the checkpoint is within an epoch
        self._resumed = checkpoint is not None
        if checkpoint is not None:
            self._continue(*checkpoint)
        # The current run: its directory and checkpoints, its beginning, the signal that ends it, converted data.
        self._directory: RunDirectory | None = None
        self._checkpoints: Any = None
        self._began = 0.0
        self._signal: int | None = None
        self._x: Any = None
        self._y: Any = None
        # The weights of the samples, the last arguments of `epoch`, if they have any.
        given = self.train.weights
        self._weights: tuple[Any, ...] = () if given is None else (given.astype(network.dtype),)
        self._orders = Orders(settings.seed, len(train), settings.epochs, self.batch_size < len(train))
        # Steps of the next call, seconds of a step of the latest, epochs that were run in a row, and their numbers.
        self._pace, self._step_seconds, self._in_a_row = 1, math.inf, 1
        self._several: Any = None
        self._shard: Shard | None = None

    @property
    def lines(self) -> list[str]:
        """The lines that a run says before its first epoch: units, weights, and how ranks divide a batch."""
        shares = [] if self._shard is None else self._shard.lines()
        return [*(str(line) for line in (self.units, self.weighting) if line), *shares]

    # -- the run -----------------------------------------------------------------------------------------------------

    def compile(self) -> None:
        """Compile the program now, outside all timing, and report it; otherwise `run` compiles."""
        kernels = len({binding.kernel for binding in self.program.plan.bindings.values()})
        self._report("compiling", 0, kernels)
        self.program.compile()
        self._report("compiling", kernels, kernels)

    def compile_all(self) -> None:
        """Compile all that `run` may call, to fill the cache: also what runs short epochs in a row."""
        self.compile()
        functions: list[Any] = [self.program.predict, self.program.epoch]
        for function in functions:
            _ = function.run
        MeanLoss(self.loss, self.network.output_shape, self.train.y.shape[1:]).compile()
        self._load()
        if self._may_be_in_a_row():
            self._orders.compile()
            Several(self).compile()

    def recruit(self, config: str) -> None:
        """Have the other ranks make ready for their share of this training, whose complete config is this text.

        Raises
        ------
        NnjitError : one of them cannot.
        """
        assert self.ranks is not None
        compile_steps(self.program)  # first here alone: the others find it in the cache
        self._load()
        memory, weights = self._x is not None, self._weights[0] if self._weights else None
        job = Job(
            config, self.batch_size, len(self.train), self.settings.epochs, self.settings.seed, self.labels,
            self.program.rates, self._x, self._y, None if memory else self.train, weights,
        )  # fmt: skip
        job = shared_arrays.send(self.ranks, job)
        self._x, self._y = job.x, job.y
        self._shard = Shard(self.ranks, self.program, job)
        self.ranks.hear_all()  # that they are ready

    def record(self, path: str | os.PathLike[str], config: str) -> RunDirectory:
        """Make the directory of a new run, for `run`.

        Parameters
        ----------
        path : path of the directory; RunExists if something is there
        config : str
            The resolved config, TOML.
        """
        self.progress["data"] = self._fingerprints()
        return RunDirectory.create(path, config, self.network, self.program.source, self.progress)

    def _continue(self, tensors, progress):
        """Take up a checkpoint's tensors and progress."""
        check_data(progress, self._fingerprints())
        check_steps(progress, self.settings, self.batch_size, self.steps_per_epoch)
        self.progress |= {"improved": progress["epoch"], "to_beat": progress["best"]}  # of a run that did not count
        self.progress |= {**progress, "epochs": self.settings.epochs, "batch_size": self.batch_size}
        for k, moment in enumerate(self._moments()):
            moment[:] = tensors.get(f"moment:{k}", 0)
        self._before = tensors.get("epoch:theta", self.network.theta).copy()
        if (rows := tensors.get("ranks:statistics")) is not None:
            if self.ranks is not None and self.ranks.size == len(rows):
                self._statistics = rows
            else:  # of a run of another number of ranks: as these would average them at the end of the epoch
                fill_statistics(statistics_of(self.network.graph, self.network.flat_buffers), rows.mean(0, np.float64))

    def run(self, directory: RunDirectory | None = None) -> History:
        """Train to the last epoch, or until patience, a callback or a signal ends it; log and save into a directory.

        With `patience` the network has the best parameters afterwards, unless a signal came; else those of the last
        step.

        Parameters
        ----------
        directory : RunDirectory or None
            As `record` returns it; that of the checkpoint, if one is continued: the log is cut after it.

        Returns
        -------
        History
            It names the signal, or says what stopped the run.

        Raises
        ------
        DivergenceError
            The loss or a gradient is NaN or infinite; the message names the step and the layer.
        """
        self.program.compile()
        self._directory = directory
        if directory is not None and self._resumed:
            self.history.add(directory.rewind(self.progress["step"], self.progress["epoch"]))
            for record in self.history.epochs:
                self._remarks.add(record)
        self.network.trained_on = self.schema.after(self.network.trained_on)
        state = self.program.state
        state.counters[STEP], state.counters[SEED] = self.progress["step"], self.settings.seed
        state.counters[STOP] = 0
        if self._shard is None:
            self._load()
        else:
            self._shard.ranks.tell("begin")
            self._shard.begin()
            if self._statistics is not None:
                self._shard.ranks.tell("scatter")
                self._shard.scatter(self._statistics)
        self._checkpoints = Checkpoints(self.network, directory, self.settings.patience is not None)
        self._began = time.perf_counter() - self.progress["seconds"]
        if directory is not None:
            self._say_that_it_runs(directory)
        self._report("begin", self)
        try:
            with Listening(self._stop), self.program.on_device():
                try:
                    while not self._is_over() and self._signal is None:
                        self._epoch()
                    self._checkpoints.write()
                except Exception as error:  # a divergence, an error of a callback; a second signal ends at once
                    self._checkpoints.write()
                    if directory is not None:
                        directory.conclude("failed", why=str(error))
                    raise
            self.history.interrupted = self._signal
            if self._signal is None:
                self._conclude()
            if directory is not None:
                directory.conclude(**self.history.how_it_ended())
        finally:
            if directory is not None:
                directory.close()
        self._report("end", self.history)
        return self.history

    def _say_that_it_runs(self, directory):
        """Write for `nnjit watch` what the run's own terminal knows."""
        lines = self.lines
        at_most = self.settings.patience is not None
        directory.begin(epochs=self.settings.epochs, steps=self.steps_per_epoch, at_most=at_most, lines=lines)

    def _stop(self, number):
        self._signal = number

    def _is_over(self):
        """Return whether the last epoch that was counted ends the run."""
        done = self.progress["epoch"] >= self.settings.epochs
        return done or self._stopped_by is not None or self._out_of_patience()

    def _out_of_patience(self):
        patience = self.settings.patience
        return patience is not None and self.progress["epoch"] - self.progress["improved"] >= patience

    def _why_stopped(self, figure):
        """Return why the run ended after the last epoch that was counted; None if that was its last one."""
        if self.progress["epoch"] == self.settings.epochs:
            return None
        if self._stopped_by is not None:
            return self._stopped_by
        if not self._out_of_patience():
            return None
        patience, least = self.settings.patience, self.settings.min_delta
        fallen = f"fallen by more than {least:g}" if least else "fallen"
        return f"{figure} had not {fallen} for {patience} epoch{'s' if patience != 1 else ''}"

    def _conclude(self):
        """Note why the run ended, and with `patience` give the network the best parameters, if any had a figure."""
        if self.history.epochs:
            stopped = self._stopped_by is not None  # after the record was made
            self.history.remarks = self._said() if stopped else self.history.epochs[-1].get("remarks", [])
        self.history.stopped = self._why_stopped("loss" if self.validation is None else "val_loss")
        found = self._checkpoints.best() if self.settings.patience is not None else None
        if found is not None:
            tensors, progress = found
            fill(self.network, tensors, "the best checkpoint")
            self.history.restored = progress["epoch"]

    def _load(self):
        """Convert data that fits into memory; a GPU gets all of it, converted as it is read."""
        self._x = self._y = None
        dtype = self.network.dtype
        if self.network.device == "cuda":
            self._x, self._y = self.train.converted(dtype)
        elif self.train.nbytes(dtype) <= IN_MEMORY:
            self._x, self._y = self.train.take(slice(None), dtype)
        in_memory = self.network.device == "cpu" and self._x is not None
        self.metrics.load(self.program, (self._x, self._y) if in_memory else None)

    def _epoch(self):
        epochs = self._epochs_in_a_row()
        if epochs > 1:
            took = max(self._several.train(epochs, PAUSE), 1e-9)
            self._in_a_row = max(1, len(self._several.seconds))
            self._step_seconds = took / self._in_a_row / self.steps_per_epoch
            return
        epoch = self.progress["epoch"] + 1
        order = self._orders.one(epoch)
        if self.progress["done"] == 0:
            self._before[:] = self.network.theta
        while self.progress["done"] < self.steps_per_epoch and self._signal is None:
            begin = self.progress["done"]
            steps = min(self._pace, self.steps_per_epoch - begin, MOST_STEPS)
            began = time.perf_counter()
            self._steps(epoch, order[begin * self.batch_size : (begin + steps) * self.batch_size], steps)
            took = max(time.perf_counter() - began, 1e-6)
            self._step_seconds = took / steps
            self._pace = max(1, int(min(steps * PAUSE / took, 16 * self._pace)))
            if self.progress["done"] < self.steps_per_epoch and self._checkpoints.due():
                self.program.download()
                self._save()
        self.program.download()
        if self.progress["done"] < self.steps_per_epoch:
            return self._save()
        self._finish(epoch)

    def _steps(self, epoch, order, steps):
        """Take some steps with the compiled program, and log them."""
        program, state, before = self.program, self.program.state, self.progress["step"]
        row = self._log.row
        if self._shard is not None:
            self._shard.ranks.tell("steps", epoch, self.progress["done"], steps)
            self._shard.steps(order)
            if self._signal is None and self._shard.signals:
                self._signal = int(signal.SIGTERM)
        elif self._x is None:
            x, y = self.train.take(order, self.network.dtype)
            program.epoch(state, x, y, np.arange(len(order)), *(each[order] for each in self._weights))
        else:
            program.epoch(state, self._x, self._y, order, *self._weights)
        if state.counters[STOP]:
            self._diverged(epoch, before, self._log.row - row)
        self.progress["step"] += steps
        self.progress["done"] += steps
        rows = self._log.rows(row, steps)
        # Step by step, or the bits would depend on the number of steps per call.
        terms = rows[:, 0] * self._samples(len(order), steps)
        self.progress["loss_sum"] = float(np.cumsum(np.concatenate(([self.progress["loss_sum"]], terms)))[-1])
        self.progress["seconds"] = time.perf_counter() - self._began
        self._add(self._log.records(epoch, before, self.progress["seconds"], rows))
        self._report("progress", epoch, self.progress["done"], self.steps_per_epoch, float(rows[-1, 0]))

    def _samples(self, count, steps):
        """Return the number of samples of every step."""
        samples = np.full(steps, self.batch_size)
        samples[-1] = count - (steps - 1) * self.batch_size
        return samples

    def _finish(self, epoch):
        """End an epoch: validate, log it, save."""
        step = self.progress["step"]
        if self._shard is not None:
            self._shard.ranks.tell("agree")
            self._shard.agree()
        if not np.isfinite(self.network.theta).all():  # no loss of this epoch has seen it
            raise not_finite(step, epoch)
        record = self._log.record(epoch, step, self.progress["seconds"], self._log.latest(1)[0])
        record["loss"] = self.progress["loss_sum"] / len(self.train)
        record |= self.metrics.measure(epoch)
        segments, ends = self.program.plan.log.segments, self.network.theta[None]
        record["update_ratios"] = update_ratios(self._before[None], ends, segments)[0]
        best = self._ended(record, time.perf_counter() - self._began)
        self._add([record])
        self._save(best)
        self._report("epoch", record)

    def _ended(self, record, seconds):
        """Complete the record of an epoch and count it; return whether it is the best so far."""
        record["loss_name"] = self.loss_name
        record["seconds"] = round(seconds, 4)
        record["epoch_end"] = True
        measured, epoch, progress = record[judged(record)], record["epoch"], self.progress
        progress |= {"epoch": epoch, "done": 0, "loss_sum": 0.0, "seconds": record["seconds"]}
        best = math.isfinite(measured) and (progress["best"] is None or measured < progress["best"])
        if best:
            progress["best"], progress["best_epoch"] = measured, epoch
            if progress["to_beat"] is None or measured < progress["to_beat"] - self.settings.min_delta:
                progress["to_beat"], progress["improved"] = measured, epoch
        if self._out_of_patience() and (why := self._why_stopped(judged(record))):
            record |= {"stopped": why, "restored": progress["best_epoch"]}
        self._remarks.add(record)
        if self._is_over() and (remarks := self._said()):
            record["remarks"] = remarks
        return best

    def _said(self):
        """Return the remarks on the run, if it ends with the steps so far."""
        return self._remarks.at_end(self._log.norms(max(self.steps_per_epoch, STEPS)))

    def best(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """Return tensors and progress of the best epoch of a run with a directory that has ended, or of the last one.

        None if no epoch has ended.
        """
        if self.progress["epoch"] == 0:
            return None
        return self._checkpoints.best() or (tensors_of(self.network), self.progress)

    # -- short epochs ------------------------------------------------------------------------------------------------

    def _epochs_in_a_row(self):
        """Return how many epochs to run before they are recorded together."""
        seconds = self._step_seconds * self.steps_per_epoch
        if not self._may_be_in_a_row() or self.progress["done"] or seconds > SHORT:
            return 1
        limit = PAUSE if self._directory is None else min(PAUSE, self._checkpoints.due_in())
        left = self.settings.epochs - self.progress["epoch"]
        if self._several is None:
            self._several = Several(self)
        if self.settings.patience is not None:  # a row ends where the run may
            left = min(left, self.settings.patience + self.progress["improved"] - self.progress["epoch"])
        return max(1, int(min(limit / seconds, 16 * self._in_a_row, left, self._several.most)))

    def _may_be_in_a_row(self):
        """Tell whether epochs run in a row if they are short."""
        fits = self._x is not None and self.network.device == "cpu" and self.steps_per_epoch <= MOST_STEPS
        return fits and not self._watched and self.ranks is None

    # -- records and the end of a run --------------------------------------------------------------------------------

    def _diverged(self, epoch, before, taken):
        """Log the steps taken since step `before`, of which the last one diverged; raise the error."""
        rows, seconds = self._log.latest(taken), self.progress["seconds"]
        record = self._log.record(epoch, before + taken, seconds, rows[-1])
        self._add([*self._log.records(epoch, before, seconds, rows[:-1]), record])
        raise diverged(record, self.program.largest_norm, self._directory)

    def _moments(self):
        S = self.network.theta.size
        return [self.program.state.moments[k * S : (k + 1) * S] for k in range(len(self.optimizer.moments))]

    def _save(self, best=False):
        within, statistics = self.progress["done"] > 0, None
        if within and self._shard is not None:
            self._shard.ranks.tell("gather")
            statistics = self._shard.gather()
        self._checkpoints.save(self.progress, self._moments(), best, self._before if within else None, statistics)

    def _add(self, records):
        """Add records to the history and the log."""
        self.history.add(records)
        if self._directory is not None and records:
            self._directory.append(records)

    def _report(self, what, *details):
        """Call the method of an event of the reporter, then those of the callbacks; at an epoch's end they may stop."""
        if self.reporter is not None:
            getattr(self.reporter, what)(*details)
        for each in self._callbacks:
            method = getattr(each, what, None)
            if method is not None and stops(method(*details)) and what == "epoch":
                self._stopped_by = why_stopped(each)
