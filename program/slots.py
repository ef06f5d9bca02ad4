"""The places of a program's arrays, and calls of kernels on them.

A slot is a part of a flat array, at an offset, with a shape. The program's text names slots
(``W2 = fixed("theta", 0, (10, 64))``) and calls kernels on them (``dense2_forward(s, n0, n1, a1, W2, b2, z2)``); `s` is
the state (a tuple of a few flat arrays), n0 and n1 the block of samples. The binding of a call holds the options of the
kernel and turns the slots into arrays: in plain Python by slicing, in compiled code by an address and sizes, all known
when the program is compiled. `Slot.first` and `sizes` compute with numbers of Python and of LLVM alike.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_constant
from numba.extending import models, register_model, typeof_impl

from ..kernels.compiler.cache import digest
from ..kernels.compiler.options import FLOATS
from ..kernels.compiler.symbols import call_symbol, intrinsic_of

KEY = digest(Path(__file__).read_text(encoding="utf-8"))  # the code of a program depends on this file


class Scratch(NamedTuple):
    """Per-worker scratch memory, reused by consecutive blocks so that it stays in the cache.

    Block p holds the samples from p * samples on and belongs to worker p % workers. A worker has `size` numbers of the
    arena; those of the first worker begin at `offset`.
    """

    offset: int
    size: int
    samples: int
    workers: int

    def of(self, n0):
        """Return the first index of the memory of the block from sample n0 on."""
        return self.offset + n0 // self.samples % self.workers * self.size


@dataclass(frozen=True)
class Slot:
    """One array of the program.

    Parameters
    ----------
    flat : str
        Field of the state.
    offset : int
        Index of the first number; in scratch memory that of a block of one sample, to be multiplied by n1 - n0.
    shape : tuple of int
        Without the sample axis if `per_sample` is set.
    per_sample : bool
        One row per sample: the array of a block is ``(n1 - n0, *shape)``, and those of all blocks follow each other.
    scratch : Scratch or None
        The memory of an array that only one block needs.
    columns : bool
        Samples are columns: the array of a block is ``(size, n1 - n0)``.
    """

    flat: str
    offset: int
    shape: tuple
    per_sample: bool = False
    scratch: "Scratch | None" = None
    columns: bool = False

    @property
    def size(self):
        return prod(self.shape)

    @property
    def ndim(self):
        return len(self.shape) + self.per_sample

    def __str__(self):
        return self.text(self.scratch and tuple(self.scratch))

    def text(self, scratch):
        """Return the definition in the program's text, where the scratch memory has this name."""
        if self.scratch is not None:
            kind = "columns" if self.columns else "block" if self.per_sample else "per_block"
            return f"{kind}({scratch}, {self.offset}, {self.shape})"
        return f"{'batch' if self.per_sample else 'fixed'}({self.flat!r}, {self.offset}, {self.shape})"

    def first(self, n0, n1):
        """Return the index of the first number of the samples n0 to n1."""
        if self.scratch is not None:
            return self.scratch.of(n0) + self.offset * ((n1 - n0) if self.per_sample else 1)
        return self.offset + n0 * self.size if self.per_sample else self.offset

    def of(self, state, n0=0, n1=0, form=None):
        """Return the array of the samples n0 to n1, as a view of the state, for a kernel of this form."""
        shape, first = sizes(self, form, n1 - n0), self.first(n0, n1)
        return getattr(state, self.flat)[first : first + prod(shape)].reshape(shape)


def fixed(flat, offset, shape):
    """Return the Slot of an array of fixed shape."""
    return Slot(flat, offset, tuple(shape))


def batch(flat, offset, shape):
    """Return the Slot of an array with one row per sample, the rows of all samples one after the other."""
    return Slot(flat, offset, tuple(shape), True)


def block(scratch, offset, shape):
    """Return the Slot of an array with one row per sample in scratch memory."""
    return Slot("arena", offset, tuple(shape), True, Scratch(*scratch))


def columns(scratch, offset, shape):
    """Return the Slot of an array with one column per sample in scratch memory."""
    return Slot("arena", offset, tuple(shape), True, Scratch(*scratch), True)


def per_block(scratch, offset, shape):
    """Return the Slot of an array of fixed shape in scratch memory: one for each block of samples."""
    return Slot("arena", offset, tuple(shape), False, Scratch(*scratch))


