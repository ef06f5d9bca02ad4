"""Several runs in one picture: a line for each run, or the mean and a band for runs that belong together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .run_log import RunLog
from .series import thin
from .theme import plain, run_styles


class Shown(NamedTuple):
    """One entry of the legend: a run, or the runs of a group; `style` holds its colour and line style."""

    label: str
    runs: list[RunLog]
    style: dict[str, Any]


def shown(runs: Sequence[RunLog]) -> list[Shown]:
    """Return what is drawn: each group of two runs or more is one, each other run too."""
    found: dict[Any, list[RunLog]] = {}
    for k, run in enumerate(runs):
        found.setdefault(k if run.group is None else (run.group, run.loss_name), []).append(run)
    styles = run_styles(len(found))
    return [
        Shown(plain(each[0].name if len(each) == 1 else f"{each[0].group}, mean of {len(each)} runs"), each, style)
        for each, style in zip(found.values(), styles, strict=True)
    ]


def paint(axes, one, curves, gid, **more):
    """Draw the curve of a run; or of a group faint curves, their mean, and a band of a standard deviation around it.

    Parameters
    ----------
    one : Shown
    curves : list of (x, y)
        One for each run with data.

    Returns
    -------
    matplotlib.lines.Line2D or None
        The line for the legend; None without curves.
    """
    if not curves:
        return None
    style = {"linewidth": 1.3, **one.style, **more}
    if len(curves) == 1:
        return axes.plot(*thin(*curves[0]), gid=gid, **style)[0]
    for x, y in curves:
        axes.plot(*thin(x, y), color=one.style["color"], linewidth=0.5, alpha=0.5, gid="run")
    x, mean, deviation = mean_and_deviation(curves)
    axes.fill_between(x, mean - deviation, mean + deviation, color=one.style["color"], alpha=0.18, linewidth=0)
    return axes.plot(x, mean, gid="mean", **{**style, "linewidth": 2.0})[0]


def mean_and_deviation(
    curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return x, the mean of curves (x, y) there, and their standard deviation (divided by n - 1).

    x is that of the curve with the fewest points, as far as all curves reach; the others are interpolated linearly.
    The mean is NaN at points without a finite curve; the deviation is 0 at points with one.
    """
    x = min((x for x, _ in curves), key=len)
    x = x[(x >= max(x[0] for x, _ in curves)) & (x <= min(x[-1] for x, _ in curves))]
    y = np.array([np.interp(x, *curve) for curve in curves])
    finite = np.isfinite(y)
    count = finite.sum(axis=0)
    total = np.where(finite, y, 0.0).sum(axis=0)
    mean = np.divide(total, count, out=np.full(len(x), np.nan), where=count > 0)
    squares = np.square(np.where(finite, y - mean, 0.0)).sum(axis=0)
    return x, mean, np.sqrt(squares / np.maximum(count - 1, 1))
