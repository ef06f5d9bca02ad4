"""Losses of one sample and their gradients, in NumPy.

`loss` (N,) holds C_i for each sample; `dy` holds dC_i/dy without 1/N, as delta in (2) of the lecture: the sums of
gradients over the batch have the factor 1/N. y and target are (N, F), with F outputs of each sample; labels are (N,).
"""

import numpy as np

from ..compiler.subnormal import flush


def weigh(weight, loss, dy):
    """C_i = w_i C_i and its gradient, for the weight w_i of a sample (N,)."""
    loss *= weight
    dy *= weight[:, None]


def quadratic(y, target, loss):
    """C_i = 1/2 ||y_i - t_i||_2^2, the lecture's (1)."""
    loss[...] = _rows(np.square(y - target)).sum(axis=1) / 2


def quadratic_backward(y, target, dy):
    """dC_i/dy = y - t: the factor (a[L] - y) of (2)."""
    dy[...] = y - target


def mse(y, target, loss):
    """C_i = mean over the sample's outputs of (y - t)^2."""
    loss[...] = _rows(np.square(y - target)).mean(axis=1)


def mse_backward(y, target, dy):
    """dC_i/dy = 2 (y - t) / F, where F is the number of outputs of a sample."""
    dy[...] = (y - target) * y.dtype.type(2 / y[0].size)


def mae(y, target, loss):
    """C_i = mean over the sample's outputs of |y - t|."""
    loss[...] = _rows(np.abs(y - target)).mean(axis=1)


def mae_backward(y, target, dy):
    """dC_i/dy = sign(y - t) / F, 0 where y = t."""
    dy[...] = np.sign(y - target) / y[0].size


def huber(y, target, loss, delta):
    """C_i = mean of e^2/2 for |e| <= delta, else delta (|e| - delta/2); e = y - t (Huber 1964, doi:10/d93dtm)."""
    e = np.abs(y - target)
    inside = np.minimum(e, delta)
    loss[...] = _rows(inside * (e - inside / 2)).mean(axis=1)


def huber_backward(y, target, dy, delta):
    """dC_i/dy = e / F, clipped to +- delta / F."""
    dy[...] = np.clip(y - target, -delta, delta) / y[0].size


def lp(y, target, loss, p):
    """C_i = ||y - t||_p^p = sum |y - t|^p, any finite p > 0 (lecture, norm and metric)."""
    loss[...] = _rows(np.abs(y - target) ** p).sum(axis=1)


def lp_backward(y, target, dy, p):
    """dC_i/dy = p |e|^(p - 1) sign(e), taken as 0 at e = 0 for every p."""
    e = y - target
    away = np.where(e == 0, y.dtype.type(1), np.abs(e))
    dy[...] = p * away ** (p - 1) * np.sign(e)


def binary_cross_entropy(y, target, loss):
    """C_i = mean of -t log s(y) - (1 - t) log(1 - s(y)) on logits y; written max(y, 0) - t y + log(1 + exp(-|y|))."""
    loss[...] = _rows(np.maximum(y, 0) - target * y + np.log1p(np.exp(-np.abs(y)))).mean(axis=1)


def binary_cross_entropy_backward(y, target, dy):
    """dC_i/dy = (s(y) - t) / F, s the logistic sigmoid."""
    e = np.exp(-np.abs(y))
    dy[...] = flush((np.where(y < 0, e, 1) / (1 + e) - target) / y[0].size)


def cross_entropy(y, target, loss):
    """C_i = -sum_c t_c log softmax(y)_c, with y, target (N, C): one-hot or soft targets, log-sum-exp form."""
    loss[...] = -np.sum(target * _log_softmax(y), axis=1)


def cross_entropy_backward(y, target, dy):
    """dC_i/dy = softmax(y) sum_c t_c - t: a[L] - y where the targets sum to 1."""
    dy[...] = flush(np.exp(_log_softmax(y)) * target.sum(axis=1, keepdims=True) - target)


def cross_entropy_labels(y, target, loss):
    """C_i = -log softmax(y)_t, with y (N, C) and whole numbers target (N,); NaN for a label outside 0..C-1."""
    picked, valid = _picked(y, target)
    loss[...] = np.where(valid, -np.sum(np.where(picked == 1, _log_softmax(y), 0), axis=1), np.nan)


def cross_entropy_labels_backward(y, target, dy):
    """dC_i/dy = softmax(y) - one-hot(t); NaN for a label outside 0..C-1."""
    picked, valid = _picked(y, target)
    dy[...] = flush(np.where(valid[:, None], np.exp(_log_softmax(y)) - picked, np.nan))


def _rows(a):
    """Reshape (N, *shape) to (N, F)."""
    return a.reshape(len(a), -1)


def _log_softmax(y):
    shifted = y - np.max(y, axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def _picked(y, target):
    """Return one-hot rows in the dtype of y, and a mask of the labels within range."""
    classes = np.arange(y.shape[1])
    return (target[:, None] == classes).astype(y.dtype), (target >= 0) & (target < y.shape[1])
