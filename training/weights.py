"""Weights of samples and of classes: factors of the losses C_i, with mean 1 over the training samples.

Their mean is 1, so that weights do not change the learning rate: only their ratios count. The training loss is
1/N sum w_i C_i then, and so is the validation loss. Metrics have no weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from ..data.split import Split
from ..errors import SpecError
from ..registry import losses
from ..registry.specs import did_you_mean, shown
from .losses import Loss

ClassWeights: TypeAlias = Literal["balanced"] | dict[str, float]
FORM = '"balanced", or a number from 0 on for each class, such as "yes=5,no=1"'
SHOWN = 8  # maximum number of classes in a line


def create(value: Any) -> ClassWeights | None:
    """Return the weights of classes: "balanced", or weights by names or numbers of classes; None stays None.

    Parameters
    ----------
    value : text, a mapping of classes to weights, a sequence of the weights of classes 0, 1, ..., or None
        A text is "balanced" or names weights, "yes=5,no=1". Classes that are left out have the weight 1.

    Raises
    ------
    SpecError
    """
    if value is None:
        return None
    if isinstance(value, str) and value == "balanced":
        return "balanced"
    given = value
    if isinstance(value, str):
        value = {name.strip(): _number(text) for name, _, text in (item.rpartition("=") for item in value.split(","))}
    elif isinstance(value, (list, tuple, np.ndarray)):
        value = dict(enumerate(value))
    if isinstance(value, Mapping) and value and all(map(_is_weight, value.values())) and "" not in value:
        return {str(key): float(each) for key, each in value.items()}
    raise SpecError(f"class_weights: expected {FORM}, got {shown(given)}")


def weighted(
    train: Split,
    validation: Split | None,
    classes: ClassWeights | None,
    loss: Loss,
    outputs: int,
    names: Sequence[str] | None,
) -> tuple[Split, Split | None, str]:
    """Return the splits with the factors of their losses as weights, and a line about them; "" if there are none.

    Samples of `validation` without weights of their own count like the average training sample.

    Parameters
    ----------
    train, validation : Split, Split or None
        With targets as the loss takes them.
    classes : as `create` returns it
    loss : Loss
    outputs : int
        Of the network, for one sample.
    names : sequence of str or None
        Of the classes.

    Raises
    ------
    SpecError
        The targets are not classes, a class is unknown, or no training sample has a weight above 0.
    """
    if classes is None and train.weights is None:
        if validation is not None and validation.weights is not None:
            raise SpecError("validation has weights, but the training samples have none; give both or neither")
        return train, validation, ""
    own = np.ones(len(train)) if train.weights is None else train.weights
    factors, said = own, "the loss is weighted by sample"
    if classes is not None:
        targets = _targets(train, loss)
        by_class = _by_class(classes, targets, max(outputs, 2), names)
        factors = own * _at(by_class, targets)
    total = float(factors.mean())
    if not 0 < total < math.inf:
        raise SpecError(f"{train.name}: the weights of the training samples are all 0" if total == 0 else
                        f"{train.name}: the weights of the training samples are too large to be added")  # fmt: skip
    if classes is not None:
        told = by_class[:SHOWN] * own.mean() / total
        listed = [f"{_name(names, k)} {weight:.3g}" for k, weight in enumerate(told)]
        also = " and by sample" if train.weights is not None else ""
        said = f"the loss is weighted by class{also}: {', '.join(listed)}{', ...' * (len(by_class) > SHOWN)}"
    if validation is not None:
        held = np.full(len(validation), own.mean()) if validation.weights is None else validation.weights
        if classes is not None:
            held = held * _at(by_class, _targets(validation, loss))
        validation = validation.changed(weights=held / total)
    return train.changed(weights=factors / total), validation, said


def _targets(split, loss):
    """Return targets as class numbers (N,), or as how much of each class they are, (N, classes)."""
    y = split.y
    if loss.classification and (y.ndim == 1 or (y.ndim == 2 and not loss.independent)):
        return y
    if loss.independent and y.shape[1:] == (1,):
        y = np.asarray(y, np.float64)
        return np.concatenate([1 - y, y], axis=1)
    what = "several labels a sample" if loss.classification else "values"
    name = losses.name_of(type(loss))
    raise SpecError(f"class_weights: {name} takes {what}, and {split.name} has no classes to weigh; weigh its samples")


def _at(by_class, targets):
    """Return the weight of each target, (N,)."""
    return by_class[targets] if targets.ndim == 1 else targets @ by_class


def _by_class(classes, targets, count, names):
    """Return the weight of each of `count` classes."""
    if classes == "balanced":
        counts = np.bincount(targets, minlength=count) if targets.ndim == 1 else targets.sum(axis=0, dtype=np.float64)
        present = counts > 0
        return np.where(present, len(targets) / (present.sum() * np.where(present, counts, 1)), 1.0)
    known = [_name(names, k) for k in range(count)]
    found = np.ones(len(known))
    for name, weight in classes.items():
        if name not in known:
            listed = did_you_mean(name, known) or f"; the classes are {', '.join(known[:SHOWN])}"
            raise SpecError(f"class_weights: there is no class {shown(name)}{listed}")
        found[known.index(name)] = weight
    return found


def _name(names, k):
    return names[k] if names is not None and k < len(names) else str(k)


def _is_weight(value):
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 <= value < math.inf


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None  # no weight
