"""The training loop: epochs of the compiled program, a log, checkpoints, and a way back from every interruption.

An epoch is one call of a compiled function where it is short; a long one is divided into calls of about `PAUSE` seconds
between which progress is shown and signals are heard. The division changes no bit of the result.
"""

import math
import signal
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from ..data.split import Split
from ..errors import DivergenceError, ShapeError, SpecError
from ..network.program import ROWS, SEED, STEP, STOP, Program
from ..registry import losses, optimizers, schedules
from . import metrics as metric_functions
from .clip import create as create_clip

PAUSE = 0.2  # seconds between two looks at signals and progress
IN_MEMORY = 2**30  # bytes up to which a data set is converted once instead of batch by batch
LOGGED = 2000  # step records of a run; with more steps, every k-th is logged
SAMPLE = 1000  # training samples, at most, whose accuracy is measured at the end of an epoch
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


@dataclass
class History:
    """What happened: `steps` and `epochs` are the records of the log."""

    steps: list = field(default_factory=list)
    epochs: list = field(default_factory=list)
    interrupted: int | None = None  # the signal that ended the run early

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
    """

    def __init__(self, network, train, validation, settings, run=None, reporter=None):
        self.network, self.train, self.validation, self.settings = network, train, validation, settings
        self.run_directory, self.reporter = run, reporter
        self.loss = losses.create(settings.loss)
        self.optimizer = optimizers.create(settings.optimizer)
        self.schedule = schedules.create(settings.schedule)
        self.metrics = dict.fromkeys(("accuracy",) if self.loss.classification else ()) | dict.fromkeys(
            settings.metrics
        )
        self.metrics = {name: metric_functions.get(name) for name in self.metrics}
        _whole("epochs", settings.epochs, 1)
        _whole("batch_size", settings.batch_size, 0)
        _whole("seed", settings.seed, 0, 2**31 - 1)
        self.batch_size = min(settings.batch_size or len(train), len(train))
        self.steps_per_epoch = -(-len(train) // self.batch_size)
        self.total = self.steps_per_epoch * settings.epochs
        self.labels = _targets(train, network, self.loss)
        if validation is not None:
            _targets(validation, network, self.loss)
        steps = np.arange(self.total if not isinstance(self.schedule, schedules.get("constant")) else 1)
        rates = self.optimizer.lr * self.schedule.factor(steps, self.total, self.steps_per_epoch)
        self.program = Program(
            network, self.loss, self.optimizer, self.batch_size, labels=self.labels, clip=create_clip(settings.clip),
            rates=rates, norm=settings.norm,
        )  # fmt: skip
        self.history = History()
        self.progress = {"epoch": 0, "step": 0, "done": 0, "loss_sum": 0.0, "best": None, "seconds": 0.0}
        self._before = network.theta.copy()
        self._signal = None

    # -- the run -----------------------------------------------------------------------------------------------------

    def compile(self):
        """Compile the program, outside all timing."""
        self.program.compile()

    def resume(self, tensors, progress):
        """Continue from a checkpoint's tensors and progress; the log is cut off behind it."""
        from .checkpoint import fill

        fill(self.network, tensors, "checkpoint")
        self.progress = dict(progress)
        moments = self._moments()
        for k, moment in enumerate(moments):
            moment[:] = tensors.get(f"moment:{k}", 0)
        if self.run_directory is not None:
            self.history.add(self.run_directory.rewind(self.progress["step"], self.progress["epoch"]))
        self._before = self.network.theta.copy()

    def run(self):
        """Train to the last epoch, or until a signal; returns the History.

        Raises
        ------
        DivergenceError : the loss or a gradient is NaN or infinite; says the step and the layer.
        """
        if not hasattr(self.program, "epoch"):
            self.compile()
        state = self.program.state
        state.counters[STEP], state.counters[SEED] = self.progress["step"], self.settings.seed
        state.counters[STOP] = 0
        self._load()
        self._began = time.perf_counter() - self.progress["seconds"]
        self._tell("begin", self)
        with _Listening(self), self.program.hold():
            try:
                while self.progress["epoch"] < self.settings.epochs and self._signal is None:
                    self._epoch()
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
        self.program.fetch()
        if self.progress["done"] < self.steps_per_epoch:
            return self._save(best=False)
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
        record = self._record(epoch, self.progress["step"], int(self.program.state.counters[ROWS]) - 1)
        record["loss"] = self.progress["loss_sum"] / len(self.train)
        some = self.train.take(slice(0, min(len(self.train), SAMPLE)), self.network.dtype)
        record |= {name: f(self._predict(some[0]), some[1]) for name, f in self.metrics.items()}
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

    def _validate(self):
        """Loss and metrics on the validation set, streamed."""
        found = _measure(self._predict, self.validation, self.loss, self.metrics, self.network)
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
            size = np.linalg.norm(start)
            ratios[name] = float(np.linalg.norm(end - start) / size) if size else None
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

    def _save(self, best):
        if self.run_directory is not None:
            self.run_directory.checkpoint(self.network, self._moments(), dict(self.progress), best)

    def _log(self, records):
        self.history.add(records)
        if self.run_directory is not None and records:
            self.run_directory.append(records)

    def _tell(self, what, *details):
        if self.reporter is not None:
            getattr(self.reporter, what)(*details)


