"""The program on CUDA: its launches, called like the compiled functions.

The text is traced once (device_trace.py), and then only the traced launches run. The launches for a batch of N samples
are a `Sequence`, captured as a CUDA graph if possible; a step is one call of it, and the host neither waits nor copies
between the steps of an epoch.

Between calls the arrays of `State` in host memory are the current ones: a call copies them in and the results out
(device_arrays.py). Within `on_device` those on the device are, and `download` copies them out.
"""

from contextlib import contextmanager

import numpy as np

from ..errors import ShapeError
from ..kernels import counters
from ..kernels.gpu.device_code import SIMULATED
from ..kernels.gpu.driver import Sequence, require, translated
from .device_arrays import Arrays, stand_in
from .device_samples import Samples
from .device_trace import Trace
from .overlap import shared
from .state import WHOLE, WRONG_STATE, State


class DeviceRun:
    """A program on the GPU; `step`, `epoch` and `predict` are called like the compiled ones.

    Parameters
    ----------
    program : Program

    Raises
    ------
    DeviceError
        No GPU, a kernel without a CUDA form, not enough memory; later also errors during computation.
    """

    def __init__(self, program):
        require()
        self.program, self.arrays = program, Arrays(program)
        self.trace = Trace(program, self.arrays)
        self._sequences, self._on_device = {}, False
        if not SIMULATED:
            self.arrays.place(stand_in)
            self._compile()
        self.arrays.allocate()
        self.samples = Samples(program, self.arrays, self._unbind)

    def _compile(self):
        """Compile all kernels for arrays without memory, to refuse one without a CUDA form before any launch."""
        N, program, trace = self.program.batch_size, self.program, self.trace
        if program.loss is not None:
            real, whole = stand_in(1, program.dtype), stand_in(1, np.int64)
            noted = trace.step(N, [real, whole if program.labels else real, *[real] * program.weighted], whole)
        else:
            noted = trace.traced(trace.backward(N, 0, True)) if program.backward else []
        noted += trace.traced(trace.forward(N, 0, program.loss is None and program.backward))
        for each in noted:
            Sequence([each], None).compile(getattr(each.kernel, "__name__", "a kernel"))

    def _sequence(self, key, make):
        """Return the sequence under a key; make it once."""
        if key not in self._sequences:
            self._sequences[key] = Sequence(make(), self.arrays.stream)
        return self._sequences[key]

    def _unbind(self):
        """Drop the sequences that are bound to the memory of samples."""
        self._sequences = {key: each for key, each in self._sequences.items() if key[0] != "step"}

    def step(self, state, x, target, weight=None):
        """Take one step on one batch; return its mean loss."""
        arrays = self._fitting(state, "step", {"x": x, "target": target, "weight": weight})
        return self._run(state, arrays, np.arange(len(x)))

    def epoch(self, state, x, targets, order, weights=None):
        """Take one step on every batch of `order`; return the mean loss, NaN if a step was not finite."""
        arrays = self._fitting(state, "epoch", {"x": x, "targets": targets, "weights": weights})
        if not order.size:
            raise ShapeError("epoch: order must hold at least one index")
        if order.min() < 0 or order.max() >= len(x):
            raise ShapeError("epoch: order must hold indices of samples of x")
        return self._run(state, arrays, order)

    def _run(self, state, arrays, order):
        """Take steps on the samples of an order, x, targets and weights if there are; return their mean loss."""
        with translated("device cuda"):
            if not self._on_device:
                self.arrays.load(state)
            self.arrays.reset("log", self.arrays.total)
            self.arrays.reset("counters", counters.STOP)
            if self.samples.upload(arrays, order, kept=self._on_device):
                *there, numbers = self.samples.resident
                self._steps(there, numbers, order.size)
            else:
                for count, there in self.samples.slabs(arrays, order):
                    self._steps(there, self.samples.order, count)
            total = self.arrays.read(state)
            if not self._on_device:
                self.arrays.store(state)
        return float("nan") if state.counters[counters.STOP] else total / order.size

    def _steps(self, arrays, order, count):
        """Take steps on `count` samples of the device's arrays in an order, without waiting for the device."""
        sizes = [min(self.program.batch_size, count - first) for first in range(0, count, self.program.batch_size)]
        make = self.trace.step
        of = {N: self._sequence(("step", N, id(arrays[0])), lambda N=N: make(N, arrays, order)) for N in set(sizes)}
        for sequence in of.values():
            sequence.bind()  # before the first step, so that there is no pause between steps
        self.arrays.reset("counters", self.arrays.position)
        for N in sizes:
            of[N]()

    @contextmanager
    def on_device(self, state):
        """Keep the current arrays on the device within this context: calls copy log and counters only."""
        with translated("device cuda"):
            self.arrays.load(state)
        self._on_device = True
        try:
            yield
        finally:
            self._on_device = False
            self.samples.forget()

    def download(self, state):
        """Copy the learned arrays from the device into the state."""
        with translated("device cuda"):
            self.arrays.store(state)

    def predict(self, state, x, y):
        """Compute y = F(x), batch by batch."""
        self._check(state, "predict")
        if x.shape[1:] != self.program.network.input_shape or y.shape != (len(x), *self.program.network.output_shape):
            raise ShapeError(f"predict: expected x (N, *{self.program.network.input_shape}) and y for each of them")
        if wrong := shared({"x": x, "y": y}, ["y"]):
            raise ShapeError(f"predict: {wrong}")
        with translated("device cuda"):
            if not self._on_device:
                self.arrays.put("theta", state.theta)
                self.arrays.put("buffers", state.buffers)
            for first in range(0, len(x), self.program.batch_size):
                batch = x[first : first + self.program.batch_size]
                self._play(("predict", len(batch)), self.trace.forward(len(batch), 0, False), self.program.input, batch)
                self.arrays.fetch(self.program.output, y[first : first + len(batch)])

    def forward(self, state, N, seed, training):
        """Run the forward pass on the N samples in the state's input, and keep it for `backward`."""
        with translated("device cuda"):
            self.arrays.put("theta", state.theta)
            self.arrays.put("buffers", state.buffers)
            calls = self.trace.forward(N, seed, training)
            self._play(("forward", N, seed, training), calls, self.program.input, self.program.input.of(state, 0, N))
            self.arrays.fetch(self.program.output, self.program.output.of(state, 0, N))
            self.arrays.get("buffers", state.buffers)
            self.arrays.wait()

    def backward(self, state, N, seed, training):
        """Run the backward pass; fill the gradients of the parameters and of the input."""
        given, wanted = self.program.output_gradient, self.program.input_gradient
        with translated("device cuda"):
            calls = self.trace.backward(N, seed, training)
            self._play(("backward", N, seed, training), calls, given, given.of(state, 0, N))
            self.arrays.get("gradient", state.gradient)
            self.arrays.fetch(wanted, wanted.of(state, 0, N))

    def _play(self, key, calls, slot, values):
        """Copy an array into its slot and run a sequence."""
        self.arrays.fill(slot, values)
        self._sequence(key, lambda: self.trace.traced(calls))()

    def _fitting(self, state, function, arrays):
        """Return the arrays of step or epoch, of its weights only those that the program takes.

        Raise ShapeError for a state and arrays that it does not take, as the text's functions do.
        """
        self._check(state, function)
        net, N, weighted = self.program.network, len(arrays["x"]), self.program.weighted
        shapes = (net.input_shape, () if self.program.labels else net.output_shape, ())[: 2 + weighted]
        wanted = dict(zip(arrays, shapes, strict=False))
        given = [array for array in arrays.values() if array is not None]
        largest = self.program.batch_size if function == "step" else None
        fits = len(given) == len(shapes) and not any(a.shape != (N, *b) for a, b in zip(given, shapes, strict=True))
        if not fits or (largest and not 1 <= N <= largest):
            most = f", N from 1 to {largest}" if largest else ""
            *first, last = [f"{name} {('N', *shape)}".replace("'N'", "N") for name, shape in wanted.items()]
            raise ShapeError(f"{function}: expected {', '.join(first)} and {last}{most}")
        return given

    def _check(self, state, function):
        """Raise ShapeError for a state of another program."""
        if not isinstance(state, State) or state.layout != self.program.layout + WHOLE:
            raise ShapeError(f"{function}: {WRONG_STATE}")
