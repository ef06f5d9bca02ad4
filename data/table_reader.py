"""From a table to a data set: inputs and labels among its columns, rows to train, validate and test with.

Readers of files and frames derive from `TableReader`, which does all but the reading:

* `label` names the columns to predict, or counts them (0 the first, -1 the last). All other columns are inputs, or
  those of `features`; those of `drop` are not.
* With target="class" one label is a class: whole numbers from 0, or words, which become classes in alphabetical order.
  Several labels are answers, each 0 or 1. With target="value" labels are real numbers.
* `kinds` overrides the kinds of input columns, "number" or "category".
* `categories` says what a category becomes: "onehot", an input per value, or "codes", one input (see `encoding`).
* Missing cells are refused; with missing="drop" rows that miss an input or a label are left out; with "mean" and
  "indicator" inputs are filled (see `encoding`). A label is never filled: its rows are dropped or refused.
* `validation` and `test` are each a share of the rows, the name of another file (it ends like one, see `SUFFIXES`) with
  the same columns, or the name of a column whose cells say which rows they are: train (or training), validation (valid,
  val, dev) or test, in upper or lower case. Shares are of all rows; the test rows are drawn first.
* `weight` names a column of numbers from 0 on, the factors of the losses of the rows; it is no input.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpecError
from ..registry import Options
from ..registry.specs import did_you_mean
from .encoding import Categories, Encoding, Missing
from .holdout import divide
from .labels import classes, is_number, parts_of, refuse_two_spellings
from .split import Dataset, Split, check_share
from .table import FIRST, Kind, Table, cells_are, describe, listed_places, refuse_odd, short

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".parquet", ".pq", ".arrow", ".feather", ".ipc")  # of names of files
MANY_CLASSES = 20  # above, whole numbers of which each is rare look like values

# Names of the columns, and a remark on them for errors -> how to read each column that is wanted: as numbers, as texts
# ("category"), or as what it holds (None).
Choose: TypeAlias = Callable[[Sequence[str], str], Mapping[str, Kind | None]]


class Roles(NamedTuple):
    """Names of the columns by what they are for."""

    labels: tuple[str, ...]
    features: tuple[str, ...]
    splits: tuple[str, ...]  # columns that divide the rows
    weights: tuple[str, ...] = ()  # the column of the weights, if there is one


class TableReader(Options):
    """Base of the readers of tables; a subclass has `read`."""

    path: str
    label: str | int | tuple[str | int, ...] | None = None
    target: Literal["class", "value"] = "class"
    validation: float | str = 0.1
    test: float | str = 0.0
    features: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    kinds: dict[str, Kind] | None = None
    missing: Missing = "refuse"
    categories: Categories = "onehot"
    weight: str | None = None

    dataset_name = "table"
    files = ("validation", "test")  # options that may name a file

    def validate(self) -> None:
        for name in self.files:
            value = getattr(self, name)
            try:
                if not isinstance(value, str):
                    check_share(value)
                elif not value or is_number(value):
                    raise SpecError(f"validation: expected a share (without quotes), a file or a column, got {value!r}")
            except SpecError as error:
                raise SpecError(str(error).replace("validation", name, 1)) from None
        if self.label == ():
            raise SpecError("label: expected the name or the index of a column, or several, got none")

    def read(self, path: Any, choose: Choose, hints: Collection[str]) -> Table:
        """Read the columns that `choose` wants; `hints` are names that a header may hold."""
        raise NotImplementedError

    def load(self, known: Encoding | None = None, seed: int = 0, fold: tuple[int, int] | None = None) -> Dataset:
        """Load the data set, encoded like the data of a network if `known` is its encoding.

        Shares are drawn with the seed, or the k-th of n folds validates, as `holdout.divide` says.

        Raises
        ------
        DataError
            The file is missing, damaged or of another kind, or its columns do not fit the options.
        """
        table, roles = self._read(self.path, known)
        y, names = self._targets(table, roles.labels)
        train, validation, test, division = self._divide(table, y, seed, fold)
        encoding, description = known, ""
        notes: tuple[str, ...] = ()
        if encoding is None:
            refuse_odd(table, [name for name in roles.features if name not in (self.kinds or {})])
            encoding = Encoding.fit(table, roles.features, self.missing, train, self.categories)
            description = describe(table, self._shown_roles(roles), train)  # before missing numbers are filled in
        if names is None and y.ndim == 1 and (count := len(np.unique(y))) > MANY_CLASSES and 10 * count > len(y):
            what = f"{count} different whole numbers in {len(y)} rows"
            notes = (f"{short(roles.labels)} has {what}, taken as classes; target='value' predicts numbers",)
        whole = _split(table, roles, encoding, y)
        held = self._held(self.validation if fold is None else 0.0, whole, validation, encoding, names)
        tested = self._held(self.test, whole, test, encoding, names)
        for part, option, split in (("validation", self.validation, held), ("test", self.test, tested)):
            if isinstance(option, str) and split is not None and (fold is None or part == "test"):
                how = "" if is_file(option) else f", as the column {short([str(option)])} says"
                division = (*division, f"{part}: {len(split)} rows of {split.name}{how}")
        return Dataset(
            self.dataset_name,
            whole if len(train) == len(whole) else whole.part(train),
            held,
            tested,
            class_names=names,
            columns=encoding.inputs,
            targets=roles.labels if y.ndim > 1 else None,
            notes=notes,
            division=division,
            encoding=encoding,
            description=description,
        )

    def _read(self, path: Any, known: Encoding | None, divide: bool = True) -> tuple[Table, Roles]:
        """Read the columns that are needed, with `divide` also those that divide the rows; leave out rows with gaps."""
        roles = Roles((), (), ())

        def choose(names: Sequence[str], remark: str) -> Mapping[str, Kind | None]:
            nonlocal roles
            roles = self._roles(path, names, remark, known, divide)
            kinds: Mapping[str, Kind] = known.kinds if known is not None else self.kinds or {}
            label: Kind = "category" if self.target == "class" and len(roles.labels) == 1 else "number"
            return {
                **{name: kinds.get(name) for name in roles.features},
                **dict.fromkeys(roles.labels, label),
                **dict.fromkeys(roles.splits, "category"),
                **dict.fromkeys(roles.weights, "number"),
            }

        labels = self.label if isinstance(self.label, tuple) else (self.label,)
        divide_by = [value for value in (self.validation, self.test) if not is_file(value)]
        named = [*labels, *divide_by, *(self.features or ()), *self.drop, *(self.kinds or ()), self.weight]
        hints = {name for name in named if isinstance(name, str)} | set(known.kinds if known else ())
        if self.label is None:
            raise DataError(self._ask_for_label(path, hints))
        table = self.read(path, choose, hints)
        for name in roles.features if known is None else ():
            if table.columns[name].codes is not None:
                refuse_two_spellings(table, table.columns[name], table.columns[name].texts, "value")
        return self._without_gaps(table, roles, known), roles

    def _ask_for_label(self, path, hints):
        """Return a sentence that names the columns, and a label that can be predicted."""
        names: Sequence[str] = ()

        def last(found: Sequence[str], remark: str) -> Mapping[str, Kind | None]:
            nonlocal names
            names = found
            return {found[-1]: None}

        numbers = self.read(path, last, hints).columns[names[-1]].numbers
        target = "" if numbers is None or not np.nan_to_num(numbers % 1).any() else ", target='value'"
        spec = f"{self.dataset_name}(path={str(path)!r}, label={names[-1]!r}{target})"
        return f'{path}: say which column to predict, such as --data "{spec}"; its columns are {short(names)}'

    def _roles(self, path, names, remark, known, divide):
        """Return what each column is for; DataError for a name that no column has."""
        labels = self.label if isinstance(self.label, tuple) else (self.label,)
        found = tuple(column_of(path, names, label, remark) for label in labels if label is not None)
        if twice := next((name for i, name in enumerate(found) if name in found[:i]), None):
            raise DataError(f"{path}: the label {short([twice])} is named twice")
        named = [str(value) for value in (self.validation, self.test) if isinstance(value, str) and not is_file(value)]
        splits = tuple(dict.fromkeys(column_of(path, names, value, remark) for value in named if divide))
        weights = () if self.weight is None else (column_of(path, names, self.weight, remark, "weight: "),)
        if weights and weights[0] in (*found, *splits):
            raise DataError(f"{path}: weight: {short(weights)} is a label, or divides the rows")
        if known is not None:
            known.match(str(path), names, (*found, *splits, *weights))
            return Roles(found, tuple(known.kinds), splits, weights)
        for option in ("features", "drop", "kinds"):
            for name in getattr(self, option) or ():
                column_of(path, names, name, remark, f"{option}: ")
        taken = {*found, *splits, *weights, *self.drop}
        if self.features is not None and (wrong := [name for name in self.features if name in taken]):
            raise DataError(
                f"{path}: features: {short(wrong)} is a label or the weight, divides the rows, or is in drop"
            )
        features = tuple(name for name in names if name not in taken and name in (self.features or names))
        if not features:
            raise DataError(
                f"{path} has {len(names)} columns, {short(names)}, and so no features besides the label"
                if len(names) > 1
                else f"{path} has one column, {short(names)}, and so no features; cells are separated by commas, "
                "semicolons or tabs"
            )
        if wrong := [name for name in self.kinds or () if name not in features]:
            raise DataError(f"{path}: kinds: {short(wrong)} is no input")
        return Roles(found, features, splits, weights)

    def _without_gaps(self, table, roles, known):
        """Drop the rows with missing cells, or refuse them, by the rule of `missing`."""
        rule = self.missing if known is None else known.missing
        if rule == "drop":
            gaps = table.gaps([*roles.features, *roles.labels, *roles.weights])
            if gaps.all():
                raise DataError(f"{table.name}: every row has a missing cell, so missing='drop' leaves none")
            count = int(gaps.sum())
            said = f"{table.said}, {count} dropped that miss a cell" if count else table.said
            return table.part(np.flatnonzero(~gaps))._replace(said=said) if count else table
        if self.target == "class" and len(roles.labels) == 1:
            remedy = "leave such rows out with missing='drop', or give the class a name"
        else:
            remedy = "leave such rows out with missing='drop'; a label is never filled in"
        table.refuse_missing(roles.labels, remedy)
        table.refuse_missing(roles.weights, "a weight is never filled in; 0 leaves a row out of the loss")
        if known is None and rule == "refuse":
            table.refuse_missing(
                roles.features,
                "missing='drop' leaves such rows out, 'mean' fills them in, 'indicator' also tells the network which",
            )
        return table

    def _targets(self, table, labels):
        """Return (y, names of the classes or None)."""
        if self.target == "class" and len(labels) == 1:
            return classes(table, table.columns[labels[0]])
        y = np.stack([table.columns[name].numbers for name in labels], axis=1)
        if self.target == "class":
            wrong = (y != 0) & (y != 1)
            if wrong.any():
                row = int(wrong.any(axis=1).argmax())
                k = int(wrong[row].argmax())
                raise DataError(
                    f"{table.name}, {table.where(row)}, column {short([labels[k]])}: each of several labels is 0 or 1, "
                    f"got {y[row, k]:g}; use target='value' for numbers to predict"
                )
        return y, None

    def _divide(self, table, y, seed, fold):
        """Return the numbers of the rows to train, validate and test with, None for none or another file's; lines."""
        rows = np.arange(table.rows)
        validation = test = None
        says, tests = (
            table.columns[value] if isinstance(value, str) and not is_file(value) else None
            for value in (self.validation, self.test)
        )
        if tests is not None:
            part = parts_of(table, tests)
            test = rows[part == 2]
            if tests is not says and (part == 1).any():
                raise DataError(
                    f"{table.name}: the column {short([tests.name])} has rows for validation too; give "
                    f"validation={tests.name!r}"
                )
            rows = rows[part != 2]
        if says is not None:
            part = parts_of(table, says)[rows]
            if (part == 2).any():
                if self.test != 0:
                    raise DataError(f"{table.name}: the column {short([says.name])} has test rows, and test is given")
                test = rows[part == 2]
            validation, rows = rows[part == 1], rows[part == 0]
        for name, option, found in (("validation", says, validation), ("test", tests, test)):
            if option is not None and found is not None and not len(found):
                raise DataError(f"{table.name}: no cell of the column {short([option.name])} says {name}")
        if not len(rows):
            raise DataError(f"{table.name}: no row is left to train with")
        share, tested = (0.0 if isinstance(value, str) else value for value in (self.validation, self.test))
        lines: tuple[str, ...] = ()
        found = divide(y[rows], share, tested, seed, fold, table.name)
        if fold is not None and isinstance(self.validation, str):
            lines = (
                f"left out: the rows that validation={self.validation!r} names, in place of which a fold validates",
            )
            validation = None
        if found.validation is not None:
            validation = rows[found.validation]
        if found.test is not None:
            test = rows[found.test]
        return rows[found.train], validation, test, (*lines, *found.lines)

    def _held(self, option, whole, rows, encoding, names):
        """Return the rows that validate or test: those of `whole`, or of another file, encoded alike; None: none."""
        if not is_file(option):
            return None if rows is None else whole.part(rows)
        table, roles = self._read(option, encoding, divide=False)
        y, theirs = self._targets(table, roles.labels)
        if names is not None or theirs is not None:
            y = self._as_trained(table, y, names, theirs)
        return _split(table, roles, encoding, y)

    def _as_trained(self, table, y, names, theirs):
        if names is None or theirs is None:
            raise DataError(f"{table.name}: classes are words there and numbers in {self.path}, or the reverse")
        if unknown := [name for name in theirs if name not in names]:
            raise DataError(f"{table.name} holds the class {short(unknown)}, which {self.path} does not")
        return np.array([names.index(name) for name in theirs])[y]

    def _shown_roles(self, roles):
        label = "value" if self.target == "value" else "class" if len(roles.labels) == 1 else "0 or 1"
        return {
            **dict.fromkeys(roles.features, ""),
            **dict.fromkeys(roles.labels, label),
            **dict.fromkeys(roles.splits, "split"),
            **dict.fromkeys(roles.weights, "weight"),
        }


