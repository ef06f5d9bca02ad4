"""Wall time of many runs of one config: one after the other, with --workers, and from a shell loop with `&`.

    python benchmarks/many_runs.py [--seeds 40] [--workers 2] [--turns 1] [--json FILE] [-- OPTIONS OF nnjit run]

Each way trains the same seeds into an empty folder, with compiled code in the cache, and their parameters must be the
same bits. Ways take turns. The share lost to start-up is what is not training: 1 - (sum of the seconds in the logs) /
(wall time * runs at a time). One after the other, a run has all cores, and its start-up is that of the first run only.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nnjit import load

NNJIT = [sys.executable, "-c", "import sys; sys.argv[0] = 'nnjit'; from nnjit.cli.main import main; main()"]
# As many at a time as `wait -n` leaves room for: a user's loop over seeds, with one thread a run.
LOOP = """
export NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1
at_once=$1; count=$2; shift 2
for seed in $(seq 0 $((count - 1))); do
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
    "$@" --seed "$seed" --output "loop/seed-$seed" > /dev/null &
done
wait
"""


def ways(count, workers, options):
    """Return for each way its command, its folder, and the runs at a time."""
    run, seeds = [*NNJIT, "run", *options], ["--seeds", f"0..{count - 1}"]
    return {
        "one after the other": ([*run, *seeds, "--output", "turn"], "turn", 1),
        f"--workers {workers}": ([*run, *seeds, "--workers", str(workers), "--output", "at_once"], "at_once", workers),
        f"shell loop, {workers} at a time": (
            ["bash", "-c", LOOP, "loop", str(workers), str(count), *run],
            "loop",
            workers,
        ),
    }


def timed(command, folder):
    """Run a command in a folder; return its wall time in seconds."""
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{command[-1]}: status {done.returncode}: {done.stderr.strip()[-500:]}")
    return seconds


def trained(path, count):
    """Return the seconds of training in the logs of the runs, and their parameters."""
    logs = [(path / f"seed-{seed}" / "log.jsonl").read_text().splitlines()[-1] for seed in range(count)]
    thetas = [load(path / f"seed-{seed}").theta.tobytes() for seed in range(count)]
    return sum(json.loads(line)["seconds"] for line in logs), thetas


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("options", nargs="*", help="of nnjit run, after --")
    given = parser.parse_args()
    found, first = {}, None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        timed([*NNJIT, "run", *given.options, "--output", "warm"], folder)  # fills the cache
        for _ in range(given.turns):
            for name, (command, where, at_a_time) in ways(given.seeds, given.workers, given.options).items():
                shutil.rmtree(folder / where, ignore_errors=True)
                wall = timed(command, folder)
                seconds, thetas = trained(folder / where, given.seeds)
                if thetas != (first := first or thetas):
                    sys.exit(f"{name}: the parameters differ from those of the first way")
                one = {"wall": wall, "training": seconds, "share lost": 1 - seconds / (wall * at_a_time)}
                found.setdefault(name, []).append(one)
    print(f"{given.seeds} runs, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'way':30} {'wall s':>8} {'s a run':>8} {'training s':>11} {'share lost':>11}")
    for name, each in found.items():
        wall, seconds, lost = (
            statistics.median(one[key] for one in each) for key in ("wall", "training", "share lost")
        )
        print(f"{name:30} {wall:8.1f} {wall / given.seeds:8.2f} {seconds:11.1f} {lost:11.0%}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
