"""Ranges in a config: options that `nnjit sweep` tries values of, written where their value would be.

::

    [model]
    layers = ["flatten", {layer = "dense", units = {low = 16, high = 64, step = 16}}, {choices = ["relu", "tanh"]}]
    [training]
    optimizer = {name = "adam", lr = {low = 1e-4, high = 1e-1, log = true}}

A table that an option takes as it is, such as weights of classes called "low" and "high", is no range.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any, NamedTuple

from .. import registry
from ..errors import NnjitError, SpecError
from ..registry import Spec
from ..registry.specs import MAX_BITS, did_you_mean, nearest, parse, shown, split
from ..storage import toml
from ..training.spec_check import Problems, inside

Place = tuple[str | int, ...]  # keys from the config to a value in it

KEYS = ("low", "high", "log", "step", "choices")
OTHERS = ("min", "max", "values")  # words of other programs for low, high and choices
FORM = "{low = 1e-4, high = 1e-1, log = true} or {choices = [16, 32]}"
CATALOGUES = {
    "layers": registry.layers,
    "name": registry.datasets,
    "dataset": registry.datasets,
    "loss": registry.losses,
    "optimizer": registry.optimizers,
    "schedule": registry.schedules,
    "metrics": registry.metrics,
}


class Range(NamedTuple):
    """The values of one option: numbers from `low` to `high`, or `choices`.

    Parameters
    ----------
    path : str
        Its place in the config, such as ``training.optimizer.lr``.
    name : str
        The last word of the path, such as ``lr``; the path without its section if another range has the same.
    place : tuple of str and int
    low, high : int or float
    log : bool
        Equally likely orders of magnitude instead of equally likely numbers; `low` is then above 0.
    step : int, float or None
        Distance of the numbers; None: 1 for whole numbers, none for others.
    whole : bool
    choices : list or None
        Any values that a config can hold, in place of numbers.
    """

    path: str
    name: str
    place: Place
    low: Any = None
    high: Any = None
    log: bool = False
    step: Any = None
    whole: bool = False
    choices: list[Any] | None = None

    def ends(self) -> list[tuple[str, Any]]:
        """Return the values that are checked, with their names: both bounds, or each choice."""
        if self.choices is not None:
            return [(f"the choice {label(choice)}", choice) for choice in self.choices]
        return [(f"low = {self.low}", self.low), (f"high = {self.high}", self.high)]

    def size(self) -> float:
        """Return how many values there are; inf for numbers that are not whole and have no step."""
        if self.choices is not None:
            return len(self.choices)
        if not self.whole and self.step is None:
            return math.inf
        return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1

    def marks(self) -> list[Any]:
        """Return the choices as the study holds them: as they are if all are numbers, texts or truth values."""
        choices = self.choices or []
        kinds = {type(choice) for choice in choices}
        simple = len(kinds) == 1 and kinds <= {bool, int, float, str}
        return choices if simple else [label(choice) for choice in choices]

    def values(self) -> list[Any]:
        """List all values, for a finite `size`."""
        if self.choices is not None:
            return self.choices
        return [self.low + k * (self.step or 1) for k in range(int(self.size()))]


def label(choice: Any) -> str:
    """Return the text of a choice."""
    return choice if isinstance(choice, str) else toml.value(choice)


def opened(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config in which specs that may hold a range are read from their text."""
    return {
        section: {key: _open(value, key) for key, value in keys.items()} if isinstance(keys, dict) else keys
        for section, keys in copy.deepcopy(dict(table)).items()
    }


def _open(value, key):
    """Read the specs in the text of an option that hold a table; other texts stay, also those that are no specs."""
    if isinstance(value, str):
        if "{" not in value:
            return value
        try:
            specs = [parse(each, key) for each in split(value)]
        except NnjitError:  # not a spec; the check of the config says so, if one was expected
            return value
        specs = [_open_spec(spec, key) for spec in specs]
        return specs if key in ("layers", "metrics") and len(specs) != 1 else specs[0]
    if isinstance(value, list):
        return [_open(each, key) for each in value]
    if isinstance(value, dict):
        return {name: _open(each, key) for name, each in value.items()}
    return value


