"""Arithmetic of kernels that LLVM may treat otherwise: sums in any order, numbers flushed to 0, replaced functions."""

import inspect
import operator

import numpy as np
from numba.extending import intrinsic, overload

from . import coefficients, functions, special
from .cache import digest
from .options import FLOATS, SUM
from .subnormal import flush


@intrinsic
def add(typing, total, term):
    """Add a term to a sum whose terms may be added in any order, so that LLVM vectorises the loop."""
    function = operator.iadd
    found = typing.resolve_function_type(function, (total, term), {})
    if found is None:  # tuples have no +=
        function = operator.add
        found = typing.resolve_function_type(function, (total, term), {})
    if found is None:
        return None

    def generate(context, builder, sig, values):
        values = [context.cast(builder, v, *kinds) for v, *kinds in zip(values, sig.args, found.args, strict=True)]
        result = context.get_function(function, found)(builder, values)
        if getattr(result, "opname", None) == "fadd":
            result.flags = list(SUM)
        return result

    return found.return_type(total, term), generate


def _add(total, term):
    return total + term


add.py_func = _add  # type: ignore[attr-defined]  # its twin in plain Python, as for the words of tile.py


@intrinsic
def _flush(typing, x):
    """Flush one number with a comparison and a selection, so that loops around it vectorise."""

    def generate(context, builder, sig, values):
        size = context.get_function(abs, x(x))(builder, values)
        below = builder.fcmp_ordered("<", size, context.get_constant(x, float(np.finfo(x.name).tiny)))
        return builder.select(below, context.get_constant(x, 0.0), values[0])

    return x(x), generate


@overload(flush)
def _flushed(x):
    return (lambda x: _flush(x)) if x in FLOATS.values() else None


FUNCTIONS = {"_" + name: getattr(functions, name) for name in functions.NAMES}  # replacements of np.exp etc.
FUNCTIONS["_add"] = add
FUNCTIONS_KEY = digest(*map(inspect.getsource, (functions, coefficients, special)))
