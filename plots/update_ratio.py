"""update_ratio.png: ||theta_end - theta_start|| / ||theta_start|| of each layer over an epoch.

The rule of thumb, a ratio near 1e-3, refers to a single step (Karpathy, CS231n notes, "Ratio of weights:updates"). n
such steps move a layer by sqrt(n) * 1e-3 if their directions are independent and by n * 1e-3 if they agree. The grey
band shows this range for the steps of an epoch, which the picture shows; for one step an epoch it is a line.
"""

from pathlib import Path

import numpy as np

from . import by_layer
from .run_log import PathLike, RunLog, Runs

NEEDS = "update_ratios in the epoch lines of log.jsonl"
GUIDE = 1e-3


def has_data(run: RunLog) -> bool:
    return bool(run.layers("update_ratios", of="epochs"))


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the update ratios, one panel per run, into the file `output`; return its path."""
    by_layer.draw(
        run_dirs,
        output,
        key="update_ratios",
        of="epochs",
        x="epoch",
        ylabel="change over an epoch / norm",
        has_data=has_data,
        needs=NEEDS,
        before=_guides,
    )
    return Path(output)


def _guides(axes, run):
    steps, _ = run.series("step", of="epochs")
    per_epoch = np.median(np.diff(steps, prepend=0.0))
    if not per_epoch > 1:
        line = axes.axhline(GUIDE, color="0.3", linewidth=1.0, linestyle=":", gid="guide")
        return [(line, f"rule of thumb: {GUIDE:g} (an epoch is one step)")]
    band = axes.axhspan(GUIDE * np.sqrt(per_epoch), GUIDE * per_epoch, color="0.85", alpha=0.6, zorder=0, gid="band")
    return [(band, f"rule of thumb: {GUIDE:g} a step, {per_epoch:.0f} steps")]
