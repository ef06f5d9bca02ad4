"""Runs on the workers of a Dask scheduler: the work of `nnjit run --scheduler`.

All machines share a file system: a run is written where it would be without a cluster. Workers are checked before
anything starts, and again by each run, since workers may come later. Dask does the run of a lost worker again, on
another worker or on the same one once it is back.
"""

import asyncio
import logging
import os
import pickle
import queue
import re
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import NnjitError, UsageError
from ..registry import datasets, initializers, layers, losses, metrics, optimizers, schedules
from ..registry.specs import quoted
from ..terminal.output import complain
from ..training.config import Resolved
from . import launch, remote

ADDRESS = re.compile(r"((tcp|tls|wss?)://)?(\[[\da-fA-F:.%]+\]|[^\s/:\[\]]+):\d{1,5}/?")
CONNECT = 5.0  # seconds until a scheduler that does not answer cannot be reached
PAUSE = 0.2  # seconds between two looks at signals and workers
LOST = 3  # times that a run may lose its process before the command ends


class Cluster:
    """The workers of a scheduler, for runs in one directory; a context manager, whose end stops what still trains.

    Parameters
    ----------
    address : str
        Of the scheduler, such as tcp://10.0.0.5:8786.
    folder : Path
        The directory of the runs, absolute.
    resolved : Resolved
        The config of a run.

    Raises
    ------
    UsageError
        Dask is missing, the address is none, or there is no scheduler or no worker.
    """

    def __init__(self, address: str, folder: Path, resolved: Resolved) -> None:
        try:
            import distributed
        except ImportError as error:
            raise UsageError('--scheduler needs Dask: pip install "nnjit[dask]"') from error
        self._dask, self._address, self._folder = distributed, address, folder
        self._token = f".{uuid.uuid4().hex[:12]}.token"
        self._needs = self._needed(resolved)
        self._client = self._connected()
        self._names: dict[Any, str] = {}  # the task of a run -> its name
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()  # tasks

    def _needed(self, resolved):
        catalogues = (layers, losses, optimizers, schedules, initializers, datasets, metrics)
        installed = set().union(*(catalogue.distributions() for catalogue in catalogues))
        values = launch.with_absolute_paths(resolved.reader).options().values()
        return remote.Needs(
            versions=remote.versions(*installed),
            plugins={plugin: remote.digest(plugin) for plugin in launch.portable(resolved).run.plugins},
            folder=str(self._folder),
            token=self._token,
            files=tuple(
                each for each in values if isinstance(each, str) and os.path.isabs(each) and os.path.exists(each)
            ),
        )

    def _connected(self):
        """Return a client; its own messages, with tracebacks, would say the same once more."""
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        said = f"--scheduler {quoted(self._address)}"
        if not ADDRESS.fullmatch(self._address):
            raise UsageError(f"{said}: expected the address of a Dask scheduler, such as tcp://10.0.0.5:8786")
        try:
            kind = asyncio.run(asyncio.wait_for(self._kind(), CONNECT))
        except (OSError, TimeoutError, OverflowError):  # OverflowError: no port has such a number
            kind = "nothing"
        if kind != "Scheduler":
            found = (
                f"a {kind.lower()} of Dask, no scheduler," if kind in ("Worker", "Nanny") else "no scheduler of Dask"
            )
            raise UsageError(
                f"{said}: {found} answers there within {CONNECT:.0f} s; is one running, and is this its address?"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of Dask
            client = self._dask.Client(self._address, timeout=CONNECT, set_as_default=False)
        if not client.nthreads():
            client.close()
            raise UsageError(f"{said}: it has no workers; start some with dask worker {self._address}")
        return client

    async def _kind(self):
        """Ask what listens at the address; `Client` would wait without end for a server that is not Dask's."""
        async with self._dask.rpc(self._address) as server:
            return str((await server.identity())["type"])

    def __enter__(self) -> "Cluster":
        (self._folder / self._token).touch()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._names), force=True)
        with suppress(Exception):
            self._client.close(timeout=CONNECT)
        (self._folder / self._token).unlink(missing_ok=True)

    def check(self) -> None:
        """Check that each worker has the directory, and the nnjit, Numba, NumPy, plug-ins and data of this process.

        Raises
        ------
        UsageError
            The worker, and what it lacks.
        """
        found = self._ask(remote.missing, self._needs)
        wrong = {worker: self._lack(answer) for worker, answer in found.items() if answer is not None}
        if wrong:
            worker, lack = next(iter(wrong.items()))
            more = len(wrong) - 1
            others = f" (and {more} other{'s' * (more > 1)})" if more else ""
            raise UsageError(f"the worker {worker}{others} {lack}")

    def _ask(self, function, *arguments):
        """Call a function in each worker; return worker -> what it returned or raised."""
        return self._client.run(function, *arguments, on_error="return")

    def _lack(self, answer):
        if not isinstance(answer, str) and "nnjit" in str(answer):  # Dask found no module, or no function in it
            return f"has no nnjit {self._needs.versions['nnjit']} ({answer})"
        return answer if isinstance(answer, str) else f"does not answer ({answer})"

    def train(
        self, jobs: Mapping[str, Any], threads: int | None, came: Callable[[], int | None]
    ) -> Iterator[dict[str, Any]]:
        """Train the runs; yield the row of each that has ended, in any order.

        Parameters
        ----------
        jobs : mapping
            The name of a run -> `many.Job`.
        threads : int or None
            The number of threads of a run; None: NUMBA_NUM_THREADS of the worker, else 1.
        came : function
            Returns the signal that this process got, if one came: the runs then stop after a step, and those that
            have not begun do not begin.

        Raises
        ------
        NnjitError
            An error of a run; a worker lacks something; a run is lost again and again, or the scheduler.
        """
        work = {name: pickle.dumps(job) for name, job in jobs.items()}
        lost = dict.fromkeys(jobs, 0)
        for name in jobs:
            self._submit(name, work[name], threads)
        waiting = False
        while self._names:
            if (number := came()) is not None:
                self._ask(remote.stop, self._token, number)
            waiting = self._watch(waiting, number is not None)
            for name, how, what in self._answers():
                if how == "row" and ("stopped" not in what or came() is not None):
                    yield what
                elif how == "error":
                    raise what
                elif how == "unfit":
                    raise NnjitError(f"{name}: the worker that was to train it {what}")
                elif how == "lost" or (how in ("row", "stopped") and came() is None):  # stopped: its worker was closed
                    lost[name] += how == "lost"
                    if lost[name] == LOST:
                        raise NnjitError(
                            f"{name} was lost {LOST} times, the last time because {what}; is there enough memory?"
                        )
                    self._submit(name, work[name], threads)

    def _submit(self, name, work, threads):
        key = f"{name}-{self._token}-{uuid.uuid4().hex[:6]}"
        future = self._client.submit(remote.train, work, self._needs, threads, key, key=key, pure=False)
        self._names[future] = name
        future.add_done_callback(self._ended.put)

    def _answers(self):
        """Yield (name, how, what) of the tasks that end within `PAUSE`; see `remote.train`."""
        try:
            ended = [self._ended.get(timeout=PAUSE)]
            while not self._ended.empty():
                ended.append(self._ended.get())
        except queue.Empty:
            return
        for future in ended:
            name = self._names.pop(future)
            try:
                yield name, *future.result()
            except self._dask.KilledWorker:
                yield name, "lost", "its workers were killed"
            except self._dask.CancelledError:
                raise self._gone() from None
            except Exception as error:  # of a worker that came later and could not read the task
                yield name, "unfit", self._lack(error)

    def _gone(self):
        return NnjitError(f"the scheduler {self._address} has ended, or another client cancelled the runs")

    def _watch(self, waiting, stopping):
        """Complain once if all workers are gone; then no run can say that it stopped."""
        try:
            if self._client.nthreads():
                return False
        except OSError:
            raise self._gone() from None
        if stopping:
            self._names.clear()
        elif not waiting:
            complain(f"{self._address} has no workers any more; waiting for one (Ctrl-C ends the command)")
        return True
