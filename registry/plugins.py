"""Plug-ins loaded with ``--plugin FILE_OR_MODULE``. Importing one runs its ``@register``."""

import os
import re
import sys
from functools import reduce
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

from ..errors import NnjitError, UsageError
from .catalogue import restored_on_error
from .sources import FILE_PREFIX, PLUGINS, file_of, reason
from .specs import shown


def load_plugin(file_or_module: str | os.PathLike[str]) -> ModuleType:
    """Import a Python file (``"path/to/file.py"``) or a module (``"package.module"``) and return it.

    A plug-in given twice is imported once. A plug-in that fails registers no names.

    Raises
    ------
    UsageError : one sentence with the plug-in, the error, and its file and line; a DuplicateName or other NnjitError
        raised by the plug-in keeps its class.
    """
    given = os.fspath(file_or_module)
    is_file = given.endswith(".py") or os.sep in given or "/" in given
    try:
        with restored_on_error():
            module = _import_file(given) if is_file else _import_module(given)
    except (Exception, SystemExit) as error:
        kind = type(error) if isinstance(error, NnjitError) else UsageError
        raise kind(f"plug-in {_path(given)}: {reason(error)}") from error
    PLUGINS.setdefault(module.__name__, given)
    return module


def instance(file: str, name: str) -> Any:
    """Return an empty instance of a class of a plug-in file or a script, for pickle.

    Parameters
    ----------
    file : str
        Its path, which is imported if it is not there yet; "" for a class that was defined at a prompt.
    name : str
        The qualified name of the class.

    Raises
    ------
    UsageError
        There is no such file here, or no such class in it.
    """
    main: Any = sys.modules.get("__main__")
    try:
        if file == file_of(main):
            cls = reduce(getattr, name.split("."), main)
            return cls.__new__(cls)
    except AttributeError:  # a process of a pool, which runs another main module
        pass
    if not file:
        raise UsageError(
            f"{name} was defined at a prompt or in a notebook, which other processes cannot import; move it into a file"
            " and import it from there"
        )
    module: Any = load_plugin(file)
    try:
        cls = reduce(getattr, name.split("."), module)
    except AttributeError:
        raise UsageError(f"plug-in {_path(file)}: has no class {name}, of which an instance was pickled") from None
    return cls.__new__(cls)


def _import_file(given):
    path = Path(given).expanduser()
    if "\0" in given or not path.is_file():
        what = "is a folder, not a Python file" if "\0" not in given and path.is_dir() else "no such file"
        raise UsageError(f"{what}; give a .py file or the name of a module")
    if path.suffix != ".py":
        raise UsageError("a plug-in file ends in .py")
    path = path.resolve()
    name = FILE_PREFIX + re.sub(r"\W", "_", path.stem)
    held = sys.modules.get(name)
    if held is not None and held.__file__ != str(path):  # the same file name in two folders
        name += f"_{crc32(os.fsencode(path)):08x}"
        held = sys.modules.get(name)
    if held is not None:
        return held
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file always has them
    module = module_from_spec(spec)
    sys.modules[name] = module  # for inspect, pickle and Numba's cache
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _import_module(given):
    if not all(part.isidentifier() for part in given.split(".")):
        raise UsageError("expected a .py file or the name of a module, such as package.module")
    try:
        return import_module(given)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{given}.".startswith(f"{error.name}."):
            raise  # the plug-in was found, but not a module that it imports
        file = Path(*given.split(".")).with_suffix(".py")
        hint = f"; did you mean the file {file}?" if file.is_file() else "; is it installed in this environment?"
        raise UsageError(f"no module named {error.name}{hint}") from None


def _path(given):
    return given if given.isprintable() else shown(given)
