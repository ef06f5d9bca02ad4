"""Specs: the notation for a layer, a loss or a data set. Text is parsed as data and never evaluated.

Four equivalent forms::

    "conv(8, 3, padding='same')"                              call form; without options just "relu"
    ("conv", {"filters": 8, "kernel_size": 3})                a pair
    {"layer": "conv", "filters": 8, "kernel_size": 3}         a table, as in TOML; the key is the kind's word, or "name"
    Spec("conv", (8, 3), {"padding": "same"})                 the result of parsing any of them
"""

import ast
import math
import reprlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import SpecError

MAX_LENGTH = 10_000  # characters of one spec: far above any layer, far below the limit of the parser
MAX_DEPTH = 20  # levels of nested brackets
MAX_BITS = 64  # bits of a whole number: no option needs more, and Python refuses to print very long ones

_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Spec:
    """A name with its options, not yet looked up: ``name(*args, **kwargs)``."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = [literal(value) for value in self.args]
        options += [f"{name}={literal(value)}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(options)})" if options else self.name


def parse(spec: Any, kind: str = "layer") -> Spec:
    """Read a spec of any form.

    Parameters
    ----------
    spec : str, (str, dict) pair, dict or Spec
    kind : the key of the name in a table ("layer", "loss", ...); "name" works too.

    Raises
    ------
    SpecError : one sentence that quotes the spec and states the error.
    """
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str):
        return _parse_call(spec, kind)
    if isinstance(spec, dict):
        key = kind if kind in spec else "name"
        if key not in spec:
            raise SpecError(f'{kind}: the table {shown(spec)} does not say which {kind}; add {kind} = "..."')
        return _named(spec[key], {name: value for name, value in spec.items() if name != key}, kind)
    if isinstance(spec, (tuple, list)):
        if len(spec) != 2 or not isinstance(spec[1], dict):
            raise SpecError(f"{kind}: expected a pair (name, {{option: value}}), got {shown(spec)}")
        return _named(spec[0], dict(spec[1]), kind)
    hint = f"; give an instance, {spec.__name__}(...)" if isinstance(spec, type) else ""
    raise SpecError(f"{kind}: expected text, a pair, a table or an instance, got {shown(spec)}{hint}")


def split(text: str) -> list[str]:
    """Split ``"conv(8, 3) relu, dense(10)"`` at white space and commas outside brackets and quotes.

    Raises SpecError for brackets or quotes that do not match, or that occur where a name should begin.
    """
    pieces, start = [], 0
    for position, character, depth in _scan(text, length=10 * MAX_LENGTH):
        if depth == 0 and (character.isspace() or character == ","):
            pieces.append(text[start:position])
            start = position + 1
    pieces = [piece for piece in (*pieces, text[start:]) if piece]
    for piece in pieces:
        if piece[0] in "([{":
            raise SpecError(f"{quoted(piece)} has no name before it; write name(options) without a space between")
    return pieces


def literal(value: Any) -> str:
    """Write a value so that a spec reads it back equal; an instance becomes the text of its spec.

    Raises SpecError for a value that has no such form (an array, a function, nan).
    """
    if isinstance(value, float) and not math.isnan(value):
        return repr(float(value))  # inf is written inf, which a spec may contain
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + (",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Spec):
        return repr(str(value))
    if callable(getattr(value, "spec", None)):
        return repr(value.spec())
    raise SpecError(f"{shown(value)} cannot be written in a spec, which holds numbers, text, tuples, lists and tables")


def shown(value: Any) -> str:
    """Format a value for an error: short, always printable, with its type."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"a whole number of {value.bit_length()} bits"
    try:
        text = quoted(value) if isinstance(value, str) else _SHORT.repr(value)
    except Exception:  # a foreign __repr__ failed; an error about a value must not fail on the value
        return f"a {type(value).__name__}"
    return text if value is None else f"{text} ({type(value).__name__})"


def quoted(text: str) -> str:
    """Quote user text: in double quotes, shortened, with unprintable characters escaped."""
    return f'"{_SHORT.repr(text)[1:-1]}"'


def nearest(word: str, choices: Iterable[str]) -> list[str]:
    """List up to three choices close to the word, best first; case and "_" are ignored."""
    from difflib import get_close_matches

    plain: dict[str, str] = {}
    for choice in choices:
        plain.setdefault(choice.lower().replace("_", ""), choice)
    word = word[:100].lower().replace("_", "")
    return [plain[word]] if word in plain else [plain[match] for match in get_close_matches(word, plain)]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean a, b or c?"``, or an empty string if no choice is close."""
    near = nearest(word, choices)
    return f"; did you mean {either(near)}?" if near else ""


