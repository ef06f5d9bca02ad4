"""Processes that train one network together, the ranks of MPI: what they send each other besides gradients.

Rank 0 reads the data, decides, writes and prints. The others do as it says: each of its messages is a tuple that
begins with a word (launch/follow.py). An error before training is one sentence of rank 0, after which all ranks end; a
later one on any rank ends them by MPI_Abort, and mpiexec ends them if one is killed.
"""

import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy as np

from .. import __version__
from ..errors import NnjitError, UsageError
from ..registry.sources import PLUGINS, digest
from ..terminal.output import complain

APART = {"tests", "benchmarks", "examples", "tools"}  # folders of a checkout that no run imports
SPIN = 0.001  # seconds of waiting for a message without rest; later a rank leaves its processor to others
REST = 0.001  # seconds between two looks for a message


def join(size: int) -> "Ranks":
    """Return the ranks that a launcher started, as many as `size`.

    Raises
    ------
    UsageError
        mpi4py is missing, or works with the MPI of another launcher; or another rank has other versions.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no library of MPI
        raise UsageError(
            f"{size} processes were started together, but they cannot train together without mpi4py ({error}); "
            "install it with pip install 'nnjit[mpi]', or start one process"
        ) from None
    world = MPI.COMM_WORLD
    if world.size != size:
        raise UsageError(
            f"{size} processes were started together, but mpi4py knows of {world.size}: the launcher belongs to "
            f"another MPI than {MPI.get_vendor()[0]}, which mpi4py loaded; start them with its own mpiexec"
        )
    ranks = Ranks(world, MPI)
    found = world.allgather((str(ranks), versions()))
    for where, theirs in found[1:]:
        compare(where, theirs, found[0][1])
    return ranks


class Ranks:
    """The ranks of a job.

    Parameters
    ----------
    world : mpi4py.MPI.Comm
    MPI : module

    Attributes
    ----------
    rank, size : int
        The number of this process, and of all.
    machine : mpi4py.MPI.Comm
        The ranks of this machine.
    threads : int
        This rank's part of the processors of its machine.
    global_statistics : bool
        Whether layers that couple a batch see all of it on every rank; ``run.global_statistics`` of the config.
    """

    def __init__(self, world: Any, MPI: Any) -> None:
        self.world, self.MPI, self.rank, self.size = world, MPI, world.rank, world.size
        self.machine = world.Split_type(MPI.COMM_TYPE_SHARED, key=world.rank)
        self._locked, self.global_statistics = False, False
        mine = processors()
        others = [each for each in self.machine.allgather(sorted(mine)) if mine & set(each)]
        self.threads = max(1, min(len(mine) // len(others), numba.config.NUMBA_NUM_THREADS))

    def tell(self, *message: Any) -> None:
        """Send a message from rank 0 to all others."""
        for rank in range(1, self.size):
            self.world.send(message, dest=rank)

    def hear(self, source: int = 0) -> Any:
        """Return the next message of a rank."""
        began = time.perf_counter()
        while not self.world.Iprobe(source=source):
            if time.perf_counter() - began > SPIN:
                time.sleep(REST)
        return self.world.recv(source=source)

    def answer(self, failure: str | None = None) -> None:
        """Tell rank 0 that this rank is ready, or why it is not."""
        self.world.send((str(self), failure, versions()), dest=0)

    def hear_all(self) -> None:
        """Wait until all other ranks are ready for the steps, with the code of rank 0.

        Raises
        ------
        NnjitError
            One of them says why it is not.
        UsageError
            One of them has other versions.
        """
        own, answers = versions(), [self.hear(rank) for rank in range(1, self.size)]
        for where, failure, found in answers:
            if failure is not None:
                raise NnjitError(f"{where}: {failure}")
            compare(where, found, own)

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Mark work in which every rank waits for the others: an error in it ends all of them by MPI_Abort."""
        self._locked = True
        yield
        self._locked = False

    def lead(self, work: Callable[[], int]) -> int:
        """Run the work of rank 0, which returns the exit status; whatever its end is, the other ranks end too."""
        try:
            status = work()
        except BaseException as error:
            if self._locked:
                self.abort(error)
            self.tell("end", 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_status", 1))
            raise
        self.tell("end", status)
        return status

    def abort(self, error: BaseException) -> None:
        """Say what went wrong on this rank, and end all of them."""
        if isinstance(error, (NnjitError, OSError, MemoryError)):
            complain(f"{self}: {error}")
        elif not isinstance(error, KeyboardInterrupt):
            traceback.print_exc()
            complain(f"{self}: {type(error).__name__}: {error}")
        sys.stdout.flush()
        sys.stderr.flush()
        self.world.Abort(130 if isinstance(error, KeyboardInterrupt) else 1)

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.MPI.Get_processor_name()}"


def versions() -> dict[str, str]:
    """Return the versions of what all ranks must share, by name; code that a version may hide has a digest."""
    package = Path(__file__).parent.parent
    code = blake2b(digest_size=4)
    for file in sorted(package.rglob("*.py")):
        if file.relative_to(package).parts[0] not in APART:
            code.update(file.read_bytes())
    found = {"nnjit": f"{__version__} (code {code.hexdigest()})", "numba": numba.__version__, "numpy": np.__version__}
    found["Python"] = platform.python_version()
    for given in PLUGINS.values():
        found[f"the plug-in {Path(given).name}"] = f"(code {digest(given)})"
    for group in metadata.entry_points().groups:
        for point in metadata.entry_points(group=group) if group.startswith("nnjit.") else ():
            if point.dist is not None:
                found[f"the plug-in {point.dist.name}"] = point.dist.version
    return found


def compare(where: str, found: dict[str, str], own: dict[str, str]) -> None:
    """Raise UsageError if the versions of a rank are not those of rank 0, its own."""
    for name, version in own.items():
        if found.get(name) != version:
            raise UsageError(
                f"{where} has {name} {found.get(name, 'not loaded')}, but rank 0 has {version}; all ranks need the "
                "same installation"
            )


def processors() -> set[int]:
    """Return the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
