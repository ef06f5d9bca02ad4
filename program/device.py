"""The program on CUDA: its text is traced once, and then only the traced launches run.

The text's functions (`forward`, `backward`, `gradients`, ...) call kernels by name. Tracing runs them with functions
that record the launch of a kernel instead of making it, on arrays that are already parts of the device's memory. The
launches for a batch of N samples are a `Sequence`, captured as a CUDA graph if possible; a step is one call of it.
Kernels read the numbers that change from step to step (learning rate, seed, position in the data) from the state on the
device, so arguments are bound once, and the host neither waits nor copies between the steps of an epoch. The end of a
step (`chunk_norm`, `record`, `update_chunk` in the text, chunk by chunk) is three launches over all of theta
(kernels/cuda/step.py).

Between calls the arrays of `State` in host memory are the current ones: a call copies them in and the results out.
Within `on_device` those on the device are, and `download` copies them out.
"""

from contextlib import contextmanager
from math import prod
from operator import attrgetter

import numpy as np
from numba import cuda

from ..errors import DeviceError, ShapeError
from ..kernels import counters
from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.kernel import Kernel
from ..kernels.cuda.step import measure, record
from ..kernels.gpu.device_code import SIMULATED, DeviceScalar
from ..kernels.gpu.driver import Sequence, formed, require, translated
from ..kernels.gpu.launch import THREADS, launch, launches, precision, table, with_epilogue, workspace
from ..kernels.operations import Operation
from .graph import Ref
from .plan import Var
from .slots import Slot, sizes
from .state import WRONG_STATE, State

RESIDENT = 0.8  # share of the free memory; a larger data set is streamed
SLAB = 64 * 2**20  # bytes of samples that are copied at once
LEARNED = ("theta", "gradient", "moments", "buffers")  # arrays that a call copies in and out
# As in the text's `train_step`.
SEED = DeviceScalar(f"(_counters[{counters.SEED}] * 1000003 + _counters[{counters.STEP}]) * 1009")
# After `record`, which counts the step: its number from 1 on, and its learning rate.
STEP = DeviceScalar(f"_counters[{counters.STEP}]")
RATE = DeviceScalar(f"_rates[min(_counters[{counters.STEP}] - 1, _rates.size - 1)]", float)


