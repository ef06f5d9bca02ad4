"""Options: the annotated attributes of a registered class, checked by type when an instance is created.

::

    @register("affine")
    class Affine(Layer):
        start: float = 1.0          # an option; required if it has no default
        layout = "any"              # without annotation: not an option

    Affine(2), Affine(start=2.0), registry.create("affine(start=2)")
"""

import copyreg
import dataclasses
import sys
import typing
from collections.abc import Mapping
from inspect import Parameter, Signature, get_annotations
from typing import Any, TypeAlias, Union

from ..errors import NnjitError, SpecError
from .annotations import AnnotationError, coerce, describe
from .sources import NAMES, Source, place_of
from .specs import Spec, did_you_mean, literal, quoted, shown

# The forms of a spec that `create` takes: text, a (name, options) pair, a table, a Spec or an instance.
SpecLike: TypeAlias = Union[str, tuple[str, dict[str, Any]], list[Any], dict[str, Any], Spec, "Options"]


@typing.dataclass_transform(eq_default=False, field_specifiers=(dataclasses.field,))
class Options:
    """Base of all classes that can be registered.

    The annotated attributes of a subclass are its options, those of its bases first; positional arguments follow this
    order. NumPy scalars become Python numbers, a list becomes a tuple if a tuple is annotated, and so on; a value of
    another type is a SpecError. ``ClassVar`` and attributes without annotation are not options.
    """

    __signature__: typing.ClassVar[Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        doc = cls.__doc__
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        for name in _fields(cls):
            if any(callable(vars(base).get(name)) and not _is_option(base, name) for base in cls.__mro__[1:]):
                raise SpecError(f"{cls.__name__}: an option cannot be called {name!r}, a method of its base class")
        cls.__doc__ = doc  # a missing docstring stays missing
        try:
            cls.__signature__ = Signature([_parameter(field) for field in _fields(cls).values()])
        except ValueError:
            raise SpecError(f"{cls.__name__}: an option without default follows one that has a default") from None

    def __init__(self, /, *args: Any, **options: Any) -> None:
        cls, fields = type(self), _fields(type(self))
        given = _by_name(cls, fields, args, options)
        for name, field in fields.items():
            setattr(self, name, _checked(cls, field, given[name]) if name in given else _default(cls, field))
        try:
            self.validate()
        except ValueError as error:
            if isinstance(error, NnjitError):
                raise
            raise SpecError(f"{_name(cls)}: {error}") from error

    def validate(self) -> None:
        """Check the options against each other and raise SpecError; subclasses override it. Called last on creation."""

    def options(self) -> dict[str, Any]:
        """Return the options and their current values, in order."""
        return {name: getattr(self, name) for name in _fields(type(self))}

    def spec(self) -> str:
        """Return the spec of an equal instance: ``"conv(filters=8, kernel_size=3)"``; defaults are omitted.

        Raises SpecError for an option whose value no spec can express, such as an array.
        """
        cls, parts = type(self), []
        for name, field in _fields(cls).items():
            try:
                text = literal(getattr(self, name))
            except SpecError as error:
                raise SpecError(f"{_name(cls)}: {name}: {error}") from None
            if text != _default_text(cls, field):
                parts.append(f"{name}={text}")
        return f"{_name(cls)}({', '.join(parts)})" if parts else _name(cls)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Let pickle name the file of a plug-in's class or a script's, which another process can import by no name."""
        reduced, place = super().__reduce_ex__(protocol), place_of(type(self))
        standard = getattr(copyreg, "__newobj__")  # noqa: B009 - type checkers do not know it
        if place is None or reduced[0] is not standard or reduced[1] != (type(self),):
            return reduced
        return (Source("nnjit.registry.plugins:instance").load(), place, *reduced[2:])

    def __repr__(self) -> str:
        try:
            return self.spec()
        except (SpecError, AttributeError):  # a repr must also work for incomplete instances
            return object.__repr__(self)


def _is_option(base, name):
    return name in getattr(base, "__dataclass_fields__", {})


def _fields(cls) -> Mapping[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(cls)} if cls is not Options else {}


def _name(cls):
    """Return the registered name of a class of any kind, for errors and specs; else its Python name."""
    return next(iter(NAMES.get(cls, {}).values()), cls.__name__)


def _parameter(field):
    default = field.default_factory if field.default is dataclasses.MISSING else field.default
    default = Parameter.empty if default is dataclasses.MISSING else default
    return Parameter(field.name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=field.type)


def _by_name(cls, fields, args, options):
    """Merge positional and named options into one mapping; SpecError for unknown, missing and extra ones."""
    form = f"{_name(cls)}{_form(fields)}"
    if len(args) > len(fields):
        raise SpecError(f"{_name(cls)}: got {len(args)} values; the form is {form}")
    given = dict(zip(fields, args, strict=False))
    for name, value in options.items():
        if name not in fields:
            raise SpecError(
                f"{_name(cls)}: unknown option {quoted(name)}{did_you_mean(name, fields)}; the form is {form}"
            )
        if name in given:
            raise SpecError(f"{_name(cls)}: {name} is given twice, by position and by name; the form is {form}")
        given[name] = value
    missing = [name for name, field in fields.items() if name not in given and _required(field)]
    if missing:
        raise SpecError(f"{_name(cls)}: {' and '.join(missing)} missing; the form is {form}")
    return given


def _required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _form(fields):
    """Format the options as ``(filters, kernel_size, stride=1)``."""
    return "(" + ", ".join(n if _required(f) else f"{n}={_shown_default(f)}" for n, f in fields.items()) + ")"


def _shown_default(field):
    try:
        return literal(field.default if field.default is not dataclasses.MISSING else field.default_factory())
    except SpecError:
        return "..."


def _checked(cls, field, value):
    annotation = _annotation(cls, field)
    try:
        return coerce(value, annotation)
    except (AnnotationError, RecursionError) as error:
        hint = error.hint if isinstance(error, AnnotationError) else ""
        raise SpecError(
            f"{_name(cls)}: {field.name}: expected {describe(annotation)}, got {shown(value)}{hint}"
        ) from None


def _default(cls, field):
    """Return the default converted to its annotation (0 of a float is 0.0); unchanged if it does not fit."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    try:
        return coerce(value, _annotation(cls, field))
    except AnnotationError:
        return value


def _default_text(cls, field):
    """Return the default as a spec writes it, or None if it cannot be written."""
    if _required(field):
        return None
    try:
        return literal(_default(cls, field))
    except SpecError:
        return None


def _annotation(cls, field):
    """Return the annotation as a type; resolve a string (``from __future__ import annotations``) in its own module."""
    owner = next(base for base in cls.__mro__ if field.name in get_annotations(base))
    module = sys.modules.get(owner.__module__)
    holder = type("holder", (), {"__annotations__": {field.name: field.type}})
    try:
        return typing.get_type_hints(holder, globalns=vars(module) if module else {})[field.name]
    except Exception as error:
        raise SpecError(f"{_name(cls)}: {field.name}: the annotation {field.type!r} cannot be read: {error}") from error
