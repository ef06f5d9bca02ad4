"""Saved networks and data that fits them, for `nnjit evaluate` and `nnjit predict`."""

import os
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import data
from ..data.schema import Schema
from ..data.split import Dataset, Split
from ..errors import DataError, UsageError
from ..network.compose import load
from ..network.network import Network
from ..registry import load_plugin
from ..registry.options import SpecLike
from ..training import config_file
from ..training.config import Resolved, resolve
from ..training.metrics import classes

ROWS = 4096  # samples per call of the network: bounds the memory


def open_saved(model: str | os.PathLike[str], plugins: Sequence[str] = ()) -> tuple[Network, Resolved | None]:
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
    resolved : Resolved or None
        The config of the run, if `model` is one whose data has a name.

    Raises
    ------
    NnjitError
    """
    for plugin in plugins:
        load_plugin(plugin)
    network = load(model)
    file = Path(model) / "config.toml"
    table, source_name = config_file.read(file) if file.is_file() else ({}, "")
    return network, resolve(table, source_name) if table.get("data") else None  # empty after Network.fit on arrays


def choose(dataset: Dataset, part: str | None = None) -> Split:
    """Return one split of a data set: "train" or "validation"; None: validation, if there is one.

    Raises
    ------
    UsageError
        There is no validation split.
    """
    if part == "validation" and dataset.validation is None:
        raise UsageError(f"{dataset.name} has no validation samples; choose --split train")
    return dataset.train if part == "train" or dataset.validation is None else dataset.validation


def matched(network: Network, spec: SpecLike | Dataset) -> Dataset:
    """Return a data set with the columns, classes and scale that the network was trained on.

    Parameters
    ----------
    network : Network
    spec : spec of a data set, reader or Dataset
        A table that is still to be read is encoded as that of training.

    Raises
    ------
    DataError
        They do not fit; or the network has no names of classes, and the data has another number of them.
    """
    known = network.trained_on or Schema()
    dataset = data.load(spec, known.of_columns)
    names, outputs = dataset.class_names, network.output_shape
    count = 2 if outputs == (1,) else outputs[0]
    if known.classes is None and names is not None and len(names) != count and not _counted(names):
        raise DataError(
            f"{dataset.train.name}: it has {len(names)} classes with names ({', '.join(names[:8])}), but the network "
            f"has {count}, whose names are not known"
        )
    return known.matched(dataset)


def read_samples(network: Network, path: str | os.PathLike[str]) -> Split:
    """Return the samples of a file without targets as a Split, `matched`; a row of a table takes the network's shape.

    Raises
    ------
    DataError
        The file, the shape of its samples or their numbers do not fit; or it holds bytes, and the network does not
        have the factor by which the bytes of its training were multiplied.
    """
    known = network.trained_on or Schema()
    dataset, shape = data.samples(path, known.of_columns), network.input_shape
    if dataset.train.holds_bytes and network.trained_on is None:
        raise DataError(
            f"{path} holds bytes, but the saved network does not say by which factor it was trained on bytes; "
            "give real numbers, scaled as for training"
        )
    split = matched(network, dataset).train
    if split.input_shape != shape and split.input_shape == (prod(shape),):
        split = split.changed(shape=shape)
    if split.input_shape != shape:
        raise DataError(f"{path}: samples have shape {split.input_shape}, the network takes {shape}")
    return split


def outputs(network: Network, split: Split) -> Iterator[NDArray[Any]]:
    """Yield F(x), some samples at a time."""
    for first in range(0, len(split), ROWS):
        yield network._apply(split.take(slice(first, first + ROWS), network.dtype)[0])


def classifier(
    network: Network, resolved: Resolved | None, dataset: Dataset | None
) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Return the function from outputs to the name of each sample's class, or its number; None without classes.

    There are classes if the run's loss, the data of training or the data set has them.
    """
    loss = None if resolved is None else resolved.settings.loss
    shape = network.output_shape
    names = None if network.trained_on is None else network.trained_on.classes
    if loss is not None and loss.independent and shape != (1,):  # each output is a yes or no
        return None
    if not (names or (loss is not None and loss.classification) or (dataset is not None and dataset.classes)):
        return None
    if names is None or len(names) != (2 if shape == (1,) else shape[0]):
        return classes
    return lambda y: np.array(names)[classes(y)]


def _counted(names):
    return list(names) == [str(i) for i in range(len(names))]
