"""Direct calls of predict and step from compiled code: with addresses and the number of samples only.

In Numba's calling convention a State and two arrays are 77 numbers, almost all of them known to the program; a call
would write them to the stack, which took 20 ns. The caller (`function`) checks what the text's guard checks, which it
can do outside of its loop, and passes the addresses of the state's arrays that the function needs, those of x and of
y or the target, and N. The program's code makes arrays of them, with constant sizes. The arrays of a state do not
overlap, which the addresses of such a call tell LLVM ("noalias"). Callers reach the function by its entry, which also
returns the loss or the first number of y in a register.
"""

from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..kernels.compiler.cache import digest
from ..kernels.compiler.machine_code import add_symbol
from ..kernels.compiler.masks import SAMPLE
from ..kernels.compiler.symbols import intrinsic_of
from .state import StateType

KEY = digest(Path(__file__).read_text(encoding="utf-8"))

# Numbers of a sample that predict gets by value; a user's loop is compiled once for each count of them.
PASSED = 2

# Arrays of the state that a function needs, by its name.
FIELDS = {
    "predict": ("theta", "buffers", "arena"),
    "step": ("theta", "gradient", "moments", "buffers", "arena", "rates", "log", "counters"),
}
FIELDS["epoch"] = FIELDS["step"]


class Arguments(NamedTuple):
    """The arguments of a function: the state, x, y or the targets, and the order of an epoch.

    Parameters
    ----------
    name : str
        "predict", "step" or "epoch".
    state : StateType
    sizes : mapping
        Field of the state -> its numbers; those of "rates" vary.
    arrays : sequence of Numba types
    shapes : sequence of tuple of int
        Of a sample, for each of the arrays.
    inline : bool
        Whether kernels are compiled into the function.
    """

    name: str
    state: StateType
    sizes: Any
    arrays: Sequence
    shapes: Sequence
    inline: bool

    @property
    def signature(self):
        return signature_of(self.name, (self.state, *self.arrays))


def signature_of(name, kinds):
    """Return the Numba types of a direct call's arguments, from those of the state and the arrays."""
    state, *arrays = kinds
    dtypes = state.dtypes()
    addresses = [types.CPointer(dtypes[field]) for field in FIELDS[name]]
    steps = [types.intp] if "rates" in FIELDS[name] else []
    counts = [types.intp] * (len(arrays) - 1)  # samples, and those of an order
    return (*addresses, *(types.CPointer(array.dtype) for array in arrays), *steps, *counts)


def numbers_of(builder, name, kinds, values):
    """Emit the arguments of a direct call from the state and the arrays."""
    state, *arrays = values
    found = {field: builder.extract_value(state, kinds[0].fields.index(field)) for field in FIELDS[name]}
    steps = [builder.extract_value(found["rates"], 2)] if "rates" in found else []
    addresses = [builder.extract_value(array, 4) for array in (*found.values(), *arrays)]
    return [*addresses, *steps, *(builder.extract_value(array, [5, 0]) for array in arrays[:1] + arrays[2:])]


def sample_of(builder, data, count):
    """Emit the first PASSED numbers of a sample of `count` at an address, as a direct call of predict passes them.

    A loop in which these numbers depend on the last result keeps them in registers.
    """
    found = [builder.load(data)]
    for k in range(1, PASSED):
        before = builder.block
        with builder.if_then(builder.icmp_unsigned(">", count, count.type(k))):
            number, inside = builder.load(builder.gep(data, [count.type(k)])), builder.block
        value = builder.phi(data.type.pointee)
        value.add_incoming(ir.Constant(value.type, ir.Undefined), before)
        value.add_incoming(number, inside)
        found.append(value)
    return found


def body_of(arguments, dispatcher):
    """Return an intrinsic that makes the arrays from the arguments of a direct call and runs a function of the text."""
    kinds = (arguments.state, *arguments.arrays)

    def typed(typing, given):
        function = types.Dispatcher(dispatcher)
        inner = typing.resolve_function_type(function, kinds, {})

        def generate(context, builder, sig, values):
            values = [context.cast(builder, *each) for each in zip(values, given, arguments.signature, strict=True)]
            _mark(arguments.name, builder.function.args[2:])
            _entry(context, builder, arguments, inner.return_type)
            return context.get_function(function, inner)(builder, _made(context, builder, arguments, values))

        return inner.return_type(*arguments.signature), generate

    return intrinsic_of([f"a{i}" for i in range(len(arguments.signature))], typed)


def _mark(name, addresses):
    """Tell LLVM that the arrays of a state do not overlap."""
    for field, address in zip(FIELDS[name], addresses, strict=False):
        if field != "theta":  # else LLVM loads all of theta before the loop over samples, and spills it
            address.add_attribute("noalias")


def _made(context, builder, arguments, values):
    """Emit the state and the arrays."""
    fields, constant = FIELDS[arguments.name], partial(context.get_constant, types.intp)
    after = len(fields) + len(arguments.arrays)
    rates = values[after]
    N, *K = values[after + ("rates" in fields) :]
    state = ir.Constant(context.get_value_type(arguments.state), None)
    for field, data in zip(fields, values, strict=False):
        place = arguments.state.fields.index(field)
        count = rates if field == "rates" else constant(arguments.sizes[field])
        state = builder.insert_value(
            state, _array(context, builder, arguments.state.types[place], data, [count]), place
        )
    arrays = [
        _array(context, builder, kind, data, [count, *map(constant, shape)])
        for kind, data, shape, count in zip(
            arguments.arrays, values[len(fields) :], arguments.shapes, [N, N, *K], strict=False
        )
    ]
    return [state, *arrays]


