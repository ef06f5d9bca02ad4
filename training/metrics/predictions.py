"""Outputs and targets of a network in the forms that metrics take: classes, labels, probabilities, errors."""

from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..losses import Loss

LOOKED = 100  # targets that are looked at first: they tell values from one-hot rows
LEAST = 1e-280  # a smaller sum of squares may have lost terms, which float64 rounds to 0


class Outputs(NamedTuple):
    """The kind and the shapes of a network's outputs and targets.

    Attributes
    ----------
    kind : "classes", "labels" or "values"
        Scores of classes that exclude each other (a single output is the logit of class 1); logits of which each is a
        separate yes or no; or numbers.
    shape, target_shape : tuple of int
        Shapes for one sample. A target of shape () is a class number.
    logits : bool or None
        Whether the loss takes the outputs as logits; None if no loss is given.
    """

    kind: str
    shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    logits: bool | None

    @property
    def size(self) -> int:
        """The number of classes, of labels or of values of a sample."""
        return max(self.shape[0], 2) if self.kind == "classes" else prod(self.shape)


def outputs_of(loss: Loss | None, shape: tuple[int, ...], *targets: NDArray[Any]) -> Outputs:
    """Return what outputs of this shape are under a loss (None: it is not known), from the targets of every split."""
    logits = None if loss is None else loss.classification
    if loss is not None and loss.independent and shape != (1,):
        kind = "labels"
    elif logits or all(_one_class_each(y, shape) for y in targets):
        kind = "classes"
    else:
        kind = "values"
    return Outputs(kind, shape, targets[0].shape[1:], logits)


def _one_class_each(y, shape):
    """Tell whether targets are class numbers or one-hot rows."""
    if y.ndim == 1:
        return True
    if len(shape) > 1 and y.shape[1:] == shape[1:]:  # class numbers by position, for outputs (C, *spatial)
        return bool(((y >= 0) & (y < shape[0]) & (y == np.floor(y))).all())
    return shape[0] > 1 and y.shape[1:] == shape == shape[:1] and one_hot(y[:LOOKED]) and one_hot(y)


def one_hot(y: NDArray[Any]) -> bool:
    """Tell whether every row has a single 1 among zeros."""
    return bool((((y == 1).sum(axis=1) == 1) & ((y == 0).sum(axis=1) == y.shape[1] - 1)).all())


