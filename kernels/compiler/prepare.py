"""A helper process for an empty cache: it compiles a part of the functions that kernels share, and of the kernels.

    python -m nnjit.kernels.compiler.prepare

reads lines such as

    float32:nnjit.kernels.cpu.conv_by_position:correlate
    float32:nnjit.kernels.cpu.norm:scale:a1,f

compiles what each one names for the element type into the disk cache, and answers with an empty line. A signature
follows each kernel: a5 is an array of five dimensions, w1 a one-dimensional array of whole numbers, t3 a tuple of
three, i, f, b a whole number, a float and a bool.

Numba compiles in one thread. Both processes take work from one list (`Work`). The helper runs nothing, so it can
compile a kernel before the functions that it calls (`linked.elsewhere`). It ends with its standard input, and so with
the process that started it, however that ends.
"""

import gc
import os
import queue
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.registry import cpu_target

from . import linked, second
from .options import FLOATS


class Item(NamedTuple):
    """A function to compile, `linked` or a kernel for a signature.

    Attributes
    ----------
    function : function or Kernel
    signature : tuple or None
    needs : tuple
        The `linked` functions that must be there before its code is loaded.
    unreached : frozenset
        The functions that a kernel does not reach.
    """

    function: Any
    signature: tuple | None
    needs: tuple
    unreached: frozenset = frozenset()

    def compile(self, real):
        if self.signature is None:
            self.function.provide(real)
        else:
            self.function.symbol(self.signature, real, self.unreached)

    def name(self, real):
        """Return the line that names it to another process; None if it cannot be named."""
        return _name(self.function) if self.signature is None else _called(self.function, self.signature, real)


class Work:
    """A list of functions to compile: this process takes from the front, a helper from the end.

    Items come in an order in which each follows those that it needs.
    """

    def __init__(self, items, real):
        self.left, self.real = list(items), real
        self._changed = threading.Condition()
        self._away = set()  # functions that the helper compiles now

    def take(self):
        """Return the next item for this process, or None when nothing is left; wait for what it needs."""
        with self._changed:
            ready = (item for item in self.left if self._away.isdisjoint(item.needs))
            item = next(ready, self.left[0] if self.left else None)
            if item is not None:
                self.left.remove(item)
                self._changed.wait_for(lambda: self._away.isdisjoint(item.needs))
            return item

    def give(self):
        """Return the next item for the helper and its name, or None when nothing is left that it knows."""
        with self._changed:
            for item in reversed(self.left):
                if name := item.name(self.real):
                    self.left.remove(item)
                    self._away.add(item.function)
                    return item, name
        return None

    def returned(self, item):
        """Note that the helper has compiled an item, or that it has ended."""
        with self._changed:
            self._away.discard(item.function)
            self._changed.notify_all()

    def wait(self):
        """Wait until the helper has compiled what it took."""
        with self._changed:
            self._changed.wait_for(lambda: not self._away)


@contextmanager
def helped(work):
    """Let a second process take its part of the work, if there is much; it is killed when the block ends.

    It is the one that `second.early` has started, or a new one.
    """
    processes = second.given()
    if len(work.left) > 2:
        processes = processes or (second.started() if second.possible() else [])
        for process in processes:
            threading.Thread(target=_feed, args=(process, work), daemon=True).start()
    try:
        yield
    finally:
        second.end(processes)


def _feed(process, work):
    """Hand one item after the other to the helper, which answers each, and first its start, with a line."""
    item = None
    try:
        while process.stdout.readline():
            if item is not None:
                work.returned(item)
                item = None
            given = work.give()
            if given is None:
                return
            item, name = given
            process.stdin.write(f"{np.dtype(work.real).name}:{name}\n".encode())
            process.stdin.flush()
    except (OSError, ValueError):  # it has ended
        pass
    finally:
        if item is not None:
            work.returned(item)
        process.stdout.close()


def _name(function):
    """Return the import name of a `linked` function for another process; None if it is not nnjit's."""
    if function.__module__.startswith("nnjit."):
        for name, value in vars(sys.modules[function.__module__]).items():
            if getattr(value, "py_func", None) is function:
                return f"{function.__module__}:{name}"
    return None


def _called(kernel, signature, real):
    """Return the import name of a kernel and its signature for another process; None if it cannot be named."""
    module, letters = kernel.function.__module__, [_letter(kind) for kind in signature]
    if not module.startswith("nnjit.") or vars(sys.modules[module]).get(kernel.__name__) is not kernel:
        return None
    if [_kind(letter, real) for letter in letters] != list(signature):  # arrays of two types of floats
        return None
    return f"{module}:{kernel.__name__}:{','.join(letters)}"


def _letter(kind):
    if isinstance(kind, types.Array):
        return f"{'w' if isinstance(kind.dtype, types.Integer) else 'a'}{kind.ndim}"
    if isinstance(kind, types.UniTuple):
        return f"t{kind.count}"
    return "b" if kind is types.boolean else "i" if isinstance(kind, types.Integer) else "f"


def _kind(text, real):
    letter, count = text[0], int(text[1:] or 0)
    if letter in "aw":
        return types.Array(FLOATS[real] if letter == "a" else types.intp, count, "C")
    return {"t": types.UniTuple(types.intp, count), "b": types.boolean, "i": types.intp, "f": FLOATS[real]}[letter]


def _read(lines):
    """Queue the lines of standard input, a pipe whose other end closes when the parent dies; then end this process."""
    for line in sys.stdin:
        lines.put(line.strip())
    os._exit(1)


def main():
    gc.disable()
    linked.elsewhere = True
    lines: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    # Numba does this at the first compilation; there may be nothing to compile yet.
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()
    while True:
        print(flush=True)
        real, module, attribute, *signature = lines.get().split(":")
        real, found = getattr(np, real), getattr(import_module(module), attribute)
        if signature:
            found.compile([_kind(text, real) for text in signature[0].split(",")], real)
        else:
            found.py_func.compile(real)


if __name__ == "__main__":
    main()
