"""Kernels: loops over arrays, written once and compiled for each element type and rank.

``@kernel`` marks a function with one top-level ``for i in prange(n)`` with independent iterations. Called from Python,
it compiles for the arguments and runs serially. The program binds it by symbol (slots.py): the machine code of the
kernel is registered with LLVM under a name, and the program calls that name, so compiling a program never recompiles
its kernels.
"""

import inspect
from functools import cache as memoize
from types import SimpleNamespace

import numpy as np
from numba import njit, types
from numba.core.compiler import Compiler
from numba.core.errors import NumbaError

from ...errors import NnjitError, SpecError
from . import functions, linked, machine_code, reached, source
from .arithmetic import FUNCTIONS, FUNCTIONS_KEY
from .cache import UNCACHED, PartCache, digest
from .environment import need_compiler
from .lock import COMPILING
from .machine_code import compiled, full_name, loaded, on_disk, symbol
from .options import FAST, FLOATS, HELPER, INLINED
from .part import PartCompiler, is_own
from .refusals import explained


def helper(function):
    """Mark a function that is compiled into the kernels that call it, never called from Python."""
    return njit(**HELPER)(function)


def inlined(function):
    """Mark a helper that is always inlined: a short one, for which passing its arguments would take longer."""
    return njit(**INLINED)(function)


