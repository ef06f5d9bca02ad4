"""The smallest loss of a constant prediction, which a network reaches that ignores its input."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.split import spread
from .losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Loss, Lp, Quadratic

NUMBERS = 2**22  # most targets of values that are looked at; of more, rows that are spread evenly
HALVINGS = 60  # of an interval that holds the best constant


def constant_loss(loss: Loss, y: NDArray[Any], weights: NDArray[Any] | None = None) -> float | None:
    """Return min over c of 1/N sum_i w_i C(c, y_i); None for a loss for which it is not known.

    For cross entropy it is the entropy of the frequencies of the classes, for squares a variance, for absolute values
    the mean distance from the median.

    Parameters
    ----------
    loss : Loss
    y : ndarray (N,) or (N, *shape)
        Targets in the form the loss takes.
    weights : ndarray (N,) or None
        Factors of the losses; None: 1.
    """
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    if type(loss) is CrossEntropy and y.ndim == 1:
        return _entropy(np.bincount(y, w), w.sum()) * float(w.mean())
    whole = w.mean()
    if y.size > NUMBERS:
        rows = spread(len(y), max(1, NUMBERS * len(y) // y.size))
        y, w = y[rows], w[rows]
    if not (total := w.sum()) > 0:
        return None
    y, w = np.asarray(y, np.float64).reshape(len(y), -1), w[:, None]
    mean = (w * y).sum(0) / total
    if type(loss) is CrossEntropy:
        return _entropy(mean, mean.sum()) * float(whole)
    if type(loss) is BinaryCrossEntropy:
        pairs = np.stack([mean, 1 - mean])
        return float(np.mean([_entropy(pair, 1.0) for pair in pairs.T]) * whole)
    each = _of_values(loss, y, w, mean)
    if each is None:
        return None
    found = (w * each).sum(0) / total * whole
    return float(found.sum() if isinstance(loss, (Quadratic, Lp)) else found.mean())


def _entropy(counts, total):
    share = counts[counts > 0] / total
    return float(-(share * np.log(share)).sum())


def _of_values(loss, y, w, mean):
    """Return the loss (N, outputs) of the best constant of each output; None if it is not known."""
    if type(loss) is Quadratic:
        return (y - mean) ** 2 / 2
    if type(loss) is MSE:
        return (y - mean) ** 2
    if type(loss) is MAE:
        return abs(y - _zero(np.sign, y, w))
    if type(loss) is Huber:
        e = abs(y - _zero(lambda e: np.clip(e, -loss.delta, loss.delta), y, w))
        return np.where(e <= loss.delta, e**2 / 2, loss.delta * (e - loss.delta / 2))
    if type(loss) is Lp and loss.p >= 1:
        return abs(y - _zero(lambda e: np.sign(e) * abs(e) ** (loss.p - 1), y, w)) ** loss.p
    return None


def _zero(slope: Callable[[NDArray[Any]], NDArray[Any]], y: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
    """Return c (outputs,) for which sum w slope(c - y), which rises with c, changes its sign: by halving intervals."""
    low, high = y.min(0), y.max(0)
    for _ in range(HALVINGS):
        c = (low + high) / 2
        rising = (w * slope(c - y)).sum(0) > 0
        low, high = np.where(rising, low, c), np.where(rising, c, high)
    return (low + high) / 2
