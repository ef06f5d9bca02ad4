"""Processes of MPI for tests: nnjit on several ranks of this machine, which listen on loopback alone.

`mpiexec` of MPICH waits for its helpers on all interfaces, so it runs in a network of its own where the system allows
that; elsewhere `mpiexec.gforker` serves, which has no such helpers but forgets that a rank was killed.
"""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from command_line import SCRIPT, UNDRAWN

LOOPBACK = {"HYDRA_IFACE": "lo", "FI_TCP_IFACE": "lo", "UCX_NET_DEVICES": "lo"}
ALONE = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
LIMIT = 300  # seconds, generous: other tests may keep the processors busy


def program(name):
    """Return the path of a program of this environment or of the system; None if there is none."""
    return shutil.which(name, path=f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}")


@functools.cache
def launcher():
    """Return the command that starts ranks here, without their number; None if nothing can."""
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        return None
    if program("mpiexec.hydra") and shutil.which("unshare"):
        tried = subprocess.run([*ALONE, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return [*ALONE, program("mpiexec.hydra")]
    return [program("mpiexec.gforker")] if program("mpiexec.gforker") else None


def tells_of_kills():
    """Tell whether the launcher ends with a status other than 0 if a rank is killed."""
    return "hydra" in launcher()[-1]


def start(count, *arguments, cwd, script=UNDRAWN, **environment):
    """Start nnjit on ranks; return the process of the launcher."""
    command = [*launcher(), "-n", str(count), *script, *map(str, arguments)]
    given = {**os.environ, **LOOPBACK, **environment}
    return subprocess.Popen(
        command, cwd=cwd, env=given, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(count, *arguments, cwd, stdin=None, **more):
    """Run nnjit on ranks; return (exit status, standard output, standard error)."""
    with start(count, *arguments, cwd=cwd, **more) as process:
        out, err = process.communicate(stdin, timeout=LIMIT)
    return process.returncode, out, err


def rank_of(process, rank):
    """Return the process number of a rank of a launcher."""
    wanted = f"PMI_RANK={rank}".encode()
    while process.poll() is None:
        for number in descendants(process.pid):
            try:
                if wanted in Path(f"/proc/{number}/environ").read_bytes().split(b"\0"):
                    return number
            except OSError:  # it has ended, or is no one's to read
                continue
        time.sleep(0.01)
    raise AssertionError(f"the launcher ended: {process.communicate()}")


def descendants(pid):
    """Return the numbers of the processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        parents[int(name.split()[0])] = int(rest.split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def wait_for(process, fact):
    """Wait until a fact is true, while the launcher runs."""
    end = time.monotonic() + LIMIT
    while not fact():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


if __name__ == "__main__":  # python tests/mpi_runner.py COUNT ARGUMENTS of nnjit
    sys.exit(
        subprocess.run(
            [*launcher(), "-n", sys.argv[1], *SCRIPT, *sys.argv[2:]], env={**os.environ, **LOOPBACK}, check=False
        ).returncode
    )
