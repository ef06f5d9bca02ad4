"""Kill a random rank at a random time, again and again, then resume on another number of ranks; run by hand.

    python tests/kill_ranks.py [TIMES]

Each try must end within seconds with a status other than 0, leave a run that `--resume` continues, and end with the
log of a run that nothing broke. Prints a line for each try.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mpi_runner
from test_mpi import NARROW

EPOCHS = "300"


def lines(path):
    found = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in found]


def one(folder, number, whole):
    ranks, run = random.choice((2, 3, 4)), folder / f"run-{number}"
    victim, after = random.randrange(ranks), random.uniform(0, 2)
    with mpi_runner.start(ranks, "run", "config.toml", "--epochs", EPOCHS, "--output", run.name, cwd=folder) as process:
        killed = mpi_runner.rank_of(process, victim)
        mpi_runner.wait_for(process, (run / "log.jsonl").is_file)
        time.sleep(after)
        os.kill(killed, signal.SIGKILL)
        began = time.monotonic()
        process.communicate(timeout=60)
        took = time.monotonic() - began
    logged = len(lines(run))
    again = random.choice((1, 2, 3))
    status, _, err = mpi_runner.run(again, "run", "--resume", run.name, cwd=folder)
    same = lines(run) == whole
    good = process.returncode != 0 and status == 0 and same
    print(
        f"{number}: rank {victim} of {ranks} killed after {after:.1f} s ({logged} lines logged), status "
        f"{process.returncode} in {took:.1f} s; resumed on {again}: status {status}, "
        f"log {'equal' if same else 'DIFFERS'} {err}",
        flush=True,
    )
    return good


def main(times):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "config.toml").write_text(NARROW)
        status, _, err = mpi_runner.run(1, "run", "config.toml", "--epochs", EPOCHS, "--output", "whole", cwd=folder)
        assert status == 0, err
        whole = lines(folder / "whole")
        good = sum(one(folder, number, whole) for number in range(1, times + 1))
        print(f"{good} of {times}")
        return good != times


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
