"""Metrics of outputs, in NumPy; each is a mean over samples.

y : (N, *shape), outputs of the network
target : the same shape, or class numbers (N,)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ShapeError, UnknownName
from ..program.norms import lp_norm
from ..registry.specs import did_you_mean, shown
from .losses import Loss


def accuracy(y: NDArray[Any], target: ArrayLike) -> float:
    """Share of samples whose class is right.

    The class is the largest output along axis 1; of a single output (a logit, as binary_cross_entropy takes it) it is
    1 above 0. Targets are class numbers, one-hot or probabilities (N, C), or (single output) 0 and 1. ShapeError for
    targets with several classes per sample, for which there is `binary_accuracy`.
    """
    target = _checked(y, target)
    if target.ndim == np.ndim(y) > 1 and not _single(y):
        most = target.max(axis=1, keepdims=True)
        if (((target == most).sum(axis=1) > 1) & (np.abs(target.sum(axis=1) - 1) > 1e-2)).any():
            raise ShapeError(
                "accuracy: a sample of these targets has several classes or none; it is measured with "
                "loss='binary_cross_entropy', output by output"
            )
    return float(np.mean(classes(y) == _target_classes(y, target)))


def binary_accuracy(y: NDArray[Any], target: ArrayLike) -> float:
    """Share of outputs on the right side: logits above 0 where the target is above 1/2, and below where it is not."""
    target = _checked(y, target)
    return float(np.mean((np.reshape(y, target.shape) > 0) == (target > 0.5)))


def l1(y: NDArray[Any], target: ArrayLike) -> float:
    """Mean over samples of ||y - t||_1."""
    return _error_norm(y, target, 1.0)


def l2(y: NDArray[Any], target: ArrayLike) -> float:
    """Mean over samples of ||y - t||_2."""
    return _error_norm(y, target, 2.0)


def linf(y: NDArray[Any], target: ArrayLike) -> float:
    """Mean over samples of max |y - t|."""
    return _error_norm(y, target, np.inf)


METRICS: dict[str, Callable[[NDArray[Any], ArrayLike], float]] = {
    "accuracy": accuracy,
    "l1": l1,
    "l2": l2,
    "linf": linf,
}


def _class_accuracy(y: NDArray[Any], target: ArrayLike) -> float:
    """Accuracy under a loss of values, under which one output is not a logit."""
    if _single(y):
        raise ShapeError(
            "accuracy: one output is measured under a loss that takes it as a logit, such as binary_cross_entropy"
        )
    return accuracy(y, target)


def get(name: str, loss: Loss | None = None) -> Callable[[NDArray[Any], ArrayLike], float]:
    """Return the function of a metric.

    Parameters
    ----------
    name : str
    loss : Loss or None
        With a loss whose outputs are `independent`, accuracy is `binary_accuracy`; with a loss of values, a single
        output has no accuracy.

    Raises
    ------
    UnknownName
        The message has the nearest names and all names.
    """
    if not isinstance(name, str) or name not in METRICS:
        near = did_you_mean(name, METRICS) if isinstance(name, str) else ""
        raise UnknownName(f"no metric is called {shown(name)}{near}; known are {', '.join(METRICS)}")
    if name != "accuracy" or loss is None:
        return METRICS[name]
    return binary_accuracy if loss.independent else accuracy if loss.classification else _class_accuracy


def classes(y: ArrayLike) -> NDArray[np.int64]:
    """Return predicted classes: (N,) from (N, C), (N, *spatial) from (N, C, *spatial); 0 or 1 from (N, 1)."""
    y = np.asarray(y)
    if _single(y):
        return (y.reshape(len(y)) > 0).astype(np.int64)
    return y.argmax(axis=1)


def confusion_matrix(y: NDArray[Any], target: ArrayLike, count: int | None = None) -> NDArray[np.int64]:
    """Count how often class i (row) was predicted as class j (column).

    Parameters
    ----------
    y : (N, C) scores, or (N, 1) logits of two classes
    target : class numbers (N,), or like y
    count : int or None
        Number of classes; None: as many as y has.

    Returns
    -------
    ndarray of int64 (count, count); matrices of several batches add up.
    """
    target = _checked(y, target)
    if count is None:
        count = 2 if _single(y) else y.shape[1]
    right, taken = _target_classes(y, target).ravel(), classes(y).ravel()
    if right.size and (right.min() < 0 or right.max() >= count):
        raise ShapeError(f"confusion_matrix: labels must be from 0 to {count - 1}, got {right.min()} to {right.max()}")
    return np.bincount(right * count + taken, minlength=count * count).reshape(count, count)


def _error_norm(y, target, p):
    target = _checked(y, target)
    if target.shape != np.shape(y):
        raise ShapeError(f"error norms: targets must have the outputs' shape {np.shape(y)}, got {target.shape}")
    e = np.asarray(y, np.float64) - target
    return float(np.mean([lp_norm(row, p) for row in e])) if len(e) else float("nan")


def _target_classes(y: NDArray[Any], target: NDArray[Any]) -> NDArray[np.int64]:
    """Return class numbers of targets of either form."""
    if target.ndim < np.ndim(y):
        return target.astype(np.int64)
    if _single(y):
        return (target.reshape(len(target)) > 0.5).astype(np.int64)
    return target.argmax(axis=1)


def _single(y):
    return np.ndim(y) == 1 or np.shape(y)[1:] == (1,)


def _checked(y: NDArray[Any], target: ArrayLike) -> NDArray[Any]:
    """Return the target as an array; raise ShapeError unless its shape is that of y or of class numbers for y."""
    target, shape = np.asarray(target), np.shape(y)
    if not shape or target.shape not in (shape, shape[:1] + shape[2:]):
        raise ShapeError(f"metrics: targets for outputs of shape {shape} must be like them or class numbers (N,), "
                         f"got {target.shape}")  # fmt: skip
    return target
