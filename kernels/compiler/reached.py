"""Dependencies of a function's code: its text, and every function, class and value that the text refers to.

The disk cache's key is a hash of these texts. A `linked` function counts as its own hash, since its callers' code has
only its name. A value without a textual form (an object of a foreign kind, a pointer) makes the key specific to this
process: then nothing is read from or written to disk.
"""

import ast
import collections
import dataclasses
import enum
import functools
import inspect
import linecache
import sys
import textwrap
import types as python_types
from contextlib import suppress

import numpy as np
from numba.core.types import Type

from ...errors import SpecError
from .cache import UNCACHED

# Modules that the versions of Python and Numba cover.
FOREIGN = {"numba", "numpy", "llvmlite", *sys.stdlib_module_names}
KERNELS = "nnjit.kernels.cpu."
PLAIN = (bool, int, float, complex, str, bytes, range, slice, type(None), type(...))
TOLD_BY_REPR = (
    Type,  # Numba's types
    np.dtype,
    np.ufunc,
    python_types.BuiltinFunctionType,
    python_types.MethodDescriptorType,
    python_types.WrapperDescriptorType,
    python_types.MemberDescriptorType,
    python_types.GetSetDescriptorType,
)


def texts(function, seen):
    """Yield the text of `function` and of all user code that it reaches by globals, closures and defaults.

    A helper contributes its whole file, since the effect of an overload or a factory there is not visible from outside.
    Its bytecode is included, because it differs from the text if the file was changed after the import.
    """
    function = getattr(function, "py_func", function)
    if function in seen:
        return
    seen.add(function)
    with suppress(OSError):  # made by exec or lambda: Numba compiles the bytecode
        yield text(function)
    yield from _bytecode(function.__code__)
    yield from _told((function.__defaults__, function.__kwdefaults__), (), seen)
    if hasattr(function, "register"):  # `linked`: annotations are the types of its arguments
        yield from _told(function.__annotations__, (), seen)
    names = _names(function.__code__)
    reached = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # not set yet
            reached[name] = cell.cell_contents
    for name in sorted(reached):
        yield name
        yield from _told(reached[name], names, seen, function.__module__)


def _told(value, names, seen, module=None):
    """Yield texts that represent a value; `names` occur in the code that reaches it, `module` contains that code."""
    inner = getattr(value, "py_func", value)
    if not hasattr(inner, "register"):  # not `linked`: the definition of an @intrinsic, not its twin in plain Python
        inner = getattr(value, "_defn", inner)
    kind = type(value)
    if kind in PLAIN:
        yield f"{kind.__name__} {value!r}"
    elif isinstance(inner, python_types.FunctionType):
        home = inner.__module__ or ""
        if hasattr(inner, "told"):  # `linked`: the caller's code has its name, with this hash
            seen.add(inner)
            yield inner.told()[0]
        elif not _foreign(home):
            for option, chosen in sorted(getattr(value, "targetoptions", {}).items()):
                yield option
                yield from _told(chosen, (), seen)
            if home != module:
                yield from _module(sys.modules.get(home), seen)
            yield from texts(inner, seen)
    elif isinstance(value, python_types.ModuleType):
        yield from _module(value, seen)
        if not _foreign(value.__name__):  # the text does not show the values that it computes
            for name in sorted(set(names) & vars(value).keys()):
                if (id(value), name) not in seen:
                    seen.add((id(value), name))
                    yield name
                    yield from _told(vars(value)[name], names, seen)
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, enum.Enum):
        yield f"{kind.__qualname__}.{value.name}"
        yield from _class(kind, seen)
    elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        yield f"{value.dtype!r}{value.shape}{value.tobytes().hex()}"
    elif isinstance(value, TOLD_BY_REPR) and " at 0x" not in repr(value):
        yield repr(value)
    elif id(value) in seen:
        yield "again"
    else:
        seen.add(id(value))
        yield kind.__qualname__
        parts = _parts(value)
        if parts is None:
            yield f"{UNCACHED} {id(value)}"
        else:
            for part in (kind, *parts) if not _foreign(kind.__module__) else parts:
                yield from _told(part, (), seen)
        seen.discard(id(value))  # `seen` only stops the recursion of a value that contains itself


def _parts(value):
    """List the parts of a value, in the same order in every process; None if they are unknown."""
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, (tuple, list)):
        return list(value)
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, python_types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return None


# Attributes that the interpreter adds to a class, and those without effect on code.
UNTOLD = {"__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__", "__static_attributes__"}
UNTOLD |= {"__dataclass_fields__", "__dataclass_params__", "__annotations__", "__abstractmethods__", "_abc_impl"}
UNTOLD |= {"__orig_bases__", "__parameters__", "__slots__", "__match_args__", "__annotate_func__", "__type_params__"}


