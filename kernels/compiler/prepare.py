"""A helper process for an empty cache: it compiles half of the functions that kernels share, then half of the kernels.

    python -m nnjit.kernels.compiler.prepare float32 nnjit.kernels.cpu.conv_by_position:correlate \\
        nnjit.kernels.cpu.norm:scale:a1,f

A signature follows each kernel: a5 is an array of five dimensions, w1 a one-dimensional array of whole numbers, t3 a
tuple of three, i, f, b a whole number, a float and a bool.

Numba compiles in one thread. Compiled code goes to the disk cache under the hash of its source, so two processes can
work on one list from both ends and load each other's results. The helper ends with its standard input, and so with the
process that started it, however that ends.
"""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib import import_module

import numpy as np
from numba import types

from . import cache
from .kernel import FLOATS


@contextmanager
def from_both_ends(functions, kernels, real):
    """Yield `help`, a function that starts a process to compile `linked` functions, last first, if there are many.

    Then the process compiles kernels, pairs of a kernel and its signature, last first too. It is killed when the block
    ends.
    """
    process = None

    def help():
        nonlocal process
        if process is not None or not cache.writable():  # code reaches this process by the disk
            return
        names = [name for name in map(_name, functions) if name]
        after = [_called(kernel, signature) for kernel, signature in kernels]
        if len(names) > 2 and sys.executable and (os.cpu_count() or 1) > 1:
            command = [sys.executable, "-m", __name__, np.dtype(real).name, *reversed(names)]
            command += [name for name in reversed(after) if name]
            quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            try:
                process = subprocess.Popen(
                    command, **quiet, env=os.environ | {"NNJIT_CACHE_DIR": str(cache.directory())}
                )
            except OSError:  # then this process compiles everything
                process = False

    try:
        yield help
    finally:
        if process:
            process.kill()
            process.wait()
            process.stdin.close()


def heaviest_at_ends(items, weight):
    """Return items in an order for two workers that begin at its ends: they meet at the lightest ones.

    The one that comes later then waits, or repeats work, for a short time only.
    """
    ordered = sorted(items, key=weight, reverse=True)
    return ordered[1::2] + ordered[::2][::-1]


def _name(function):
    """Return the import name of a `linked` function for another process; None if it is not nnjit's."""
    if function.__module__.startswith("nnjit."):
        for name, value in vars(sys.modules[function.__module__]).items():
            if getattr(value, "py_func", None) is function:
                return f"{function.__module__}:{name}"
    return None


def _called(kernel, signature):
    """Return the import name of a kernel and its signature for another process; None if it is not nnjit's."""
    module = kernel.function.__module__
    if module.startswith("nnjit.") and vars(sys.modules[module]).get(kernel.__name__) is kernel:
        return f"{module}:{kernel.__name__}:{','.join(map(_letter, signature))}"
    return None


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


def _end_with_input():
    """End this process with its standard input, a pipe whose other end closes when the parent dies."""
    os.read(0, 1)
    os._exit(1)


def main(real, *names):
    real = getattr(np, real)
    for name in names:
        module, attribute, *signature = name.split(":")
        found = getattr(import_module(module), attribute)
        if signature:
            found.compile([_kind(text, real) for text in signature[0].split(",")], real)
        else:
            found.py_func.register(real)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    main(*sys.argv[1:])
