"""Taylor remainders, one panel per layer: |C(v + h p) - C(v) - h grad C . p| must fall with slope 2 as h halves.

Remainders are relative to that of the largest step, so that all panels share their axes and one line of slope 2.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .run_log import PathLike
from .theme import PALETTE, page, plain

SLOPE = 0.1  # largest deviation from slope 2 that is not marked
GREY = "0.55"


def draw(remainders: Mapping[str, tuple[Any, Any, float]], output: PathLike) -> Path:
    """Draw the remainders into the file `output` (.png, .svg or .pdf); return its path.

    Parameters
    ----------
    remainders : dict
        name of layer -> (steps, remainder, slope), such as `nnjit.check.Report.remainders`.
    output : path

    Raises
    ------
    DataError
        There is no remainder to draw.
    """
    if not remainders:
        raise DataError("there is no Taylor remainder to draw: no layer was differentiated")
    columns = min(6, len(remainders))
    rows = -(-len(remainders) // columns)
    with page(output, max(1.7 * columns + 0.6, 4.0), max(1.65 * rows + 0.8, 3.0)) as figure:
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (name, curve) in zip(panels, remainders.items(), strict=False):
            _panel(axes, name, *curve)
        for axes in panels[len(remainders) :]:
            axes.set_visible(False)
        for axes in panels[max(0, len(remainders) - columns) : len(remainders)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("step h (dashed: slope 2)", fontsize=10)
        figure.supylabel("remainder / that of the largest step", fontsize=10)
        figure.suptitle("Taylor remainder |C(v + h p) - C(v) - h grad C · p|", fontsize=10, x=0.01, ha="left")
    return Path(output)


def _panel(axes, name, steps, remainder, slope):
    steps, remainder = np.asarray(steps), np.asarray(remainder)
    wrong = not abs(slope - 2) <= SLOPE
    top, largest = steps.argmax(), steps.max()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.plot(steps, (steps / largest) ** 2, color=GREY, linewidth=1.0, linestyle="--", gid="slope 2")
    if remainder[top] > 0:
        shown = remainder > 0
        colour = PALETTE[1] if wrong else PALETTE[0]
        axes.plot(steps[shown], remainder[shown] / remainder[top], "o", color=colour, markersize=3, gid="remainder")
    axes.set_title(f"{plain(name, 18)}\nslope {slope:.2f}", fontsize=8, color=PALETTE[1] if wrong else "black")
    axes.set_xticks([steps.min(), largest])
    axes.set_ylim(0.25 * (steps.min() / largest) ** 2, 4)
    axes.tick_params(labelsize=8)
