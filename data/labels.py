"""Classes, and the parts of a data set, as the cells of a column say them."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .split import MOST_LABEL
from .table import CONTROL, Column, Table, short

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
PARTS = {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2}


def parts_of(table: Table, column: Column) -> NDArray[np.int64]:
    """Return 0 (train), 1 (validation) or 2 (test) for each row, as its cell says."""
    assert column.codes is not None
    parts = np.array([PARTS.get(text.lower(), -1) for text in column.texts] + [-1], np.int64)[column.codes]
    if (parts < 0).any():
        row, code = int((parts < 0).argmax()), int(column.codes[(parts < 0).argmax()])
        what = short([column.texts[code]]) if code >= 0 else "nothing"
        raise DataError(
            f"{table.name}, {table.where(row)}, column {short([column.name])}: expected train, validation or test, got "
            f"{what}"
        )
    return parts


def classes(table: Table, column: Column) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return (the class of each row, the names of the classes, or None for numeric labels)."""
    assert column.codes is not None

    def where(text):
        return table.where(column.first(text))

    used = [column.texts[code] for code in np.unique(column.codes)]
    for text in used:
        if CONTROL.search(text):
            raise DataError(f"{table.name}, {where(text)}: the label {short([text])} holds a control character")
    numbers = [text for text in used if is_number(text) or NOT_FINITE.fullmatch(text)]
    words = [text for text in used if text not in set(numbers)]
    if numbers and words:
        raise DataError(
            f"{table.name}: labels are all numbers or all words, but {where(numbers[0])} has {short(numbers[:1])} and "
            f"{where(words[0])} has {short(words[:1])}"
        )
    if words:
        names = tuple(sorted(words))
        code = {name: i for i, name in enumerate(names)}
        return np.array([code.get(text, -1) for text in column.texts])[column.codes], names
    for text in numbers:
        value = float(text)
        if not (value.is_integer() and 0 <= value <= MOST_LABEL):
            raise DataError(
                f"{table.name}, {where(text)}: the label {short([text])} is not a class, that is, a whole number from "
                "0 or a word; use target='value' for a number to predict"
            )
    refuse_two_spellings(table, column, numbers, "label")
    value_of = {text: int(float(text)) for text in numbers}
    return np.array([value_of.get(text, -1) for text in column.texts])[column.codes], None


def refuse_two_spellings(table: Table, column: Column, texts: Sequence[str], what: str) -> None:
    """Raise DataError if two of the texts write one number, such as 1 and 01."""
    spelled: dict[float, str] = {}
    for text in texts:
        if is_number(text) and (other := spelled.setdefault(float(text), text)) != text:
            first, second = (table.where(column.first(each)).removeprefix("line ") for each in (other, text))
            raise DataError(
                f"{table.name}: lines {first} and {second} write one {what} in two ways, {short([other, text])}; write "
                "numbers in one way, or classes as words"
            )


def is_number(text: str) -> bool:
    """Tell whether a text is a finite decimal number."""
    return NUMBER.fullmatch(text) is not None