def cuda_form(binding):
    """Return the CUDA form of a kernel of the program; raise DeviceError, with what to add, if it has none."""
    kernel = binding.kernel
    if isinstance(kernel, Operation):
        try:
            return kernel.on("cuda")
        except (ImportError, AttributeError):
            raise DeviceError(
                f"{binding.title}: the operation {kernel.name} has no CUDA form; add a function {kernel.function} to"
                f" kernels/cuda/{kernel.file}.py"
            ) from None
    if not isinstance(kernel, Kernel):
        raise DeviceError(
            f"{binding.title}: {kernel!r} has no CUDA form; write it as a loop under @kernel or @elementwise"
        )
    return kernel


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
        self.program, self.plan, self.real = program, program.plan, program.dtype.type
        self._kernels = {name: cuda_form(binding) for name, binding in self.plan.bindings.items()}
        self._text = program.namespace({name: self._tracing(b) for name, b in self.plan.bindings.items()})
        self._single_use = {id(self._text[self.plan.variables[value]]) for value in self.plan.single_use}
        self._trace, self._sequences, self._on_device = [], {}, False
        sizes = {name: (size, np.dtype(dtype)) for name, (size, dtype) in program._sizes().items()}
        # Two more numbers at the end of the log, clipping and the sum of losses, and the position after the counters.
        sizes["log"] = (sizes["log"][0] + 2, np.dtype(np.float64))
        sizes["counters"] = (sizes["counters"][0] + 1, np.dtype(np.int64))
        self._clip, self._total, self._position = sizes["log"][0] - 2, sizes["log"][0] - 1, sizes["counters"][0] - 1
        if not SIMULATED:
            self._place(sizes, stand_in)
            self._compile()
        needed = sum(size * dtype.itemsize for size, dtype in sizes.values()) / 1e6
        with translated(f"device cuda: a program of {needed:.0f} MB"):
            self.stream = cuda.stream()
            self._place(sizes, cuda.device_array)
            self._zeros = {name: cuda.to_device(np.zeros(1, sizes[name][1])) for name in ("log", "counters")}
        self._data = self._resident = self._halves = self._ring = None
        self._host_copies = []  # arrays that a copy on the stream may still read

    def _place(self, sizes, array):
        """Make the arrays of the state with a function of their size and type."""
        self.state = State(**{name: array(*each) for name, each in sizes.items()}, layout=self.program.layout)
        self._flats = (self.state.counters, self.state.rates, self.state.log)

    def _compile(self):
        """Compile all kernels for arrays without memory, to refuse one without a CUDA form before any launch."""
        N, program, real = self.program.batch_size, self.program, stand_in(1, self.real)
        if program.loss is not None:
            whole = stand_in(1, np.int64)
            noted = self._step(N, real, whole if program.labels else real, whole)
        else:
            noted = self._traced(self._backward(N, 0, True)) if program.backward else []
        noted += self._traced(self._forward(N, 0, program.loss is None and program.backward))
        for each in noted:
            Sequence([each], None).compile(getattr(each.kernel, "__name__", "a kernel"))

    # -- tracing: from calls in the text to launches -----------------------------------------------------------------

    def _tracing(self, binding):
        """Return the binding for tracing: a call appends its launches, a formula becomes the last one's epilogue."""
        kernel = self._kernels[binding.name]

        def call(s, n0, n1, *given):
            values = binding.values(given)
            arrays = [self._array(value, binding.form, n1) for value in values]
            if isinstance(kernel, Formula) and self._trace:
                named = zip(binding.names, values, strict=True)
                single_use = [name for name, value in named if id(value) in self._single_use]
                fused = with_epilogue(self._trace[-1], kernel, arrays, single_use)
                if fused is not None:
                    self._trace[-1] = fused
                    return
            with precision(self.program.network.precision), formed(binding.title):
                self._trace.append(launches(kernel, arrays, self._flats))

        return call

    def _array(self, value, form, n):
        """Return a kernel's argument: for a slot its part of the device's memory, in this form; a number as it is."""
        if not isinstance(value, Slot):
            return value
        flat, shape, first = getattr(self.state, value.flat), sizes(value, form, n), value.first(0, n)
        if prod(shape) == 0:
            return workspace(shape, flat)
        return flat[first : first + prod(shape)].reshape(shape)

    def _traced(self, calls):
        """Trace some calls of the text, each (name, further arguments); return their launches."""
        self._trace = []
        for name, *arguments in calls:
            self._text[name](self.state, *arguments)
        return self._launches()

    def _launches(self):
        return [each for call in self._trace for each in call]

    def _forward(self, N, seed, training):
        for each in filter(attrgetter("calls"), self.plan.forward):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def _backward(self, N, seed, training):
        for each in filter(attrgetter("calls"), (*self.plan.backward, self.plan.gradients)):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def _sequence(self, key, make):
        """Return the sequence under a key; make it once."""
        if key not in self._sequences:
            self._sequences[key] = Sequence(make(), self.stream)
        return self._sequences[key]

    # -- a training step ---------------------------------------------------------------------------------------------

    def _step(self, N, x, targets, order):
        """Return the launches of a step on the N samples of `order` at the position in the counters."""
        plan, program = self.plan, self.program
        gather, position = self._text["batch_gather"], DeviceScalar(f"_counters[{self._position}]")
        target_slot = plan.slot(Ref("target", None))
        self._trace = []
        for source, slot in ((x, program.input), (targets, target_slot)):
            gather(self.state, 0, N, source, order, position, slot.size, slot)
        load = self._launches()
        compute = self._traced([*self._forward(N, SEED, True), *self._backward(N, SEED, True)])
        return load + compute + self._end(N)

    def _end(self, N):
        """Return the launches of chunk_norm, record and update_chunk."""
        plan, program, state, log = self.plan, self.program, self.state, self.plan.log
        extents = [(lo, min(lo + log.chunk, hi)) for _, first, hi in log.segments for lo in range(first, hi, log.chunk)]
        chunks, bounds = table(log.first_chunk, state.log), table(np.ravel(extents), state.log, np.int64)
        clip = program.clip
        losses = self._array(plan.slot(Ref("loss", None)), None, N)
        places = (log.sums, self._clip, self._total, self._position)
        shape = (N, log.rows, log.width)
        norm = float(program.norm), float(clip.max) if clip is not None else 0.0, program.largest_norm
        found = [
            launch(measure, len(extents), THREADS, state.gradient, state.log, bounds, 1.0 / N, norm[0], log.sums),
            launch(record, 1, THREADS, losses, state.counters, state.rates, state.log, chunks, shape, places, *norm),
        ]  # fmt: skip
        whole, known = program.network.theta.size, {"rate": RATE, "steps": STEP}

        def arguments(call):
            values = (call.values[name] for name in call.binding.names)
            values = (known.get(v.name, v) if isinstance(v, Var) else v for v in values)
            return [self._array(value, call.binding.form, whole) for value in values]

        if clip is not None:
            factor = DeviceScalar(f"_log[{self._clip}]", float)
            kernel = self._kernels["clip_gradient"]
            found += launches(kernel, [state.gradient, factor], self._flats, guarded=True)
        update = plan.update_chunk[-1]
        return found + launches(self._kernels[update.binding.name], arguments(update), self._flats, guarded=True)

    # -- the calls ---------------------------------------------------------------------------------------------------

    def step(self, state, x, target):
        """Take one step on one batch; return its mean loss."""
        self._fits(state, x, target, "step", "target", self.program.batch_size)
        return self._run(state, x, target, np.arange(len(x)))

    def epoch(self, state, x, targets, order):
        """Take one step on every batch of `order`; return the mean loss, NaN if a step was not finite."""
        self._fits(state, x, targets, "epoch", "targets")
        if not order.size:
            raise ShapeError("epoch: order must on_device at least one index")
        if order.min() < 0 or order.max() >= len(x):
            raise ShapeError("epoch: order must on_device indices of samples of x")
        return self._run(state, x, targets, order)

    def _run(self, state, x, targets, order):
        with translated("device cuda"):
            if not self._on_device:
                self._load(state)
            self._reset("log", self._total)
            self._reset("counters", counters.STOP)
            if self._upload(x, targets, order):
                self._steps(*self._resident, order.size)
            else:
                for count, there in self._slabs(x, targets, order):
                    self._steps(*there, self._halves[2], count)
            total = self._read(state)
            if not self._on_device:
                self._store(state)
        return float("nan") if state.counters[counters.STOP] else total / order.size

    def _steps(self, x, targets, order, count):
        """Take steps on `count` samples of the device's x and targets in an order, without waiting for the device."""
        sizes = [min(self.program.batch_size, count - first) for first in range(0, count, self.program.batch_size)]
        of = {N: self._sequence(("step", N, id(x)), lambda N=N: self._step(N, x, targets, order)) for N in set(sizes)}
        for sequence in of.values():
            sequence.bind()  # before the first step, so that there is no pause between steps
        self._reset("counters", self._position)
        for N in sizes:
            of[N]()

    def _reset(self, flat, index):
        """Set a number of the state to 0, by a copy on the device: one from the host might wait for the stream."""
        getattr(self.state, flat)[index : index + 1].copy_to_device(self._zeros[flat], stream=self.stream)

    # -- data --------------------------------------------------------------------------------------------------------

    def _upload(self, x, targets, order):
        """Copy the data set and the order to the device, unless they are there; return False if they do not fit."""
        sizes = [len(x) * width for width, _ in self._rows()] + [max(order.size, len(x))]
        if self._resident is None or any(n > there.size for n, there in zip(sizes, self._resident, strict=True)):
            if self._resident is not None:
                self._forget()  # make room for a larger set
            kinds = [kind for _, kind in self._rows()] + [np.dtype(np.int64)]
            if sum(n * kind.itemsize for n, kind in zip(sizes, kinds, strict=True)) > RESIDENT * free_memory():
                return False
            self._resident = [cuda.device_array(n, kind) for n, kind in zip(sizes, kinds, strict=True)]
        if not (self._on_device and self._data is not None and self._data[0] is x and self._data[1] is targets):
            for _ in self._slabs(x, targets):
                pass  # each is copied to its place
            self._data = (x, targets)
        self._resident[2][: order.size].copy_to_device(self._host_copy(order.astype(np.int64)), stream=self.stream)
        return True

    def _forget(self):
        """Free the memory of the data and the sequences that are bound to it."""
        self._data = self._resident = self._halves = self._ring = None
        self._sequences = {key: each for key, each in self._sequences.items() if key[0] != "step"}

    def _rows(self):
        """Return the numbers of a sample's input and target, and their types."""
        target = np.dtype(np.int64 if self.program.labels else self.real)
        return [(self.program.input.size, np.dtype(self.real)), (self.plan.slot(Ref("target", None)).size, target)]

    def _slabs(self, x, targets, order=None):
        """Copy samples to the device, in slabs of whole batches through two pinned buffers; yield count and arrays.

        While the device works on one slab, the host collects the next one, which is copied on a separate stream.
        Samples of an order go to the two halves in turn, those of a resident data set to their places. `x` and
        `targets` are read slab by slab, so they may be larger than the memory.
        """
        total = len(x) if order is None else order.size
        copies, samples, buffers = self._pinned(len(x))
        if order is not None and self._halves is None:
            self._halves = self._two_halves(samples)
        for k, first in enumerate(range(0, total, samples)):
            count, (pinned, copied, worked) = min(samples, total - first), buffers[k % 2]
            rows = slice(first, first + count) if order is None else order[first : first + count]
            there = self._resident[:2] if order is None else self._halves[k % 2]
            if k > 1:
                worked.synchronize()  # the device has finished with the former contents of these buffers
            for source, host, (width, _), whole in zip((x, targets), pinned, self._rows(), there, strict=True):
                host, begin = host[: count * width], first * width if order is None else 0
                host[:] = source[rows].reshape(-1)
                whole[begin : begin + host.size].copy_to_device(host, stream=copies)
            copied.record(copies)
            copied.wait(self.stream)
            yield count, there
            worked.record(self.stream)
        self.stream.synchronize()

    def _pinned(self, samples):
        """Return a stream for copies, the samples of a slab, and two pinned buffers with an event of either stream."""
        size = sum(width * kind.itemsize for width, kind in self._rows()) * self.program.batch_size  # bytes of a batch
        slab = min(max(1, SLAB // size), -(-samples // self.program.batch_size)) * self.program.batch_size
        if self._ring is None or self._ring[1] < slab:
            if self._halves is not None:
                self._forget()  # they have the size of a slab
            buffers = [[cuda.pinned_array(slab * width, kind) for width, kind in self._rows()] for _ in range(2)]
            self._ring = (cuda.stream(), slab, [(pinned, cuda.event(), cuda.event()) for pinned in buffers])
        return self._ring

    def _two_halves(self, samples):
        """Return the two memories of slabs on the device, and the order of their samples."""
        halves = [[cuda.device_array(samples * width, kind) for width, kind in self._rows()] for _ in range(2)]
        return *halves, cuda.to_device(np.arange(samples), stream=self.stream)

    # -- the state in host memory and on the device --------------------------------------------------------------------

    @contextmanager
    def on_device(self, state):
        """Keep the current arrays on the device within this context: calls copy log and counters only."""
        with translated("device cuda"):
            self._load(state)
        self._on_device = True
        try:
            yield
        finally:
            self._on_device = False
            self._forget()

    def download(self, state):
        """Copy the learned arrays from the device into the state."""
        with translated("device cuda"):
            self._store(state)

    def _load(self, state):
        for name in LEARNED:
            self._put(name, getattr(state, name))
        for name in ("rates", "counters", "log"):
            self._put(name, getattr(state, name))

    def _put(self, name, array, first=0):
        if array.size:
            there = getattr(self.state, name)[first : first + array.size]
            there.copy_to_device(self._host_copy(array), stream=self.stream)

    def _host_copy(self, array):
        """Return the array, contiguous, in memory that stays until the stream has been waited for."""
        self._host_copies.append(np.ascontiguousarray(array))
        return self._host_copies[-1]

    def _wait(self):
        self.stream.synchronize()
        self._host_copies.clear()

    def _store(self, state):
        for name in LEARNED:
            array = getattr(state, name)
            if array.size:
                getattr(self.state, name).copy_to_host(array, stream=self.stream)
        self._wait()

    def _read(self, state):
        """Wait for the steps, copy log and counters to the state, and return the sum of the losses."""
        log = self.state.log.copy_to_host(stream=self.stream)
        counters = self.state.counters.copy_to_host(stream=self.stream)
        self._wait()
        state.log[:], state.counters[:] = log[:-2], counters[:-1]
        return float(log[self._total])

    # -- prediction, forward and backward ----------------------------------------------------------------------------

    def predict(self, state, x, y):
        """Compute y = F(x), batch by batch."""
        self._check(state, "predict")
        if x.shape[1:] != self.program.network.input_shape or y.shape != (len(x), *self.program.network.output_shape):
            raise ShapeError(f"predict: expected x (N, *{self.program.network.input_shape}) and y for each of them")
        with translated("device cuda"):
            if not self._on_device:
                self._put("theta", state.theta)
                self._put("buffers", state.buffers)
            for first in range(0, len(x), self.program.batch_size):
                batch = x[first : first + self.program.batch_size]
                self._play(("predict", len(batch)), self._forward(len(batch), 0, False), self.program.input, batch)
                self._get(self.program.output, y[first : first + len(batch)])

    def forward(self, state, N, seed, training):
        """Run the forward pass on the N samples in the state's input, and keep it for `backward`."""
        with translated("device cuda"):
            self._put("theta", state.theta)
            self._put("buffers", state.buffers)
            calls = self._forward(N, seed, training)
            self._play(("forward", N, seed, training), calls, self.program.input, self.program.input.of(state, 0, N))
            self._get(self.program.output, self.program.output.of(state, 0, N))
            if state.buffers.size:
                self.state.buffers.copy_to_host(state.buffers, stream=self.stream)
            self._wait()

    def backward(self, state, N, seed, training):
        """Run the backward pass; fill the gradients of the parameters and of the input."""
        given, wanted = self.program.output_gradient, self.program.input_gradient
        with translated("device cuda"):
            calls = self._backward(N, seed, training)
            self._play(("backward", N, seed, training), calls, given, given.of(state, 0, N))
            if state.gradient.size:
                self.state.gradient.copy_to_host(state.gradient, stream=self.stream)
            self._get(wanted, wanted.of(state, 0, N))

    def _play(self, key, calls, slot, values):
        """Copy an array into its slot and run a sequence."""
        self._array(slot, "flat", len(values)).copy_to_device(self._host_copy(values).reshape(-1), stream=self.stream)
        self._sequence(key, lambda: self._traced(calls))()

    def _get(self, slot, into):
        """Copy a slot's array to the host, waiting for it."""
        there = self._array(slot, "flat", len(into)).copy_to_host(stream=self.stream)
        self._wait()
        into[...] = there.reshape(into.shape)

    def _fits(self, state, x, target, function, name, largest=None):
        """Raise ShapeError for a state and arrays that the program does not take, as the text's functions do."""
        self._check(state, function)
        net, labels = self.program.network, self.program.labels
        shape = (len(x),) if labels else (len(x), *net.output_shape)
        if x.shape[1:] != net.input_shape or target.shape != shape or (largest and not 1 <= len(x) <= largest):
            most = f", N from 1 to {largest}" if largest else ""
            raise ShapeError(f"{function}: expected x (N, *{net.input_shape}) and {name} {('N', *shape[1:])}{most}")

    def _check(self, state, function):
        """Raise ShapeError for a state of another program."""
        if not isinstance(state, State) or state.layout != self.program.layout:
            raise ShapeError(f"{function}: {WRONG_STATE}")


def stand_in(size, dtype):
    """Return an array without memory, of which only type, shape and address are read."""
    one = np.zeros(128, np.uint8)
    one = one[-one.ctypes.data % 64 :][:8].view(dtype)[:1]  # aligned like arrays of the device
    return np.lib.stride_tricks.as_strided(one, (size,), one.strides)


def free_memory():
    """Return the free memory of the device in bytes."""
    return cuda.current_context().get_memory_info()[0]
