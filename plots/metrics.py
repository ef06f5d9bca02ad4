"""metrics.png: accuracy and every other metric by epoch, one panel per metric, training and validation.

The legend says on how many training samples a metric was measured. A metric of each class has a panel with a curve per
class, on the validation set if there is one. Runs that are compared have no such panels, which would hold too many
curves, and a panel each for training and validation.
"""

from pathlib import Path

import numpy as np

from . import several
from .run_log import PathLike, RunLog, Runs, read_all
from .series import thin
from .theme import PALETTE, depth_colours, legend, mark_not_finite, page, plain, whole_numbers

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
    if len(runs) > 1:
        _compare(runs, metrics, output)
        return Path(output)
    run, of_classes = runs[0], names(runs[0], of_classes=True)
    metrics += of_classes
    with page(output, 6.4, 3.6 if len(metrics) == 1 else 2.7 * len(metrics)) as figure:
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False).ravel()
        for axes, metric in zip(panels, metrics, strict=True):
            _name_axis(axes, metric)
            legend(axes, _paint_classes(axes, run, metric) if metric in of_classes else _paint(axes, run, metric))
        panels[-1].set_xlabel("epoch")
        panels[0].set_title(plain(run.name))
    return Path(output)


def _name_axis(axes, metric):
    axes.set_ylabel(plain(metric if "(" in metric else metric.replace("_", " ")))
    whole_numbers(axes.xaxis)


def _measured_on(run):
    """Return what metrics of training were measured on: "training, 1000 samples"."""
    samples = run.series("metric_samples", of="epochs")[1]
    return (
        f"training, {samples[-1]:.0f} samples" if len(samples) and np.isfinite(samples[-1]) else "training, all samples"
    )


def _paint(axes, run, metric):
    """Draw one metric of a run, training solid, validation dashed; return legend entries."""
    entries: list[tuple] = []
    crosses = []
    for kind, key, dash, shade in (
        (_measured_on(run), metric, "-", PALETTE[0]),
        ("validation", f"val_{metric}", "--", PALETTE[1]),
    ):
        x, y = run.series(key, of="epochs", x="epoch")
        if not len(x):
            continue
        size = 4 if len(x) <= 60 else 0
        (line,) = axes.plot(*thin(x, y), dash if size else "-", color=shade, marker="o", markersize=size, gid=key)
        finite = y[np.isfinite(y)]
        value = f"last {finite[-1]:.4g}" if len(finite) else "never finite"
        entries.append((line, f"{kind}: {value}"))
        crosses.append(mark_not_finite(axes, x[~np.isfinite(y)], shade))
    found = next(filter(None, crosses), None)
    return entries + ([(found, "not finite")] if found else [])


def _compare(runs, metrics, output):
    """Draw a panel for each metric on training data and on validation data, with all runs."""
    shown = several.shown(runs)
    on = {_measured_on(run) for run in runs}
    training = on.pop() if len(on) == 1 else "training"
    keys = [(metric, kind) for metric in metrics for kind in ("", "val_")]
    keys = [(m, kind) for m, kind in keys if any(len(run.series(kind + m, of="epochs")[0]) for run in runs)]
    with page(output, 6.4, 2.5 * len(keys) + 0.4) as figure:
        panels = figure.subplots(len(keys), 1, sharex=True, squeeze=False).ravel()
        for axes, (metric, kind) in zip(panels, keys, strict=True):
            entries = []
            for one in shown:
                curves = [run.series(kind + metric, of="epochs", x="epoch") for run in one.runs]
                curves = [(x, y) for x, y in curves if len(x)]
                marker = {"marker": "o", "markersize": 2.5} if all(len(x) <= 60 for x, _ in curves) else {}
                line = several.paint(axes, one, curves, kind + metric, **marker)
                for x, y in curves:
                    mark_not_finite(axes, x[~np.isfinite(y)], one.style["color"])
                if line is not None:
                    last = [y[np.isfinite(y)][-1] for _, y in curves if np.isfinite(y).any()]
                    spread = f" ± {np.std(last, ddof=1):.2g}" if len(last) > 1 else ""
                    entries.append((line, f"{one.label}: last {np.mean(last):.4g}{spread}" if last else one.label))
            axes.set_title("validation" if kind else training)
            _name_axis(axes, metric)
            legend(axes, entries)
        panels[-1].set_xlabel("epoch")


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
