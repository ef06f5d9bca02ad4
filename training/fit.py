"""The training loop: epochs of the compiled program, a log, checkpoints, and a way back from every interruption.

An epoch is one call of a compiled function where it is short; a long one is divided into calls of about `PAUSE` seconds
between which progress is shown, signals are handled and checkpoints are written. The division changes no bit of the
result. Checkpoints are written by time, every `KEEP` seconds; between two of them the state after the last whole epoch
and the best parameters wait in memory.
"""

import math
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..data.schema import Schema
from ..data.split import Split, check_channels, spread
from ..errors import DataError, DivergenceError, NnjitError, ShapeError, SpecError, UsageError
from ..network.memory import need
from ..network.network import MAX_SEED
from ..network.norms import lp_norm
from ..network.program import Program
from ..network.state import ROWS, SEED, STEP, STOP
from ..registry import layers as catalogue
from ..registry import losses, optimizers, schedules
from ..registry.annotations import checked
from . import metrics as metric_functions
from .clip import create as create_clip
from .losses import check_labels

PAUSE = 0.2  # seconds between two looks at signals and progress
KEEP = 4.0  # seconds from a checkpoint to the next; with a call of about PAUSE a kill loses less than 5 of training
IN_MEMORY = 2**30  # bytes up to which a data set is converted once instead of batch by batch
LOGGED = 2000  # step records of a run; with more steps, every k-th is logged
SAMPLE = 1000  # training samples, at most, on which the metrics are measured at the end of an epoch
CONFUSED = 30  # classes, at most, for which the confusion matrix is logged


@dataclass
class Settings:
    """How to train; the words are those of the config's [training]."""

    loss: object = "cross_entropy"
    optimizer: object = "adam(lr=1e-3)"
    schedule: object = "constant"
    clip: object = None
    epochs: int = 5
    batch_size: int = 32
    seed: int = 0
    norm: float = 2.0
    metrics: tuple = ()

    def __post_init__(self):
        self.epochs = checked("epochs", self.epochs, int, 1)
        self.batch_size = checked("batch_size", self.batch_size, int, 0)
        self.seed = checked("seed", self.seed, int, 0, MAX_SEED)
        self.norm = checked("norm", self.norm, float)


@dataclass
class History:
    """What happened: `steps` and `epochs` are the records of the log."""

    steps: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    interrupted: int | None = None  # the number of the signal that ended the run early

    def add(self, records):
        for record in records:
            (self.epochs if record.get("epoch_end") else self.steps).append(record)

    def column(self, name):
        """One number an epoch, such as "val_accuracy"; NaN where an epoch lacks it."""
        return np.array([record.get(name, math.nan) for record in self.epochs], dtype=float)


