"""loss.png: the training loss, raw and smoothed, and the validation loss, by step.

Nothing is clipped: the axis contains every finite value, and a cross at the top marks a value that is not finite. The
axis is logarithmic if all values are positive and span more than a decade (`series.wants_log`).
"""

from pathlib import Path
from typing import Any

import numpy as np

from .run_log import PathLike, RunLog, Runs, read_all
from .series import running_mean, thin, wants_log, window_for
from .theme import PALETTE, legend, log_scale, mark_not_finite, page, plain, run_colours, whole_numbers

NEEDS = "a training or validation loss in log.jsonl"


def has_data(run: RunLog) -> bool:
    return bool(len(run.training_loss()[0]) or len(run.series("val_loss", of="epochs")[0]))


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the losses of one or more runs into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    with page(output, 8.5, max(4.5, 0.4 * len(runs) + 1.5)) as figure:
        axes = figure.add_subplot()
        if len(runs) == 1:
            entries = _paint(axes, runs[0], PALETTE[0], PALETTE[1])
            axes.set_title(plain(runs[0].name))
        else:
            entries = _compare(axes, runs)
        curves = [y for run in runs for y in (run.training_loss()[1], run.series("val_loss", of="epochs")[1])]
        if wants_log(*curves):
            log_scale(axes)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        whole_numbers(axes.xaxis)
        legend(axes, entries)
    return Path(output)


def _paint(axes, run, colour, val_colour):
    """Draw one run; return its legend entries."""
    entries = []
    x, y = run.training_loss()
    if len(x):
        raw, window = "training, each epoch", 1
        if run.steps:
            unit = "step" if (np.diff(x) == 1).all() else "logged step"
            raw, window = f"training, each {unit}", window_for(len(x))
        light = {"linewidth": 0.8, "alpha": 0.35} if window > 1 else {}
        # A single point has no visible line.
        (line,) = axes.plot(*thin(x, y), color=colour, marker="o" if len(x) < 3 else "", gid="raw", **light)
        entries.append((line, raw))
        if window > 1:
            (line,) = axes.plot(*thin(x, running_mean(y, window)), color=colour, gid="smooth")
            entries.append((line, f"training, mean of {window} {unit}s"))
    val_x, val_y = run.series("val_loss", of="epochs")
    if len(val_x):
        size = 4 if len(val_x) <= 60 else 0
        style = {"color": val_colour, "linestyle": "--", "marker": "o", "markersize": size}
        (line,) = axes.plot(val_x, val_y, gid="validation", **style)
        entries.append((line, "validation, each epoch"))
    best = run.best_epoch()
    if best is not None and np.isfinite(val_y).any():
        style = {"color": val_colour, "markersize": 14, "markeredgecolor": "black", "zorder": 6}
        (star,) = axes.plot(best["step"], best["val_loss"], "*", gid="best", **style)
        entries.append((star, f"best validation {best['val_loss']:.4g}\n(epoch {best.get('epoch', '?')})"))
    for xs, ys, shade in ((x, y, colour), (val_x, val_y, val_colour)):
        wrong = ~np.isfinite(ys)
        cross = mark_not_finite(axes, xs[wrong], shade)
        if cross:
            kind = "training" if xs is x else "validation"
            entries.append((cross, f"{kind} not finite ({wrong.sum()})"))
    return entries


def _compare(axes, runs):
    """Draw several runs, one colour each; return legend entries: first the runs, then the line styles."""
    from matplotlib.lines import Line2D

    entries: list[tuple] = []
    strokes: dict[str, Any] = {}  # legend text of a line style -> a line of that style
    for run, colour in zip(runs, run_colours(len(runs)), strict=True):
        label = plain(run.name)
        for handle, text in _paint(axes, run, colour, colour):
            if text.startswith("best"):
                label += "\n  " + text.replace("\n", " ")
                text = "best validation"
            elif "not finite" in text:
                text = "not finite"
            elif "mean of" in text:
                text = "training, running mean"
            strokes.setdefault(text, handle)
        entries.append((Line2D([], [], color=colour, linewidth=4), label))
    for text, handle in strokes.items():
        grey = Line2D([], [])
        grey.update_from(handle)
        grey.set_color("0.35")
        entries.append((grey, text))
    return entries
