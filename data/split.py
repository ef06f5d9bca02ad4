"""Samples and their targets: every reader returns them, and training takes batches from them.

Arrays keep their stored form (bytes stay bytes, a memory map stays on disk); `Split.take` converts them to the
network's dtype, batch by batch.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..errors import DataError, SpecError
from .encoding import Encoding
from .holdout import hashed, held_out

BYTES = (0.0, 255.0)  # the range of pixels
# Types of the pixels of image files, in words.
DEPTHS = {"uint8": "8 bits a channel", "uint16": "16 bits", "int32": "32-bit integers", "float32": "floats"}
CHUNK = 1 << 18  # numbers of a chunk that is looked at: 2 MB of float64 take half of the time per number that 8 MB do
HASHED = 1 << 24  # bytes of samples, and of targets, that a fingerprint hashes at most
LOOKED = 1 << 28  # numbers above which `Split.magnitude` reads only every k-th chunk
MOST_LABEL = 2**31 - 1
MASKED = "they are missing: leave their samples out, or fill them with numbers (x.filled)"
Rows: TypeAlias = slice | Sequence[int] | NDArray[Any]

FEW_SAMPLES = 1000  # below this a set may have more classes than samples


class Split:
    """N samples with their labels or targets.

    Parameters
    ----------
    x : array (N, *shape), any real dtype; a memory map is read batch by batch.
    y : whole numbers (N,) are labels, stored as int64; real numbers (N, ...) are targets, stored unchanged.
    name : str
        Name of this data in error messages, usually a file name.
    weights : array (N,) or None
        Factors of the losses of the samples, from 0 on; only their ratios count.
    places : (str, array (N,)) or None
        The word "line" or "row" for the samples in their file, and the number of each.

    Raises
    ------
    DataError
        No sample, different lengths, a dtype that is not numeric, NaN, infinity or a negative label (the message names
        the first such row), masked numbers, a weight that is negative or not finite.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        name: str = "the data",
        weights: ArrayLike | None = None,
        places: tuple[str, NDArray[Any]] | None = None,
    ) -> None:
        for letter, array in (("x", x), ("y", y)):
            if is_masked(array):
                raise DataError(f"{name}: {letter} holds masked numbers; {MASKED}")
        x, y = np.asanyarray(x), np.asarray(y)
        for letter, array in (("x", x), ("y", y)):
            if array.dtype.kind not in "biuf":
                raise DataError(f"{name}: {letter} must hold real numbers, but its dtype is {array.dtype}")
        if x.ndim < 2 or y.ndim < 1:
            raise DataError(
                f"{name}: x must have shape (N, ...) and y (N,) or (N, k), but they are {x.shape}, {y.shape}"
            )
        if len(x) != len(y):
            raise DataError(f"{name}: x holds {len(x)} samples but y holds {len(y)}")
        if 0 in x.shape or 0 in y.shape:
            raise DataError(f"{name} is empty: x has shape {x.shape} and y {y.shape}, at least one sample is needed")
        if y.ndim == 1 and y.dtype.kind == "f":
            raise DataError(f"{name}: labels (N,) must be whole numbers, targets to be predicted have shape (N, k)")
        for letter, array in (("x", x), ("y", y)):
            row = _first_row_not_finite(array)
            if row is not None:
                raise DataError(f"{name}: row {row} of {letter} (counted from 0) holds NaN or infinity")
        if y.ndim == 1 and y.dtype.kind != "b":
            _check_labels(y, name)
        self._stored, self.name, self.places = x, name, places
        self._rows: NDArray[Any] | None = None
        self.y = y.astype(np.int64) if y.ndim == 1 else y
        self.weights = None if weights is None else _weights(weights, len(y), name)
        self._magnitude: tuple[float, float] | None = None

    @property
    def x(self) -> NDArray[Any]:
        """The samples (N, *shape) as stored; a part of a larger array is a copy, so prefer `take`."""
        return self._stored if self._rows is None else self._stored[self._rows]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, (C, *spatial) or (features,)."""
        return self._stored.shape[1:]

    @property
    def holds_bytes(self) -> bool:
        """True if x is stored as bytes, such as the pixels of images."""
        return self._stored.dtype == np.uint8

    def magnitude(self) -> tuple[float, float]:
        """Return (largest magnitude, root mean square) of the samples of this split.

        Only every k-th chunk of more than `LOOKED` numbers is read; the result is cached.
        """
        if self._magnitude is None:
            self._magnitude = self._measured()
        return self._magnitude

    def _measured(self) -> tuple[float, float]:
        largest, squares, count = 0.0, 0.0, 0
        for chunk in self.chunks():
            largest, count = max(largest, float(chunk.max()), -float(chunk.min())), count + chunk.size
            with np.errstate(over="ignore"):
                squares += sum_of_squares(chunk.ravel())
        return largest, (squares / count) ** 0.5

    def chunks(self) -> Iterator[NDArray[np.float64]]:
        """Yield the samples in float64; of more than `LOOKED` numbers only every k-th chunk."""
        stored, size = np.asarray(self._stored), self._stored[0].size
        step = max(1, CHUNK // max(1, size))
        rows = None if self._rows is None else np.sort(self._rows)  # a file is read in its order
        for start in range(0, len(self), step * -(-len(self) * size // LOOKED)):
            some = slice(start, start + step)
            yield np.asarray(stored[some] if rows is None else stored.take(rows[some], axis=0), np.float64)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Rows, dtype: DTypeLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return some samples, converted: C-contiguous, writable copies.

        Parameters
        ----------
        rows : whole numbers (n,), or a slice
        dtype : the network's float dtype

        Returns
        -------
        x : (n, *shape) of `dtype`
        y : labels (n,) as int64, or targets (n, ...) of `dtype`

        Raises
        ------
        DataError
            A number is too large for `dtype`.
        """
        x, y = self.converted(dtype)
        return x[rows], y[rows]

    def converted(self, dtype: DTypeLike) -> "tuple[Converted, Converted]":
        """Return all samples and targets as two array-likes that convert the indexed rows, like `take`."""

        def samples(rows):
            stored = rows if self._rows is None else self._rows[rows]
            return _copy(self._stored, stored, dtype)

        def targets(rows):
            return _copy(self.y, rows, np.int64 if self.y.ndim == 1 else dtype)

        too_large = f"{self.name} holds a number too large for {np.dtype(dtype)}"
        shape = (len(self), *self.input_shape)
        return Converted(samples, shape, too_large), Converted(targets, self.y.shape, too_large)

    def nbytes(self, dtype: DTypeLike) -> int:
        """Size in bytes of all samples and targets, converted to `dtype`."""
        numbers = len(self) * int(np.prod(self.input_shape, dtype=np.int64))
        return numbers * np.dtype(dtype).itemsize + self.y.size * (8 if self.y.ndim == 1 else np.dtype(dtype).itemsize)

    def part(self, rows: Rows) -> "Split":
        """Return the samples `rows` (as for `take`) as a new Split; x is shared, not copied."""
        part, chosen = copy.copy(self), np.arange(len(self))[rows]
        part._rows = chosen if self._rows is None else self._rows[chosen]
        part.y, part._magnitude = self.y[chosen], None
        part.weights = None if self.weights is None else self.weights[chosen]
        part.places = None if self.places is None else (self.places[0], self.places[1][chosen])
        return part

    def fingerprint(self) -> dict[str, Any]:
        """Return number, form and a hash of samples and targets, to compare a split with a later one.

        Arrays of up to 16 MB are hashed completely, larger ones by 16 MB of rows spread over all.

        Returns
        -------
        dict that JSON can hold
        """
        forms = {"sample": (self._stored, self.input_shape), "target": (self.y, self.y.shape[1:])}
        found: dict[str, Any] = {"rows": len(self)}
        found |= {f"{name} form": f"{array.dtype} {shape}" for name, (array, shape) in forms.items()}
        for name, array, rows in (("samples", self._stored, self._rows), ("targets", self.y, None)):
            count = min(len(self), max(1, HASHED // max(1, array[0].nbytes)))
            chosen = spread(len(self), count)
            parts = array[chosen if rows is None else rows[chosen]]
            found[name] = blake2b(np.ascontiguousarray(parts).tobytes(), digest_size=16).hexdigest()
        if self.weights is not None:
            found["weights"] = blake2b(self.weights.tobytes(), digest_size=16).hexdigest()
        return found

    def changed(
        self,
        y: NDArray[Any] | None = None,
        columns: Sequence[int] | None = None,
        shape: tuple[int, ...] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> "Split":
        """Return a copy with other labels or targets, order of the columns of x, shape of a sample, or weights."""
        changed = copy.copy(self)
        if weights is not None:
            changed.weights = weights
        if y is not None:
            changed.y = y
        if columns is not None:
            changed._stored = np.asarray(self._stored)[:, columns]
        if shape is not None:
            changed._stored = self._stored.reshape(-1, *shape)
        return changed

    def hold_out(self, share: float, seed: int = 0) -> "tuple[Split, Split | None]":
        """Return (training, validation): `share` of the samples held out; a share of 0 gives (self, None).

        Labels are stratified; the draw depends on the seed and the row numbers alone (see `data.holdout`).
        """
        check_share(share)
        if share == 0:
            return self, None
        held = held_out(self.y, share, seed, self.name)
        return self.part(np.delete(np.arange(len(self)), held)), self.part(held)


@dataclass(frozen=True)
class Converted:
    """Samples or targets of a Split: `converted[rows]` reads some rows and raises the errors of `Split.take`."""

    read: Callable[[Any], NDArray[Any]]
    shape: tuple[int, ...]
    too_large: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        try:
            with np.errstate(over="raise"):
                return self.read(rows)
        except FloatingPointError as error:
            raise DataError(self.too_large) from error


@dataclass(frozen=True)
class Dataset:
    """The result of a reader: a training split, optional splits for validation and test, the meaning of the labels.

    DataError if these do not agree.

    Attributes
    ----------
    name : str
    train : Split
    validation, test : Split or None
        Validation chooses the best epoch; the test set is evaluated once, at the end of a run.
    classes : int or None
        The number of classes if y holds labels (0 to classes - 1), by default derived from the labels; None if y holds
        targets.
    class_names : tuple of str or None
        One name per class.
    columns, targets : tuple of str or None
        One name per input, and per number of a target, if samples are rows of a table.
    validation_share, test_share : float
        The share of all samples that `data.load` holds out of `train`, keyed by the run's seed; 0 if a reader has
        divided them itself.
    notes : tuple of str
        What a reader says about its files: what it left out or took for granted, a line each.
    division : tuple of str
        Where the validation and test samples come from, a line each.
    encoding : Encoding or None
        How the columns of a table became the inputs.
    description : str
        The columns of a table, shown to a person.
    raw_range : (low, high) or None
        The range of the samples' numbers, if it is known beforehand: 0 to 255 by default, for bytes that are not a
        table. A run begins its network with ``minmax(low, high)`` for this range.
    depth : str
        The type of the pixels of image files, such as "uint16"; "" for other samples. Networks take images of the
        depth that they were trained on. A run begins its network with ``minmax``, fitted to the training samples, if
        the depth has no `raw_range`.
    """

    name: str
    train: Split
    validation: Split | None = None
    test: Split | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    validation_share: float = 0.0
    test_share: float = 0.0
    notes: tuple[str, ...] = ()
    division: tuple[str, ...] = ()
    encoding: Encoding | None = None
    description: str = ""
    raw_range: tuple[float, float] | None = None
    depth: str = ""

    def __post_init__(self) -> None:
        splits = [split for split in (self.train, self.validation, self.test) if split is not None]
        for what in ("input_shape", "target_shape"):
            shapes = [split.y.shape[1:] if what == "target_shape" else split.input_shape for split in splits]
            odd = next((shape for shape in shapes if shape != shapes[0]), None)
            if odd is not None:
                other = "test" if self.test is splits[shapes.index(odd)] else "validation"
                raise DataError(f"{self.name}: training and {other} differ in {what}: {shapes[0]} and {odd}")
        for name in ("validation", "test"):
            share = getattr(self, f"{name}_share")
            check_share(share, f"{name}_share")
            if share and getattr(self, name) is not None:
                raise DataError(f"{self.name}: there is a {name} set already, and a share of {share} to hold out")
        if not self.validation_share + self.test_share < 1:
            raise SpecError(
                f"validation and test hold out {self.validation_share + self.test_share:g} of the samples together, "
                "and leave none to train with"
            )
        if self.raw_range is None and self.columns is None and self.train.holds_bytes:
            object.__setattr__(self, "raw_range", BYTES)
        if self.targets is not None and (self.train.y.ndim == 1 or self.train.y[0].size != len(self.targets)):
            raise DataError(f"{self.name}: {len(self.targets)} names for targets of shape {self.train.y.shape[1:]}")
        if self.train.y.ndim > 1:
            return
        if self.class_names is not None:
            object.__setattr__(self, "classes", len(self.class_names))
        elif self.classes is None:
            object.__setattr__(self, "classes", self._count_classes(splits))
        classes = self.classes or 0
        for split in splits:
            wrong = split.y >= classes
            if wrong.any():
                first = int(wrong.argmax())
                row = first if split._rows is None else split._rows[first]
                raise DataError(
                    f"{split.name}: the label of row {row} (counted from 0) is {split.y[first]}, but labels are whole "
                    f"numbers from 0 to {classes - 1}"
                )

    def _count_classes(self, splits):
        """Return the largest label + 1; DataError if there are more classes than samples can support."""
        largest, samples = max(int(split.y.max()) for split in splits), sum(len(split) for split in splits)
        if largest >= max(samples, FEW_SAMPLES):
            raise DataError(
                f"{self.train.name}: the label {largest} would mean {largest + 1} classes for {samples} samples; labels"
                " are counted from 0, and a value to be predicted is a target, a float of shape (N, 1)"
            )
        return largest + 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, (C, *spatial) or (features,)."""
        return self.train.input_shape


def check_channels(shape: tuple[int, ...], name: object) -> None:
    """Raise DataError if samples of this shape look like images with channels last: (H, W, 1), (H, W, 3), (H, W, 4)."""
    if len(shape) > 2 and shape[-1] in (1, 3, 4) and min(shape[:-1]) > 4:
        axes = ", ".join(map(str, (0, len(shape), *range(1, len(shape)))))
        raise DataError(
            f"{name}: samples of shape {tuple(shape)} have their channels last, but (channels, height, width) is "
            f"expected; use x.transpose({axes})"
        )


def check_share(validation: Any, name: str = "validation") -> None:
    """Raise SpecError unless `validation` is a share from 0 to below 1; for a reader's `validate`."""
    number = isinstance(validation, Real) and not isinstance(validation, bool)
    if not number or not 0 <= validation < 1:
        raise SpecError(f"{name}: expected the share of samples to hold out, from 0 to below 1, got {validation}")


def check_share_or_path(value: Any, name: str) -> None:
    """Raise SpecError unless `value` is a share, as for `check_share`, or a path; for a reader's `validate`."""
    if not isinstance(value, str):
        check_share(value, name)
        return
    try:
        float(value or "0")
    except ValueError:
        return
    raise SpecError(f"{name}: expected a share (without quotes) or a path, got {value!r}")


def as_samples(array: NDArray[Any]) -> NDArray[Any]:
    """Return samples in network form: (N,) gains a feature axis, bytes (N, H, W) are images and gain a channel."""
    if array.ndim == 1:
        return array[:, None]
    return array[:, None] if array.ndim == 3 and array.dtype == np.uint8 else array


def as_targets(array: NDArray[Any]) -> NDArray[Any]:
    """Return labels (N,) or targets (N, ...): whole numbers (N, 1) become labels, real numbers (N,) targets (N, 1)."""
    if array.dtype.kind in "biu" and array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array[:, None] if array.dtype.kind == "f" and array.ndim == 1 else array


def spread(n: int, count: int) -> NDArray[np.int64]:
    """Choose `count` of n row numbers, always the same: one from each of `count` equal spans.

    The position within the span is hashed, so that no order of the rows aligns with the choice.
    """
    ends = np.arange(count + 1) * n // count
    return ends[:-1] + (hashed(np.arange(count)) % np.diff(ends).astype(np.uint64)).astype(np.int64)


def sum_of_squares(x: NDArray[Any]) -> float:
    """Return ||x||^2 of a vector, without BLAS, whose threads may deadlock after a fork."""
    return float(np.einsum("i,i", x, x))


def _weights(weights, count, name):
    """Return the weights of samples as an array (N,)."""
    if is_masked(weights):
        raise DataError(f"{name}: weights holds masked numbers; {MASKED}")
    weights = np.asarray(weights)
    if weights.dtype.kind not in "biuf" or weights.shape != (count,):
        raise DataError(
            f"{name}: expected weights ({count},) of numbers, one a sample, got {weights.dtype} {weights.shape}"
        )
    wrong = ~((weights >= 0) & (weights < np.inf))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{name}: weights are finite numbers from 0 on, but row {row} (counted from 0) has {weights[row]}"
        )
    return weights.astype(np.float64)


def _check_labels(y, name):
    """Raise DataError for integer labels (N,) that are not class numbers."""
    if y.min() < 0:
        row = int((y < 0).argmax())
        hint = "; for labels -1 and 1 use (y + 1) // 2" if np.isin(y, (-1, 1)).all() else ""
        raise DataError(f"{name}: the label of row {row} (counted from 0) is {y[row]}, but labels begin at 0{hint}")
    if y.max() > MOST_LABEL:
        row = int(y.argmax())
        raise DataError(
            f"{name}: the label of row {row} (counted from 0) is {y[row]}, but labels are the numbers of classes, "
            f"from 0 to at most {MOST_LABEL}"
        )


def _copy(array, rows, dtype):
    part = np.asarray(array)[rows]  # asarray: Numba accepts only a plain view of a memory map
    if isinstance(rows, slice):
        return part.astype(dtype, order="C")
    return np.ascontiguousarray(part, dtype)  # a fancy index has already copied


def is_masked(array: Any) -> bool:
    """Tell whether an array is one of numpy.ma and a number of it is masked; any number may lie there."""
    ma = sys.modules.get("numpy.ma")  # who has such an array has imported it
    return ma is not None and bool(ma.is_masked(array))


def _first_row_not_finite(array):
    if array.dtype.kind != "f":
        return None
    step = max(1, CHUNK // max(1, array[0].size))
    for start in range(0, len(array), step):
        chunk = np.isfinite(array[start : start + step])
        if not chunk.all():
            return start + int(chunk.reshape(len(chunk), -1).all(axis=1).argmin())
    return None
