"""A child process with one peer: ``worker.py NAME`` reads requests as JSON lines and answers each with a line.

{"do": "prepare", "work": {...}, "rows": [...], "data": PATH, "results": FOLDER}
    -> {"variants": {label: path of the results of its checked run}}
{"do": "choose", "variants": [...], "turn": SECONDS} -> {"variant": label, "calls": n, "units": m}
{"do": "turn"} -> {"seconds": time of one unit}
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np

TRIALS = 3  # trials of each variant, before the fastest is chosen
LONG = 2  # seconds of a run from which a single trial is enough


class Session:
    """The variants of the current work, and the chosen one."""

    def __init__(self, name):
        self.module = import_module(f"peers.{'compile' if name == 'torch.compile' else name}_peer")
        self.units, self.unit, self.calls = {}, None, 1

    def answer(self, request):
        return getattr(self, f"do_{request.pop('do')}")(**request)

    def do_hello(self):
        return {"version": self.module.version(), "pid": os.getpid()}

    def do_make(self, work, path, images=None):
        """Make data and expected results; the reference peer does this."""
        return self.module.make(work, path, images)

    def do_ceilings(self):
        """Measure the peak of the machine with nnjit.bench."""
        from nnjit.bench import machine

        threads = {"one": 1, "all": None}
        return {
            "processor": machine.processor(),
            "peak": {key: machine.peak("float32", n) for key, n in threads.items()},
            "bandwidth": {key: machine.bandwidth(n) for key, n in threads.items()},
        }

    def do_prepare(self, work, rows, data, results):
        self.drop()
        with np.load(data) as file:
            arrays = dict(file)
        self.units = self.module.prepare(work, rows, arrays)
        paths = {}
        for k, (label, unit) in enumerate(self.units.items()):
            paths[label] = str(Path(results) / f"{self.module.__name__}-{k}.npz")
            unit.reset()
            np.savez(paths[label], **unit.check())
            unit.reset()
        return {"variants": paths}

    def do_choose(self, variants, turn):
        """Choose the fastest variant, and the number of calls in a turn."""
        best = {label: self._trial(self.units[label], turn / 3) for label in variants}
        label = min(best, key=best.get)
        for other in set(self.units) - {label}:
            self.units.pop(other).close()
        self.unit = self.units[label]
        self.calls = max(1, round(turn / best[label]))
        trials = {name: seconds / self.units.get(name, self.unit).units for name, seconds in best.items()}
        return {"variant": label, "calls": self.calls, "units": self.unit.units, "trials": trials}

    def _trial(self, unit, turn):
        """Seconds of a run, the least of `TRIALS`."""
        unit.reset()
        begin = time.perf_counter()
        unit.run()
        once = time.perf_counter() - begin
        found = []
        for _ in range(TRIALS if once < LONG else 1):
            calls = max(1, int(turn / max(once, 1e-9)))
            begin = time.perf_counter()
            for _ in range(calls):
                unit.run()
            once = (time.perf_counter() - begin) / calls
            found.append(once)
        return min(found)

    def do_turn(self, warm):
        """Run some calls to wake the threads, then the timed ones."""
        run = self.unit.run
        self.unit.reset()
        until = time.perf_counter() + warm
        run()
        while time.perf_counter() < until:
            run()
        calls = range(self.calls)
        begin = time.perf_counter()
        for _ in calls:
            run()
        return {"seconds": (time.perf_counter() - begin) / (self.calls * self.unit.units)}

    def drop(self):
        for unit in self.units.values():
            unit.close()
        self.units, self.unit = {}, None


def main(name):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    session = None
    for line in sys.stdin:
        try:
            if session is None:
                session = Session(name)
            reply = session.answer(json.loads(line))
        except Exception as error:
            text = str(error).strip().splitlines()
            kind = type(error).__name__
            reply = {"absent": str(error)} if kind in ("Absent", "NoTwin", "ModuleNotFoundError") else {
                "error": f"{kind}: {text[0] if text else ''}"[:300]
            }  # fmt: skip
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
