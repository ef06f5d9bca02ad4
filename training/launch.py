"""A run from its config to its pictures: what `nnjit run` does."""

from itertools import count
from pathlib import Path

from .. import data
from ..data.schema import Schema
from ..errors import CheckpointError, RunExists, UsageError
from ..registry import parse
from . import checkpoint, config_file
from .config import build, resolve
from .fit import Trainer, run_and_draw
from .progress import reporter
from .run_directory import RunDirectory


def start(table, output=None, where=""):
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
    path = Path(output or _free(name))
    if path.is_file() or (path.is_dir() and any(path.iterdir())):  # RunDirectory would say so, after compiling
        raise RunExists(f"{path}: exists already; choose another directory, or continue it with --resume {path}")
    with reporter() as told:
        trainer, config = prepare(config, where, told)
        _compile(trainer, told)
        source = trainer.program.source
        trainer.run_directory = RunDirectory.create(path, config.text(), trainer.network, source, trainer.progress)
        return _train(trainer)


def resume(path, plugins=(), epochs=None, threads=None, device=None, precision=None):
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
        _compile(trainer, told)
        trainer.run_directory = directory
        trainer.resume(tensors, progress)
        with checkpoint.atomic(where) as file:
            file.write(config.text().encode())
        return _train(trainer)


def read_config(table, where=""):
    """The resolved config of a table, its plug-ins imported."""
    config_file.load_plugins(table)
    return resolve(table, where)


def prepare(config, where="", told=None):
    """A trainer, not compiled yet, and the config with the input shape that the data has."""
    if config.run.threads is not None:
        use_threads(config.run.threads)
    dataset = data.load(config.data["name"])
    network = build(config, dataset, where)
    model = config.model.model_copy(update={"input_shape": list(network.input_shape)})
    schema = Schema.of(dataset.train, dataset.columns, dataset.class_names)
    trainer = Trainer(
        network, dataset.train, dataset.validation, config.settings(), reporter=told, schema=schema
    )  # fmt: skip
    return trainer, config.model_copy(update={"model": model})


def _compile(trainer, told):
    """Outside of every timing."""
    kernels = len(trainer.program.plan.bindings)
    told.compiling(0, kernels)
    trainer.compile()
    told.compiling(kernels, kernels)


def use_threads(number):
    """Run on that many threads; UsageError where this process has fewer."""
    import numba

    there = numba.config.NUMBA_NUM_THREADS
    if number > there:
        raise UsageError(f"run.threads: {number} threads, but this process has {there}; NUMBA_NUM_THREADS can raise it")
    numba.set_num_threads(number)


def _train(trainer):
    run_and_draw(trainer)
    return trainer


def _free(name):
    """The first of runs/<name>-1, -2, ... that is not there."""
    return next(path for k in count(1) if not (path := Path("runs") / f"{name}-{k}").exists())
