"""Checks of the specs in a config that find all mistakes at once, each with its path."""

import re
import typing
from collections.abc import Sequence
from inspect import signature
from typing import Any

from ..errors import NnjitError, SpecError
from ..layers.base import Layer
from ..program.graph import Graph
from ..registry import Catalogue, initializers
from ..registry.annotations import AnnotationError, coerce, describe
from ..registry.specs import did_you_mean, parse, quoted, shown


class Problems(list[str]):
    """Sentences ``path: mistake``, each once."""

    def add(self, path: str, what: object) -> None:
        line = f"{path}: {what}"
        if line not in self:
            self.append(line)

    def report(self, source_name: str) -> None:
        """Raise SpecError if there are any; `source_name` is the file's name, or ""."""
        if len(self) == 1:
            raise SpecError(f"{source_name}: {self[0]}" if source_name else self[0])
        if self:
            lines = "".join(f"\n  {one}" for one in self)
            raise SpecError(f"{source_name or 'the config'} has {len(self)} mistakes:{lines}")


def inside(path: str, key: str) -> str:
    """Return the path of a key: ``training.epochs``; a key that is not an identifier is quoted."""
    word = key if key.isascii() and key.isidentifier() else quoted(key)
    return f"{path}.{word}" if path else word


def check(catalogue: Catalogue, spec: Any, path: str, problems: Problems) -> Any:
    """Make the instance that a spec describes; if there are mistakes, note all of them and return None.

    Parameters
    ----------
    catalogue : Catalogue
    spec : any form that `registry.specs.parse` reads
    path : str
        Its place in the config, such as ``model.layers[2]``.
    problems : Problems
    """
    try:
        wanted = parse(spec, catalogue.kind)
        cls = catalogue.get(wanted.name)
    except NnjitError as error:
        problems.add(path, error)
        return None
    known = list(signature(cls).parameters)
    before = len(problems)
    for name, value in {**dict(zip(known, wanted.args, strict=False)), **wanted.kwargs}.items():
        if name not in known:
            takes = f"; {wanted.name} takes {', '.join(known) or 'no options'}"
            problems.add(inside(path, name), "unknown option" + (did_you_mean(name, known) or takes))
        elif _fits(cls, name, value, f"{path}.{name}", problems) and name == _inner(cls):
            for i, inner in enumerate(value if isinstance(value, (list, tuple)) else []):  # a container of layers
                check(catalogue, inner, f"{path}.{name}[{i}]", problems)
    if len(problems) > before:
        return None
    try:
        return cls(*wanted.args, **wanted.kwargs)
    except NnjitError as error:
        problems.add(path, error)
        return None


def _inner(cls):
    """Return the option of a container that holds layers."""
    return cls.inner if issubclass(cls, Layer) else None


def check_shapes(layers: Sequence[Layer], input_shape: Sequence[int], loss: Any, problems: Problems) -> Graph | None:
    """Check that the shapes of layers compose, end in one that the loss takes (None: any), and can be initialized.

    Returns the `Graph`; None if the shapes do not compose.
    """
    try:
        graph = Graph(layers, input_shape)
    except NnjitError as error:
        problems.add(_place(str(error)), error)
        return None
    except OverflowError:
        problems.add("model.layers", "the sizes are beyond what a computer can count")
        return None
    for node in graph.nodes:
        for name, (_, parameter) in node.parameters.items():
            if parameter.size and parameter.start is not None and not isinstance(parameter.start, float):
                try:
                    initializers.create(parameter.start)
                except NnjitError as error:
                    problems.add(_place(f"{node.name}:"), f"{node.name}.{name}: {error}")
    if loss is not None:
        try:
            loss.validate_shape(graph.output.shape)
        except NnjitError as error:
            problems.add("training.loss", error)
    return graph


def _fits(cls, name, value, path, problems):
    """Tell whether a value fits the annotation of its option."""
    try:
        annotation = typing.get_type_hints(cls)[name]
    except (NameError, TypeError, KeyError):  # unreadable annotation: making the instance says why
        return True
    try:
        coerce(value, annotation)
        return True
    except (AnnotationError, RecursionError) as error:
        hint = error.hint if isinstance(error, AnnotationError) else ""
        problems.add(path, f"expected {describe(annotation)}, got {shown(value)}{hint}")
        return False


def _place(sentence):
    """Return ``model.layers[2]`` for a sentence that begins with the layer's name, ``conv.3: ...``."""
    found = re.match(r"\w+\.(\d+)[.:]", sentence)
    return f"model.layers[{int(found[1]) - 1}]" if found else "model.layers"
