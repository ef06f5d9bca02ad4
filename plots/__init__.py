"""Plots of run directories: they read the log and saved tensors, never a network, and need no display."""

from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from ..errors import UnknownName
from . import confusion, filters, gradient_norms, loss, metrics, update_ratio
from .run_log import PathLike, Runs

# Name -> description. Its module defines `draw(run_dirs, output)`, `has_data(run)` and `NEEDS`.
PICTURES = {
    "loss": "training and validation loss by step, the best epoch marked",
    "metrics": "accuracy and every other metric by epoch",
    "gradient_norms": "norm of the gradient before clipping, by layer and in total",
    "update_ratio": "change of each layer over an epoch, relative to its norm",
    "filters": "the weights of the first convolution",
    "confusion": "true against predicted classes on the validation set",
}

_MODULES = {
    "loss": loss,
    "metrics": metrics,
    "gradient_norms": gradient_norms,
    "update_ratio": update_ratio,
    "filters": filters,
    "confusion": confusion,
}


def picture(name: str) -> ModuleType:
    """Return the module that draws the plot `name`; hyphens may replace underscores.

    Raises
    ------
    UnknownName
        There is no such plot; the message lists the nearest name and all names.
    """
    key = name.replace("-", "_")
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
