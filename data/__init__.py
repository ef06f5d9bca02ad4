"""Data sets: the embedded ones, readers for files, and what a reader of one's own hands over (`Split`, `Dataset`).

An option of a reader called ``path`` or ``..._path`` is a path: a run's written config holds it as an absolute one.
"""

import os

from ..errors import DataError
from ..registry import datasets
from ..registry.options import SpecLike
from .split import Dataset, Split

__all__ = ["Dataset", "Split", "load", "samples"]


def load(spec: SpecLike | Dataset) -> Dataset:
    """The `Dataset` that a spec names: "digits", "idx(path='mnist')", a (name, options) pair, or a reader.

    Raises
    ------
    UnknownName, SpecError
        No such reader, or an option it does not have.
    DataError
        The files are missing, damaged or of another kind, or a plug-in's reader returned something else.
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
    """Samples without targets, from a .npz or .csv file, as a `Dataset` whose targets mean nothing.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    from . import csv_file, npz  # NumPy waits until data is read

    readers = {".npz": npz.samples, ".csv": csv_file.samples}
    suffix = next((suffix for suffix in readers if str(path).lower().endswith(suffix)), None)
    if suffix is None:
        raise DataError(f"{path}: expected samples in a .npz or .csv file")
    return readers[suffix](path)
