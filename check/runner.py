"""The kernel calls of a network, one by one, bound as its program binds them, each on copies of its arrays.

So each kernel is checked on its real arguments, and a wrong kernel spoils nothing for the next: a call runs once for
each check, and only the result of its serial run goes on.
"""

from typing import Any

import numpy as np
from numba import config

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.kernel import Kernel, type_of
from ..kernels.compiler.options import FLOATS
from ..kernels.operations import Operation
from ..program.calls import Var
from ..program.graph import Ref
from ..program.program import Program
from ..program.slots import Slot, sizes

GUARD = 32  # elements before and after every copy
# NaN with a payload that no arithmetic makes, so that unwritten elements differ from computed NaN.
MARKS: dict[type, Any] = {np.float32: np.uint32(0x7FC5C5C5), np.float64: np.uint64(0x7FF8C5C5C5C5C5C5)}


class Run:
    """Forward and backward pass of a network on one batch; in prediction (training False) the forward pass alone.

    Parameters
    ----------
    network : Network
    x : ndarray (N, *input_shape)
    dy : ndarray (N, *output_shape)
    training : bool
    """

    def __init__(self, network, x, dy, training=True):
        self.program = Program(network, batch_size=len(x), backward=True)
        self.plan, self.state, self.N = self.program.plan, self.program.state, len(x)
        self.real = network.dtype.type
        self.space = {"training": training, "seed": network.seed, "n0": 0}
        self.reference_scratch = {}  # slot -> contents written by the reference, which may differ from the CPU's
        self.cuda_scratch = {}  # slot -> contents written by CUDA
        self._dy = dy
        self.start(x)

    def start(self, x):
        """Begin with samples x."""
        self.state.gradient[:] = 0
        self.program.input.of(self.state, 0, self.N)[...] = x

    def calls(self):
        """Yield every call of the forward and backward pass, in order."""
        for each in self.plan.forward:
            for call in each.calls:
                yield Call(self, call, "forward")
        if not self.space["training"]:
            return
        self.program.output_gradient.of(self.state, 0, self.N)[...] = self._dy
        for each in (*self.plan.backward, self.plan.gradients):
            for call in each.calls:
                yield Call(self, call, "backward")


class Call:
    """One call of a kernel: its arguments by name, and the ways to run it."""

    def __init__(self, run, call, direction):
        self.run, self.name = run, call.binding.title
        self.node, self.attribute = call.node, call.attribute
        self.kernel, self.form = call.binding.kernel, call.binding.form
        self.by_sample = not call.split  # its arrays have a row for each sample: it may run on a block of samples
        self.values = {name: self._resolved(call.values[name]) for name in call.binding.names}
        kinds = {name: getattr(call.values[name], "kind", None) for name in call.binding.names}
        self.scratch = [name for name, kind in kinds.items() if kind in ("scratch", "dscratch")]
        self._sort(direction)

    def _resolved(self, value):
        return self.run.plan.slot(value) if isinstance(value, Ref) else value

    def _sort(self, direction):
        """Find `outputs`, which it must write whole, `inputs`, which it must not change, and `results`, with buffers.

        Scratch and buffers are neither of the first two, nor is an array under two names, one to read and one to write.
        """
        written = {"y"} if direction == "forward" else {"dx"}
        read = {"x", "dy"} if direction == "forward" else {"x", "y", "dy"}
        slots = {name: v for name, v in self.values.items() if isinstance(v, Slot)}
        slots = {name: v for name, v in slots.items() if list(slots.values()).count(v) == 1}
        self.outputs = [name for name, v in slots.items() if name in written or v.flat == "gradient"]
        self.inputs = [name for name, v in slots.items() if name in read or v.flat == "theta"]
        self.results = [*self.outputs, *(name for name, v in slots.items() if v.flat == "buffers")]

    def arguments(self, n0=0, n1=None):
        """Map each name to a number or a view of the state: rows n0 to n1 if the array has a row for each sample."""
        run, found = self.run, {}
        for name, value in self.values.items():
            if isinstance(value, Slot):
                value = self._view(value, n0, run.N if n1 is None else n1)
            elif isinstance(value, Var):
                known = {**run.space, "n0": n0}[value.name]
                value = known + value.plus if value.plus else known  # a bool stays one
            found[name] = run.real(value) if type(value) is float else value
        return found

    def bound(self):
        """Return what the arguments are: the shapes of arrays, the values of numbers."""
        values = self.arguments().items()
        return ", ".join(f"{k} {v.shape}" if isinstance(v, np.ndarray) else f"{k} = {v}" for k, v in values)

    def _view(self, slot, n0, n1):
        view = slot.of(self.run.state, 0, self.run.N)
        return in_form(view[n0:n1] if slot.per_sample else view, slot, self.form)

    def copies(self, fill=None, dtype=None, n0=0, n1=None):
        """Return `Copies` of the arguments, with `fill` in every output."""
        return Copies(self.arguments(n0, n1), self.outputs, dtype or self.run.real, fill)

    def keep(self, copies):
        """Store a result in the state, where the following calls read it."""
        for name, view in self.arguments().items():
            if isinstance(view, np.ndarray):
                view[...] = copies[name]

    # -- ways to run it ----------------------------------------------------------------------------------------------

    def compiled(self):
        """Compile the CPU kernel for these arguments: a function of them, part and parts."""
        return compiled(self.cpu, self.arguments().values(), self.run.real)

    @property
    def cpu(self):
        kernel = self.kernel.on("cpu") if isinstance(self.kernel, Operation) else self.kernel
        if not isinstance(kernel, Kernel):
            raise NnjitError(f"{self.name}: {kernel!r} must be made by @kernel or @elementwise")
        return kernel

    def signature(self):
        """Return the Numba types of the arguments, for which the program compiles the kernel."""
        return signature(self.arguments().values(), self.run.real)

    def reference(self):
        """Return the NumPy twin of an operation, else the plain Python function that the kernel was made from."""
        return self.kernel.on("reference") if isinstance(self.kernel, Operation) else self.plain()

    def plain(self):
        """Return the plain Python function of the CPU kernel."""
        return plain(self.cpu)