def sizes(slot, form, n):
    """Return the shape of a slot's array of n samples for a kernel of this form.

    None: as it is; "flat": one dimension; "matrix": (N, features); "channels": (N, C, positions); 3: images of 1 and 2
    spatial dimensions lifted to 3. Arrays without a sample axis keep their shape under "matrix" and "channels".
    Samples that are columns stay (features, N), or flat.
    """
    shape, lead = slot.shape, (n,) if slot.per_sample else ()
    if form == "flat":
        return (n * slot.size if slot.per_sample else slot.size,)
    if slot.columns:
        return (slot.size, n)
    if form in ("matrix", "channels") and slot.per_sample and shape:
        shape = (slot.size,) if form == "matrix" else (shape[0], slot.size // shape[0])
    elif isinstance(form, int) and slot.ndim >= 3:
        axes = 2 - len(lead)  # before the spatial ones
        shape = (*shape[:axes], *(1,) * (form - len(shape) + axes), *shape[axes:])
    return (*lead, *shape)


class _SlotType(types.Type):
    def __init__(self, slot):
        self.slot = slot
        super().__init__(str(slot))


register_model(_SlotType)(models.OpaqueModel)


@typeof_impl.register(Slot)
def _typeof_slot(slot, context):
    return _SlotType(slot)


@lower_constant(_SlotType)
def _lower_slot(context, builder, kind, value):
    return context.get_dummy_value()


def array_type(slot, form, state_dtypes):
    """Return the Numba type of a slot's array in a given form."""
    return types.Array(state_dtypes[slot.flat], len(sizes(slot, form, 1)), "C")


class Binding:
    """A kernel bound for one call of the program's text: ``name(s, n0, n1, <arrays and variables by position>)``.

    Parameters
    ----------
    name : str
        The name in the text.
    title : str
        The name in messages: the layer's registered name and the kernel's.
    kernel : Kernel or Operation
        A function over arrays.
    options : dict
        Arguments that are the same in every call, by name; they are not in the text.
    parts : int or None
        The number of parts of the kernel's own loop: the call's last argument is then the number of the part. None:
        the loop is not divided.
    """

    def __init__(self, name, title, kernel, options=None, parts=None):
        self.name, self.title, self.kernel, self.parts = name, title, kernel, parts
        self.names, self.form, self.options = tuple(kernel.arguments), kernel.form, dict(options or {})
        self.free = tuple(name for name in self.names if name not in self.options)

    def values(self, given):
        """Return all arguments of the kernel in its order, from those of a call."""
        free = iter(given)
        return [self.options[name] if name in self.options else next(free) for name in self.names]

    def arrays(self, state, n0, n1, values):
        """Yield the arguments for plain Python: slots as arrays."""
        for value in values:
            if isinstance(value, Slot):
                yield value.of(state, n0, n1, self.form)
            else:
                yield value.reshape(-1) if self.form == "flat" and isinstance(value, np.ndarray) else value

    def python(self, function):
        """Return the binding for text that runs in plain Python; `function` gets the arrays."""

        def call(s, n0, n1, *given):
            if self.parts is None or given[-1] == 0:  # the first part does all the work
                function(*self.arrays(s, n0, n1, self.values(given)))

        return call

    def signature(self, values, state_dtypes, real):
        """Return the Numba types of the kernel's arguments for slots and numbers."""
        real = FLOATS[real]
        signature = []
        for value in values:
            if isinstance(value, Slot):
                signature.append(array_type(value, self.form, state_dtypes))
            elif isinstance(value, types.Array):
                signature.append(types.Array(value.dtype, 1, "C") if self.form == "flat" else value)
            elif isinstance(value, tuple):
                signature.append(types.UniTuple(types.intp, len(value)))
            elif isinstance(value, bool):
                signature.append(types.boolean)
            else:
                signature.append(types.intp if isinstance(value, int) else real)
        return tuple(signature)

    def compiled(self, kernel_of, real, state_dtypes):
        """Return the binding for text that Numba compiles.

        Parameters
        ----------
        kernel_of : callable
            Maps the kernel's signature to the LLVM symbol to call, or to a dispatcher to inline.
        """
        binding, options = self, self.options
        free = ["s", "n0", "n1", *self.free, *(() if self.parts is None else ("part",))]

        def typed(typing, given):
            known = dict(zip(free, given, strict=True))
            values = [options[n] if n in options else _python_value(known[n]) for n in binding.names]
            signature = binding.signature(values, state_dtypes, real)
            wanted = dict(zip(binding.names, signature, strict=True))
            target = kernel_of(binding, signature)
            inner = (*signature, types.intp, types.intp)
            if not isinstance(target, str):
                dispatcher = types.Dispatcher(target)
                inner_sig = typing.resolve_function_type(dispatcher, inner, {})
            casts = [
                kind if isinstance(kind, (_SlotType, types.Array)) else wanted.get(name, types.intp)
                for name, kind in zip(free[3:], given[3:], strict=True)
            ]
            sig = types.none(given[0], types.intp, types.intp, *casts)

            def generate(context, builder, sig, args):
                kinds, found = dict(zip(free, sig.args, strict=True)), dict(zip(free, args, strict=True))
                n0, n1, values = found["n0"], found["n1"], []
                for name, want in wanted.items():
                    if name in options:
                        values.append(_constant(context, builder, options[name], want))
                    elif isinstance(kinds[name], _SlotType):
                        slot, form = kinds[name].slot, binding.form
                        values.append(_array(context, builder, sig.args[0], args[0], slot, form, n0, n1, want))
                    elif isinstance(kinds[name], types.Array) and kinds[name].ndim != want.ndim:
                        values.append(_flat(context, builder, found[name], want))
                    else:
                        values.append(found[name])
                parts = context.get_constant(types.intp, binding.parts or 1)
                values += [found.get("part", context.get_constant(types.intp, 0)), parts]
                if isinstance(target, str):
                    call_symbol(context, builder, target, inner, values)
                else:
                    values = [
                        _struct(context, builder, kind, value) if isinstance(value, list) else value
                        for kind, value in zip(inner, values, strict=True)
                    ]
                    context.get_function(dispatcher, inner_sig)(builder, values)
                return context.get_dummy_value()

            return sig, generate

        return intrinsic_of(free, typed)


def _constant(context, builder, value, kind):
    """Emit an option, rounded to the element type as a number in the text would be."""
    if isinstance(value, float):
        return context.cast(builder, context.get_constant(types.float64, value), types.float64, kind)
    return context.get_constant_generic(builder, kind, value)


def _python_value(numba_type):
    """Return a value of an argument's type: slots and kinds are all that a signature needs."""
    if isinstance(numba_type, _SlotType):
        return numba_type.slot
    if isinstance(numba_type, types.Array):
        return numba_type
    if isinstance(numba_type, types.BaseTuple):
        return (0,) * len(numba_type)
    if isinstance(numba_type, (types.Boolean, types.BooleanLiteral)):
        return False
    return 0 if isinstance(numba_type, types.Integer) else 0.0


class _Number:
    """A whole number in LLVM, which computes with those of Python: arithmetic emits instructions."""

    def __init__(self, context, builder, value):
        self.context, self.builder, self.value = context, builder, value

    def _emit(self, instruction, *numbers):
        values = (number.value if isinstance(number, _Number) else self._constant(number) for number in numbers)
        return _Number(self.context, self.builder, getattr(self.builder, instruction)(*values))

    def _constant(self, number):
        return self.context.get_constant(types.intp, number)

    def __add__(self, other):
        return self._emit("add", self, other)

    def __radd__(self, other):
        return self._emit("add", other, self)

    def __sub__(self, other):
        return self._emit("sub", self, other)

    def __mul__(self, other):
        return self if other == 1 else self._emit("mul", self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other):
        return self._emit("udiv", self, other)

    def __mod__(self, other):
        return self._emit("urem", self, other)


# In compiled code an array is (meminfo, parent, nitems, itemsize, data, shape, strides), Numba's own layout; a kernel's
# caller passes these numbers one by one. Almost all of them are constants here, and there are no references to count.


def _array(context, builder, state_type, state, slot, form, n0, n1, array):
    """Emit the numbers of a slot's array."""
    data = builder.extract_value(builder.extract_value(state, state_type.fields.index(slot.flat)), 4)
    constant = partial(context.get_constant, types.intp)
    n0, n1 = (_Number(context, builder, n) for n in (n0, n1))
    first, shape = slot.first(n0, n1), sizes(slot, form, n1 - n0)
    numbers = (first, prod(shape), *shape, *(prod(shape[i + 1 :]) for i in range(len(shape))))
    first, count, *rest = (n.value if isinstance(n, _Number) else constant(n) for n in numbers)
    return _numbers(context, builder, array, builder.gep(data, [first]), count, rest[: len(shape)], rest[len(shape) :])


def _flat(context, builder, value, array):
    """Emit the numbers of a C-contiguous array as one dimension."""
    count = builder.extract_value(value, 2)
    one = context.get_constant(types.intp, 1)
    return _numbers(context, builder, array, builder.extract_value(value, 4), count, [count], [one])


def _numbers(context, builder, array, data, count, lengths, steps):
    """Return the numbers of an array: its count, item size, address, lengths and strides."""
    null = ir.Constant(context.get_value_type(types.voidptr), None)
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    return [null, null, count, item, data, *lengths, *(builder.mul(item, step) for step in steps)]


def _struct(context, builder, array, numbers):
    """Emit Numba's struct of an array from its numbers."""
    value = ir.Constant(context.get_value_type(array), ir.Undefined)
    for i, number in enumerate(numbers):
        field = i if i < 5 else (5, i - 5) if i < 5 + array.ndim else (6, i - 5 - array.ndim)
        value = builder.insert_value(value, number, field)
    return value
