"""Time of a training step by layer width and batch size: `python benchmarks/sweep.py [--coarse] [--budget SECONDS]`.

Networks of 4 numbers, two hidden layers of one width W and 4 results (tanh, mean squared error, Adam), for W from 1 to
256 and batches from 1 to 16,384, by powers of two and one more each. Every cell is checked as in compare.py, then
timed as the least of some turns; the cells of both lists below, and those beside them, are timed again. Prints

- cliffs: cells above 1.5 times the geometric mean of their two neighbours in width or in batch;
- falls: cells whose step takes less than 0.9 of the time with the next smaller width or batch.

The two neighbours of a power of two are not equally far from it (9 and 17 beside 16), so that its time lies above
their mean wherever time grows with size. A cliff is therefore also compared with the value at its own size on the power
law through both neighbours; a cell above 1.5 times that value is in the list too. Writes sweep.json, sweep.md (the
table and both lists) and sweep.png (the heat map) into the output folder.
"""

import argparse
import json
import sys
import time
from math import log10
from pathlib import Path

import report
from child import Child, Failed
from measure import Wrong
from versions import PAUSE, prepare
from work import Work

CLIFF = 1.5  # ratio of a cell's time to that of its neighbours above which it is a cliff
FALL = 0.9  # ratio of a cell's time to that of the next smaller size below which time falls
INPUTS = OUTPUTS = 4  # numbers of a sample and of a result
MOST = (256, 16_384)  # the largest width and batch
COARSE = ((1, 4, 16, 17, 64, 256), (1, 8, 64, 65, 512, 4096))  # widths and batches that take about two minutes
CALL = 2e-3  # seconds of a call, roughly
TURN = 4e-3  # seconds of a turn: shorter than the time slices of a system with other processes
RATE, STEP = 2e10, 1e-6  # operations in a second, and seconds of the smallest step, for this estimate
SAMPLES = 10_000  # in the data at least
AXES = ("width", "batch")


def sizes(most):
    """List the powers of two up to a number, and one more than each."""
    powers = [2**k for k in range(most.bit_length())]
    return sorted({size for power in powers for size in (power, power + 1) if size <= most})


def work(width, batch):
    """Return the work of a cell, with as many steps in a call as make it some milliseconds."""
    operations = 6 * batch * (width * (INPUTS + width + OUTPUTS))
    steps = int(CALL / (STEP + operations / RATE))
    return Work(
        f"width {width}, batch {batch}", "sweep", "train", (f"dense({width})", "tanh") * 2 + (f"dense({OUTPUTS})",),
        (INPUTS,), batch, "mse", "adam(lr=0.001)", batches=min(2000, max(1, steps)), samples=max(batch, SAMPLES),
    )  # fmt: skip


class Sweep:
    """Times of the cells (width, batch) in seconds; failures by cell, and the cells beyond the budget."""

    def __init__(self, widths, batches, turns, budget):
        self.widths, self.batches, self.turns, self.budget = widths, batches, turns, budget
        self.times, self.failed, self.skipped = {}, {}, []
        self.until = time.monotonic() + budget if budget else float("inf")

    def run(self, rounds):
        """Measure all cells, then `rounds` times those that offend and those beside them."""
        every = [(width, batch) for width in self.widths for batch in self.batches]
        self.skipped = self.measure(every)
        for _ in range(rounds):
            again = sorted(self.offending() & set(self.times))
            if not again or self.measure(again):
                return

    def measure(self, cells):
        """Time cells in order of width, with a new process for each; return those beyond the budget."""
        reference, child, of = Child("reference"), None, None
        try:
            for k, (width, batch) in enumerate(cells):
                if time.monotonic() > self.until:
                    return cells[k:]
                if width != of:
                    if child is not None:
                        child.close()
                    child, of = Child("nnjit"), width
                self.cell(width, batch, child, reference)
        finally:
            reference.close()
            if child is not None:
                child.close()
        return []

    def cell(self, width, batch, child, reference):
        try:
            prepare(work(width, batch), [child], reference, TURN)
            found = []
            for _ in range(self.turns):
                time.sleep(PAUSE)
                found.append(child.ask("turn", warm=0.002)["seconds"])
        except (Failed, Wrong) as error:
            self.failed[width, batch] = str(error)
            return
        self.times[width, batch] = min([*found, self.times.get((width, batch), float("inf"))])
        print(f"width {width}, batch {batch}: {report.time(self.times[width, batch])}", file=sys.stderr, flush=True)

    def offending(self):
        """Cells of both lists, with their neighbours."""
        found = set()
        for axis, cell, *_ in cliffs(self.times, self.widths, self.batches):
            found |= {cell, *_beside(cell, axis, self.widths, self.batches)}
        for _, cell, before, _ in falls(self.times, self.widths, self.batches):
            found |= {cell, before}
        return found


