"""Filling the cache of compiled code with all that a run needs: the work of `nnjit compile`."""

from pathlib import Path
from typing import Any, NamedTuple

from ..errors import NnjitError, UsageError
from ..kernels.compiler import cache
from ..kernels.compiler.directory import directory, writable
from ..program.program import Program
from ..training.progress import reporter as new_reporter
from .launch import prepare, read_config


class Filled(NamedTuple):
    """The state of the cache after a run's code was compiled.

    Attributes
    ----------
    folder : Path
    written : int
        Number of functions written.
    size : int
        Bytes written.
    present : int
        Number of functions that were in the cache before, of this network or others.
    unstored : bool
        Whether some code cannot be stored, because a kernel depends on an object without a textual form.
    summary : str
        The network and the batch size.
    """

    folder: Path
    written: int
    size: int
    present: int
    unstored: bool
    summary: str


def fill(table: dict[str, Any], source_name: str = "") -> Filled:
    """Compile what `nnjit run` needs for a config, and what `evaluate` and `predict` need for the trained network.

    Parameters
    ----------
    table : dict
        The config, as `config_file.read` returns it.
    source_name : str
        The name of the config in errors; "" if it has none.

    Raises
    ------
    NnjitError : the config is wrong, or nothing can be written to the cache.
    """
    resolved = read_config(table, source_name)
    if resolved.config.run.device != "cpu":
        raise UsageError("run.device: nnjit compile fills the cache for the CPU; code for a GPU is not kept on disk")
    if not writable():
        raise NnjitError(f"{directory()} cannot be written; NNJIT_CACHE_DIR chooses another directory")
    before = _files()
    with new_reporter() as reporter:
        trainer = prepare(resolved, source_name).trainer
        network, count = trainer.network, len({binding.kernel for binding in trainer.program.plan.bindings.values()})
        reporter.compiling(0, count)
        trainer.compile_all()
        applied = Program(network, batch_size=64)  # `evaluate` and `predict` apply a saved network so
        functions: list[Any] = [trainer.program.predict, trainer.program.epoch, applied.predict]
        _ = functions[-1].run
        reporter.compiling(count, count)
    new = {path: size for path, size in _files().items() if path not in before}
    unstored = any(cache.UNCACHED in function.function.__name__ for function in functions)
    summary = f"{network.graph.size} parameters in {network.dtype}, batches of {trainer.batch_size}"
    return Filled(directory(), _functions(new), sum(new.values()), _functions(before), unstored, summary)


def _files():
    """Map each file of the cache to its size."""
    return {path: path.stat().st_size for path in directory().rglob("*.nb?")}


def _functions(files):
    return sum(path.suffix == ".nbc" for path in files)