class Kernel:
    """A function over arrays; a layer's arrays are bound to it by the names in `arguments`."""

    compilers = (Compiler, PartCompiler)  # of a kernel that is called by symbol, and of one compiled into its caller

    def __init__(self, function, form=None):
        self.function, self.form = function, form
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        self.arguments = tuple(inspect.signature(function).parameters)
        self._source = None
        self._made = {}
        self._symbols = {}  # of those that were loaded for calls by symbol only
        self.named = {}  # (signature, real) -> symbol, also of those without code, once `stored` has looked for it
        self._called = None  # the `linked` functions that it calls
        self._unreached = None
        self._provided = set()

    def __getstate__(self):
        own = {"_made": {}, "_symbols": {}, "named": {}, "_called": None, "_provided": set()}
        return self.__dict__ | own  # machine code belongs to this process

    def __repr__(self):
        return f"<kernel {self.function.__module__}.{self.function.__qualname__}({', '.join(self.arguments)})>"

    @property
    def source(self):
        if self._source is None:
            made = source.Source(self.function)
            _ = made.text
            if place := reached.raising(self.function):
                raise SpecError(
                    f"{self!r} has a raise or an assert ({place}), but a kernel cannot raise: check options in the"
                    " layer's validate, and let the kernel write NaN where there is no right number"
                )
            self._source = made
        return self._source

    def python(self, real):
        """Return the function to compile, for arrays of type `real`; its last arguments are `part` and `parts`."""
        namespace = {**self.function.__globals__, **FUNCTIONS, "_real": real}
        self.source.register(real)
        definition = source.sums(source.real(self.source.tree(), namespace, functions.NAMES))
        if source.partition(definition) != 1:
            raise SyntaxError(f"{self!r} must hold exactly one top-level 'for ... in prange(n)' loop")
        return source.build(definition, self.name(self.source.key(), real), self.source.file, namespace)

    def name(self, key, real):
        """Return the name of the function to compile, by the hash of its source."""
        return f"{source.label(self.function)}_{digest(key, real.__name__, sorted(FAST), FUNCTIONS_KEY)}"

    def unreached(self, function):
        """Declare which `seldom` functions this kernel does not reach, by the shapes of its arguments; a decorator.

        The function gets the arguments by name, arrays of the most samples that a call may have, and returns a list.
        """
        self._unreached = function
        return function

    def not_reached(self, arguments):
        """Return the `seldom` functions that it does not reach with arguments like these or fewer samples."""
        if self._unreached is None:
            return frozenset()
        named = SimpleNamespace(**dict(zip(self.arguments, arguments, strict=True)))
        return frozenset(each.py_func for each in self._unreached(named))

    def provide(self, real, unreached=frozenset()):
        """Provide the `seldom` functions that this kernel calls and those call, but for the unreached."""
        if (real, unreached) not in self._provided and not linked.elsewhere:
            called = source.Source(self.function).told()[1] if self._called is None else self._called
            for function in source.all_called(called, unreached):
                function.provide(real)
            self._provided.add((real, unreached))

    def compile(self, signature, real, unreached=frozenset()):
        """Compile for a tuple of Numba types (without part and parts).

        `unreached` are the `seldom` functions that need not be there (`not_reached`).

        Raises
        ------
        NnjitError : Numba cannot compile it; one sentence with the source location.

        Returns
        -------
        symbol : str
            The name of the code in LLVM.
        dispatcher
            The same code, callable from Python with part and parts as last arguments.
        """
        signature = tuple(signature)
        if (signature, real) not in self._made:
            with COMPILING:
                if (signature, real) not in self._made:  # another thread may have made it meanwhile
                    self._made[signature, real] = self._make(signature, real)
        self.provide(real, unreached)
        return self._made[signature, real]

    def symbol(self, signature, real, unreached=frozenset()):
        """Compile for a tuple of Numba types, or load from disk what calls by symbol need; return the symbol."""
        key = tuple(signature), real
        if key in self._made or not self.stored(*key):
            return self.compile(*key, unreached)[0]
        self.provide(real, unreached)
        return self._symbols[key]

    @COMPILING
    def stored(self, signature, real):
        """Load what calls by symbol need, if it is on disk; return the symbol or None."""
        signature = tuple(signature)
        if (signature, real) not in self._symbols and (found := self._stored(signature, real)):
            self._symbols[signature, real] = found
        return self._symbols.get((signature, real))

    def _stored(self, signature, real):
        key, inner = source.Source(self.function).told()  # unchecked: what is on disk has been checked
        name = f"{self.name(key, real)}_{digest(signature)}"
        self.named[signature, real] = full_name(name, is_own(self.function), **self._options)
        signature, own = (*signature, types.intp, types.intp), is_own(self.function)
        if not on_disk(name, own, **self._options):
            return None
        for function in inner:
            function.register(real)
        self._called = inner
        return loaded(name, signature, own, **self._options)

    @property
    def _options(self):
        return {"no_cfunc_wrapper": True, "pipeline_class": self.compilers[0]}

    def _make(self, signature, real):
        try:
            function = self.python(real)
            function.__name__ += "_" + digest(signature)
            function.__qualname__ = function.__name__
            dispatcher = compiled(function, (*signature, types.intp, types.intp), **self._options)
        except (NumbaError, SyntaxError) as error:
            raise NnjitError(explained(self, error)) from None
        return symbol(dispatcher, (*signature, types.intp, types.intp)), dispatcher

    def inlined(self, signature, real, unreached=frozenset()):
        """Return the kernel as a dispatcher that is inlined into the caller (for tiny networks)."""
        need_compiler()
        if self._called is None:
            self._called = source.Source(self.function).told()[1]
        for function in self._called:  # code from the disk calls their symbols
            function.register(real)
        self.provide(real, unreached)
        if not self.function.__module__.startswith("nnjit."):
            self.compile(signature, real)  # so that errors name the kernel, not its caller
        return _inlined(self, real)

    def __call__(self, *arguments):
        """Run serially on arrays. Numbers take the type of the first float array."""
        reals = (a.dtype.type for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f")
        real = next(reals, np.float64)
        signature = tuple(FLOATS[real] if type(a) is float else type_of(a) for a in arguments)
        _, dispatcher = self.compile(signature, real)
        dispatcher(*[real(a) if type(a) is float else a for a in arguments], 0, 1)


@COMPILING
@memoize
def _inlined(kernel, real):
    function = kernel.python(real)
    made = njit(**{**INLINED, "pipeline_class": kernel.compilers[1]})(function)
    if is_own(kernel.function) and UNCACHED not in function.__name__ and machine_code.recorded is None:
        made._cache = PartCache(function)
    return made


def kernel(function=None, *, form=None):
    """Mark a function with one top-level ``prange`` loop as a kernel (see `Kernel`).

    ``@kernel`` gets arrays unchanged, (N, C, *spatial); ``@kernel(form="channels")`` gets (N, C, positions) for any
    number of spatial dimensions, ``form="matrix"`` (N, features) (see `slots.shaped`).
    """
    if function is None:
        return lambda function: Kernel(function, form)
    return Kernel(function, form)


def type_of(value):
    """Return the Numba type of a kernel argument."""
    if isinstance(value, np.ndarray):
        return types.Array(types.float32 if value.dtype == np.float32 else _scalar(value.dtype), value.ndim, "C")
    if isinstance(value, (bool, np.bool_)):
        return types.boolean
    if isinstance(value, (int, np.integer)):
        return types.intp
    if isinstance(value, (float, np.floating)):
        return types.float64
    if isinstance(value, tuple):
        return types.UniTuple(types.intp, len(value))
    raise TypeError(f"a kernel takes arrays, numbers and tuples of whole numbers, not {type(value).__name__}")


def _scalar(dtype):
    from numba.np.numpy_support import from_dtype

    return from_dtype(dtype)