class _Listening:
    """SIGINT and SIGTERM set a flag; a second signal ends at once. Only in the main thread, where Python allows it."""

    def __init__(self, trainer):
        self.trainer, self.former = trainer, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.former[number] = signal.signal(number, self.hear)

    def hear(self, number, frame):
        self.trainer._signal = number
        for known in self.former:
            signal.signal(known, signal.SIG_DFL)

    def __exit__(self, *error):
        for number, handler in self.former.items():
            signal.signal(number, handler)


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
    output : path or None
        A run directory to make: log, checkpoints and pictures; None writes nothing.

    Returns
    -------
    History

    Raises
    ------
    ShapeError, SpecError, DivergenceError, RunExists
    """
    settings = Settings(loss, optimizer, schedule, clip, epochs, batch_size, seed, norm, tuple(metrics))
    held = None if validation is None else Split(*validation, name="validation")
    trainer = Trainer(net, Split(x, y, name="x, y"), held, settings)
    if output is None:
        return trainer.run()
    from .config import of_fit
    from .run_directory import RunDirectory

    config = of_fit(net, settings)
    trainer.run_directory = RunDirectory.create(output, config, net, trainer.program.source, trainer.progress)
    return run_and_draw(trainer)


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


def evaluate(net, x, y, loss=None, metrics=("accuracy",)):
    """Mean loss (with a `loss` spec) and metrics of a network on arrays.

    Returns
    -------
    dict : "loss" and each metric's name -> float
    """
    return evaluate_split(net, Split(x, y, name="x, y"), loss, metrics)


def evaluate_split(net, split, loss=None, metrics=("accuracy",)):
    """`evaluate` on a Split, a part at a time."""
    made = losses.create(loss) if loss is not None else None
    if made is not None:
        _targets(split, net, made)
    functions = {name: metric_functions.get(name) for name in metrics}
    found = _measure(net.predict, split, made, functions, net)
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
        if loss is not None and loss.classification and len(outputs) == 1 and outputs[0] <= CONFUSED:
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
    """Whether the targets are class numbers; ShapeError where samples or targets do not fit the network and loss."""
    name = losses.name_of(type(loss))
    if tuple(split.input_shape) != network.input_shape:
        raise ShapeError(
            f"{split.name}: samples have shape {tuple(split.input_shape)}, the network takes {network.input_shape}"
        )
    loss.validate_shape(network.output_shape)
    y = split.y
    if y.dtype.kind in "iu" and y.ndim == 1 and loss.forward_labels is not None:
        if y.max() >= network.output_shape[0]:
            raise ShapeError(f"{split.name}: label {y.max()}, but the network has {network.output_shape[0]} outputs")
        return True
    if y.shape[1:] != network.output_shape:
        raise ShapeError(
            f"{split.name}: {name} takes targets of the output's shape {network.output_shape}"
            f"{' or class numbers' if loss.forward_labels is not None else ''},"
            f" got {f'{y.shape[1:]} of' if y.ndim > 1 else 'one number a sample,'} {y.dtype}"
        )
    return False


def _whole(name, value, low, high=None):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low or (high and value > high):
        upper = f" to {high}" if high else ""
        raise SpecError(f"{name}: expected a whole number from {low}{upper}, got {value!r}")
