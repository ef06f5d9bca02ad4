"""A run from its config to its pictures: the work of `nnjit run`."""

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numba

from .. import data
from ..data.encoding import Encoding
from ..data.schema import Schema
from ..data.split import Dataset
from ..data.table_reader import TableReader, is_file
from ..errors import CheckpointError, RunExists, SpecError, UsageError
from ..kernels.compiler.environment import start_threads
from ..network.compose import load
from ..network.network import Network
from ..program.memory import need
from ..registry import parse
from ..storage import checkpoint
from ..storage.run_directory import RunDirectory
from ..training import config_file
from ..training.config import Config, Resolved, resolve
from ..training.measure import evaluate_split, targets_for, try_metrics
from ..training.progress import reporter as new_reporter
from ..training.ranks import Ranks
from ..training.run_and_draw import run_and_draw
from ..training.spec_check import Problems
from ..training.trainer import Trainer
from .defaults import complete
from .ranges import paths_of
from .suits import graph_for, loss_suits


class Prepared(NamedTuple):
    """A run that is checked: its trainer, not compiled yet, its complete config, and its data."""

    trainer: Trainer
    config: Config
    dataset: Dataset


class Finished(NamedTuple):
    """A run that has ended: its trainer, with progress and history, its directory, and figures of the test set."""

    trainer: Trainer
    directory: RunDirectory
    test: dict[str, Any] | None


def start(
    table: dict[str, Any],
    output: str | os.PathLike[str] | None = None,
    source_name: str = "",
    reporting: Callable[[], Any] | None = None,
    callbacks: Iterable[Any] = (),
    pictures: bool = True,
    ranks: Ranks | None = None,
) -> Finished:
    """Train a new network; write nothing before everything is checked and compiled.

    Parameters
    ----------
    table : dict
        The config, as `config_file.read` returns it.
    output : path or None
        The run directory to create; None: the next free one of ``runs/<name>-<k>``, named after the config's file or
        the data.
    source_name : str
        The name of the config in errors; "" if it has none.
    reporting : function or None
        Returns the context manager that reports progress; None: the one for the kind of standard output.
    callbacks : as in `Trainer`
    pictures : bool
        Draw the run when it ends.
    ranks : Ranks or None
        The processes that train together, of which this is rank 0.

    Returns
    -------
    Finished

    Raises
    ------
    NnjitError
    """
    resolved = read_config(table, source_name)
    name = name_of(resolved, source_name)
    if output is not None:
        RunDirectory(output).refuse_existing()  # `create` refuses too, but after compiling
    with (reporting or new_reporter)() as reporter:
        trainer, config, dataset = prepare(resolved, source_name, reporter, callbacks=callbacks, ranks=ranks)
        trainer.compile()
        text = config.text()
        if ranks is not None:
            trainer.recruit(text)
        directory = _record_numbered(trainer, name, text) if output is None else trainer.record(output, text)
        reporter.say([*dataset.description.splitlines(), *dataset.notes, *dataset.division])
        run_and_draw(trainer, directory, pictures)
    return Finished(trainer, directory, _test(trainer, dataset, directory))


