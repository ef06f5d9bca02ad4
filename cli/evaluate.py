"""`nnjit evaluate MODEL`: loss and metrics of a saved network."""

import click

from . import options
from .text import aligned


@click.command("evaluate")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="SPEC", help="Data set to measure on. Default: that of the run, if MODEL is one.")
@click.option(
    "--split", "part", type=click.Choice(["validation", "train"]), help="Split. Default: validation, if there is one."
)
@click.option("--loss", metavar="SPEC", help="Loss to measure. Default: that of the run, if MODEL is one.")
@click.option(
    "--metrics", metavar="NAMES", help="Metrics, such as accuracy,l2. Default: accuracy if the data has classes."
)
@options.plugin
def evaluate(model, data, part, loss, metrics, plugin):
    """Measure loss and metrics of MODEL, a .safetensors file or a run directory (its best parameters)."""
    from ..errors import UsageError
    from ..launch.saved import choose, matched, open_saved
    from ..storage.checkpoint import label
    from ..training.measure import evaluate_split

    network, resolved = open_saved(model, plugin)
    if data is None and resolved is None:
        raise UsageError(f"{model} does not say which data; give --data SPEC, such as --data digits")
    dataset = matched(network, data or (resolved.reader if resolved else ""))
    split = choose(dataset, part)
    loss = loss or (resolved.settings.loss if resolved else None)
    found = evaluate_split(network, split, loss, metrics.replace(",", " ").split() if metrics else None)
    about = [("model", label(model)), ("samples", f"{len(split)} of {split.name}")]
    click.echo(aligned([*about, *((k, f"{v:.6g}") for k, v in found.items())]))
