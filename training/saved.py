"""A saved network with what is known about it: for `nnjit evaluate` and `nnjit predict`."""

from pathlib import Path

from ..errors import UsageError
from ..registry import load_plugin
from . import checkpoint, config_file
from .config import resolve


def open_saved(model, plugins=()):
    """Load a network.

    Parameters
    ----------
    model : path
        A run directory or a .safetensors file.
    plugins : sequence of str
        Plug-ins to load first.

    Returns
    -------
    network : Network
    config : Config or None
        That of the run, if `model` is one whose data has a name.

    Raises
    ------
    NnjitError
    """
    for plugin in plugins:
        load_plugin(plugin)
    network = checkpoint.load(model)
    file = Path(model) / "config.toml"
    table, where = config_file.read(file) if file.is_file() else ({}, "")
    return network, resolve(table, where) if table.get("data") else None  # empty after Network.fit on arrays


def choose(dataset, part=None):
    """One split of a data set: "train" or "validation"; None: validation, if there is one.

    Raises
    ------
    UsageError : there is no validation split.
    """
    if part == "validation" and dataset.validation is None:
        raise UsageError(f"{dataset.name} has no validation samples; choose --split train")
    return dataset.train if part == "train" or dataset.validation is None else dataset.validation
