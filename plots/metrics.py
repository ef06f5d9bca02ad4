"""metrics.png: accuracy and every other metric by epoch, one panel per metric, training and validation.

A metric of each class has a panel with a curve per class, on the validation set if there is one. Runs that are compared
have no such panels, which would hold too many curves.
"""

from pathlib import Path
from typing import Any

import numpy as np

from .run_log import PathLike, RunLog, Runs, read_all
from .theme import PALETTE, depth_colours, legend, mark_not_finite, page, plain, run_colours, whole_numbers

NEEDS = "accuracy or another metric in the epoch lines of log.jsonl"

LEGEND_CLASSES = 10

# Keys of an epoch line that are not metrics; the losses have their own plot.
_NOT_METRICS = {"epoch", "step", "seconds", "loss", "val_loss", "lr", "gradient_norm", "epoch_end", "metric_samples"}
_NOT_METRICS |= {"gradient_norms", "update_ratios"}


def names(run, of_classes=False):
    """List the metrics of a run in the order they were logged, without the prefix `val_`; or those of each class."""
    kinds = dict if of_classes else int | float | None
    return list(
        dict.fromkeys(
            key.removeprefix("val_")
            for record in run.epochs
            for key, value in record.items()
            if key not in _NOT_METRICS and isinstance(value, kinds)
        )
    )


def has_data(run: RunLog) -> bool:
    return bool(names(run))


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the metrics of one or more runs into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    metrics = list(dict.fromkeys(name for run in runs for name in names(run)))
    of_classes = names(runs[0], of_classes=True) if len(runs) == 1 else []
    metrics += of_classes
    height = max(4.5 if len(metrics) == 1 else 3.2, 0.55 * len(runs) + 1.2)
    with page(output, 8.5, height * len(metrics)) as figure:
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False).ravel()
        for axes, metric in zip(panels, metrics, strict=True):
            axes.set_ylabel(plain(metric.replace("_", " ")))
            whole_numbers(axes.xaxis)
            legend(axes, _paint_classes(axes, runs[0], metric) if metric in of_classes else _paint(axes, runs, metric))
        panels[-1].set_xlabel("epoch")
        if len(runs) == 1:
            panels[0].set_title(plain(runs[0].name))
    return Path(output)


def _paint(axes, runs, metric):
    """Draw one metric, training solid, validation dashed; return legend entries."""
    from matplotlib.lines import Line2D

    alone = len(runs) == 1
    entries: list[tuple] = []
    strokes: dict[str, Any] = {}
    for run, colour in zip(runs, run_colours(len(runs)), strict=True):
        last = []
        for kind, key, dash in (("training", metric, "-"), ("validation", f"val_{metric}", "--")):
            x, y = run.series(key, of="epochs", x="epoch")
            if not len(x):
                continue
            shade = PALETTE[1] if alone and kind == "validation" else colour
            size = 4 if len(x) <= 60 else 0
            (line,) = axes.plot(x, y, dash, color=shade, marker="o", markersize=size, gid=key)
            finite = y[np.isfinite(y)]
            value = f"last {finite[-1]:.4g}" if len(finite) else "never finite"
            samples = run.series("metric_samples", of="epochs")[1]
            some = f" ({samples[-1]:.0f} samples)" if len(samples) and kind == "training" else ""
            last.append(f"{kind}{some}, {value}")
            strokes.setdefault(kind, line)
            if alone:
                entries.append((line, last[-1]))
            cross = mark_not_finite(axes, x[~np.isfinite(y)], shade)
            if cross:
                strokes["not finite"] = cross
        if last and not alone:
            entries.append((Line2D([], [], color=colour, linewidth=4), "\n  ".join([plain(run.name), *last])))
    if not alone:
        for kind in ("training", "validation"):
            if kind in strokes:
                dash = strokes[kind].get_linestyle()
                entries.append((Line2D([], [], color="0.35", linestyle=dash), kind))
    if "not finite" in strokes:
        entries.append((strokes["not finite"], "not finite"))
    return entries


def _paint_classes(axes, run, metric):
    """Draw a metric of each class; return legend entries, of the lowest classes if there are many."""
    key = f"val_{metric}" if run.layers(f"val_{metric}", of="epochs") else metric
    classes = run.layers(key, of="epochs")
    found = []
    for name, colour in zip(classes, depth_colours(len(classes)), strict=True):
        x, y = run.series(f"{key}/{name}", of="epochs", x="epoch")
        marker = {"marker": "o", "markersize": 4} if len(x) <= 60 else {}
        (line,) = axes.plot(x, y, color=colour, gid=f"{key}/{name}", **marker)
        finite = y[np.isfinite(y)]
        last = finite[-1] if len(finite) else np.inf
        found.append((last, line, f"{plain(name, 30)}, {f'last {last:.4g}' if len(finite) else 'not defined'}"))
    kind = "validation" if key != metric else "training"
    axes.set_title(f"{kind}, each class", fontsize="medium", loc="left")
    if len(found) > LEGEND_CLASSES:
        found = sorted(found, key=lambda one: one[0])[:LEGEND_CLASSES]
    return [(line, text) for _, line, text in found]