def _split(table, roles, encoding, y):
    """Return the samples and targets of a table, with the weights of the rows if there are some."""
    weights = table.columns[roles.weights[0]].numbers if roles.weights else None
    return Split(encoding.encode(table), y, name=table.name, weights=weights, places=table.places)


def samples(
    dataset: str, path: Any, read: Callable[[Choose], Table], known: Encoding | None, without: str | None = None
) -> Dataset:
    """Return rows without labels, encoded as `known` says, or else of numbers; the targets of the `Dataset` are 0.

    The column `without` is no input.
    """

    def choose(names: Sequence[str], remark: str) -> Mapping[str, Kind | None]:
        if known is None:
            return {name: "number" for name in names if name != without}
        try:
            known.match(str(path), names, () if without is None else (without,))
        except DataError as error:
            raise DataError(f"{error}{remark}") from None
        return dict(known.kinds)

    table = read(choose)
    encoding = Encoding.of_numbers(tuple(table.columns)) if known is None else known
    x = encoding.encode(table)
    y = np.zeros((len(x), 1))
    return Dataset(dataset, Split(x, y, name=table.name), columns=encoding.inputs, encoding=encoding)


def column(path: Any, name: str, read: Callable[[Choose], Table]) -> NDArray[Any]:
    """Return one column as texts (N,), "" where a cell is missing."""

    def choose(names: Sequence[str], remark: str) -> Mapping[str, Kind | None]:
        return {column_of(path, names, name, remark): "category"}

    found = read(choose).columns[name]
    assert found.codes is not None
    return np.array([*found.texts, ""], dtype=object)[found.codes]


def column_of(path: Any, names: Sequence[str], which: str | int, remark: str = "", option: str = "") -> str:
    """Return the name of a column that is given by its name or index."""
    if isinstance(which, int) and -len(names) <= which < len(names):
        return names[which]
    if which in names:
        return str(which)
    if isinstance(which, str):
        hint = did_you_mean(which, names) or f"; its columns are {short(names)}"
        raise DataError(f"{path}: {option}it has no column {which!r}{hint}{remark}")
    raise DataError(f"{path} has {len(names)} columns, but label={which} was asked for; the first is 0, the last -1")


def is_file(value: float | str) -> bool:
    """Tell whether an option is the name of a file."""
    return isinstance(value, str) and value.lower().endswith(SUFFIXES)


def refuse_cells(name: object, count: int, first: Sequence[tuple[str, str]], hint: str = "") -> None:
    """Raise DataError for cells that cannot be read: their number and the places and faults of the first ones."""
    if count == 1:
        place, fault = first[0]
        raise DataError(f"{name}, {place}: {fault}{hint}")
    if count:
        told = [f"{place}: {fault}" for place, fault in first[:FIRST]]
        raise DataError(f"{name}: {cells_are(count)} not what the column holds: {listed_places(told, count)}{hint}")
