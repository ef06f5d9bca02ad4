"""`nnjit predict MODEL`: outputs of a saved network, as CSV or NPZ."""

import sys
from pathlib import Path

import click

from . import options


@click.command("predict")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="SPEC", help="Data set, such as digits.")
@click.option(
    "--split", "part", type=click.Choice(["validation", "train"]), help="Split. Default: validation, if there is one."
)
@click.option(
    "--input",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Samples: .npz (array x), .csv, .tsv, .parquet or .arrow.",
)
@click.option(
    "--output", default="-", metavar="FILE", help="File to write, .csv or .npz. Default: -, CSV on standard output."
)
@options.plugin
def predict(model, data, part, file, output, plugin):
    """Apply MODEL, a .safetensors file or a run directory (its best parameters), to samples.

    Writes y = F(x), one row per sample. If MODEL or the data set has classes, the first column is the predicted class:
    its name, or its number if it has no name.
    """
    if (data is None) == (file is None):
        raise click.UsageError("give either --data SPEC or --input FILE")
    if output != "-" and Path(output).suffix not in (".csv", ".npz"):
        raise click.UsageError(f"--output {output}: expected a name that ends in .csv or .npz, or -")
    if output != "-" and not Path(output).parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {Path(output).parent}")

    from ..launch import saved
    from ..storage.checkpoint import atomic

    network, resolved = saved.open_saved(model, plugin)
    if data is None:
        dataset = None
        split = saved.read_samples(network, file)
    else:
        dataset = saved.matched(network, data)
        split = saved.choose(dataset, part)
    taken = saved.classifier(network, resolved, dataset)
    if output == "-":
        _write_csv(sys.stdout, network, split, taken)
        return
    with atomic(output) as target:
        if output.endswith(".npz"):
            _write_npz(target, network, split, taken)
        else:
            _write_csv(_Text(target), network, split, taken)


class _Text:
    """A text writer for csv around a binary file."""

    def __init__(self, file):
        self.write = lambda text: file.write(text.encode())


def _write_csv(file, network, split, taken):
    import csv
    from math import prod

    from ..launch.saved import outputs

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class"] * (taken is not None) + [f"y{i}" for i in range(prod(network.output_shape))])
    for y in outputs(network, split):
        named = [[]] * len(y) if taken is None else [[one] for one in taken(y)]
        for row, name in zip(y.reshape(len(y), -1), named, strict=True):
            writer.writerow(name + [str(number) for number in row])


def _write_npz(file, network, split, taken):
    import numpy as np

    from ..launch.saved import outputs

    y = np.concatenate(list(outputs(network, split)))
    np.savez(file, y=y, **({} if taken is None else {"class": taken(y)}))
