"""Where an array of the program lives, and how a kernel is called on it.

A slot says: this part of that flat array, at this offset, with this shape. The program's text names slots
(``W2 = part("theta", 0, (10, 64))``) and calls kernels on them (``dense_forward(s, n0, n1, x=a1, W=W2, b=b2, y=z2)``);
`s` is the state (a tuple of a few flat arrays), n0 and n1 the block of samples. A kernel's binding turns the slots into
arrays: in plain Python by slicing, in compiled code by an address and sizes, all known when the program is compiled.
"""

import inspect
import sys
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, models, register_model, typeof_impl

from ..kernels.compiler.cache import digest
from ..kernels.compiler.kernel import FLOATS, call_symbol

KEY = digest(inspect.getsource(sys.modules[__name__]))  # the code of a program depends on this file


class Desk(NamedTuple):
    """Where workers keep what they need for one block only: the next block finds the place still in the cache.

    Block p is of the samples from p * samples on; worker p % workers has it, whose desk begins at the worker's number
    times `room`.
    """

    room: int
    samples: int
    workers: int

    def of(self, n0):
        """Where the desk of the block from sample n0 on begins."""
        return n0 // self.samples % self.workers * self.room


@dataclass(frozen=True)
class Slot:
    """One array of the program.

    Parameters
    ----------
    flat : str
        Field of the state.
    offset : int
        Index of the first number.
    shape : tuple of int
        Without the sample axis when `rows` is set.
    rows : bool
        One row a sample: the array of a block is ``(n1 - n0, *shape)``, and those of all blocks follow each other.
    desk : Desk or None
        A short-lived array of rows lies on the desk of the worker that has the block, at ``local * (n1 - n0)``.
    """

    flat: str
    offset: int
    shape: tuple
    rows: bool = False
    desk: "Desk | None" = None
    local: int = 0

    @property
    def size(self):
        return prod(self.shape)

    @property
    def ndim(self):
        return len(self.shape) + self.rows

    def __str__(self):
        if not self.rows:
            return f"part({self.flat!r}, {self.offset}, {self.shape})"
        if self.desk is None:
            return f"rows({self.flat!r}, {self.offset}, {self.shape})"
        return f"short({self.flat!r}, {self.offset}, {self.shape}, {self.local}, *{tuple(self.desk)})"

    def of(self, state, n0=0, n1=0):
        """The array itself, as a view of the state."""
        flat = getattr(state, self.flat)
        if not self.rows:
            return flat[self.offset : self.offset + self.size].reshape(self.shape)
        first = self.offset + (n0 * self.size if self.desk is None else self.desk.of(n0) + self.local * (n1 - n0))
        return flat[first : first + (n1 - n0) * self.size].reshape(n1 - n0, *self.shape)


def part(flat, offset, shape):
    """An array of fixed shape."""
    return Slot(flat, offset, tuple(shape))


def rows(flat, offset, shape):
    """An array with one row a sample, the rows of all samples one after the other."""
    return Slot(flat, offset, tuple(shape), True)


def short(flat, offset, shape, local, *desk):
    """An array with one row a sample that lives only while its block is worked on (see `Slot` and `Desk`)."""
    return Slot(flat, offset, tuple(shape), True, Desk(*desk), local)


