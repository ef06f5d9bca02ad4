"""labels.png: for each of many labels, how often it is found, missed, and predicted where it is not.

The counts are those of the best parameters for the validation set (or the training data).
"""

from pathlib import Path

import numpy as np

from . import predictions
from .run_log import PathLike, RunLog, Runs, read_all
from .theme import PALETTE, legend, page, plain, whole_numbers

NEEDS = "predictions.safetensors of a network with several labels a sample"
MOST = 40  # most labels that are drawn: those that occur most often


def has_data(run: RunLog) -> bool:
    found = predictions.read(run)
    return found is not None and found.kind == "labels"


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw bars for each label, one panel per run, into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    found = [(run, each) for run in runs if (each := predictions.read(run)) is not None]
    heights = [0.24 * min(MOST, each.tensors["true"].shape[1]) + 1.4 for _, each in found]
    with page(output, 6.4, sum(heights)) as figure:
        panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights).ravel()
        for axes, (run, each) in zip(panels, found, strict=True):
            _paint(axes, run, each)
    return Path(output)


def _paint(axes, run, found):
    true, predicted = found.tensors["true"].astype(bool), found.tensors["predicted"].astype(bool)
    count = true.shape[1]
    names = found.names("targets" if found.about.get("targets") else "classes", count)
    chosen = np.argsort(-true.sum(axis=0), kind="stable")[:MOST]
    rows = np.arange(len(chosen))
    parts = (
        ("found", (true & predicted).sum(axis=0), PALETTE[2], 1),
        ("missed", (true & ~predicted).sum(axis=0), PALETTE[5], 1),
        ("predicted, but not there", (~true & predicted).sum(axis=0), PALETTE[1], -1),
    )
    left, entries = np.zeros(len(chosen)), []
    for word, counts, colour, sign in parts:
        values = sign * counts[chosen]
        bars = axes.barh(rows, values, left=left if sign > 0 else 0, color=colour, height=0.7)
        left = left + np.maximum(values, 0)
        entries.append((bars, word))
    axes.axvline(0.0, color="0.3", linewidth=0.8, gid="guide")
    axes.set_yticks(rows, labels=[names[k] for k in chosen], fontsize=8)
    axes.invert_yaxis()
    whole_numbers(axes.xaxis)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel("samples")
    some = f", {MOST} of {count} labels" if count > MOST else ""
    axes.set_title(f"{plain(run.name)}: {found.measured()}{some}")
    axes.grid(axis="y", visible=False)
    legend(axes, entries)