def _beside(cell, axis, widths, batches):
    """Return the cells before and after a cell on an axis; None beyond the grid."""
    line = (widths, batches)[axis]
    at = line.index(cell[axis])
    sizes_beside = [line[k] if 0 <= k < len(line) else None for k in (at - 1, at + 1)]
    return [size and ((size, cell[1]), (cell[0], size))[axis] for size in sizes_beside]


def cliffs(times, widths, batches):
    """List (axis, cell, time over the mean of both neighbours, time over the power law through them)."""
    found = []
    for cell, seconds in sorted(times.items()):
        for axis in (0, 1):
            before, after = _beside(cell, axis, widths, batches)
            if before not in times or after not in times:
                continue
            share = log10(cell[axis] / before[axis]) / log10(after[axis] / before[axis])
            mean = (times[before] * times[after]) ** 0.5
            between = times[before] ** (1 - share) * times[after] ** share
            if seconds > CLIFF * min(mean, between):
                found.append((axis, cell, seconds / mean, seconds / between))
    return found


def falls(times, widths, batches):
    """List (axis, cell, the cell of the next smaller size, ratio of their times) where the time falls."""
    found = []
    for cell, seconds in sorted(times.items()):
        for axis in (0, 1):
            before, _ = _beside(cell, axis, widths, batches)
            if before in times and seconds < FALL * times[before]:
                found.append((axis, cell, before, seconds / times[before]))
    return found


def named(cell):
    return f"width {cell[0]}, batch {cell[1]}"


def text(sweep, machine):
    """Format the table of times, both lists, and what was not measured."""
    widths, batches, times = sweep.widths, sweep.batches, sweep.times
    lines = ["# Time of a training step by width and batch", "", f"Measured on {machine}.", ""]
    lines += ["| width | " + " | ".join(map(str, batches)) + " |", "| --- " * (len(batches) + 1) + "|"]
    for width in widths:
        cells = [report.time(times[width, batch]) if (width, batch) in times else "" for batch in batches]
        lines.append(f"| {width} | " + " | ".join(cells) + " |")
    steep, falling = cliffs(times, widths, batches), falls(times, widths, batches)
    plain, lawful = (sum(entry[k] > CLIFF for entry in steep) for k in (2, 3))
    lines += ["", f"{plain} cells are above {CLIFF} times the mean of their neighbours, {lawful} above {CLIFF} times"
              " the power law through them:", ""]  # fmt: skip
    lines += [
        f"- {named(cell)}: {over:.2f} times its neighbours in {AXES[axis]}, {law:.2f} times the power law"
        for axis, cell, over, law in steep
    ]  # fmt: skip
    lines += ["", f"{len(falling)} cells are below {FALL} times the cell of the next smaller size:", ""]
    lines += [f"- {named(cell)}: {ratio:.2f} times {named(before)}" for _, cell, before, ratio in falling]
    lines.append("")
    if sweep.skipped:
        share = f"{len(sweep.skipped)} of {len(widths) * len(batches)} cells"
        lines += [
            f"{share} were not measured, since the budget of {sweep.budget:g} s was spent: from"
            f" {named(sweep.skipped[0])} on, in order of width and batch.", "",
        ]  # fmt: skip
    lines += [f"- {named(cell)} failed: {why}" for cell, why in sweep.failed.items()]
    return "\n".join(lines)


