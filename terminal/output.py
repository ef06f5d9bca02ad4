"""Standard output and standard error, which may fail while a run continues."""

import os
import sys
from contextlib import suppress
from typing import Any


class Output:
    """Standard output until it fails; then one message on standard error, and the run continues without it.

    The reader may exit (`nnjit run | head -1`), the disk may be full, the terminal may be closed.
    """

    def __init__(self) -> None:
        self.stream: Any = sys.stdout

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> Any:
        return self._try(self.stream.write, text)

    def flush(self) -> None:
        self._try(self.stream.flush)

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
