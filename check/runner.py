"""The kernel calls of a network, one by one, bound as its program binds them, each on copies of its arrays.

So every question about a kernel is asked where its arguments are the real ones, and a kernel that is wrong spoils
nothing for the next: a call is run as often as there are questions, and only its serial result goes on.
"""

from typing import Any

import numpy as np
from numba import config

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.kernel import FLOATS, Kernel, type_of
from ..kernels.operations import Operation
from ..program.plan import Ref, Var
from ..program.program import Program
from ..program.slots import Slot

GUARD = 32  # numbers before and after every copy
# NaN with a payload of its own: no arithmetic makes it, so cells nobody wrote can be told from computed NaN.
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
        self.reference_scratch = {}  # slot -> what the reference kept there, which may differ from what the CPU keeps
        self.cuda_scratch = {}  # likewise
        self.state.gradient[:] = 0
        self.program.input.of(self.state, 0, self.N)[...] = x
        self._dy = dy

    def calls(self):
        """Every call of the forward and backward pass, in order."""
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
        self.kernel, self.form = call.binding.kernel, call.binding.form
        self.by_sample = not call.split  # one row a sample: may run on a block of samples
        self.values = {name: self._resolved(call.values[name]) for name in call.binding.names}
        kinds = {name: getattr(call.values[name], "kind", None) for name in call.binding.names}
        self.scratch = [name for name, kind in kinds.items() if kind in ("scratch", "dscratch")]
        self._sort(direction)

    def _resolved(self, value):
        return self.run.plan.slot(value) if isinstance(value, Ref) else value

    def _sort(self, direction):
        """`outputs` it must write whole, `inputs` it must leave alone; scratch and buffers are neither.

        An array it has under two names, one to read and one to write, is neither as well.
        """
        written = {"y"} if direction == "forward" else {"dx"}
        read = {"x", "dy"} if direction == "forward" else {"x", "y", "dy"}
        slots = {name: v for name, v in self.values.items() if isinstance(v, Slot)}
        slots = {name: v for name, v in slots.items() if list(slots.values()).count(v) == 1}
        self.outputs = [name for name, v in slots.items() if name in written or v.flat == "gradient"]
        self.inputs = [name for name, v in slots.items() if name in read or v.flat == "theta"]

    def arguments(self, n0=0, n1=None):
        """name -> array (a view of the state; rows n0 to n1 where it has one row a sample) or number."""
        run, found = self.run, {}
        for name, value in self.values.items():
            if isinstance(value, Slot):
                value = self._view(value, n0, run.N if n1 is None else n1)
            elif isinstance(value, Var):
                known = {**run.space, "n0": n0}[value.name]
                value = known + value.plus if value.plus else known  # a bool stays one
            found[name] = run.real(value) if type(value) is float else value
        return found

    def _view(self, slot, n0, n1):
        view = slot.of(self.run.state, 0, self.run.N, None if self.form == "flat" else self.form)
        view = view[n0:n1] if slot.per_sample else view
        return view.reshape(-1) if self.form == "flat" else view

    def copies(self, fill=None, dtype=None, n0=0, n1=None):
        """`Copies` of the arguments, with `fill` in every output."""
        return Copies(self.arguments(n0, n1), self.outputs, dtype or self.run.real, fill)

    def keep(self, copies):
        """Let a result stand: the calls that follow read it."""
        for name, view in self.arguments().items():
            if isinstance(view, np.ndarray):
                view[...] = copies[name]

    # -- ways to run it ----------------------------------------------------------------------------------------------

    def compiled(self):
        """The CPU kernel for these arguments: a function of them, part and parts."""
        return self.cpu.compile(self.signature(), self.run.real)[1]

    @property
    def cpu(self):
        kernel = self.kernel.on("cpu") if isinstance(self.kernel, Operation) else self.kernel
        if not isinstance(kernel, Kernel):
            raise NnjitError(f"{self.name}: {kernel!r} must be made by @kernel or @elementwise")
        return kernel

    def signature(self):
        """Numba types of the arguments, as the program compiles the kernel for them."""
        real = FLOATS[self.run.real]
        return tuple(real if isinstance(v, (float, np.floating)) else type_of(v) for v in self.arguments().values())

    def reference(self):
        """The NumPy twin of an operation; else the plain Python function the kernel was made from."""
        return self.kernel.on("reference") if isinstance(self.kernel, Operation) else self.plain()

    def plain(self):
        """The plain Python function of the CPU kernel."""
        return self.cpu.plain() if isinstance(self.cpu, Formula) else self.cpu.function


class Copies(dict):
    """name -> argument; arrays are copies between guards, one copy where two names share memory."""

    def __init__(self, arguments, outputs, dtype, fill):
        super().__init__()
        self.memory, places = {}, {}
        for name, value in arguments.items():
            if isinstance(value, np.ndarray):
                place = (value.__array_interface__["data"], value.size)
                if place not in places or not value.size:
                    places[place] = self._copy(name, value, dtype, fill if name in outputs else None)
                value = places[place].reshape(value.shape)
            elif isinstance(value, np.floating):
                value = dtype(value)
            self[name] = value

    def _copy(self, name, array, dtype, fill):
        memory = np.full(array.size + 2 * GUARD, MARKS[dtype].view(dtype), dtype)
        self.memory[name] = memory
        copy = memory[GUARD : GUARD + array.size]
        copy[...] = array.reshape(-1) if fill is None else fill
        return copy

    def crossed(self):
        """Names of arrays beyond whose ends something was written."""
        for name, memory in self.memory.items():
            ends = np.concatenate([memory[:GUARD], memory[len(memory) - GUARD :]])
            if not unwritten(ends).all():
                yield name


def mark(real):
    """The NaN that stands for "nobody wrote here"."""
    return MARKS[real].view(real)


def unwritten(array):
    """Where an array still holds the mark."""
    kind = MARKS[array.dtype.type]
    return array.view(kind.dtype) == kind


def same_bits(a, b):
    """Where two arrays hold the same bits.

    Intel's SVML, where Numba uses it, rounds exp and its kin differently in vectors and in the rest of a loop: there
    16 units in the last place are allowed.
    """
    kind = MARKS[a.dtype.type].dtype
    same = np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)
    if config.USING_SVML:
        same |= abs(a - b) <= 16 * np.spacing(np.maximum(abs(a), abs(b)))
    return same
