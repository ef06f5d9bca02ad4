"""Checks the specs of a config so that every mistake is found in one go, each with its path."""

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
    """Sentences ``path: what is wrong``, each once."""

    def add(self, path: str, what: object) -> None:
        line = f"{path}: {what}"
        if line not in self:
            self.append(line)

    def report(self, where: str) -> None:
        """Raise SpecError if there are any; `where` is the file's name, or ""."""
        if len(self) == 1:
            raise SpecError(f"{where}: {self[0]}" if where else self[0])
        if self:
            raise SpecError(
                f"{where or 'the config'} has {len(self)} mistakes:" + "".join(f"\n  {one}" for one in self)
            )


def inside(path: str, key: str) -> str:
    """The path of a key: ``training.epochs``; a key that is no plain word in quotes."""
    word = key if key.isascii() and key.isidentifier() else quoted(key)
    return f"{path}.{word}" if path else word


def check(catalogue: Catalogue, spec: Any, path: str, problems: Problems) -> Any:
    """The instance a spec describes, or None after writing down all that is wrong with it.

    Parameters
    ----------
    catalogue : Catalogue
    spec : any form `registry.specs.parse` reads
    path : str
        Where it stands in the config, such as ``model.layers[2]``.
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
    """The option of a container that holds layers."""
    return cls.inner if issubclass(cls, Layer) else None


def check_fit(layers: Sequence[Layer], input_shape: Sequence[int], loss: Any, problems: Problems) -> Graph | None:
    """Whether the shapes of layer instances compose, end in what the loss takes (None: any), and can be initialised.

    Returns the `Graph`, or None.
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
    """Whether a value fits the annotation of its option."""
    try:
        annotation = typing.get_type_hints(cls)[name]
    except (NameError, TypeError, KeyError):  # an annotation that cannot be read; making the instance says why
        return True
    try:
        coerce(value, annotation)
        return True
    except (AnnotationError, RecursionError) as error:
        hint = error.hint if isinstance(error, AnnotationError) else ""
        problems.add(path, f"expected {describe(annotation)}, got {shown(value)}{hint}")
        return False


def _place(sentence):
    """``model.layers[2]`` for a sentence that begins with the layer's name, ``conv.3: ...``."""
    found = re.match(r"\w+\.(\d+)[.:]", sentence)
    return f"model.layers[{int(found[1]) - 1}]" if found else "model.layers"
