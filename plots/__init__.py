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

# Name -> description. Its module defines `draw(run_dirs, output)`, `has_data(run)` and `NEEDS`.
PICTURES = {
    "loss": "training and validation loss by step and epoch, the best epoch marked",
    "metrics": "accuracy and every other metric by epoch",
    "learning_rate": "the learning rate by step",
    "gradient_norms": "norm of the gradient before clipping, by layer and in total",
    "update_ratio": "change of each layer over an epoch, relative to its norm",
    "confusion": "true against predicted classes",
    "labels": "how often each of several labels is found, missed, and predicted where it is not",
    "residuals": "predicted against true values, and residuals, for each target",
    "samples": "images with their predictions, and the mistakes with the highest confidence",
    "plane": "the prediction over the plane of two inputs",
    "filters": "the weights of a convolution, the first one if none is named",
}

_MODULES = {
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
    return _MODULES[key]


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
