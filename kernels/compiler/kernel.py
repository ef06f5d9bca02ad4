"""Kernels: loops over arrays, written once and compiled for each element type and rank.

``@kernel`` marks a function with one top-level ``for i in prange(n)`` with independent iterations. Called from Python,
it compiles for the arguments and runs serially. The program binds it by symbol (slots.py): the machine code of the
kernel is registered with LLVM under a name, and the program calls that name, so compiling a program never recompiles
its kernels.
"""

import ctypes
import inspect
import operator
import os
import re
from functools import cache as memoize
from types import SimpleNamespace

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock as COMPILING
from numba.core.errors import NumbaError
from numba.extending import intrinsic, overload

from ...errors import NnjitError, SpecError
from . import coefficients, functions, reached, source, special
from .cache import UNCACHED, DiskCache, StoreOnly, address_of, digest
from .late import callee, fill, word
from .part import ObjectCompiler, PartCompiler, ShortCompiler, is_own
from .subnormal import flush

# Permitted changes to floating-point arithmetic (table in docs/architecture.md): LLVM may fuse a product and a sum, and
# may add the terms of ``total += term`` in any order, so that sums vectorise.
FAST = {"contract"}
SUM = ["contract", "nsz", "reassoc"]
FLOATS = {np.float32: types.float32, np.float64: types.float64}
# No reference counts by Numba: every array belongs to the caller, and a count costs an atomic operation.
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "nogil": True, "_nrt": False}
NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
HELPER = {**OPTIONS, **NO_WRAPPERS, "pipeline_class": PartCompiler}  # called only by kernels
INLINED = {**HELPER, "forceinline": True}

_compiling: list = []  # the functions that `compiled` compiles now
recorded: dict | None = None  # an export collects here, by symbol, the library of each function and its name there
elsewhere = False  # whether another process compiles `linked` functions, and this one runs none (see prepare)
_nothing = ctypes.c_int64()  # the place of their symbols


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

# One thread at a time compiles, under Numba's own lock, since Numba calls nnjit while compiling and nnjit calls Numba.
# A fork waits for compilations: the child must find neither a held lock nor half a function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)


class once:
    """A property computed on first access, by one thread only.

    functools.cached_property has a separate lock until Python 3.12, which a forked child might find held.
    """

    def __init__(self, function):
        self.function, self.name, self.__doc__ = function, function.__name__, function.__doc__

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        with COMPILING:
            if self.name not in instance.__dict__:
                instance.__dict__[self.name] = self.function(instance)
            return instance.__dict__[self.name]


def helper(function):
    """Mark a function that is compiled into the kernels that call it, never called from Python."""
    return njit(**HELPER)(function)


def inlined(function):
    """Mark a helper that is always inlined: a short one, for which passing its arguments would take longer."""
    return njit(**INLINED)(function)


def seldom(function):
    """Mark a `linked` function that is compiled only where a program may reach it (`Kernel.unreached`)."""
    return linked(function, late=True)


