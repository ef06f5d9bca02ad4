"""Calls of code that LLVM knows by a symbol, from functions that Numba compiles."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .late import callee


def external(name, signature, result=types.none):
    """Return an intrinsic that calls the symbol `name`, which must be registered before its caller is loaded."""

    def generate(context, builder, sig, values):
        return call_symbol(context, builder, name, signature, values, result)

    sig = result(*signature)
    return intrinsic_of([f"a{i}" for i in range(len(signature))], lambda typing, given: (sig, generate))


def intrinsic_of(names, typed):
    """Return an intrinsic whose arguments have these names; Numba requires names.

    ``typed(typing, given)`` gets the tuple of their types, and returns signature and code, or None.
    """
    space, listed = {"typed": typed}, "".join(f"{name}, " for name in names)
    exec(f"def call(typing, {listed}):\n    return typed(typing, ({listed}))", space)
    return intrinsic(space["call"])


def call_symbol(context, builder, name, signature, values, result=types.none):
    """Emit the call of a registered symbol in Numba's calling convention; a list holds the members of an array struct.

    Kernels cannot raise (`reached.raising` refuses it), so the returned status is ignored.
    """
    function_type = context.call_conv.get_function_type(result, signature)
    function = callee(builder, function_type, name)
    place, error = (cgutils.alloca_once(builder, kind.pointee) for kind in function_type.args[:2])
    flat = []
    for kind, value in zip(signature, values, strict=True):
        if isinstance(value, list):
            flat += value
        else:
            _flatten(context.data_model_manager[kind].as_argument(builder, value), flat)
    builder.call(function, [place, error, *flat])
    if result is types.none:
        return context.get_dummy_value()
    return context.get_returned_value(builder, result, builder.load(place))


def _flatten(values, into):
    """Flatten Numba's nested argument tuples into one list."""
    if isinstance(values, (tuple, list)):
        for value in values:
            _flatten(value, into)
    else:
        into.append(values)