def resume(
    path: str | os.PathLike[str],
    plugins: Sequence[str] = (),
    epochs: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
    patience: int | None = None,
    reporting: Callable[[], Any] | None = None,
    callbacks: Iterable[Any] = (),
    pictures: bool = True,
    ranks: Ranks | None = None,
) -> Finished:
    """Continue a run from its last checkpoint, bit for bit on the same device.

    Parameters
    ----------
    path : path of the run directory
    plugins : sequence of str
        The values of --plugin: a run directory never imports code by itself.
    epochs : int or None
        A new total number of epochs, to train longer.
    threads : int or None
    device : str or None
        Another device to continue on; there the results agree within rounding.
    precision : str or None
        Another precision of matrix products to continue with.
    patience : int or None
        Another number of epochs without an improvement to end after.
    reporting : function or None
        Returns the context manager that reports progress; None: the one for the kind of standard output.
    callbacks : as in `Trainer`
    pictures : bool
        Draw the run when it ends.
    ranks : Ranks or None
        The processes that train together, of which this is rank 0.

    Returns
    -------
    Finished

    Raises
    ------
    NnjitError
    """
    directory = RunDirectory.open(path)
    table, source_name = config_file.read(directory.path / "config.toml")
    config_file.need_plugins(table, plugins, source_name)
    if isinstance(table.get("model"), dict):
        table["model"].setdefault("scale", "off")  # a run from before this option: its layers are complete
    overrides = {
        "training.epochs": epochs,
        "training.patience": patience,
        "run.threads": threads,
        "run.device": device,
        "run.precision": precision,
    }
    for key, value in overrides.items():
        if value is not None:
            config_file.assign(table, key.split("."), value)
    resolved = resolve(table, source_name)
    last = directory.path / "last.safetensors"
    tensors, about = checkpoint.read(last)
    progress, epochs = about.get("progress"), resolved.settings.epochs
    if not progress:
        raise CheckpointError(f"{last}: holds a network, but no training that could be continued")
    if (factor := (about.get("trained_on") or {}).get("scale", 1)) != 1:
        raise CheckpointError(
            f"{last}: an older nnjit trained it, which multiplied the samples by {factor:.6g} outside of the network; "
            "it cannot be continued, so start a new run (predict and evaluate take the old one)"
        )
    if epochs < progress["epoch"]:
        raise UsageError(f"{path}: {progress['epoch']} epochs are trained already, more than {epochs}")
    with (reporting or new_reporter)() as reporter:
        trainer, config, dataset = prepare(resolved, source_name, reporter, (tensors, progress), callbacks, ranks)
        reporter.say([*dataset.description.splitlines(), *dataset.notes, *dataset.division])
        trainer.compile()
        if ranks is not None:
            trainer.recruit(config.text())
        with checkpoint.atomic(source_name) as file:
            file.write(config.text().encode())
        run_and_draw(trainer, directory, pictures)
    return Finished(trainer, directory, _test(trainer, dataset, directory))


def name_of(resolved: Resolved, source_name: str) -> str:
    """Return the name of a run: that of its config's file, or of the reader of its data."""
    return Path(source_name).stem if Path(source_name).is_file() else parse(resolved.reader.spec(), "dataset").name


def read_config(table: dict[str, Any], source_name: str = "") -> Resolved:
    """Import a table's plug-ins and resolve it; refuse the config of a sweep in one sentence."""
    config_file.load_plugins(table)
    try:
        return resolve(table, source_name)
    except SpecError as error:
        paths = ["sweep"] * ("sweep" in table) + paths_of(table)
        mistakes = [line.removeprefix(f"{source_name}: ").strip() for line in str(error).splitlines()]
        if not paths or not all(line.startswith((*paths, f"{source_name} has", "the config has")) for line in mistakes):
            raise
        name = shlex.quote(source_name) if Path(source_name).is_file() else "CONFIG.toml"
        what = f"{paths[-1]} is a range" if paths[-1] != "sweep" else "it has a section [sweep]"
        raise SpecError(f"{source_name or 'the config'}: {what}, whose values nnjit sweep {name} tries") from None


def prepare(
    resolved: Resolved,
    source_name: str = "",
    reporter: Any = None,
    checkpoint: Any = None,
    callbacks: Iterable[Any] = (),
    ranks: Ranks | None = None,
    dataset: Dataset | None = None,
) -> Prepared:
    """Return a trainer, not compiled yet, the config with the data's input shape and absolute paths, and the data.

    Parameters
    ----------
    resolved : Resolved
    source_name : str
        The name of the config in errors.
    reporter, checkpoint, callbacks, ranks : as in `Trainer`
    dataset : Dataset or None
        The data, if they are loaded already.
    """
    config = resolved.config
    if ranks is not None:
        join_ranks(resolved, ranks)
    threads = config.run.threads if ranks is None else config.run.threads or ranks.threads
    if threads is not None:
        use_threads(threads)
    dataset = load_data(resolved) if dataset is None else dataset
    resolved = complete(resolved, dataset, source_name)
    config = resolved.config
    network = build(resolved, dataset, source_name)
    schema = Schema.of_dataset(dataset)
    trainer = Trainer(
        network, dataset.train, dataset.validation, resolved.settings, reporter, schema, checkpoint, callbacks,
        ranks=ranks,
    )  # fmt: skip
    if dataset.test is not None:  # refused now, not after the training
        measured, test = trainer.metrics, schema.checked(targets_for(dataset.test, network, trainer.loss))
        try_metrics(measured.metrics, measured.outputs, test, network)
    model = config.model.model_copy(update={"input_shape": list(network.input_shape)})
    return Prepared(trainer, portable(resolved).model_copy(update={"model": model}), dataset)