def either(words: Iterable[str]) -> str:
    """Join words as ``"a, b or c"``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def _named(name, options, kind):
    if not isinstance(name, str) or not name.isidentifier():
        raise SpecError(f"{kind}: expected a bare name beside its options, got {shown(name)}")
    for option in options:
        if not isinstance(option, str):
            raise SpecError(f"{kind} {name}: an option's name is text, got {shown(option)}")
    return Spec(name, (), options)


def _scan(text, length=MAX_LENGTH):
    """Yield (position, character, bracket depth) outside quotes; SpecError where brackets or quotes do not match."""
    if len(text) > length:
        raise SpecError(f"{quoted(text)} is {len(text)} characters long; a spec has at most {length}")
    opened, quote, escaped = [], None, False
    for position, character in enumerate(text):
        if quote is not None:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == text[quote]:
                quote = None
        elif character in "'\"":
            quote = position
        elif character in _CLOSING:
            opened.append(position)
            if len(opened) > MAX_DEPTH:
                raise SpecError(f"{quoted(text)} has more than {MAX_DEPTH} brackets inside one another")
        elif character in ")]}":
            if not opened:
                raise SpecError(f"{quoted(text)} closes a bracket at character {position + 1} that was never opened")
            wanted = _CLOSING[text[opened.pop()]]
            if character != wanted:
                raise SpecError(f"{quoted(text)} has '{character}' at character {position + 1} instead of '{wanted}'")
        else:
            yield position, character, len(opened)
    if quote is not None:
        raise SpecError(f"{quoted(text)} opens a quote at character {quote + 1} that is never closed")
    if opened:
        raise SpecError(f"{quoted(text)} opens a bracket at character {opened[-1] + 1} that is never closed")


def _parse_call(text, kind):
    for _ in _scan(text):  # check length and balance first, so that Python's parser cannot fail on them
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as '\d' in a Windows path
            tree = ast.parse(text.strip(), mode="eval").body
        return _call(tree)
    except SpecError as error:
        raise SpecError(f"{kind} {quoted(text)}: {error}") from None
    except SyntaxError as error:
        where = f" at character {error.offset}" if error.offset else ""
        why = "a number with too many digits" if "digits" in error.msg else error.msg  # Python's goes on for lines
        raise SpecError(f"{kind} {quoted(text)} does not read as name(option, ...): {why}{where}") from None
    except (ValueError, RecursionError, MemoryError):  # NUL, lone surrogates, thousands of minus signs
        raise SpecError(f"{kind} {quoted(text)} does not read as name(option, ...)") from None


def _call(node):
    if isinstance(node, ast.Name):
        return Spec(node.id)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SpecError("expected a name or name(option, ...)")
    kwargs = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError("'**' has no meaning in a spec; write option=value")
        if keyword.arg in kwargs:
            raise SpecError(f"{keyword.arg} is given twice")
        kwargs[keyword.arg] = _value(keyword.value, f"{keyword.arg}=")
    return Spec(node.func.id, tuple(_value(argument) for argument in node.args), kwargs)


def _value(node, option=""):
    """Return the value of a literal's syntax tree; `option` is a prefix of error messages."""
    match node:
        case ast.Constant(value=bool() | str() | float() | None as value):
            return value
        case ast.Constant(value=int() as value):
            if value.bit_length() > MAX_BITS:
                raise SpecError(f"{option}{shown(value)} is too large; options have at most {MAX_BITS} bits")
            return value
        case ast.Name(id="inf"):
            return math.inf
        case ast.Name(id="true" | "false" as word):  # as in TOML
            return word == "true"
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _value(operand, option)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return -value if isinstance(sign, ast.USub) else value
        case ast.Tuple(elts=items):
            return tuple(_value(item, option) for item in items)
        case ast.List(elts=items):
            return [_value(item, option) for item in items]
        case ast.Dict(keys=keys, values=values):
            try:
                return {_value(key, option): _value(value, option) for key, value in zip(keys, values, strict=True)}
            except TypeError:
                raise SpecError(f"{option}a list or a table cannot be the key of a table") from None
        case ast.Name(id=word):
            raise SpecError(f"{option}{word}: text needs quotes, {option}'{word}'")
        case ast.Call(func=ast.Name(id=word)):
            raise SpecError(f'{option}{word}(...): a spec inside a spec needs quotes, {option}"{word}(...)"')
    raise SpecError(f"{option}expected a number, text, a tuple, a list, a table, True, False or None")
