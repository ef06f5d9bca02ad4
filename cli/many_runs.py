"""The runs of `nnjit run --folds` and `--seeds`: a line for each, and a table of their figures."""

import shlex
from functools import partial

from .trainings import follow


def start(table, output, source_name, folds, seeds, workers, scheduler):
    """Train a run for each fold and seed, as the options say; return the exit status."""
    from ..launch.many import Many, read_seeds

    chosen = None if seeds is None else read_seeds(seeds)
    return _train(Many.create(table, output, source_name, folds, chosen), workers, scheduler)


def resume(path, plugins, workers, scheduler):
    """Train what is missing of the runs in a directory; return the exit status."""
    from ..launch.many import Many

    return _train(Many.open(path, plugins), workers, scheduler)


def _train(many, workers, scheduler):
    """Train the runs that are missing, and print a line for each and the table; return the exit status."""
    way = f"nnjit run --resume {shlex.quote(str(many.path))}" + (f" --scheduler {scheduler}" if scheduler else "")
    found, head = many.train(workers, scheduler), f"{many.total} runs"
    status = follow(many, found, head, partial(_line, many), partial(_conclude, many), way)
    return int(any("failed" in row for row in many.rows)) if status is None else status


def _line(many, row):
    """Return the line of a run that has ended."""
    how = f"best epoch {row['epoch']}" if "epoch" in row else row["failed"]
    return f"{row['run']} ({len(many.rows)} of {many.total}): {how}"


def _conclude(many, out):
    """Print the figures of the runs, their mean and deviation, and the files."""
    from ..launch.figures import mean_and_deviation
    from .text import table

    means, deviations = mean_and_deviation(many.rows)
    names = ["epoch", *means]
    rows = [[row["run"], *(_number(row.get(name)) for name in names)] for row in many.rows]
    count = sum("failed" not in row for row in many.rows)
    rows += [[f"mean of {count}", "", *(_number(means[name]) for name in means)]]
    rows += [["standard deviation (n - 1)", "", *(_number(deviations.get(name)) for name in means)]]
    table(["run", *names], rows)
    print(f"{many.path}: {', '.join(file.name for file in many.results())}", file=out, flush=True)


def _number(value):
    return "-" if value is None else f"{value:.4g}"
