"""Reading a config from a file and the command line into one table, which `config.resolve` then checks."""

import copy
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..data.files import READERS
from ..errors import UsageError
from ..registry import load_plugin
from ..registry.specs import did_you_mean, quoted, shown, split
from .config import Config


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    """Read the table in a TOML file ("-" is standard input); return it and the file's name for errors.

    Raises
    ------
    UsageError
        There is no such file, or it is not TOML (the message has the line).
    """
    name = "standard input" if str(path) == "-" else str(path) if str(path).isprintable() else quoted(str(path))
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
        return tomllib.loads(raw.decode()), name
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{name} is not a config: it is not valid UTF-8 (line {line})") from None
    except FileNotFoundError:
        near = did_you_mean(Path(path).name, [found.name for found in Path(path).parent.glob("*.toml")])
        raise UsageError(f"there is no config {name}{near}") from None
    except (OSError, ValueError) as error:  # ValueError: TOMLDecodeError, a path with NUL, a number of 5,000 digits
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        if (Path(path) / "config.toml").exists():
            raise UsageError(f"{name} is a run; its config is {Path(path) / 'config.toml'}") from None
        if Path(path).suffix.lower() in READERS or Path(path).is_dir():
            raise UsageError(f'{name} is no config; to train on it: nnjit run --data "{name}"') from None
        raise UsageError(f"{name} cannot be read as TOML: {why}") from None
    except RecursionError:
        raise UsageError(f"{name} cannot be read as TOML: brackets lie too deep inside one another") from None


def override(table: dict[str, Any], assignment: str) -> None:
    """Apply ``section.key=value`` or ``model.layers[1]=value``; the value is TOML, and bare words are text.

    Raises
    ------
    UsageError
    """
    path, equals, text = assignment.partition("=")
    keys = re.findall(r"[^.\[\]]+|\[\d+\]", path.strip())
    written = "".join(key if key[0] == "[" else f".{key}" for key in keys)[1:]
    if not equals or not keys or keys[0][0] == "[" or written != path.strip():
        raise UsageError(f"--set {quoted(assignment)}: expected section.key=value, such as training.epochs=5")
    layers = table.get("model", {}).get("layers") if isinstance(table.get("model"), dict) else None
    if isinstance(layers, str) and keys[:2] == ["model", "layers"] and len(keys) > 2:
        table["model"]["layers"] = split(layers)  # a text cannot be indexed
    assign(table, [int(key[1:-1]) if key[0] == "[" else key for key in keys], _value(text.strip()))


def assign(table: Any, keys: Sequence[str | int], value: Any) -> None:
    """Put a value at the place of the keys; fill in the defaults of what is missing on the way.

    A missing section starts empty, so that what was not given can follow from the data.

    Raises
    ------
    UsageError
        A key is not one of a table or list, or beyond a list's end.
    """
    default: Any = Config().model_dump()
    for i, key in enumerate(keys):
        so_far = _path(keys[:i]) or "the config"
        if isinstance(key, int):
            if not isinstance(table, list):
                raise UsageError(f"{_path(keys)} cannot be set: {so_far} is not a list but {shown(table)}")
            if key >= len(table):
                raise UsageError(f"{_path(keys)} cannot be set: {so_far} has {len(table)} items, counted from 0")
        elif not isinstance(table, dict):
            raise UsageError(f"{_path(keys)} cannot be set: {so_far} is not a table but {shown(table)}")
        if i == len(keys) - 1:
            table[key] = value
            return
        default = default.get(key) if isinstance(default, dict) and isinstance(key, str) else None
        if isinstance(key, str) and key not in table:
            empty = default is None or (i == 0 and key != "data")
            table[key] = {} if empty else copy.deepcopy(default)
        table = table[key]


def add_plugins(table: dict[str, Any], plugins: Iterable[str]) -> None:
    """Add plug-ins to the table, so that a run from the written config finds them."""
    run = table.setdefault("run", {}) if plugins else None
    if isinstance(run, dict) and isinstance(run.setdefault("plugins", []), list):
        run["plugins"] += [plugin for plugin in plugins if plugin not in run["plugins"]]


def load_plugins(table: dict[str, Any]) -> None:
    """Import the plug-ins that a table names; `resolve` refuses an entry that is not a list of texts."""
    for plugin in _named(table):
        load_plugin(plugin)


def absolute(path: str) -> str:
    """Return the absolute path of an existing file or directory (``~``: the home directory); other texts unchanged."""
    found = os.path.expanduser(path) if path.startswith("~/") else path
    return os.path.abspath(found) if os.path.exists(found) else path


def need_plugins(table: dict[str, Any], given: Sequence[str], source_name: str) -> None:
    """Import the plug-ins that the user gave; raise UsageError for one in the table that the user did not give."""
    for plugin in given:
        load_plugin(plugin)
    places = set(map(absolute, given))
    missing = [plugin for plugin in _named(table) if absolute(plugin) not in places]
    if missing:
        wanted = " ".join(f"--plugin {plugin}" for plugin in missing)
        raise UsageError(
            f"{source_name} names plug-ins, which are not imported unasked; if you trust them add {wanted}"
        )


def _named(table):
    run = table.get("run")
    plugins = run.get("plugins") if isinstance(run, dict) else None
    return [plugin for plugin in plugins if isinstance(plugin, str)] if isinstance(plugins, list) else []


def _value(text):
    """Parse as TOML; return other values as text."""
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if len(read) == 1 else text


def _path(keys):
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)[1:]
