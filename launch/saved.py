"""Saved networks and data that fits them, for `nnjit evaluate` and `nnjit predict`."""

import os
from collections.abc import Iterator, Sequence
from copy import copy
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .. import data
from ..data.files import reader_spec, samples_reader
from ..data.image_folder import Images
from ..data.schema import Schema
from ..data.split import Dataset, Split
from ..data.table_reader import TableReader
from ..errors import DataError, UsageError
from ..network.compose import load
from ..network.network import Network
from ..registry import datasets, load_plugin
from ..registry.options import SpecLike
from ..registry.specs import either, literal
from ..training import config_file
from ..training.config import Resolved, resolve
from ..training.fitting import raw_range_of
from .launch import load_data, with_absolute_paths

PARTS = ("train", "validation", "test")
HELD = ("validation", "test")  # options of readers that hold rows out
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


class Chosen(NamedTuple):
    """The rows to measure or to predict, the data set that has them, and the words that say which they are."""

    split: Split
    dataset: Dataset
    said: str


def choose(network: Network, resolved: Resolved | None, spec: str | None, part: str | None = None) -> Chosen:
    """Return rows of the data of a spec, or of the run's own data (None), `matched` with the network.

    * Of the run's own data, which a spec may name too, the rows that the run held out to validate.
    * Of other data all rows, or those to validate if the data itself names some.
    * A network without a run does not say which data is its own: the rows that a run with its seed would hold out.

    A table that is named alone has the labels of the run's table, if these have names.

    Parameters
    ----------
    network : Network
    resolved : Resolved or None
        The config of its run.
    spec : str or None
    part : "train", "validation", "test" or None
        Another part: of the run's own data as the run divided it, of other data as its reader divides it.

    Raises
    ------
    UsageError
        There is no data, or no such part; or the data is the run's own, read in another way.
    NnjitError
    """
    reader = None if spec is None else datasets.create(reader_spec(spec))
    encoding = (network.trained_on or Schema()).of_columns  # a table is encoded as that of training
    if isinstance(reader, Images) and resolved is not None and not _reads_own(reader, resolved.reader):
        reader = _as_trained(reader, network, resolved)
    if reader is None and resolved is None:
        raise UsageError("the network does not say which data; give --data SPEC, such as --data digits")
    if resolved is not None and (reader is None or _is_own(reader, resolved.reader)):
        if reader is None or part is not None or not _all_asked_for(reader, resolved.reader):
            dataset = matched(network, load_data(resolved, encoding))
            split = _part(dataset, part)
            words = {"train": "which the network was trained on", "test": "the run's test set"}
            return Chosen(split, dataset, words.get(_name(dataset, split), "held out of training"))
        said = "all rows, also those that the network was trained on"
    elif resolved is None:
        said = "some of which the network may have been trained on: it does not say"
    else:
        said = "all rows" if part is None else f"its {part} rows"
        if isinstance(reader, TableReader) and isinstance(resolved.reader, TableReader) and reader.label is None:
            labels = resolved.reader.label if isinstance(resolved.reader.label, tuple) else (resolved.reader.label,)
            if all(isinstance(label, str) for label in labels):
                reader.label, reader.target = resolved.reader.label, resolved.reader.target
    whole = resolved is not None and part is None
    assert reader is not None
    dataset = data.load(reader, network.seed, encoding=encoding, whole=whole)
    dataset = matched(network, dataset)
    split = _part(dataset, part)
    if whole and split is not dataset.train:
        said = "its validation rows"
    return Chosen(split, dataset, said)


def _part(dataset, part):
    """Return one split of a data set; None: validation, if there is one. UsageError if there is no such split."""
    if part is None:
        return dataset.train if dataset.validation is None else dataset.validation
    split = getattr(dataset, part)
    if split is None:
        there = [name for name in PARTS if getattr(dataset, name) is not None]
        raise UsageError(f"{dataset.name} has no {part} samples; choose --split {either(there)}")
    return split


def _name(dataset, split):
    return next(part for part in PARTS if getattr(dataset, part) is split)


def _is_own(reader, own):
    """Tell whether a reader reads the data of a run; UsageError if it would divide it otherwise or read other labels.

    Rows that it holds out could be rows that the network was trained on.
    """
    if with_absolute_paths(reader).spec() == own.spec():
        return True
    if not _reads_own(reader, own):
        return False
    path = reader.path
    theirs, usual = own.options(), type(reader)(path=path).options()
    changed = [
        f"{name}={literal(value)}"
        for name, value in with_absolute_paths(reader).options().items()
        if name != "path" and value not in (usual[name], theirs.get(name)) and (name not in HELD or value != 0)
    ]
    if changed:
        raise UsageError(
            f"--data: {path} is the data that the network was trained on, and the run has divided it; leave out "
            f"{', '.join(changed)} (validation=0 measures all rows)"
        )
    return True


def _reads_own(reader, own):
    """Tell whether a reader reads the file or folder of a run's data."""
    path, trained = (getattr(each, "path", "") for each in (reader, own))
    return os.path.exists(path) and os.path.exists(trained) and os.path.samefile(path, trained)