def portable(resolved: Resolved) -> Config:
    """Return the config with absolute paths of data and plug-ins, to be used from any folder."""
    run = resolved.config.run
    update = {
        "data": {"name": with_absolute_paths(resolved.reader).spec()},
        "run": run.model_copy(update={"plugins": [config_file.absolute(p) for p in run.plugins]}),
    }
    return resolved.config.model_copy(update=update)


def load_data(resolved: Resolved, encoding: Encoding | None = None) -> Dataset:
    """Load the data of a run, divided as its seed and its fold say, each time in the same way; see `data.load`."""
    fold = resolved.config.run.fold
    return data.load(resolved.reader, resolved.settings.seed, None if fold is None else (fold[0], fold[1]), encoding)


def build(resolved: Resolved, dataset: Dataset, source_name: str = "") -> Network:
    """Make the untrained network of a config for a data set.

    Raises
    ------
    SpecError
        The network does not fit the data; the message has the path in the config.
    """
    model, graph, shape = resolved.config.model, resolved.graph, tuple(dataset.input_shape)
    problems = Problems()
    if model.input_shape and tuple(model.input_shape) != shape:
        problems.add("model.input_shape", f"the samples of {dataset.name} have shape {list(shape)}")
    if graph is None or graph.input.shape != shape:
        graph = graph_for(resolved.layers, dataset, resolved.settings.loss, problems)
    else:
        loss_suits(resolved.settings.loss, dataset, problems)
    if graph is not None:
        _check_memory(graph, resolved, len(dataset.train), problems)
    problems.report(source_name)
    run = resolved.config.run
    return Network(
        resolved.layers, shape, model.dtype, run.device, resolved.settings.seed, run.precision, graph=graph
    )  # fmt: skip


def _check_memory(graph, resolved, samples, problems):
    """Check that parameters, gradient, moments and a batch of activations fit into memory, before any is allocated."""
    batch = min(resolved.settings.batch_size or samples, samples)
    numbers = 4 * graph.size + batch * sum(prod(value.shape) for value in graph.values)
    size = numbers * (8 if resolved.config.model.dtype == "float64" else 4)
    try:
        need(size, f"{graph.size} parameters and a batch of {batch} samples")
    except SpecError as error:
        problems.add("model.layers", error)


def with_absolute_paths(reader):
    """Return a reader with absolute paths, so that a run can be resumed and evaluated from any folder.

    An option called `path` or ``..._path`` is a path if something is there; a plug-in's may be an address instead. So
    is an option that a reader lists in `files`, as `test`, if it names a file.
    """
    reader = copy(reader)
    files = getattr(reader, "files", ())
    for name, value in reader.options().items():
        is_path = name in files and (is_file(value) or not isinstance(reader, TableReader))
        if name == "path" or name.endswith("_path") or is_path:
            setattr(reader, name, config_file.absolute(value) if isinstance(value, str) else value)
    return reader


def _test(trainer, dataset, directory):
    """Measure the best parameters of a run that has ended on its test set, if it has one; write `test.json`."""
    if dataset.test is None or trainer.history.interrupted is not None:
        return None
    found = evaluate_split(load(directory.path), dataset.test, trainer.loss, [*trainer.metrics.metrics.values()])
    figures = {"model": checkpoint.label(directory.path), "samples": len(dataset.test), **found}
    directory.record_test(figures)
    return figures


def use_threads(number: int) -> None:
    """Run on this number of threads; raise UsageError if the process has fewer."""
    there = numba.config.NUMBA_NUM_THREADS
    if number > there:
        raise UsageError(f"run.threads: {number} threads, but this process has {there}; NUMBA_NUM_THREADS can raise it")
    start_threads()
    numba.set_num_threads(number)


def join_ranks(resolved: Resolved, ranks: Ranks) -> None:
    """Take from a config what concerns ranks; raise UsageError for one that they cannot train together."""
    if resolved.config.run.device != "cpu":
        raise UsageError(
            f"run.device: {ranks.size} processes train together on processors only, not on "
            f"{resolved.config.run.device}; leave it out, or start one process"
        )
    ranks.global_statistics = resolved.config.run.global_statistics


def _record_numbered(trainer, name, config):
    """Make the first of runs/<name>-1, -2, ... that does not exist; another process may make it first."""
    for k in count(1):
        path = Path("runs") / f"{name}-{k}"
        if not os.path.lexists(path):
            try:
                return trainer.record(path, config)
            except RunExists:
                continue
