"""loss.png: the training loss, raw and as running mean, and the validation loss, by step and epoch.

The axis names the loss. It holds all but extreme values (`series.inner_range`); triangles on its edges mark values that
lie outside, and a cross at the top marks a value that is not finite. It is logarithmic if the values on it are positive
and span more than a decade (`series.wants_log`).

Several runs have a panel for training and one for validation; runs of other losses have panels beside them. The runs
for several seeds or folds are one curve, their mean, with a band of a standard deviation.
"""

from pathlib import Path

import numpy as np

from . import several
from .run_log import PathLike, RunLog, Runs, read_all
from .series import running_mean, thin, window_for
from .theme import (
    PALETTE,
    epochs_on_top,
    inside,
    legend,
    limit,
    mark_not_finite,
    page,
    plain,
    whole_numbers,
)

NEEDS = "a training or validation loss in log.jsonl"


def has_data(run: RunLog) -> bool:
    return bool(len(run.training_loss()[0]) or len(run.series("val_loss", of="epochs")[0]))


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the losses of one or more runs into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    if len(runs) == 1:
        with page(output) as figure:
            axes = figure.add_subplot()
            entries = _paint(axes, runs[0])
            axes.set_title(plain(runs[0].name))
            epochs_on_top(axes, runs[0].steps_per_epoch)
            legend(axes, entries)
        return Path(output)
    losses = list(dict.fromkeys(run.loss_name for run in runs))
    of_loss = {name: [run for run in runs if run.loss_name == name] for name in losses}
    panels = [(name, kind) for name in losses for kind in ("training", "validation") if _curves(of_loss[name], kind)]
    with page(output, 6.4, 2.5 * len(panels) + 0.6) as figure:
        drawn = figure.subplots(len(panels), 1, sharex=True, squeeze=False).ravel()
        together = several.shown(runs)  # of all losses, so that no style occurs twice
        shown = {name: [one for one in together if one.runs[0].loss_name == name] for name in losses}
        for axes, (name, kind) in zip(drawn, panels, strict=True):
            entries = _compare(axes, shown[name], kind)
            axes.set_title(f"{kind}{', running mean' * (kind == 'training')}")
            _name_axis(axes, name)
            if (name, kind) == [each for each in panels if each[0] == name][-1]:
                legend(axes, entries)
        each = {run.steps_per_epoch for run in runs}
        if len(each) == 1:
            epochs_on_top(drawn[0], each.pop())
        drawn[-1].set_xlabel(drawn[0].get_xlabel() or "step")
        for axes in drawn[:-1]:
            axes.set_xlabel("")
    return Path(output)


def _name_axis(axes, name):
    axes.set_ylabel(f"loss: {plain(name, 40)}" if name else "loss")


def _curves(runs, kind):
    """List (run, x, y) of the runs that have such a loss."""
    found = [
        (run, *(run.training_loss() if kind == "training" else run.series("val_loss", of="epochs"))) for run in runs
    ]
    return [one for one in found if len(one[1])]


def _paint(axes, run):
    """Draw one run; return its legend entries."""
    colour, val_colour = PALETTE[0], PALETTE[1]
    x, y = run.training_loss()
    val_x, val_y = run.series("val_loss", of="epochs")
    outside = limit(axes, [(x, y, colour), (val_x, val_y, val_colour)])
    entries = []
    if len(x):
        raw, window = "training, each epoch", 1
        if run.steps:
            unit = "step" if (np.diff(x) == 1).all() else "logged step"
            raw, window = f"training, each {unit}", window_for(len(x))
        light = {"linewidth": 0.7, "alpha": 0.35} if window > 1 else {}
        # A single point has no visible line.
        (line,) = axes.plot(
            *thin(x, inside(axes, y)), color=colour, marker="o" if len(x) < 3 else "", gid="raw", **light
        )
        entries.append((line, raw))
        if window > 1:
            (line,) = axes.plot(*thin(x, running_mean(inside(axes, y), window)), color=colour, gid="smooth")
            entries.append((line, f"training, mean of {window} {unit}s"))
    if len(val_x):
        size = 4 if len(val_x) <= 60 else 0
        style = {"color": val_colour, "linestyle": "--" if size else "-", "marker": "o", "markersize": size}
        (line,) = axes.plot(*thin(val_x, inside(axes, val_y)), gid="validation", **style)
        entries.append((line, "validation, each epoch"))
    best = run.best_epoch()
    if best is not None and np.isfinite(val_y).any():
        entries.append((_star(axes, best, val_colour), f"best: {best['val_loss']:.4g}, epoch {best.get('epoch', '?')}"))
    for xs, ys, shade in ((x, y, colour), (val_x, val_y, val_colour)):
        wrong = ~np.isfinite(ys)
        cross = mark_not_finite(axes, xs[wrong], shade)
        if cross:
            kind = "training" if xs is x else "validation"
            entries.append((cross, f"{kind} not finite ({wrong.sum()})"))
    axes.set_xlabel("step")
    _name_axis(axes, run.loss_name)
    whole_numbers(axes.xaxis)
    return entries + outside


def _star(axes, best, colour):
    style = {"color": colour, "markersize": 11, "markeredgecolor": "black", "markeredgewidth": 0.7, "zorder": 6}
    return axes.plot(best["step"], best["val_loss"], "*", gid="best", **style)[0]


def _compare(axes, shown, kind):
    """Draw the losses of one kind of several runs; return legend entries."""
    entries: list[tuple] = []
    of = {id(run): (x, y) for one in shown for run, x, y in _curves(one.runs, kind)}
    curves = [(*of[id(run)], one.style["color"]) for one in shown for run in one.runs if id(run) in of]
    outside = limit(axes, curves)
    wrong = 0
    for one in shown:
        mine = [of[id(run)] for run in one.runs if id(run) in of]
        drawn = [(x, inside(axes, y)) for x, y in mine]
        if kind == "training":
            drawn = [(x, running_mean(y, window_for(len(x)))) for x, y in drawn]
        marker = {"marker": "o", "markersize": 2.5} if all(len(x) <= 60 for x, _ in drawn) and len(mine) == 1 else {}
        line = several.paint(axes, one, drawn, kind, **marker)
        for x, y in mine:
            wrong += (~np.isfinite(y)).sum()
            mark_not_finite(axes, x[~np.isfinite(y)], one.style["color"])
        best = [found for run in one.runs if (found := run.best_epoch()) and np.isfinite(found.get("val_loss", np.nan))]
        if len(one.runs) == 1 and best and kind == "validation":
            _star(axes, best[0], one.style["color"])
        if line is not None:
            entries.append((line, one.label + _best(best)))
    if wrong:
        from matplotlib.lines import Line2D

        entries.append((Line2D([], [], linestyle="", marker="x", color="0.35"), f"not finite ({wrong})"))
    whole_numbers(axes.xaxis)
    return entries + outside


def _best(records):
    """Return the best validation loss of a run as text, or mean and deviation of those of a group."""
    losses = [record["val_loss"] for record in records]
    if len(losses) > 1:
        return f": best {np.mean(losses):.4g} ± {np.std(losses, ddof=1):.2g}"
    return f": best {losses[0]:.4g}, epoch {records[0].get('epoch', '?')}" if losses else ""
