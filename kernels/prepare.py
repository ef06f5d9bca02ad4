"""With an empty cache: a second process compiles half of the functions that kernels share.

    python -m nnjit.kernels.prepare float32 nnjit.kernels.cpu.conv_tiles:correlate ...

Numba compiles in one thread. Compiled code goes to the disk cache under the hash of its source, so two processes can
work on one list from both ends: what the one finds there, the other has made.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module

import numpy as np

from . import cache


@contextmanager
def from_both_ends(functions, real):
    """Within the block, `help()` starts a process that compiles `linked` functions, last first, if there are many.

    What it has not finished by the end of the block is nobody's need any more.
    """
    process = None

    def help():
        nonlocal process
        names = [name for name in map(_name, functions) if name]
        if process is None and len(names) > 2 and sys.executable and (os.cpu_count() or 1) > 1:
            command = [sys.executable, "-m", __name__, np.dtype(real).name, *reversed(names)]
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            try:
                process = subprocess.Popen(
                    command, **quiet, env=os.environ | {"NNJIT_CACHE_DIR": str(cache.directory())}
                )
            except OSError:  # then this process does it all
                process = False

    try:
        yield help
    finally:
        if process:
            process.kill()
            process.wait()


def _name(function):
    """Where another process finds a `linked` function; None if it is none of nnjit's own."""
    if function.__module__.startswith("nnjit."):
        for name, value in vars(sys.modules[function.__module__]).items():
            if getattr(value, "py_func", None) is function:
                return f"{function.__module__}:{name}"
    return None


def main(real, *names):
    for name in names:
        module, _, attribute = name.partition(":")
        getattr(import_module(module), attribute).py_func.register(getattr(np, real))


if __name__ == "__main__":
    main(*sys.argv[1:])
