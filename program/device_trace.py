"""The launches of a program on CUDA: its text is run once with functions that note what a kernel would launch.

Kernels read the numbers that change from step to step (learning rate, seed, position in the data) from the state on the
device, so arguments are bound once, on arrays that are already parts of the device's memory. A formula becomes the
epilogue of the launch before, where that is possible. The end of a step (`chunk_norm`, `record`, `update_chunk` in the
text, chunk by chunk) is three launches over all of theta (kernels/cuda/step.py).
"""

from operator import attrgetter

import numpy as np

from ..kernels import counters
from ..kernels.compiler.elementwise import Formula
from ..kernels.cuda.step import measure, record
from ..kernels.gpu.device_code import DeviceScalar
from ..kernels.gpu.driver import formed
from ..kernels.gpu.launch import THREADS, launch, launches, precision, table, with_epilogue
from .calls import Var
from .cuda_form import cuda_form
from .graph import Ref

# As in the text's `train_step`.
SEED = DeviceScalar(f"(_counters[{counters.SEED}] * 1000003 + _counters[{counters.STEP}]) * 1009")
# After `record`, which counts the step: its number from 1 on, and its learning rate.
STEP = DeviceScalar(f"_counters[{counters.STEP}]")
RATE = DeviceScalar(f"_rates[min(_counters[{counters.STEP}] - 1, _rates.size - 1)]", float)


class Trace:
    """Makes lists of launches from calls of the program's text, on the arrays that its `Arrays` hold at the time."""

    def __init__(self, program, arrays):
        self.program, self.plan, self.arrays = program, program.plan, arrays
        self._kernels = {name: cuda_form(binding) for name, binding in self.plan.bindings.items()}
        self._text = program.namespace({name: self._tracing(b) for name, b in self.plan.bindings.items()})
        self._single_use = {id(self._text[self.plan.variables[value]]) for value in self.plan.single_use}
        self._trace = []

    def _tracing(self, binding):
        """Return the binding for tracing: a call appends its launches, a formula becomes the last one's epilogue."""
        kernel = self._kernels[binding.name]

        def call(s, n0, n1, *given):
            values = binding.values(given)
            arrays = [self.arrays.argument(value, binding.form, n1) for value in values]
            if isinstance(kernel, Formula) and self._trace:
                named = zip(binding.names, values, strict=True)
                single_use = [name for name, value in named if id(value) in self._single_use]
                fused = with_epilogue(self._trace[-1], kernel, arrays, single_use)
                if fused is not None:
                    self._trace[-1] = fused
                    return
            with precision(self.program.network.precision), formed(binding.title):
                self._trace.append(launches(kernel, arrays, self.arrays.flats))

        return call

    def traced(self, calls):
        """Trace some calls of the text, each (name, further arguments); return their launches."""
        self._trace = []
        for name, *arguments in calls:
            self._text[name](self.arrays.state, *arguments)
        return self._launches()

    def _launches(self):
        return [each for call in self._trace for each in call]

    def forward(self, N, seed, training):
        """Yield the calls of the forward pass on N samples."""
        for each in filter(attrgetter("calls"), self.plan.forward):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def backward(self, N, seed, training):
        """Yield the calls that compute deltas and gradients of N samples."""
        for each in filter(attrgetter("calls"), (*self.plan.backward, self.plan.gradients)):
            yield (each.name, 0, N, seed, training, *((0,) if each.split else ()))

    def step(self, N, arrays, order):
        """Return the launches of a step on the N samples of `order` at the position in the counters.

        `arrays` are x, the targets, and the weights if samples have them.
        """
        gather, position = self._text["batch_gather"], DeviceScalar(f"_counters[{self.arrays.position}]")
        slots = [self.program.input, *(self.plan.slot(Ref(kind, None)) for kind in ("target", "weight"))]
        self._trace = []
        for source, slot in zip(arrays, slots, strict=False):
            gather(self.arrays.state, 0, N, source, order, position, slot.size, slot)
        load = self._launches()
        compute = self.traced([*self.forward(N, SEED, True), *self.backward(N, SEED, True)])
        return load + compute + self._end(N)

    def _end(self, N):
        """Return the launches of chunk_norm, record and update_chunk."""
        plan, program, state, log = self.plan, self.program, self.arrays.state, self.plan.log
        extents = [(lo, min(lo + log.chunk, hi)) for _, first, hi in log.segments for lo in range(first, hi, log.chunk)]
        chunks, bounds = table(log.first_chunk, state.log), table(np.ravel(extents), state.log, np.int64)
        clip = program.clip
        losses = self.arrays.argument(plan.slot(Ref("loss", None)), None, N)
        places = (log.sums, self.arrays.clip, self.arrays.total, self.arrays.position)
        shape = (N, log.rows, log.width)
        # In float32 the largest norm could become infinite.
        norm = float(program.norm), float(clip.max) if clip is not None else 0.0, np.float64(program.largest_norm)
        found = [
            launch(measure, len(extents), THREADS, state.gradient, state.log, bounds, 1.0 / N, norm[0], log.sums),
            launch(record, 1, THREADS, losses, state.counters, state.rates, state.log, chunks, shape, places, *norm),
        ]  # fmt: skip
        whole, known = program.network.theta.size, {"rate": RATE, "steps": STEP}

        def arguments(call):
            values = (call.values[name] for name in call.binding.names)
            values = (known.get(v.name, v) if isinstance(v, Var) else v for v in values)
            return [self.arrays.argument(value, call.binding.form, whole) for value in values]

        if clip is not None:
            factor = DeviceScalar(f"_log[{self.arrays.clip}]", float)
            kernel = self._kernels["clip_gradient"]
            found += launches(kernel, [state.gradient, factor], self.arrays.flats, guarded=True)
        update = plan.update_chunk[-1]
        return found + launches(self._kernels[update.binding.name], arguments(update), self.arrays.flats, guarded=True)
