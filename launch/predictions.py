"""Predictions as columns with names: classes with their probabilities, or values.

Probabilities are known if the run says the loss: softmax of the outputs under cross_entropy, the sigmoid under
binary_cross_entropy. Without that the outputs of a network that ends in softmax are probabilities; all others are
written as they are, called y.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.split import Dataset
from ..errors import UsageError
from ..network.network import Network
from ..registry import layers, losses
from ..training.config import Resolved
from ..training.metrics.predictions import classes


class Predictions:
    """The columns of a network's predictions.

    Parameters
    ----------
    network : Network
    resolved : Resolved or None
        The config of its run.
    dataset : Dataset or None
        The data that it predicts.
    top : int or None
        The number of most probable classes to write, in place of the probability of every class.

    Attributes
    ----------
    head : list of str
        The names of the columns: ``class``, ``confidence`` and ``p(NAME)`` of each class; with `top` ``class``,
        ``confidence``, ``class 2``, ``confidence 2``, ...; without probabilities ``y0``, ``y1``, ... in place of these;
        of values the names of the targets, or ``y0``, ...

    Raises
    ------
    UsageError
        There are no probabilities for `top`, or fewer classes.
    """

    def __init__(
        self, network: Network, resolved: Resolved | None, dataset: Dataset | None = None, top: int | None = None
    ) -> None:
        self._shape, self._size = network.output_shape, int(np.prod(network.output_shape))
        self._loss = None if resolved is None else resolved.settings.loss
        known = network.trained_on
        self._names: Sequence[Any] | None = None if known is None else known.classes
        self._rule = self._probabilities_of(network)
        self._several = bool(self._loss is not None and self._loss.independent and self._shape != (1,))
        self._classes = not self._several and self._has_classes(dataset)
        count = 2 if self._shape == (1,) else self._shape[0]
        if self._names is None or len(self._names) != count:
            self._names = range(count)
        self._none = "" if isinstance(self._names[0], str) else -1  # in place of a class, where outputs are NaN
        self._top = self._checked(top, count)
        targets = known.targets if known is not None and known.targets is not None else ()
        values = list(targets) if len(targets) == self._size else None
        self.head: list[str] = ["class"] * self._classes
        if self._rule is None:
            self.head += values or [f"y{i}" for i in range(self._size)]
        elif self._several:
            self.head += [f"p({name})" for name in values or self._names]
        elif self._top:
            self.head.append("confidence")
            self.head += [f"{word} {k}" for k in range(2, self._top + 1) for word in ("class", "confidence")]
        else:
            self.head += ["confidence", *(f"p({name})" for name in self._names)]

    def _probabilities_of(self, network):
        """Return how outputs become probabilities: "softmax", "sigmoid", "as they are", or None."""
        kind = None if self._loss is None else losses.name_of(type(self._loss))
        if kind == "cross_entropy" or (kind == "binary_cross_entropy" and len(self._shape) == 1):
            return "softmax" if kind == "cross_entropy" else "sigmoid"
        last = network.layers[-1] if network.layers else None
        ends = last is not None and layers.name_of(type(last)) == "softmax" and len(self._shape) == 1
        return "as they are" if ends and self._shape != (1,) else None

    def _has_classes(self, dataset):
        """Tell whether the outputs are scores of classes: the loss, the data, or probabilities say so."""
        by_loss = self._loss is not None and self._loss.classification
        by_data = self._names is not None or (dataset is not None and bool(dataset.classes))
        return by_loss or by_data or self._rule is not None

    def _checked(self, top, count):
        if top is None:
            return 0
        if not self._classes or self._rule is None:
            raise UsageError(
                "--top: the probabilities of classes are not known: give a run directory that was trained with "
                "cross_entropy or binary_cross_entropy"
            )
        if not 1 <= top <= count:
            raise UsageError(f"--top: expected a number from 1 to that of the classes, {count}, got {top}")
        return top

    def columns(self, y: NDArray[Any]) -> list[Sequence[Any]]:
        """Return the columns, in the order of `head`, for outputs y (N, *output_shape)."""
        flat = y.reshape(len(y), -1)
        assert self._names is not None
        names: NDArray[Any] = np.array([*self._names, self._none], dtype=object)
        p, lost = self.probabilities(y), np.isnan(flat).any(axis=1)
        found: list[Any] = []
        if self._top and p is not None:
            scores = np.concatenate([-flat, flat], axis=1) if self._shape == (1,) else flat  # equal p may differ here
            for column in np.argsort(-scores, axis=1, kind="stable")[:, : self._top].T:
                confidence = np.take_along_axis(p, column[:, None], axis=1)[:, 0]
                found += [names[np.where(lost, -1, column)], np.where(lost, np.nan, confidence)]
            return found
        if self._classes:
            chosen = classes(y)
            found.append(names[np.where(lost.reshape(-1, *[1] * (chosen.ndim - 1)), -1, chosen)])
            if p is not None:
                found.append(np.take_along_axis(p, chosen[:, None], axis=1)[:, 0])
        return [*found, *(flat if p is None else p).T]

    def probabilities(self, y: NDArray[Any]) -> NDArray[np.float64] | None:
        """Return the probabilities (N, classes) of outputs, in float64; None if they are not known."""
        if self._rule is None:
            return None
        z = y.reshape(len(y), -1).astype(np.float64)
        if self._rule == "softmax":
            e = np.exp(z - z.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
        if self._rule == "sigmoid":
            p = _sigmoid(z)
            return np.concatenate([_sigmoid(-z), p], axis=1) if self._shape == (1,) else p
        return z


def _sigmoid(z):
    """Return 1 / (1 + exp(-z)) without overflow."""
    small = np.exp(-np.abs(z))
    return np.where(z < 0, small, 1.0) / (1 + small)