def shaped(slot, form):
    """The slot as a kernel wants it.

    None: as it is; "flat": one dimension; "matrix": (N, features); "channels": (N, C, positions); 3: images of 1 and 2
    spatial dimensions lifted to 3. Arrays without a sample axis keep their shape under "matrix" and "channels".
    """
    if form is None:
        return slot
    shape = slot.shape
    if form in ("matrix", "channels"):
        if not slot.rows or not shape:
            return slot
        return replace(slot, shape=(slot.size,) if form == "matrix" else (shape[0], slot.size // shape[0]))
    if form == "flat":
        return replace(slot, shape=shape if slot.rows and not shape else (slot.size,))
    lead = 1 if slot.rows else 2
    missing = form - (len(shape) - lead)
    if slot.ndim < 3 or missing <= 0:
        return slot
    return replace(slot, shape=(*shape[:lead], *(1,) * missing, *shape[lead:]))


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


def _flattened(slot, form):
    return form == "flat" and slot.rows and slot.shape != ()


def array_type(slot, form, state_dtypes):
    """The Numba type of a slot's array in a given form."""
    ndim = 1 if form == "flat" else shaped(slot, form).ndim
    return types.Array(state_dtypes[slot.flat], ndim, "C")


class Binding:
    """A kernel as the program's text calls it: ``name(s, n0, n1, <arguments by name>)``.

    Parameters
    ----------
    kernel : Kernel or function
        A function over arrays.
    names : tuple of str
        The kernel's argument names.
    form : None, "flat" or int
        How slots are shaped for this kernel (see `shaped`).
    """

    def __init__(self, name, kernel, names, form=None):
        self.name, self.kernel, self.names, self.form = name, kernel, tuple(names), form

    def arrays(self, state, n0, n1, values):
        for value in values:
            if not isinstance(value, Slot):
                yield value.reshape(-1) if self.form == "flat" and isinstance(value, np.ndarray) else value
            elif _flattened(value, self.form):
                yield value.of(state, n0, n1).reshape(-1)
            else:
                yield shaped(value, self.form).of(state, n0, n1)

    def python(self, function):
        """The binding for text that runs in plain Python; `function` gets the arrays."""

        def call(s, n0, n1, *values, part=0, parts=1, **named):
            values = [*values, *(named[name] for name in self.names[len(values) :])]
            if part == 0:
                function(*self.arrays(s, n0, n1, values))

        return call

    def signature(self, values, state_dtypes, real):
        """Numba types of the kernel's arguments for slots and numbers."""
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

    def compiled(self, kernel_of, real, state_dtypes, parted=False):
        """The binding for text that Numba compiles.

        Parameters
        ----------
        kernel_of : callable
            From the kernel's signature to the LLVM symbol to call, or to a dispatcher to inline.
        """
        binding = self

        def typed(typing, given, has_part):
            values = [_python_value(v) for v in given[3 : 3 + len(binding.names)]]
            signature = binding.signature(values, state_dtypes, real)
            target = kernel_of(binding, signature)
            inner = (*signature, types.intp, types.intp)
            if not isinstance(target, str):
                dispatcher = types.Dispatcher(target)
                inner_sig = typing.resolve_function_type(dispatcher, inner, {})
            casts = [
                g if isinstance(g, (_SlotType, types.Array)) else want
                for g, want in zip(given[3:], (*signature, types.intp, types.intp), strict=False)
            ]
            sig = types.none(given[0], types.intp, types.intp, *casts)

            def generate(context, builder, sig, args):
                n0, n1 = args[1], args[2]
                values = []
                for given, value, want in zip(sig.args[3:], args[3:], signature, strict=False):
                    if isinstance(given, _SlotType):
                        slot, form = given.slot, binding.form
                        values.append(_array(context, builder, sig.args[0], args[0], slot, form, n0, n1, want))
                    elif isinstance(given, types.Array) and given.ndim != want.ndim:
                        values.append(_flat(context, builder, value, want))
                    else:
                        values.append(value)
                values += args[-2:] if has_part else [context.get_constant(types.intp, n) for n in (0, 1)]
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

        names = ["s", "n0", "n1", *self.names, *(("part", "parts") if parted else ())]
        space = {"typed": typed, "parted": parted}
        arguments = ", ".join(names)
        exec(f"def {self.name}(typing, {arguments}):\n    return typed(typing, ({arguments}), parted)", space)
        return intrinsic(space[self.name])


def _python_value(numba_type):
    """What an argument's type says about its value: slots and kinds are all that a signature needs."""
    if isinstance(numba_type, _SlotType):
        return numba_type.slot
    if isinstance(numba_type, types.Array):
        return numba_type
    if isinstance(numba_type, types.BaseTuple):
        return (0,) * len(numba_type)
    if isinstance(numba_type, (types.Boolean, types.BooleanLiteral)):
        return False
    return 0 if isinstance(numba_type, types.Integer) else 0.0


# In compiled code an array is (meminfo, parent, nitems, itemsize, data, shape, strides), Numba's own layout; a kernel's
# caller passes these numbers one by one. Almost all are constants here, and nobody owns a reference.


def _array(context, builder, state_type, state, slot, form, n0, n1, array):
    """LLVM: the numbers of a slot's array."""
    constant = partial(context.get_constant, types.intp)
    data = builder.extract_value(builder.extract_value(state, state_type.fields.index(slot.flat)), 4)
    view = slot if _flattened(slot, form) else shaped(slot, form)
    if not slot.rows:
        first, lead, count = constant(slot.offset), [], constant(view.size)
    else:
        n = builder.sub(n1, n0)
        first = constant(slot.offset)
        if slot.desk is None:
            first = builder.add(first, builder.mul(n0, constant(slot.size)))
        else:
            block = builder.udiv(n0, constant(slot.desk.samples))
            worker = builder.urem(block, constant(slot.desk.workers))
            first = builder.add(first, builder.mul(worker, constant(slot.desk.room)))
            first = builder.add(first, builder.mul(n, constant(slot.local)))
        count = builder.mul(n, constant(slot.size)) if slot.size != 1 else n
        lead = [n]
    if _flattened(slot, form):
        return _numbers(context, array, builder.gep(data, [first]), count, [count], [1])
    sizes, steps = [], []
    for size in reversed(view.shape):
        steps.insert(0, prod(sizes))
        sizes.insert(0, size)
    if slot.rows:
        steps.insert(0, prod(sizes))
    return _numbers(context, array, builder.gep(data, [first]), count, lead + list(map(constant, sizes)), steps)


def _flat(context, builder, value, array):
    """LLVM: the numbers of a C-contiguous array taken as one dimension."""
    count = builder.extract_value(value, 2)
    return _numbers(context, array, builder.extract_value(value, 4), count, [count], [1])


def _numbers(context, array, data, count, sizes, steps):
    null = ir.Constant(context.get_value_type(types.voidptr), None)
    item = context.get_abi_sizeof(context.get_data_type(array.dtype))
    constant = partial(context.get_constant, types.intp)
    return [null, null, count, constant(item), data, *sizes, *(constant(item * step) for step in steps)]


def _struct(context, builder, array, numbers):
    """LLVM: the numbers of an array as Numba's struct."""
    value = ir.Constant(context.get_value_type(array), ir.Undefined)
    for i, number in enumerate(numbers):
        field = i if i < 5 else (5, i - 5) if i < 5 + array.ndim else (6, i - 5 - array.ndim)
        value = builder.insert_value(value, number, field)
    return value