def picture(sweep, path):
    """Draw the heat map: colours are times on a logarithmic scale, cliffs have a red frame, falls a blue one."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    widths, batches, times = sweep.widths, sweep.batches, sweep.times
    if not times:
        return
    shown = np.array([[times.get((width, batch), np.nan) * 1e6 for batch in batches] for width in widths])
    figure, axes = pyplot.subplots(
        figsize=(2.2 + 0.42 * len(batches), 1.4 + 0.3 * len(widths)), layout="constrained"
    )  # fmt: skip
    mesh = axes.imshow(shown, norm=LogNorm(), cmap="viridis", aspect="auto", origin="lower")
    middle = 10 ** ((np.nanmin(np.log10(shown)) + np.nanmax(np.log10(shown))) / 2)
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            color = "black" if value > middle else "white"
            number = f"{value:.3g}" if value < 1000 else f"{value:.0f}"
            axes.text(column, row, number, ha="center", va="center", fontsize=5, color=color)
    marked = [(cell, "red", 0.42) for _, cell, *_ in cliffs(times, widths, batches)]
    marked += [(cell, "deepskyblue", 0.34) for _, cell, *_ in falls(times, widths, batches)]
    for (width, batch), color, half in marked:
        corner = batches.index(batch) - half, widths.index(width) - half
        axes.add_patch(Rectangle(corner, 2 * half, 2 * half, fill=False, edgecolor=color, linewidth=1.2))
    axes.set_xticks(range(len(batches)), batches, rotation=90, fontsize=7)
    axes.set_yticks(range(len(widths)), widths, fontsize=7)
    axes.set_xlabel("batch")
    axes.set_ylabel("width")
    axes.set_title(f"Step of {INPUTS}-W-W-{OUTPUTS}, microseconds; red: cliff, blue: fall", fontsize=9)
    figure.colorbar(mesh, label="us")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def write(sweep, folder, machine):
    """Write sweep.json, sweep.md and sweep.png."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"width": width, "batch": batch, "seconds": seconds} for (width, batch), seconds in sweep.times.items()]
    plain = {"machine": machine, "cells": rows, "skipped": sweep.skipped}
    (folder / "sweep.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    (folder / "sweep.md").write_text(text(sweep, machine) + "\n", encoding="utf-8")
    picture(sweep, folder / "sweep.png")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coarse", action="store_true", help=f"{len(COARSE[0]) * len(COARSE[1])} cells, two minutes")
    parser.add_argument("--widths", nargs="+", type=int, default=None, metavar="W", help="instead of all")
    parser.add_argument("--batches", nargs="+", type=int, default=None, metavar="N", help="instead of all")
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="cells beyond it are skipped")
    parser.add_argument("--turns", type=int, default=15, help="of each cell; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=2, help="of offenders, timed again; default: %(default)s")
    parser.add_argument("--output", default=Path(__file__).with_name("results") / "sweep", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    grid = COARSE if options.coarse else [sizes(most) for most in MOST]
    widths, batches = (sorted(set(own or of)) for own, of in zip((options.widths, options.batches), grid, strict=True))
    if min(widths[0], batches[0], options.turns) < 1:
        parser.error("widths, batches and turns are whole numbers from 1 on")
    from nnjit.bench.machine import processor

    sweep = Sweep(widths, batches, options.turns, options.budget)
    try:
        sweep.run(options.rounds)
    finally:
        write(sweep, options.output, processor())
    print(text(sweep, processor()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