def _class(cls, seen):
    """Yield the name of a class; for user classes also the bases and all current attribute values."""
    yield f"{cls.__module__}.{cls.__qualname__}"
    if _foreign(cls.__module__) or cls in seen:
        return
    seen.add(cls)
    for base in cls.__bases__:
        yield from _class(base, seen)
    if cls.__module__.partition(".")[0] == "nnjit":
        yield from _module(sys.modules.get(cls.__module__), seen)
        return
    if issubclass(cls, enum.Enum):
        for name, member in cls.__members__.items():
            yield name
            yield from _told(member.value, (), seen)
        return
    untold = set(UNTOLD)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        yield f"{cls._fields}"
        yield from _told(cls._field_defaults, (), seen)
        untold |= {*cls._fields, *vars(_NAMED)}
    if dataclasses.is_dataclass(cls):
        untold |= {name for name, value in vars(cls).items() if _file(value) == "<string>"}  # methods it was given
        for field in dataclasses.fields(cls):
            made = [each for each in (field.default, field.default_factory) if each is not dataclasses.MISSING]
            yield field.name
            yield from _told(made, (), seen)
    for name in sorted(vars(cls).keys() - untold):
        yield name
        yield from _told(vars(cls)[name], (), seen)


_NAMED = collections.namedtuple("_NAMED", "")


def _file(function):
    return getattr(getattr(function, "__code__", None), "co_filename", None)


def _foreign(module):
    return (module or "").partition(".")[0] in FOREIGN


def _bytecode(code):
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            yield from _bytecode(constant)
        else:
            yield from _told(constant, (), set())


def _module(module, seen):
    """Yield the text of a module, once; for a file of kernels also those of the files that it imports."""
    if module is None or module in seen or _foreign(module.__name__):
        return
    seen.add(module)
    if getattr(module, "__file__", None):
        try:
            yield text(module)
        except OSError:  # an extension module
            yield f"{UNCACHED} {id(module)}"
    if module.__name__.startswith(KERNELS):  # sums and products of tiles are overloads, which no name leads to
        for value in vars(module).values():
            home = sys.modules.get(getattr(value, "__module__", None) or "")
            if home is not None and home.__name__.startswith(KERNELS):
                yield from _module(home, seen)


@functools.cache
def text(function_or_module):
    """Return the source text; OSError if there is none."""
    return textwrap.dedent("".join(lines(function_or_module)[0]))


def written(function):
    """Return the source lines of a kernel function, and the number of the first line.

    Raises
    ------
    SpecError : the text cannot be read, or belongs to another function.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        found, first = lines(function)
    except (OSError, SyntaxError):
        raise SpecError(
            f"{name}: its source cannot be read, and a kernel is made of its source; a layer typed at a prompt, piped"
            " into Python or given by -c or exec must be put into a file (a notebook's cell will do)"
        ) from None
    try:
        definition = ast.parse(textwrap.dedent("".join(found))).body[0]
        same = isinstance(definition, ast.FunctionDef) and definition.name == function.__name__
        same = same and tuple(a.arg for a in definition.args.args) == _arguments(function.__code__)
    except (SyntaxError, IndexError):
        same = False
    if not same:
        file = function.__code__.co_filename
        raise SpecError(f"{name}: {file} no longer holds it in line {first}: the file has been changed since it was"
                        " imported; start Python again")  # fmt: skip
    return found, first


def raising(function, seen=()):
    """Return the location of the first raise or assert in a compiled function or its callees, or None.

    A plain callee may be the stub of an overload, which contains ``raise NotImplementedError``.
    """
    found, first = lines(function)
    for node in ast.walk(ast.parse(textwrap.dedent("".join(found)))):
        if isinstance(node, ast.Assert) or (
            isinstance(node, ast.Raise) and "NotImplementedError" not in ast.dump(node)
        ):
            return f"{function.__code__.co_filename}, line {first + node.lineno - 1}"
    for name in sorted(_names(function.__code__)):
        called = function.__globals__.get(name)
        called = getattr(called, "py_func", called)
        if isinstance(called, python_types.FunctionType) and called not in seen and not _own(called.__module__):
            with suppress(OSError, SyntaxError):
                if place := raising(called, {*seen, function, called}):
                    return place
    return None


def _own(module):
    return _foreign(module) or module.partition(".")[0] == "nnjit"


def _arguments(code):
    return code.co_varnames[: code.co_argcount]


_files: dict = {}  # path -> its lines, and a table: first line of a function -> last line


def lines(function_or_module):
    """Return the source lines, and the number of the first. `inspect` tokenizes the file, which is slow."""
    if isinstance(function_or_module, python_types.FunctionType):
        file, first = function_or_module.__code__.co_filename, function_or_module.__code__.co_firstlineno
        found = linecache.getlines(file, function_or_module.__globals__)
        if found and (file not in _files or _files[file][0] is not found):
            _files[file] = found, _ends("".join(found))
        if found and first in _files[file][1]:
            return found[first - 1 : _files[file][1][first]], first
    return inspect.getsourcelines(function_or_module)


def _ends(text):
    """Map the first line of every function, including decorators, to its last line."""
    ends, open_ = {}, [ast.parse(text)]
    while open_:
        node = open_.pop()
        if isinstance(node, ast.FunctionDef):
            ends[min(line.lineno for line in (node, *node.decorator_list))] = node.end_lineno
        for name in ("body", "orelse", "handlers", "finalbody"):
            open_ += getattr(node, name, ())
    return ends


def _names(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, python_types.CodeType):
            names |= _names(constant)
    return names
