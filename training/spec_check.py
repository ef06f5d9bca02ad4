"""Checks the specs of a config so that every mistake is found in one go, each with its path."""

import re
import typing
from inspect import signature

from ..errors import NnjitError, ShapeError
from ..network.graph import Graph
from ..registry import initializers
from ..registry.annotations import Misfit, describe, fit
from ..registry.specs import did_you_mean, parse, shown


class Problems(list):
    """Sentences ``path: what is wrong``; `add` keeps each once."""

    def add(self, path, what):
        line = f"{path}: {what}"
        if line not in self:
            self.append(line)


def check(catalogue, spec, path, problems):
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
        return problems.add(path, error)
    known = list(signature(cls).parameters)
    given = {**dict(zip(known, wanted.args, strict=False)), **wanted.kwargs}
    before = len(problems)
    for name, value in given.items():
        if name not in known:
            takes = f"; {wanted.name} takes {', '.join(known) or 'no options'}"
            problems.add(f"{path}.{name}", "unknown option" + (did_you_mean(name, known) or takes))
        elif not _check_type(cls, name, value, f"{path}.{name}", problems):
            continue
        elif hasattr(cls, "contents") and isinstance(value, (list, tuple)):  # a container of layers
            for i, inner in enumerate(value):
                check(catalogue, inner, f"{path}.{name}[{i}]", problems)
    if len(problems) > before:
        return None
    try:
        return cls(*wanted.args, **wanted.kwargs)
    except NnjitError as error:
        return problems.add(path, error)


def check_shapes(layers, input_shape, path, problems):
    """Compose the shapes of layer instances and make their initialisers; returns the `Graph`, or None."""
    try:
        graph = Graph(layers, input_shape)
    except NnjitError as error:
        return problems.add(_place(path, str(error)), error)
    except (MemoryError, OverflowError):
        return problems.add(path, "the network has more numbers than memory can hold")
    for node in graph.nodes:
        for name, (_, parameter) in node.parameters.items():
            if isinstance(parameter.start, float) or parameter.start is None or not parameter.size:
                continue
            try:
                initializers.create(parameter.start)
            except NnjitError as error:
                problems.add(_place(path, f"{node.name}: "), f"{node.name}.{name}: {error}")
    return graph


def check_output(loss, graph, path, problems):
    """Whether the loss can take what the last layer gives."""
    try:
        loss.validate_shape(graph.output.shape)
    except ShapeError as error:
        problems.add(path, error)


def _check_type(cls, name, value, path, problems):
    """Whether a value fits the annotation of its option."""
    try:
        annotation = typing.get_type_hints(cls)[name]
    except (NameError, TypeError, KeyError):  # said better when the instance is made
        return True
    try:
        fit(value, annotation)
    except (Misfit, RecursionError) as misfit:
        hint = misfit.hint if isinstance(misfit, Misfit) else ""
        problems.add(path, f"expected {describe(annotation)}, got {shown(value)}{hint}")
        return False
    return True


def _place(path, text):
    """``model.layers[2]`` for a sentence that begins with the layer's name, ``conv.3: ...``."""
    found = re.match(r"\w+\.(\d+)[.:]", text)
    return f"{path}[{int(found[1]) - 1}]" if found else path
