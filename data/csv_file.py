"""CSV, a table as text: a sample a line, its cells separated by commas, tabs or semicolons.

The file is read row by row into flat arrays (8 bytes per cell, values of a category as whole numbers), never held as
text. Rules:

* Text is UTF-8, with or without a byte order mark. A cell may be in double quotes (RFC 4180; the reader refuses what
  Python's strict `csv` refuses). Spaces and tabs around a cell are stripped; empty lines are skipped.
* The separator is the one of comma, tab and semicolon that the first line has outside quotes. If it has several, it is
  the one that gives the first 20 rows equally many cells; if none or several do, the file is refused and `separator`
  must say it.
* The first line is a header if it has one of the names that the options give (such as the label), if it is one word,
  or if none of its cells is a number or missing and a cell below, in the first 20 rows, is a number. It is none, and
  the columns are called x1, x2, ..., if one of its cells is a number, all are of the kind of those below, and it does
  not merely count (0, 1, 2 or 1, 2, 3). Otherwise the file is refused and `header` must say it. In a table without
  labels (`nnjit predict --input`) every first line without a number names the columns.
* Each column of a header has a unique name, since columns are matched by name.
* A cell is missing if pandas reads it as missing (`columns.MISSING`: empty, NA, N/A, NaN, nan, None, NULL, null, ...).
* A number is a finite decimal number such as -1, 2.5, .5 or 1e-3: no underscores, no hexadecimal, no digits other than
  0 to 9. The first cell of a column that is not missing decides: a number makes it a column of numbers, and so does
  what people write for numbers (1,5 or 1_000 or 50% or 0x10), which is then refused; another text makes it a category.
  A column of both is refused, unless `kinds` says which it is.
* Labels are whole numbers from 0 or words. Two spellings of one number in a column (1 and 01, 1 and 1.0) are refused,
  in labels and categories.
"""

import csv
import re
from array import array
from collections.abc import Collection
from contextlib import suppress
from copy import copy
from io import TextIOWrapper
from itertools import chain, islice
from math import isfinite
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..registry import datasets
from ..terminal.progress import Progress, open_tracked
from . import table_reader
from .encoding import Encoding
from .files import find, reading
from .labels import NOT_FINITE, is_number
from .split import Dataset
from .table import CONTROL, DATE, FIRST, MISSING, Column, Table, short
from .table_reader import Choose, TableReader, refuse_cells

NO_NUMBER = re.compile(r"[^0-9eE+\-. \t,]")  # characters that float() may accept but our numbers do not contain
NUMBER_LIKE = re.compile(r"[-+$€£]?\s*(0x[0-9a-f]+|[\d_.,\s']*\d[\d_.,\s']*)\s*([%€$£]|e[-+]?\d*)?", re.IGNORECASE)
BLANK = " \t"
SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
BAD = -2  # code of a number in a column of words
SAMPLE = 20  # rows that are looked at for the separator and the header


@datasets.register("csv")
class CSV(TableReader):
    """A table as text, .csv or .tsv: comma, tab or semicolon between cells, and a first line that names the columns.

    `label` is the name of the label column, its index (0 the first, -1 the last), or a list for several targets. All
    other columns, or those of `features`, are the input, without those of `drop`: numbers, and categories as one input
    per value (x is (N, inputs)), or with categories="codes" as one input, the position of the value, for a layer
    `embedding`; `kinds` overrides what is found, such as kinds={"zip": "category"}. With
    target="class" labels are whole numbers from 0, or words, which become classes in alphabetical order, or several
    columns of 0 and 1; with target="value" they are real numbers to predict, y is (N, labels). Missing cells are
    refused, or treated as `missing` says. `validation` and `test` are a share of the rows, another file, or a column
    that says train, validation or test. docs/tables.md states all rules.
    """

    separator: Literal[",", "\t", ";"] | None = None
    header: bool | None = None

    dataset_name = "csv"

    def read(self, path: Any, choose: Choose, hints: Collection[str]) -> Table:
        """Read the columns that `choose` wants; `hints` are names that a header may hold."""
        return _read(self, find(path), choose, hints, "--data")

    def samples(self, known: Encoding | None = None, without: str | None = None) -> Dataset:
        """Read rows without labels, encoded as `known` says, or else numbers; the targets of the `Dataset` are 0."""
        path, hints = self.path, () if known is None else known.kinds
        return table_reader.samples(
            "csv", path, lambda choose: _read(self, find(path), choose, hints, "--input"), known, without
        )

    def column(self, name: str) -> NDArray[Any]:
        """Read one column as texts, (N,)."""
        path = self.path
        return table_reader.column(path, name, lambda choose: _read(self, find(path), choose, (name,), "--input"))


