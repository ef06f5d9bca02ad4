"""Device functions of one thread, from a text of short functions: for a user's own kernels.

``each(count, function, *arguments)`` of such a text calls function(0, *arguments) to function(count - 1, *arguments),
count calls one after the other, which LLVM inlines. So the indices of the thread's arrays are constants, and their
numbers stay in registers; a loop would leave them in the thread's memory.
"""

from functools import cache as memoize

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from ...errors import ShapeError
from .device_code import device_functions, scalar


@intrinsic
def each(typing, count, function, *arguments):
    """Call function(j, *arguments) for j from 0 to count - 1, a constant."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    called = function.get_call_type(typing, (types.intp, *arguments), {})

    def generate(context, builder, signature, values):
        call = context.get_function(function, called)
        given = [builder.extract_value(values[2], k) for k in range(len(arguments))]
        for j in range(count.literal_value):
            call(builder, [context.get_constant(types.intp, j), *given])
        return context.get_dummy_value()

    return types.void(count, function, types.StarArgTuple(arguments)), generate


@intrinsic
def in_memory(typing, *arrays):
    """Do nothing, but let the compiler assume that arrays of the thread can change at each fence from here on.

    Without it, LLVM keeps numbers that it has once read from them in registers, over fences and over all layers. The
    statement has no instruction: LLVM must assume that it stores the addresses where others find them.
    """

    def generate(context, builder, signature, values):
        given = [builder.extract_value(values[0], k) for k in range(len(arrays))]
        data = [context.make_array(t)(context, builder, v).data for t, v in zip(arrays, given, strict=True)]
        function = ir.FunctionType(ir.VoidType(), [pointer.type for pointer in data])
        builder.asm(function, "", ",".join(["l"] * len(data) + ["~{memory}"]), data, True)
        return context.get_dummy_value()

    return types.void(types.StarArgTuple(arrays)), generate


@memoize
def expecting(name, listed, real):
    """Return an intrinsic that refuses arrays of another element type or rank when its caller is compiled.

    Parameters
    ----------
    name : str
        The function that takes them.
    listed : tuple of (str, bool)
        The name of each array, and whether None is allowed in its place.
    real : NumPy type
    """

    @intrinsic
    def expect(typing, *arguments):
        for (array, optional), kind in zip(listed, arguments, strict=True):
            if isinstance(kind, types.NoneType) and optional:
                continue
            if getattr(kind, "ndim", None) != 1 or str(kind.dtype) != real.__name__:
                raise ShapeError(f"{name}: {array}: expected a {real.__name__} array of rank 1, got {kind}")
        return types.void(types.StarArgTuple(arguments)), lambda context, *given: context.get_dummy_value()

    return expect


@memoize
def functions(name, listed, text, formulas, real):
    """Return the device functions of a text by name.

    Parameters
    ----------
    name, listed : see `expecting`
    text : str
    formulas : tuple of (str, Formula)
        The scalar functions that it calls.
    real : NumPy type
    """
    space = {called: scalar(formula, real) for called, formula in formulas}
    space |= {"each": each, "in_memory": in_memory, "expect": expecting(name, listed, real)}
    return device_functions(text, space, real)