def _all_asked_for(reader, own):
    """Tell whether a reader of a run's own data holds nothing out, while the run does."""
    options, theirs = reader.options(), own.options()
    return "validation" in options and options["validation"] == 0 != theirs.get("validation")


def matched(network: Network, dataset: Dataset, flat: bool = False) -> Dataset:
    """Return the data set with the columns and classes that the network was trained on; `flat` samples may be rows.

    Raises
    ------
    DataError
        They do not fit, nor do the numbers; or samples that are no rows of a table have another shape than the network
        takes; or the network has no names of classes, and the data has another number of them; or the data has raw
        numbers, such as pixels, and a network that does not scale them says nothing of its training.
    """
    known, name = network.trained_on or Schema(), dataset.train.name
    known.check_depth(dataset)
    found, shape = dataset.input_shape, network.input_shape
    if dataset.columns is None and found != shape and not (flat and found == (prod(shape),)):
        resize = (
            f"; images(path=..., size={shape[1:]}) resizes them" if dataset.depth and found[1:] != shape[1:] else ""
        )
        raise DataError(f"{name}: samples have shape {found}, the network takes {shape}{resize}")
    names, outputs = dataset.class_names, network.output_shape
    count = 2 if outputs == (1,) else outputs[0]
    if known.classes is None and names is not None and len(names) != count and not _counted(names):
        raise DataError(
            f"{name}: it has {len(names)} classes with names ({', '.join(names[:8])}), but the network "
            f"has {count}, whose names are not known"
        )
    if dataset.raw_range is not None and network.trained_on is None and raw_range_of(network) is None:
        low, high = dataset.raw_range
        raise DataError(
            f"{name} holds raw numbers from {low:g} to {high:g}, but the saved network does not say on "
            f"which numbers it was trained, and its first layer is not minmax({low:g}, {high:g}); give real numbers, "
            "scaled as for training"
        )
    return known.matched(dataset)


class Samples(NamedTuple):
    """Samples to predict, and what belongs to each of them."""

    split: Split
    names: NDArray[Any] | None  # (N,): the carried column, or the names of image files
    head: str  # what the names are: the column, or "file"
    notes: tuple[str, ...]  # of the reader


def read_samples(
    network: Network,
    source: SpecLike | Path,
    carried: str | None = None,
    resolved: Resolved | None = None,
) -> Samples:
    """Return the samples of a file without targets, `matched`; a row of a table takes the network's shape.

    Images are decoded as those of the run were.

    Parameters
    ----------
    network : Network
    source : path, spec or reader
        As for `data.samples`.
    carried : str or None
        A column of the table, or an array of the archive, to return as it is; it need not be a feature.
    resolved : Resolved or None
        The config of the network's run.

    Raises
    ------
    DataError
        The file, the shape of its samples or their numbers do not fit.
    UsageError
        Images have no column to carry, or shall be read in another way than those of the run.
    """
    known, reader = network.trained_on or Schema(), samples_reader(source)
    if isinstance(reader, Images):
        if carried is not None:
            raise UsageError(f"--id {carried}: images have no columns; the first column holds the names of the files")
        return _images(network, _as_trained(reader, network, resolved))
    path = reader.path
    values = None if carried is None else reader.column(carried)
    encoding, shape = known.of_columns, network.input_shape
    is_input = encoding is not None and carried in encoding.kinds
    dataset = reader.samples(encoding, None if is_input else carried)
    split = matched(network, dataset, flat=True).train
    if split.input_shape != shape and split.input_shape == (prod(shape),):
        split = split.changed(shape=shape)
    if split.input_shape != shape:  # rows of a table
        raise DataError(f"{path}: samples have shape {split.input_shape}, the network takes {shape}")
    if values is not None and len(values) != len(split):
        raise DataError(f"{path}: {carried} has {len(values)} values for {len(split)} samples")
    return Samples(split, values, carried or "", dataset.notes)


def _as_trained(reader, network, resolved):
    """Return a reader of images that decodes them as the run did, or else in as many channels as the network takes."""
    reader, own = copy(reader), None if resolved is None else resolved.reader
    if not isinstance(own, Images):
        reader.gray = reader.gray or network.input_shape[:1] == (1,)
        return reader
    for name in ("size", "gray"):
        given, trained = getattr(reader, name), getattr(own, name)
        if name == "size" and trained is None:
            continue
        if given and given != trained:
            raise UsageError(
                f"images: {name}={literal(given)}, but the network was trained on images with {name}="
                f"{literal(trained)}; leave it out"
            )
        setattr(reader, name, trained)
    return reader


def _images(network, reader):
    """Return the images of a file or folder and the names of their files."""
    dataset = reader.samples()
    return Samples(matched(network, dataset).train, reader.column("file"), "file", dataset.notes)


def outputs(network: Network, split: Split) -> Iterator[NDArray[Any]]:
    """Yield F(x), some samples at a time."""
    for first in range(0, len(split), ROWS):
        yield network._apply(split.take(slice(first, first + ROWS), network.dtype)[0])


def _counted(names):
    return list(names) == [str(i) for i in range(len(names))]
