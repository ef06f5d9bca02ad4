"""Which rows are held out of training: for validation, for a test, or as one of several folds.

A row's place in the order of drawing is a hash of the seed and the row's number. So the same rows are drawn on every
machine and by every version of NumPy, and, unlike every k-th row, they cannot align with a pattern of the classes.

Labels are stratified: of a class with n samples, share * n are held out, rounded down or up. Renumbering the classes
changes nothing.
"""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpecError


def hashed(i: NDArray[Any], seed: int = 0) -> NDArray[np.uint64]:
    """Hash row numbers from 0 to 64 bits: the sequence of SplitMix64 from the hash of a seed (that of 0 is 0).

    Different rows have different hashes, since each step is invertible. G. L. Steele, D. Lea, C. H. Flood, Fast
    Splittable Pseudorandom Number Generators, OOPSLA 2014, doi:10.1145/2660193.2660195.
    """
    start = _mixed(np.array([seed], np.uint64))
    return _mixed(start + (i.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def _mixed(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def stratified(y: NDArray[Any]) -> bool:
    """Tell whether samples with these labels or targets are drawn class by class: a class has two samples or more."""
    return y.ndim == 1 and len(np.unique(y)) < len(y)


def held_out(y: NDArray[Any], share: float | Fraction, seed: int = 0, name: str = "the data") -> NDArray[np.intp]:
    """Return the rows to hold out, sorted.

    The total is share * n, rounded, where n counts the samples of classes that have at least two; the other classes
    stay in training. Classes with the largest remainders are rounded up. Targets are drawn as one class, and so are
    labels that all differ.

    Parameters
    ----------
    y : labels (N,), or targets (N, ...)
    share : from 0 to 1, without both
    seed : int
    name : str
        Name of the data in errors.

    Returns
    -------
    rows : at least one, at most N - 1

    Raises
    ------
    DataError
        There is only one sample.
    """
    if len(y) < 2:
        raise DataError(f"{name} holds one sample, which cannot be divided; use validation=0")
    share = Fraction(str(share))  # the decimal number: 0.3 of 10 samples are 3
    groups = [rows for rows in _groups(y, seed) if len(rows) > 1]
    total = max(1, round(share * sum(map(len, groups))))
    exact = [share * len(rows) for rows in groups]
    most = [min(-(-part // 1), len(rows) - 1) for part, rows in zip(exact, groups, strict=True)]
    counts = [min(part // 1, limit) for part, limit in zip(exact, most, strict=True)]
    by_remainder = sorted(range(len(groups)), key=lambda k: counts[k] - exact[k])  # equal ones in the order of hashes
    missing = total - sum(counts)
    for k in by_remainder:
        if missing > 0 and counts[k] < most[k]:
            counts[k] += 1
            missing -= 1
    return np.sort(np.concatenate([rows[: int(count)] for rows, count in zip(groups, counts, strict=True)]))


def folds(y: NDArray[Any], count: int, seed: int = 0, name: str = "the data") -> list[NDArray[np.intp]]:
    """Divide all rows into folds, whose sizes differ by one at most, also within each class.

    Parameters
    ----------
    y : labels (N,), or targets (N, ...)
    count : int
        From 2 to N.
    seed : int
    name : str
        Name of the data in errors.

    Returns
    -------
    list of `count` sorted arrays

    Raises
    ------
    SpecError
        There are fewer samples than folds.
    """
    if not 2 <= count <= len(y):
        raise SpecError(f"folds: expected 2 to {len(y)} folds of the {len(y)} samples of {name}, got {count}")
    order = np.concatenate(_groups(y, seed))
    return [np.sort(order[k::count]) for k in range(count)]


class Division(NamedTuple):
    """The rows to train, to validate and to test with (None: there is no such part), and a sentence on each part."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp] | None
    test: NDArray[np.intp] | None
    lines: tuple[str, ...]


def divide(
    y: NDArray[Any],
    validation: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
    fold: tuple[int, int] | None = None,
    name: str = "the data",
) -> Division:
    """Divide all rows: first the test share is held out, then a fold, or the validation share.

    Parameters
    ----------
    y : labels (N,), or targets (N, ...)
    validation, test : float
        Shares of all rows; 0 for none.
    seed : int
    fold : (k, n) or None
        The k-th of n folds of the rows without the test set, k from 1, in place of the validation share.
    name : str
        Name of the data in errors.

    Raises
    ------
    DataError, SpecError
        There is only one sample, or there are fewer samples than folds, or no such fold.
    """
    left, held, tested, lines = np.arange(len(y)), None, None, []
    if not test and not validation and fold is None:
        return Division(left, None, None, ())
    how = f"stratified by class, seed {seed}" if stratified(y) else f"drawn with seed {seed}"
    if test:
        tested = held_out(y, test, seed, name)
        left = np.delete(left, tested)
        lines.append(f"test: {len(tested)} of {len(y)} rows, {how}")
    if fold is not None:
        k, n = fold
        if not 1 <= k <= n:
            raise SpecError(f"fold: expected the number of a fold, from 1 to {n}, got {k}")
        held = left[folds(y[left], n, seed, name)[k - 1]]
        lines.append(f"validation: fold {k} of {n}, {len(held)} of {len(y)} rows, {how}")
    elif validation:
        share = Fraction(str(validation)) / (1 - Fraction(str(test)))  # of the rows that are left
        held = left[held_out(y[left], share, seed, name)]
        lines.append(f"validation: {len(held)} of {len(y)} rows, {how}")
    return Division(left if held is None else np.setdiff1d(left, held), held, tested, tuple(lines))


def _groups(y, seed):
    """Return the rows of each class by their hashes, the class with the smallest hash first."""
    rows = np.argsort(hashed(np.arange(len(y)), seed))
    if not stratified(y):
        return [rows]
    _, first, classes = np.unique(y[rows], return_index=True, return_inverse=True)
    places = np.empty(len(first), np.intp)
    places[np.argsort(first)] = np.arange(len(first))
    classes = places[classes]
    by_class = rows[np.argsort(classes, kind="stable")]
    return np.split(by_class, np.cumsum(np.bincount(classes))[:-1])
