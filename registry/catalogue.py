"""Catalogues of names, one per kind: layers, losses, optimizers, schedules, initializers, datasets, metrics.

A name refers to a class in one of three ways: the class was registered in this process, the built-in table names it, or
an entry point of an installed plug-in does. The last two are imported on first use. Built-in names take precedence over
entry points; a class registered in this process takes precedence over both, and needs ``force=True`` to replace a name.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from keyword import iskeyword
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

from ..errors import DuplicateName, SpecError, UnknownName, UsageError
from . import sources
from .options import Options
from .sources import NAMES, Source
from .specs import did_you_mean, nearest, parse, quoted, shown

Class = TypeVar("Class", bound=type)


class Found(NamedTuple):
    """The facts about a registered name that need no instance."""

    name: str
    cls: type
    module: str
    file: str | None  # None for a class made at a prompt
    line: int | None  # of the class statement, from 1
    doc: str
    aliases: tuple[str, ...]  # the other names of the same class
    source: str  # "built-in", "plug-in NAME" or "registered"


class Catalogue:
    """The names of one kind and their classes.

    Parameters
    ----------
    kind : the word in errors and the key of a table spec, such as "layer".
    group : the entry-point group of plug-ins, such as "nnjit.layers".
    builtin : name -> "module:Class", read like entry points.
    use : the option that takes a name, "--loss {}"; with it the errors of other kinds refer to this one.
    """

    _all: WeakSet["Catalogue"] = WeakSet()

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str] | None = None, use: str = "") -> None:
        self.kind = kind
        self.group = group
        self.use = use
        self._builtin = {name: Source(target) for name, target in (builtin or {}).items()}
        self._classes: dict[str, type] = {}
        self._hidden: set[str] = set()
        self._failed: dict[str, str] = {}
        Catalogue._all.add(self)

    @property
    def one(self) -> str:
        """The kind with its article."""
        return f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"

    def __repr__(self) -> str:
        return f"Catalogue({self.kind!r}, {self.group!r})"

    def register(self, name: str, *, aliases: Iterable[str] = (), force: bool = False) -> Callable[[Class], Class]:
        """Return a class decorator that registers a class under a name and returns it unchanged.

        Registering the same class again (a reload, a notebook cell run twice) replaces it quietly.

        Raises
        ------
        DuplicateName : another class has one of the names and `force` is False; then nothing is registered.
        SpecError : the name cannot occur in a spec, or the object is not a class with options.
        """
        if isinstance(aliases, str):
            raise SpecError(f"aliases of {self.kind} {shown(name)} are a tuple of names, got {shown(aliases)}")
        names = (name, *aliases)
        for each in names:
            self._check_name(each)

        def decorate(cls: Class) -> Class:
            self._check_class(name, cls)
            for each in names:
                self._make_room(each, cls, force)
            for each in names:
                self._bind(each, cls)
            known = NAMES.setdefault(cls, {})
            if self._classes.get(known.get(self, name)) is not cls:  # its former name was removed
                known[self] = name
            known.setdefault(self, name)
            return cls

        return decorate

    def unregister(self, name: str) -> None:
        """Remove one name; aliases are separate entries and stay. Any class may take the name again."""
        if self._holder(name) is None:
            raise self._unknown(name)
        self._settle(name)
        self._classes.pop(name, None)
        self._hidden.add(name)

    def names(self, pattern: str = "*") -> list[str]:
        """List all names that match a shell pattern (``conv*``), sorted, including plug-ins; imports nothing."""
        known = {*self._builtin, *self._declared()} - self._hidden | self._classes.keys()
        return sorted(name for name in known if fnmatchcase(name, pattern))

    def get(self, name: str) -> type[Any]:
        """Return the class of a name, imported now if necessary.

        Raises
        ------
        UnknownName : states the nearest names, all names, and how to load a plug-in.
        UsageError : the plug-in that declares the name fails to import; states which and why.
        DuplicateName : two installed plug-ins declare the name.
        """
        holder = self._holder(name)
        if holder is None:
            raise self._unknown(name)
        if isinstance(holder, type):
            return holder
        try:
            with restored_on_error():
                cls = holder.load()
                self._check_class(name, cls)
        except (Exception, SystemExit) as error:
            self._failed[name] = f"{holder} cannot be imported: {sources.reason(error)}"
            raise UsageError(f"{self.kind} {quoted(name)}: {self._failed[name]}") from error
        if name not in self._classes:  # the class does not register itself
            self._bind(name, cls)
            NAMES.setdefault(cls, {}).setdefault(self, name)
        return self._classes[name]

    def find(self, name: str) -> Found:
        """Find the origin of a name: file, line, docstring, aliases, source. Imports the class."""
        import inspect

        cls = self.get(name)
        try:
            file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
        except (OSError, TypeError):
            file = line = None
        others = tuple(each for each in self.names() if each != name and self._stands_for(each, cls))
        doc = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
        return Found(name, cls, cls.__module__, file, line, doc, others, self._source(name, cls))

    def create(self, spec: Any) -> Any:
        """Make the instance that a spec describes; return an instance unchanged.

        Raises SpecError for a spec that cannot be read or options that do not fit, and what `get` raises.
        """
        if isinstance(spec, Options):
            kinds = NAMES.get(type(spec), {self: ""})
            if self not in kinds:
                kind, name = next((catalogue.kind, name) for catalogue, name in kinds.items())
                raise SpecError(f"expected {self.one}, got the {kind} {name}")
            return spec
        wanted = parse(spec, self.kind)
        return self.get(wanted.name)(*wanted.args, **wanted.kwargs)

    def name_of(self, cls: type) -> str:
        """Return the first registered name of a class, which parameter names, configs and saved networks use."""
        try:
            return NAMES[cls][self]
        except KeyError:
            raise UnknownName(
                f'{shown(cls)} is not registered as {self.one}; write @register("...") above it'
            ) from None

    def plugin_of(self, name_or_class: str | type) -> str | None:
        """Return the ``--plugin`` value that makes a name known; None for built-in classes."""
        return sources.plugin_of(self.get(name_or_class) if isinstance(name_or_class, str) else name_or_class)

    def broken(self) -> dict[str, str]:
        """Map names to errors, for plug-ins that failed to import or whose entry points are unusable."""
        found, unusable = sources.entry_points(self.group)
        reasons = dict(unusable)
        for name, candidates in found.items():
            if name in self._builtin:
                reasons[name] = f"{candidates[0]} declares a name of nnjit's own, which wins"
            elif len(candidates) > 1 and name not in self._classes:
                reasons[name] = f"declared by {' and by '.join(map(str, candidates))}"
        return {**reasons, **self._failed}

    def distributions(self) -> set[str]:
        """Return the installed plug-ins whose classes are in use."""
        classes, declared = self._classes.items(), self._declared()
        return {source.plugin for name, cls in classes for source in declared.get(name, []) if source.names(cls)}

    def _declared(self):
        return sources.entry_points(self.group)[0]

    def _holder(self, name):
        """Return the class of a name, the Source it would be imported from, or None."""
        if not isinstance(name, str):
            raise SpecError(f"the name of {self.one} is text, got {shown(name)}")
        if name in self._classes or name in self._hidden:
            return self._classes.get(name)
        if name in self._builtin:
            return self._builtin[name]
        candidates = self._declared().get(name, [None])
        if len(candidates) > 1:
            raise DuplicateName(
                f"{self.kind} {quoted(name)} is declared by {' and by '.join(map(str, candidates))}; uninstall one"
            )
        return candidates[0]

    def _stands_for(self, name, cls):
        holder = self._classes.get(name) or self._builtin.get(name)
        if isinstance(holder, type):
            return holder is cls
        return any(source.names(cls) for source in ([holder] if holder else self._declared().get(name, [])))

    def _make_room(self, name, cls, force):
        """Check that `cls` may take the name; with `force`, settle its present holder first."""
        if force:
            self._settle(name)
            return
        holder = self._holder(name)
        if isinstance(holder, type):
            free, where = sources.same_class(holder, cls), sources.described(holder)
        else:
            free, where = holder is None or holder.names(cls), str(holder)
        if not free:
            raise DuplicateName(
                f"{self.kind} {quoted(name)} is registered already by {where}, and now again by"
                f" {sources.described(cls)}; choose another name or pass force=True"
            )

    def _settle(self, name):
        """Import the present holder of the name, so that its @register runs before the name is reassigned."""
        with suppress(UsageError):
            self.get(name)

    def _bind(self, name, cls):
        self._classes[name] = cls
        self._hidden.discard(name)
        self._failed.pop(name, None)

    def _source(self, name, cls):
        if name in self._builtin and self._builtin[name].names(cls):
            return "built-in"
        for source in self._declared().get(name, []):
            if source.names(cls):
                return f"plug-in {source.plugin}"
        given = sources.given_by_user(cls)
        return f"plug-in {given}" if given else "registered"

    def _check_name(self, name):
        if not isinstance(name, str):
            raise SpecError(f'{self.one} is registered with @register("name"), got {shown(name)} for the name')
        if not (name.isascii() and name.isidentifier()) or iskeyword(name) or name == "inf":
            raise SpecError(f"the name of {self.one} is letters, digits and _, such as my_name, got {shown(name)}")

    def _check_class(self, name, cls):
        if not isinstance(cls, type) or not issubclass(cls, Options):
            base = "nnjit.layers.Layer" if self.kind == "layer" else "nnjit.registry.Options"
            raise SpecError(f"{self.kind} {quoted(name)}: expected a class derived from {base}, got {shown(cls)}")

    def _unknown(self, name):
        names = self.names()
        hint = self._elsewhere(name) or did_you_mean(name, names) or self._elsewhere(name, near=True)
        return UnknownName(
            f"no {self.kind} is called {quoted(name)}{hint}; known names:"
            f" {', '.join(names) or 'none'}; load your own {self.kind} with --plugin FILE_OR_MODULE"
        )

    def _elsewhere(self, name, near=False):
        """Return a hint if another kind has the name, or one close to it; "" if none has."""
        others = sorted((each for each in Catalogue._all if each is not self and each.use), key=lambda each: each.kind)
        for other in others:
            found = nearest(name, other.names()) if near else other.names(name) if name.isidentifier() else []
            if found:
                use = other.use.format(found[0])
                return f"; did you mean the {other.kind} {found[0]}, {use}?" if near else f"; it is {other.one}: {use}"
        return ""


@contextmanager
def restored_on_error():
    """Undo, in every catalogue, the registrations of a module that fails to import."""
    import sys

    before = {catalogue: (dict(catalogue._classes), set(catalogue._hidden)) for catalogue in Catalogue._all}
    try:
        yield
    except BaseException:
        for catalogue, (classes, hidden) in before.items():
            for name, cls in list(catalogue._classes.items()):
                if classes.get(name) is not cls and cls.__module__ not in sys.modules:
                    del catalogue._classes[name]
                    if name in classes:
                        catalogue._classes[name] = classes[name]
                    if name in hidden:
                        catalogue._hidden.add(name)
        raise
