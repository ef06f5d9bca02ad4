"""Writer of TOML, which the standard library only reads: text, numbers, truth values, lists and tables."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import SpecError

WIDTH = 100  # characters of a list on one line; a longer list has a line for each item


def write(table: Mapping[str, Any]) -> str:
    """Return the text of a table: its tables become sections, tables inside these are inline. None is left out.

    Raises
    ------
    SpecError : a value has a type that TOML lacks, or a text is not Unicode.
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in table.items() if isinstance(value, dict)}
    blocks = [_lines(plain)] if plain else []
    blocks += [f"[{_key(key)}]\n{_lines(section)}" for key, section in sections.items()]
    return "\n".join(blocks)


def _lines(table):
    return "".join(f"{_key(key)} = {value(item)}\n" for key, item in table.items() if item is not None)


def value(item: Any) -> str:
    """Return the text of one value."""
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, (int, float)):
        return "nan" if item != item else repr(item)  # inf is written inf; a float keeps its point or exponent
    if isinstance(item, str):
        return _text(item)
    if isinstance(item, (list, tuple)):
        items = [value(each) for each in item]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= WIDTH else "[\n" + "".join(f"    {each},\n" for each in items) + "]"
    if isinstance(item, dict):
        return "{" + ", ".join(f"{_key(key)} = {value(each)}" for key, each in item.items()) + "}"
    raise SpecError(f"a config holds text, numbers, lists and tables, got a {type(item).__name__}")


def _text(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SpecError(f"{text!r} holds a lone surrogate, which is not Unicode text") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's escapes are JSON's


def _key(key):
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)