def plain(kernel):
    """Return the plain Python function that a kernel was made from."""
    return kernel.plain() if isinstance(kernel, Formula) else kernel.function


def signature(arguments, real):
    """Return the Numba types of a kernel's arguments; `real` is the NumPy type of its floating-point numbers."""
    number = FLOATS[real]
    return tuple(number if isinstance(v, (float, np.floating)) else type_of(v) for v in arguments)


def compiled(kernel, arguments, real):
    """Compile a kernel for these arguments: a function of them, part and parts."""
    return kernel.compile(signature(arguments, real), real)[1]


def in_form(array, slot, form):
    """Return the array of a slot in the shape in which a kernel of this form takes it."""
    return array.reshape(sizes(slot, form, len(array) if slot.per_sample else 0))


class Guarded(dict):
    """Arguments by name; each array lies between guards, which hold the mark."""

    def __init__(self):
        super().__init__()
        self.memory = {}

    def marked(self, name, size, real):
        """Return a new array (size,) that holds the mark, between guards."""
        memory = self.memory[name] = np.full(size + 2 * GUARD, mark(real), real)
        return memory[GUARD : GUARD + size]

    def crossed(self):
        """Yield the names of arrays beyond whose ends something was written."""
        for name, memory in self.memory.items():
            ends = np.concatenate([memory[:GUARD], memory[len(memory) - GUARD :]])
            if not unwritten(ends).all():
                yield name


class Copies(Guarded):
    """Arguments by name; arrays are copies between guards, one copy where two names share memory."""

    def __init__(self, arguments, outputs, dtype, fill):
        super().__init__()
        places = {}
        for name, value in arguments.items():
            if isinstance(value, np.ndarray) and value.dtype.kind != "f":  # class numbers
                value = value.copy()
            elif isinstance(value, np.ndarray):
                place = (value.__array_interface__["data"], value.size)
                if place not in places or not value.size:
                    places[place] = self._copy(name, value, dtype, fill if name in outputs else None)
                value = places[place].reshape(value.shape)
            elif isinstance(value, np.floating):
                value = dtype(value)
            self[name] = value

    def _copy(self, name, array, dtype, fill):
        copy = self.marked(name, array.size, dtype)
        copy[...] = array.reshape(-1) if fill is None else fill
        return copy


def mark(real):
    """Return the NaN that means "not written"."""
    return MARKS[real].view(real)


def unwritten(array):
    """Return a mask of the elements that still hold the mark."""
    kind = MARKS[array.dtype.type]
    return array.view(kind.dtype) == kind


def same_bits(a, b):
    """Return a mask of the elements in which two arrays hold the same bits.

    If Numba uses Intel's SVML, which rounds exp and similar functions differently in vectors and in a loop's remainder,
    16 units in the last place are allowed.
    """
    if a.dtype.kind != "f":
        return a == b
    kind = MARKS[a.dtype.type].dtype
    same = np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)
    if config.USING_SVML:
        same |= abs(a - b) <= 16 * np.spacing(np.maximum(abs(a), abs(b)))
    return same
