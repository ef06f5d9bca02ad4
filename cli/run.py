"""`nnjit run [CONFIG.toml]`: assemble, train, log, checkpoint, plot."""

import shlex
import signal
import sys
from functools import partial
from pathlib import Path

import click

from ..errors import NnjitError
from ..kernels.compiler.second import early
from ..launch.launched import launched
from . import many_runs, options

ON_RESUME = ("epochs", "patience", "threads", "device", "precision")  # options that may change when a run is continued


@click.command("run")
@click.argument("config", required=False, metavar="[CONFIG.toml]")
@options.of_config
@click.option("--device", metavar="NAME", help="cpu or cuda.")
@click.option("--precision", metavar="NAME", help="Precision of GPU matrix products: float32, tf32 or bf16.")
@click.option("--threads", type=int, help="Number of threads, at most those of the machine; results do not change.")
@click.option("--seed", type=int, help="Random seed for initialization, shuffling, dropout and augmentation.")
@click.option("--patience", type=int, metavar="N", help="Stop after N epochs without a lower validation loss.")
@click.option("--class-weights", metavar="WEIGHTS", help="Factors of the loss by class: balanced, or no=1,yes=5.")
@click.option("--folds", type=int, metavar="N", help="Train N runs; each holds another one of N folds of the rows out.")
@click.option("--seeds", metavar="SEEDS", help="Train a run for each seed, 0..4 or 1,5,9; with --folds for each pair.")
@click.option(
    "--workers", type=int, metavar="N", help="Train N of these runs at a time, in processes of one thread each."
)
@click.option("--scheduler", metavar="ADDRESS", help="Train these runs on the workers of a Dask scheduler.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Run directory to create.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Run directory to continue.")
@options.plugin
@options.assignments
def run(config, folds, seeds, workers, scheduler, output, resume, plugin, assignments, **options):
    """Train a network and plot the run; without arguments, a small CNN on the bundled digits.

    CONFIG.toml may be - for standard input. The config is checked completely before anything is written. Several
    processes that mpiexec starts, as in `mpiexec -n 4 nnjit run CONFIG.toml`, train one network together (docs/mpi.md).
    """
    together = launched()
    try:
        return _run(together, config, folds, seeds, workers, scheduler, output, resume, plugin, assignments, options)
    except (click.ClickException, NnjitError) as error:
        if together is None or together[0] == 0:
            raise
        # Rank 0 meets this error, too, and says it.
        sys.exit(error.exit_status if isinstance(error, NnjitError) else error.exit_code)


def _run(together, config, folds, seeds, workers, scheduler, output, resume, plugin, assignments, given):
    """Do the work of the command, as one of the processes that a launcher started `together`, if it did."""
    overrides = {name: value for name, value in given.items() if value is not None}
    several = {name: value for name, value in (("folds", folds), ("seeds", seeds)) if value is not None}
    if folds is not None and folds < 2:
        raise click.UsageError(f"--folds {folds}: expected 2 or more")
    many = resume is not None and (resume / "many.toml").is_file()
    if resume is not None and (resume / "sweep.toml").is_file():
        raise click.UsageError(f"--resume {resume}: it is a sweep; nnjit sweep --resume {resume} continues it")
    for option, value in (("--workers", workers), ("--scheduler", scheduler)):
        if value is not None and not (several or many):
            raise click.UsageError(f"{option} {value}: it is for several runs, of --folds or --seeds")
    if workers is not None and workers < 1:
        raise click.UsageError(f"--workers {workers}: expected 1 or more")
    if workers is not None and scheduler is not None:
        raise click.UsageError("--workers are processes of this machine, --scheduler has its own; give one of them")
    if seeds is not None and "seed" in overrides:
        raise click.UsageError("--seed is the seed of one run, --seeds those of several; give one of them")
    if together and (several or many):
        wrong = " and ".join(f"--{name}" for name in several) or f"--resume {resume}"
        raise click.UsageError(f"{wrong}: {together[1]} processes were started together, which train one run; start "
                               "one process, and share the runs with --workers")  # fmt: skip
    if resume is None:
        if several:
            with early(overrides.get("device", "cpu") == "cpu"):
                table, name = options.config_table(config, overrides, assignments, plugin)
                return many_runs.start(table, output, name, folds, seeds, workers or 1, scheduler)
        return _train(together, partial(_start, config, output, plugin, assignments, overrides))
    refused = [name for name in overrides if many or name not in ON_RESUME]
    others = (("config", config), ("output", output), ("set", assignments), *several.items())
    refused += [name for name, value in others if value]
    if refused:
        wrong = " and ".join("CONFIG.toml" if name == "config" else f"--{name.replace('_', '-')}" for name in refused)
        raise click.UsageError(f"--resume continues the run as it was: {wrong} cannot be given with it")
    if many:
        with early(overrides.get("device", "cpu") == "cpu"):
            return many_runs.resume(resume, plugin, workers or 1, scheduler)
    return _train(together, partial(_resume, resume, plugin, overrides))


def _train(together, work):
    """Return the exit status of `work`: of one process, or of ranks, of which rank 0 does it and the others follow."""
    if together is None:
        return work()
    from ..training.ranks import join

    ranks = join(together[1])
    if ranks.rank == 0:
        return ranks.lead(lambda: work(ranks=ranks))
    from ..launch.follow import follow

    return follow(ranks)


def _start(config, output, plugin, assignments, overrides, ranks=None):
    from ..launch import launch

    with early(overrides.get("device", "cpu") == "cpu"):
        table, source_name = options.config_table(config, overrides, assignments, plugin)
        return _conclude(launch.start(table, output, source_name, ranks=ranks))


def _resume(path, plugin, overrides, ranks=None):
    from ..launch import launch

    with early(overrides.get("device", "cpu") == "cpu"):
        return _conclude(launch.resume(path, plugin, **overrides, ranks=ranks))


def _conclude(finished):
    """Report where the run is, how it ended and the metrics of the last and best parameters; return the exit status."""
    from ..storage import checkpoint
    from ..terminal.output import Output, complain
    from ..terminal.quantities import duration
    from ..training.progress import figures

    trainer, path = finished.trainer, finished.directory.path
    history = trainer.history
    if history.interrupted is not None:
        name, step = signal.Signals(history.interrupted).name, trainer.progress["step"]
        way = f"nnjit run --resume {shlex.quote(str(path))}"
        complain(f"{name} stopped the run after step {step}; continue it with {way}")
        return 128 + history.interrupted
    found = {record["epoch"]: figures(record) for record in history.epochs}
    lines = [f"{path}: {', '.join(file.name for file in history.written)}"] if history.written else []
    for file in filter(Path.exists, (path / "best.safetensors", path / "last.safetensors")):
        progress = checkpoint.read(file)[1]["progress"]
        numbers = "  ".join(f"{name} {number:.4g}" for name, number in found.get(progress["epoch"], {}).items())
        lines.append(f"{file}{checkpoint.when(progress)}: {numbers}")
    print("\n".join(lines), f" in {duration(trainer.progress['seconds'])}", file=Output(), flush=True)
    if finished.test is not None:
        numbers = "  ".join(f"{name} {n:.4g}" for name, n in finished.test.items() if isinstance(n, float))
        print(f"test, {finished.test['model']}: {numbers}", file=Output(), flush=True)
    return 0