def _open_spec(spec, key):
    """Give options by name, where the names are known, and read the specs inside."""
    try:
        names = list(signature(CATALOGUES[key].get(spec.name)).parameters)
    except (KeyError, NnjitError):
        names = []
    options = dict(zip(names, spec.args, strict=False)) if len(spec.args) <= len(names) else {}
    rest = () if options else spec.args
    return Spec(spec.name, tuple(_open(each, key) for each in rest), _open({**options, **spec.kwargs}, key))


def filled(tree: Any, values: Mapping[Place, Any], place: Place = ()) -> Any:
    """Return an opened config with values at their places; specs that were read from text become text again."""
    if place in values:
        return values[place]
    if isinstance(tree, Spec):
        args = tuple(filled(each, values, (*place, i)) for i, each in enumerate(tree.args))
        return str(Spec(tree.name, args, {k: filled(each, values, (*place, k)) for k, each in tree.kwargs.items()}))
    if isinstance(tree, dict):
        return {key: filled(each, values, (*place, key)) for key, each in tree.items()}
    if isinstance(tree, list):
        return [filled(each, values, (*place, i)) for i, each in enumerate(tree)]
    return tree


def find(tree: Mapping[str, Any], resolve: Callable[[dict[str, Any]], Any], source_name: str = "") -> list[Range]:
    """Return the ranges in an opened config, each with bounds that its option takes.

    Parameters
    ----------
    tree : dict
        As `opened` returns it.
    resolve : function of a config
        Raises SpecError for a wrong one, as `config.resolve`.
    source_name : str
        The name of the config in errors.

    Raises
    ------
    SpecError
        A range is wrong, an option refuses a bound, or the config has another mistake.
    """
    found = {place: table for place, table in _candidates(tree) if len(place) > 1}
    samples = {place: _sample(table) for place, table in found.items()}

    def takes(place, value):
        try:
            resolve(filled(tree, {**samples, place: value}))
        except NnjitError:
            return False
        return True

    found = {place: table for place, table in found.items() if not takes(place, filled(table, {}))}
    samples = {place: samples[place] for place in found}
    paths = {place: _path(place) for place in found}
    words = [_word(place) for place in found]
    problems = Problems()
    ranges = []
    for place, table in found.items():
        word, path = _word(place), paths[place]
        name = word if word and words.count(word) == 1 else _path(place[1:])
        read = _read(table, path, name, place, problems)
        if read is None:
            continue
        if read.choices is None and type(read.low) is type(read.high) is int and type(read.step or 1) is int:
            # The option decides: 0 to 1 of a whole number are two values, of any number all between them.
            read = read._replace(whole=not takes(place, read.low + 0.5))
        if read.choices is None and not read.whole:
            step = None if read.step is None else float(read.step)
            read = read._replace(low=float(read.low), high=float(read.high), step=step)
        ranges.append(read)
    problems.report(source_name)
    resolve(filled(tree, samples))  # a mistake elsewhere has its usual message
    for each in ranges:
        for what, value in each.ends():
            try:
                resolve(filled(tree, {**samples, each.place: value}))
            except SpecError as error:
                problems.add(each.path, f"{what}: {_without(str(error), source_name, each.path)}")
    problems.report(source_name)
    return ranges


def paths_of(table: Mapping[str, Any]) -> list[str]:
    """Return the paths of what looks like ranges in a config, which need not be correct."""
    try:
        return [_path(place) for place, _ in _candidates(opened(table)) if len(place) > 1]
    except RecursionError:
        return []


