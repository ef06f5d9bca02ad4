"""Comparison with a former version, in turns: `python benchmarks/versions.py FOLDER PYTHON [--only PATTERN ...]`.

FOLDER is a checkout of the former version, PYTHON the interpreter in whose environment it is installed. Three processes
take turns: this version, the former one, and the former one again, which shows how much equal code differs. Each round
starts three new processes, since addresses of arrays make a difference too. A row compares minima; it is slower if this
version takes more than 2 % longer than the former one, and if the two processes of the former one differ by less.
Every result is checked first, as in compare.py.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import works
from child import WORKER, Child, Failed
from measure import Wrong, compare

TURN = 0.03  # seconds of a turn; many short turns find the quiet moments of a shared machine
PAUSE = 0.005  # seconds between turns, in which Numba's threads fall asleep
SLOWER = 1.02  # ratio of times above which a row can be slower
KINDS = ("train", "predict", "predict in njit", "feedback", "layer", "loss")


def prepare(work, children, reference, turn=TURN):
    """Give a work to each process and check the results of all; raise Failed or Wrong for a wrong one."""
    with tempfile.TemporaryDirectory() as scratch:
        data = str(Path(scratch) / "data.npz")
        about = reference.ask("make", work=work.plain(), path=data)
        with np.load(data) as file:
            expected = {key.removeprefix("expected:"): file[key] for key in file if key.startswith("expected:")}
            initial = {key.removeprefix("initial:"): file[key] for key in file if key.startswith("initial:")}
        for child in children:
            plain = {"work": work.plain(), "rows": about["rows"], "data": data, "results": scratch}
            variants = child.ask("prepare", **plain)["variants"]
            for path in variants.values():
                with np.load(path) as got:
                    compare(got, expected, initial, work.optimizer, own=True)
            child.ask("choose", variants=list(variants), turn=turn)


def measured(work, children, turns):
    """Seconds of one unit in each process, the least of all turns; raise Failed or Wrong for a wrong result."""
    reference = Child("reference")
    try:
        prepare(work, children, reference)
    finally:
        reference.close()
    least = [float("inf")] * len(children)
    for k in range(turns):
        for i in range(len(children)):
            at = (i + k) % len(children)  # who goes first changes
            time.sleep(PAUSE)
            least[at] = min(least[at], children[at].ask("turn", warm=0.005)["seconds"])
    return least


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a checkout of the former version")
    parser.add_argument("python", type=Path, help="the interpreter of its environment")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="rows whose 'group: name' matches")
    parser.add_argument("--turns", type=int, default=10, help="of each process in a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--worker", action="store_true", help="run the former version by this version's worker, which knows newer rows"
    )
    options = parser.parse_args(arguments)
    for python, folder in ((options.python, options.folder), (sys.executable, Path(__file__).parent.parent)):
        imported(python, folder)
    chosen = [work for work in works.chosen(options.only) if work.kind in KINDS and work.threads is None]
    least, failed = {}, {}
    for k in range(options.rounds):
        children = start(options)
        try:
            for work in chosen:
                print(f"round {k + 1}: {work.group}: {work.name}", file=sys.stderr, flush=True)
                try:
                    times = measured(work, children, options.turns)
                except (Failed, Wrong) as error:
                    failed[work] = error
                else:
                    least[work] = [min(pair) for pair in zip(times, least.get(work, times), strict=True)]
        finally:
            for child in children:
                child.close()
    report(chosen, least, failed)
    return 0


def imported(python, folder):
    """Exit unless an interpreter imports the nnjit of the folder, which PYTHONPATH may hide."""
    command = [str(python), "-c", "import nnjit; print(nnjit.__file__)"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    if Path(found).resolve() != (folder / "__init__.py").resolve():
        sys.exit(f"{python} imports {found or 'no nnjit'}, not that of {folder}: install it there, or unset PYTHONPATH")


def start(options):
    """Start processes of this version, of the former one, and again of the former one."""
    worker = WORKER if options.worker else options.folder / "benchmarks" / "worker.py"
    former = {"python": options.python, "worker": worker}
    return [Child("nnjit"), Child("nnjit", **former), Child("nnjit", **former)]


def report(chosen, least, failed):
    """Print the table."""
    slower = 0
    print("| work | this, us | former, us | this over former | former over former | |")
    print("| --- | --- | --- | --- | --- | --- |")
    for work in chosen:
        name = f"{work.group}: {work.name}"
        if work in failed:
            print(f"| {name} | {failed[work]} |")
            continue
        new, one, two = least[work]
        ratio, spread = new / min(one, two), max(one, two) / min(one, two)
        worse = ratio > SLOWER and ratio > spread
        slower += worse
        numbers = f"{new * 1e6:.4g} | {min(one, two) * 1e6:.4g} | {ratio:.3f} | {spread:.3f}"
        print(f"| {name} | {numbers} | {'slower' if worse else ''} |")
    print(f"{slower} slower, {len(failed)} failed")


if __name__ == "__main__":
    sys.exit(main())
