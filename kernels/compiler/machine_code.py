"""Functions as machine code: compiled or loaded from disk, by names that hash everything that decides it.

LLVM knows the code of a function under its symbol, "nnjit." and its name, by which other code calls it (symbols.py).
"""

import ctypes
import re

import llvmlite.binding as llvm
from numba import njit
from numba.core.compiler import Compiler

from .cache import UNCACHED, DiskCache, StoreOnly, address_of, digest
from .environment import need_compiler, start_compiler, start_threads
from .lock import COMPILING
from .options import OPTIONS
from .part import ObjectCompiler, ShortCompiler, is_own

compiling: list = []  # the functions that `compiled` compiles now
recorded: dict | None = None  # an export collects here, by symbol, the library of each function and its name there
_nothing = ctypes.c_int64()  # the place of symbols without code


@COMPILING
def compiled(function, signature, **options):
    """Return a Numba dispatcher for one signature, loaded from the disk cache if possible.

    `function.__name__` must contain a hash of everything that determines the code except the options.

    Raises
    ------
    NnjitError : Numba's compiler is disabled, or its threads cannot start.
    """
    need_compiler()
    start_compiler()
    if options.get("parallel"):
        start_threads()
    function.__name__, options = _completed(function.__name__, is_own(function), options)
    function.__module__ = __name__  # Numba imports it when loading the code; a plug-in's module may be renamed by then
    dispatcher = njit(**options)(function)
    if UNCACHED not in function.__name__ and recorded is None:
        stored = StoreOnly if options.get("pipeline_class") is ObjectCompiler else DiskCache
        dispatcher._cache = stored(function)
    compiling.append(function)
    try:
        dispatcher.compile(signature)
    finally:
        compiling.pop()
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
    start_compiler()
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
