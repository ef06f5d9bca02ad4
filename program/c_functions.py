"""A program's functions for callers in C: an address, pointers as arguments, and a status instead of an exception.

The state is an opaque pointer, from `Program.c_state`. Arrays are C-contiguous; their number of samples is the last
size. Each function checks what it can (the state, the number of samples, labels) and returns a status; whether the
memory behind a pointer is there, it cannot know.
"""

import ctypes
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit, types
from numba.core import cgutils

from ..kernels.compiler.cache import digest
from ..kernels.compiler.machine_code import compiled
from ..kernels.compiler.options import INLINED
from ..kernels.compiler.symbols import intrinsic_of
from ..kernels.counters import STOP
from .overlap import KEY as OVERLAP_KEY
from .overlap import sharing
from .state import LEAST, WHOLE, State, StateType

if TYPE_CHECKING:
    from functools import cached_property as once  # the same for a type checker
else:
    from ..kernels.compiler.lock import once

KEY = digest(Path(__file__).read_text(encoding="utf-8"), OVERLAP_KEY)
# Statuses: done; the state is another program's, or lacks what the function needs; fewer samples than 1, or more than
# the program's batch; a label is not a class; the loss or the gradient is not finite, and theta was left alone; (5 is
# an exported function's that lacks its workspace;) an output shares a part of its memory with another array.
FINE, WRONG_STATE, WRONG_COUNT, WRONG_LABEL, NOT_FINITE, _, SHARED = range(7)


