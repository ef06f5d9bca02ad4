"""Cases of a layer: small networks of this one layer, with odd and tiny shapes.

Shapes are without the batch; every case runs with a batch of one and of five. A layer carries its own list as
`Layer.check_cases`; without one it is tried on a few common shapes.
"""

import inspect
import typing

from ..errors import NnjitError, ShapeError, SpecError
from ..registry import layers as catalogue
from ..registry.specs import parse
from .places import placed

BATCHES = (1, 5)  # samples; five is one more than kernels process at once

COMMON = [(3,), (2, 5), (2, 5, 4), (2, 3, 4, 3)]
HINT = 'give the class check_cases = [("spec", input_shape), ...]'
SMALL = {int: 3, float: 0.5, bool: True}


def cases(name):
    """Return the cases of a layer: a list of (spec, input_shape).

    A list that the class inherits counts as far as the class takes its cases.

    Raises
    ------
    NnjitError
        The layer cannot be imported, takes none of the common shapes, or has an option whose value cannot be guessed.
    """
    cls = catalogue.get(name)
    found = _listed(name, cls)
    if found and "check_cases" not in vars(cls):
        found = [case for case in found if _takes(cls, *case)]
    if found:
        return found
    spec = (name, small_options(name, cls))
    reasons: list[str] = []
    found = [(spec, shape) for shape in COMMON if _accepts(spec, shape, reasons)]
    if not found:
        text = f"{name}: takes none of the input shapes {', '.join(map(str, COMMON))}"
        raise ShapeError(f"{text}: for the last it says {reasons[-1]}; {HINT}")
    return found


def cases_of(text, shapes=None):
    """Return the cases of a spec, on some shapes or on those of the class's own cases that it takes.

    Raises
    ------
    SpecError, ShapeError
        The spec is wrong, or the layer does not take the shapes.
    """
    name = parse(text).name
    spec = text if text != name else (name, small_options(name, catalogue.get(name)))
    layer = catalogue.create(spec)
    if shapes is not None:
        for shape in shapes:
            layer.output_shape(shape)
        return [(spec, shape) for shape in shapes]
    reasons: list[str] = []
    own = [shape for _, shape in _listed(name, type(layer))]
    found = [(spec, shape) for shape in dict.fromkeys([*own, *COMMON]) if _accepts(spec, shape, reasons)]
    if not found:
        raise ShapeError(f"{text}: takes none of the input shapes tried; it says {reasons[-1]}; give one by --shape")
    return found


def file_of(name):
    """Return the file of a layer's class, or None."""
    return catalogue.find(name).file


def _listed(name, cls):
    """Return `check_cases` with full specs: options in parentheses, or nothing, get the layer's name before them."""
    try:
        return [
            (name + spec if isinstance(spec, str) and spec[:1] in ("", "(") else spec, tuple(shape))
            for spec, shape in cls.check_cases or ()
        ]
    except (TypeError, ValueError):
        raise SpecError(f"{name}: check_cases is a list of (spec, input_shape), got {cls.check_cases!r}") from None


def small_options(name, cls, hint=HINT):
    """Choose a value for every option that has no default; SpecError with a hint if none is known."""
    options = {}
    for option, parameter in inspect.signature(cls).parameters.items():
        if parameter.default is parameter.empty:
            kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
            known = [SMALL[kind] for kind in kinds if kind in SMALL]
            if not known:
                raise SpecError(f"{name}: no small value of its option {option} is known; {hint}")
            options[option] = known[0]
    return options


def _takes(cls, spec, shape):
    """Return whether a case from the list of a base class is one of this class too."""
    try:
        layer = catalogue.create(spec)
        layer.output_shape(shape)
    except Exception:  # a class that takes none of them is tried on the common shapes, which name the fault
        return False
    return type(layer) is cls


def _accepts(spec, shape, reasons):
    """Return whether the layer takes an input shape; it refuses by ShapeError, whose text is added to the reasons."""
    name = parse(spec).name
    try:
        layer = catalogue.create(spec)
    except NnjitError as error:
        raise SpecError(f"{error}; {HINT}") from None
    try:
        layer.output_shape(shape)
    except ShapeError as error:
        reasons.append(f"{error}{placed(error, file_of(name))}")
        return False
    except Exception as error:
        where = placed(error, file_of(name))
        text = f"output_shape fails on {shape} with {type(error).__name__}: {error}{where}"
        raise ShapeError(f"{name}: {text}; raise ShapeError for what it does not take, or {HINT}") from None
    return True
