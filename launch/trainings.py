"""Trainings of one command in one directory: what runs of seeds and folds and the trials of a sweep have in common."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import NnjitError
from ..storage import folders
from ..terminal.output import complain

LOST = 3  # as often worker processes may be killed one after the other, without a training that ends


class Trainings:
    """Several trainings in one directory, with a row for each that has ended.

    Parameters
    ----------
    path : path of the directory
    plugins : sequence of str
        The values of --plugin, to continue them.
    source_name : str
        The name of the config in errors.

    Attributes
    ----------
    rows : list of dict
        The trainings that have ended, in the order of the table.
    stopped : list of str
        Those that a signal stopped.
    signal : int or None
        That signal.
    remarks : list of str
        Those on the latest training (`History.remarks`), if they were not shown while it ran.
    """

    what = "trainings"  # runs or trials
    files: tuple[str, ...] = ()  # of a directory in which nothing was trained yet

    def __init__(self, path: str | os.PathLike[str], plugins: Sequence[str], source_name: str) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.signal: int | None = None
        self.remarks: list[str] = []
        self._plugins, self._source_name = plugins, source_name
        self._made: list[Path] | None = None  # folders that did not exist before a new one, see `folders.remove_empty`

    def _gathered(self, found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Keep the rows of trainings, and the table; yield those of the trainings that no signal stopped."""
        try:
            for row in found:
                if "stopped" in row:
                    self.stopped.append(self._name(row))
                    self.signal = row["stopped"]
                    continue
                self.remarks = row.pop("remarks", [])
                self._count(row)
                self.rows.append(row)
                self.rows.sort(key=self._place)
                self._write()
                yield row
        except NnjitError:
            folders.remove_empty(self.path, self.files, self._made)
            raise

    def _lost(self, times: int, workers: int) -> None:
        """Say that a worker process was killed; raise NnjitError at the `LOST`-th time in a row."""
        if self.signal is not None:
            return
        if times == LOST:
            raise NnjitError(
                f"{self.path}: processes that train were killed {times} times in a row (is there enough memory for "
                f"{workers} {self.what} at a time?)"
            )
        complain(
            f"{self.path}: a process that trains was killed; the {self.what} that had begun go on from their last "
            "checkpoints"
        )

    # -- what differs ------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """The number of trainings, also of those that have not begun."""
        raise NotImplementedError

    def _name(self, row: dict[str, Any]) -> str:
        """Return the name of a training's directory."""
        raise NotImplementedError

    def _place(self, row: dict[str, Any]) -> int:
        """Return the place of a row in the table."""
        raise NotImplementedError

    def _count(self, row: dict[str, Any]) -> None:
        """Take note of a training that has ended."""

    def _write(self) -> None:
        """Write the table."""
        raise NotImplementedError
