"""Callbacks of a training: functions of an epoch's record, and objects with methods like a reporter's."""

import inspect
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import SpecError
from ..registry.specs import did_you_mean, either, shown

EVENTS = ("begin", "progress", "epoch", "end")


def listeners(callbacks: Iterable[Any]) -> list[Any]:
    """Return callbacks as objects with methods; a function is the `epoch` of one.

    Raises
    ------
    SpecError
        One of them is neither a function nor an object with a method of `EVENTS`.
    """
    if isinstance(callbacks, (str, bytes)) or not isinstance(callbacks, Iterable):
        raise SpecError(f"callbacks: expected a list of functions or objects, got {shown(callbacks)}")
    return [_listener(f"callbacks[{i}]", each) for i, each in enumerate(callbacks)]


def _listener(place, callback):
    if inspect.isclass(callback):
        raise SpecError(f"{place}: expected an instance, {callback.__name__}(), got the class")
    if any(callable(getattr(callback, event, None)) for event in EVENTS):
        return callback
    if callable(callback):
        return SimpleNamespace(epoch=callback, __name__=name_of(callback))
    near = next((hint for name in vars(type(callback)) if (hint := did_you_mean(name, EVENTS))), "")
    raise SpecError(
        f"{place}: expected a function of an epoch's record, or an object with a method {either(EVENTS)}, got "
        f"{shown(callback)}{near}"
    )


def stops(answer: Any) -> bool:
    """Return whether the answer of a callback ends the training: True, also NumPy's; nothing else does."""
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


def name_of(callback: Any) -> str:
    """Return the name of a callback for a sentence: that of its function, or of its class."""
    return getattr(callback, "__name__", type(callback).__name__)


def why_stopped(callback: Any) -> str:
    """Say why a callback ended the training: its attribute ``why`` if that is a text, else that it returned True."""
    why = getattr(callback, "why", None)
    return why if isinstance(why, str) and why else f"the callback {name_of(callback)} returned True"
