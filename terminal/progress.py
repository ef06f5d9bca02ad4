"""How far a long work is: one line on standard error that is rewritten, if that is a terminal.

    with Progress("reading images") as progress:
        for k, path in enumerate(paths):
            progress(k, len(paths))

It appears when the work has taken `PATIENCE` seconds, is rewritten at most ten times a second, and is erased when the
work ends. A call that writes nothing costs a fraction of a microsecond. Threads may call.
"""

import io
import math
import os
import sys
import threading
import time
from typing import Any

from .live import GAP, INTERVAL, Live, is_terminal, rewritable
from .output import complain
from .quantities import duration, sizes

PATIENCE = 1.0  # seconds before the line appears
BUFFER = 1 << 16  # bytes that are read at once, at least


class Progress:
    """A context manager; in its block, `progress(done, total)` says how far the work is.

    Parameters
    ----------
    what : str
        The work, such as "reading data.csv".
    unit : "bytes" or ""
        What is counted: bytes are shown in their units, "0.4 of 1.7 GB", other things as "12 of 64".
    lines : float
        Seconds between lines that stay, where standard error is no terminal; by default there are none.
    """

    def __init__(self, what: str, unit: str = "", lines: float = math.inf) -> None:
        self.what, self.unit, self._lines = what, unit, lines
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._began, self._next = 0.0, math.inf  # when the work began, and when the line may be written next

    def __enter__(self) -> "Progress":
        self._began = time.monotonic()
        self._next = self._began + (PATIENCE if is_terminal(sys.stderr) else self._lines)
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._next = math.inf
            if self._live is not None:
                self._live.close()

    def __call__(self, done: int, total: int, *details: str) -> None:
        """Say that `done` of `total` is done; `details` say what is worked on now, the most important first."""
        if time.monotonic() < self._next:
            return
        with self._lock:
            now = time.monotonic()
            if now < self._next:  # another thread has written it
                return
            if self._live is None:
                if not rewritable(sys.stderr):
                    self._next = now + self._lines
                    if self._lines < math.inf:
                        complain(GAP.join(text for _, text in self._cells(now - self._began, done, total, details)))
                    return
                self._live = Live(sys.stderr)
            self._live.draw(self._cells(now - self._began, done, total, details))
            self._next = now + INTERVAL

    def _cells(self, seconds, done, total, details):
        """Return the cells of the line, with their ranks."""
        cells = [(2, self.what)]
        if total > 0:
            cells.append((0, f"{100 * done // total}%"))
            counted = sizes(done, total) if self.unit == "bytes" else f"{done} of {total}"
            cells.append((4 if details else 1, counted))
        cells += [(1 if k == 0 else 5, text) for k, text in enumerate(details)]
        if 0 < done < total:
            cells.append((3, f"{duration(seconds * (total - done) / done)} left"))
        return cells


def open_tracked(path: Any, progress: Progress) -> io.BufferedReader:
    """Open a file to read bytes, and say with a `Progress` of unit "bytes" how much of it was read."""
    raw = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with what is returned
    return io.BufferedReader(_Tracked(raw, progress), BUFFER)


class _Tracked(io.RawIOBase):
    def __init__(self, raw, progress):
        self._raw, self._progress, self._done = raw, progress, 0
        self._size = os.fstat(raw.fileno()).st_size  # 0: a pipe

    def readable(self):
        return True

    def seekable(self):
        return self._raw.seekable()

    def seek(self, place, whence=io.SEEK_SET):
        self._done = self._raw.seek(place, whence)  # the directory of an archive is read first, at its end
        return self._done

    def tell(self):
        return self._raw.tell()

    def readinto(self, buffer):
        count = self._raw.readinto(buffer)
        self._done += count or 0
        self._progress(self._done, self._size)
        return count

    def close(self):
        self._raw.close()
        super().close()
