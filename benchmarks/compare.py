"""nnjit against its peers: `python benchmarks/compare.py [--only PATTERN ...] [--peers NAME,...] [--cpu avx2]`.

Every peer runs in a separate process. Each work begins with the same parameters and data; one checked run of each side
must agree with the NumPy reference kernels before anything is timed; then both take turns, while the other is idle.
The cells of peers that are not installed say so: `pip install torch jax onnx onnxruntime scikit-learn`, and a compiler
for C. Writes results.md and results.json into the output folder after every row, and results.png at the end.
"""

import argparse
import datetime
import os
import platform
import sys
import tempfile
from pathlib import Path

import held
import memory
import numpy as np
import report
import startup
import works
from child import Child, Failed
from measure import TURN, Wrong, compare, pairs, ratios, summary

RESTART = ("torch.compile",)  # peers with a new process for every work, because compiled code accumulates


class Bench:
    """Processes, and the rows measured so far."""

    def __init__(self, peers, count, folder, images=None, cpu=None):
        self.peers, self.count, self.folder, self.images, self.cpu = peers, count, Path(folder), images, cpu
        self.children, self.versions, self.rows, self.ceilings = {}, {}, [], {}

    def child(self, name):
        """Return the process of a peer; "torch@1" has one thread."""
        if name not in self.children:
            peer, _, threads = name.partition("@")
            limits = {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads} if threads else {}
            self.children[name] = Child(peer, limits)
            self.versions[name] = self.children[name].version
        return self.children[name]

    def end(self, name):
        child = self.children.pop(name, None)
        if child is not None:
            child.close()

    def close(self):
        for name in list(self.children):
            self.end(name)

    def row(self, work):
        """Measure one row of the report: a dict that JSON can hold."""
        if work.kind in ("startup", "memory"):
            return (startup if work.kind == "startup" else memory).row(work, self.peers, self.count)
        row = {"work": work.plain(), "peers": {}}
        mine = "nnjit" if work.threads is None else f"nnjit@{work.threads}"
        with tempfile.TemporaryDirectory() as scratch:
            data = str(Path(scratch) / "data.npz")
            try:
                about = self.child("reference").ask("make", work=work.plain(), path=data, images=self.images)
                self.end("reference")
                row |= {"parameters": about["parameters"], "cores": work.threads or os.cpu_count()}
                row |= {key: about[key] * work.times for key in ("flops", "bytes")}
                row["nnjit"] = self._ready(mine, work, about, data, scratch)
            except (Failed, Wrong) as error:
                self.end(mine)
                return row | {"error": f"nnjit: {error}"}
            own = []
            for name in work.peers:
                if name.partition("@")[0] not in (*self.peers, "nnjit"):
                    continue
                try:
                    peer = self._ready(name, work, about, data, scratch)
                    times, disturbed = pairs(self.child(mine), self.child(name), self.count)
                    times = [(ours * work.times, theirs * work.times) for ours, theirs in times]
                    own += [ours for ours, _ in times]
                    peer |= {"time": summary([theirs for _, theirs in times]), "ratio": ratios(times), **disturbed}
                    row["peers"][name] = peer
                except (Failed, Wrong) as error:
                    row["peers"][name] = {"error": str(error)}
                    self.end(name)
                if name in RESTART:
                    self.end(name)
            if not own:
                turn = lambda: self.child(mine).ask("turn", warm=0.05)["seconds"]  # noqa: E731
                own = [turn() * work.times for _ in range(self.count)]
            row["nnjit"]["time"] = summary(own)
        return row

    def _ready(self, name, work, about, data, scratch):
        """Prepare and check a work, and choose the fastest variant."""
        child, threads = self.child(name), name.partition("@")[2]
        plain = work.plain() | ({"threads": int(threads)} if threads else {})
        variants = child.ask("prepare", work=plain, rows=about["rows"], data=data, results=scratch)["variants"]
        with np.load(data) as file:
            expected = {key.removeprefix("expected:"): file[key] for key in file if key.startswith("expected:")}
            initial = {key.removeprefix("initial:"): file[key] for key in file if key.startswith("initial:")}
        worst = 0.0
        for path in variants.values():
            with np.load(path) as got:
                worst = max(worst, compare(got, expected, initial, work.optimizer, own=name.startswith("nnjit")))
        return child.ask("choose", variants=list(variants), turn=TURN) | {"difference": worst}

    def run(self, chosen):
        self.ceilings = self.child("nnjit").ask("ceilings")
        for k, work in enumerate(chosen, start=1):
            if k > 1 and work.group != chosen[k - 2].group:
                self.close()  # PyTorch took twice as long in a process that 60 works before had used
            row = self.row(work.on(self.ceilings["processor"]))
            self.rows.append(row)
            print(f"[{k}/{len(chosen)}] {report.line(row)}", file=sys.stderr, flush=True)
            report.write(self.folder, self.rows, self.machine())
        report.chart(self.rows, self.folder / "results.png")

    def machine(self):
        return {
            "date": datetime.date.today().isoformat(),
            "processor": self.ceilings.get("processor"),
            "held": held.sentence(self.cpu) if self.cpu else "",
            "system": platform.system(),
            "python": platform.python_version(),
            "versions": self.versions,
            "pairs": self.count,
            "ceilings": self.ceilings,
        }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="rows whose 'group: name' matches")
    parser.add_argument("--peers", default=",".join(works.PEERS), help="separated by commas; default: %(default)s")
    parser.add_argument("--pairs", type=int, default=11, help="pairs of turns; default: %(default)s")
    parser.add_argument("--images", metavar="FOLDER", help="MNIST for rows of its shape; without it random images")
    parser.add_argument("--output", default=Path(__file__).with_name("results"), type=Path, metavar="FOLDER")
    parser.add_argument("--cpu", choices=sorted(held.SWITCHES), help="hold all sides to this kind")
    parser.add_argument("--list", action="store_true", help="print the rows' names and stop")
    options = parser.parse_args(arguments)
    chosen = works.chosen(options.only)
    if options.list or not chosen:
        print("\n".join(f"{w.group}: {w.name}" for w in (chosen or works.WORKS)))
        return 0 if chosen else f"no row matches {' '.join(options.only)}; the rows are listed above"
    peers = [name for name in options.peers.split(",") if name]
    if options.cpu:
        peers = [name for name in peers if name in held.SWITCHES[options.cpu]]
        os.environ.update(held.environment(options.cpu))  # for all child processes
    bench = Bench(peers, options.pairs, options.output, options.images, options.cpu)
    try:
        bench.run(chosen)
    finally:
        bench.close()
    print(f"{options.output / 'results.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
