"""Parquet and Arrow files: tables with typed columns, read by pyarrow. Kinds of columns are found as in `frames`."""

from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from ..errors import DataError
from ..registry import datasets
from . import table_reader
from .encoding import Encoding
from .files import find, reading, reason
from .frames import from_columns
from .split import Dataset
from .table import Table
from .table_reader import Choose, TableReader

SUFFIXES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")


@datasets.register("arrow")
class Arrow(TableReader):
    """A Parquet or Arrow (Feather) file, by its name: .parquet or .pq, or .arrow, .feather or .ipc; needs pyarrow.

    Options are those of `csv`. Kinds of columns follow from their types in the file. docs/tables.md states all rules.
    """

    dataset_name = "arrow"

    def read(self, path: Any, choose: Choose, hints: Collection[str]) -> Table:
        """Read the columns that `choose` wants."""
        return _read_arrow(find(path), choose)

    def samples(self, known: Encoding | None = None, without: str | None = None) -> Dataset:
        """Read rows without labels, encoded as `known` says, or else numbers; the targets of the `Dataset` are 0."""
        path = self.path
        return table_reader.samples("arrow", path, lambda choose: _read_arrow(find(path), choose), known, without)

    def column(self, name: str) -> NDArray[Any]:
        """Read one column as texts, (N,)."""
        return table_reader.column(self.path, name, lambda choose: _read_arrow(find(self.path), choose))


def _read_arrow(path, choose):
    try:
        from pyarrow import feather, parquet
    except ImportError as error:
        raise DataError(f'{path} needs pyarrow: pip install "nnjit[arrow]"') from error
    read = parquet.read_table if str(path).lower().endswith((".parquet", ".pq")) else feather.read_table
    with reading(path), open(path, "rb"):
        pass
    try:
        found = read(str(path), memory_map=False)
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {reason(error)}") from error
    except Exception as error:  # a damaged file may fail anywhere in pyarrow
        raise DataError(f"{path} cannot be read as a table: {reason(error)}") from error
    return from_columns(str(path), found.column_names, lambda name: found.column(name).to_numpy(), choose)
