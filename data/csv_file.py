"""CSV, a table as text: a header row, one sample a row, one column with the label.

The file is read row by row into flat arrays of numbers (8 bytes per cell), never held as text. Rules:

* Text is UTF-8, with or without a byte order mark. Commas separate cells, and a cell may be in double quotes (RFC 4180;
  the reader refuses what Python's strict `csv` refuses). Spaces and tabs around a cell are stripped; empty lines are
  skipped.
* The first line names the columns. Each column has a unique name, since columns are matched by name. A first line that
  contains a number counts as data without a header and is refused.
* A number is a finite decimal number such as -1, 2.5, .5 or 1e-3: no underscores, no hexadecimal, no digits other than
  0 to 9.
* Labels are whole numbers from 0 or words. Two spellings of one number in a column (1 and 01, 1 and 1.0) are refused.
  So are labels that mean a missing value (empty, NA, NaN, null).
"""

import csv
import os
import re
from array import array
from math import isfinite
from typing import Literal

import numpy as np

from ..errors import DataError
from ..registry import Options, datasets
from ..registry.specs import did_you_mean
from .files import find, reading
from .split import MOST_LABEL, Dataset, Split, check_share

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
NO_NUMBER = re.compile(r"[^0-9eE+\-. \t,]")  # characters that float() may accept but our numbers do not contain
MISSING = (
    "",
    "NA",
    "N/A",
    "#N/A",
    "<NA>",
    "null",
    "NULL",
)  # labels that mean a missing value, as pandas writes and reads them
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
BLANK = " \t"


@datasets.register("csv")
class CSV(Options):
    """A comma-separated table; `label` is the name of the label column or its index (0 the first, -1 the last).

    The first line names the columns. All other columns are numeric features: x is (N, features). With target="class"
    labels are whole numbers from 0, or words, which become classes in alphabetical order; with target="value" they are
    real numbers to predict, y is (N, 1). The shares `validation` and `test` of the rows are held out.
    """

    path: str
    label: str | int | None = None
    target: Literal["class", "value"] = "class"
    validation: float = 0.1
    test: float = 0.0

    def validate(self) -> None:
        check_share(self.validation)
        check_share(self.test, "test")

    def load(self) -> Dataset:
        """Load the data set; DataError for a file that is missing, damaged or of another kind."""
        path = find(self.path)
        if self.label is None:
            raise _unlabelled(path)
        columns, x, y, first_lines = _read_table(path, self.label, as_values=self.target == "value")
        names = None
        if self.target == "class":
            classes, names = _classes(path, first_lines)
            y = classes[y]
        return Dataset(
            "csv", Split(x, y, name=str(path)), class_names=names, columns=columns,
            validation_share=self.validation, test_share=self.test,
        )  # fmt: skip


def _unlabelled(path):
    """Return the error of a table whose label column is not named: it shows the columns."""
    with reading(path), open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
        names = _header(path, next(csv.reader(file), []), None)
    spec = f"csv(path={str(path)!r}, label={names[-1]!r})"
    return DataError(f'{path}: say which column to predict, such as --data "{spec}"; its columns are {_short(names)}')


def samples(path: str | os.PathLike[str], without: str | None = None) -> Dataset:
    """Read a table without labels: all columns but `without` are features, the targets of the `Dataset` are 0."""
    path = find(path)
    columns, x, _, _ = _read_table(path, without, as_values=False)
    return Dataset("csv", Split(x, np.zeros((len(x), 1)), name=str(path)), columns=columns)


def column(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """Read one column as texts, (N,)."""
    path, texts = find(path), []
    with reading(path), open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, strict=True)
        try:
            place = _label_column(path, _header(path, next(rows, []), name), name)
            texts += [cells[place].strip(BLANK) if place < len(cells) else "" for cells in rows if cells]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}, after line {rows.line_num}: {error}") from error
    return np.array(texts, dtype=object)


def _read_table(path, label, as_values):
    """Read the table as (names of the features, x, y, first_lines).

    x is (N, features); y is (N, 1) values, or (N,) positions in first_lines, which lists the text of each label and the
    line of its first occurrence, in file order. Without a label column (None) y is zeros.
    """
    features, y = array("d"), array("d" if as_values else "q")
    position: dict[str, int] = {}
    first_lines: list[tuple[str, int]] = []
    with reading(path), open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = _header(path, next(rows, []), label)
            column = None if label is None else _label_column(path, header, label)
            names = [name for i, name in enumerate(header) if i != column]
            for cells in rows:
                line = rows.line_num
                if not cells:  # an empty line
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{path}, line {line}: {len(cells)} columns, but the header has {len(header)}")
                text = "" if column is None else cells.pop(column).strip(BLANK)
                if as_values:
                    y.append(_number(path, line, header[column], text))
                else:
                    y.append(position.setdefault(text, len(position)))
                    if len(first_lines) < len(position):
                        first_lines.append((text, line))
                features.extend(_numbers(path, line, names, cells))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not text in UTF-8, after line {rows.line_num}: {error.reason}") from error
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}: {error}") from error
    if not y:
        raise DataError(f"{path} holds a header but no rows")
    targets = np.frombuffer(y, np.float64)[:, None] if as_values else np.frombuffer(y, np.int64)
    return tuple(names), np.frombuffer(features).reshape(len(y), -1), targets, first_lines


