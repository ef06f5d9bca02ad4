"""Saved networks and data that fits them, for `nnjit evaluate` and `nnjit predict`."""

import os
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .. import data
from ..data.files import reader_spec
from ..data.schema import Schema
from ..data.split import Dataset, Split
from ..errors import DataError, ShapeError, UsageError
from ..network.compose import load
from ..network.network import Network
from ..registry import datasets, load_plugin
from ..registry.specs import either
from ..training import config_file
from ..training.config import Resolved, resolve
from ..training.fitting import raw_range_of
from .launch import load_data, with_absolute_paths

PARTS = ("train", "validation", "test")
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
    """Return one split of a data set: "train", "validation" or "test"; None: validation, if there is one.

    Raises
    ------
    UsageError
        There is no such split.
    """
    if part is None:
        return dataset.train if dataset.validation is None else dataset.validation
    split: Split | None = getattr(dataset, part)
    if split is None:
        there = [name for name in PARTS if getattr(dataset, name) is not None]
        raise UsageError(f"{dataset.name} has no {part} samples; choose --split {either(there)}")
    return split


def read_data(network: Network, resolved: Resolved | None, spec: str | None) -> Dataset:
    """Return the data set of a spec, or that of the run (None), divided as the run divides its own, and `matched`.

    Without this, rows held out of a data set could be rows that the network was trained on.

    Raises
    ------
    NnjitError
    """
    reader = None if spec is None else datasets.create(reader_spec(spec))
    encoding = (network.trained_on or Schema()).of_columns  # a table is encoded as that of training
    if resolved is not None and (reader is None or with_absolute_paths(reader).spec() == resolved.reader.spec()):
        return matched(network, load_data(resolved, encoding))
    if reader is None:
        raise UsageError("the network does not say which data; give --data SPEC, such as --data digits")
    dataset = data.load(reader, network.seed, encoding=encoding)
    if dataset.columns is None and dataset.input_shape != network.input_shape:  # before the numbers are judged
        raise ShapeError(
            f"{dataset.train.name}: samples have shape {dataset.input_shape}, the network takes {network.input_shape}"
        )
    return matched(network, dataset)


def matched(network: Network, dataset: Dataset) -> Dataset:
    """Return the data set with the columns and classes that the network was trained on.

    Raises
    ------
    DataError
        They do not fit, nor do the numbers; or the network has no names of classes, and the data has another number of
        them; or the data has raw numbers, such as pixels, and a network that does not scale them says nothing of its
        training.
    """
    known = network.trained_on or Schema()
    names, outputs = dataset.class_names, network.output_shape
    count = 2 if outputs == (1,) else outputs[0]
    if known.classes is None and names is not None and len(names) != count and not _counted(names):
        raise DataError(
            f"{dataset.train.name}: it has {len(names)} classes with names ({', '.join(names[:8])}), but the network "
            f"has {count}, whose names are not known"
        )
    if dataset.raw_range is not None and network.trained_on is None and raw_range_of(network) is None:
        low, high = dataset.raw_range
        raise DataError(
            f"{dataset.train.name} holds raw numbers from {low:g} to {high:g}, but the saved network does not say on "
            f"which numbers it was trained, and its first layer is not minmax({low:g}, {high:g}); give real numbers, "
            "scaled as for training"
        )
    return known.matched(dataset)


def read_samples(
    network: Network, path: str | os.PathLike[str], carried: str | None = None
) -> tuple[Split, NDArray[Any] | None]:
    """Return the samples of a file without targets, `matched`; a row of a table takes the network's shape.

    Parameters
    ----------
    network : Network
    path : path
    carried : str or None
        A column of the table, or an array of the archive, to return as it is; it need not be a feature.

    Returns
    -------
    split : Split
    values : ndarray (N,) or None
        The carried column.

    Raises
    ------
    DataError
        The file, the shape of its samples or their numbers do not fit.
    """
    known = network.trained_on or Schema()
    values = None if carried is None else data.column(path, carried)
    encoding, shape = known.of_columns, network.input_shape
    is_input = encoding is not None and carried in encoding.kinds
    dataset = data.samples(path, encoding, None if is_input else carried)
    split = matched(network, dataset).train
    if split.input_shape != shape and split.input_shape == (prod(shape),):
        split = split.changed(shape=shape)
    if split.input_shape != shape:
        raise DataError(f"{path}: samples have shape {split.input_shape}, the network takes {shape}")
    if values is not None and len(values) != len(split):
        raise DataError(f"{path}: {carried} has {len(values)} values for {len(split)} samples")
    return split, values


def outputs(network: Network, split: Split) -> Iterator[NDArray[Any]]:
    """Yield F(x), some samples at a time."""
    for first in range(0, len(split), ROWS):
        yield network._apply(split.take(slice(first, first + ROWS), network.dtype)[0])


def _counted(names):
    return list(names) == [str(i) for i in range(len(names))]
