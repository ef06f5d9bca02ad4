"""Data sets: bundled sets, readers for files, and the types that a reader returns (`Split`, `Dataset`).

A reader's option named ``path`` or ``..._path`` is a path; a run writes it to its config as an absolute path.
"""

import os

from ..errors import DataError
from ..registry import datasets
from ..registry.options import SpecLike
from .columns import Encoding
from .frames import table
from .split import Dataset, Split
from .tables import TableReader

__all__ = ["Dataset", "Split", "load", "samples", "table"]


def load(spec: SpecLike | Dataset, encoding: Encoding | None = None) -> Dataset:
    """Load the `Dataset` of a spec: "digits", "idx(path='mnist')", a (name, options) pair, or a reader.

    A table is encoded as `encoding` says, such as that of a network's `trained_on`; others do not need it.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option.
    DataError
        The files are missing, damaged or of another kind, or a plug-in's reader did not return a `Dataset`.
    """
    if isinstance(spec, Dataset):
        return spec
    reader = datasets.create(spec)
    dataset = reader.load(encoding) if isinstance(reader, TableReader) else reader.load()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"load() of the reader {type(reader).__name__} must return a Dataset, not {type(dataset).__name__}"
        )
    return dataset


def samples(path: str | os.PathLike[str], encoding: Encoding | None = None) -> Dataset:
    """Read samples without targets from a .npz file or a table, as a `Dataset` with dummy targets.

    A table (.csv, .tsv, .parquet, .arrow, .feather) is encoded as `encoding` says, or else all its columns are numbers.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    from . import arrow_file, csv_file, npz  # import NumPy only when data is read

    suffix = os.path.splitext(str(path))[1].lower()
    if suffix == ".npz":
        return npz.samples(path)
    if suffix in (".csv", ".tsv"):
        return csv_file.samples(path, encoding)
    if suffix in arrow_file.SUFFIXES:
        return arrow_file.samples(path, encoding)
    raise DataError(f"{path}: expected samples in a .npz or .csv file, or in one of .tsv, .parquet, .arrow or .feather")
