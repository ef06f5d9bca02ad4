"""Match values with type annotations: the values an option accepts, and their description in errors."""

import math
import types
import typing
from typing import Any, Literal

from ..errors import SpecError
from .specs import MAX_BITS, did_you_mean, either, shown

# Words that users try for one of ours.
SYNONYMS = {"regression": "value", "number": "value", "classification": "class", "category": "class", "label": "class"}


class AnnotationError(Exception):
    """The value does not fit; `hint` is appended to the error message."""

    def __init__(self, hint: str = ""):
        super().__init__(hint)
        self.hint = hint


def coerce(value: Any, annotation: Any) -> Any:
    """Convert a value to the annotated type (3 to 3.0 for a float, a list to a tuple), or raise AnnotationError.

    Annotations may be int, float (also whole numbers and inf, not nan), bool, str, None, tuple, list, dict with or
    without element types, unions, Literal, Any; any other class means an instance of it. bool is never a number here.
    """
    value = _python(value)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or isinstance(annotation, typing.TypeVar):
        return value
    if annotation is None or annotation is types.NoneType:
        return _require(value is None, value)
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(value, arguments)
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            words = [choice for choice in arguments if isinstance(choice, str)]
            tried = [value, SYNONYMS.get(value.lower(), value)] if isinstance(value, str) else []
            raise AnnotationError(next(filter(None, (did_you_mean(word, words) for word in tried)), ""))
        return value
    if origin is typing.Annotated:
        return coerce(value, arguments[0])
    kind = origin or annotation
    if kind is int:
        _require(isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= MAX_BITS)
        return int(value)
    if kind is float:
        _require(isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(_real(value)))
        return _real(value)
    if kind is str:
        _require(isinstance(value, str))
        return str.__str__(value)
    if kind in (tuple, list):
        _require(isinstance(value, (tuple, list)))
        return _coerce_sequence(value, kind, arguments)
    if kind is dict:
        _require(isinstance(value, dict))
        of_key, of_item = arguments or (Any, Any)
        return {coerce(key, of_key): coerce(item, of_item) for key, item in value.items()}
    return _require(not isinstance(kind, type) or isinstance(value, kind), value)


def checked(name: str, value: Any, annotation: Any, low: float = -math.inf, high: float = math.inf) -> Any:
    """Convert an argument to its annotation (NumPy numbers become Python's); check a number from `low` to `high`.

    Raises
    ------
    SpecError : one sentence that begins with `name`.
    """
    try:
        fitted = coerce(value, annotation)
        if low <= fitted <= high:
            return fitted
    except AnnotationError:
        pass
    ends = [f"from {low} to {high}"] * (high < math.inf) or [f"from {low} on"] * (low > -math.inf)
    raise SpecError(f"{name}: expected {' '.join([describe(annotation), *ends])}, got {shown(value)}")


def describe(annotation: Any) -> str:
    """Describe the values that `coerce` accepts: "a whole number or a tuple of whole numbers"."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    if origin in (typing.Union, types.UnionType):
        return either(map(describe, arguments))
    if origin is Literal:
        return either(map(repr, arguments))
    if origin is typing.Annotated:
        return describe(arguments[0])
    if origin is tuple and arguments and arguments[-1] is not ...:
        return f"a tuple ({', '.join(map(describe, arguments))})"
    if origin in (tuple, list):
        return f"a {origin.__name__} of {_plural(describe(arguments[0]))}" if arguments else f"an empty {origin}"
    if origin is dict:
        return f"a table of {_plural(describe(arguments[1]))}"
    return f"an instance of {getattr(origin or annotation, '__name__', annotation)}"


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    tuple: "a tuple",
    list: "a list",
    dict: "a table",
    None: "None",
    types.NoneType: "None",
    Any: "anything",
}


def _require(condition, value=None):
    if not condition:
        raise AnnotationError
    return value


def _python(value):
    """Convert a NumPy scalar, recognized by its module's name, since NumPy must not be imported here."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _real(value):
    try:
        return float(value)
    except OverflowError:
        raise AnnotationError from None


def _coerce_union(value, members):
    """Fit the value to the member that keeps its type if there is one, else to the first that accepts it."""
    results = []
    for member in members:
        try:
            results.append(coerce(value, member))
        except AnnotationError as error:
            results.append(error)
    fitting = [result for result in results if not isinstance(result, AnnotationError)]
    if not fitting:
        raise AnnotationError(next((result.hint for result in results if result.hint), ""))
    return next((result for result in fitting if type(result) is type(value)), fitting[0])


def _coerce_sequence(value, kind, arguments):
    if not arguments:  # TOML has only lists: inside a tuple they become tuples too
        return _tuples(value) if kind is tuple else [_python(item) for item in value]
    if kind is tuple and arguments[-1] is not ...:
        _require(len(value) == len(arguments))
        return tuple(coerce(item, each) for item, each in zip(value, arguments, strict=True))
    return kind(coerce(item, arguments[0]) for item in value)


def _tuples(value):
    return tuple(_tuples(item) if isinstance(item, (tuple, list)) else _python(item) for item in value)


def _plural(words):
    plain = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
    return plain.get(words, f"items, each {words}")
