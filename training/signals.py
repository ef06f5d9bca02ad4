"""Signals during training: the first one ends it after the current step, a second one at once."""

import signal
import threading
from collections.abc import Callable
from typing import Any


class Listening:
    """Handlers of SIGINT, SIGTERM and SIGHUP that set a flag; the first signal restores the former handlers.

    Python allows handlers in the main thread only. A signal that is ignored (nohup) stays ignored.

    Parameters
    ----------
    tell : function of an int
        Gets the number of the first signal.
    """

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell
        self.former: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # None: a handler that is not Python's and could not be restored.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.former[number] = signal.signal(number, self.handle)

    def handle(self, number: int, frame: Any) -> None:
        self.tell(number)
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}