def linked(function, late=False):
    """Mark a helper that kernels call by symbol: compiled once per element type, for any number of kernels.

    Annotations say what its arguments are: flat arrays (``array``), passed as addresses, views of matrices (``View``),
    tuples of whole numbers (their length), named tuples of whole numbers or of named tuples (the class), tables of
    whole numbers (``places``); the others are whole numbers. It returns nothing. At least one argument is an array or a
    view; the first one determines the element type.
    """
    names, notes = list(inspect.signature(function).parameters), function.__annotations__
    arrays = [name for name in names if notes.get(name) is array or hasattr(notes.get(name), "argument_type")]
    text = source.Source(function)

    told = memoize(text.told)

    @memoize
    def named(real):
        """Return the name, the signature, and the `linked` functions that this one calls."""
        key, inner = told()
        signature = tuple(_annotated(notes.get(name), FLOATS[real]) for name in names)
        return f"{text.label}_{digest(key, real.__name__, sorted(FAST))}", signature, inner

    @COMPILING
    @memoize
    def register(real):
        """Compile for an element type, or load from disk; return the symbol and the signature.

        A `seldom` function gets a word only, whose symbol is returned.
        """
        name, signature, _ = named(real)
        if late:
            return word(full_name(name, is_own(function), **NO_WRAPPERS)), signature
        if elsewhere:
            return vacant(name, is_own(function), **NO_WRAPPERS), signature
        return code(real), signature

    def code(real):
        """Compile, or load from disk; return the symbol."""
        name, signature, inner = named(real)
        for each in inner:
            each.register(real)
        return loaded(name, signature, is_own(function), **NO_WRAPPERS) or compile(real)

    @COMPILING
    @memoize
    def provide(real):
        """Do as `register`, and put the address of a `seldom` function into its word."""
        symbol, _ = register(real)
        if late and not elsewhere:
            fill(symbol, code(real))

    @COMPILING
    def compile(real):
        """Compile for an element type; return the symbol."""
        name, signature, inner = named(real)
        for each in inner:
            each.register(real)
        namespace = {**function.__globals__, **inspect.getclosurevars(function).nonlocals, "_real": real, "_add": add}
        plain = source.build(source.sums(source.real(text.tree(), namespace)), name, text.file, namespace)
        return symbol(compiled(plain, signature, **NO_WRAPPERS), signature)

    def typed(typing, given):
        kinds = dict(zip(names, given, strict=True))
        if any(isinstance(kinds[name], types.Array) and kinds[name].ndim != 1 for name in arrays):
            return None
        real = next(real for real, kind in FLOATS.items() if kind is kinds[arrays[0]].dtype)
        name, signature = register(real)
        if not _compiling:  # a function of the user's calls it, and nothing is known of its arguments
            for each in source.all_called([function]):
                each.provide(real)

        def generate(context, builder, sig, values):
            values = [
                builder.extract_value(value, 4) if isinstance(kind, types.Array) else value
                for kind, value in zip(sig.args, values, strict=True)
            ]
            return call_symbol(context, builder, name, signature, values)

        wanted = (k if isinstance(k, types.Array) else w for k, w in zip(given, signature, strict=True))
        return types.none(*wanted), generate

    made = intrinsic_of(names, typed)
    made.py_func, made.__doc__ = function, function.__doc__
    function.told, function.register, function.provide, function.compile = told, register, provide, compile
    return made


def _annotated(note, element):
    """Return the Numba type of an argument of a `linked` function, by its annotation and the arrays' element type."""
    if note is None:
        return types.intp
    if isinstance(note, int):
        return types.UniTuple(types.intp, note)
    if note is array:
        return types.CPointer(element)
    if note is places:
        return types.CPointer(types.intp)
    if hasattr(note, "_fields"):
        fields = [inspect.get_annotations(note, eval_str=True)[name] for name in note._fields]
        kinds = [types.intp if kind is int else _annotated(kind, element) for kind in fields]
        return types.BaseTuple.from_types(kinds, note)
    return note.argument_type(element)


class array:
    """Annotation of `linked` functions: a flat array."""


class places:
    """Annotation of `linked` functions: a table of whole numbers, made by the word `numbers`."""


@COMPILING
def compiled(function, signature, **options):
    """Return a Numba dispatcher for one signature, loaded from the disk cache if possible.

    `function.__name__` must contain a hash of everything that determines the code except the options.

    Raises
    ------
    NnjitError : Numba's compiler is disabled, or its threads cannot start.
    """
    need_compiler()
    if options.get("parallel"):
        start_threads()
    function.__name__, options = _completed(function.__name__, is_own(function), options)
    function.__module__ = __name__  # Numba imports it when loading the code; a plug-in's module may be renamed by then
    dispatcher = njit(**options)(function)
    if UNCACHED not in function.__name__:
        stored = StoreOnly if options.get("pipeline_class") is ObjectCompiler else DiskCache
        dispatcher._cache = stored(function)
    _compiling.append(function)
    try:
        dispatcher.compile(signature)
    finally:
        _compiling.pop()
    dispatcher.disable_compile()
    return dispatcher


def _completed(name, own, options):
    """Return a function's name with the hash of its options, and all options."""
    if own and not options.get("parallel") and options.get("pipeline_class", Compiler) is Compiler:
        options = {**options, "pipeline_class": ShortCompiler}
    options = {**OPTIONS, **options}
    return f"{name}_{digest(sorted((k, sorted(v) if k == 'fastmath' else v) for k, v in options.items()))}", options


