"""Where registered classes come from: a "module:Class" text, an installed plug-in's entry point, a plug-in file."""

import sys
from dataclasses import dataclass
from functools import cache, reduce
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import NnjitError

# Class -> {catalogue: the name it was first registered under}. A mapping, since an attribute would be inherited.
NAMES: WeakKeyDictionary[type, dict] = WeakKeyDictionary()

# Module name -> what the user gave to load it with (--plugin FILE_OR_MODULE).
PLUGINS: dict[str, str] = {}


@dataclass(frozen=True)
class Source:
    """A class that has not been imported yet."""

    target: str  # "package.module:Class"
    plugin: str | None = None  # the distribution that declares it; None for nnjit's own table

    def __str__(self) -> str:
        return f"plug-in {self.plugin} ({self.target})" if self.plugin else self.target

    def load(self) -> Any:
        """Import the module and take the class out of it; any exception of that module passes through."""
        module, _, attributes = self.target.partition(":")
        return reduce(getattr, attributes.split("."), import_module(module))

    def names(self, cls: type) -> bool:
        """Whether this is where `cls` comes from, judged without importing anything."""
        module, _, attributes = self.target.partition(":")
        if attributes != cls.__qualname__:
            return False
        # An entry point may name a package that takes the class from one of its own modules.
        return module == cls.__module__ or (self.plugin is not None and _top(module) == _top(cls.__module__))


def entry_points(group: str) -> tuple[dict[str, list[Source]], dict[str, str]]:
    """Names that installed distributions declare under a group, and what is wrong with those that cannot be used.

    Nothing is imported. A name with two sources is left for whoever asks for it.
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
    """The entry points of a group reachable from sys.path (an argument, so that a changed path is searched again)."""
    from importlib import metadata

    try:
        return tuple(metadata.entry_points(group=group))
    except Exception:  # one unreadable entry_points.txt must not hide every other distribution's
        points: list[Any] = []
        for distribution in metadata.distributions():
            try:
                points.extend(distribution.entry_points.select(group=group))
            except Exception:
                continue
        return tuple(points)


def same_class(one: type, other: type) -> bool:
    """Whether two classes are one class defined twice: a module reloaded, a notebook cell run again."""
    if one is other:
        return True
    if one.__qualname__ != other.__qualname__:
        return False
    file = _file(one)
    return one.__module__ == other.__module__ or (file is not None and file == _file(other))


def described(cls: type) -> str:
    """``module:Class`` with its file, for an error."""
    file = _file(cls)
    return f"{cls.__module__}:{cls.__qualname__}" + (f" in {file}" if file else "")


def plugin_of(cls: type) -> str | None:
    """What to give to ``--plugin`` so that `cls` is registered; None for nnjit's own.

    What the user gave when the plug-in was loaded so, else the module of the class; for a class defined in a script
    the script's path, for one defined at a prompt ``"__main__"``.
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
    """The plug-in loaded by hand that brought `cls`, or None."""
    parts = cls.__module__.split(".")
    return next((PLUGINS[name] for i in range(len(parts), 0, -1) if (name := ".".join(parts[:i])) in PLUGINS), None)


def reason(error: BaseException) -> str:
    """One line that says why an import failed and where: the plug-in's last line on the way to the error."""
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
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return str(Path(file).resolve()) if file else None