def _candidates(tree: Any, place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the places of tables that look like a range, misspelled ones too."""
    if isinstance(tree, dict) and tree:
        words = [isinstance(key, str) and (key in KEYS or key in OTHERS or bool(nearest(key, KEYS))) for key in tree]
        if any(key in ("low", "high", "choices") for key in tree) or all(words):
            yield place, tree
            return
    items: Any = ()
    if isinstance(tree, Spec):
        items = (*enumerate(tree.args), *tree.kwargs.items())
    elif isinstance(tree, (dict, list)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, each in items:
        yield from _candidates(each, (*place, key))


def _sample(table):
    """Return one value of what looks like a range."""
    choices = table.get("choices")
    if isinstance(choices, list) and choices:
        return choices[0]
    return table.get("low", table.get("high", next(iter(table.values()))))


def _read(table, path, name, place, problems):
    """Return a range, or note its mistakes and return None."""
    before = len(problems)
    for key in table:
        if key not in KEYS:
            known = dict(zip(OTHERS, ("low", "high", "choices"), strict=True))
            hint = f"; did you mean {known[key]}?" if key in known else did_you_mean(str(key), KEYS)
            problems.add(inside(path, str(key)), f"unknown key of a range{hint or f'; a range is {FORM}'}")
    if len(problems) > before:
        return None
    if "choices" in table:
        return _read_choices(table, path, name, place, problems)
    if missing := [key for key in ("low", "high") if key not in table]:
        problems.add(path, f"a range has low and high, {' and '.join(missing)} missing")
        return None
    for key in ("low", "high", "step"):
        if key in table and not _is_number(table[key]):
            problems.add(inside(path, key), f"expected a finite number, got {shown(table[key])}")
    if not isinstance(table.get("log", False), bool):
        problems.add(inside(path, "log"), f"expected true or false, got {shown(table['log'])}")
    if len(problems) > before:
        return None
    low, high, log, step = table["low"], table["high"], table.get("log", False), table.get("step")
    if low >= high:
        problems.add(path, f"low must be below high, got low = {low} and high = {high}")
    elif log and low <= 0:
        problems.add(path, f"with log = true low must be above 0, got low = {low}")
    elif log and step is not None:
        problems.add(path, "log and step exclude each other; leave one of them out")
    elif step is not None and step <= 0:
        problems.add(inside(path, "step"), f"expected a number above 0, got {step}")
    elif step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-6:
        last = low + math.floor((high - low) / step) * step
        problems.add(path, f"high must be low plus a multiple of step, such as {last}, got high = {high}")
    return None if len(problems) > before else Range(path, name, place, low, high, log, step)


def _read_choices(table, path, name, place, problems):
    choices, others = table["choices"], [key for key in table if key != "choices"]
    if others:
        problems.add(path, f"choices exclude {' and '.join(others)}")
    elif not isinstance(choices, list) or len(choices) < 2:
        problems.add(inside(path, "choices"), f"expected a list of two values or more, got {shown(choices)}")
    else:
        choices = [filled(choice, {}) for choice in choices]
        labels = [label(choice) for choice in choices]
        if twice := next((each for k, each in enumerate(labels) if each in labels[:k]), None):
            problems.add(inside(path, "choices"), f"{twice} is there twice")
        else:
            return Range(path, name, place, choices=choices)
    return None


def _is_number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) if isinstance(value, float) else value.bit_length() <= MAX_BITS


def _word(place):
    """Return the name of the option at a place; "" for an item of a list."""
    if place[0] == "data" and place[-1] in ("name", "dataset"):
        return "data"
    return place[-1] if isinstance(place[-1], str) else ""


def _path(place):
    """Return ``model.layers[1].units``."""
    path = ""
    for key in place:
        path = f"{path}[{key}]" if isinstance(key, int) else inside(path, key)
    return path


def _without(sentence, *starts):
    """Remove the name of the config and the path from the start of a message, which has them already."""
    for start in starts:
        sentence = sentence.removeprefix(f"{start}: ") if start else sentence
    return sentence
