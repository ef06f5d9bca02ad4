"""A run on a worker of a Dask cluster, in a separate process: ``python -m nnjit.launch.remote``.

The process makes a run independent of the worker, which may have several threads and lives long: the run can be
stopped after a step, has its own number of threads, imports plug-ins as they are now, and takes no other run with it
if it crashes. It ends at once if its worker does, so that two processes never train one run.

Workers import this file, and with it neither Numba nor Dask beyond what they have.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..errors import NnjitError
from ..registry.sources import digest

MODULE = "nnjit.launch.remote"
PAUSE = 0.1  # seconds between two looks at a process
FREE = 60.0  # seconds to wait until the former process of a run has ended
POOLS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_stopped: dict[str, int] = {}  # the commands whose runs shall stop, and the signals that they got


class Needs(NamedTuple):
    """Requirements for a worker that trains the runs of a command.

    Parameters
    ----------
    versions : dict
        Distribution -> version.
    plugins : dict
        File or module -> `digest` of its source.
    folder : str
        The directory of the runs.
    token : str
        The name of a file in it, and of the command.
    files : tuple of str
        Files and folders of the data.
    """

    versions: dict[str, str]
    plugins: dict[str, str]
    folder: str
    token: str
    files: tuple[str, ...] = ()


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of nnjit, of what determines its numbers, and of other distributions; "" if one is absent."""
    found = {"nnjit": __version__}  # of the code that runs; an installed one may be another
    for name in {"numba", "numpy", *distributions} - {"nnjit"}:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def missing(needs: Needs) -> str | None:
    """Say what this process lacks to train, as the end of "the worker ..."; None if nothing."""
    own = versions(*needs.versions)
    for name, version in needs.versions.items():
        if own[name] != version:
            return f"has {name} {own[name]}, the command {version}" if own[name] else f"has no {name} ({version})"
    if not (Path(needs.folder) / needs.token).is_file():
        return f"does not see the directory {needs.folder}: all machines need it under this path, on a shared disk"
    try:
        tempfile.TemporaryFile(dir=needs.folder).close()
    except OSError as error:
        return f"cannot write into {needs.folder}: {error.strerror}"
    for plugin, source in needs.plugins.items():
        found = digest(plugin)
        if found != source:
            return f"has another source of the plug-in {plugin}" if found else f"does not have the plug-in {plugin}"
    for file in needs.files:
        if not os.path.exists(file):
            return f"does not see the data {file}"
    return None


def stop(token: str, number: int) -> None:
    """Stop the runs of a command on this worker, as a signal does; those that have not begun do not begin."""
    _stopped[token] = number


def train(work: bytes, needs: Needs, threads: int | None, key: str) -> tuple[str, Any]:
    """Train a run in a process.

    Parameters
    ----------
    work : bytes
        A pickled `many.Job`, which this process does not unpack.
    needs : Needs
    threads : int or None
        The number of threads of the run; None: NUMBA_NUM_THREADS of the worker, else 1.
    key : str
        The key of the task, which tells whether the command still waits for it.

    Returns
    -------
    how, what
        "row", the row of the run; "error", the NnjitError that it raised; "unfit", what this worker lacks; "lost", how
        its process ended; "stopped", None for a run that did not begin.
    """
    from distributed import get_worker

    worker = get_worker()
    if needs.token in _stopped:
        return "stopped", None
    if lack := missing(needs):
        return "unfit", lack
    count = str(threads or os.environ.get("NUMBA_NUM_THREADS") or 1)
    environment = os.environ | dict.fromkeys(POOLS, count) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=answer, stderr=said, env=environment,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # the end of the process is seen below
            process.stdin.write(work)
            process.stdin.flush()
        told = False
        while process.poll() is None:
            if not told and (number := _stopped.get(needs.token) or (_given_up(worker, key) and signal.SIGINT)):
                process.send_signal(number)
                told = True
            time.sleep(PAUSE)
        with suppress(BrokenPipeError):
            process.stdin.close()
        answer.seek(0)
        said.seek(0)
        if process.returncode == 0:
            return pickle.loads(answer.read())
        last = (said.read().decode(errors="replace").strip().splitlines() or [""])[-1][:300]
    if told:  # before the training began
        return "stopped", None
    if process.returncode < 0:
        return "lost", f"signal {-process.returncode} ended its process" + (f" ({last})" if last else "")
    return "error", NnjitError(last or f"a process ended with status {process.returncode}")


def _given_up(worker, key):
    """Tell whether the task's result is no longer wanted: the command has ended, or the worker is about to."""
    from distributed.core import Status

    task = worker.state.tasks.get(key)
    return task is None or task.state == "cancelled" or worker.status in (Status.closing, Status.closed)


def main() -> None:
    """Train the run whose job comes from standard input, and write the answer of `train` to standard output."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plug-ins print
    job = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    try:
        _wait_for_former(job.path)
        answer = "row", job.train_apart()
    except NnjitError as error:
        answer = "error", error
    with output:
        output.write(pickle.dumps(answer))


def _end_with_worker():
    """End this process when the worker ends, which closes the pipe."""
    while os.read(0, 1):  # the buffer of sys.stdin would be locked when this process ends
        pass
    os._exit(1)


def _wait_for_former(path):
    """Wait until no other process trains the run, one whose worker was taken for lost."""
    from ..storage.run_directory import RunDirectory

    directory, end = RunDirectory(path), time.monotonic() + FREE
    while directory.is_held():
        if time.monotonic() > end:
            raise NnjitError(f"{path}: another process trains this run")
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