def _read(table: CSV, path: Any, choose: Choose, hints: Collection[str], option: str) -> Table:
    """Read the columns that `choose` wants; for --input every first line without a number is a header.

    `option` is the option of the command line that the table is for; messages say how it takes a reader's options.
    """

    def form(**options):
        other = copy(table)
        for name, value in options.items():
            setattr(other, name, value)
        return f'{option} "{other.spec()}"'

    reader = None
    with (
        reading(path),
        Progress(f"reading {path.name}", "bytes") as progress,
        TextIOWrapper(open_tracked(path, progress), "utf-8-sig", newline="") as file,
    ):
        try:
            first = list(islice(file, SAMPLE + 1))
            separator = table.separator or _separator(path, first, form)
            reader = csv.reader(chain(first, file), delimiter=separator, strict=True)
            sample = list(islice(((reader.line_num, cells) for cells in reader if cells), SAMPLE + 1))
            if not sample or not any(cell.strip(BLANK) for cell in sample[0][1]):
                raise DataError(f"{path} is empty: its first line should name the columns")
            named = table.header
            if named is None:
                named = _has_header(path, sample, hints, option == "--input", form)
            names = _names(path, sample[0][1]) if named else [f"x{i + 1}" for i in range(len(sample[0][1]))]
            remark = "" if named else (
                "; its first line holds numbers and names no columns: put a line of names before it, or call the "
                "columns x1, x2 and so on"
            )  # fmt: skip
            builder = _Builder(path, names, named, choose(names, remark))
            for line, cells in sample[named:]:
                builder.add(line, cells)
            for cells in reader:
                if cells:  # no empty line
                    builder.add(reader.line_num, cells)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not text in UTF-8, after line {reader.line_num if reader else 0}: {error.reason}"
            ) from error
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num if reader else 0}: {error}") from error
    said = f"separated by {SEPARATORS[separator]}, " + (
        "columns named by the first line" if named else "no header: columns are x1, x2, ..."
    )
    return builder.table(said)


def _separator(path, lines, form):
    """Return the separator of the first rows; `form` says in a message how to give an option."""
    found = {}
    for separator in SEPARATORS:
        rows: list[list[str]] = []
        with suppress(csv.Error):  # the sample may end in the middle of a cell
            rows.extend(cells for cells in csv.reader(lines, delimiter=separator, strict=True) if cells)
        if rows and len(rows[0]) > 1:
            found[separator] = len({len(cells) for cells in rows}) == 1
    even = [separator for separator, equal in found.items() if equal]
    if len(found) > 1 and len(even) != 1:
        raise DataError(
            f"{path}: its first line has {' and '.join(SEPARATORS[each] for each in found)}; say which separate the "
            f"cells, such as {form(separator=next(iter(found)))}"
        )
    return (even if len(found) > 1 else [*found, ","])[0]


def _kind(cell):
    """Return what a cell looks like: "" if it is missing."""
    cell = cell.strip(BLANK)
    if cell in MISSING:
        return ""
    return "number" if is_number(cell) or NOT_FINITE.fullmatch(cell) else "word"


def _has_header(path, sample, hints, words_name, form):
    """Tell whether the first row is a header, by the rule of this file."""
    cells = [cell.strip(BLANK) for cell in sample[0][1]]
    if not set(hints).isdisjoint(cells):
        return True
    top = [_kind(cell) for cell in cells]
    below = [{_kind(row[i]) for _, row in sample[1:] if i < len(row)} - {""} for i in range(len(cells))]
    unlike = [i for i, kinds in enumerate(below) if top[i] and kinds and top[i] not in kinds]
    if "number" not in top:  # an empty name may be that of a column that counts the rows
        named = [kind for cell, kind in zip(cells, top, strict=True) if cell]
        if all(named) and any("number" in kinds for kinds in below):
            return True
        if not sample[1:]:
            return True
    if (len(cells) == 1 or words_name) and "number" not in top:
        return True
    counts = cells in ([str(i) for i in range(len(cells))], [str(i + 1) for i in range(len(cells))])
    if "number" in top and not unlike and (len(cells) == 1 or not counts):
        return False
    raise DataError(
        f"{path}: its first line, {short(cells)}, may name the columns or be data; say header=True or header=False, "
        f"such as {form(header=True)}, or put a line of names before it"
    )


def _names(path, cells):
    """Return the names of the columns."""
    names = [cell.strip(BLANK) for cell in cells]
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name; name it, or leave it out if it only counts the rows "
            "(pandas writes none with to_csv(index=False))"
        )
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise DataError(f"{path} has more than one column {short([twice])}; each needs a name that no other has")
    if odd := next((name for name in names if CONTROL.search(name)), None):
        raise DataError(f"{path}: the column name {short([odd])} holds a control character")
    return names


