"""The training loop: epochs of the compiled program, a log, checkpoints, and resuming after every interruption.

A short epoch is one call of a compiled function; a long one is divided into calls of about `PAUSE` seconds, between
which progress is shown, signals are handled and checkpoints are written. Epochs of less than `SHORT` seconds are run
several in a row (see `several`), and then recorded together. Neither changes a bit of the result. Checkpoints are
written every `KEEP` seconds; between two of them the state after the last whole epoch and the best parameters are kept
in memory.
"""

import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.schema import Schema
from ..data.split import Split, spread
from ..errors import DataError, DivergenceError, SpecError, UsageError
from ..kernels.counters import ROWS, SEED, STEP, STOP
from ..program.memory import need
from ..program.program import NetworkLike, Program
from ..registry import schedules
from ..storage.checkpoint import fill, tensors_of
from ..storage.run_directory import RunDirectory
from . import metrics as metric_functions
from .changes import room, update_ratios
from .measure import InMemory, Measures, parts, targets_for, try_metrics
from .orders import Orders
from .settings import Settings
from .several import Several
from .signals import Listening

PAUSE = 0.2  # seconds between two checks for signals and reports of progress
KEEP = 4.0  # seconds between two checkpoints; with calls of about PAUSE a kill loses less than 5 s of training
IN_MEMORY = 2**30  # largest data set in bytes that is converted at once; a larger one is converted batch by batch
LOGGED = 2000  # most step records of a run; with more steps, every k-th is logged
SAMPLE = 1000  # most training samples that metrics are measured on at the end of an epoch
# Training samples that metrics are measured on in a run: this number, or this share of the samples of its steps if that
# is more; a measured sample takes a third of a trained one's time. With more, they are measured every k-th epoch.
MEASURED = 20_000
MEASURED_SHARE = 1 / 50
SHORT = 0.01  # seconds; epochs shorter than this are run several in a row
MOST_STEPS = 1000  # steps of a call, which the program's log of 1024 rows must hold


@dataclass
class History:
    """Records of a training: `steps` and `epochs` are those of the log."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    interrupted: int | None = None  # the number of the signal that ended the run early

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            (self.epochs if record.get("epoch_end") else self.steps).append(record)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one number per epoch, such as "val_accuracy"; NaN where an epoch lacks it."""
        return np.array([record.get(name, math.nan) for record in self.epochs], dtype=float)


