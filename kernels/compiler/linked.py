"""Functions that kernels call by symbol: compiled once per element type, for any number of kernels.

The arguments' annotations say what they are: `array`, `places`, views, named tuples.
"""

import inspect
from functools import cache as memoize

from numba import types

from . import source
from .arithmetic import add
from .cache import digest
from .late import fill, word
from .lock import COMPILING
from .machine_code import compiled, compiling, full_name, loaded, symbol, vacant
from .options import FAST, FLOATS, NO_WRAPPERS
from .part import is_own
from .symbols import call_symbol, intrinsic_of

elsewhere = False  # whether another process compiles these functions, and this one runs none (see prepare)


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

        def generate(context, builder, sig, values):
            # A function of the user's calls it, and nothing is known of its arguments. Not above: Numba types a call
            # with equal arguments only once, and that may have been a kernel's.
            if not compiling:
                for each in source.all_called([function]):
                    each.provide(real)
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


def seldom(function):
    """Mark a `linked` function that is compiled only where a program may reach it (`Kernel.unreached`)."""
    return linked(function, late=True)