class _Builder:
    """The arrays of the columns while they are read."""

    def __init__(self, path, names, named, wanted):
        self.path, self.names, self.named, self.wanted = path, names, named, wanted
        places = {name: i for i, name in enumerate(names)}
        self.numbers = [(name, places[name]) for name in names if name in wanted and wanted[name] != "category"]
        self.undecided = {name for name, kind in wanted.items() if kind is None}
        self.categories = [
            _Category(name, places[name]) for name in names if name in wanted and wanted[name] == "category"
        ]
        self.matrix, self.lines = array("d"), array("q")
        self.bad, self.first_bad, self.both = 0, [], None
        self._choose()

    def _choose(self):
        """Choose the function that takes the numbers' cells from a row."""
        places = [place for _, place in self.numbers]
        self.pick: Any
        first, end = (places[0], places[-1] + 1) if places else (0, 0)
        if places == list(range(first, end)):
            self.pick = itemgetter(slice(first, end))
        else:
            self.pick = itemgetter(*places)

    def add(self, line, cells):
        """Take the cells of a row."""
        if len(cells) != len(self.names):
            first = "header" if self.named else "first line"
            raise DataError(f"{self.path}, line {line}: {len(cells)} columns, but the {first} has {len(self.names)}")
        self.lines.append(line)
        picked = self.pick(cells)
        numbers = None
        if not NO_NUMBER.search(",".join(picked)):  # from the remaining characters float() accepts only valid numbers
            try:
                numbers = array("d", map(float, picked))
                if not isfinite(sum(numbers)):  # one test per row; if the sum overflows, each cell is tested
                    numbers = None
            except ValueError:
                numbers = None
        if numbers is None:
            numbers = self._slowly(line, cells)
        elif self.undecided:
            self.undecided.clear()
        self.matrix.extend(numbers)
        for category in self.categories:
            cell = cells[category.place]
            code = category.code.get(cell)
            if code is None:
                code = category.new(cell)
            if code == BAD:
                self._refuse(
                    line, category.name, f"{short([cell])} is a number, but {short(category.texts[:1])} is a word"
                )
            category.codes.append(code)

    def _slowly(self, line, cells):
        """Return the numbers of a row cell by cell, after its words made their columns categories."""
        words = [
            pair for pair in self.numbers
            if pair[0] in self.undecided and _is_word(cells[pair[1]].strip(BLANK))
        ]  # fmt: skip
        if words:
            self._become_categories(words)
        numbers = array("d")
        for name, place in self.numbers:
            cell = cells[place].strip(BLANK)
            number = float("nan")
            if cell not in MISSING:
                if is_number(cell) and isfinite(float(cell)):
                    number = float(cell)
                else:
                    self._refuse(line, name, f"{short([cell])} is not a finite number")
                self.undecided.discard(name)
            numbers.append(number)
        return numbers

    def _become_categories(self, words):
        """Turn columns of which all rows before were missing into categories."""
        rows = len(self.lines) - 1
        kept = [k for k, pair in enumerate(self.numbers) if pair not in words]
        old = np.frombuffer(self.matrix).reshape(rows, len(self.numbers)) if rows else np.empty((0, len(self.numbers)))
        self.matrix = array("d", np.ascontiguousarray(old[:, kept]).tobytes())
        self.numbers = [self.numbers[k] for k in kept]
        for name, place in words:
            self.undecided.discard(name)
            self.categories.append(_Category(name, place, rows, found=True))
        self._choose()

    def _refuse(self, line, name, fault):
        self.bad += 1
        if len(self.first_bad) < FIRST:
            self.first_bad.append((f"line {line}, column {short([name])}", fault))
        if self.wanted[name] is None and self.both is None:
            self.both = name

    def table(self, said):
        """Return the table; DataError for cells that could not be read."""
        if not self.lines:
            raise DataError(f"{self.path} holds a header but no rows")
        hint = "" if self.both is None else f"; if the column is a category, give kinds={{{self.both!r}: 'category'}}"
        refuse_cells(self.path, self.bad, self.first_bad, hint)
        matrix = np.frombuffer(self.matrix).reshape(len(self.lines), len(self.numbers))
        columns = {name: Column(name, matrix[:, k]) for k, (name, _) in enumerate(self.numbers)}
        columns |= {each.name: each.column() for each in self.categories}
        columns = {name: columns[name] for name in self.names if name in columns}
        lines = np.frombuffer(self.lines, np.int64)
        return Table(str(self.path), tuple(self.names), columns, len(lines), lines, said, matrix, "line")


class _Category:
    """A column of texts while it is read; `found`: its first cell decided so, and numbers are refused."""

    def __init__(self, name, place, rows=0, found=False):
        self.name, self.place, self.found = name, place, found
        self.codes = array("q", [-1]) * rows
        self.texts, self.code = [], {}

    def new(self, cell):
        """Return the code of a cell that has not occurred before."""
        text = cell.strip(BLANK)
        if text in MISSING:
            code = -1
        elif self.found and (is_number(text) or NOT_FINITE.fullmatch(text)):
            code = BAD
        else:
            code = self.code.get(text, len(self.texts))  # with other spaces around it may have occurred
            if code == len(self.texts):
                self.texts.append(text)
        self.code[cell] = self.code[text] = code
        return code

    def column(self):
        """Return the column."""
        return Column(self.name, codes=np.frombuffer(self.codes, np.int64), texts=self.texts)


def _is_word(cell):
    """Tell whether a cell is a text, and not what people write for a number."""
    like_a_number = NOT_FINITE.fullmatch(cell) or NUMBER_LIKE.fullmatch(cell)
    return cell not in MISSING and (DATE.fullmatch(cell) is not None or not like_a_number)
