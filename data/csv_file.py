"""CSV, a table as text: a header row, one sample a row, one column with the label.

The file is read row by row into flat arrays of numbers (8 bytes a cell), never held as text.
"""

import csv
from array import array
from math import isfinite
from typing import Literal

import numpy as np

from ..errors import DataError
from ..registry import Options, datasets
from ..registry.specs import did_you_mean
from .files import find, reading
from .split import Dataset, Split, check_share


@datasets.register("csv")
class CSV(Options):
    """A table separated by commas; `label` is the name of the label's column or its index (0 the first, -1 the last).

    All other columns are numbers, the features: x is (N, features). With target="class" the labels are whole numbers
    from 0, or words, which become classes in alphabetical order; with target="value" they are real numbers to be
    predicted, y is (N, 1). The share `validation` of the rows is held out.
    """

    path: str
    label: str | int
    target: Literal["class", "value"] = "class"
    validation: float = 0.1

    def validate(self):
        check_share(self.validation)

    def load(self):
        """The data set; DataError, in one sentence, for a file that is missing, damaged or of another kind."""
        path = find(self.path)
        x, y, first_lines = _read_table(path, self.label, as_values=self.target == "value")
        names = None
        if self.target == "class":
            classes, names = _classes(path, first_lines)
            y = classes[y]
        train, validation = Split(x, y, name=str(path)).hold_out(self.validation)
        return Dataset("csv", train, validation, class_names=names)


def _read_table(path, label, as_values):
    """The table as (x, y, first_lines).

    x is (N, features); y is (N, 1) values, or (N,) positions in first_lines, which has for each label, in the order
    they come in, its text and the line it first stands on.
    """
    features, y = array("d"), array("d" if as_values else "q")
    position, first_lines = {}, []
    with reading(path), open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        try:
            header = next(rows, [])
            column = _label_column(path, header, label)
            names = [name.strip() for i, name in enumerate(header) if i != column]
            for cells in rows:
                line = rows.line_num
                if not cells:  # an empty line
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{path}, line {line}: {len(cells)} columns, but the header has {len(header)}")
                text = cells.pop(column).strip()
                if as_values:
                    y.append(_number(path, line, header[column].strip(), text))
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
    return np.frombuffer(features).reshape(len(y), -1), targets, first_lines


def _label_column(path, header, label):
    """Index of the label's column."""
    if not header:
        raise DataError(f"{path} is empty: its first line should name the columns")
    if all(map(_is_number, header)) and header != [str(i) for i in range(len(header))]:
        raise DataError(f"{path}: the first line should name the columns, but it holds numbers ({header[0]}, ...)")
    names = [name.strip() for name in header]
    if isinstance(label, str):
        if names.count(label) != 1:
            if label in names:
                raise DataError(f"{path} has more than one column {label!r}; give the index of the one with the labels")
            hint = did_you_mean(label, names) or f"; its columns are {_short(names)}"
            raise DataError(f"{path} has no column {label!r}{hint}")
        column = names.index(label)
    elif -len(names) <= label < len(names):
        column = label % len(names)
    else:
        raise DataError(
            f"{path} has {len(names)} columns, but label={label} was asked for; the first is 0, the last -1"
        )
    if len(names) == 1:
        raise DataError(f"{path} has one column, {names[0]!r}, and so no features; columns are separated by commas")
    return column


def _numbers(path, line, names, cells):
    """The features of one row, each finite."""
    try:
        numbers = array("d", map(float, cells))
        if isfinite(sum(numbers)):  # one look at the row; where the sum overflows each cell is looked at
            return numbers
    except ValueError:
        pass
    return array("d", (_number(path, line, name, cell) for name, cell in zip(names, cells, strict=True)))


def _number(path, line, name, cell):
    """One cell as a finite number."""
    if not _is_number(cell) or not isfinite(float(cell)):
        what = f"{_short([cell])} is not a finite number" if cell.strip() else "the cell is empty"
        raise DataError(f"{path}, line {line}, column {name!r}: {what}")
    return float(cell)


def _classes(path, first_lines):
    """(the class of each label text, the names of the classes where the labels are words)."""
    numbers = [(text, line) for text, line in first_lines if _is_number(text)]
    words = [(text, line) for text, line in first_lines if not _is_number(text)]
    for text, line in words:
        if not text:
            raise DataError(f"{path}, line {line}: the label is empty")
    if numbers and words:
        (number, line), (word, other) = numbers[0], words[0]
        raise DataError(
            f"{path}: labels are all numbers or all words, but line {line} has {_short([number])} and line {other} has "
            f"{_short([word])}"
        )
    for text, line in numbers:
        if not (float(text).is_integer() and 0 <= float(text) < 2**31):
            raise DataError(
                f"{path}, line {line}: the label {_short([text])} is no class, which is a whole number from 0 or a "
                "word; use target='value' for a number to be predicted"
            )
    if numbers:
        return np.array([int(float(text)) for text, _ in numbers]), None
    names = sorted(text for text, _ in words)
    code = {name: i for i, name in enumerate(names)}
    return np.array([code[text] for text, _ in words]), tuple(names)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(texts):
    """Texts from the file, quoted and cut to a readable length."""
    quoted = ", ".join(repr(text[:40]) for text in texts[:8])
    return quoted + (", ..." if len(texts) > 8 else "")
