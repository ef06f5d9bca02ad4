"""`nnjit run [CONFIG.toml]`: assemble, train, log, checkpoint, plot."""

import shlex
import signal
from pathlib import Path

import click

from ..kernels.compiler.second import early
from . import options

ON_RESUME = ("epochs", "patience", "threads", "device", "precision")  # options that may change when a run is continued


@click.command("run")
@click.argument("config", required=False, metavar="[CONFIG.toml]")
@options.of_config
@click.option("--device", metavar="NAME", help="cpu or cuda.")
@click.option("--precision", metavar="NAME", help="Precision of GPU matrix products: float32, tf32 or bf16.")
@click.option("--threads", type=int, help="Number of threads, at most those of the machine; results do not change.")
@click.option("--seed", type=int, help="Random seed for initialization, shuffling and dropout.")
@click.option("--patience", type=int, metavar="N", help="Stop after N epochs without a lower validation loss.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory to create.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Run directory to continue.")
@options.plugin
@options.assignments
def run(config, output, resume, plugin, assignments, **options):
    """Train a network and plot the run; without arguments, a small CNN on the bundled digits.

    CONFIG.toml may be - for standard input. The config is checked completely before anything is written.
    """
    overrides = {name: value for name, value in options.items() if value is not None}
    if resume is None:
        with early(overrides.get("device", "cpu") == "cpu"):
            return _start(config, output, plugin, assignments, overrides)
    refused = [name for name in overrides if name not in ON_RESUME]
    refused += [name for name, value in (("config", config), ("output", output), ("set", assignments)) if value]
    if refused:
        wrong = " and ".join("CONFIG.toml" if name == "config" else f"--{name.replace('_', '-')}" for name in refused)
        raise click.UsageError(f"--resume continues the run as it was: {wrong} cannot be given with it")
    with early(overrides.get("device", "cpu") == "cpu"):
        return _resume(resume, plugin, overrides)


def _start(config, output, plugin, assignments, overrides):
    from ..launch import launch

    table, source_name = options.config_table(config, overrides, assignments, plugin)
    return _conclude(launch.start(table, output, source_name))


def _resume(path, plugin, overrides):
    from ..launch import launch

    return _conclude(launch.resume(path, plugin, **overrides))


def _conclude(finished):
    """Report where the run is, how it ended and the metrics of the last and best parameters; return the exit status."""
    from ..storage import checkpoint
    from ..training.progress import Output, complain, figures

    trainer, path = finished.trainer, finished.directory.path
    history = trainer.history
    if history.interrupted is not None:
        name, step = signal.Signals(history.interrupted).name, trainer.progress["step"]
        way = f"nnjit run --resume {shlex.quote(str(path))}"
        complain(f"{name} stopped the run after step {step}; continue it with {way}")
        return 128 + history.interrupted
    found = {record["epoch"]: figures(record) for record in history.epochs}
    lines = []
    for file in filter(Path.exists, (path / "best.safetensors", path / "last.safetensors")):
        progress = checkpoint.read(file)[1]["progress"]
        numbers = "  ".join(f"{name} {number:.4g}" for name, number in found.get(progress["epoch"], {}).items())
        lines.append(f"{file}{checkpoint.when(progress)}: {numbers}")
    print("\n".join(lines), f" in {trainer.progress['seconds']:.1f} s", file=Output(), flush=True)
    return 0
