"""`nnjit sweep [CONFIG.toml]`: try values of options that have ranges."""

import shlex
from functools import partial
from pathlib import Path

import click

from ..kernels.compiler.second import early
from . import options
from .trainings import follow

SHOWN = 10  # trials of the table at the end


@click.command("sweep")
@click.argument("config", required=False, metavar="[CONFIG.toml]")
@options.of_config
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Number of trials; also in the config.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Train N trials at a time, in processes of one thread each.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Directory of the trials to create.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="DIR", help="Sweep to continue.")
@options.plugin
@options.assignments
def sweep(config, trials, workers, output, resume, plugin, assignments, **overrides):
    """Train trials of a config with ranges, such as lr = {low = 1e-4, high = 1e-1, log = true}, and name the best.

    A range stands in the config where the value of an option would: numbers from low to high, or {choices = [16, 32]}.
    Optuna chooses the values; trials that are worse than the median are stopped early. Each trial is a run directory.
    """
    overrides = {name: value for name, value in overrides.items() if value is not None}
    if resume is not None:
        given = (("CONFIG.toml", config), ("--output", output), ("--set", assignments), *overrides.items())
        if refused := [name if name[0] in "C-" else f"--{name.replace('_', '-')}" for name, value in given if value]:
            raise click.UsageError(
                f"--resume continues the sweep as it was: {' and '.join(refused)} cannot be given with it"
            )
    from ..launch.study import import_optuna

    import_optuna()  # before kernels are prepared
    with early(True):
        from ..launch.sweep import Sweep

        if resume is not None:
            more = "" if trials is None else f" --trials {trials}"  # sweep.toml keeps its own number
            return _train(Sweep.open(resume, plugin, trials), workers, more)
        table, source_name = options.config_table(config, overrides, assignments, plugin)
        return _train(Sweep.create(table, output, source_name, trials), workers)


def _train(sweep, workers, more=""):
    """Train the trials that are missing, print a line for each, the table and the best; return the exit status.

    `more` are options of the command that continues the sweep.
    """
    from ..terminal.output import complain

    better = "lower" if sweep.search.direction == "minimize" else "higher"
    names = ", ".join(each.name for each in sweep.ranges)
    head = f"{sweep.total} trials of {names}; a {better} {sweep.search.metric} is better"
    way = f"nnjit sweep --resume {shlex.quote(str(sweep.path))}{more}"
    status = follow(sweep, sweep.train(workers), head, partial(_line, sweep), partial(_conclude, sweep), way)
    if status is None and sweep.best is None:
        complain(f"{sweep.path}: no trial has ended well; results.csv says why")
    return int(sweep.best is None) if status is None else status


def _line(sweep, row):
    """Return the line of a trial that has ended."""
    number = f"trial-{row['trial']} ({len(sweep.rows)} of {sweep.total})"
    return f"{number}, {_values(sweep, row)}: {_ended(row, sweep.search.metric)}"


def _conclude(sweep, out):
    """Print the best trials, the files, and how to use the best one."""
    from .text import table

    metric, best = sweep.search.metric, sweep.best
    complete = [row for row in sweep.rows if row["state"] == "complete" and "same as" not in row]
    complete.sort(key=lambda row: row["figures"][metric], reverse=sweep.search.direction == "maximize")
    if complete:
        figures = [metric, *(name for name in complete[0]["figures"] if name not in ("epoch", metric))]
        rows = [
            [
                f"trial-{row['trial']}",
                *(_text(row["values"][each.path]) for each in sweep.ranges),
                str(row["figures"]["epoch"]),
                *(_text(row["figures"].get(name)) for name in figures),
            ]
            for row in complete[:SHOWN]
        ]
        table(["trial", *(each.name for each in sweep.ranges), "epoch", *figures], rows)
    counts = {name: sum(row["state"] == name for row in sweep.rows) for name in ("complete", "pruned", "failed")}
    said = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    print(f"{sweep.path}: {said}; {', '.join(file.name for file in sweep.results())}", file=out, flush=True)
    if best is not None:
        path = shlex.quote(str(sweep.path / f"trial-{best['trial']}"))
        print(f"best: {path}, {metric} {_text(best['figures'][metric])}; {_values(sweep, best)}", file=out)
        print(f"use it: nnjit evaluate {path}; train it again: nnjit run {path}/config.toml", file=out, flush=True)


def _ended(row, metric):
    """Say how a trial ended."""
    if "same as" in row:
        return f"the values of trial-{row['same as']}"
    if row["state"] == "complete":
        return f"{metric} {_text(row['figures'][metric])} (epoch {row['figures']['epoch']})"
    return f"{row['state']} {row['why']}" if row["state"] == "pruned" else f"failed: {row['why']}"


def _values(sweep, row):
    """Return the values of a trial, "lr 0.01, units 32"."""
    return ", ".join(f"{each.name} {_text(row['values'][each.path])}" for each in sweep.ranges)


def _text(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
