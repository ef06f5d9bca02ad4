"""Progress of a training run: epochs have a line that stays; on a terminal a line below them is rewritten.

A run calls a reporter's ``say(lines)`` with notes on its data and ``compiling(done, total)`` before training (from 0
kernels to all). The trainer calls ``begin(trainer)``,
``progress(epoch, done, steps, loss)`` from time to time, ``epoch(record)`` after each epoch and ``end(history)``.
`nnjit watch` calls ``start`` in place of ``begin``, and the others with what it reads from the log.
A reporter is a context manager: it restores the terminal however training ends.
"""

import math
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from ..terminal.live import GAP, Live, rewritable
from ..terminal.output import Output
from ..terminal.quantities import duration

PATIENCE = 1.0  # seconds before the line "compiling": loading kernels from disk takes less
LEAST, MOST = 0.5, 10.0  # seconds between the lines of two epochs, at least; an epoch that takes more has its line
SHARE = 100  # between these two limits: this part of the time so far
NUMBER = 7  # characters of a number such as 0.01234
TIME = 11  # characters of a time such as 12 min 05 s
QUICK = "epochs are quick: from here on only some have a line; the last and the best do"


def reporter() -> "Lines":
    """Return the reporter for the kind of standard output."""
    return LiveLine() if rewritable(sys.stdout) else Lines()


