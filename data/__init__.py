"""Data sets: bundled sets, readers for files, and the types that a reader returns (`Split`, `Dataset`).

A reader's option named ``path`` or ``..._path`` is a path; a run writes it to its config as an absolute path.
"""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..errors import DataError
from ..registry import datasets
from ..registry.options import SpecLike
from .encoding import Encoding
from .files import reader_spec, samples_reader
from .frames import table
from .holdout import divide
from .split import Dataset, Split
from .table_reader import TableReader

__all__ = ["Dataset", "Split", "column", "load", "samples", "table"]


def load(
    spec: SpecLike | Dataset,
    seed: int = 0,
    fold: tuple[int, int] | None = None,
    encoding: Encoding | None = None,
    whole: bool = False,
) -> Dataset:
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
    encoding : Encoding or None
        How a table is encoded, such as that of a network's `trained_on`; None: as its training rows say.
    whole : bool
        Whether to hold out no share. Validation and test sets that the data itself names stay.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option; or there are fewer samples than folds.
    DataError
        The files are missing, damaged or of another kind, or a plug-in's reader did not return a `Dataset`.
    """
    if isinstance(spec, Dataset):
        return _divided(_whole(spec) if whole else spec, seed, fold)
    reader = datasets.create(reader_spec(spec))
    table_reader = isinstance(reader, TableReader)  # divides its rows itself: means are those of training rows
    if whole and table_reader:
        reader = copy(reader)
        for option in ("validation", "test"):
            if not isinstance(getattr(reader, option), str):
                setattr(reader, option, 0.0)
    dataset = reader.load(encoding, seed, fold) if table_reader else reader.load()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"load() of the reader {type(reader).__name__} must return a Dataset, not {type(dataset).__name__}"
        )
    return dataset if table_reader else _divided(_whole(dataset) if whole else dataset, seed, fold)


def _whole(dataset):
    """Return the data set without shares to hold out."""
    return replace(dataset, validation_share=0.0, test_share=0.0)


def _divided(dataset, seed, fold):
    """Return the data set with its shares held out, or a fold, and with a line on each part."""
    train, parts, lines = dataset.train, {"validation": dataset.validation, "test": dataset.test}, []
    if fold is not None and parts["validation"] is not None:
        lines.append(f"left out: {len(dataset.validation)} rows of {dataset.validation.name}, in place of which a fold "
                     "validates")  # fmt: skip
        parts["validation"] = None
    lines += [f"{part}: {len(split)} rows of {split.name}" for part, split in parts.items() if split is not None]
    found = divide(train.y, dataset.validation_share, dataset.test_share, seed, fold, train.name)
    for part in parts:
        rows = getattr(found, part)
        parts[part] = parts[part] if rows is None else train.part(rows)
    if len(found.train) < len(train):
        train = train.part(found.train)
    return replace(
        dataset, train=train, **parts, validation_share=0.0, test_share=0.0,
        division=(*lines, *found.lines),
    )  # fmt: skip


def samples(source: SpecLike | Path, encoding: Encoding | None = None, without: str | None = None) -> Dataset:
    """Read samples without targets from a .npz file or a table, as a `Dataset` with dummy targets.

    Parameters
    ----------
    source : path or spec
        A file, such as "later.csv", or its reader, such as "csv(path='later.csv', separator=';')".
    encoding : Encoding or None
        How a table is encoded; None: all its columns are numbers.
    without : str or None
        A column of a table that is no input.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option without targets.
    DataError
        The file is missing, damaged or of another kind.
    """
    return samples_reader(source).samples(encoding, without)


def column(source: SpecLike | Path, name: str) -> NDArray[Any]:
    """Read one column of a table as texts (N,), or an array (N,) of a .npz file, such as the ids of samples.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option without targets.
    DataError
        The file or the column is missing, or the file is damaged or of another kind.
    """
    return samples_reader(source).column(name)
