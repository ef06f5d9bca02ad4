"""confusion.png: true against predicted classes, of the best epoch, on the validation set (or the training data).

The numbers are counts; the colour is the share of the row, so that rare classes are as visible as common ones. They are
counted from the saved predictions, or while a run trains taken from its log. The runs for several seeds or folds are
counted together.
"""

from pathlib import Path

import numpy as np

from ..errors import DataError
from . import predictions, several
from .run_log import LOG, PathLike, RunLog, Runs, read_all
from .theme import page, plain

NEEDS = "predictions.safetensors of a classification, or val_confusion in the epoch lines of log.jsonl"
MOST_NUMBERS = 25  # most classes for which the cells have numbers
MOST_NAMES = 30  # most names along an axis
CONFUSED = 3  # pairs that are named if the cells have no numbers


def has_data(run: RunLog) -> bool:
    found = predictions.read(run)
    return (found is not None and found.kind == "classes") or run.best_epoch(having="val_confusion") is not None


def matrix(run):
    """Return (counts, classes, what was counted) of a run.

    counts : (K, K) int64, rows true, columns predicted
    classes : list of K names

    Raises DataError if the logged table is not a square table of counts.
    """
    found = predictions.read(run)
    if found is not None and found.kind == "classes":
        true, predicted = found.tensors["true"], found.tensors["predicted"]
        size = 1 + max(int(true.max()), int(predicted.max()), len(found.about.get("classes") or ()) - 1)
        counts = np.bincount(true.astype(np.int64) * size + predicted, minlength=size * size).reshape(size, size)
        return counts, found.names("classes", size), found.measured()
    record = run.best_epoch(having="val_confusion")
    counts = _logged(run, record)
    classes = record.get("val_classes")
    if not isinstance(classes, list) or len(classes) != len(counts):
        classes = range(len(counts))
    measured = f"{counts.sum():,} validation samples, epoch {record.get('epoch', '?')}"
    return counts, [plain(name, 20) for name in classes], measured


def _logged(run, record):
    """Return the table of a record as counts; DataError if it is not one."""
    table = record["val_confusion"]
    try:
        exact = np.nan_to_num(np.array(table, dtype=np.float64), nan=-1.0)
        counts = exact.clip(-1, 2**53).astype(np.int64)
        fits = counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0 and counts.min() >= 0
        fits = fits and bool((counts == exact).all())
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise DataError(
            f"{run.directory / LOG}: val_confusion of step {record['step']} is not a square table of counts"
        )
    return counts


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the confusion matrix, one panel per run or group, into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    tables = [_together(one) for one in several.shown(runs)]
    columns = min(len(tables), 2)
    rows = -(-len(tables) // columns)
    with page(output, 6.4 if columns == 1 else 10.4, (5.8 if columns == 1 else 5.4) * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, table in zip(panels, tables, strict=False):
            image = _paint(axes, *table)
        for axes in panels[len(tables) :]:
            axes.remove()
        bar = figure.colorbar(image, ax=list(panels[: len(tables)]), pad=0.02, shrink=0.7 / rows, aspect=25)
        bar.set_label("share of the true class", fontsize=9)
        bar.set_ticks([0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0], labels=["0", "0.01", "0.05", "0.1", "0.25", "0.5", "1"])
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return Path(output)


def _together(one):
    """Return (title, counts, classes) of a run, or of the runs of a group, whose counts add up."""
    found = [matrix(run) for run in one.runs]
    counts, classes, measured = found[0]
    if len(found) > 1:
        found = [each for each in found if each[1] == classes]
        counts = sum(each[0] for each in found)
        measured = f"{counts.sum():,} predictions of {len(found)} runs"
    right = np.trace(counts) / max(counts.sum(), 1)
    name = plain(one.runs[0].group or one.runs[0].name)
    return f"{name}: {100 * right:.4g} % right\n{measured}", counts, classes


def _paint(axes, title, counts, classes):
    from matplotlib.colors import PowerNorm

    total = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(total, 1)  # a class without samples is a row of zeros
    # The square root keeps rare confusions visible next to a strong diagonal.
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="nearest")
    size = len(counts)
    every = 1 if size <= MOST_NAMES else next(k for k in (2, 5, 10, 20, 50, 100, 10**6) if size <= MOST_NAMES * k)
    long = max(len(name) for name in classes) > 3
    ticks, font = range(0, size, every), 9 if size <= 15 else 7
    axes.set_xticks(ticks, labels=classes[::every], rotation=90 if long else 0, fontsize=font)
    axes.set_yticks(ticks, labels=classes[::every], fontsize=font)
    axes.tick_params(length=0 if every == 1 else 2)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    label = "predicted class"
    if size <= MOST_NUMBERS:
        number_size = min(10.0, 150.0 / size / max(len(str(counts.max())), 2) * 1.5)
        for i, j in np.ndindex(counts.shape):
            if counts[i, j]:
                shade = "white" if share[i, j] > 0.3 else "0.15"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=number_size, color=shade)
    axes.set_xlabel(label + (f"\nmost often: {_confused(counts, classes)}" if size > MOST_NUMBERS else ""), fontsize=9)
    axes.set_ylabel("true class")
    axes.set_title(title)
    return image


def _confused(counts, classes):
    """Name the pairs of classes that are confused most often, one on each line."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, counts.shape), strict=True) if wrong[i, j]]
    return "\n".join(f"{classes[i]} as {classes[j]} ({wrong[i, j]})" for i, j in pairs) or "none"
