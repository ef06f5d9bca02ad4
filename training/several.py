"""Short epochs in a row: between two of them numbers are only measured and copied; records follow for all of them."""

import inspect
import time
from math import prod
from types import FunctionType
from typing import Any

import numpy as np
from numba import typeof
from numpy.typing import NDArray

from ..kernels.compiler.cache import digest
from ..kernels.compiler.lock import once
from ..kernels.compiler.machine_code import compiled
from ..kernels.counters import ROWS, STOP
from .changes import update_ratios
from .divergence import not_finite
from .measure import PART, InMemory

KEPT = 2**21  # most bytes of theta and of log rows that are kept: the second-level cache of two cores


class Several:
    """Epochs that a trainer runs in a row, and what their records are made of.

    Attributes
    ----------
    most : int
        Most epochs in a row.
    logs : (epochs, steps, width)
        Rows of the program's log.
    seconds, measured : list
        The time at the end of each epoch, by `time.perf_counter`, and its metrics.
    stopped : int
        Steps in the epoch that diverged, the last one included; 0 if none did.
    finite : bool
        False: theta was not finite after an epoch, which is not counted.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.program, self.state = trainer, trainer.program, trainer.program.state
        state, steps = self.state, trainer.steps_per_epoch
        self._ring = trainer._log.ring
        width = self._ring.shape[1]
        held, dtype, shape = trainer.metrics.held, state.theta.dtype, trainer.network.output_shape
        # Outputs of the validation set after every epoch of a compiled call, if there is one in memory.
        self._held = held.x if isinstance(held, InMemory) else np.empty((0, *trainer.network.input_shape), dtype)
        size = max(state.theta.nbytes, state.buffers.nbytes, 8 * steps * width, 8 * len(self._held) * prod(shape))
        self.most = max(1, KEPT // size)
        self._outputs = np.empty((self.most, len(self._held), *shape), dtype)
        self._thetas = np.empty((self.most + 1, state.theta.size), state.theta.dtype)
        self._buffers = np.empty((self.most, state.buffers.size), state.buffers.dtype)
        self._moments = np.empty_like(state.moments)
        self.logs: NDArray[np.float64] = np.empty((self.most, steps, width))
        self.seconds: list[float] = []
        self.measured: list[dict[str, Any]] = []
        self.stopped, self.finite = 0, True

    @property
    def in_one_call(self) -> bool:
        """True if a compiled call runs all epochs of a row."""
        return self.trainer._orders.many and (self.trainer.validation is None or len(self._held) > 0)

    def compile(self) -> None:
        """Compile what runs a row; otherwise its first call does it."""
        if self.in_one_call and self.most > 1:
            functions: list[Any] = [self.program.epoch, *([self.program.predict] if len(self._held) else [])]
            for function in functions:
                _ = function.dispatcher
            _ = self._driver

    def train(self, epochs: int, limit: float) -> float:
        """Run epochs, until a signal or for about `limit` seconds, then record them; return the seconds they ran."""
        trainer, progress = self.trainer, self.trainer.progress
        first, before = progress["epoch"] + 1, progress["step"]
        began = time.perf_counter()
        done = self.run(first, epochs, limit)
        took = time.perf_counter() - began
        records, best = [], None
        for e, (ratios, loss) in enumerate(zip(self.ratios(done), self.losses(done), strict=True)):
            seconds, rows = self.seconds[e] - trainer._began, self.logs[e]
            records += trainer._log.records(first + e, before, seconds, rows)
            before += len(rows)
            progress["step"] = before
            record = trainer._log.record(first + e, before, seconds, rows[-1])
            record["loss"] = loss / len(trainer.train)
            record |= self.measured[e]
            record["update_ratios"] = ratios
            if trainer._ended(record, seconds):
                best = e, dict(progress)
            records.append(record)
        trainer._add(records)
        if done:
            self._keep_checkpoints(best)
        for record in records:
            if record.get("epoch_end"):
                rows = self.logs[record["epoch"] - first]
                trainer._report("progress", record["epoch"], len(rows), len(rows), float(rows[-1, 0]))
                trainer._report("epoch", record)
        if self.stopped:
            trainer._diverged(first + done, before, self.stopped)
        if not self.finite:
            progress["step"] += trainer.steps_per_epoch
            raise not_finite(progress["step"], first + done)
        return took

    def _keep_checkpoints(self, best):
        """Keep the state after the last whole epoch, and that of the best, (epoch, progress), until they are due."""
        checkpoints = self.trainer._checkpoints
        if best is not None and checkpoints.keeps("best"):
            e, progress = best
            checkpoints.keep("best", progress, self.after(e))
        if checkpoints.keeps("last"):
            theta, buffers, moments = self.last()
            checkpoints.keep("last", self.trainer.progress, (theta, buffers), moments)
        if checkpoints.due():
            checkpoints.write()

    def run(self, first: int, epochs: int, limit: float) -> int:
        """Run epochs from `first` on, until a signal or for about `limit` seconds; return the number of whole ones."""
        trainer, state, epoch = self.trainer, self.state, self.program.epoch
        theta, counters = state.theta, state.counters
        if self.in_one_call:
            # The last of these epochs may be one with which metrics on training data are measured.
            epochs = next((e + 1 for e in range(epochs) if trainer.metrics.has_turn(first + e)), epochs)
        orders = trainer._orders.several(first, epochs)
        if self.in_one_call:
            return self._run_compiled(first, orders)
        self.seconds, self.measured, self._thetas[0] = [], [], theta
        end = time.perf_counter() + limit
        for e, order in enumerate(orders):
            row = int(counters[ROWS])
            epoch(state, trainer._x, trainer._y, order, *trainer._weights)
            if counters[STOP]:
                self.stopped = int(counters[ROWS]) - row
                return e
            if not np.isfinite(theta).all():
                self.finite = False
                return e
            self._keep_log(e, row % len(self._ring))
            self.measured.append(trainer.metrics.measure(first + e))
            self._thetas[e + 1], self._buffers[e], self._moments[:] = theta, state.buffers, state.moments
            self.seconds.append(time.perf_counter())
            if trainer._signal is not None or self.seconds[-1] > end:
                return e + 1
        return len(orders)

    def _run_compiled(self, first, orders):
        """Run epochs in one compiled call, then measure."""
        trainer = self.trainer
        began, row = time.perf_counter(), int(self.state.counters[ROWS])
        self._thetas[0] = self.state.theta
        done = self._driver(*self._arguments(orders))
        each = (time.perf_counter() - began) / len(orders)
        self.seconds = [began + each * (e + 1) for e in range(done)]
        self.measured = [{} for _ in range(done)]
        if done == len(orders) and trainer.metrics.has_turn(first + done - 1):
            self.measured[-1] |= trainer.metrics.measure_sample()
        if trainer.validation is not None:
            found = trainer.metrics.measure_outputs(self._outputs[:done])
            self.measured = [measured | held for measured, held in zip(self.measured, found, strict=True)]
        if done < len(orders):
            self.finite = bool(self.state.counters[STOP])
            self.stopped = int(self.state.counters[ROWS]) - row - done * self.logs.shape[1] if self.finite else 0
        return done

    def _arguments(self, orders):
        """Return the arguments of `run_epochs`."""
        trainer, kept = self.trainer, (self._ring, self.logs, self._thetas, self._buffers, self._moments)
        predict = self.program.predict if len(self._held) else None
        work = self.state, trainer._x, trainer._y, trainer._weights, orders, predict, self._held, self._outputs
        return self.program.epoch, *work, *kept

    @once
    def _driver(self):
        """Return `run_epochs`, compiled for programs of this kind."""
        orders = np.empty((1, 1), np.intp)
        signature = tuple(map(typeof, self._arguments(orders)))
        driver = FunctionType(run_epochs.__code__, globals())  # `compiled` names it by what it is compiled for
        driver.__name__ = driver.__qualname__ = "run_epochs_" + digest(
            inspect.getsource(run_epochs), ROWS, STOP, PART, *signature, *(kind.key for kind in signature)
        )
        return compiled(driver, signature, no_cfunc_wrapper=True)

    def _keep_log(self, e, first):
        """Copy the rows of an epoch from a place of the program's log on, whose rows follow each other in a ring."""
        rows, ring = self.logs[e], self._ring
        count, some = len(rows), len(ring) - first
        rows[:some] = ring[first : first + count]
        if some < count:
            rows[some:] = ring[: count - some]

    def losses(self, done: int) -> list[float]:
        """Return the sum of the loss over all samples for every epoch."""
        trainer = self.trainer
        samples = trainer._samples(len(trainer.train), trainer.steps_per_epoch)
        return np.cumsum(self.logs[:done, :, 0] * samples, axis=1)[:, -1].tolist()  # step by step, as in `_steps`

    def ratios(self, done: int) -> list[dict[str, float | None]]:
        """Return the update ratios of every epoch."""
        starts, ends = self._thetas[:done], self._thetas[1 : done + 1]
        return update_ratios(starts, ends, self.program.plan.log.segments)

    def after(self, e: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return copies of theta and of the buffers after an epoch."""
        return self._thetas[e + 1].copy(), self._buffers[e].copy()

    def last(self) -> tuple[NDArray[Any], NDArray[Any], list[NDArray[Any]]]:
        """Return copies of theta, of the buffers and of the moments after the last whole epoch."""
        S, moments = self.state.theta.size, self._moments.copy()
        e = len(self.seconds) - 1
        return *self.after(e), [moments[k * S : (k + 1) * S] for k in range(moments.size // S)]


def run_epochs(epoch, state, x, y, weights, orders, predict, held, outputs, ring, logs, thetas, buffers, moments):
    """Run an epoch on each order; keep its log, what it learned and, if there is `predict`, the outputs of `held`.

    Return the number of whole, finite epochs.
    """
    for e in range(orders.shape[0]):
        first = state.counters[ROWS] % ring.shape[0]
        epoch(state, x, y, orders[e], *weights)
        if state.counters[STOP]:
            return e
        for i in range(state.theta.size):
            if not np.isfinite(state.theta[i]):
                return e
        for k in range(logs.shape[1]):
            for i in range(logs.shape[2]):
                logs[e, k, i] = ring[(first + k) % ring.shape[0], i]
        for i in range(state.theta.size):
            thetas[e + 1, i] = state.theta[i]
        for i in range(state.buffers.size):
            buffers[e, i] = state.buffers[i]
        for i in range(state.moments.size):
            moments[i] = state.moments[i]
        if predict is not None:
            for n in range(0, held.shape[0], PART):
                predict(state, held[n : n + PART], outputs[e, n : n + PART])
    return orders.shape[0]