def spacing(epoch: int, each: float, seconds: float) -> int:
    """Return the number of epochs from the line of an epoch to the next line.

    It is 1, 2, 5, 10, 20, 50 and so on: the first that leaves `LEAST` seconds between two lines or, if that is more, a
    part of the time so far, up to `MOST` seconds. If epochs are very quick, the first 20 have a line, then every 10th,
    from 200 on every 100th, and so on.

    Parameters
    ----------
    epoch : int
    each, seconds : float
        The time of one epoch, and of all so far.
    """
    most = 10 ** (len(str(epoch // 2)) - 1)
    wanted = min(max(LEAST, seconds / SHARE), MOST)
    found, power = 1, 1
    while found * each < wanted and found < most:
        found = {power: 2 * power, 2 * power: 5 * power, 5 * power: 10 * power}[found]
        power *= 10 if found == 10 * power else 1
    return found


class Lines:
    """Lines for epochs, all of them or, of quick ones, some: the first, the last, the best and those of a `spacing`.

    The epoch with the lowest validation loss so far, or training loss if there is none, is marked "best".
    """

    def __enter__(self):
        self.epochs, self.at_most, self._later, self.out = 0, False, None, Output()
        self._began = time.monotonic()
        self._lowest = math.inf  # figure of an epoch
        self._first, self._best, self._latest = None, None, None  # records
        self._due, self._shown, self._quick = 0, set(), False  # the next epoch with a line; those that had one
        self._widths: dict[str, int] = {}
        return self

    def __exit__(self, *error):
        self._hush()
        self._rest()

    def say(self, lines):
        for line in lines:
            self._print(line)

    def compiling(self, done, total):
        if done == total:
            self._hush()
        elif self._later is None:
            where = {"flush": True, "file": self.out}
            self._later = threading.Timer(PATIENCE, print, [f"compiling {total} kernels ..."], where)
            self._later.daemon = True
            self._later.start()

    def _hush(self):
        if self._later is not None:
            self._later.cancel()

    def begin(self, trainer):
        progress, patience = trainer.progress, trainer.settings.patience
        self.start(trainer.settings.epochs, patience is not None, progress["seconds"], progress["best"])
        self.say(trainer.lines)

    def start(self, epochs, at_most=False, seconds=0.0, lowest=None):
        """Begin the lines of a run.

        Parameters
        ----------
        epochs : int
        at_most : bool
            The run may end before its last epoch, by patience.
        seconds : float
            How long it has run already.
        lowest : float or None
            The figure of its best epoch so far.
        """
        self.epochs, self.at_most = epochs, at_most
        self.ran(seconds)
        self._lowest = math.inf if lowest is None else lowest

    def ran(self, seconds):
        """Take the seconds that the run has taken up to now."""
        self._began = time.monotonic() - seconds

    def progress(self, epoch, done, steps, loss):
        pass

    def epoch(self, record):
        figure = record.get("val_loss", record.get("loss"))
        if figure is not None and figure < self._lowest:
            self._lowest, self._best = figure, record
        self._latest = record
        if record["epoch"] >= self._due:
            self._show(record)
            # The first epoch is apart: it may have compiled something.
            self._first = first = self._first or record
            seconds = record["seconds"] - first["seconds"]
            each = seconds / max(record["epoch"] - first["epoch"], 1)
            step = spacing(record["epoch"], each, seconds) if record is not first else 1
            self._due = (record["epoch"] // step + 1) * step
            if step > 1 and not self._quick and self._due < self.epochs:
                self._quick = True
                self._print(QUICK)

    def end(self, history):
        self._rest()
        if history.ending():
            self._print(history.ending())
        for remark in history.remarks:
            self._print(f"note: {remark}", "yellow")

    def _rest(self):
        """Show the last epoch and the best one, if they had no line."""
        for record in (self._latest, self._best):
            if record is not None and record["epoch"] not in self._shown:
                self._show(record)

    def _show(self, record):
        self._shown.add(record["epoch"])
        best = record is self._best
        self._print(GAP.join(self._fitted(self._cells(record, best))).rstrip(), "bold" if best else "")

    def _cells(self, record, best):
        """Return the (rank, text) of the cells of an epoch's line; those of a name are equally wide in all lines."""
        numbers = figures(record)
        judge = "val_loss" if "val_loss" in numbers else "loss"
        for name, number in numbers.items():
            width = max(len(f"{number:.4g}"), self._widths.get(name, NUMBER))
            self._widths[name] = width
        count = str(self.epochs or "?")
        cells = [(0, f"epoch {record['epoch']:{len(count)}}/{count}"), (2, "best" if best else "    ")]
        for k, (name, width) in enumerate(self._widths.items()):
            rank = 1 if name == judge else 3 if name == "loss" else 4 if k < 3 else 6
            text = f"{name} {numbers[name]:.4g}" if name in numbers else ""
            cells.append((rank, text.ljust(len(name) + 1 + width)))
        return [*cells, (5, duration(record["seconds"]).ljust(TIME))]

    def _fitted(self, cells):
        return [text for _, text in cells]

    def _print(self, line, style=""):
        self.out.write(f"{line}\n")
        self.out.flush()


class Quiet(Lines):
    """Nothing while a run trains, but that it is compiled; for a run of many, which has a line when it ends."""

    def epoch(self, record):
        pass

    def _print(self, line, style=""):
        pass


class Silent(Quiet):
    """Nothing at all; for a worker, since its parent has said that it compiles."""

    def compiling(self, done, total):
        pass


class LiveLine(Lines):
    """On a terminal: the lines of epochs, as wide as it is, and below them one that says what goes on now."""

    def __enter__(self):
        super().__enter__()
        self._live = Live(self.out)
        self._ended = None  # the record of an epoch, while its line is written
        return self

    def __exit__(self, *error):
        super().__exit__(*error)
        self._live.close()

    def compiling(self, done, total):
        if done < total:
            self._live.draw([(0, f"compiling {total} kernels ...")])

    def progress(self, epoch, done, steps, loss):
        if self._live.due():
            self._live.draw(self._now(epoch, done, steps, loss))

    def epoch(self, record):
        self._ended = record
        super().epoch(record)
        self._ended = None

    def end(self, history):
        self._live.close()
        super().end(history)

    def _now(self, epoch, done, steps, loss):
        """Return the (rank, text) of the cells of the line that is rewritten; `steps` 0: unknown."""
        cells = [(0, f"epoch {epoch}/{self.epochs}")]
        if steps != 1:
            cells.append((4, f"step {done}/{steps}" if steps else f"step {done}"))
        if loss is not None:
            cells.append((2, f"loss {loss:.4g}"))
        if self._best is not None:
            cells.append((3, f"best {self._lowest:.4g} (epoch {self._best['epoch']})"))
        share = (epoch - 1 + done / (steps or math.inf)) / (self.epochs or math.inf)
        seconds = time.monotonic() - self._began
        if 0 < share < 1:
            left = duration(seconds * (1 - share) / share)
            cells.append((1, f"at most {left} left" if self.at_most else f"{left} left"))
        return cells

    def _fitted(self, cells):
        return self._live.fitted(cells)

    def _print(self, line, style=""):
        below = None
        if self._ended is not None:  # below its line the next epoch, if there is one
            following = self._ended["epoch"] + 1
            below = self._now(following, 0, 1, None) if following <= self.epochs else []
        self._live.print(line, style, below)


def figures(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of an epoch to print: losses, and validation metrics (training metrics where there are none).

    Parameters
    ----------
    record : dict
        An epoch's record, as in log.jsonl.

    Returns
    -------
    dict : name -> float, the training loss first
        The name tells if a metric was measured on a sample of the training data: "accuracy (1000 samples)".
    """
    about = {"epoch", "step", "seconds", "lr", "gradient_norm", "loss", "val_loss"}
    some = f" ({record['metric_samples']} samples)" if "metric_samples" in record else ""
    metrics = {
        name if name.startswith("val_") else name + some: number
        for name, number in record.items()
        if isinstance(number, float) and name not in about and (f"val_{name}" not in record)
    }
    losses = {name: record[name] for name in ("loss", "val_loss") if isinstance(record.get(name), float)}
    return losses | metrics
