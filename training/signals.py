"""Signals during training: a first one ends it after the step at hand, a second one at once."""

import signal
import threading
from typing import Any


class Listening:
    """SIGINT, SIGTERM and SIGHUP set a flag; the first one puts the former handlers back, which get a second signal.

    Only in the main thread, where Python allows it. A signal that is ignored (nohup) stays ignored.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.former: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # None: a handler that is not Python's, which could not be put back.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self.former[number] = signal.signal(number, self.hear)

    def hear(self, number: int, frame: Any) -> None:
        self.trainer._signal = number
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}
