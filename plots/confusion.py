"""confusion.png: true against predicted classes on the validation set, in the best epoch.

The numbers are counts; the colour is the share of the row, so that rare classes are as visible as common ones.
"""

from pathlib import Path

import numpy as np

from ..errors import DataError
from .run_log import LOG, PathLike, RunLog, Runs, read_all
from .theme import page, plain

NEEDS = "val_confusion in the epoch lines of log.jsonl (a classification with validation data)"
MOST_NUMBERS = 25


def has_data(run: RunLog) -> bool:
    return run.best_epoch(having="val_confusion") is not None


def matrix(run):
    """Return (counts, classes, record) of the best epoch that logged a confusion matrix.

    counts : (K, K) int64, rows true, columns predicted
    classes : list of K names

    Raises DataError if the logged table is not a square table of counts.
    """
    record = run.best_epoch(having="val_confusion")
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
    classes = record.get("val_classes")
    if not isinstance(classes, list) or len(classes) != len(counts):
        classes = range(len(counts))
    return counts, [plain(name, 20) for name in classes], record


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the confusion matrix, one panel per run, into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    columns = min(len(runs), 2)
    rows = -(-len(runs) // columns)
    tables = [matrix(run) for run in runs]
    side = 6.0 if max(len(counts) for counts, _, _ in tables) > 12 else 5.0
    with page(output, (side + 1.0) * columns, (side + 0.2) * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, run, table in zip(panels, runs, tables, strict=False):
            image = _paint(axes, run, *table)
        for axes in panels[len(runs) :]:
            axes.remove()
        bar = figure.colorbar(image, ax=list(panels[: len(runs)]), pad=0.02, shrink=0.8 / rows, aspect=22)
        bar.set_label("share of the true class")
        bar.set_ticks([0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0], labels=["0", "0.01", "0.05", "0.1", "0.25", "0.5", "1"])
        bar.outline.set_visible(False)
    return Path(output)


def _paint(axes, run, counts, classes, record):
    from matplotlib.colors import PowerNorm

    total = counts.sum(axis=1, keepdims=True)
    share = counts / np.maximum(total, 1)  # a class without samples is a row of zeros
    # The square root keeps rare confusions visible next to a strong diagonal.
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0), interpolation="nearest")
    size = len(counts)
    every = -(-size // MOST_NUMBERS)
    long = max(len(name) for name in classes) > 3
    ticks = range(0, size, every)
    axes.set_xticks(ticks, labels=classes[::every], rotation=90 if long else 0)
    axes.set_yticks(ticks, labels=classes[::every])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    if size <= MOST_NUMBERS:
        font = min(10.0, 165.0 / size / max(len(str(counts.max())), 2) * 1.5)
        for i, j in np.ndindex(counts.shape):
            if counts[i, j]:
                shade = "white" if share[i, j] > 0.3 else "0.15"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=font, color=shade)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{plain(run.name)}\nepoch {record.get('epoch', '?')}, {100 * right:.4g} % of {counts.sum()} right")
    return image
