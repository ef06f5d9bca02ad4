"""Data sets: bundled sets, readers for files, and the types that a reader returns (`Split`, `Dataset`).

A reader's option named ``path`` or ``..._path`` is a path; a run writes it to its config as an absolute path.
"""

import os
from dataclasses import replace
from fractions import Fraction

import numpy as np

from ..errors import DataError, SpecError
from ..registry import datasets
from ..registry.options import SpecLike
from .files import reader_spec
from .holdout import folds, stratified
from .split import Dataset, Split

__all__ = ["Dataset", "Split", "load", "samples"]


def load(spec: SpecLike | Dataset, seed: int = 0, fold: tuple[int, int] | None = None) -> Dataset:
    """Load the `Dataset` of a spec: "digits", "idx(path='mnist')", a (name, options) pair, or a reader.

    The name of a file or folder alone means the reader for it: "data.npz" is "npz(path='data.npz')". The
    shares of validation and test that a reader names are held out here; a split that the reader has made stays.

    Parameters
    ----------
    spec : spec, reader or Dataset
    seed : int
        The key of the draw, that of the run.
    fold : (k, n) or None
        Hold the k-th of n folds out for validation, k from 1, instead of a share.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option; or there are fewer samples than folds.
    DataError
        The files are missing, damaged or of another kind, or a plug-in's reader did not return a `Dataset`.
    """
    if isinstance(spec, Dataset):
        return _divided(spec, seed, fold)
    reader = datasets.create(reader_spec(spec))
    dataset = reader.load()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"load() of the reader {type(reader).__name__} must return a Dataset, not {type(dataset).__name__}"
        )
    return _divided(dataset, seed, fold)


def _divided(dataset, seed, fold):
    """Return the data set with its shares held out, or a fold, and with a note for each part."""
    train, validation, test = dataset.train, dataset.validation, dataset.test
    rows, notes = len(train), []
    how = f"stratified by class, seed {seed}" if stratified(train.y) else f"drawn with seed {seed}"
    if dataset.test_share:
        train, test = train.hold_out(dataset.test_share, seed)
        notes.append(f"test: {len(test)} of {rows} rows, {how}")
    elif test is not None:
        notes.append(f"test: {len(test)} rows of {test.name}")
    if fold is not None:
        k, n = fold
        if not 1 <= k <= n:
            raise SpecError(f"fold: expected the number of a fold, from 1 to {n}, got {k}")
        held = folds(train.y, n, seed, train.name)[k - 1]
        if validation is not None:
            notes.append(f"left out: {len(validation)} rows of {validation.name}, since a fold is the validation set")
        train, validation = train.part(np.delete(np.arange(len(train)), held)), train.part(held)
        notes.append(f"validation: fold {k} of {n}, {len(held)} of {rows} rows, {how}")
    elif dataset.validation_share:
        # A share of all samples, of which the test set is gone.
        share = Fraction(str(dataset.validation_share)) / (1 - Fraction(str(dataset.test_share)))
        train, validation = train.hold_out(share, seed)
        notes.append(f"validation: {len(validation)} of {rows} rows, {how}")
    elif validation is not None:
        notes.append(f"validation: {len(validation)} rows of {validation.name}")
    return replace(
        dataset, train=train, validation=validation, test=test, validation_share=0.0, test_share=0.0,
        notes=(*dataset.notes, *notes),
    )  # fmt: skip


def samples(path: str | os.PathLike[str]) -> Dataset:
    """Read samples without targets from a .npz or .csv file, as a `Dataset` with dummy targets.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    from . import csv_file, npz  # import NumPy only when data is read

    readers = {".npz": npz.samples, ".csv": csv_file.samples}
    suffix = next((suffix for suffix in readers if str(path).lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: expected samples in a .npz or .csv file")
    return readers[suffix](path)
