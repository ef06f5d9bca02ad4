"""Where an array of the program lives, and how a kernel is called on it.

A slot says: this part of that flat array, at this offset, with this shape. The program's text names slots
(``W2 = part("theta", 0, (10, 64))``) and calls kernels on them (``dense_forward(s, n0, n1, x=a1, W=W2, b=b2, y=z2)``);
`s` is the state (a tuple of a few flat arrays), n0 and n1 the block of samples. A kernel's binding turns the slots into
arrays: in plain Python by slicing, in compiled code by an address and sizes, all known when the program is compiled.
"""

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, models, register_model, typeof_impl
from numba.np.arrayobj import make_array, populate_array

from .compiler import FLOATS, call_symbol


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
        One row a sample: the array of a block is ``(n1 - n0, *shape)``.
    stride, local : int
        Rows of a block begin at ``offset + n0 * stride + local * (n1 - n0)``. With stride equal to the row's size and
        local 0 the rows of all blocks follow each other; a short-lived array has its place inside its block's share.
    """

    flat: str
    offset: int
    shape: tuple
    rows: bool = False
    stride: int = 0
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
        if self.stride == self.size and not self.local:
            return f"rows({self.flat!r}, {self.offset}, {self.shape})"
        return f"short({self.flat!r}, {self.offset}, {self.shape}, {self.stride}, {self.local})"

    def of(self, state, n0=0, n1=0):
        """The array itself, as a view of the state."""
        flat = getattr(state, self.flat)
        if not self.rows:
            return flat[self.offset : self.offset + self.size].reshape(self.shape)
        first = self.offset + n0 * self.stride + self.local * (n1 - n0)
        return flat[first : first + (n1 - n0) * self.size].reshape(n1 - n0, *self.shape)


def part(flat, offset, shape):
    """An array of fixed shape."""
    return Slot(flat, offset, tuple(shape))


def rows(flat, offset, shape):
    """An array with one row a sample, the rows of all samples one after the other."""
    return Slot(flat, offset, tuple(shape), True, prod(shape))


def short(flat, offset, shape, stride, local):
    """An array with one row a sample that lives only while its block is worked on (see `Slot`)."""
    return Slot(flat, offset, tuple(shape), True, stride, local)


def shaped(slot, form):
    """The slot as a kernel wants it: "flat" for elementwise, a number of spatial dimensions, or None for as it is."""
    if form is None:
        return slot
    shape = slot.shape
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
                kind = types.Dispatcher(target)
                inner_sig = typing.resolve_function_type(kind, inner, {})
            casts = [
                g if isinstance(g, (_SlotType, types.Array)) else want
                for g, want in zip(given[3:], (*signature, types.intp, types.intp), strict=False)
            ]
            sig = types.none(given[0], types.intp, types.intp, *casts)

            def generate(context, builder, sig, args):
                n0, n1 = args[1], args[2]
                state_type = sig.args[0]
                numbers = []
                for i, want in enumerate(signature):
                    argument = sig.args[3 + i]
                    if isinstance(argument, _SlotType):
                        numbers.append(
                            _array(context, builder, state_type, args[0], argument.slot, binding.form, n0, n1, want)
                        )
                    elif isinstance(argument, types.Array) and argument.ndim != want.ndim:
                        numbers.append(_flat(context, builder, argument, args[3 + i], want))
                    else:
                        numbers.append(args[3 + i])
                if has_part:
                    numbers += args[-2:]
                else:
                    numbers += [context.get_constant(types.intp, 0), context.get_constant(types.intp, 1)]
                if isinstance(target, str):
                    call_symbol(context, builder, target, inner, numbers)
                else:
                    context.get_function(kind, inner_sig)(builder, numbers)
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


def _array(context, builder, state_type, state, slot, form, n0, n1, array):
    """LLVM: the array struct of a slot; no reference is taken, the state outlives the call."""
    field = state_type.fields.index(slot.flat)
    flat_type = state_type.types[field]
    flat = make_array(flat_type)(context, builder, builder.extract_value(state, field))
    constant = lambda n: context.get_constant(types.intp, n)  # noqa: E731
    if _flattened(slot, form):
        sizes = [builder.mul(builder.sub(n1, n0), constant(slot.size))]
    else:
        view = shaped(slot, form)
        sizes = [constant(n) for n in view.shape]
        if slot.rows:
            sizes.insert(0, builder.sub(n1, n0))
    first = constant(slot.offset)
    if slot.rows:
        first = builder.add(first, builder.mul(n0, constant(slot.stride)))
        if slot.local:
            first = builder.add(first, builder.mul(builder.sub(n1, n0), constant(slot.local)))
    return _struct(context, builder, array, builder.gep(flat.data, [first]), sizes)


def _flat(context, builder, given, value, array):
    """LLVM: a C-contiguous array as one dimension."""
    source = make_array(given)(context, builder, value)
    return _struct(context, builder, array, source.data, [source.nitems])


def _struct(context, builder, array, data, sizes):
    """LLVM: an array struct over memory that somebody else owns."""
    item = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    strides, step = [], item
    for size in reversed(sizes):
        strides.insert(0, step)
        step = builder.mul(step, size)
    result = make_array(array)(context, builder)
    populate_array(
        result,
        data,
        cgutils.pack_array(builder, sizes),
        cgutils.pack_array(builder, strides),
        item,
        None,
    )
    return result._getvalue()
