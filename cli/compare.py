"""`nnjit compare RUN...`: what differs in the configs of runs, and the figures of their best epochs."""

import os
from pathlib import Path

import click

from .text import table

WIDTH = 40  # characters of a value


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
def compare(runs):
    """Print a table of runs: what differs in their configs, and losses and metrics of their best epochs.

    A directory of folds and seeds stands for its runs. Losses of runs with different losses are marked.
    """
    from ..launch.figures import best_figures, differences, flat_config, runs_in

    paths = list(dict.fromkeys(path for run in runs for path in runs_in(run)))
    configs, found = [flat_config(path) for path in paths], [best_figures(path) for path in paths]
    keys = differences(configs)
    names = list(dict.fromkeys(name for figures in found for name in figures))
    losses = list(dict.fromkeys(config.get("training.loss") for config in configs))
    marked = {name for name in names if len(losses) > 1 and name.endswith("loss")}
    words = [key.rpartition(".")[2] for key in keys]
    head = [word if words.count(word) == 1 else key for key, word in zip(keys, words, strict=True)]
    head = ["run", *("data" if key == "data.name" else word for key, word in zip(keys, head, strict=True))]
    table(
        [*head, *(f"{name} (*)" if name in marked else name for name in names)],
        [
            [
                label,
                *(_text(config.get(key), " of " if key == "run.fold" else " ") for key in keys),
                *(_text(figures.get(name)) for name in names),
            ]
            for label, config, figures in zip(_labels(paths), configs, found, strict=True)
        ],
    )
    if marked:
        click.echo(f"(*) cannot be compared: the losses are {', '.join(map(str, losses))}")
    if "data.name" in keys:
        click.echo("the figures were measured on different data")


def _labels(paths):
    """Return a name for each run: the path without what all have in common."""
    if len(paths) == 1:
        return [str(paths[0])]
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return [os.path.relpath(path, common) for path in paths]


def _text(value, separator=" "):
    """Write a value of a config, or a number, shortly; "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = separator.join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
