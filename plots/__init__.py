"""Plots of run directories: they read the log and saved tensors, never a network, and need no display."""

from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from ..errors import UnknownName
from . import (
    confusion,
    filters,
    gradient_norms,
    labels,
    learning_rate,
    loss,
    metrics,
    plane,
    residuals,
    samples,
    update_ratio,
)
from .run_log import PathLike, Runs

# Each module defines `draw(run_dirs, output)`, `has_data(run)` and `NEEDS`; docs/plots.md says what it shows.
PICTURES = {
    "loss": loss,
    "metrics": metrics,
    "learning_rate": learning_rate,
    "gradient_norms": gradient_norms,
    "update_ratio": update_ratio,
    "confusion": confusion,
    "labels": labels,
    "residuals": residuals,
    "samples": samples,
    "plane": plane,
    "filters": filters,
}

# The pictures that a run draws when it ends, as far as it has the data. To draw all would take longer than a short run.
AT_THE_END = ("loss", "gradient_norms", "confusion", "labels", "residuals", "samples", "plane")

# The pictures of runs that belong together, such as those of several seeds: those with a panel for all of them.
TOGETHER = ("loss", "metrics", "learning_rate", "confusion", "residuals")


def picture(name: str) -> ModuleType:
    """Return the module that draws the plot `name`; hyphens may replace underscores.

    Raises
    ------
    UnknownName
        There is no such plot; the message lists the nearest name and all names.
    """
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    if key not in PICTURES:
        near = get_close_matches(key, PICTURES, n=1)
        guess = f"; did you mean {near[0]}?" if near else ";"
        raise UnknownName(f"unknown picture {name!r}{guess} the pictures are {', '.join(PICTURES)}")
    return PICTURES[key]


def draw(run_dirs: Runs, name: str, output: PathLike) -> Path:
    """Draw one plot of one or more runs.

    Parameters
    ----------
    run_dirs : sequence of paths (or RunLog objects)
        The plot compares them all.
    name : str
        One of `PICTURES`.
    output : path
        The file to write, atomically; its suffix (.png, .svg, .pdf) sets the format.

    Returns
    -------
    pathlib.Path
        `output`.

    Raises
    ------
    UnknownName, DataError
        There is no such plot or run, or no run has the data that the plot needs.
    """
    return picture(name).draw(run_dirs, output)
