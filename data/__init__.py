"""Data sets: bundled sets, readers for files, and the types that a reader returns (`Split`, `Dataset`).

A reader's option named ``path`` or ``..._path`` is a path; a run writes it to its config as an absolute path.
"""

import os

from ..errors import DataError
from ..registry import datasets
from ..registry.options import SpecLike
from .split import Dataset, Split

__all__ = ["Dataset", "Split", "load", "samples"]


def load(spec: SpecLike | Dataset) -> Dataset:
    """Load the `Dataset` of a spec: "digits", "idx(path='mnist')", a (name, options) pair, or a reader.

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
    dataset = reader.load()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"load() of the reader {type(reader).__name__} must return a Dataset, not {type(dataset).__name__}"
        )
    return dataset


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