class Trainer:
    """Trains a network on splits; see `Settings`.

    Parameters
    ----------
    network : Network
    train, validation : Split, Split or None
    settings : Settings
    run : RunDirectory or None
        Where to log and save.
    reporter : object or None
        Told what happens: begin(trainer), progress(epoch, done, steps, loss), epoch(record), end(history).
    schema : Schema or None
        Names and scale of the samples, kept with the network; None: arrays without names.
    """

    def __init__(self, network, train, validation, settings, run=None, reporter=None, schema=None):
        self.network, self.settings = network, settings
        self.run_directory, self.reporter = run, reporter
        self.loss = losses.create(settings.loss)
        self.optimizer = optimizers.create(settings.optimizer)
        self.schedule = schedules.create(settings.schedule)
        self.metrics = dict.fromkeys(("accuracy",) if self.loss.classification else ()) | dict.fromkeys(
            settings.metrics
        )
        self.metrics = {name: metric_functions.get(name, self.loss) for name in self.metrics}
        self.batch_size = min(settings.batch_size or len(train), len(train))
        self.steps_per_epoch = -(-len(train) // self.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        self.schema = Schema.of(train) if schema is None else schema
        self.train, self.validation = _targets(train, network, self.loss), None
        if validation is not None:
            self.validation = self.schema.scaled(_targets(validation, network, self.loss))
        self.labels = self.train.y.ndim == 1
        _try_metrics(self.metrics, self.train, network)
        if validation is not None:
            _try_metrics(self.metrics, self.validation, network)
        # Rows are often sorted by class, so the first ones alone would say nothing.
        self.sample = self.train if len(train) <= SAMPLE else self.train.part(spread(len(train), SAMPLE))
        rates = self._rates()
        self.program = Program(
            network, self.loss, self.optimizer, self.batch_size, labels=self.labels, clip=create_clip(settings.clip),
            rates=rates, norm=settings.norm,
        )  # fmt: skip
        last = len(train) % self.batch_size
        if last:
            network.graph.warn_of_batches(last, f"the last batch ({last} of {len(train)} samples)")
        self.history = History()
        self.progress = {"epoch": 0, "step": 0, "done": 0, "loss_sum": 0.0, "best": None, "seconds": 0.0}
        self.progress |= {"epochs": settings.epochs, "batch_size": self.batch_size}
        self._before = network.theta.copy()
        self._unwritten = {}  # "best" and "last" -> tensors and progress that are newer than the file
        self._signal = None

    # -- the run -----------------------------------------------------------------------------------------------------

    def _rates(self):
        """The learning rate of every step, or of all where they are one."""
        steps = self.total if not isinstance(self.schedule, schedules.get("constant")) else 1
        need(4 * 8 * steps, f"epochs: the learning rates of {steps} steps")
        with np.errstate(all="ignore"):
            factors = np.asarray(self.schedule.factor(np.arange(steps), self.total, self.steps_per_epoch), float)
            rates = self.optimizer.lr * factors
        if factors.shape != (steps,) or not (np.isfinite(rates) & (rates >= 0)).all():
            name = schedules.name_of(type(self.schedule))
            raise SpecError(f"schedule: {name} must give a finite factor from 0 on for each of the {steps} steps")
        return rates

    def compile(self):
        """Compile the program, outside all timing."""
        self.program.compile()

    def record(self, path, config):
        """Log and save into a new run directory.

        Parameters
        ----------
        path : where; RunExists if there is something already
        config : str
            The resolved config, TOML.
        """
        from .run_directory import RunDirectory

        self.progress["data"] = self._data()
        self.run_directory = RunDirectory.create(path, config, self.network, self.program.source, self.progress)

    def check(self, progress):
        """Refuse to continue a checkpoint as another training than it was.

        Raises
        ------
        DataError : the data changed; says what of it.
        UsageError : the batch size changed, or the learning rates of the steps that are done would have been others.
        """
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

    def resume(self, tensors, progress):
        """Continue from a checkpoint's tensors and progress; the log is cut off behind it."""
        from .checkpoint import fill

        fill(self.network, tensors, "checkpoint")
        self.progress = {**progress, "epochs": self.settings.epochs, "batch_size": self.batch_size}
        moments = self._moments()
        for k, moment in enumerate(moments):
            moment[:] = tensors.get(f"moment:{k}", 0)
        if self.run_directory is not None:
            self.history.add(self.run_directory.rewind(self.progress["step"], self.progress["epoch"]))
        self._before = tensors.get("epoch:theta", self.network.theta).copy()

    def run(self):
        """Train to the last epoch, or until a signal; returns the History, which names the signal.

        Raises
        ------
        DivergenceError : the loss or a gradient is NaN or infinite; says the step and the layer.
        """
        if not hasattr(self.program, "epoch"):
            self.compile()
        self.network.trained_on = self.schema.after(self.network.trained_on)
        state = self.program.state
        state.counters[STEP], state.counters[SEED] = self.progress["step"], self.settings.seed
        state.counters[STOP] = 0
        self._load()
        self._written = time.perf_counter()
        self._began = self._written - self.progress["seconds"]
        self._tell("begin", self)
        with _Listening(self), self.program.hold():
            try:
                while self.progress["epoch"] < self.settings.epochs and self._signal is None:
                    self._epoch()
                self._write()
            except Exception:  # a divergence above all; a second signal ends at once
                self._write()
                raise
            finally:
                if self.run_directory is not None:
                    self.run_directory.close()
        self.history.interrupted = self._signal
        self._tell("end", self.history)
        return self.history

    def _load(self):
        """Data that fits is converted once; a GPU keeps it or streams it, so it gets all, converted as it is read."""
        self._x = self._y = None
        if self.network.device == "cuda":
            self._x, self._y = self.train.converted(self.network.dtype)
        elif self.train.nbytes(self.network.dtype) <= IN_MEMORY:
            self._x, self._y = self.train.take(slice(None), self.network.dtype)

    def _epoch(self):
        epoch, N = self.progress["epoch"] + 1, len(self.train)
        # Keyed by seed and epoch, so a resumed epoch goes through the samples in the same order.
        order = np.random.Generator(np.random.Philox(key=[self.settings.seed, epoch])).permutation(N)
        if self.batch_size == N:
            order = np.arange(N)
        if self.progress["done"] == 0:
            self._before = self.network.theta.copy()
        steps = 1
        while self.progress["done"] < self.steps_per_epoch and self._signal is None:
            begin = self.progress["done"]
            steps = min(steps, self.steps_per_epoch - begin, 1000)
            began = time.perf_counter()
            self._steps(epoch, order[begin * self.batch_size : (begin + steps) * self.batch_size], steps)
            took = time.perf_counter() - began
            steps = max(1, int(steps * min(PAUSE / max(took, 1e-6), 16)))
            if self.progress["done"] < self.steps_per_epoch and self._due():
                self.program.fetch()
                self._save()
        self.program.fetch()
        if self.progress["done"] < self.steps_per_epoch:
            return self._save()
        self._finish(epoch)

    def _steps(self, epoch, order, steps):
        """Some steps by the compiled program, and their records."""
        program, state, before = self.program, self.program.state, self.progress["step"]
        if self._x is None:
            x, y = self.train.take(order, self.network.dtype)
            order = np.arange(len(order))
        else:
            x, y = self._x, self._y
        row = int(state.counters[ROWS])
        program.epoch(state, x, y, order)
        if state.counters[STOP]:
            self._diverged(epoch, before + int(state.counters[ROWS]) - row)
        self.progress["step"] += steps
        self.progress["done"] += steps
        for k in range(steps):  # step by step, or the bits would depend on how many are taken at once
            samples = min(self.batch_size, len(order) - k * self.batch_size)
            self.progress["loss_sum"] += self._logged(row + k) * samples
        self.progress["seconds"] = time.perf_counter() - self._began
        every = max(1, -(-self.total // LOGGED))
        records = [
            self._record(epoch, before + k + 1, row + k) for k in range(steps) if (before + k) % every == 0
        ]  # fmt: skip
        self._log(records)
        self._tell("progress", epoch, self.progress["done"], self.steps_per_epoch, self._logged(row + steps - 1))

    def _logged(self, row):
        """The loss in a row of the program's log."""
        plan = self.program.plan
        return float(self.program.state.log[(row % plan.log_rows) * plan.log_width])

    def _record(self, epoch, step, row):
        plan, log = self.program.plan, self.program.state.log
        at = (row % plan.log_rows) * plan.log_width
        loss, rate, total, *layers = log[at : at + plan.log_width].tolist()
        return {
            "epoch": epoch, "step": step, "seconds": round(self.progress["seconds"], 4), "loss": loss, "lr": rate,
            "gradient_norm": total, "gradient_norms": dict(zip(self.program.layer_names, layers, strict=True)),
        }  # fmt: skip

    def _finish(self, epoch):
        """The end of an epoch: validation, its record, checkpoints."""
        if not np.isfinite(self.network.theta).all():  # no loss of this epoch has seen it
            raise DivergenceError(
                f"theta is not finite after step {self.progress['step']} (epoch {epoch}); choose a smaller learning"
                " rate"
            )
        record = self._record(epoch, self.progress["step"], int(self.program.state.counters[ROWS]) - 1)
        record["loss"] = self.progress["loss_sum"] / len(self.train)
        record |= self._measure_sample()
        if self.validation is not None:
            record |= self._validate()
        record["update_ratios"] = self._update_ratios()
        record["seconds"] = round(time.perf_counter() - self._began, 4)
        record["epoch_end"] = True
        measured = record.get("val_loss", record["loss"])
        best = math.isfinite(measured) and (self.progress["best"] is None or measured < self.progress["best"])
        self.progress |= {"epoch": epoch, "done": 0, "loss_sum": 0.0, "seconds": record["seconds"]}
        if best:
            self.progress["best"] = measured
        self._log([record])
        self._save(best)
        self._tell("epoch", record)

    def _measure_sample(self):
        """The metrics on the training data, or on a sample; `metric_samples` is then how many samples that has."""
        if not self.metrics:
            return {}
        x, target = self.sample.take(slice(None), self.network.dtype)
        y = self._predict(x)
        found = {name: metric(y, target) for name, metric in self.metrics.items()}
        return found if self.sample is self.train else found | {"metric_samples": len(self.sample)}

    def _validate(self):
        """Loss and metrics on the validation set, streamed."""
        found = _measure(self._predict, self.validation, self.loss, self.metrics, self.network)
        if "confusion" in found and self.schema.classes is not None:
            found["classes"] = list(self.schema.classes)
        return {f"val_{name}": value for name, value in found.items()}

    def _predict(self, x):
        y = np.empty((len(x), *self.network.output_shape), self.network.dtype)
        self.program.predict(self.program.state, np.ascontiguousarray(x, self.network.dtype), y)
        return y

    def _update_ratios(self):
        """||theta_end - theta_start|| / ||theta_start|| of every layer over the epoch."""
        ratios = {}
        for name, lo, hi in self.program.plan.segments:
            start, end = self._before[lo:hi].astype(float), self.network.theta[lo:hi]
            size = lp_norm(start)  # not NumPy's: BLAS has threads, which a fork may freeze
            ratios[name] = lp_norm(end - start) / size if size else None
        return ratios

    def _diverged(self, epoch, step):
        state = self.program.state
        record = self._record(epoch, step, int(state.counters[ROWS]) - 1)
        self._log([record])
        norms, most = record["gradient_norms"], self.program.largest_norm
        bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
        where = f"first in the gradient of {bad[-1]}" if bad else "in the loss"
        what = "the loss is not finite" if not math.isfinite(record["loss"]) else "a gradient is not finite"
        if math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"]):
            where = f"largest in the gradient of {max(norms, key=norms.get)}"
            what = f"the norm of the gradient is above {most:.1e}, and the squares that the optimizer keeps overflow"
        kept = ""
        if self.run_directory is not None:
            kept = f"; the last good checkpoint is {self.run_directory.path / 'last.safetensors'}"
        raise DivergenceError(
            f"{what} at step {step} (epoch {epoch}), {where}; a smaller learning rate or "
            f'clip="norm(max=1)" usually helps{kept}'
        )

    def _moments(self):
        S = self.network.theta.size
        return [self.program.state.moments[k * S : (k + 1) * S] for k in range(len(self.optimizer.moments))]

    def _save(self, best=False):
        """Write the state to disk where it is time or an epoch is not over; else keep a copy until it is time."""
        if self.run_directory is None:
            return
        from .checkpoint import tensors_of

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
        return self.run_directory is not None and time.perf_counter() - self._written >= KEEP

    def _write(self):
        """Write what is newer than the files; the best first, since a resume from the former last finds it again."""
        for name in ("best", "last"):
            if name in self._unwritten:
                self.run_directory.checkpoint(name, self.network, *self._unwritten[name])
                del self._unwritten[name]
        self._written = time.perf_counter()

    def _data(self):
        """Fingerprints of the data, to compare when the run is resumed."""
        parts = {"training": self.train, "validation": self.validation}
        return {name: None if split is None else split.fingerprint() for name, split in parts.items()}

    def _log(self, records):
        self.history.add(records)
        if self.run_directory is not None and records:
            self.run_directory.append(records)

    def _tell(self, what, *details):
        if self.reporter is not None:
            getattr(self.reporter, what)(*details)


class _Listening:
    """SIGINT, SIGTERM and SIGHUP set a flag; the first one puts the former handlers back, which get a second signal.

    Only in the main thread, where Python allows it. A signal that is ignored (nohup) stays ignored.
    """

    def __init__(self, trainer):
        self.trainer, self.former = trainer, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # None: a handler that is not Python's, which could not be put back.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.former[number] = signal.signal(number, self.hear)

    def hear(self, number, frame):
        self.trainer._signal = number
        self.__exit__()

    def __exit__(self, *error):
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}


def fit(net, x, y, loss="cross_entropy", optimizer="adam(lr=1e-3)", schedule="constant", clip=None, epochs=5,
        batch_size=64, validation=None, seed=0, norm=2.0, metrics=(), output=None):  # fmt: skip
    """Train a network on arrays.

    Parameters
    ----------
    net : Network
    x : array (N, *input_shape)
    y : array
        Class numbers (N,), or values of the output's shape (N, *output_shape).
    loss, optimizer, schedule, clip : specs
    epochs, batch_size : int
        batch_size 0: the whole set, the lecture's gradient descent.
    validation : (x, y) or None
    seed : int
        Of the order of the samples and of dropout.
    norm : float
        The p of the logged gradient norms.
    metrics : names of `training.metrics`
        On the training data they are measured on at most 1000 samples, spread evenly over it.
    output : path or None
        A run directory to make: log, checkpoints and pictures; None writes nothing.

    Returns
    -------
    History

    Raises
    ------
    ShapeError, SpecError, DivergenceError, RunExists
    KeyboardInterrupt
        After Ctrl-C.

    Notes
    -----
    SIGINT (Ctrl-C), SIGTERM and SIGHUP end the training after the step at hand: the checkpoint and the pictures are
    written where there is an `output`, and then the signal goes to the handler that was there before, as if it had come
    just then. So Ctrl-C raises KeyboardInterrupt, SIGTERM and SIGHUP end the process unless the caller has a handler of
    his own; where that returns, so does `fit`, and `History.interrupted` is the signal's number. A second signal goes
    to the former handler at once. An ignored signal stays ignored. In any other thread than the main one Python allows
    no handlers: signals then do not end `fit`.
    """
    settings = Settings(loss, optimizer, schedule, clip, epochs, batch_size, seed, norm, _names(metrics))
    held = None if validation is None else Split(*validation, name="validation")
    trainer = Trainer(net, Split(x, y, name="x, y"), held, settings)
    if output is not None:
        from .config import of_fit

        trainer.record(output, of_fit(net, settings))
    history = trainer.run() if output is None else run_and_draw(trainer)
    if history.interrupted is not None:
        signal.raise_signal(history.interrupted)
    return history


def run_and_draw(trainer):
    """Train, and draw loss and gradient norms into the run directory, also when training diverged."""
    try:
        history = trainer.run()
    except DivergenceError:
        _draw(trainer.run_directory.path)
        raise
    _draw(trainer.run_directory.path)
    return history


def _draw(path):
    from ..plots import picture  # matplotlib waits until something is drawn
    from ..plots.run_log import read

    log = read(path)
    for name in ("loss", "gradient_norms"):
        if picture(name).has_data(log):
            picture(name).draw([log], path / f"{name}.png")


def evaluate(net, x, y, loss=None, metrics=None):
    """Mean loss (with a `loss` spec) and metrics of a network on arrays.

    Parameters
    ----------
    net : Network
    x : array (N, *input_shape)
    y : array
        Class numbers (N,), or values of the output's shape (N, *output_shape).
    loss : spec or None
    metrics : names of `training.metrics`, or None
        None: accuracy where y holds class numbers or the loss is one of classification.

    Returns
    -------
    dict : "loss" and each metric's name -> float

    Raises
    ------
    ShapeError
    SpecError : there is nothing to measure.
    """
    return evaluate_split(net, Split(x, y, name="x, y"), loss, metrics)


def evaluate_split(net, split, loss=None, metrics=None):
    """`evaluate` on a Split, a part at a time."""
    made = losses.create(loss) if loss is not None else None
    split = _targets(split, net, made)
    if net.trained_on is not None:
        split = net.trained_on.scaled(split)
    classes = split.y.ndim == 1 or (made is not None and made.classification)
    names = (("accuracy",) if classes else ()) if metrics is None else _names(metrics)
    functions = {name: metric_functions.get(name, made) for name in names}
    if made is None and not functions:
        why = "" if classes else " (the targets are values, not class numbers, so accuracy would mean nothing)"
        raise SpecError(f'there is nothing to measure{why}; give a loss, such as "mse", or metrics, such as "l2"')
    _try_metrics(functions, split, net)
    found = _measure(net._apply, split, made, functions, net)
    return {name: value for name, value in found.items() if name not in ("confusion",)}


def _measure(predict, split, loss, metrics, network, rows=4096):
    """Means over a split of the loss and the metrics, and the confusion matrix of a classifier."""
    sums, confusion = {}, None
    outputs = network.output_shape
    for begin in range(0, len(split), rows):
        x, target = split.take(slice(begin, min(begin + rows, len(split))), network.dtype)
        y = predict(x)
        found = {"loss": _mean_loss(loss, y, target)} if loss is not None else {}
        found |= {name: f(y, target) for name, f in metrics.items()}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value * len(x)
        one_class = loss is not None and loss.classification and (outputs == (1,) or not loss.independent)
        if one_class and len(outputs) == 1 and outputs[0] <= CONFUSED:
            part = metric_functions.confusion_matrix(y, target)
            confusion = part if confusion is None else confusion + part
    means = {name: value / len(split) for name, value in sums.items()}
    return means if confusion is None else means | {"confusion": confusion.tolist()}


def _mean_loss(loss, y, target):
    """The loss by its reference kernel, in float64."""
    from ..kernels.operations import Operation

    kernel = (
        loss.forward_labels if target.ndim == 1 and y.ndim > 1 and loss.forward_labels is not None else loss.forward
    )
    function = kernel.on("reference") if isinstance(kernel, Operation) else kernel.function
    values = {"y": y.astype(float), "target": target if target.dtype.kind == "i" else target.astype(float)}
    values |= {"loss": np.zeros(len(y)), **loss.options()}
    function(**{name: values[name] for name in kernel.arguments})
    return float(values["loss"].mean())


def _targets(split, network, loss):
    """Return the split with targets as the loss takes them; raise where they do not fit the network and the loss."""
    first = catalogue.name_of(type(network.layers[0])) if network.layers else "reshape"
    if first not in ("flatten", "reshape", "dense"):  # to those the place of the channels makes no difference
        check_channels(split.input_shape, split.name)
    if tuple(split.input_shape) != network.input_shape:
        raise ShapeError(
            f"{split.name}: samples have shape {tuple(split.input_shape)}, the network takes {network.input_shape}"
        )
    try:
        if loss is None:
            if split.y.ndim == 1:
                check_labels(split.y, network.output_shape[0])
            return split
        loss.validate_shape(network.output_shape)
        return split.changed(y=loss.targets(split.y, network.output_shape))
    except (ShapeError, DataError) as error:
        raise type(error)(f"{split.name}: {error}") from None


def _names(metrics):
    """Names of metrics as a tuple; a single text would be taken letter by letter."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise SpecError(f'metrics: expected a list of names, such as ["accuracy"], got {metrics!r}')
    return tuple(metrics)


def _try_metrics(functions, split, network):
    """Refuse a metric that does not fit the outputs and targets, by trying it on two samples before any training."""
    _, target = split.take(slice(0, 2), network.dtype)
    for name, metric in functions.items():
        try:
            metric(np.zeros((len(target), *network.output_shape), network.dtype), target)
        except NnjitError as error:
            raise SpecError(f"metrics: {name} cannot be measured on {split.name}: {error}") from None


def _same_data(part, former, now):
    """DataError where the data of a run is not what it was; `former` and `now` are fingerprints or None."""
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
