"""The numbers that a network takes for the columns of a table.

A column is a **number** or a **category**. `Encoding.fit` decides from the training data how each becomes numbers, and
is saved with the network, so that a later table with the same columns, in any order, is encoded alike:

* A number is one input, named like its column.
* A category is one input per value, 1 for the value of the row and 0 for the others (one-hot), named ``column=value``,
  in sorted order of the values of all rows of the training file. A value that the file does not have is refused later.
  With categories="codes" it is one input instead, the position of the value in that order, a whole number from 0, for a
  layer `embedding`.
* A missing number becomes the mean of the column ("mean", "indicator"); under "indicator" an input ``column missing``,
  1 where it was missing, follows, if a training row misses it. A missing value of a category becomes the most frequent
  value, the first in sorted order of several ("mean"), or one more value, ``column missing`` ("indicator"). Means and
  most frequent values are those of the training rows, never of rows held out.

scikit-learn's OneHotEncoder(), OrdinalEncoder() and SimpleImputer(add_indicator=True) give the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..registry.specs import did_you_mean
from .table import CONTROL, Column, Kind, Table, short

Missing: TypeAlias = Literal["refuse", "drop", "mean", "indicator"]
Categories: TypeAlias = Literal["onehot", "codes"]


@dataclass(frozen=True)
class Coding:
    """How one column becomes inputs.

    Attributes
    ----------
    name : str
    kind : "number" or "category"
    values : tuple of str
        Those of a category, in the order of its inputs, or of its codes.
    fill : float or None
        What replaces a missing cell: a number, or the position in `values`.
    indicator : bool
        True if an input tells that the cell was missing; in a category it is one more value.
    codes : bool
        True if a category is one input, the position of its value, in place of one for each value.
    """

    name: str
    kind: Kind = "number"
    values: tuple[str, ...] = ()
    fill: float | None = None
    indicator: bool = False
    codes: bool = False

    @classmethod
    def fit(
        cls, column: Column, missing: Missing, rows: NDArray[Any], table: Table, categories: Categories = "onehot"
    ) -> "Coding":
        """Choose the coding of a column; means and most frequent values are those of the training `rows`."""
        absent = column.missing
        if absent[rows].all():
            raise DataError(f"{table.name}: no training row has a value in the column {short([column.name])}; drop it")
        if column.codes is None:
            assert column.numbers is not None
            if missing not in ("mean", "indicator"):
                return cls(column.name)
            seen = column.numbers[rows]
            with np.errstate(over="ignore"):
                fill = float(np.mean(seen[~absent[rows]]))
            if not np.isfinite(fill):
                raise DataError(
                    f"{table.name}: the mean of the column {short([column.name])} is not finite; its numbers are too "
                    "large"
                )
            return cls(column.name, fill=fill, indicator=missing == "indicator" and bool(absent[rows].any()))
        used = np.unique(column.codes[~absent])
        values = tuple(sorted(column.texts[code] for code in used))
        if odd := next((value for value in values if CONTROL.search(value)), None):
            where = f"{table.name}, {table.where(column.first(odd))}, column {short([column.name])}"
            raise DataError(f"{where}: {short([odd])} holds a control character")
        codes = categories == "codes"
        if missing == "indicator":
            return cls(column.name, "category", values, indicator=bool(absent.any()), codes=codes)
        if missing == "mean":
            place = {value: i for i, value in enumerate(values)}
            seen = column.codes[rows]
            counts = np.zeros(len(values), int)
            for code, count in zip(*np.unique(seen[seen >= 0], return_counts=True), strict=True):
                counts[place[column.texts[code]]] = count
            return cls(column.name, "category", values, float(counts.argmax()), codes=codes)
        return cls(column.name, "category", values, codes=codes)

    @property
    def count(self) -> int:
        """Number of the values of a category, and one more if missing is a value."""
        return len(self.values) + self.indicator

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs."""
        if self.codes:
            return [self.name]
        names = [f"{self.name}={value}" for value in self.values] if self.kind == "category" else [self.name]
        return names + [f"{self.name} missing"] * self.indicator

    @property
    def fills(self) -> bool:
        """True if a missing cell has a meaning."""
        return self.fill is not None or (self.kind == "category" and self.indicator)

    def write(self, column: Column, x: NDArray[np.float64], table: Table) -> None:
        """Write the inputs (N, inputs) of a column, whose missing cells have a meaning."""
        absent = column.missing
        if self.kind == "number":
            assert column.numbers is not None
            x[:, 0] = column.numbers
            if self.fill is not None:
                x[absent, 0] = self.fill
            if self.indicator:
                x[:, 1] = absent
            return
        assert column.codes is not None
        place = {value: i for i, value in enumerate(self.values)}
        places = np.array([place.get(text, -1) for text in column.texts] + [0], np.int64)[column.codes]
        self._refuse_unseen(column, (places < 0) & ~absent, table)
        places[absent] = len(self.values) if self.indicator else int(self.fill or 0)
        if self.codes:
            x[:, 0] = places
            return
        x[...] = 0
        x[np.arange(len(x)), places] = 1

    def read(self, x: NDArray[Any]) -> list[Any]:
        """Return the cells (N,) of a column from its inputs (N, inputs): numbers, or texts; "" if one is missing.

        A missing cell without an indicator is that with which it was filled.
        """
        if self.kind == "number":
            return ["" if self.indicator and row[1] else _shortest(row[0]) for row in x.tolist()]
        places = x[:, 0].astype(np.int64) if self.codes else x.argmax(axis=1)
        return [[*self.values, ""][place] for place in places]

    def _refuse_unseen(self, column, wrong, table):
        if wrong.any():
            row = int(wrong.argmax())
            text = column.texts[column.codes[row]]
            count = "" if wrong.sum() == 1 else f" (and {wrong.sum() - 1} more cells)"
            hint = did_you_mean(text, self.values) or f"; it knows {short(self.values)}"
            raise DataError(
                f"{table.name}, {table.where(row)}, column {short([self.name])}: the training data has no value "
                f"{short([text])}{count}{hint}"
            )