class Trainer:
    """Trains a network on splits.

    Parameters
    ----------
    network : Network
    train, validation : Split, Split or None
    settings : Settings
    reporter : object or None
        Its methods are called during training: begin(trainer), progress(epoch, done, steps, loss), epoch(record),
        end(history).
    schema : Schema or None
        Names and scale of the samples, kept with the network; None: arrays without names.
    checkpoint : (tensors, progress) or None
        A checkpoint to continue, as `storage.checkpoint.read` returns it; None: start with the network as it is.

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
    ) -> None:
        self.network, self.settings, self.reporter = network, settings, reporter
        self.loss, self.optimizer, self.schedule = settings.loss, settings.optimizer, settings.schedule
        measured = dict.fromkeys([*(("accuracy",) if self.loss.classification else ()), *settings.metrics])
        self.metrics = {name: metric_functions.get(name, self.loss) for name in measured}
        self.batch_size = min(settings.batch_size or len(train), len(train))
        self.steps_per_epoch = -(-len(train) // self.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        self.schema = Schema.of(train) if schema is None else schema
        self.train = targets_for(train, network, self.loss)
        self.validation: Split | None = None
        if validation is not None:
            self.validation = self.schema.scaled(targets_for(validation, network, self.loss))
        self.labels = self.train.y.ndim == 1
        for split in filter(None, (self.train, self.validation)):
            try_metrics(self.metrics, split, network)
        # Rows are often sorted by class, so the first ones alone would say nothing.
        self.sample = self.train if len(train) <= SAMPLE else self.train.part(spread(len(train), SAMPLE))
        budget = max(MEASURED, MEASURED_SHARE * len(train) * settings.epochs)
        self._measure_every = max(1, math.ceil(len(self.sample) * settings.epochs / budget))
        rates = self._rates()
        self.program = Program(
            network, self.loss, self.optimizer, self.batch_size, labels=self.labels, clip=settings.clip, rates=rates,
            norm=settings.norm,
        )  # fmt: skip
        last = len(train) % self.batch_size
        if last:
            network.graph.warn_of_batches(last, f"the last batch ({last} of {len(train)} samples)")
        self.history = History()
        self.progress: dict[str, Any] = {"epoch": 0, "step": 0, "done": 0, "loss_sum": 0.0, "best": None}
        self.progress |= {"seconds": 0.0, "epochs": settings.epochs, "batch_size": self.batch_size}
        self._before = network.theta.copy()
        self._scratch = room(1, self.program.plan.log.segments)
        self._names = self.program.layer_names
        self._resumed = checkpoint is not None
        if checkpoint is not None:
            self._continue(*checkpoint)
        # The current run: directory, (tensors, progress) of checkpoints newer than their files, times, signal, data.
        self._directory: RunDirectory | None = None
        self._unwritten: dict[str, tuple] = {}
        self._began = self._written = 0.0
        self._signal: int | None = None
        self._x: Any = None
        self._y: Any = None
        self._orders = Orders(settings.seed, len(train), settings.epochs, self.batch_size < len(train))
        # Steps of the next call, seconds of a step of the latest, epochs that were run in a row, and their numbers.
        self._pace, self._step_seconds, self._in_a_row = 1, math.inf, 1
        self._several: Any = None
        # Samples for metrics and for validation, converted.
        self._sampled: Any = None
        self._held: Any = None
        self._measures = Measures(
            self.loss, self.metrics, network.output_shape, (self.validation or self.train).y.shape[1:]
        )

    # -- the run -----------------------------------------------------------------------------------------------------

    def _rates(self):
        """Return the learning rate of every step, or a single one if all are equal."""
        steps = self.total if not self.schedule.constant else 1
        need(4 * 8 * steps, f"epochs: the learning rates of {steps} steps")
        with np.errstate(all="ignore"):
            factors = np.asarray(self.schedule.factor(np.arange(steps), self.total, self.steps_per_epoch), float)
            rates = self.optimizer.lr * factors
        if factors.shape != (steps,) or not (np.isfinite(rates) & (rates >= 0)).all():
            name = schedules.name_of(type(self.schedule))
            raise SpecError(f"schedule: {name} must give a finite factor from 0 on for each of the {steps} steps")
        return rates

    def compile(self) -> None:
        """Compile the program now, outside all timing; otherwise `run` does it."""
        self.program.compile()

    def record(self, path: str | os.PathLike[str], config: str) -> RunDirectory:
        """Make the directory of a new run, for `run`.

        Parameters
        ----------
        path : path of the directory; RunExists if something is there
        config : str
            The resolved config, TOML.
        """
        self.progress["data"] = self._data()
        return RunDirectory.create(path, config, self.network, self.program.source, self.progress)

    def _check(self, progress):
        """Refuse to continue a checkpoint with other data, another batch size or other learning rates."""
        if "data" in progress:
            for part, now in self._data().items():
                _same_data(part, progress["data"][part], now)
        epochs, batch_size = progress.get("epochs"), progress.get("batch_size", self.batch_size)
        if batch_size != self.batch_size:
            raise UsageError(
                f"training.batch_size: the run was trained in batches of {batch_size}, and cannot be continued in "
                f"batches of {self.batch_size}"
            )
        done = progress["step"]
        if not done or epochs in (None, self.settings.epochs):
            return
        steps = np.arange(done + 1)
        former = self.optimizer.lr * self.schedule.factor(steps, self.steps_per_epoch * epochs, self.steps_per_epoch)
        rates = self.optimizer.lr * self.schedule.factor(steps, self.total, self.steps_per_epoch)
        if not np.allclose(former[:done], rates[:done], rtol=1e-9, atol=0):
            more = self.settings.epochs
            way = f"continue it with --epochs {epochs}, or " if progress["epoch"] < epochs else ""
            raise UsageError(
                f"training.epochs: the schedule {schedules.name_of(type(self.schedule))} depends on the number of "
                f"epochs: with {more} instead of {epochs} the learning rate would jump from {former[done - 1]:.4g} to "
                f"{rates[done]:.4g} at step {done + 1}; {way}start a new run with --epochs {more}"
            )

    def _continue(self, tensors, progress):
        """Take up a checkpoint's tensors and progress."""
        self._check(progress)
        fill(self.network, tensors, "checkpoint")
        self.progress = {**progress, "epochs": self.settings.epochs, "batch_size": self.batch_size}
        for k, moment in enumerate(self._moments()):
            moment[:] = tensors.get(f"moment:{k}", 0)
        self._before = tensors.get("epoch:theta", self.network.theta).copy()

    def run(self, directory: RunDirectory | None = None) -> History:
        """Train to the last epoch, or until a signal; log and save into a directory.

        Parameters
        ----------
        directory : RunDirectory or None
            As `record` returns it; that of the checkpoint, if one is continued: the log is cut after it.

        Returns
        -------
        History
            It names the signal.

        Raises
        ------
        DivergenceError
            The loss or a gradient is NaN or infinite; the message names the step and the layer.
        """
        self.compile()
        self._directory = directory
        if directory is not None and self._resumed:
            self.history.add(directory.rewind(self.progress["step"], self.progress["epoch"]))
        self.network.trained_on = self.schema.after(self.network.trained_on)
        state = self.program.state
        state.counters[STEP], state.counters[SEED] = self.progress["step"], self.settings.seed
        state.counters[STOP] = 0
        self._load()
        self._written = time.perf_counter()
        self._began = self._written - self.progress["seconds"]
        self._report("begin", self)
        with Listening(self), self.program.on_device():
            try:
                while self.progress["epoch"] < self.settings.epochs and self._signal is None:
                    self._epoch()
                self._write()
            except Exception:  # a divergence above all; a second signal ends at once
                self._write()
                raise
            finally:
                if directory is not None:
                    directory.close()
        self.history.interrupted = self._signal
        self._report("end", self.history)
        return self.history

    def _load(self):
        """Convert data that fits into memory; a GPU gets all of it, converted as it is read."""
        self._x = self._y = None
        dtype = self.network.dtype
        if self.network.device == "cuda":
            self._x, self._y = self.train.converted(dtype)
        elif self.train.nbytes(dtype) <= IN_MEMORY:
            self._x, self._y = self.train.take(slice(None), dtype)
        self._sampled = self._held = None
        if self.metrics and self.sample is self.train and self.network.device == "cpu" and self._x is not None:
            self._sampled = self._x, self._y
        elif self.metrics and self.sample.nbytes(dtype) <= IN_MEMORY:
            self._sampled = self.sample.take(slice(None), dtype)
        if self.validation is not None:
            fits = self.validation.nbytes(dtype) <= IN_MEMORY
            self._held = InMemory(self.validation, dtype) if fits else self.validation

    def _epoch(self):
        epochs = self._epochs_in_a_row()
        if epochs > 1:
            self._run_several(epochs)
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
            if self.progress["done"] < self.steps_per_epoch and self._due():
                self.program.download()
                self._save()
        self.program.download()
        if self.progress["done"] < self.steps_per_epoch:
            return self._save()
        self._finish(epoch)

    def _steps(self, epoch, order, steps):
        """Take some steps with the compiled program, and log them."""
        program, state, before = self.program, self.program.state, self.progress["step"]
        if self._x is None:
            x, y = self.train.take(order, self.network.dtype)
            order = np.arange(len(order))
        else:
            x, y = self._x, self._y
        row = int(state.counters[ROWS])
        program.epoch(state, x, y, order)
        if state.counters[STOP]:
            self._diverged(epoch, before, int(state.counters[ROWS]) - row)
        self.progress["step"] += steps
        self.progress["done"] += steps
        rows = self._rows(row, steps)
        # Step by step, or the bits would depend on the number of steps per call.
        terms = rows[:, 0] * self._samples(len(order), steps)
        self.progress["loss_sum"] = float(np.cumsum(np.concatenate(([self.progress["loss_sum"]], terms)))[-1])
        self.progress["seconds"] = time.perf_counter() - self._began
        self._log([self._record(epoch, before + k + 1, rows[k]) for k in self._to_log(before, steps)])
        self._report("progress", epoch, self.progress["done"], self.steps_per_epoch, float(rows[-1, 0]))

    def _samples(self, count, steps):
        """Return the number of samples of every step."""
        samples = np.full(steps, self.batch_size)
        samples[-1] = count - (steps - 1) * self.batch_size
        return samples

    def _rows(self, row, steps):
        """Return the rows (steps, width) of the program's log from a row on."""
        log = self.program.plan.log
        rows = self.program.state.log[: log.rows * log.width].reshape(log.rows, log.width)
        return rows[np.arange(row, row + steps) % log.rows]

    def _last_row(self):
        return self._rows(int(self.program.state.counters[ROWS]) - 1, 1)[0]

    def _to_log(self, before, steps):
        """Return which steps after `before` are logged."""
        every = max(1, -(-self.total // LOGGED))
        return range(-before % every, steps, every)

    def _record(self, epoch, step, row):
        """Return the record of a step from its row of the program's log."""
        loss, rate, total, *layers = row.tolist()
        return {
            "epoch": epoch, "step": step, "seconds": round(self.progress["seconds"], 4), "loss": loss, "lr": rate,
            "gradient_norm": total, "gradient_norms": dict(zip(self._names, layers, strict=True)),
        }  # fmt: skip

    def _finish(self, epoch):
        """End an epoch: validate, log it, save."""
        if not np.isfinite(self.network.theta).all():  # no loss of this epoch has seen it
            self._not_finite(epoch)
        record = self._record(
            epoch, self.progress["step"], self._rows(int(self.program.state.counters[ROWS]) - 1, 1)[0]
        )
        record["loss"] = self.progress["loss_sum"] / len(self.train)
        record |= self._measure(epoch)
        segments, ends = self.program.plan.log.segments, self.network.theta[None]
        record["update_ratios"] = update_ratios(self._before[None], ends, segments, self._scratch)[0]
        best = self._ended(record, time.perf_counter() - self._began)
        self._log([record])
        self._save(best)
        self._report("epoch", record)

    def _ended(self, record, seconds):
        """Complete the record of an epoch and count it; return whether it is the best so far."""
        record["seconds"] = round(seconds, 4)
        record["epoch_end"] = True
        measured = record.get("val_loss", record["loss"])
        best = math.isfinite(measured) and (self.progress["best"] is None or measured < self.progress["best"])
        self.progress |= {"epoch": record["epoch"], "done": 0, "loss_sum": 0.0, "seconds": record["seconds"]}
        if best:
            self.progress["best"] = measured
        return best

    # -- short epochs ------------------------------------------------------------------------------------------------

    def _epochs_in_a_row(self):
        """Return how many epochs to run before they are recorded together."""
        seconds = self._step_seconds * self.steps_per_epoch
        whole = self._x is not None and self.network.device == "cpu" and self.progress["done"] == 0
        if not whole or seconds > SHORT or self.steps_per_epoch > MOST_STEPS:
            return 1
        limit = PAUSE if self._directory is None else min(PAUSE, self._written + KEEP - time.perf_counter())
        left = self.settings.epochs - self.progress["epoch"]
        if self._several is None:
            self._several = Several(self)
        return max(1, int(min(limit / seconds, 16 * self._in_a_row, left, self._several.most)))

    def _run_several(self, epochs):
        """Run short epochs in a row, then record them."""
        several, first, before = self._several, self.progress["epoch"] + 1, self.progress["step"]
        began = time.perf_counter()
        done = several.run(first, epochs, PAUSE)
        took = (time.perf_counter() - began) / max(1, done)
        self._step_seconds, self._in_a_row = max(took, 1e-9) / self.steps_per_epoch, max(done, 1)
        records, best = [], None
        for e, (ratios, loss) in enumerate(zip(several.ratios(done), several.losses(done), strict=True)):
            self.progress["seconds"] = several.seconds[e] - self._began
            rows = several.logs[e]
            records += [self._record(first + e, before + k + 1, rows[k]) for k in self._to_log(before, len(rows))]
            before += len(rows)
            self.progress["step"] = before
            record = self._record(first + e, before, rows[-1])
            record["loss"] = loss / len(self.train)
            record |= several.measured[e]
            record["update_ratios"] = ratios
            if self._ended(record, self.progress["seconds"]):
                best = e, dict(self.progress)
            records.append(record)
        self._log(records)
        if done:
            self._save_several(best)
        for record in records:
            if record.get("epoch_end"):
                rows = several.logs[record["epoch"] - first]
                self._report("progress", record["epoch"], len(rows), len(rows), float(rows[-1, 0]))
                self._report("epoch", record)
        if several.stopped:
            self._diverged(first + done, before, several.stopped)
        if not several.finite:
            self.progress["step"] += self.steps_per_epoch
            self._not_finite(first + done)

    def _save_several(self, best):
        """Keep the state after the last whole epoch, and that of the best, until they are due."""
        if self._directory is None:
            return
        several, net = self._several, self.network
        if best is not None:
            e, progress = best
            self._unwritten["best"] = tensors_of(net, vectors=several.after(e)), progress
        theta, running, moments = several.last()
        self._unwritten["last"] = tensors_of(net, moments, vectors=(theta, running)), dict(self.progress)
        if self._due():
            self._write()

    # -- measurements ------------------------------------------------------------------------------------------------

    def _measures_sample(self, epoch):
        """Return whether metrics on training data are measured at the end of an epoch."""
        turn = (epoch - 1) % self._measure_every == 0 or epoch == self.settings.epochs
        return turn and bool(self.metrics)

    def _measure(self, epoch):
        """Measure metrics on training data, if it is their turn, and on the validation set."""
        found = self._measure_sample() if self._measures_sample(epoch) else {}
        if self.validation is None:
            return found
        return found | self._validated(self._measures.of(self._predict, self._held, self.network.dtype))

    def _measure_sample(self):
        """Measure metrics on the training data or on a sample, of which `metric_samples` is the size."""
        x, target = self._sampled or self.sample.take(slice(None), self.network.dtype)
        y = self._predict(x)
        found = {name: metric(y, target) for name, metric in self.metrics.items()}
        return found if self.sample is self.train else found | {"metric_samples": len(self.sample)}

    def _measure_outputs(self, outputs):
        """Measure outputs of the validation set, which is in memory."""
        return self._validated(
            self._measures.means((outputs[rows], self._held.y[rows]) for rows in parts(len(outputs)))
        )

    def _validated(self, found):
        """Name measurements on the validation set."""
        if "confusion" in found and self.schema.classes is not None:
            found["classes"] = list(self.schema.classes)
        return {f"val_{name}": value for name, value in found.items()}

    def _predict(self, x):
        y = np.empty((len(x), *self.network.output_shape), self.network.dtype)
        self.program.predict(self.program.state, np.ascontiguousarray(x, self.network.dtype), y)
        return y

    # -- the end of a run --------------------------------------------------------------------------------------------

    def _not_finite(self, epoch):
        raise DivergenceError(
            f"theta is not finite after step {self.progress['step']} (epoch {epoch}); choose a smaller learning rate"
        )

    def _diverged(self, epoch, before, taken):
        """Log the steps taken since step `before`, of which the last one diverged; say so."""
        rows, step = self._rows(int(self.program.state.counters[ROWS]) - taken, taken), before + taken
        record = self._record(epoch, step, rows[-1])
        self._log([*(self._record(epoch, before + k + 1, rows[k]) for k in self._to_log(before, taken - 1)), record])
        norms, most = record["gradient_norms"], self.program.largest_norm
        bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
        where = f"first in the gradient of {bad[-1]}" if bad else "in the loss"
        what = "the loss is not finite" if not math.isfinite(record["loss"]) else "a gradient is not finite"
        if math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"]):
            where = f"largest in the gradient of {max(norms, key=norms.get)}"
            what = f"the norm of the gradient is above {most:.1e}, and the squares that the optimizer keeps overflow"
        kept = ""
        if self._directory is not None:
            kept = f"; the last good checkpoint is {self._directory.path / 'last.safetensors'}"
        raise DivergenceError(
            f"{what} at step {step} (epoch {epoch}), {where}; a smaller learning rate or "
            f'clip="norm(max=1)" usually helps{kept}'
        )

    def _moments(self):
        S = self.network.theta.size
        return [self.program.state.moments[k * S : (k + 1) * S] for k in range(len(self.optimizer.moments))]

    def _save(self, best=False):
        """Write the state to disk if it is due or within an epoch; else keep a copy until it is due."""
        if self._directory is None:
            return
        within = self.progress["done"] > 0
        now = within or self._due()
        keep = (lambda arrays: arrays) if now else (lambda arrays: {name: a.copy() for name, a in arrays.items()})
        if best:
            self._unwritten["best"] = keep(tensors_of(self.network)), dict(self.progress)
        start = self._before if within else None
        self._unwritten["last"] = keep(tensors_of(self.network, self._moments(), start)), dict(self.progress)
        if now:
            self._write()

    def _due(self):
        return self._directory is not None and time.perf_counter() - self._written >= KEEP

    def _write(self):
        """Write checkpoints newer than their files; the best first: a resume from the former last writes it again."""
        for name in ("best", "last"):
            if self._directory is not None and name in self._unwritten:
                self._directory.checkpoint(name, self.network, *self._unwritten[name])
                del self._unwritten[name]
        self._written = time.perf_counter()

    def _data(self):
        """Return fingerprints of the data, to compare when the run is resumed."""
        parts = {"training": self.train, "validation": self.validation}
        return {name: None if split is None else split.fingerprint() for name, split in parts.items()}

    def _log(self, records):
        self.history.add(records)
        if self._directory is not None and records:
            self._directory.append(records)

    def _report(self, what, *details):
        if self.reporter is not None:
            getattr(self.reporter, what)(*details)


def run_and_draw(trainer: Trainer, directory: RunDirectory) -> History:
    """Train, and draw loss and gradient norms into the run directory, even if training diverges."""
    try:
        history = trainer.run(directory)
    except DivergenceError:
        _draw(directory.path, trainer.history)
        raise
    _draw(directory.path, history)
    return history


def _draw(path, history):
    from ..plots import picture  # for the start of processes that only predict
    from ..plots.run_log import RunLog

    # The records of the log; to read the log takes a quarter of the time of a run of very short epochs.
    log = RunLog(path, path.resolve().name, history.steps, history.epochs)
    for name in ("loss", "gradient_norms"):
        if picture(name).has_data(log):
            picture(name).draw([log], path / f"{name}.png")


def _same_data(part, former, now):
    """Raise DataError if the data of a run changed; `former` and `now` are fingerprints or None."""
    former, now = former or {"rows": 0}, now or {"rows": 0}
    changed = [key for key in former if former[key] != now.get(key)]
    if not changed:
        return
    what = {
        "rows": f"it has {now['rows']} rows, and had {former['rows']}",
        "samples": "the contents of its samples are not the same",
        "targets": "the contents of its labels or targets are not the same",
    }
    why = what.get(changed[0], f"its {changed[0]} is {now.get(changed[0])}, and was {former[changed[0]]}")
    raise DataError(f"the {part} data changed since the run began: {why}; start a new run, or bring the data back")
