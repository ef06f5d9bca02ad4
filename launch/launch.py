"""A run from its config to its pictures: the work of `nnjit run`."""

import os
from collections.abc import Sequence
from copy import copy
from itertools import count
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numba

from .. import data
from ..data.schema import Schema
from ..data.split import Dataset
from ..errors import CheckpointError, RunExists, SpecError, UsageError
from ..kernels.compiler.environment import start_threads
from ..network.network import Network
from ..program.memory import need
from ..registry import parse
from ..storage import checkpoint
from ..storage.run_directory import RunDirectory
from ..training import config_file
from ..training.config import Config, Resolved, resolve
from ..training.run_and_draw import run_and_draw
from ..training.spec_check import Problems, check_shapes
from ..training.trainer import Trainer
from .progress import reporter as new_reporter
from .table import for_table


class Finished(NamedTuple):
    """A run that has ended: its trainer, with progress and history, and its directory."""

    trainer: Trainer
    directory: RunDirectory


def start(table: dict[str, Any], output: str | os.PathLike[str] | None = None, source_name: str = "") -> Finished:
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

    Returns
    -------
    Finished

    Raises
    ------
    NnjitError
    """
    resolved = read_config(table, source_name)
    name = Path(source_name).stem if Path(source_name).is_file() else parse(resolved.reader.spec(), "dataset").name
    if output is not None:
        RunDirectory(output).refuse_existing()  # `create` refuses too, but after compiling
    with new_reporter() as reporter:
        trainer, config = prepare(resolved, source_name, reporter)
        _compile(trainer, reporter)
        text = config.text()
        directory = _record_numbered(trainer, name, text) if output is None else trainer.record(output, text)
        run_and_draw(trainer, directory)
    return Finished(trainer, directory)


def resume(
    path: str | os.PathLike[str],
    plugins: Sequence[str] = (),
    epochs: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
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
    overrides = {"training.epochs": epochs, "run.threads": threads, "run.device": device, "run.precision": precision}
    for key, value in overrides.items():
        if value is not None:
            config_file.assign(table, key.split("."), value)
    resolved = resolve(table, source_name)
    last = directory.path / "last.safetensors"
    tensors, about = checkpoint.read(last)
    progress, epochs = about.get("progress"), resolved.settings.epochs
    if not progress:
        raise CheckpointError(f"{last}: holds a network, but no training that could be continued")
    if epochs < progress["epoch"]:
        raise UsageError(f"{path}: {progress['epoch']} epochs are trained already, more than {epochs}")
    with new_reporter() as reporter:
        trainer, config = prepare(resolved, source_name, reporter, (tensors, progress))
        _compile(trainer, reporter)
        with checkpoint.atomic(source_name) as file:
            file.write(config.text().encode())
        run_and_draw(trainer, directory)
    return Finished(trainer, directory)


def read_config(table: dict[str, Any], source_name: str = "") -> Resolved:
    """Import a table's plug-ins and resolve it."""
    config_file.load_plugins(table)
    return resolve(table, source_name)


def prepare(
    resolved: Resolved, source_name: str = "", reporter: Any = None, checkpoint: Any = None
) -> tuple[Trainer, Config]:
    """Return a trainer, not compiled yet, and the config with the data's input shape and absolute paths.

    Parameters
    ----------
    resolved : Resolved
    source_name : str
        The name of the config in errors.
    reporter, checkpoint : as in `Trainer`
    """
    config = resolved.config
    if config.run.threads is not None:
        use_threads(config.run.threads)
    dataset = data.load(resolved.reader)
    resolved = for_table(resolved, dataset, source_name)
    config = resolved.config
    network = build(resolved, dataset, source_name)
    schema = Schema.of(dataset.train, dataset.columns, dataset.class_names)
    trainer = Trainer(
        network, dataset.train, dataset.validation, resolved.settings, reporter, schema, checkpoint
    )  # fmt: skip
    update = {
        "model": config.model.model_copy(update={"input_shape": list(network.input_shape)}),
        "data": {"name": _with_absolute_paths(resolved.reader).spec()},
        "run": config.run.model_copy(update={"plugins": [config_file.absolute(p) for p in config.run.plugins]}),
    }
    return trainer, config.model_copy(update=update)


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
        graph = check_shapes(resolved.layers, shape, resolved.settings.loss, problems)
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


def _with_absolute_paths(reader):
    """Return a reader with absolute paths, so that a run can be resumed and evaluated from any folder.

    An option called `path` or ``..._path`` is a path if something is there; a plug-in's may be an address instead.
    """
    reader = copy(reader)
    for name, value in reader.options().items():
        if name == "path" or name.endswith("_path"):
            setattr(reader, name, config_file.absolute(value) if isinstance(value, str) else value)
    return reader


def _compile(trainer, reporter):
    """Compile before any timing begins."""
    kernels = len({binding.kernel for binding in trainer.program.plan.bindings.values()})
    reporter.compiling(0, kernels)
    trainer.compile()
    reporter.compiling(kernels, kernels)


def use_threads(number: int) -> None:
    """Run on this number of threads; raise UsageError if the process has fewer."""
    there = numba.config.NUMBA_NUM_THREADS
    if number > there:
        raise UsageError(f"run.threads: {number} threads, but this process has {there}; NUMBA_NUM_THREADS can raise it")
    start_threads()
    numba.set_num_threads(number)


def _record_numbered(trainer, name, config):
    """Make the first of runs/<name>-1, -2, ... that does not exist; another process may make it first."""
    for k in count(1):
        path = Path("runs") / f"{name}-{k}"
        if not os.path.lexists(path):
            try:
                return trainer.record(path, config)
            except RunExists:
                continue
