"""Pictures from run directories: they read the log and saved tensors, never a network, and need no display."""

from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from ..errors import UnknownName
from . import confusion, filters, gradient_norms, loss, metrics, update_ratio
from .run_log import PathLike, Runs

# Name -> what it shows. Its module holds `draw(run_dirs, output)`, `has_data(run)` and `NEEDS`.
PICTURES = {
    "loss": "training and validation loss by step, the best epoch marked",
    "metrics": "accuracy and every other metric by epoch",
    "gradient_norms": "norm of the gradient before clipping, by layer and in total",
    "update_ratio": "how far each layer moved in an epoch, relative to its size",
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
    """The module that draws the picture `name`; hyphens may stand for underscores.

    Raises
    ------
    UnknownName
        With the nearest name and all names.
    """
    key = name.replace("-", "_")
    if key not in PICTURES:
        near = get_close_matches(key, PICTURES, n=1)
        guess = f"; did you mean {near[0]}?" if near else ";"
        raise UnknownName(f"unknown picture {name!r}{guess} the pictures are {', '.join(PICTURES)}")
    return _MODULES[key]


def draw(run_dirs: Runs, name: str, output: PathLike) -> Path:
    """Draw one picture of one or several runs.

    Parameters
    ----------
    run_dirs : sequence of paths (or RunLog objects)
        One picture compares them all.
    name : str
        One of `PICTURES`.
    output : path
        The file to write; its suffix (.png, .svg, .pdf) says the format. Replaced in one move if it exists.

    Returns
    -------
    pathlib.Path
        `output`.

    Raises
    ------
    UnknownName, DataError
        No such picture or run; a run without the data the picture needs.
    """
    return picture(name).draw(run_dirs, output)
