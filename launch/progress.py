"""What a person sees of a training: one live line on a terminal, one line an epoch elsewhere.

A reporter is told what happens: ``compiling(done, total)`` before training (from no kernel to all), then
``begin(trainer)``, ``progress(epoch, done, steps, loss)`` now and then, ``epoch(record)`` after each, ``end(history)``.
It is used as a context, so that whatever ends the training leaves the terminal in order.
"""

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, cast

PATIENCE = 1.0  # seconds: what is loaded from disk needs no line that says "compiling"


class Output:
    """Standard output until it fails; then a sentence on standard error, and a run goes on without it.

    Its reader may leave (`nnjit run | head -1`), its disk may be full, its terminal may be closed.
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
        except (OSError, ValueError) as error:  # ValueError: it is closed
            discard(self.stream)
            complain(f"standard output: {getattr(error, 'strerror', None) or error}; the run goes on without it")


def discard(stream: Any) -> None:
    """Send what a stream still holds, and all that follows, to the null device: Python flushes it once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(sentence: object) -> None:
    """Print a sentence on standard error, if that is still there."""
    try:
        print(f"nnjit: {sentence}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def reporter() -> "Lines | LiveLine":
    """The reporter that suits standard output."""
    return LiveLine() if sys.stdout.isatty() else Lines()


class Lines:
    """One plain line an epoch."""

    def __enter__(self):
        self.epochs, self._later, self.out = "?", None, Output()
        return self

    def __exit__(self, *error):
        self._hush()

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

    def progress(self, epoch, done, steps, loss):
        pass

    def epoch(self, record):
        width = len(str(self.epochs))
        numbers = "  ".join(f"{name} {number:.4g}" for name, number in figures(record).items())
        line = f"epoch {record['epoch']:{width}}/{self.epochs}  {numbers}  {record['seconds']:.1f} s"
        print(line, file=self.out, flush=True)

    def end(self, history):
        pass


class LiveLine:
    """One line that is rewritten: epoch, step, loss, and what the last validation gave."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = TextColumn("{task.description}"), BarColumn(10), TextColumn("{task.fields[said]}")
        self.bar = Progress(*columns, console=Console(file=cast(IO[str], Output())), refresh_per_second=5)
        self.bar.start()
        self.task = self.bar.add_task("preparing", total=None, said="")
        self.epochs, self.last = "?", ""
        return self

    def __exit__(self, *error):
        self.bar.stop()

    def compiling(self, done, total):
        self._show(
            f"compiling {done}/{total} kernels ..." if done else f"compiling {total} kernels ...", done, total, ""
        )

    def begin(self, trainer):
        self.epochs = trainer.settings.epochs

    def progress(self, epoch, done, steps, loss):
        self._show(f"epoch {epoch}/{self.epochs}", done, steps, f"{done}/{steps}  loss {loss:.4g}  {self.last}")

    def epoch(self, record):
        found = figures(record)
        self.last = "  ".join(f"{name} {number:.4g}" for name, number in found.items() if name != "loss")
        said = f"loss {found['loss']:.4g}  {self.last}" if "loss" in found else self.last
        self._show(f"epoch {record['epoch']}/{self.epochs}", 1, 1, said)

    def end(self, history):
        self.bar.stop()

    def _show(self, description, done, total, said):
        self.bar.update(self.task, description=description, completed=done, total=total, said=said)


def figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch that are worth a place in a line: losses, and the metrics of the best data there is.

    Parameters
    ----------
    record : dict
        An epoch's record, as in log.jsonl.

    Returns
    -------
    dict : name -> float, the training loss first
        The name says so where a metric was measured on a sample of the training data: "accuracy (1000 samples)".
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
