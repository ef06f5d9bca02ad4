"""A table as it was read: its columns, numbers or categories, and what is said of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

Kind: TypeAlias = Literal["number", "category"]

# The texts that pandas.read_csv reads as missing.
MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
TIME = r"([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
DATE = re.compile(rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}){TIME}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LISTED = 8  # maximum number of names in a message
FIRST = 5  # maximum number of bad cells in a message
FEW_VALUES = 50  # text of more values identifies rows if there are more than half as many values as rows
MANY_VALUES = 1000  # text of more values is never taken as a category
SHOWN = 40  # maximum number of columns that a description lists


@dataclass
class Column:
    """One column as it was read: `numbers`, NaN where missing; or `codes`, positions in `texts`, -1 where missing."""

    name: str
    numbers: NDArray[np.float64] | None = None
    codes: NDArray[np.int64] | None = None
    texts: Sequence[str] = ()
    dates: bool = False  # the values are known to be dates

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Mask of the missing cells, (N,)."""
        if self.codes is not None:
            return self.codes < 0
        assert self.numbers is not None
        return np.isnan(self.numbers)

    def first(self, text: str) -> int:
        """Return the first row with a text."""
        assert self.codes is not None
        return int(np.flatnonzero(self.codes == self.texts.index(text))[0])

    def part(self, rows: NDArray[Any]) -> "Column":
        """Return the column of some rows."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return Column(self.name, numbers, None if self.codes is None else self.codes[rows], self.texts, self.dates)


class Table(NamedTuple):
    """The columns that were read, by name; `names` are those of the file, `said` is how it was read.

    `lines` are the numbers of the rows in the file, those of lines of a text, or else from 0 (None: they are all
    there). `matrix` (N, k) holds all numbers, column by column a view of it, if a reader has it.
    """

    name: str
    names: tuple[str, ...]
    columns: dict[str, Column]
    rows: int
    lines: NDArray[np.int64] | None = None
    said: str = ""
    matrix: NDArray[np.float64] | None = None
    counted: Literal["row", "line"] = "row"  # what `lines` are numbers of

    @property
    def places(self) -> tuple[str, NDArray[np.int64]]:
        """The word "line" or "row" for the rows of the file, and the number of each row."""
        return self.counted, np.arange(self.rows) if self.lines is None else self.lines

    def part(self, rows: NDArray[Any]) -> "Table":
        """Return the table of some rows."""
        columns = {name: column.part(rows) for name, column in self.columns.items()}
        return self._replace(columns=columns, rows=len(rows), lines=self.places[1][rows], matrix=None)

    def where(self, row: int) -> str:
        """Name a row in a message."""
        number = row if self.lines is None else self.lines[row]
        return f"line {number}" if self.counted == "line" else f"row {number} (counted from 0)"

    def gaps(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which rows miss a cell of these columns."""
        found = np.zeros(self.rows, bool)
        for name in names:
            found |= self.columns[name].missing
        return found

    def refuse_missing(self, names: Sequence[str], remedy: str) -> None:
        """Raise DataError with the number of missing cells of these columns, and the places of the first."""
        masks = {name: self.columns[name].missing for name in names}
        count = sum(int(mask.sum()) for mask in masks.values())
        if not count:
            return
        first = np.flatnonzero(self.gaps(names))[:FIRST]
        cells = [(int(row), name) for row in first for name in names if masks[name][row]][:FIRST]
        places = [f"{self.where(row)}, column {short([name])}" for row, name in cells]
        raise DataError(f"{self.name}: {cells_are(count)} missing ({listed_places(places, count)}); {remedy}")


def cells_are(count: int) -> str:
    """Return "1 cell is" or "5 cells are"."""
    return "1 cell is" if count == 1 else f"{count} cells are"


def listed_places(places: Sequence[str], count: int) -> str:
    """Join the first places of `count`."""
    return "; ".join(places) + (f"; and {count - len(places)} more" if count > len(places) else "")


def refuse_odd(table: Table, found: Sequence[str]) -> None:
    """Raise DataError for columns whose kind was found to be a category and that are dates or identifiers."""
    identifiers = []
    for name in found:
        column = table.columns[name]
        if column.codes is None:
            continue
        used = [column.texts[code] for code in np.unique(column.codes[column.codes >= 0])]
        if used and (column.dates or all(DATE.fullmatch(text) for text in used)):
            raise DataError(
                f"{table.name}: the column {short([name])} holds dates, such as {short(used[:1])}; leave it out "
                f"(drop=[{name!r}]), and give what matters of it as numbers, such as the month, or the days since a day"
            )
        if len(used) > FEW_VALUES and (len(used) > MANY_VALUES or 2 * len(used) > (column.codes >= 0).sum()):
            identifiers.append((name, len(used)))
    if identifiers:
        first = ", ".join(f"{short([name])} ({count})" for name, count in identifiers[:LISTED])
        names = [name for name, _ in identifiers[:LISTED]]
        raise DataError(
            f"{table.name}: text with too many different values for a category, {first}; such a name or number of a "
            f"row says nothing about the next one: leave it out with drop={names}, or insist with "
            f"kinds={{{names[0]!r}: 'category'}}"
        )


def describe(table: Table, roles: Mapping[str, str], rows: NDArray[Any]) -> str:
    """Describe a table in aligned lines: how it was read, and each column's name, kind, missing cells and values.

    Parameters
    ----------
    table : Table
    roles : mapping
        Column -> "" for an input, "class" or "value" for a label, "split", "dropped".
    rows : array
        The training rows; notes on columns are about them.
    """
    lines, notes = [["column", "kind", "missing", "values"]], []
    for name in table.names:
        role, column = roles.get(name, "dropped"), table.columns.get(name)
        if column is None:
            lines.append([name, role, "", ""])
            continue
        kind = role or ("number" if column.codes is None else "category")
        lines.append([name, kind, str(int(column.missing.sum())), _values(column)])
        if role == "" and (note := _note(column, rows)):
            notes.append(note)
    if len(lines) > SHOWN + 1:
        lines = [*lines[: SHOWN + 1], [f"... and {len(lines) - SHOWN - 1} more", "", "", ""]]
    lines = [[cell[:60] for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = f"{table.name}: {table.rows} rows" + (f", {table.said}" if table.said else "")
    return "\n".join([head, *aligned, *notes])


def _values(column):
    if column.codes is None:
        seen = column.numbers[~np.isnan(column.numbers)]
        return f"{seen.min():.6g} to {seen.max():.6g}" if seen.size else ""
    used = sorted(column.texts[code] for code in np.unique(column.codes[column.codes >= 0]))
    shown = ", ".join(text[:20] for text in used[:4]) + (", ..." if len(used) > 4 else "")
    return f"{len(used)}: {shown}"


def _note(column, rows):
    """Return a warning of a column that can teach nothing, or None."""
    seen = column.numbers if column.codes is None else column.codes
    name, seen = column.name, seen[rows]
    if (seen == seen[0]).all() or (column.codes is None and np.isnan(seen).all()):
        return f"note: the column {short([name])} has one value only; leave it out with drop=[{name!r}]"
    if column.codes is None and len(column.numbers) > 2:
        steps = np.diff(column.numbers)
        if (steps == 1).all():
            return f"note: the column {short([name])} counts the rows; leave it out with drop=[{name!r}]"
    return None


def short(texts: Sequence[str]) -> str:
    """Quote texts of a file and cut them to a readable length."""
    quoted = ", ".join(repr(text[:40]) for text in texts[:LISTED])
    return quoted + (", ..." if len(texts) > LISTED else "")
