"""NPZ, NumPy's archive of named arrays. Arrays are loaded into memory without conversion; bytes stay bytes."""

import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..registry import Options, datasets
from ..terminal.progress import Progress, open_tracked
from .encoding import Encoding
from .files import find, reading, reason
from .split import Dataset, Split, as_samples, as_targets, check_channels, check_share

TRAINING = (("x", "y"), ("x_train", "y_train"))
VALIDATION = ("x_val", "y_val")
TEST = ("x_test", "y_test")  # the validation set of an archive without x_val


@datasets.register("npz")
class NPZ(Options):
    """Arrays x and y (or x_train and y_train) in an NPZ file, optionally x_val and y_val (or x_test and y_test).

    x is (N, C, *spatial) or (N, features); bytes are pixels 0..255, and bytes of shape (N, H, W) become (N, 1, H, W).
    Channels last, (N, H, W, C) with C = 1, 3 or 4, is refused. y is (N,) or (N, 1): whole numbers are labels, real
    numbers are targets. w (or w_train, w_val, w_test) may hold the weights (N,) of the samples, factors of their
    losses. Without validation arrays the share `validation` of the samples is held out. If there are x_val and x_test,
    x_test is the test set; without one the share `test` of the samples is held out.
    """

    path: str
    validation: float = 0.1
    test: float = 0.0

    def validate(self) -> None:
        check_share(self.validation)
        check_share(self.test, "test")

    def load(self) -> Dataset:
        """Load the data set; DataError for a file that is missing, damaged or of another kind."""
        path = find(self.path)
        pairs = (*TRAINING, VALIDATION, TEST)
        arrays = _read_arrays(path, {name for x, y in pairs for name in (x, y, _weights_of(x))})
        train = _split(path, arrays, TRAINING)
        if train is None:
            raise DataError(f"{path} holds no arrays x and y (or x_train and y_train), but {_listed(arrays)}")
        validation, test = _split(path, arrays, (VALIDATION,)), _split(path, arrays, (TEST,))
        if validation is None:
            validation, test = test, None
        return Dataset(
            "npz", train, validation, test,
            validation_share=self.validation if validation is None else 0.0,
            test_share=self.test,  # beside a test set it is refused
        )  # fmt: skip

    def samples(self, known: Encoding | None = None, without: str | None = None) -> Dataset:
        """Read samples without targets, the array x or the only array; the targets of the `Dataset` are 0.

        They have no columns: `known` and `without` say nothing about them.
        """
        path = find(self.path)
        arrays = _read_arrays(path, None)
        name = next(iter(arrays)) if len(arrays) == 1 else "x"
        if name not in arrays:
            raise DataError(f"{path} holds no array x, but {_listed(arrays)}")
        return Dataset("npz", _as_split(path, name, arrays[name], None))

    def column(self, name: str) -> NDArray[Any]:
        """Read an array of one value a sample, (N,)."""
        path = find(self.path)
        arrays = _read_arrays(path, {name})
        found = arrays.get(name)
        if not isinstance(found, np.ndarray) or found.ndim != 1:
            raise DataError(f"{path} holds no array {name} of one value a sample, but {_listed(arrays)}")
        return found


def _read_arrays(path, wanted):
    """Read the `wanted` arrays of the archive (None: all) by name; refuse pickled objects, whose reading runs code.

    Other arrays are None.
    """
    with reading(path), open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path} is not an NPZ file: it is not a zip archive, or it is cut short")
    try:
        with (
            Progress(f"reading {path.name}", "bytes") as progress,
            open_tracked(path, progress) as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            return {name: archive[name] if wanted is None or name in wanted else None for name in archive.files}
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {reason(error)}") from error
    except Exception as error:  # a damaged archive may fail anywhere in zipfile, zlib or the parser of array headers
        if "allow_pickle" in str(error):
            raise DataError(f"{path} holds an array of Python objects, but only arrays of numbers are read") from error
        raise DataError(f"{path} is damaged: {reason(error)}") from error


def _split(path, arrays, pairs):
    """Return the first of the pairs (x, y) in the archive as a Split, or None."""
    for x, y in pairs:
        if (x in arrays) != (y in arrays):
            missing, there = (y, x) if x in arrays else (x, y)
            raise DataError(f"{path} holds {there} but no {missing}, only {_listed(arrays)}")
        if x in arrays:
            if not isinstance(arrays[y], np.ndarray):
                raise DataError(f"{path}: {y} must be a NumPy array, but it is a plain file in the archive")
            return _as_split(path, f"{x}, {y}", arrays[x], arrays[y], arrays.get(_weights_of(x)))
    return None


def _weights_of(x):
    """Return the name of the weights that belong to the samples of a name."""
    return f"w{x[1:]}"


def _as_split(path, names, x, y, weights=None):
    """Make a Split of samples and targets (None: there are no targets; they become 0)."""
    if not isinstance(x, np.ndarray):
        raise DataError(f"{path}: {names.split(',')[0]} must be a NumPy array, but it is a plain file in the archive")
    x = as_samples(x)
    check_channels(x.shape[1:], path)
    y = np.zeros((*x.shape[:1], 1)) if y is None else as_targets(y)
    return Split(x, y, name=f"{path} ({names})", weights=weights)


def _listed(arrays):
    return ", ".join(sorted(arrays)) or "nothing"
