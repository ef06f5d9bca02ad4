"""The program on CUDA: its text, run once to learn which kernels it launches on which arrays, then only the launches.

The text's functions (`forward_1`, `backward_1`, `gradients`, ...) call kernels by name. Here each name notes the launch
instead of making it, with its arrays already cut out of the device's memory. What comes out for a batch of N samples is
a `Sequence`, captured as a CUDA graph where that can be done, and a step is one call of it. Numbers that change from
step to step (learning rate, seed, position in the data) the kernels read from the state on the device, so nothing is
bound twice and the host neither waits nor copies between the steps of an epoch. The end of a step (`chunk_norm`,
`record`, `update_chunk` in the text, chunk by chunk) is three launches over the whole of theta (kernels/cuda/step.py).

Between calls the arrays of `State` in host memory hold the truth: a call copies them in and the results out. Within
`hold` the device holds it, and `fetch` copies it out.
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
from ..kernels.gpu.device_code import SIMULATED, Now
from ..kernels.gpu.driver import Sequence, formed, require, translated
from ..kernels.gpu.launch import THREADS, fused, launch, launches, precision, table, workspace
from ..kernels.operations import Operation
from .graph import Ref
from .plan import Var
from .slots import Slot, sizes
from .state import WRONG_STATE, State

RESIDENT = 0.8  # of the free memory: a larger data set is streamed
SLAB = 64 * 2**20  # bytes of samples that are streamed at once
LEARNED = ("theta", "gradient", "moments", "buffers")  # what a call copies in and out
SEED = Now(
    f"(_counters[{counters.SEED}] * 1000003 + _counters[{counters.STEP}]) * 1009"
)  # as the text's `train_step` has it
# After `record`, which counts the step: its number from 1 on, and its learning rate.
STEP = Now(f"_counters[{counters.STEP}]")
RATE = Now(f"_rates[min(_counters[{counters.STEP}] - 1, _rates.size - 1)]", float)


def cuda_form(binding):
    """The CUDA form of a kernel of the program; DeviceError, with what to add, if it has none."""
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
        No GPU, a kernel without a CUDA form, not enough memory; later also what goes wrong while it computes.
    """

    def __init__(self, program):
        require()
        self.program, self.plan, self.real = program, program.plan, program.dtype.type
        self._kernels = {name: cuda_form(binding) for name, binding in self.plan.bindings.items()}
        self._text = program.namespace({name: self._noting(b) for name, b in self.plan.bindings.items()})
        self._single_use = {id(self._text[self.plan.variables[value]]) for value in self.plan.single_use}
        self._noted, self._sequences, self._held = [], {}, False
        sizes = {name: (size, np.dtype(dtype)) for name, (size, dtype) in program._sizes().items()}
        # Two more numbers at the end of the log, clipping and the sum of losses, and of the counters the position.
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
        self._data = self._there = self._halves = self._ring = None
        self._copied = []  # host arrays that a copy on the stream may still read

    def _place(self, sizes, array):
        """Make the arrays of the state by a function of their size and type."""
        self.state = State(**{name: array(*each) for name, each in sizes.items()}, layout=self.program.layout)
        self._flats = (self.state.counters, self.state.rates, self.state.log)

    def _compile(self):
        """Compile all kernels for arrays that are not there: one without a CUDA form is refused before any is."""
        N, program, real = self.program.batch_size, self.program, stand_in(1, self.real)
        if program.loss is not None:
            whole = stand_in(1, np.int64)
            noted = self._step(N, real, whole if program.labels else real, whole)
        else:
            noted = self._note(self._backward(N, 0, True)) if program.backward else []
        noted += self._note(self._forward(N, 0, program.loss is None and program.backward))
        for each in noted:
            Sequence([each], None).compile(getattr(each.kernel, "__name__", "a kernel"))

    # -- notes: from calls in the text to launches -------------------------------------------------------------------

    def _noting(self, binding):
        """The binding for text whose calls are noted, each as a list of launches; a formula joins the call before."""
        kernel = self._kernels[binding.name]

        def call(s, n0, n1, *given):
            values = binding.values(given)
            arrays = [self._array(value, binding.form, n1) for value in values]
            if isinstance(kernel, Formula) and self._noted:
                given = zip(binding.names, values, strict=True)
                passing = [name for name, value in given if id(value) in self._single_use]
                together = fused(self._noted[-1], kernel, arrays, passing)
                if together is not None:
                    self._noted[-1] = together
                    return
            with precision(self.program.network.precision), formed(binding.title):
                self._noted.append(launches(kernel, arrays, self._flats))

        return call

    def _array(self, value, form, n):
        """A kernel's argument: the slot's part of the device's memory, shaped; numbers as they are."""
        if not isinstance(value, Slot):
            return value
        flat, shape, first = getattr(self.state, value.flat), sizes(value, form, n), value.first(0, n)
        if prod(shape) == 0:
            return workspace(shape, flat)
        return flat[first : first + prod(shape)].reshape(shape)

    def _note(self, calls):
        """The launches that some calls of the text come to: (name, further arguments) each."""
        self._noted = []
        for name, *arguments in calls:
            self._text[name](self.state, *arguments)
        return self._launches()

    def _launches(self):
        return [each for call in self._noted for each in call]

    def _forward(self, N, seed, training):
        for each in filter(attrgetter("calls"), self.plan.forward):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def _backward(self, N, seed, training):
        for each in filter(attrgetter("calls"), (*self.plan.backward, self.plan.gradients)):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def _sequence(self, key, make):
        """The sequence under a key, made once."""
        if key not in self._sequences:
            self._sequences[key] = Sequence(make(), self.stream)
        return self._sequences[key]

    # -- a training step ---------------------------------------------------------------------------------------------

    def _step(self, N, x, targets, order):
        """The launches of a step on the N samples that the counters point to in `order`."""
        plan, program = self.plan, self.program
        gather, position = self._text["batch_gather"], Now(f"_counters[{self._position}]")
        target_slot = plan.slot(Ref("target", None))
        self._noted = []
        for source, slot in ((x, program.input), (targets, target_slot)):
            gather(self.state, 0, N, source, order, position, slot.size, slot)
        load = self._launches()
        compute = self._note([*self._forward(N, SEED, True), *self._backward(N, SEED, True)])
        return load + compute + self._end(N)

    def _end(self, N):
        """chunk_norm, record, update_chunk."""
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
            factor = Now(f"_log[{self._clip}]", float)
            kernel = self._kernels["clip_gradient"]
            found += launches(kernel, [state.gradient, factor], self._flats, guarded=True)
        update = plan.update_chunk[-1]
        return found + launches(self._kernels[update.binding.name], arguments(update), self._flats, guarded=True)

    # -- the calls ---------------------------------------------------------------------------------------------------

    def step(self, state, x, target):
        """One step on one batch; returns its mean loss."""
        self._fits(state, x, target, "step", "target", self.program.batch_size)
        return self._run(state, x, target, np.arange(len(x)))

    def epoch(self, state, x, targets, order):
        """One step on every batch of `order`; returns the mean loss, NaN where a step was not finite."""
        self._fits(state, x, targets, "epoch", "targets")
        if not order.size:
            raise ShapeError("epoch: order must hold at least one index")
        if order.min() < 0 or order.max() >= len(x):
            raise ShapeError("epoch: order must hold indices of samples of x")
        return self._run(state, x, targets, order)

    def _run(self, state, x, targets, order):
        with translated("device cuda"):
            if not self._held:
                self._load(state)
            self._reset("log", self._total)
            self._reset("counters", counters.STOP)
            if self._resident(x, targets, order):
                self._steps(*self._there, order.size)
            else:
                for count, there in self._slabs(x, targets, order):
                    self._steps(*there, self._halves[2], count)
            total = self._read(state)
            if not self._held:
                self._store(state)
        return float("nan") if state.counters[counters.STOP] else total / order.size

    def _steps(self, x, targets, order, count):
        """Steps on `count` samples of the device's x and targets in an order; nothing here waits for the device."""
        sizes = [min(self.program.batch_size, count - first) for first in range(0, count, self.program.batch_size)]
        of = {N: self._sequence(("step", N, id(x)), lambda N=N: self._step(N, x, targets, order)) for N in set(sizes)}
        for sequence in of.values():
            sequence.bind()  # both, so that nothing is made between steps
        self._reset("counters", self._position)
        for N in sizes:
            of[N]()

    def _reset(self, flat, index):
        """Make a number of the state 0, by a copy on the device: one from the host might wait for the stream."""
        getattr(self.state, flat)[index : index + 1].copy_to_device(self._zeros[flat], stream=self.stream)

    # -- data --------------------------------------------------------------------------------------------------------

    def _resident(self, x, targets, order):
        """Have the data set and the order on the device, if they fit; else False."""
        sizes = [len(x) * width for width, _ in self._rows()] + [max(order.size, len(x))]
        if self._there is None or any(n > there.size for n, there in zip(sizes, self._there, strict=True)):
            if self._there is not None:
                self._forget()  # for a larger set; what streams stays from call to call
            kinds = [kind for _, kind in self._rows()] + [np.dtype(np.int64)]
            if sum(n * kind.itemsize for n, kind in zip(sizes, kinds, strict=True)) > RESIDENT * free_memory():
                return False
            self._there = [cuda.device_array(n, kind) for n, kind in zip(sizes, kinds, strict=True)]
        if not (self._held and self._data is not None and self._data[0] is x and self._data[1] is targets):
            for _ in self._slabs(x, targets):
                pass  # each lies where it stays
            self._data = (x, targets)
        self._there[2][: order.size].copy_to_device(self._kept(order.astype(np.int64)), stream=self.stream)
        return True

    def _forget(self):
        """Give the data's memory back, and what is bound to it."""
        self._data = self._there = self._halves = self._ring = None
        self._sequences = {key: each for key, each in self._sequences.items() if key[0] != "step"}

    def _rows(self):
        """Numbers of a sample's input and target, and their types."""
        target = np.dtype(np.int64 if self.program.labels else self.real)
        return [(self.program.input.size, np.dtype(self.real)), (self.plan.slot(Ref("target", None)).size, target)]

    def _slabs(self, x, targets, order=None):
        """Copy samples to the device, in slabs of whole batches through two pinned buffers; yields count and arrays.

        While the device works on one slab, the host collects the next one, and it is copied on a stream of its own.
        Samples of an order go to the two halves in turn, those of the whole data set to where they stay. `x` and
        `targets` are read slab by slab, so they may be more than memory holds.
        """
        total = len(x) if order is None else order.size
        copies, room, buffers = self._pinned(len(x))
        if order is not None and self._halves is None:
            self._halves = self._two_halves(room)
        for k, first in enumerate(range(0, total, room)):
            count, (pinned, copied, worked) = min(room, total - first), buffers[k % 2]
            rows = slice(first, first + count) if order is None else order[first : first + count]
            there = self._there[:2] if order is None else self._halves[k % 2]
            if k > 1:
                worked.synchronize()  # the device has done with what these buffers held
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
        """A stream for copies, the samples of a slab, and two pinned buffers, each with an event of either stream."""
        size = sum(width * kind.itemsize for width, kind in self._rows()) * self.program.batch_size  # bytes of a batch
        room = min(max(1, SLAB // size), -(-samples // self.program.batch_size)) * self.program.batch_size
        if self._ring is None or self._ring[1] < room:
            if self._halves is not None:
                self._forget()  # as large as a slab
            buffers = [[cuda.pinned_array(room * width, kind) for width, kind in self._rows()] for _ in range(2)]
            self._ring = (cuda.stream(), room, [(pinned, cuda.event(), cuda.event()) for pinned in buffers])
        return self._ring

    def _two_halves(self, room):
        """Where slabs lie on the device, in turn, and the order of what lies there."""
        halves = [[cuda.device_array(room * width, kind) for width, kind in self._rows()] for _ in range(2)]
        return *halves, cuda.to_device(np.arange(room), stream=self.stream)

    # -- the state in host memory and on the device --------------------------------------------------------------------

    @contextmanager
    def hold(self, state):
        """Within, the device holds the truth: calls copy log and counters only."""
        with translated("device cuda"):
            self._load(state)
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._forget()

    def fetch(self, state):
        """Copy what was learned from the device into the state."""
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
            there.copy_to_device(self._kept(array), stream=self.stream)

    def _kept(self, array):
        """The array, contiguous, in memory that stays until the stream has been waited for."""
        self._copied.append(np.ascontiguousarray(array))
        return self._copied[-1]

    def _wait(self):
        self.stream.synchronize()
        self._copied.clear()

    def _store(self, state):
        for name in LEARNED:
            array = getattr(state, name)
            if array.size:
                getattr(self.state, name).copy_to_host(array, stream=self.stream)
        self._wait()

    def _read(self, state):
        """Log and counters of the steps done so far, waiting for them; returns the sum of the losses."""
        log = self.state.log.copy_to_host(stream=self.stream)
        counters = self.state.counters.copy_to_host(stream=self.stream)
        self._wait()
        state.log[:], state.counters[:] = log[:-2], counters[:-1]
        return float(log[self._total])

    # -- prediction, and forward and backward by hand ----------------------------------------------------------------

    def predict(self, state, x, y):
        """y = F(x), batch by batch."""
        self._check(state, "predict")
        if x.shape[1:] != self.program.network.input_shape or y.shape != (len(x), *self.program.network.output_shape):
            raise ShapeError(f"predict: expected x (N, *{self.program.network.input_shape}) and y for each of them")
        with translated("device cuda"):
            if not self._held:
                self._put("theta", state.theta)
                self._put("buffers", state.buffers)
            for first in range(0, len(x), self.program.batch_size):
                batch = x[first : first + self.program.batch_size]
                self._play(("predict", len(batch)), self._forward(len(batch), 0, False), self.program.input, batch)
                self._get(self.program.output, y[first : first + len(batch)])

    def forward(self, state, N, seed, training):
        """The forward pass on the N samples in the state's input, kept for `backward`."""
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
        """The backward pass; fills the gradient and the input's."""
        given, wanted = self.program.output_gradient, self.program.input_gradient
        with translated("device cuda"):
            calls = self._backward(N, seed, training)
            self._play(("backward", N, seed, training), calls, given, given.of(state, 0, N))
            if state.gradient.size:
                self.state.gradient.copy_to_host(state.gradient, stream=self.stream)
            self._get(wanted, wanted.of(state, 0, N))

    def _play(self, key, calls, slot, values):
        """Copy an array into its slot and run a sequence."""
        self._array(slot, "flat", len(values)).copy_to_device(self._kept(values).reshape(-1), stream=self.stream)
        self._sequence(key, lambda: self._note(calls))()

    def _get(self, slot, into):
        """Copy a slot's array to the host, waiting for it."""
        there = self._array(slot, "flat", len(into)).copy_to_host(stream=self.stream)
        self._wait()
        into[...] = there.reshape(into.shape)

    def _fits(self, state, x, target, function, name, largest=None):
        """ShapeError for a state and arrays that the program does not take, as the text's own functions say it."""
        self._check(state, function)
        net, labels = self.program.network, self.program.labels
        shape = (len(x),) if labels else (len(x), *net.output_shape)
        if x.shape[1:] != net.input_shape or target.shape != shape or (largest and not 1 <= len(x) <= largest):
            most = f", N from 1 to {largest}" if largest else ""
            raise ShapeError(f"{function}: expected x (N, *{net.input_shape}) and {name} {('N', *shape[1:])}{most}")

    def _check(self, state, function):
        """ShapeError for a state of another program."""
        if not isinstance(state, State) or state.layout != self.program.layout:
            raise ShapeError(f"{function}: {WRONG_STATE}")


def stand_in(size, dtype):
    """An array of so many numbers that has no memory: type, shape and address are all that is looked at."""
    one = np.zeros(128, np.uint8)
    one = one[-one.ctypes.data % 64 :][:8].view(dtype)[:1]  # as aligned as arrays of the device
    return np.lib.stride_tricks.as_strided(one, (size,), one.strides)


def free_memory():
    """Bytes that are free on the device."""
    return cuda.current_context().get_memory_info()[0]
