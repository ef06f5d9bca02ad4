"""Calls of predict, step and epoch from Python: one compiled function for all programs with arguments of these types.

It checks what the text's guard checks, by the program's numbers in memory, and makes the direct call (see `direct`).
Arguments that do not fit raise `Misfit`, and the program's own function, with the guard of its text, refuses them. So
that function, a quarter of a second to compile for every program, is needed for refusals and by jitted code only.
"""

from functools import cache as memoize
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.core import cgutils

from ..kernels.compiler.cache import digest
from ..kernels.compiler.lock import COMPILING
from ..kernels.compiler.machine_code import compiled
from ..kernels.compiler.symbols import intrinsic_of
from .function_type import FunctionType, emit_call, emit_fits

KEY = digest(Path(__file__).read_text(encoding="utf-8"))


class Misfit(Exception):
    """The arguments are to be refused, or there are no samples."""


def caller(function):
    """Return the compiled function for a `Function` that has direct calls, and the numbers that it takes first.

    Returns
    -------
    dispatcher
        It takes the address of the numbers, then the function's arguments.
    ndarray of int64
        The function's numbers, which must stay in memory as long as it may be called.
    """
    numbers = [0, llvm.address_of_symbol(function.direct()), function.largest or 0, function.layout]
    kind = FunctionType(function.name, function.parameters, function.type.result, function.type.ranks, function.name)
    return _caller(kind), np.array([*numbers, *function.input_shape, *function.output_shape], np.int64)


@COMPILING
@memoize
def _caller(kind):
    space = {"__name__": __name__, "Misfit": Misfit, **_words(kind)}
    exec(_text(kind), space)
    function = space["call"]
    function.__name__ = function.__qualname__ = f"call_{kind.direct}_{digest(KEY, *kind.key, *kind.parameters[0].key)}"
    return compiled(function, (types.intp, *kind.parameters), no_cfunc_wrapper=True)


def _text(kind):
    """Return the function that checks its arguments and makes the direct call."""
    given, misfit = ", ".join(_names(kind)), ["    raise Misfit"]
    lines = [f"if not fits({given}):", *misfit]
    if kind.direct == "epoch":
        targets = kind.arguments[2]
        wrong = "not 0 <= i < x.shape[0]"
        wrong += f" or not 0 <= {targets.name}[i] < classes(program)" if targets.role == "labels" else ""
        lines += ["if order.size == 0:", *misfit, "for i in order:", f"    if {wrong}:", *(f"    {m}" for m in misfit)]
    return "\n    ".join([f"def call({given}):", *lines, f"return direct({given})"])


def _names(kind):
    return ["program", *(each.name for each in kind.arguments)]


def _words(kind):
    """Return the intrinsics of the functions above, for the types of a program's function."""

    def function(context, builder, address):
        place = builder.inttoptr(address, context.get_value_type(kind).as_pointer())
        return cgutils.create_struct_proxy(kind)(context, builder, builder.load(place))

    def fits(context, builder, sig, values):
        address, *given = values
        return emit_fits(context, builder, kind, function(context, builder, address), given)

    def direct(context, builder, sig, values):
        address, *given = values
        status, result = emit_call(context, builder, kind, function(context, builder, address), given)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return result

    def classes(context, builder, sig, values):
        return builder.extract_value(function(context, builder, values[0]).output_shape, 0)

    given, names = (types.intp, *kind.parameters), _names(kind)
    return {
        "fits": intrinsic_of(names, lambda typing, _: (types.boolean(*given), fits)),
        "direct": intrinsic_of(names, lambda typing, _: (kind.result(*given), direct)),
        "classes": intrinsic_of(["program"], lambda typing, _: (types.intp(types.intp), classes)),
    }
