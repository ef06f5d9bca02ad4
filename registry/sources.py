"""Origins of registered classes: a "module:Class" text, an entry point of an installed plug-in, a plug-in file."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, reduce
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import NnjitError

# Class -> {catalogue: its first registered name}. A mapping, since subclasses would inherit an attribute.
NAMES: WeakKeyDictionary[type, dict] = WeakKeyDictionary()

LASTING = 50_000  # objects made at a stretch: those of Numba, when the first functions compile or load

FILE_PREFIX = "nnjit_plugin_"  # of the modules of plug-in files, which no other module has

# Module name -> the --plugin value that loaded it (FILE_OR_MODULE).
PLUGINS: dict[str, str] = {}


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which would look at the many lasting objects of Numba again and again.

    A first prediction takes 0.54 s instead of 0.58 s (2026-11, AMD EPYC, minima of 10 turns). If `LASTING` objects
    were made meanwhile, they count as old afterwards, or the collector would look at all of them at once.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # Objects that the user froze must stay so.
            if gc.get_count()[0] > LASTING and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@dataclass(frozen=True)
class Source:
    """A class that has not been imported yet."""

    target: str  # "package.module:Class"
    plugin: str | None = None  # the distribution that declares it; None for the built-in table

    def __str__(self) -> str:
        return f"plug-in {self.plugin} ({self.target})" if self.plugin else self.target

    def load(self) -> Any:
        """Import the module and return the class; any exception of that module propagates."""
        module, _, attributes = self.target.partition(":")
        with uncollected():
            found = import_module(module)
        return reduce(getattr, attributes.split("."), found)

    def names(self, cls: type) -> bool:
        """Return whether `cls` comes from this source, decided without imports."""
        module, _, attributes = self.target.partition(":")
        if attributes != cls.__qualname__:
            return False
        # An entry point may name a package that imports the class from one of its modules.
        return module == cls.__module__ or (self.plugin is not None and _top(module) == _top(cls.__module__))


def entry_points(group: str) -> tuple[dict[str, list[Source]], dict[str, str]]:
    """Return the names that installed distributions declare under a group, and the errors of unusable ones.

    Nothing is imported. A name with two sources is an error only when it is looked up.
    """
    found: dict[str, list[Source]] = {}
    broken = {}
    for point in _entry_points(group, tuple(sys.path)):
        plugin = point.dist.name if point.dist else point.value
        module, _, attributes = (part.strip() for part in point.value.partition("[")[0].partition(":"))
        if not point.name.isidentifier():
            broken[point.name] = f"plug-in {plugin} declares a name that is not an identifier"
        elif not module or not attributes:
            broken[point.name] = f"plug-in {plugin} declares {point.value!r} instead of module:Class"
        else:
            source = Source(f"{module}:{attributes}", plugin)
            if source not in found.setdefault(point.name, []):  # a distribution may be listed twice
                found[point.name].append(source)
    return found, broken


@cache
def _entry_points(group, path):
    """List the entry points of a group on sys.path (an argument, so that a changed path is searched again)."""
    from importlib import metadata

    try:
        return tuple(metadata.entry_points(group=group))
    except Exception:  # one unreadable entry_points.txt must not hide those of other distributions
        points: list[Any] = []
        for distribution in metadata.distributions():
            try:
                points.extend(distribution.entry_points.select(group=group))
            except Exception:
                continue
        return tuple(points)


def same_class(one: type, other: type) -> bool:
    """Return whether two classes are the same class defined twice: a reloaded module, a notebook cell run again."""
    if one is other:
        return True
    if one.__qualname__ != other.__qualname__:
        return False
    file = _file(one)
    return one.__module__ == other.__module__ or (file is not None and file == _file(other))


def described(cls: type) -> str:
    """Format ``module:Class`` with its file, for an error."""
    file = _file(cls)
    return f"{cls.__module__}:{cls.__qualname__}" + (f" in {file}" if file else "")


def plugin_of(cls: type) -> str | None:
    """Return the ``--plugin`` value that registers `cls`; None for built-in classes.

    It is the user's value if the plug-in was loaded with --plugin, else the module of the class; for a class defined in
    a script the script's path, for one defined at a prompt ``"__main__"``.
    """
    module, given = cls.__module__, given_by_user(cls)
    if given is not None:
        return given
    if module.startswith("nnjit."):
        return None
    if module == "__main__":
        return getattr(sys.modules[module], "__file__", None) or module
    return module


def given_by_user(cls: type) -> str | None:
    """Return the --plugin value that loaded `cls`, or None."""
    parts = cls.__module__.split(".")
    return next((PLUGINS[name] for i in range(len(parts), 0, -1) if (name := ".".join(parts[:i])) in PLUGINS), None)


def place_of(cls: type) -> tuple[str, str] | None:
    """Return the file and the name by which another process finds a class that it cannot import by its module.

    The file of a class that was defined at a prompt is "". None for classes of modules, and for those that their
    module does not have under their name (local classes, those of a notebook cell that ran again).
    """
    module = sys.modules.get(cls.__module__)
    if module is None or not (cls.__module__ == "__main__" or cls.__module__.startswith(FILE_PREFIX)):
        return None
    try:
        if reduce(getattr, cls.__qualname__.split("."), module) is not cls:
            return None
    except AttributeError:
        return None
    return file_of(module), cls.__qualname__


def file_of(module: object) -> str:
    """Return the absolute path of a module's file; "" if it has none."""
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if file else ""


def digest(plugin: str) -> str:
    """Hash the source of a plug-in, a file or all of the package that holds a module; "" if there is none."""
    if plugin.endswith(".py"):
        place = Path(plugin)
        files = [place] if place.is_file() else []
    else:
        spec = None
        with suppress(ValueError):  # a module without a spec, such as __main__
            spec = find_spec(plugin.partition(".")[0])
        if spec is None:
            return ""
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        place = folders[0] if folders else Path(spec.origin or "")
        files = sorted(file for folder in folders for file in folder.rglob("*.py")) or [place] * place.is_file()
    whole = sha256()
    for file in files:
        whole.update(f"{file.relative_to(place)}\0".encode() + file.read_bytes() + b"\0")
    return whole.hexdigest()[:16] if files else ""


def reason(error: BaseException) -> str:
    """Format in one line why an import failed and where: the plug-in's last line in the traceback."""
    if isinstance(error, NnjitError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"syntax error in {error.filename}:{error.lineno}: {error.msg}"
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    frames, step = [], error.__traceback__
    while step is not None:
        module = step.tb_frame.f_globals.get("__name__") or ""
        if _top(module) != "importlib" and module not in (__name__, *_OURS):
            frames.append((_top(module), step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    own = [(file, line) for top, file, line in frames if top == frames[0][0]]
    return f"{text} ({own[-1][0]}:{own[-1][1]})" if own else text


_OURS = ("nnjit.registry.catalogue", "nnjit.registry.plugins")


def _top(module):
    return module.partition(".")[0]


def _file(cls):
    return file_of(sys.modules.get(cls.__module__)) or None
