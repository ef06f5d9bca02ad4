"""The schema of a network's training data, stored with it, so that later data is matched by name and units.

The same rules hold for `predict`, `evaluate` and validation data:

* Columns and classes that have names on both sides are matched by name. A table, or a frame in memory, is encoded as
  the table of training was (see `encoding`).
* Numbers are used unchanged, and must fit: their root mean square is at most `TOO_LARGE` times the largest magnitude of
  training. A few samples of many may be larger (`FEW`), since outliers are not other units.
* Image files must have the depth of those of training.
* A network that was trained on bytes, or begins with `minmax(low, high)`, takes raw numbers, such as pixels. Bytes are
  raw. The largest magnitude of other samples, all together, must be at least `TOO_SMALL` times that of training, unless
  all numbers are whole and one is above 1, or all are 0. Bytes for a network that was trained on other numbers, and
  does not scale them, have the same bound.
* A network that begins with a layer that is fitted to the samples takes raw units. Whole numbers are raw. Other numbers
  must be in the units of training, channel by channel; see `Schema._check_units`. Inputs of categories have no units.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DataError
from ..registry.specs import did_you_mean
from .encoding import Encoding, match_names
from .frames import encoded, is_frame
from .split import DEPTHS, Dataset, Split, spread, sum_of_squares

TOO_LARGE = 4.0
TOO_SMALL = 1 / 8
FEW = 1 / 10  # share of several samples, or one of them, that may be too large
HUNDREDTH = 1 / 100  # of the magnitudes of training: such a channel, or all of several samples, is in other units
ROUNDED = 1e-6  # relative error of numbers in float32, with a margin
SEVERAL = 8  # samples whose range says something
NEAR = 10.0  # largest magnitude of numbers that may have been scaled
SPREAD = 4096  # samples of a set whose units are checked, spread evenly over it
LISTED = 8  # maximum number of names in an error message


@dataclass(frozen=True)
class Schema:
    """The properties of a network's training data; without arguments nothing is known, and all data fits.

    Attributes
    ----------
    columns : tuple of str or None
        Names of the features, in the order of the network's inputs.
    classes : tuple of str or None
        Names of the classes, in the order of the network's outputs; None if they are numbers from 0.
    holds_bytes : bool
        Whether the samples were bytes.
    largest : float
        Largest magnitude; 0 if unknown.
    targets : tuple of str or None
        Names of the targets, in the order of the network's outputs; None if they are classes or have no names.
    encoding : Encoding or None
        How the columns of a table become the inputs, which `columns` names.
    ranges : tuple of (low, high) or None
        Lowest and highest number of each channel, for a network that begins with a layer that is fitted to them.
    raw_range : (low, high) or None
        The range of raw numbers that the network's first layer, ``minmax(low, high)``, makes 0 to 1.
    depth : str
        The type of the pixels of the image files, such as "uint16"; "" for other samples.
    """

    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    holds_bytes: bool = False
    largest: float = 0.0
    targets: tuple[str, ...] | None = None
    encoding: Encoding | None = None
    ranges: tuple[tuple[float, float], ...] | None = None
    raw_range: tuple[float, float] | None = None
    depth: str = ""
    _squares: tuple[float, float] = field(init=False, repr=False, compare=False)  # of numbers that fit
    _bounds: Any = field(
        init=False, repr=False, compare=False
    )  # the ranges as arrays (C, 1), wider by what rounding to float32 changes
    _with_units: Any = field(init=False, repr=False, compare=False)  # indices of channels of numbers; None: all are

    def __post_init__(self) -> None:
        least, most = self.largest * TOO_SMALL * self._takes_raw, self.largest * TOO_LARGE or np.inf
        bounds = with_units = None
        if self.ranges is not None:
            low, high = np.array(self.ranges, np.float64).T[:, :, None]
            sizes = np.maximum(abs(low), abs(high))
            bounds = low - ROUNDED * sizes, high + ROUNDED * sizes
            if self.encoding is not None and not all(self.encoding.numbers) and len(low) == len(self.encoding.numbers):
                with_units = np.flatnonzero(self.encoding.numbers)
                sizes = sizes[with_units]
            least = HUNDREDTH * float(np.sqrt(np.square(sizes).sum() / max(sizes.size, 1)))
        object.__setattr__(self, "_squares", (least * least, most * most))
        object.__setattr__(self, "_bounds", bounds)
        object.__setattr__(self, "_with_units", with_units)

    @classmethod
    def of(
        cls,
        split: Split,
        columns: tuple[str, ...] | None = None,
        classes: tuple[str, ...] | None = None,
        targets: tuple[str, ...] | None = None,
        encoding: Encoding | None = None,
    ) -> "Schema":
        """Return the schema of a training split."""
        if classes is not None and tuple(classes) == tuple(map(str, range(len(classes)))):
            classes = None
        return cls(columns, classes, bool(split.holds_bytes), split.magnitude()[0], targets, encoding)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> "Schema":
        """Return the schema of a data set's training split."""
        schema = cls.of(dataset.train, dataset.columns, dataset.class_names, dataset.targets, dataset.encoding)
        return replace(schema, depth=dataset.depth)

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Schema":
        """Read the output of `table`; ValueError or TypeError for anything else.

        Older versions multiplied bytes by a factor "scale", 1 / high, outside of the network: that is the raw range
        from 0 to high.
        """
        columns, classes = (table[key] and tuple(map(str, table[key])) for key in ("columns", "classes"))
        holds_bytes, largest = bool(table["holds_bytes"]), float(table["largest"])
        targets, encoding = table.get("targets"), table.get("encoding")  # missing in older files, as the next may be
        ranges = table.get("ranges") and tuple((float(low), float(high)) for low, high in table["ranges"])
        low, high = table.get("raw_range") or (0, 0)
        if holds_bytes and (scale := float(table.get("scale", 1))) != 1:
            high, largest = (float(f"{number / scale:.12g}") for number in (1, largest))
        return cls(
            columns, classes, holds_bytes, largest, targets and tuple(map(str, targets)),
            None if encoding is None else Encoding.from_table(encoding), ranges or None,
            (float(low), float(high)) if low != high else None, str(table.get("depth", "")),
        )  # fmt: skip

    def table(self) -> dict[str, Any]:
        """Return the attributes, for JSON."""
        table = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return table | {"encoding": None if self.encoding is None else self.encoding.table()}

    @property
    def _takes_raw(self):
        """True if the numbers of training were raw, such as pixels."""
        return self.holds_bytes or self.raw_range is not None

    @property
    def of_columns(self) -> Encoding | None:
        """How a table becomes the inputs; of older files, whose columns are all numbers, too."""
        if self.encoding is None and self.columns is not None:
            return Encoding.of_numbers(self.columns)
        return self.encoding

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Names of the classes, or else of the targets; None: they have numbers."""
        return self.classes or self.targets

    def after(self, former: "Schema | None") -> "Schema":
        """Return this schema for a network trained before on `former` (None: not trained)."""
        if former is None or (former.holds_bytes != self.holds_bytes and self.raw_range is None):
            return self
        ranges = self.ranges
        if ranges is not None and former.ranges is not None and len(ranges) == len(former.ranges):
            pairs = zip(ranges, former.ranges, strict=True)
            ranges = tuple((min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs)
        return replace(self, largest=max(self.largest, former.largest), ranges=ranges)

    def check_depth(self, dataset: Dataset) -> None:
        """Raise DataError for image files of another depth than those of training."""
        known = self.depth or ("uint8" if self.holds_bytes else "")  # of older files
        if known and dataset.depth and known != dataset.depth:
            raise DataError(
                f"{dataset.train.name} holds images with pixels of {DEPTHS[dataset.depth]}, but the network was "
                f"trained on pixels of {DEPTHS[known]}"
            )

    def matched(self, dataset: Dataset) -> Dataset:
        """Return the `Dataset` with columns and classes in the order of training.

        Raises
        ------
        DataError
            Columns are missing or too many, a class is unknown (a number in a table where the network knows names), or
            the numbers do not fit.
        """
        parts = [part for part in ("train", "validation", "test") if getattr(dataset, part) is not None]
        splits = [getattr(dataset, part) for part in parts]
        columns, names = dataset.columns, dataset.class_names
        if self.columns is not None and columns is not None:
            order = self._columns(dataset, columns)
            splits = [split.changed(columns=order) for split in splits]
            columns = self.columns
        if self.classes is not None and names is not None:
            splits = self._relabelled(splits, names)
            names = self.classes
        elif self.classes is not None and columns is not None and splits[0].y.ndim == 1:
            raise DataError(
                f"{splits[0].name}: its labels are numbers, but the network was trained on the classes "
                f"{_listed(self.classes)}"
            )
        targets = dataset.targets
        if self.targets is not None and targets is not None and targets != self.targets:
            if sorted(targets) != sorted(self.targets):
                raise DataError(
                    f"{splits[0].name}: the targets are {_listed(targets)}, but the network was trained on "
                    f"{_listed(self.targets)}"
                )
            places = [targets.index(name) for name in self.targets]
            splits, targets = [split.changed(y=split.y[:, places]) for split in splits], self.targets
        matched: dict[str, Any] = {part: self.checked(split) for part, split in zip(parts, splits, strict=True)}
        return replace(dataset, **matched, columns=columns, class_names=names, targets=targets)

    def checked(self, split: Split) -> Split:
        """Return the `Split`; DataError if its numbers do not fit."""
        if self.largest:
            self._check(*split.magnitude(), split, split.name)
        if self.ranges is not None:
            some = spread(len(split), min(len(split), SPREAD))
            self._check_units(split.converted(np.float64)[0][some], split.name)
        return split

    def checked_array(self, x: Any, dtype: DTypeLike) -> Any:
        """Return the samples x as an array, for a network of `dtype`; DataError if their numbers do not fit."""
        if not isinstance(x, np.ndarray):
            if self.columns is not None and is_frame(x) and (encoding := self.of_columns) is not None:
                return self.checked_array(encoded(x, encoding), dtype)
            try:
                x = np.asarray(x)
            except (TypeError, ValueError):
                return x  # not an array; the network raises the error
        if x.dtype == dtype:  # the usual case, decided in a microsecond: a root mean square in range proves the fit
            numbers, (least, most) = x, self._squares
            if self._with_units is not None and self._channels(x) is not None:
                numbers = x[:, self._with_units]
            flat = numbers.ravel()
            if least * flat.size <= sum_of_squares(flat) <= most * flat.size and self._inside(x):
                return x
        if self.largest and x.size and x.dtype.kind in "biuf":  # other dtypes are refused later, not for their scale
            numbers = np.abs(x.astype(np.float64))
            mean = (sum_of_squares(numbers.ravel()) / x.size) ** 0.5
            self._check(float(numbers.max()), mean, x, "x")
            if self.ranges is not None and x.dtype.kind == "f":
                self._check_units(x, "x")
        return x

    def _inside(self, x):
        """Tell whether all numbers are in the ranges of training, if there are any."""
        if self._bounds is None:
            return True
        channels = self._channels(x)
        return channels is None or bool(((channels >= self._bounds[0]) & (channels <= self._bounds[1])).all())

    def _channels(self, x):
        """Return samples as (N, C, positions); None if their shape is not that of training."""
        return (
            x.reshape(len(x), len(self.ranges or ()), -1)
            if x.size and x.ndim > 1 and x.shape[1] == len(self.ranges or ())
            else None
        )

    def _check_units(self, x, name):
        """Refuse numbers in other units than those of training, and warn if they look as if they were scaled already.

        The network scales them itself. A channel is refused if it never came near 0 in training and all of its numbers
        are at most a hundredth of those of training, or if they are typically a hundred times as large; several samples
        are refused if this hundredth holds for all channels. Whole numbers do not count, nor do
        categories. If all numbers are small, and more than half are outside the ranges of training, they may be raw or
        not: this is a warning.
        """
        channels = self._channels(x)
        if channels is None or not np.isfinite(channels).all():
            return
        bounds, places = self._bounds, range(channels.shape[1])
        if self._with_units is not None:
            places = self._with_units
            channels, bounds = channels[:, places], [bound[places] for bound in bounds]
        if not channels.size:
            return
        low, high = (bound[:, 0] for bound in bounds)
        most, least = np.maximum(abs(low), abs(high)), np.minimum(abs(low), abs(high))
        sizes = np.abs(channels, dtype=np.float64)
        top = sizes.max(axis=(0, 2))
        small, near = top <= most * HUNDREDTH, top.max() <= NEAR
        if not (near or small.any() or (top * HUNDREDTH > most).any()):
            return
        fine = (channels != np.rint(channels)).any(axis=(0, 2))  # channels with numbers that are not whole
        away = (low * high > 0) & (least >= most / 10)
        large = (np.median(sizes, axis=(0, 2)) * HUNDREDTH > most) & (most > 0)
        wrong = fine & (large | (small & away) | (len(channels) >= SEVERAL and small.all()))
        if wrong.any():
            first = int(wrong.argmax())
            channel = self._channel(places[first])
            raise DataError(
                f"{name}: {channel} holds numbers up to {top[first]:.4g}, but in training they were from "
                f"{low[first]:.4g} to {high[first]:.4g}; the network scales them itself: give them as they were in the "
                "training data, in the same units and not scaled"
            )
        outside = ((channels < bounds[0]) | (channels > bounds[1])) & (channels != np.rint(channels))
        if near and 2 * np.count_nonzero(outside) > channels.size:
            first = int(np.count_nonzero(outside, axis=(0, 2)).argmax())
            channel = self._channel(places[first])
            warnings.warn(
                f"{name}: more than half of the numbers are outside the ranges of training, such as those of "
                f"{channel}, which was from {low[first]:.4g} to {high[first]:.4g}; the network scales them"
                " itself, so they must not be scaled before",
                stacklevel=4,
            )

    def _channel(self, number):
        names = self.columns or ()
        return f"column {names[number]!r}" if len(names) == len(self.ranges or ()) else f"feature {number} (from 0)"

    def _check(self, largest, mean, samples, name, expected=""):
        """Refuse samples, a `Split` or an array, by their largest magnitude and root mean square; see the rules above.

        They are read only if these do not decide.
        """
        if largest == 0 or not largest < np.inf:  # NaN and infinity are not errors of scale
            return
        of_bytes = samples.holds_bytes if isinstance(samples, Split) else samples.dtype == np.uint8
        small = self._takes_raw != of_bytes and largest < self.largest * TOO_SMALL
        if small and self._takes_raw:
            small = largest <= 1 or not all((part == np.rint(part)).all() for part in _parts(samples))
        if small or (mean > self.largest * TOO_LARGE and self._many_above(samples)):
            expected = expected or f"those of training were {'bytes ' * self.holds_bytes}up to {self.largest:.4g}"
            remedy = "give the bytes themselves (uint8)" if self.holds_bytes else "scale them as for training"
            if self.raw_range is not None:
                low, high = self.raw_range
                remedy = f"the network scales them itself, minmax({low:g}, {high:g}): give raw numbers, not scaled"
            raise DataError(
                f"{name}: the numbers are up to {largest:.4g} (root mean square {mean:.4g}), but {expected}; {remedy}"
            )

    def _many_above(self, samples):
        """Tell whether more than a few of the samples hold a number that is too large."""
        above = count = 0
        for part in _parts(samples):
            sizes = abs(part.reshape(len(part), -1)).max(axis=1)
            above, count = above + int((sizes > self.largest * TOO_LARGE).sum()), count + len(part)
        return above > max(count * FEW, count > 1)

    def _columns(self, dataset, columns):
        """List the position in the data of each training column."""
        mine = self.columns or ()
        match_names(dataset.train.name, mine, columns, set())
        place = {name: i for i, name in enumerate(columns)}
        return [place[name] for name in mine]

    def _relabelled(self, splits, names):
        """Return the splits with labels renumbered to the classes of training."""
        mine = self.classes or ()
        unknown = [name for name in names if name not in mine]
        if unknown:
            hint = did_you_mean(unknown[0], mine) or f"; it knows {_listed(mine)}"
            raise DataError(f"{splits[0].name}: the network was not trained on the class {_listed(unknown)}{hint}")
        places = np.array([mine.index(name) for name in names])
        return [split.changed(y=places[split.y]) for split in splits]


def _parts(samples):
    """Return the samples of a `Split`, or of an array, in float64, in parts."""
    return samples.chunks() if isinstance(samples, Split) else [np.asarray(samples, np.float64)]


def _listed(names):
    return ", ".join(map(repr, names[:LISTED])) + (", ..." if len(names) > LISTED else "")


def check_raw(split: Split, raw_range: tuple[float, float]) -> None:
    """Raise DataError if samples to train with cannot be raw numbers of a range that the network scales itself."""
    low, high = raw_range
    known, expected = Schema(largest=max(abs(low), abs(high)), raw_range=raw_range), f"a range of {low:g} to {high:g}"
    known._check(*split.magnitude(), split, split.name, f"{expected} was expected")