@COMPILING
def loaded(name, signature, own, **options):
    """Load a function that is called by symbol, by its name and the arguments of `compiled`.

    Returns
    -------
    str or None
        The registered symbol; None if its code is not on disk.
    """
    need_compiler()
    name, _ = _completed(name, own, options)
    if UNCACHED in name:
        return None
    address = DiskCache(_named(name)).load_address(tuple(signature))
    if address is None:
        return None
    llvm.add_symbol("nnjit." + name, address)
    return "nnjit." + name


def load(dispatcher, signature):
    """Load what `ObjectCompiler` has made, and register its symbol."""
    result = dispatcher.overloads[tuple(signature)]
    address = address_of(result.library._get_compiled_object(), result.fndesc.llvm_func_name)
    add_symbol("nnjit." + dispatcher.py_func.__name__, address, result.library, result.fndesc.llvm_func_name)


def vacant(name, own, **options):
    """Register the symbol of a function, by the arguments of `loaded`, with no code: its callers must not run."""
    name = full_name(name, own, **options)
    llvm.add_symbol(name, ctypes.addressof(_nothing))
    return name


def full_name(name, own, **options):
    """Return the symbol of a function, by the arguments of `loaded`."""
    return "nnjit." + _completed(name, own, options)[0]


def on_disk(name, own, **options):
    """Return whether there may be machine code of a function on disk, by the arguments of `loaded`."""
    name, _ = _completed(name, own, options)
    return UNCACHED not in name and DiskCache(_named(name)).there()


def _named(name):
    """Return an empty function of this name, which stands for one that need not be made if its code is on disk."""

    def function():
        """Do nothing."""

    function.__name__ = name
    return function


def need_compiler():
    """Raise NnjitError if the environment disables Numba's compiler."""
    if numba.config.DISABLE_JIT:
        raise NnjitError(
            "NUMBA_DISABLE_JIT is set, so Numba compiles nothing and nnjit's kernels run compiled only; unset it (tools"
            " that measure coverage work without it)"
        )


def start_threads():
    """Start Numba's threads, if they do not run yet, and return their number.

    Raises
    ------
    NnjitError : the threading layer that the environment requests is missing.
    """
    try:
        return numba.get_num_threads()
    except ValueError as error:
        wanted, said = numba.config.THREADING_LAYER, " ".join(str(error).split()).rstrip(".")
        raise NnjitError(
            f"NUMBA_THREADING_LAYER is {wanted!r}, but Numba cannot start it: {said}; unset it, or choose"
            " omp or workqueue"
        ) from None


def first_line(error):
    """Format an exception in one line: the first informative line of Numba's message, and the source location."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Failed in")]
    place = re.search(r'File "(.*?)", line (\d+)', text)
    return (lines[0] if lines else "") + (f" ({place[1]}, line {place[2]})" if place else "")


def symbol(dispatcher, signature):
    """Register the machine code of a dispatcher with LLVM; return the symbol by which other code may call it."""
    result = dispatcher.overloads[tuple(signature)]
    name, function = "nnjit." + dispatcher.py_func.__name__, result.fndesc.llvm_func_name
    add_symbol(name, result.library.get_pointer_to_function(function), result.library, function)
    return name


def add_symbol(name, address, library, function):
    """Register code with LLVM under a name; `library` has it as `function`."""
    llvm.add_symbol(name, address)
    if recorded is not None:
        recorded[name] = library, function


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
        if (real, unreached) not in self._provided and not elsewhere:
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
            name = f"{self.function.__module__}.{self.function.__qualname__}"
            raise NnjitError(f"{name} does not compile: {first_line(error)}") from None
        return symbol(dispatcher, (*signature, types.intp, types.intp)), dispatcher

    def inlined(self, signature, real, unreached=frozenset()):
        """Return the kernel as a dispatcher that is inlined into the caller (for tiny networks)."""
        need_compiler()
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
    return njit(**{**INLINED, "pipeline_class": kernel.compilers[1]})(kernel.python(real))


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
