"""Compiled code on disk, outside the source tree, keyed so that a stale entry cannot be loaded.

Numba's own cache key covers only a function's bytecode. Here the name of every compiled function ends in a hash of
everything that determines its code (its source and that of its callees, constants, options, signature, Numba's version
and the modules that generate code from sources); Numba adds the CPU. Each file holds one signature, so processes that
start at once write the same bytes.
"""

import errno
import functools
import hashlib
import os
import pickle
import secrets
from contextlib import suppress
from pathlib import Path
from types import FunctionType

import llvmlite.binding as llvm
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target

from .directory import directory, warn
from .part import Part

# Part of the key of an object without a textual form; unique to this process.
UNCACHED = f"uncached_{secrets.token_hex(8)}_"

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)  # the cache of an image, filled by `nnjit compile`

compiled = 0  # functions that this process had to compile


def digest(*parts) -> str:
    """Hash texts, Numba's version and nnjit's code generator to sixteen hex digits.

    If a text contains `UNCACHED`, that word precedes the digits, and code with such a name is not stored on disk.
    """
    text = "\0".join([numba.__version__, _machinery(), *map(str, parts)])
    found = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return UNCACHED + found if UNCACHED in text else found


@functools.cache
def _machinery() -> str:
    names = """arithmetic constant elementwise kernel late linked loops machine_code masks options part reached source
        subnormal symbols"""
    files = [Path(__file__).with_name(f"{name}.py") for name in names.split()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class _Locator:
    def __init__(self):
        self.path = str(directory() / "compiled")

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls()

    def get_cache_path(self):
        return self.path

    def get_source_stamp(self):
        return "in the name"

    def get_disambiguator(self):
        return "nnjit"

    def ensure_cache_path(self):
        os.makedirs(self.path, exist_ok=True)


class _Impl(CompileResultCacheImpl):
    _locator_classes: list = [_Locator]

    def __init__(self, py_func):
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator()
        self._filename_base = self.get_filename_base(py_func.__name__, "")


class _Files(IndexDataCacheFile):
    """Files of machine code with a hash in front: a damaged file must never run."""

    def _load_data(self, name):
        data = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(data[32:]).digest() != data[:32]:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(data[32:])

    def _save_data(self, name, data):
        data = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(data).digest() + data)


def address_of(code, name):
    """Load an object file whose callees are registered; return the address of one of its functions."""
    engine = cpu_target.target_context.codegen()._engine
    engine._ee.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address(name)


class DiskCache(FunctionCache):
    """Numba's cache in our directory.

    In a read-only directory what is missing is compiled in memory; if the directory cannot be made, or the disk is
    full, with one warning.
    """

    _impl_class = _Impl

    def __init__(self, py_func):
        super().__init__(py_func)
        source = self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, source)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple()  # the name of the function holds a hash of its code

    def load_overload(self, sig, target_context):
        return self._loaded(super().load_overload, sig, target_context)

    def there(self):
        """Return whether there is a file, perhaps a damaged one or for another processor."""
        return os.path.exists(self._cache_file._index_path)

    def load_address(self, sig):
        """Load machine code that is called by symbol; return its address, or None if it is not there.

        Numba's way takes four times as long: it reads LLVM code for callers that inline the function, too.
        """
        return self._loaded(self._address, sig, cpu_target.target_context.codegen())

    def _address(self, sig, codegen):
        found = self._cache_file.load(self._index_key(sig, codegen))
        if found is None:
            return None
        (_, _, (code, _)), about, *_ = found
        return address_of(code, about.llvm_func_name)

    def _loaded(self, load, *arguments):
        try:
            return load(*arguments)
        except Exception as error:  # treat a damaged file like a missing one
            warn(f"cannot read compiled code from {self.cache_path} ({error}); compiling again")
            with suppress(OSError):
                self.flush()  # otherwise saving would fail on it again
            return None

    def save_overload(self, sig, data):
        global compiled
        compiled += 1
        try:
            super().save_overload(sig, data)
        except OSError as error:
            if error.errno in READ_ONLY and os.path.isdir(self.cache_path):
                return
            warn(f"cannot write compiled code to {self.cache_path} ({error}); compiling in memory")


class StoreOnly(DiskCache):
    """A cache from which nothing is loaded: code whose callees may not be there yet."""

    def load_overload(self, sig, target_context):
        return None


class PartCache:
    """A cache of LLVM code that is linked into callers, with a file for each signature.

    Numba tells helpers of equal names apart by numbers of this process. So all functions but the one that is called are
    internal to the code, whether it was compiled or loaded.
    """

    def __init__(self, py_func):
        self._function = py_func

    def _of(self, sig):
        function = FunctionType(self._function.__code__, {})
        function.__name__ = f"part_{self._function.__name__}_{digest(sig)}"
        return DiskCache(function)

    def load_overload(self, sig, target_context):
        of = self._of(sig)
        return of._loaded(_part, of, sig, target_context)

    def save_overload(self, sig, data):
        data.library.hide_all_but(data.fndesc.llvm_func_name)
        self._of(sig).save_overload(sig, data)


def _part(cache, sig, context):
    found = cache._cache_file.load(cache._index_key(sig, context.codegen()))
    if found is None:
        return None
    (name, _, code), about, environment, signature, *_ = found
    library = Part.loaded(context.codegen(), name, code)
    named = {"library": library, "fndesc": about, "environment": environment, "signature": signature}
    named |= {"entry_point": context.get_executable(library, about, environment), "objectmode": False}
    return CompileResult(**{name: named.get(name) for name in CompileResult._fields})