def _header(path, cells, label):
    """Return the names of the columns."""
    names = [cell.strip(BLANK) for cell in cells]
    if not any(names):
        raise DataError(f"{path} is empty: its first line should name the columns")
    if number := next((name for name in names if _is_number(name) or NOT_FINITE.fullmatch(name)), None):
        raise DataError(
            f"{path}: the first line should name the columns, but it holds the number {_short([number])}; put a line "
            "of names before it, such as a,b,label"
        )
    if len(names) == 1 and label is not None:
        raise DataError(f"{path} has one column, {names[0]!r}, and so no features; columns are separated by commas")
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name; name it, or leave it out if it only counts the rows "
            "(pandas writes none with to_csv(index=False))"
        )
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise DataError(f"{path} has more than one column {_short([twice])}; each needs a name that no other has")
    if odd := next((name for name in names if CONTROL.search(name)), None):
        raise DataError(f"{path}: the column name {_short([odd])} holds a control character")
    return names


def _label_column(path, names, label):
    """Index of the label column."""
    if isinstance(label, int) and -len(names) <= label < len(names):
        return label % len(names)
    if label in names:
        return names.index(label)
    if isinstance(label, str):
        hint = did_you_mean(label, names) or f"; its columns are {_short(names)}"
        raise DataError(f"{path} has no column {label!r}{hint}")
    raise DataError(f"{path} has {len(names)} columns, but label={label} was asked for; the first is 0, the last -1")


def _numbers(path, line, names, cells):
    """Parse the features of one row, each finite."""
    if not NO_NUMBER.search(",".join(cells)):  # from the remaining characters float() accepts only valid numbers
        try:
            numbers = array("d", map(float, cells))
            if isfinite(sum(numbers)):  # one test per row; if the sum overflows, each cell is tested
                return numbers
        except ValueError:
            pass
    return array("d", (_number(path, line, name, cell) for name, cell in zip(names, cells, strict=True)))


def _number(path, line, name, cell):
    """Parse one cell as a finite number."""
    cell = cell.strip(BLANK)
    if not _is_number(cell) or not isfinite(float(cell)):
        what = f"{_short([cell])} is not a finite number" if cell else "the cell is empty"
        raise DataError(f"{path}, line {line}, column {name!r}: {what}")
    return float(cell)


def _classes(path, first_lines):
    """Return (the class of each label text, the names of the classes, or None for numeric labels)."""
    for text, line in first_lines:
        if text in MISSING or NOT_FINITE.fullmatch(text):
            what = f"the label {_short([text])} means a missing value" if text else "the label is empty"
            raise DataError(f"{path}, line {line}: {what}; leave such rows out, or give the class a name")
        if CONTROL.search(text):
            raise DataError(f"{path}, line {line}: the label {_short([text])} holds a control character")
    numbers = [(text, line) for text, line in first_lines if _is_number(text)]
    words = [(text, line) for text, line in first_lines if not _is_number(text)]
    if numbers and words:
        (number, line), (word, other) = numbers[0], words[0]
        raise DataError(
            f"{path}: labels are all numbers or all words, but line {line} has {_short([number])} and line {other} has "
            f"{_short([word])}"
        )
    if words:
        names = sorted(text for text, _ in words)
        code = {name: i for i, name in enumerate(names)}
        return np.array([code[text] for text, _ in words]), tuple(names)
    spelled: dict[float, tuple[str, int]] = {}
    for text, line in numbers:
        value = float(text)
        if not (value.is_integer() and 0 <= value <= MOST_LABEL):
            raise DataError(
                f"{path}, line {line}: the label {_short([text])} is not a class, that is, a whole number from 0 or a "
                "word; use target='value' for a number to predict"
            )
        other, first = spelled.setdefault(value, (text, line))
        if other != text:
            raise DataError(
                f"{path}: lines {first} and {line} write one label in two ways, {_short([other, text])}; write "
                "numbers in one way, or classes as words"
            )
    return np.array([int(float(text)) for text, _ in numbers]), None


def _is_number(text):
    return NUMBER.fullmatch(text) is not None


def _short(texts):
    """Texts from the file, quoted and cut to a readable length."""
    quoted = ", ".join(repr(text[:40]) for text in texts[:8])
    return quoted + (", ..." if len(texts) > 8 else "")
