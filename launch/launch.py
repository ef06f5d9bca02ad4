"""A run from its config to its pictures: what `nnjit run` does."""

import os
from collections.abc import Sequence
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

import numba

from .. import data
from ..data.schema import Schema
from ..data.split import Dataset
from ..errors import CheckpointError, RunExists, SpecError, UsageError
from ..kernels.compiler.kernel import start_threads
from ..network.network import Network
from ..program.memory import need
from ..registry import create, datasets, losses, parse
from ..storage import checkpoint
from ..storage.run_directory import RunDirectory
from ..training import config_file
from ..training.config import Config, resolve
from ..training.spec_check import Problems, check_fit
from ..training.trainer import Trainer, run_and_draw
from .progress import reporter


def start(table: dict[str, Any], output: str | os.PathLike[str] | None = None, where: str = "") -> Trainer:
    """Train anew; nothing is written before everything that can be refused has been refused.

    Parameters
    ----------
    table : dict
        The config, as `config_file.read` gives it.
    output : path or None
        The run directory to make; None: the next free one of ``runs/<name>-<k>``, named after the config's file or
        the data.
    where : str
        What errors call the config; "" if there is none.

    Returns
    -------
    Trainer
        With its `history` and `run_directory`.

    Raises
    ------
    NnjitError
    """
    config = read_config(table, where)
    name = Path(where).stem if Path(where).is_file() else parse(config.data["name"], "dataset").name
    if output is not None:
        RunDirectory(output).refuse_existing()  # `create` would say so too, after compiling
    with reporter() as told:
        trainer, config = prepare(config, where, told)
        _compile(trainer, told)
        if output is not None:
            trainer.record(output, config.text())
        else:
            _record_numbered(trainer, name, config.text())
        return _train(trainer)


def resume(
    path: str | os.PathLike[str],
    plugins: Sequence[str] = (),
    epochs: int | None = None,
    threads: int | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Trainer:
    """Continue a run where its last checkpoint left it, bit for bit on the same device.

    Parameters
    ----------
    path : the run directory
    plugins : sequence of str
        What the user named with --plugin: a run directory never imports code by itself.
    epochs : int or None
        A new number of epochs in all, to train longer.
    threads : int or None
    device : str or None
        Another device to go on with; there the results agree within rounding.
    precision : str or None
        Another precision of the products to go on with.

    Returns
    -------
    Trainer

    Raises
    ------
    NnjitError
    """
    directory = RunDirectory.open(path)
    table, where = config_file.read(directory.path / "config.toml")
    config_file.need_plugins(table, plugins, where)
    anew = {"training.epochs": epochs, "run.threads": threads, "run.device": device, "run.precision": precision}
    for key, value in anew.items():
        if value is not None:
            config_file.assign(table, key.split("."), value)
    config = resolve(table, where)
    last = directory.path / "last.safetensors"
    tensors, about = checkpoint.read(last)
    progress = about.get("progress")
    if not progress:
        raise CheckpointError(f"{last}: holds a network, but no training that could be continued")
    if config.training.epochs < progress["epoch"]:
        raise UsageError(f"{path}: {progress['epoch']} epochs are trained already, more than {config.training.epochs}")
    with reporter() as told:
        trainer, config = prepare(config, where, told)
        trainer.check(progress)
        _compile(trainer, told)
        trainer.run_directory = directory
        trainer.resume(tensors, progress)
        with checkpoint.atomic(where) as file:
            file.write(config.text().encode())
        return _train(trainer)


def read_config(table: dict[str, Any], where: str = "") -> Config:
    """The resolved config of a table, its plug-ins imported."""
    config_file.load_plugins(table)
    return resolve(table, where)


def prepare(config: Config, where: str = "", told: Any = None) -> tuple[Trainer, Config]:
    """A trainer, not compiled yet, and the config with the input shape that the data has and absolute paths."""
    if config.run.threads is not None:
        use_threads(config.run.threads)
    dataset = data.load(config.data["name"])
    network = build(config, dataset, where)
    model = config.model.model_copy(update={"input_shape": list(network.input_shape)})
    schema = Schema.of(dataset.train, dataset.columns, dataset.class_names)
    trainer = Trainer(
        network, dataset.train, dataset.validation, config.settings(), reporter=told, schema=schema
    )  # fmt: skip
    update = {
        "model": model,
        "data": {"name": _absolute_data(config.data["name"])},
        "run": config.run.model_copy(update={"plugins": [config_file.absolute(p) for p in config.run.plugins]}),
    }
    return trainer, config.model_copy(update=update)


def build(config: Config, dataset: Dataset, where: str = "") -> Network:
    """The untrained network of a resolved config for a data set.

    Raises
    ------
    SpecError : what does not fit the data, with its path.
    """
    problems, shape = Problems(), tuple(dataset.input_shape)
    if config.model.input_shape and tuple(config.model.input_shape) != shape:
        problems.add("model.input_shape", f"the samples of {dataset.name} have shape {list(shape)}")
    layers = [create(spec) for spec in config.model.layers]
    graph = check_fit(layers, shape, losses.create(config.training.loss), problems)
    if graph is not None:
        _check_memory(graph, config, len(dataset.train), problems)
    problems.report(where)
    run = config.run
    return Network(layers, shape, config.model.dtype, run.device, config.training.seed, run.precision)


def _check_memory(graph, config, samples, problems):
    """Parameters, gradient and moments, and a batch of activations must fit into memory, before they are allocated."""
    batch = min(config.training.batch_size or samples, samples)
    numbers = 4 * graph.size + batch * sum(prod(value.shape) for value in graph.values)
    size = numbers * (8 if config.model.dtype == "float64" else 4)
    try:
        need(size, f"{graph.size} parameters and a batch of {batch} samples")
    except SpecError as error:
        problems.add("model.layers", error)


def _absolute_data(spec):
    """The spec of a reader with absolute paths, so that a run can be resumed and evaluated from any folder.

    An option called `path` or ``..._path`` is a path, if something is there; a plug-in's may be an address instead.
    """
    reader = datasets.create(spec)
    for name, value in reader.options().items():
        if name == "path" or name.endswith("_path"):
            setattr(reader, name, config_file.absolute(value) if isinstance(value, str) else value)
    return reader.spec()


def _compile(trainer, told):
    """Outside of every timing."""
    kernels = len({binding.kernel for binding in trainer.program.plan.bindings.values()})
    told.compiling(0, kernels)
    trainer.compile()
    told.compiling(kernels, kernels)


def use_threads(number: int) -> None:
    """Run on that many threads; UsageError where this process has fewer."""
    there = numba.config.NUMBA_NUM_THREADS
    if number > there:
        raise UsageError(f"run.threads: {number} threads, but this process has {there}; NUMBA_NUM_THREADS can raise it")
    start_threads()
    numba.set_num_threads(number)


def _train(trainer):
    run_and_draw(trainer)
    return trainer


def _record_numbered(trainer, name, config):
    """Log and save into the first of runs/<name>-1, -2, ... that does not exist; another process may make it first."""
    for k in count(1):
        path = Path("runs") / f"{name}-{k}"
        if not os.path.lexists(path):
            try:
                return trainer.record(path, config)
            except RunExists:
                continue
