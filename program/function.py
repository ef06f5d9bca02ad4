"""The functions predict, step and epoch of a program as values, to pass to jitted code or to call from Python.

Numba calls its first-class functions by a C address, which carries no exceptions. A `Function` therefore has a separate
Numba type, by name, element type and ranks, so that a user's cached code takes the functions of another network. Its
value is the address of code in Numba's calling convention, the program's layout number and the sizes of a sample and of
an output. A call propagates the status, and with it the exception.

A refused call fills its output with NaN, records the refusal in the state and raises. Directly in the body of a
parallel loop Numba cannot raise: there the next call from Python raises instead.
"""

import warnings
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaError, TypingError
from numba.core.typing import signature as call_signature
from numba.core.typing.typeof import Purpose
from numba.extending import (
    NativeValue,
    lower_builtin,
    make_attribute_wrapper,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import as_dtype

from ..errors import ShapeError
from ..kernels.compiler.cache import digest
from ..kernels.compiler.kernel import compiled, once
from ..kernels.counters import FAULT
from .direct import KEY as DIRECT_KEY
from .direct import call_entry, entry_type, numbers_of, sample_of, signature_of
from .state import FAULTS, READ_ONLY, WRONG_STATE, State

KEY = digest(Path(__file__).read_text(encoding="utf-8"), DIRECT_KEY)
CALLED = ("predict", "step")  # calls from compiled code are direct
PARALLEL = "__numba_parfor_gufunc"  # prefix of the names that Numba gives to bodies of parallel loops


class Parameter(NamedTuple):
    """An argument of a program's function: the state, which has no shape, or an array."""

    name: str
    type: types.Type
    shape: tuple[int | str, ...] | None = None  # "N" stands for the number of samples

    def __str__(self) -> str:
        if self.shape is None:
            return "the program's state"
        shape = ", ".join(map(str, self.shape)) + "," * (len(self.shape) == 1)
        return f"{self.name} ({shape}) of {self.type.dtype}"

    def misfit(self, array: Any) -> str | None:
        """Say why an array from Python does not fit; return None if it does."""
        if not isinstance(array, np.ndarray):
            return f"got {_kind(array)}"
        if array.dtype != as_dtype(self.type.dtype):
            return f"got {array.dtype} {array.shape}; convert it with astype"
        wanted = self.shape or ()
        free = [i for i, size in enumerate(wanted) if isinstance(size, str)]
        if array.ndim != len(wanted) or any(array.shape[i] != size for i, size in enumerate(wanted) if i not in free):
            return f"got shape {array.shape}"
        if not array.flags.c_contiguous:
            return "got an array that is not C-contiguous; np.ascontiguousarray makes a copy that is"
        if self.type.mutable and not array.flags.writeable:
            return "got a read-only array, but the result is written into it"
        return None


class Function:
    """A compiled function of a program. It is compiled, or loaded from disk, when it is first called or passed.

    Parameters
    ----------
    name : str
        "predict", "step" or "epoch".
    function : function
        The function to compile.
    parameters : list of Parameter
        The state first.
    result : Numba type
    layout : int
        The layout number that a state must have.
    input_shape, output_shape : tuple of int
        The shapes of a sample and of an output.
    largest : int or None
        The largest number of samples.
    direct : callable or None
        Registers the function for direct calls (see `direct`) with LLVM, and returns its symbol.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        parameters: Sequence[Parameter],
        result: types.Type,
        layout: int,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        largest: int | None = None,
        direct: Callable[[], str] | None = None,
    ) -> None:
        self.name, self.function, self.parameters, self.layout = name, function, tuple(parameters), layout
        self.input_shape, self.output_shape, self.largest = tuple(input_shape), tuple(output_shape), largest
        self.direct = direct
        ranks = len(self.input_shape), len(self.output_shape)
        called = name if direct and name in CALLED else None
        self.type = FunctionType(str(self), [p.type for p in self.parameters], result, *ranks, called)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters)})"

    def __repr__(self) -> str:
        return f"<{self}>"

    @once
    def dispatcher(self):
        if self.direct is not None:
            self.direct()  # the code calls its symbol
        return compiled(self.function, tuple(p.type for p in self.parameters), no_cfunc_wrapper=True)

    @once
    def numbers(self):
        """Return the numbers that compiled code gets: addresses, the most samples, the layout number, the sizes."""
        (result,) = self.dispatcher.overloads.values()
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        direct = 0 if self.direct is None else llvm.address_of_symbol(self.direct())
        return (address, direct, self.largest or 0, self.layout, *self.input_shape, *self.output_shape)

    def __call__(self, *arguments: Any) -> Any:
        try:
            if arguments[0].counters[FAULT]:
                self._report(arguments[0])
            return self.dispatcher(*arguments)
        except ShapeError:
            raise
        except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError, NumbaError) as error:
            if arguments and type(arguments[0]) is State:
                arguments[0].counters[FAULT] = 0  # this exception reports it
            wrong = self._wrong(arguments)
            raise ShapeError(f"{self.name}: {wrong}" if wrong else str(error)) from None

    def _report(self, state):
        """Report that an earlier call in compiled code was refused: raise, or warn if it has raised."""
        fault, state.counters[FAULT] = int(state.counters[FAULT]), 0
        name, what = FAULTS[abs(fault) - 1].split()
        earlier = f"an earlier call of {name} in compiled code was refused: its {what} did not fit"
        if fault > 0:
            raise ShapeError(f"{earlier}; it returned NaN, and this call of {self.name} was not made")
        warnings.warn(earlier, RuntimeWarning, stacklevel=3)

    def _wrong(self, arguments):
        """Say why arguments from Python do not fit; return None if only compiled code can tell."""
        if len(arguments) != len(self.parameters):
            return f"expected {self}, got {len(arguments)} arguments"
        state, *arrays = arguments
        if not isinstance(state, State):
            return f"expected the program's state first, got {_kind(state)}"
        if state.layout != self.layout:
            return WRONG_STATE
        if not state.writable():
            return READ_ONLY
        for parameter, array in zip(self.parameters[1:], arrays, strict=True):
            if wrong := parameter.misfit(array):
                return f"expected {parameter}, {wrong}"
        x, y = arrays[:2]
        if len(x) != len(y):
            return f"expected as many rows in {self.parameters[2].name} as in x, got {len(y)} and {len(x)}"
        if self.largest and not 1 <= len(x) <= self.largest:
            return f"expected 1 to {self.largest} samples, the program's batch, got {len(x)}"
        return None


def _kind(value):
    return f"an object of type {type(value).__name__}"


class FunctionType(types.Callable):
    """The type of a `Function` in jitted code: name, types of the arguments, ranks of a sample and of an output.

    `direct` is "predict" or "step" if there is a function for direct calls.
    """

    code = ""  # of types in files of older versions

    def __init__(self, name, parameters, result, input_rank, output_rank, direct=None):
        self.code = KEY  # code that a user caches holds the calls
        self.parameters, self.result, self.ranks = tuple(parameters), result, (input_rank, output_rank)
        self.direct = direct
        self.title = name
        super().__init__(f"{name}: {', '.join(map(str, self.parameters))} -> {result}, ranks {self.ranks}")

    @property
    def key(self):
        return self.title, self.parameters, self.result, self.ranks, self.direct, self.code

    def get_call_type(self, context, args, kws):
        fits = len(args) == len(self.parameters) and not kws
        if not fits or any(context.can_convert(a, p) is None for a, p in zip(args, self.parameters, strict=True)):
            expected, got = (", ".join(map(_in_words, kinds)) for kinds in (self.parameters, (*args, *kws.values())))
            raise TypingError(f"{self.title} takes, by position: {expected}; got {got}")
        return call_signature(self.result, *self.parameters, recvr=self)

    def get_call_signatures(self):
        return [call_signature(self.result, *self.parameters)], False

    def get_impl_key(self, sig):
        return type(self)


def _in_words(kind):
    if not isinstance(kind, types.Array):
        return str(kind)
    layout = "" if kind.layout == "C" else " that is not C-contiguous"
    return f"{'' if kind.mutable else 'a read-only '}{kind.dtype} array of rank {kind.ndim}{layout}"


@register_model(FunctionType)
class _FunctionModel(models.StructModel):
    def __init__(self, manager, kind):
        input_shape, output_shape = (types.UniTuple(types.intp, rank) for rank in kind.ranks)
        members = [(name, types.intp) for name in ("address", "direct", "largest", "layout")]
        super().__init__(manager, kind, [*members, ("input_shape", input_shape), ("output_shape", output_shape)])


for _member in ("layout", "input_shape", "output_shape"):
    make_attribute_wrapper(FunctionType, _member, _member)


@typeof_impl.register(Function)
def _typeof(function, context):
    if context.purpose is Purpose.constant:
        raise TypingError(
            f"{function} of a program cannot be a global or closure variable of jitted code, whose cache would keep the"
            " address of a former network's code: pass it as an argument"
        )
    return function.type


@unbox(FunctionType)
def _unbox(kind, obj, c):
    numbers = c.pyapi.object_getattr_string(obj, "numbers")  # compiles at the first time
    function = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    failed = cgutils.is_null(c.builder, numbers)
    with c.builder.if_then(c.builder.not_(failed)):
        inputs, outputs = kind.ranks
        values = c.unbox(types.UniTuple(types.int64, 4 + inputs + outputs), numbers).value
        values = cgutils.unpack_tuple(c.builder, values)
        function.address, function.direct, function.largest, function.layout = values[:4]
        function.input_shape = cgutils.pack_array(c.builder, values[4 : 4 + inputs])
        function.output_shape = cgutils.pack_array(c.builder, values[4 + inputs :])
        c.pyapi.decref(numbers)
    return NativeValue(function._getvalue(), is_error=failed)


@lower_builtin(FunctionType, types.VarArg(types.Any))
def _call(context, builder, sig, args):
    """Emit the call, a direct one if the arguments fit."""
    kind, given = sig.args[0], sig.args[1:]
    function = cgutils.create_struct_proxy(kind)(context, builder, args[0])
    values = [
        context.cast(builder, value, of, wanted)
        for value, of, wanted in zip(args[1:], given, kind.parameters, strict=True)
    ]
    result = cgutils.alloca_once(builder, context.get_value_type(kind.result))

    def call_whole():
        llvm_type = context.call_conv.get_function_type(kind.result, kind.parameters)
        code = builder.inttoptr(function.address, llvm_type.as_pointer())
        status, found = context.call_conv.call_function(builder, code, kind.result, kind.parameters, values)
        builder.store(_checked(context, builder, kind, status, found, values[0]), result)

    if kind.direct is None:
        call_whole()
    else:
        with builder.if_else(_fits(context, builder, kind, function, values), likely=True) as (direct, whole):
            with direct:
                status, found = _direct_call(context, builder, kind, function, values)
                builder.store(_checked(context, builder, kind, status, found, values[0]), result)
            with whole:  # refuses the arguments
                call_whole()
    return builder.load(result)


def _direct_call(context, builder, kind, function, values):
    """Emit a direct call; return its status and result."""
    signature = signature_of(kind.direct, kind.parameters)
    llvm_type = entry_type(context, kind.direct, kind.result, signature)
    entry = builder.inttoptr(function.direct, llvm_type.as_pointer())
    numbers = numbers_of(builder, kind.direct, kind.parameters, values)
    if kind.direct == "predict":
        count = builder.extract_value(function.input_shape, kind.ranks[0] - 1)
        numbers += sample_of(builder, builder.extract_value(values[1], 4), count)
    status, number = call_entry(context, builder, entry, numbers)
    if kind.result is not types.none:
        return status, number
    builder.store(number, builder.extract_value(values[2], 4))  # y[0] again, which a loop then need not read
    return status, context.get_dummy_value()


def _fits(context, builder, kind, function, values):
    """Tell whether the state and the arrays fit, as the text's guard does."""
    state, *arrays = values
    layout = cgutils.create_struct_proxy(kind.parameters[0])(context, builder, state).layout
    (N, *x), (M, *other) = (cgutils.unpack_tuple(builder, builder.extract_value(array, 5)) for array in arrays)
    inputs, outputs = (cgutils.unpack_tuple(builder, shape) for shape in (function.input_shape, function.output_shape))
    pairs = [(layout, function.layout), (N, M), *zip(x, inputs, strict=True)]
    pairs += zip(other, outputs, strict=True) if other else []  # labels have no second axis
    fits = cgutils.true_bit
    for found, wanted in pairs:
        fits = builder.and_(fits, builder.icmp_signed("==", found, wanted))
    # 1 to `largest` samples of a step, at least one of a prediction
    most = function.largest if kind.direct == "step" else N.type(-1)
    return builder.and_(fits, builder.icmp_unsigned("<", builder.sub(N, N.type(1)), most))


def _checked(context, builder, kind, status, result, state):
    """Emit what follows a call: propagate its exception; the body of a parallel loop cannot raise."""
    if PARALLEL not in builder.function.name:
        with cgutils.if_unlikely(builder, status.is_error):
            _mark_as_raised(context, builder, state, kind.parameters[0])
            context.call_conv.return_status_propagate(builder, status)
    elif kind.result is types.float64:
        result = builder.select(status.is_error, context.get_constant(types.float64, nan), result)
    return result


def _mark_as_raised(context, builder, state, kind):
    """Negate the number of the refused call in the state."""
    counters = cgutils.create_struct_proxy(kind)(context, builder, state).counters
    data = cgutils.create_struct_proxy(types.Array(types.int64, 1, "C"))(context, builder, counters).data
    place = builder.gep(data, [context.get_constant(types.intp, FAULT)])
    builder.store(builder.neg(builder.load(place)), place)
