"""The second process of an empty cache, which compiles a part of the functions (prepare.py).

A command starts it before it knows its own work: both processes then import Numba at the same time, for half a second.
Nothing here needs Numba.
"""

import os
import subprocess
import sys
from contextlib import contextmanager, suppress

from . import directory

MODULE = "nnjit.kernels.compiler.prepare"

_early: list = []  # the process that `early` has started, until it gets work


@contextmanager
def early(wanted=True):
    """Start the process if the cache is empty and `wanted`; if it got no work, it is killed when the block ends."""
    if wanted and possible() and directory.empty():
        _early.extend(started())
    try:
        yield
    finally:
        end(given())


def possible():
    """Return whether a second process may help: there is a processor for it, and code reaches this one by the disk."""
    return (os.cpu_count() or 1) > 1 and bool(sys.executable) and directory.writable()


def started():
    """Start the process; return it in a list, which is empty if that fails."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"NNJIT_CACHE_DIR": str(directory.directory())}
    try:
        return [subprocess.Popen([sys.executable, "-m", MODULE], **pipes, env=environment)]
    except OSError:  # then this process compiles everything
        return []


def given():
    """Return the process that was started early, in a list, and forget it."""
    processes, _early[:] = _early[:], []
    return processes


def end(processes):
    """Kill the processes of a list."""
    for process in processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what it did not read
                pipe.close()