def _array(context, builder, kind, data, lengths):
    """Emit Numba's struct of a C-contiguous array."""
    item = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    constant = partial(context.get_constant, types.intp)
    steps = [item]
    for length in reversed(lengths[1:]):
        steps.insert(0, steps[0] * length.constant)
    count = builder.mul(lengths[0], constant(prod(length.constant for length in lengths[1:])))
    made = ir.Constant(context.get_value_type(kind), None)
    for place, value in ((2, count), (3, constant(item)), (4, data)):
        made = builder.insert_value(made, value, place)
    for k, (length, step) in enumerate(zip(lengths, steps, strict=True)):
        made = builder.insert_value(builder.insert_value(made, length, [5, k]), constant(step), [6, k])
    return made


# -- the function that callers reach -----------------------------------------------------------------------------------

ENTRY = ".entry"  # end of the symbol


def entry_type(context, name, result, signature):
    """Return the LLVM type of an entry: place of an exception, arguments -> status, the loss or the first number of y.

    The last arguments of predict are the first numbers of x (`sample_of`). A number in a register is there at once; one
    that is read from where it has just been stored takes nine cycles more.
    """
    kind = context.call_conv.get_function_type(result, signature)
    number = context.get_value_type(signature[len(FIELDS[name]) + 1].dtype if result is types.none else result)
    sample = [number] * (PASSED if name == "predict" else 0)
    return ir.FunctionType(ir.LiteralStructType([kind.return_type, number]), [*kind.args[1:], *sample])


def _entry(context, builder, arguments, result):
    """Define the entry of the direct function that the builder writes; only the entry calls that function.

    In a small network one sample has separate code, in which y need not be read again.
    """
    direct, kind = builder.function, entry_type(context, arguments.name, result, arguments.signature)
    entry = ir.Function(builder.module, kind, direct.name + ENTRY)
    direct.linkage = "internal"
    _mark(arguments.name, entry.args[1:])
    count = len(direct.args) - 1
    given, N, sample = list(entry.args[: count - 1]), entry.args[count - 1], entry.args[count:]
    inside = ir.IRBuilder(entry.append_basic_block())
    loss, x = cgutils.alloca_once(inside, direct.args[0].type.pointee), len(FIELDS[arguments.name]) + 1
    source = loss if result is not types.none else given[x + 1]

    def call(N, given, *attributes):
        status = inside.call(direct, [loss, *given, N], attrs=attributes)
        pair = inside.insert_value(ir.Constant(kind.return_type, None), status, 0)
        inside.ret(inside.insert_value(pair, inside.load(source), 1))

    if arguments.name == "predict":
        if arguments.inline:
            room = _room(inside, arguments.shapes[0], sample)
            with inside.if_then(inside.icmp_signed("==", N, N.type(1)), likely=True):
                call(N.type(1), given if room is None else [*given[:x], room, *given[x + 1 :]], "alwaysinline")
        with inside.if_then(inside.icmp_signed("<", N, N.type(1))):
            inside.ret(ir.Constant(kind.return_type, None))
    call(N, given)


def _room(builder, shape, sample):
    """Emit a stack array of the numbers of a sample; return None if not all of them are passed."""
    if len(shape) != 1 or not 1 <= shape[0] <= PASSED:
        return None
    room = builder.alloca(sample[0].type, shape[0], SAMPLE)
    for k in range(shape[0]):
        builder.store(sample[k], builder.gep(room, [ir.IntType(64)(k)]))
    return room


def entry_symbol(dispatcher, signature):
    """Register the entry of a compiled direct function with LLVM; return its symbol."""
    result = dispatcher.overloads[tuple(signature)]
    name, function = "nnjit." + dispatcher.py_func.__name__, result.fndesc.llvm_func_name + ENTRY
    add_symbol(name, result.library.get_pointer_to_function(function), result.library, function)
    return name


def call_entry(context, builder, entry, numbers):
    """Emit the call of an entry; return Numba's status, and the number."""
    place = cgutils.alloca_once(builder, entry.function_type.args[0].pointee)
    pair = builder.call(entry, [place, *numbers])
    status = context.call_conv._get_return_status(builder, builder.extract_value(pair, 0), builder.load(place))
    return status, builder.extract_value(pair, 1)


def _sample_or_zeros(builder, array, count):
    """Emit the first numbers of an array of samples of `count` numbers, or zeros if there is no sample."""
    data, N = builder.extract_value(array, 4), builder.extract_value(array, [5, 0])
    zeros = cgutils.alloca_once(builder, data.type.pointee, PASSED)
    for k in range(PASSED):
        builder.store(ir.Constant(data.type.pointee, 0), builder.gep(zeros, [N.type(k)]))
    there = builder.icmp_signed(">", N, N.type(0))
    return sample_of(builder, builder.select(there, data, zeros), N.type(count))


def call_of(arguments, symbol, result):
    """Return an intrinsic, with the arguments of the text's function, that calls the direct function; it may raise.

    `symbol` registers that function and returns its name.
    """
    kinds, signature = (arguments.state, *arguments.arrays), arguments.signature

    def typed(typing, given):
        name = symbol()

        def generate(context, builder, sig, values):
            kind = entry_type(context, arguments.name, result, signature)
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            numbers = numbers_of(builder, arguments.name, kinds, values)
            if arguments.name == "predict":
                numbers += _sample_or_zeros(builder, values[1], prod(arguments.shapes[0]))
            status, value = call_entry(context, builder, function, numbers)
            with builder.if_then(status.is_error, likely=False):
                context.call_conv.return_status_propagate(builder, status)
            return context.get_dummy_value() if result is types.none else value

        return result(*kinds), generate

    return intrinsic_of(["s", "x", "y", "order"][: len(kinds)], typed)
