"""The functions of a program as values, to pass to jitted code or to call from Python.

Numba calls its first-class functions by a C address, which carries no exceptions. A `Function` therefore has a separate
Numba type (function_type.py), by name, element type and ranks, so that a user's cached code takes the functions of
another network. Its value is the address of code in Numba's calling convention, the program's layout number and the
sizes of a sample and of an output. A call propagates the status, and with it the exception.

A refused call fills its outputs with NaN, records the refusal in the state and raises. Directly in the body of a
parallel loop Numba cannot raise: there the next call from Python raises instead.

x may be one sample instead of a batch; all other arrays then lack the samples' axis, too. Outputs that are left out are
allocated and returned.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.core.errors import NumbaError, TypingError
from numba.core.typing.typeof import Purpose
from numba.extending import typeof_impl
from numba.np.numpy_support import as_dtype

from ..errors import ShapeError, UsageError
from ..kernels.compiler.lock import once
from ..kernels.compiler.machine_code import compiled
from ..kernels.counters import FAULT
from ..registry.sources import uncollected
from ..registry.specs import did_you_mean
from .from_python import Misfit, caller
from .function_type import CALLED, FunctionType, Parameter, type_of
from .overlap import shared
from .state import FAULTS, LEAST, READ_ONLY, WHOLE, WRONG_STATE, State

REFUSALS = (TypeError, ValueError, AttributeError, IndexError, NotImplementedError, NumbaError)


class Function:
    """A compiled function of a program. It is compiled, or loaded from disk, when it is first called or passed.

    Parameters
    ----------
    name : str
        "predict", "step", "epoch", or that of a derivative.
    function : function
        The function to compile.
    parameters : list of Parameter
        The state first.
    result : Numba type
    layout : int
        The layout number of the program.
    input_shape, output_shape : tuple of int
        The shapes of a sample and of an output.
    largest : int or None
        The largest number of samples.
    direct : callable or None
        Registers the function for direct calls (see `direct`) with LLVM, and returns its symbol.
    in_c : callable or None
        Makes the `CFunction` of this one.
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
        in_c: Callable[["Function"], Any] | None = None,
    ) -> None:
        self.name, self.function, self.parameters, self.layout = name, function, tuple(parameters), layout
        self.input_shape, self.output_shape, self.largest = tuple(input_shape), tuple(output_shape), largest
        self.direct, self.in_c = direct, in_c
        ranks = len(self.input_shape), len(self.output_shape)
        called = name if direct and name in CALLED else None
        self.type = FunctionType(name, self.parameters, result, ranks, called)
        self._rank = next((p.type.ndim for p in self.parameters if p.role == "input"), None)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters)})"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"{self} is compiled code, which stays in its process: pickle or copy the program or the network instead,"
            f" and take its {self.name} there"
        )

    @once
    def dispatcher(self):
        """Return the program's own compiled function, whose guard refuses what does not fit."""
        with uncollected():
            if self.direct is not None:
                self.direct()  # the code calls its symbol
            return compiled(self.function, tuple(p.type for p in self.parameters), no_cfunc_wrapper=True)

    @once
    def run(self):
        """Return what calls it from Python; it raises `Misfit` for what the program's own function must refuse."""
        if self.direct is None:
            return self.dispatcher
        with uncollected():
            dispatcher, self._memory = caller(self)
        return partial(dispatcher, self._memory.ctypes.data)

    @once
    def numbers(self):
        """Return the numbers that compiled code gets: addresses, the most samples, the layout number, the sizes."""
        (result,) = self.dispatcher.overloads.values()
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        direct = 0 if self.direct is None else llvm.address_of_symbol(self.direct())
        return (address, direct, self.largest or 0, self.layout, *self.input_shape, *self.output_shape)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named:
            arguments = (*arguments, self._flag(**named))
        try:
            if arguments[0].counters[FAULT]:
                self._report(arguments[0])
            if len(arguments) != len(self.parameters) or (self._rank and arguments[1].ndim != self._rank):
                return self._completed(*arguments)
            return self.run(*arguments)
        except Misfit:
            pass
        except ShapeError:
            raise
        except REFUSALS as error:
            raise self._refused(arguments, error) from None
        try:
            return self.dispatcher(*arguments)
        except REFUSALS as error:
            raise self._refused(arguments, error) from None

    def _flag(self, **named):
        """Return the flag, the last argument in every form of a call; others by name might take each other's place."""
        flags = [parameter.name for parameter in self.parameters if parameter.role == "flag"]
        for name in named:
            if name not in flags:
                also = "".join(f", or {flag} by name" for flag in flags)
                near = did_you_mean(name, flags)
                raise UsageError(f"{self}: expected arguments by position{also}, got {name!r}{near}")
        return named[flags[0]]

    def _refused(self, arguments, error):
        """Return the error that says why arguments from Python were refused."""
        if arguments and type(arguments[0]) is State:
            arguments[0].counters[FAULT] = 0  # this exception reports it
        wrong = self._wrong(arguments)
        return ShapeError(f"{self.name}: {wrong}" if wrong else str(error))

    def _completed(self, *arguments):
        """Call with arguments that lack the axis of the samples, the outputs or the flag."""
        form = self.type.form([getattr(each, "ndim", 0) for each in arguments[1:]])
        if form is None:
            raise TypeError(self._wrong(arguments))
        samples, given = 1 if form.single else len(arguments[1]), iter(arguments[1:])
        whole, made = [arguments[0]], []
        for parameter in self.parameters[1:]:
            if parameter.output and form.made:
                size = (samples, *(parameter.shape or ())[1:])
                whole.append(np.empty(size, as_dtype(parameter.type.dtype)))
                made.append(whole[-1][0] if form.single else whole[-1])
            elif parameter.role == "flag" and not form.flag:
                whole.append(False)
            else:
                value = next(given)
                whole.append(np.asarray(value)[None] if form.single and parameter.shape is not None else value)
        result = self(*whole)
        return (made[0] if len(made) == 1 else tuple(made)) if made else result

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
            return f"expected the program's state first, got {type_of(state)}"
        if not self.layout + LEAST.get(self.name, WHOLE) <= state.layout <= self.layout + WHOLE:
            return WRONG_STATE
        if not state.writable():
            return READ_ONLY
        for parameter, array in zip(self.parameters[1:], arrays, strict=True):
            if wrong := parameter.misfit(array):
                return f"expected {parameter}, {wrong}"
        rows = [
            (p.name, len(a)) for p, a in zip(self.parameters[1:], arrays, strict=True) if (p.shape or ())[:1] == ("N",)
        ]
        if not rows:
            return None
        (_, x), *others = rows
        for name, count in others:
            if count != x:
                return f"expected as many rows in {name} as in x, got {count} and {x}"
        if self.largest and not 1 <= x <= self.largest:
            return f"expected 1 to {self.largest} samples, the program's batch, got {x}"
        named = {p.name: a for p, a in zip(self.parameters[1:], arrays, strict=True) if p.shape is not None}
        return shared(named, [p.name for p in self.parameters if p.output])


@typeof_impl.register(Function)
def _typeof(function, context):
    if context.purpose is Purpose.constant:
        raise TypingError(
            f"{function} of a program cannot be a global or closure variable of jitted code, whose cache would keep the"
            " address of a former network's code: pass it as an argument"
        )
    return function.type
