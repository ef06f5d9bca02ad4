"""Direct calls of predict and step from compiled code: with addresses and the number of samples only.

In Numba's calling convention a State and two arrays are 77 numbers, almost all of them known to the program; a call
would write them to the stack, which took 20 ns. The caller (`function`) checks what the text's guard checks, which it
can do outside of its loop, and passes the addresses of the state's arrays that the function needs, those of x and of
y or the target, and N. The program's code makes arrays of them, with constant sizes. The arrays of a state do not
overlap, which the addresses of such a call tell LLVM ("noalias").
"""

import inspect
import sys
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types

from ..kernels.compiler.cache import digest
from ..kernels.compiler.kernel import intrinsic_of
from .state import StateType

KEY = digest(inspect.getsource(sys.modules[__name__]))

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
    """

    name: str
    state: StateType
    sizes: Any
    arrays: Sequence
    shapes: Sequence

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


def body_of(arguments, dispatcher):
    """Return an intrinsic that makes the arrays from the arguments of a direct call and runs a function of the text."""
    kinds = (arguments.state, *arguments.arrays)

    def typed(typing, given):
        function = types.Dispatcher(dispatcher)
        inner = typing.resolve_function_type(function, kinds, {})

        def generate(context, builder, sig, values):
            values = [context.cast(builder, *each) for each in zip(values, given, arguments.signature, strict=True)]
            for field, argument in zip(FIELDS[arguments.name], builder.function.args[2:], strict=False):
                if field != "theta":  # else LLVM loads all of theta before the loop over samples, and spills it
                    argument.add_attribute("noalias")
            return context.get_function(function, inner)(builder, _made(context, builder, arguments, values))

        return inner.return_type(*arguments.signature), generate

    return intrinsic_of([f"a{i}" for i in range(len(arguments.signature))], typed)


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


def call_of(arguments, symbol, result):
    """Return an intrinsic, with the arguments of the text's function, that calls the direct function; it may raise.

    `symbol` registers that function and returns its name.
    """
    kinds, signature = (arguments.state, *arguments.arrays), arguments.signature

    def typed(typing, given):
        name = symbol()

        def generate(context, builder, sig, values):
            kind = context.call_conv.get_function_type(result, signature)
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            numbers = numbers_of(builder, arguments.name, kinds, values)
            status, value = context.call_conv.call_function(builder, function, result, signature, numbers)
            with builder.if_then(status.is_error, likely=False):
                context.call_conv.return_status_propagate(builder, status)
            return value

        return result(*kinds), generate

    return intrinsic_of(["s", "x", "y", "order"][: len(kinds)], typed)