class Targets:
    """Targets of some samples and other forms of them, each computed once: outputs for them come epoch by epoch.

    Attributes
    ----------
    target : ndarray (N, ...)
        Like the outputs, or class numbers.
    outputs : Outputs
    weights : ndarray (N,) or None
        Factors of the losses of the samples. Metrics have no weights.
    """

    def __init__(self, target: NDArray[Any], outputs: Outputs, weights: NDArray[Any] | None = None) -> None:
        self.target, self.outputs, self.weights = target, outputs, weights

    @cached_property
    def actual(self) -> NDArray[Any]:
        """Class numbers (M,), M = N or all positions of N samples; of labels: bool (N, K).

        The class of probabilities is the largest, the first of equal ones. Labels are there above 1/2.
        """
        target, outputs = self.target, self.outputs
        if outputs.kind == "labels":
            return target.reshape(len(target), -1) > 0.5
        if outputs.target_shape != outputs.shape:
            return target.astype(np.int64, copy=False).ravel()
        if outputs.shape == (1,):
            return (target[:, 0] > 0.5).astype(np.int64)
        return target.argmax(axis=1).ravel()

    def probabilities(self) -> NDArray[np.float64]:
        """Return probabilities (M, C) of the classes: 0 and 1, unless the targets are probabilities."""
        outputs = self.outputs
        if outputs.target_shape != outputs.shape:
            return (self.actual[:, None] == np.arange(outputs.size)).astype(np.float64)
        target = self.target.astype(np.float64)
        return np.column_stack([1 - target, target]) if outputs.shape == (1,) else _by_class(target)

    @cached_property
    def variation(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (K,) of the targets, and sum (K,) of (t - mean t)^2; NaN in its place for constant targets.

        It is infinite where squares overflow.
        """
        t = self.target.reshape(len(self.target), -1)
        first = t[0].astype(np.float64)
        difference = np.subtract(t, first, dtype=np.float64)
        shift = difference.sum(axis=0) / len(t)
        total = np.square(difference).sum(axis=0) - len(t) * shift * shift  # exactly 0 if all differences are
        return first + shift, np.where(total > LEAST, total, np.where(np.isfinite(total), np.nan, np.inf))


class Predictions:
    """Outputs of a network for some samples, their targets, and other forms, each computed once for all metrics.

    Attributes
    ----------
    y : ndarray (N, *shape)
        Outputs, as `Network.predict` returns them.
    targets : Targets
    outputs : Outputs
    """

    y: NDArray[Any]
    targets: Targets
    outputs: Outputs

    def __init__(self, y: NDArray[Any], targets: Targets) -> None:
        self.y, self.targets, self.outputs = y, targets, targets.outputs

    @classmethod
    def of_epochs(cls, outputs: NDArray[Any], targets: Targets) -> "list[Predictions]":
        """Return the predictions of each epoch, from outputs (epochs, N, *shape); what many use is computed at once."""
        found = [cls(y, targets) for y in outputs]
        if targets.outputs.kind == "values" and targets.outputs.shape == targets.outputs.target_shape:
            for each, squares in zip(found, _squares(outputs, targets.target), strict=True):
                each.squares = squares
        return found

    @property
    def target(self) -> NDArray[Any]:
        """The targets like y, or class numbers."""
        return self.targets.target

    @property
    def actual(self) -> NDArray[Any]:
        """Class numbers (M,) of the targets, M = N or all positions of N samples; of labels: bool (N, K)."""
        return self.targets.actual

    @cached_property
    def predicted(self) -> NDArray[Any]:
        """Predicted class numbers (M,); of labels: bool (N, K). -1, which is never right, where an output is NaN."""
        if self.outputs.kind == "labels":
            y = self.y.reshape(len(self.y), -1)
            found: NDArray[Any] = y > 0
            best = y
        else:
            found, best = classes(self.y), self.y.max(axis=1)  # NaN if any of a sample's is
        unknown = np.isnan(best)
        found = np.where(unknown, -1, found) if unknown.any() else found
        return found if self.outputs.kind == "labels" else found.ravel()

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each class (or label) is predicted and right, is predicted, and occurs: (3, classes)."""
        predicted, actual, count = self.predicted, self.actual, self.outputs.size
        if self.outputs.kind == "labels":
            yes = predicted > 0
            return np.array([(yes & actual).sum(axis=0), yes.sum(axis=0), actual.sum(axis=0)])
        right, known = actual[predicted == actual], predicted[predicted >= 0]
        return np.array([np.bincount(each, minlength=count) for each in (right, known, actual)])

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """Outputs (M, C) of classes, in float64; of a single output z the columns are 0 and z."""
        y = self.y.astype(np.float64)
        if self.outputs.shape == (1,):
            return np.column_stack([np.zeros(len(y)), y[:, 0]])
        return _by_class(y)

    @cached_property
    def log_probabilities(self) -> NDArray[np.float64]:
        """Logarithms (M, C) of the softmax of the scores."""
        shifted = self.scores - self.scores.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """Differences y - target (N, K) in float64."""
        return np.subtract(self.y, self.target, dtype=np.float64).reshape(len(self.y), -1)

    @cached_property
    def squares(self) -> NDArray[np.float64]:
        """Sums (K,) of the squares of the errors; NaN where they are too small for float64."""
        return _squares(self.y[None], self.target)[0]


def classes(y: ArrayLike) -> NDArray[np.int64]:
    """Return predicted classes: (N,) from (N, C), (N, *spatial) from (N, C, *spatial); 0 or 1 from (N, 1).

    The class is the largest output along axis 1, the first of equal ones; of a single output, a logit, it is 1 above 0.
    """
    y = np.asarray(y)
    if y.shape[1:] == (1,):
        return (y[:, 0] > 0).astype(np.int64)
    return y.argmax(axis=1)


def confusion_matrix(predictions: Predictions) -> NDArray[np.int64]:
    """Count how often class i (row) was predicted as class j (column); the matrices of several parts add up.

    Samples with an output that is NaN are left out.
    """
    count, known = predictions.outputs.size, predictions.predicted >= 0
    places = predictions.actual[known] * count + predictions.predicted[known]
    return np.bincount(places, minlength=count * count).reshape(count, count)


def _squares(outputs, target):
    """Return sums (epochs, K) of squared errors of outputs (epochs, N, *shape)."""
    errors = np.subtract(outputs, target, dtype=np.float64).reshape(*outputs.shape[:2], -1)
    squares = column_sums(np.square(errors, out=errors))
    if (squares <= LEAST).any():
        errors = np.subtract(outputs, target, dtype=np.float64).reshape(*outputs.shape[:2], -1)
        squares = np.where((squares <= LEAST) & (errors != 0).any(axis=1), np.nan, squares)
    return squares


def column_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums (..., K) over the rows of values (..., N, K); `sum` takes eight times as long for few columns."""
    return np.matmul(np.ones(values.shape[-2]), values)


def _by_class(y):
    """Return (M, C) from (N, C, *spatial)."""
    return y if y.ndim == 2 else np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
