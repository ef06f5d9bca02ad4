"""Parquet and Arrow files: tables with typed columns, read by pyarrow. Kinds of columns are found as in `frames`."""

from collections.abc import Collection
from typing import Any

from numpy.typing import NDArray

from ..errors import DataError
from ..registry import datasets
from ..terminal.progress import Progress, open_tracked
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
        from pyarrow import concat_tables, feather, parquet
    except ImportError as error:
        raise DataError(f'{path} needs pyarrow: pip install "nnjit[arrow]"') from error
    with reading(path), open(path, "rb"):
        pass
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            with Progress(f"reading {path.name}") as progress, parquet.ParquetFile(path) as file:
                found = concat_tables(_row_groups(file, progress)) if file.num_row_groups else file.read()
        else:
            with Progress(f"reading {path.name}", "bytes") as progress, open_tracked(path, progress) as file:
                found = feather.read_table(file)
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {reason(error)}") from error
    except Exception as error:  # a damaged file may fail anywhere in pyarrow
        raise DataError(f"{path} cannot be read as a table: {reason(error)}") from error
    with Progress(f"converting the columns of {path.name}") as progress:  # texts take longer than their reading

        def get(name):
            progress(found.column_names.index(name), found.num_columns)
            return found.column(name).to_numpy()

        return from_columns(str(path), found.column_names, get, choose)


def _row_groups(file, progress):
    """Yield the row groups of a Parquet file."""
    done = 0
    for k in range(file.num_row_groups):
        yield (group := file.read_row_group(k))
        done += len(group)
        progress(done, file.metadata.num_rows)
