"""Kill workers of a Dask cluster while they train, again and again: the table of results must be that of no kill.

    python benchmarks/killed_workers.py [--tries 10] [--seed 0]

Each try runs `nnjit run --seeds 0..2 --scheduler` on a cluster of two workers on this machine and kills one of them,
with SIGKILL, at a drawn moment while its run writes its log. Status 1 if a try ends otherwise than the runs without a
kill. No test runs it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from distributed import Client, LocalCluster
from nnjit import load

NNJIT = [sys.executable, "-c", "import sys; sys.argv[0] = 'nnjit'; from nnjit.cli.main import main; main()"]
RUN = [*NNJIT, "run", "--layers", "flatten dense(10)", "--epochs", "100", "--seeds", "0..2"]


def results(path):
    """Return the table of a directory of runs and their parameters."""
    rows = json.loads((path / "results.json").read_text())["runs"]
    return rows, [load(path / row["run"]).theta.tobytes() for row in rows]


def kill_one(client, path, process, draw):
    """Kill the worker of a run that trains; return the run's name, or None if all have ended."""
    time.sleep(draw.uniform(0, 3))
    while process.poll() is None:
        held = [log.parent for log in path.glob("*/log.jsonl") if log.stat().st_size and not _ended(log.parent)]
        busy = [worker for worker, keys in client.processing().items() if keys]
        if held and busy:
            worker = draw.choice(busy)
            name = client.processing()[worker][0].partition("-.")[0] if client.processing()[worker] else "?"
            os.kill(client.run(os.getpid)[worker], signal.SIGKILL)
            return name
        time.sleep(0.05)
    return None


def _ended(run):
    state = run / "state.json"
    return state.is_file() and json.loads(state.read_text())["state"] != "running"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw, good = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([*RUN, "--output", folder / "whole"], check=True, stdout=subprocess.DEVNULL)
        wanted = results(folder / "whole")
        options = {"host": "127.0.0.1", "dashboard_address": None, "local_directory": scratch}
        with LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
            for k in range(given.tries):
                path = folder / "far"
                shutil.rmtree(path, ignore_errors=True)
                client.wait_for_workers(2)
                command = [*RUN, "--scheduler", cluster.scheduler_address, "--output", path]
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                killed = kill_one(client, path, process, draw)
                _, said = process.communicate()
                same = process.returncode == 0 and results(path) == wanted
                good += same and killed is not None
                what = "done again" if same else f"status {process.returncode}: {said.strip()[-300:]}"
                print(f"try {k + 1}: killed the worker of {killed}; {what}", flush=True)
    print(f"{good} of {given.tries}")
    return int(good != given.tries)


if __name__ == "__main__":
    sys.exit(main())
