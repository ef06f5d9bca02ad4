"""Progress of a training run: one live line on a terminal, one line per epoch elsewhere.

A run calls a reporter's ``say(lines)`` with notes on its data and ``compiling(done, total)`` before training (from 0
kernels to all). The trainer calls ``begin(trainer)``,
``progress(epoch, done, steps, loss)`` from time to time, ``epoch(record)`` after each epoch and ``end(history)``.
A reporter is a context manager: it restores the terminal however training ends.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, cast

PATIENCE = 1.0  # seconds before the line "compiling": loading kernels from disk takes less
TOGETHER = 0.1  # seconds in which lines are collected: to print each would take a tenth of an epoch of the ten points


class Output:
    """Standard output until it fails; then one message on standard error, and the run continues without it.

    The reader may exit (`nnjit run | head -1`), the disk may be full, the terminal may be closed.
    """

    def __init__(self):
        self.stream = sys.stdout

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self._try(self.stream.write, text)

    def flush(self):
        return self._try(self.stream.flush)

    def _try(self, act, *arguments):
        try:
            return act(*arguments)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            discard(self.stream)
            complain(f"standard output: {getattr(error, 'strerror', None) or error}; the run goes on without it")


def discard(stream: Any) -> None:
    """Send the buffer of a stream and all later output to the null device, since Python flushes again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: object) -> None:
    """Print a message on standard error, if it is still open."""
    try:
        print(f"nnjit: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def reporter() -> "Lines | LiveLine":
    """Return the reporter for the kind of standard output."""
    return LiveLine() if sys.stdout.isatty() else Lines()


class Lines:
    """One plain line per epoch."""

    def __enter__(self):
        self.epochs, self._later, self.out = "?", None, Output()
        self._lines, self._shown = [], 0.0  # lines to print, and the time of the latest that were
        return self

    def __exit__(self, *error):
        self._hush()
        self._show()

    def say(self, lines):
        self._lines += [f"{line}\n" for line in lines]
        self._show()

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
        self.epochs = trainer.settings.epochs
        self._lines += [f"{line}\n" for line in (trainer.units, trainer.weighting) if line]

    def progress(self, epoch, done, steps, loss):
        pass

    def epoch(self, record):
        width = len(str(self.epochs))
        numbers = "  ".join(f"{name} {number:.4g}" for name, number in figures(record).items())
        self._lines.append(f"epoch {record['epoch']:{width}}/{self.epochs}  {numbers}  {record['seconds']:.1f} s\n")
        if time.monotonic() - self._shown > TOGETHER:
            self._show()

    def end(self, history):
        self._lines += [f"{history.ending()}\n"] if history.ending() else []
        self._show()

    def _show(self):
        if self._lines:
            self.out.write("".join(self._lines))
            self.out.flush()
        self._lines, self._shown = [], time.monotonic()


class Silent(Lines):
    """Nothing while a run trains; for a run of many, which has a line when it ends."""

    def say(self, lines):
        pass

    def epoch(self, record):
        pass


class LiveLine:
    """One line that is rewritten: epoch, step, loss and the results of the last validation."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        class Line(Progress):
            """A bar that takes the numbers when it is drawn: `update` would cost more than a short epoch."""

            def get_renderables(bar):
                if self._now is not None:
                    bar.update(self.task, **self._now)
                return super().get_renderables()

        columns = TextColumn("{task.description}"), BarColumn(10), TextColumn("{task.fields[said]}")
        self.epochs, self.last, self._now = "?", "", None
        self.bar = Line(*columns, console=Console(file=cast(IO[str], Output())), refresh_per_second=5)
        self.bar.start()
        self.task = self.bar.add_task("preparing", total=None, said="")
        return self

    def __exit__(self, *error):
        self.bar.stop()

    def say(self, lines):
        for line in lines:
            self.bar.console.print(line, markup=False, highlight=False)

    def compiling(self, done, total):
        self._show(
            f"compiling {done}/{total} kernels ..." if done else f"compiling {total} kernels ...", done, total, ""
        )

    def begin(self, trainer):
        self.epochs = trainer.settings.epochs
        for line in (trainer.units, trainer.weighting):
            if line:
                self.bar.console.print(str(line), markup=False, highlight=False)

    def progress(self, epoch, done, steps, loss):
        self._show(f"epoch {epoch}/{self.epochs}", done, steps, f"{done}/{steps}  loss {loss:.4g}  {self.last}")

    def epoch(self, record):
        found = figures(record)
        numbers = "  ".join(f"{name} {number:.4g}" for name, number in found.items() if name != "loss")
        self.last = numbers or self.last  # long runs measure training metrics every k-th epoch only
        said = f"loss {found['loss']:.4g}  {self.last}" if "loss" in found else self.last
        self._show(f"epoch {record['epoch']}/{self.epochs}", 1, 1, said)

    def end(self, history):
        self.bar.stop()
        if history.ending():
            self.bar.console.print(history.ending(), markup=False, highlight=False, soft_wrap=True)

    def _show(self, description, done, total, said):
        self._now = {"description": description, "completed": done, "total": total, "said": said}


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