class CState:
    """A state for callers in C.

    Parameters
    ----------
    state : State
        It and this object must live as long as C code uses the address.

    Attributes
    ----------
    address : int
        Of a table of numbers: the state's number, then address and size of each array.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        table = [state.layout, *(number for array in state[:-1] for number in (array.ctypes.data, array.size))]
        self._table = np.array(table, np.int64)
        self.address: int = self._table.ctypes.data
        self._as_parameter_ = ctypes.c_void_p(self.address)


def state_at(real):
    """Return an intrinsic: the state of a table at an address."""
    kind = StateType(real)

    def typed(typing, given):
        def generate(context, builder, sig, values):
            table = builder.bitcast(values[0], cgutils.intp_t.as_pointer())
            state = cgutils.create_struct_proxy(kind)(context, builder)

            def number(k):
                return builder.load(builder.gep(table, [cgutils.intp_t(k)]))

            for k, (field, array) in enumerate(zip(kind.fields[:-1], kind.types[:-1], strict=True)):
                made, item = cgutils.create_struct_proxy(array)(context, builder), context.get_data_type(array.dtype)
                made.itemsize = cgutils.intp_t(context.get_abi_sizeof(item))
                made.data = builder.inttoptr(number(1 + 2 * k), made.data.type)
                made.nitems = number(2 + 2 * k)
                made.shape, made.strides = (
                    cgutils.pack_array(builder, [each]) for each in (made.nitems, made.itemsize)
                )
                setattr(state, field, made._getvalue())
            state.layout = number(0)
            return state._getvalue()

        return kind(types.voidptr), generate

    return intrinsic_of(["address"], typed)


def array_at(array, shape):
    """Return an intrinsic: the array of some samples of a shape at an address."""

    def typed(typing, given):
        def generate(context, builder, sig, values):
            data, samples = values
            lengths = [samples, *(cgutils.intp_t(n) for n in shape)]
            made, item = cgutils.create_struct_proxy(array)(context, builder), context.get_data_type(array.dtype)
            step = cgutils.intp_t(context.get_abi_sizeof(item))
            steps: list = []
            made.itemsize = step
            for length in reversed(lengths):
                steps.insert(0, step)
                step = builder.mul(step, length)
            made.data, made.nitems = data, builder.mul(samples, cgutils.intp_t(prod(shape)))
            made.shape, made.strides = cgutils.pack_array(builder, lengths), cgutils.pack_array(builder, steps)
            return made._getvalue()

        return array(types.CPointer(array.dtype), types.intp), generate

    return intrinsic_of(["address", "samples"], typed)


def all_classes(labels, classes):
    """Return whether all labels are classes."""
    found = True
    for label in labels:
        found = found and 0 <= label < classes
    return found


NAMES = ("predict", "vjp", "jvp", "gradient", "step", "update", "clear")
RESULTS = {"gradient": "loss", "step": "loss", "update": "norm"}  # numbers that are returned through a pointer
STOPS = ("step", "update")


class CFunction:
    """A function of a program for callers in C; `Program.c_function` makes it.

    Parameters
    ----------
    function : Function
    space : dict
        The names of its text, compiled.
    key : str
        The hash of what decides the code of the text.

    Attributes
    ----------
    name : str
    declaration : str
        The line of C that declares it, and the shapes of its arrays as a comment.
    """

    def __init__(self, function: Any, space: dict[str, Any], key: str) -> None:
        self.name, self._function, self._space, self._key = function.name, function, space, key
        self._parameters = [each for each in function.parameters[1:] if each.role != "flag"]
        self._arguments = list(self._listed())
        arrays = [each for each in self._parameters if each.shape is not None]
        shapes = ", ".join(f"{each.name} ({', '.join(map(str, ('samples', *each.shape[1:])))})" for each in arrays)
        listed = ", ".join(f"{kind}{name}" for name, kind, _, _ in self._arguments)
        self.declaration = f"int {self.name}({listed});{f'  /* {shapes} */' if shapes else ''}"

    def __repr__(self) -> str:
        return f"<C function {self.name}>"

    def _listed(self):
        """Yield the name of each argument, and its type in C, for ctypes and for Numba."""
        real = self._function.parameters[0].type.real
        number = ("float", ctypes.c_float) if real is types.float32 else ("double", ctypes.c_double)
        yield "state", "void *", ctypes.c_void_p, types.voidptr
        for each in self._parameters:
            if each.shape is None:
                yield each.name, "double ", ctypes.c_double, types.float64
            else:
                text, kind = ("int64_t", ctypes.c_int64) if each.role == "labels" else number
                place = ctypes.POINTER(kind), types.CPointer(each.type.dtype)
                yield each.name, f"{'' if each.output else 'const '}{text} *", *place
        if self.name in RESULTS:
            yield RESULTS[self.name], "double *", ctypes.POINTER(ctypes.c_double), types.CPointer(types.float64)
        if any(each.shape for each in self._parameters):
            yield "samples", "int64_t ", ctypes.c_int64, types.intp
        if self.name == "vjp":
            yield "training", "int ", ctypes.c_int, types.intc

    def _text(self):
        """Return the function that checks its arguments and calls that of the program's text."""
        names, least = ", ".join(name for name, *_ in self._arguments), LEAST.get(self.name, WHOLE)
        given = [f"{p.name}_at({p.name}, samples)" if p.shape else p.name for p in self._parameters]
        given += ["training != 0"] if self.name == "vjp" else []
        call = f"{self.name}_samples({', '.join(['s', *given])})"
        lines = ["s = state_at(state)", f"if not {least} <= s.layout - LIGHT <= {WHOLE}:", f"    return {WRONG_STATE}"]
        if any(p.shape for p in self._parameters):
            most = f" <= {self._function.largest}" if self._function.largest else ""
            lines += [f"if not 1 <= samples{most}:", f"    return {WRONG_COUNT}"]
        arrays = {p.name: f"{p.name}_at({p.name}, samples)" for p in self._parameters if p.shape}
        outputs = [arrays.pop(p.name) for p in self._parameters if p.output]
        lines += [f"if {sharing(arrays.values(), outputs)}:", f"    return {SHARED}"] if outputs else []
        if any(p.role == "labels" for p in self._parameters):
            lines += [f"if not all_classes(target_at(target, samples), {self._function.output_shape[0]}):"]
            lines += [f"    return {WRONG_LABEL}"]
        lines += [f"{RESULTS[self.name]}[0] = {call}" if self.name in RESULTS else call]
        lines += [f"if s.counters[{STOP}]:", f"    return {NOT_FINITE}"] if self.name in STOPS else []
        return "\n    ".join([f"def function({names}):", *lines, f"return {FINE}"])

    @once
    def _compiled(self):
        if self._function.direct is not None:
            self._function.direct()  # the code calls its symbol
        real = self._function.parameters[0].type.real
        space = {**self._space, "state_at": state_at(real), "all_classes": njit(**INLINED)(all_classes)}
        space |= {f"{p.name}_at": array_at(p.type, p.shape[1:]) for p in self._parameters if p.shape}
        exec(self._text(), space)
        function = space["function"]
        function.__name__ = function.__qualname__ = f"c_{self.name}_{digest(self._text(), self._key, KEY)}"
        signature = tuple(kind for *_, kind in self._arguments)
        return compiled(function, signature, no_cpython_wrapper=True)

    @property
    def code(self) -> tuple[Any, str]:
        """The library of the compiled function, and its name there, in Numba's calling convention."""
        (result,) = self._compiled.overloads.values()
        return result.library, result.fndesc.llvm_func_name

    @once
    def address(self) -> int:
        """Return the address of the machine code, for C's calling convention."""
        (result,) = self._compiled.overloads.values()
        address: int = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
        return address

    @once
    def ctypes(self) -> Any:
        """Return the function for ctypes; its state is a `CState` or an address."""
        kinds = [kind for _, _, kind, _ in self._arguments]
        return ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(self.address)
