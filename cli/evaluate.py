"""`nnjit evaluate MODEL`: loss and metrics of a saved network."""

import click

from . import options
from .text import aligned, notes


@click.command("evaluate")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="SPEC", help="Data set to measure on. Default: that of the run, if MODEL is one.")
@click.option(
    "--split",
    "part",
    type=click.Choice(["validation", "train", "test"]),
    help="Split. Default: the rows that the run held out of its data; all rows of other data.",
)
@click.option("--loss", metavar="SPEC", help="Loss to measure. Default: that of the run, if MODEL is one.")
@click.option(
    "--metrics", metavar="SPECS", help='Metrics, such as "f1 top_k(k=3)". Default: accuracy, or rmse and r2 of values.'
)
@options.plugin
def evaluate(model, data, part, loss, metrics, plugin):
    """Measure loss and metrics of MODEL, a .safetensors file or a run directory (its best parameters)."""
    from ..errors import UsageError
    from ..launch.saved import choose, open_saved
    from ..storage.checkpoint import label
    from ..training.measure import evaluate_split

    network, resolved = open_saved(model, plugin)
    if data is None and resolved is None:
        raise UsageError(f"{model} does not say which data; give --data SPEC, such as --data digits")
    chosen = choose(network, resolved, data, part)
    notes(chosen.dataset.notes)
    split = chosen.split
    loss = loss or (resolved.settings.loss if resolved else None)
    found = evaluate_split(network, split, loss, metrics or None)
    about = [("model", label(model)), ("samples", f"{len(split)} of {split.name}, {chosen.said}")]
    if loss and resolved and (resolved.settings.class_weights or getattr(resolved.reader, "weight", None)):
        about += [("weights", "none; in training the loss had weights, so val_loss differs")]
    click.echo(aligned([*about, *_rows(found)]))


def _rows(found):
    """Return the lines of a table; a metric of each class has a heading and a line for each."""
    for name, value in found.items():
        yield (name, "") if isinstance(value, dict) else (name, f"{value:.6g}")
        for inner, number in value.items() if isinstance(value, dict) else ():
            yield f"  {inner}", f"{number:.6g}"