@dataclass(frozen=True)
class Encoding:
    """How a table becomes the inputs of a network.

    Attributes
    ----------
    codings : tuple of Coding
        One for each column, in the order of the inputs.
    missing : str
        What happens to missing cells: "refuse", "drop", "mean" or "indicator".
    others : tuple of str
        The other columns of the training table, which later tables may have too.
    """

    codings: tuple[Coding, ...]
    missing: Missing = "refuse"
    others: tuple[str, ...] = ()

    @classmethod
    def of_numbers(cls, names: Sequence[str]) -> "Encoding":
        """Return the encoding of columns that are all numbers."""
        return cls(tuple(map(Coding, names)))

    @classmethod
    def fit(
        cls,
        table: Table,
        features: Sequence[str],
        missing: Missing,
        rows: NDArray[Any],
        categories: Categories = "onehot",
    ) -> "Encoding":
        """Choose the encoding of the columns `features` for the training `rows`.

        Raises
        ------
        DataError
            A column has no value in these rows, or two inputs would have one name.
        """
        codings = tuple(Coding.fit(table.columns[name], missing, rows, table, categories) for name in features)
        found = cls(codings, missing, tuple(name for name in table.names if name not in set(features)))
        inputs = found.inputs
        if len(set(inputs)) < len(inputs):
            twice = next(name for i, name in enumerate(inputs) if name in inputs[:i])
            raise DataError(f"{table.name}: two inputs would be called {short([twice])}; rename the column")
        return found

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> "Encoding":
        """Read the output of `table`; KeyError, ValueError or TypeError for anything else."""
        codings = []
        for each in table["codings"]:
            fill, kind = each["fill"], each["kind"]
            if kind not in ("number", "category"):
                raise ValueError(kind)
            values, fill = tuple(map(str, each["values"])), None if fill is None else float(fill)
            codes = bool(each.get("codes", False))  # missing in older files
            codings.append(Coding(str(each["name"]), kind, values, fill, bool(each["indicator"]), codes))
        return cls(tuple(codings), table["missing"], tuple(map(str, table["others"])))

    def table(self) -> dict[str, Any]:
        """Return the attributes, for JSON."""
        codings = [{each.name: getattr(coding, each.name) for each in fields(coding)} for coding in self.codings]
        return {"codings": codings, "missing": self.missing, "others": self.others}

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the network's inputs."""
        return tuple(name for coding in self.codings for name in coding.inputs)

    @property
    def numbers(self) -> tuple[bool, ...]:
        """For each input whether it is a number of the table: no value of a category, no code, no indicator."""
        return tuple(coding.kind == "number" and k == 0 for coding in self.codings for k in range(len(coding.inputs)))

    @property
    def codes(self) -> dict[int, int]:
        """Map the index of each input that holds the code of a category to the number of its codes."""
        inputs = [coding for coding in self.codings for _ in coding.inputs]
        return {i: coding.count for i, coding in enumerate(inputs) if coding.codes}

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each column."""
        return {coding.name: coding.kind for coding in self.codings}

    def match(self, name: str, columns: Sequence[str], more: Sequence[str] = ()) -> None:
        """Raise DataError unless a table has the columns of training, and none but these, `more` and `others`."""
        mine = [coding.name for coding in self.codings]
        match_names(name, mine, columns, {*self.others, *more})

    def encode(self, table: Table) -> NDArray[np.float64]:
        """Return the inputs (N, inputs) of a table.

        Raises
        ------
        DataError
            A cell is missing and has no meaning, or holds a value that the training data does not have.
        """
        remedy = "training dropped such rows" if self.missing == "drop" else "the training data had no such gaps"
        table.refuse_missing([each.name for each in self.codings if not each.fills], f"fill them in: {remedy}")
        names = [coding.name for coding in self.codings]
        if table.matrix is not None and self.inputs == tuple(names) and names == list(_in_matrix(table)):
            x = table.matrix
            for k, coding in enumerate(self.codings):
                if coding.fill is not None:
                    x[np.isnan(x[:, k]), k] = coding.fill
            return x
        x = np.empty((table.rows, len(self.inputs)))
        start = 0
        for coding in self.codings:
            end = start + len(coding.inputs)
            coding.write(table.columns[coding.name], x[:, start:end], table)
            start = end
        return x

    def decode(self, x: NDArray[Any]) -> dict[str, list[Any]]:
        """Return the cells (N,) of each column from the inputs (N, inputs); see `Coding.read`."""
        found, start = {}, 0
        for coding in self.codings:
            end = start + len(coding.inputs)
            found[coding.name] = coding.read(x[:, start:end])
            start = end
        return found


def _shortest(number):
    """Return a whole number as an int, as tables write it."""
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _in_matrix(table):
    """Yield the names of the columns of a table's matrix, in its order."""
    for name, column in table.columns.items():
        if column.numbers is not None:
            yield name


def match_names(table: str, mine: Sequence[str], columns: Sequence[str], others: set[str]) -> None:
    """Raise DataError unless `columns` has all of `mine` and besides only some of `others`."""
    known, there = {*mine, *others}, set(columns)
    missing = [name for name in mine if name not in there]
    extra = [name for name in columns if name not in known]
    if missing or extra:
        wrong = [f"missing: {short(missing)}"] * bool(missing) + [f"unknown: {short(extra)}"] * bool(extra)
        raise DataError(f"{table}: the columns are not those of training ({'; '.join(wrong)})")
