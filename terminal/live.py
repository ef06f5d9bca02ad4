"""One line at the end of a terminal that is rewritten, and lines above it that stay."""

import os
import time
from collections.abc import Sequence
from typing import Any

INTERVAL = 0.1  # seconds between two rewritings
GAP = "  "
COLUMNS = 80  # of a terminal that does not say its size


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; False if it is closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def rewritable(stream: Any) -> bool:
    """Return whether a stream is a terminal on which a line can be rewritten: no file, no pipe, not TERM=dumb."""
    if not is_terminal(stream):
        return False
    from rich.console import Console

    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


def fitted(cells: Sequence[tuple[int, str]], width: int) -> list[str]:
    """Return the texts of cells that fit into a line, in their order.

    Parameters
    ----------
    cells : sequence of (rank, text)
        Those of the highest rank are left out first; of equal ranks the last.
    width : int
        Columns of the line; cells are two columns apart. One cell is kept, and cut if it is wider.
    """
    from rich.cells import cell_len, set_cell_size

    kept = [(rank, place, text) for place, (rank, text) in enumerate(cells)]
    while len(kept) > 1 and sum(cell_len(text) + len(GAP) for *_, text in kept) - len(GAP) > width:
        kept.remove(max(kept))
    texts = [text for *_, text in kept]
    return [set_cell_size(text, width) if cell_len(text) > width else text for text in texts]


class Live:
    """A line that is rewritten, on a stream that is `rewritable`; `close` erases it.

    Its width is that of the terminal when it is written, so it follows a change of size. All characters but those of
    names are ASCII. NO_COLOR switches off styles (rich).

    Parameters
    ----------
    stream : text stream
    """

    def __init__(self, stream: Any) -> None:
        from rich.console import Console

        self._stream, self._console = stream, Console(file=stream, highlight=False)
        self._drawn, self._cells = float("-inf"), ()  # type: tuple[float, Sequence[tuple[int, str]]]

    @property
    def width(self) -> int:
        """Columns of a line; the last one of the terminal stays free, since some terminals wrap behind it."""
        return max(1, self._columns() - 1)

    def _columns(self):
        """Return the columns of this stream's terminal; rich takes those of standard input's."""
        given = os.environ.get("COLUMNS", "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or COLUMNS
        except (OSError, ValueError):
            return COLUMNS

    def due(self) -> bool:
        """Return whether the line may be rewritten again."""
        return time.monotonic() - self._drawn >= INTERVAL

    def draw(self, cells: Sequence[tuple[int, str]]) -> None:
        """Rewrite the line with the cells that fit; see `fitted`."""
        with self._console:
            self._erase()
            self._put(cells)

    def fitted(self, cells: Sequence[tuple[int, str]]) -> list[str]:
        """Return the texts of the cells that fit into a line of this terminal; see `fitted`."""
        return fitted(cells, self.width)

    def print(self, text: str, style: str = "", below: Sequence[tuple[int, str]] | None = None) -> None:
        """Write a line that stays, above the rewritten one. A text that is wider is wrapped between words.

        `below` are the new cells of the rewritten line, none if it ends; None: it stays as it was.
        """
        from rich.text import Text

        self._console.width = self._columns()
        with self._console:
            self._erase()
            self._console.print(Text(text, style))
            if below is not None:
                self._cells = below
            if self._cells:
                self._put(self._cells)

    def close(self) -> None:
        """Erase the line."""
        if self._cells:
            with self._console:
                self._erase()
            self._cells = ()

    def _put(self, cells):
        from rich.text import Text

        self._console.width = self._columns()
        text = GAP.join(fitted(cells, self.width))
        self._console.print(Text(text), end="", no_wrap=True, overflow="ignore", crop=False)
        self._drawn, self._cells = time.monotonic(), cells

    def _erase(self):
        from rich.control import Control
        from rich.segment import ControlType

        if self._cells:
            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
