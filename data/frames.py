"""Frames: tables in memory, such as those of pandas and polars.

A frame has names in `columns`, and its columns, ``frame[name]``, have `to_numpy`. The kind of a column follows from its
dtype: numbers; booleans are a category of False and True (as in a CSV file), numbers where they are declared to be;
texts are a category, also texts of digits; dates are refused. A column of objects is what its values are: all numbers,
or all texts and booleans. None, NaN, NA and NaT are missing, and so is a text that a CSV file reads as missing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpecError
from .encoding import Encoding
from .split import Dataset
from .table import FIRST, MISSING, Column, Kind, Table, short
from .table_reader import Choose, TableReader, is_file, refuse_cells

NULLS = ("NAType", "NaTType")  # types of pandas' missing values, which have no truth value


def table(
    frame: Any,
    label: str | int | Sequence[str | int],
    target: str = "class",
    validation: float | str = 0.1,
    test: float | str = 0.0,
    features: Sequence[str] | None = None,
    drop: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    missing: str = "refuse",
    categories: str = "onehot",
    weight: str | None = None,
) -> Dataset:
    """Return the data set of a frame.

    Parameters
    ----------
    frame : a frame of pandas, polars or another library, with names in `columns`, and `frame[name].to_numpy()`
    label, target, validation, test, features, drop, kinds, missing, categories, weight : as for the reader "csv"
        `validation` and `test` are a share or a column.

    Raises
    ------
    SpecError
        An option has another form.
    DataError
        The columns do not fit the options, or cells cannot be used.
    """
    if not is_frame(frame):
        raise DataError(f"table: expected a frame with columns and frame[name].to_numpy(), got {type(frame).__name__}")
    options: dict[str, Any] = {
        "label": label if isinstance(label, (str, int, np.integer)) else list(label),
        "target": target, "validation": validation, "test": test, "missing": missing, "drop": list(drop),
        "categories": categories, "weight": weight, "kinds": None if kinds is None else dict(kinds),
        "features": None if features is None else list(features),
    }  # fmt: skip
    reader = Frame("the frame", **options)
    reader.frame = frame
    return reader.load()


def is_frame(x: Any) -> bool:
    """Tell whether x is a frame."""
    return not isinstance(x, np.ndarray) and hasattr(x, "columns") and hasattr(x, "__getitem__")


def encoded(frame: Any, encoding: Encoding) -> NDArray[np.float64]:
    """Return the inputs (N, inputs) of a network for the rows of a frame.

    Raises
    ------
    DataError
        Columns are missing or unknown, or cells cannot be used.
    """

    def choose(names: Sequence[str], remark: str) -> Mapping[str, Kind | None]:
        encoding.match("the frame", names)
        return dict(encoding.kinds)

    return encoding.encode(read_frame(frame, choose))


class Frame(TableReader):
    """A frame in memory; `path` is its name in messages."""

    frame = None

    def validate(self) -> None:
        super().validate()
        for name in self.files:
            if is_file(getattr(self, name)):
                raise SpecError(f"{name}: expected a share or a column of the frame, got a file; use the reader csv")

    def read(self, path: Any, choose: Choose, hints: Collection[str]) -> Table:
        """Read the columns that `choose` wants."""
        return read_frame(self.frame, choose)


def read_frame(frame: Any, choose: Choose) -> Table:
    """Read the columns of a frame that `choose` wants."""
    keys = list(frame.columns)
    if not all(isinstance(key, (str, int, np.integer)) for key in keys):  # pyarrow's own tables have columns here
        raise DataError("the frame: its columns have no names; convert it to a frame of pandas or polars")
    places = {str(key): key for key in keys}
    return from_columns("the frame", [str(key) for key in keys], lambda name: frame[places[name]].to_numpy(), choose)


def from_columns(name: str, names: Sequence[str], get: Callable[[str], Any], choose: Choose) -> Table:
    """Return the table of named columns, arrays (N,) that `get` returns."""
    if twice := next((each for i, each in enumerate(names) if each in names[:i]), None):
        raise DataError(f"{name} has more than one column {short([twice])}; each needs a name that no other has")
    wanted = choose(names, "")
    columns = {each: _column(name, each, np.asarray(get(each)), wanted[each]) for each in names if each in wanted}
    rows = len(next(iter(columns.values())).missing) if columns else 0
    if not rows:
        raise DataError(f"{name} has no rows")
    return Table(name, tuple(names), columns, rows)


def _column(table, name, array, kind):
    """Return a column of a frame as numbers or texts."""
    if array.ndim != 1:
        raise DataError(f"{table}: the column {short([name])} has shape {array.shape}, but one value a row is expected")
    letter = array.dtype.kind
    if letter in "Mm":
        return _dates(table, name, np.where(np.isnat(array), "", array.astype(str)), kind)
    if letter in "iuf" or (letter == "b" and kind == "number"):
        if kind == "category":
            return _texts(name, [_text(value) for value in array.tolist()])
        return _numbers(table, name, array.astype(np.float64), ~np.isnan(array) if letter == "f" else None)
    if letter not in "bOUT":
        raise DataError(f"{table}: the column {short([name])} holds {array.dtype}, but numbers or texts are expected")
    values = ["" if _is_null(value) else value for value in array.tolist()]
    odd = next((i for i, value in enumerate(values) if not isinstance(value, (str, Real, Decimal))), None)
    if odd is not None:
        if isinstance(values[odd], (date, time, timedelta)):
            return _dates(table, name, list(map(str, values)), kind)
        raise DataError(
            f"{table}, row {odd} (counted from 0), column {short([name])}: expected a number or a text, got a "
            f"{type(values[odd]).__name__}"
        )
    numeric = [isinstance(value, (Real, Decimal)) and not isinstance(value, bool) for value in values]
    present = [value not in MISSING for value in values]
    if kind == "number" or (kind is None and any(numeric)):
        wrong = [i for i, (is_one, there) in enumerate(zip(numeric, present, strict=True)) if there and not is_one]
        if kind == "number":
            wrong = [i for i in wrong if not isinstance(values[i], bool)]
        first = [(f"row {i} (counted from 0), column {short([name])}", f"{short([str(values[i])])} is not a number")
                 for i in wrong[:FIRST]]  # fmt: skip
        hint = "" if kind else f"; if the column is a category, give kinds={{{name!r}: 'category'}}"
        refuse_cells(table, len(wrong), first, hint)
        numbers = np.array([float(cast(Real, v)) if v not in MISSING else np.nan for v in values], np.float64)
        return _numbers(table, name, numbers, np.array(present))
    return _texts(name, [_text(value) for value in values])


def _is_null(value):
    if value is None or type(value).__name__ in NULLS:
        return True
    return isinstance(value, (float, Decimal)) and value != value


def _text(value):
    """Return the text that a CSV file has for a value."""
    if isinstance(value, str):
        return value.strip(" \t")
    if isinstance(value, float) and value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(table, name, numbers, present):
    """Return a column of numbers; those that are present must be finite."""
    wrong = np.isinf(numbers) if present is None else np.isinf(numbers) & present
    first = [
        (f"row {i} (counted from 0), column {short([name])}", f"{numbers[i]} is not a finite number")
        for i in np.flatnonzero(wrong)[:FIRST]
    ]
    refuse_cells(table, int(wrong.sum()), first)
    return Column(name, numbers)


def _dates(table, name, texts, kind):
    """Return a column of dates, which is a category at most."""
    if kind == "number":
        raise DataError(f"{table}: the column {short([name])} holds dates, but numbers are expected")
    return _texts(name, texts, dates=True)


def _texts(name, texts, dates=False):
    """Return a column of texts."""
    code: dict[str, int] = {}
    codes = [-1 if text in MISSING else code.setdefault(text, len(code)) for text in map(str, texts)]
    return Column(name, codes=np.array(codes, np.int64), texts=list(code))
