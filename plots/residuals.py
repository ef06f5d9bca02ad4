"""residuals.png: for each target of a regression, predicted against true values, and what the prediction misses.

The values are those of the best parameters for the validation set (or the training data), in the units of the target.
The axis of the residuals leaves out extreme ones, which triangles on its edges mark.
"""

from pathlib import Path

import numpy as np

from . import predictions, several
from .run_log import PathLike, RunLog, Runs, read_all
from .theme import PALETTE, legend, limit, page, plain

NEEDS = "predictions.safetensors of a regression"
MOST = 6  # most targets that have panels


def has_data(run: RunLog) -> bool:
    found = predictions.read(run)
    return found is not None and found.kind == "values"


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw a row of two panels for each target of each run or group into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    rows = [row for one in several.shown(runs) for row in _targets(one)]
    with page(output, 6.4, 3.1 * len(rows)) as figure:
        panels = figure.subplots(len(rows), 2, squeeze=False)
        for (left, right), row in zip(panels, rows, strict=True):
            _paint(left, right, *row)
    return Path(output)


def _targets(one):
    """List (title, name, true, predicted) of the targets of a run, or of a group's runs together."""
    found = [each for run in one.runs if (each := predictions.read(run)) is not None]
    true, predicted = (np.concatenate([each.tensors[key] for each in found]) for key in ("true", "predicted"))
    count = true.shape[1]
    title = plain(one.runs[0].group or one.runs[0].name)
    title += f"\n{found[0].measured()}" if len(found) == 1 else f"\n{len(true):,} predictions of {len(found)} runs"
    if count > MOST:
        some = slice(None, None, -(-true.size // 20_000))
        return [(title, f"all {count} numbers of a target", true.ravel()[some], predicted.ravel()[some])]
    names = found[0].names("targets", count) if count > 1 or found[0].about.get("targets") else ["target"]
    return [(title if k == 0 else "", name, true[:, k], predicted[:, k]) for k, name in enumerate(names)]


def _paint(left, right, title, name, true, predicted):
    """Draw predicted against true values, and residuals against predicted values."""
    residual = predicted - true
    style = {"linestyle": "", "marker": "o", "markersize": 3, "alpha": 0.5, "markeredgewidth": 0, "color": PALETTE[0]}
    if len(true) > 3000:
        style |= {"markersize": 1.5, "alpha": 0.3}
    ends = [np.nanmin([true, predicted]), np.nanmax([true, predicted])]
    (diagonal,) = left.plot(ends, ends, color="0.4", linewidth=1.0, linestyle="--", gid="guide")
    left.plot(true, predicted, gid="predicted", **style)
    variation = np.square(true - true.mean()).sum()
    rmse = float(np.sqrt(np.mean(np.square(residual))))
    r2 = f", R² {1 - np.square(residual).sum() / variation:.3g}" if variation > 0 else ""
    left.set_title(f"{title}\n{name}: rmse {_short(rmse)}{r2}".strip())
    left.set_xlabel(f"true: {name}")
    left.set_ylabel(f"predicted: {name}")
    legend(left, [(diagonal, "predicted = true")])
    right.axhline(0.0, color="0.4", linewidth=1.0, linestyle="--", gid="guide")
    outside = limit(right, [(predicted, residual, PALETTE[0])])
    right.plot(predicted, residual, gid="residual", **style)
    right.set_xlabel(f"predicted: {name}")
    right.set_ylabel("predicted - true")
    legend(right, outside)
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        _few_ticks(axis)


def _short(value):
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="", places=2)(value)


def _few_ticks(axis):
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=5))
    axis.set_major_formatter(EngFormatter(sep=""))
