"""`nnjit predict MODEL`: what a saved network says about samples, as a table, CSV, JSON lines or NPZ."""

import sys
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click

from . import options
from .text import notes

SUFFIXES = (".csv", ".jsonl", ".npz")
SHOWN = 50  # rows of a table on a terminal


@click.command("predict")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="SPEC", help="Data set, such as digits, or a file, such as data.npz.")
@click.option(
    "--split",
    "part",
    type=click.Choice(["validation", "train", "test"]),
    help="Split. Default: the rows that the run held out of its data; all rows of other data.",
)
@click.option(
    "--input", "file", metavar="FILE",
    help="Samples: .npz (array x), a table, an image or a folder of images, or csv(path='FILE', separator=';'), "
    "images(path='DIR', skip=True); -, CSV on standard input.",
)  # fmt: skip
@click.option(
    "--output", default="-", metavar="FILE",
    help="File to write, .csv, .jsonl or .npz. Default: -, a table on a terminal and CSV into a pipe.",
)  # fmt: skip
@click.option("--top", type=int, metavar="K", help="Write the K most probable classes instead of all probabilities.")
@click.option("--id", "carried", metavar="COLUMN", help="Column of the input to write first; it may be no feature.")
@options.plugin
def predict(model, data, part, file, output, top, carried, plugin):
    """Apply MODEL, a .safetensors file or a run directory (its best parameters), to samples: a row for each.

    For classes the columns are the name of the class (its number, if it has none), confidence, that is its probability,
    and p(NAME) of each class; for values they are the targets. Outputs whose meaning is not known are y0, y1, ...
    Images are decoded as those of the run were; the column file names them.
    """
    if (data is None) == (file is None):
        raise click.UsageError("give either --data SPEC or --input FILE")
    if carried is not None and file is None:
        raise click.UsageError("--id names a column of --input FILE")
    if output != "-" and Path(output).suffix not in SUFFIXES:
        raise click.UsageError(f"--output {output}: expected a name that ends in {', '.join(SUFFIXES)}, or -")
    if output != "-" and not Path(output).parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {Path(output).parent}")

    from ..launch import saved
    from ..launch.predictions import Predictions
    from ..storage.checkpoint import atomic

    network, resolved = saved.open_saved(model, plugin)
    if data is None:
        dataset = None
        with _reader(file) as reader:
            split, ids, carried, said = saved.read_samples(network, reader, carried, resolved)
    else:
        split, dataset, _ = saved.choose(network, resolved, data, part)
        ids, said = None, dataset.notes
    notes(said)
    predictions = Predictions(network, resolved, dataset, top)
    head = [carried] * (ids is not None) + predictions.head
    rows = _rows(network, split, predictions, ids)
    if output == "-" and sys.stdout.isatty():
        _show(head, rows, len(split))
    elif output == "-":
        _write_csv(sys.stdout, head, rows)
    else:
        with atomic(output) as target:
            if output.endswith(".npz"):
                _write_npz(target, network, split, predictions, ids)
            else:
                (_write_csv if output.endswith(".csv") else _write_jsonl)(_Text(target), head, rows)


@contextmanager
def _reader(source):
    """Yield the reader of --input; the file "-" is standard input, copied to a file, which errors call by its name."""
    import tempfile

    from ..data.files import samples_reader
    from ..errors import NnjitError

    reader = samples_reader(source)
    if reader.path != "-":
        yield reader
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "input"
        copy.write_bytes(sys.stdin.buffer.read())
        reader.path = str(copy)
        try:
            yield reader
        except NnjitError as error:
            said = str(error).replace(repr(str(copy)), "'-'").replace(str(copy), "standard input")
            raise type(error)(said) from None


def _rows(network, split, predictions, ids):
    """Yield the row of each sample."""
    from ..launch.saved import outputs

    done = 0
    for y in outputs(network, split):
        columns = predictions.columns(y)
        carried = [] if ids is None else [ids[done : done + len(y)]]
        yield from zip(*carried, *columns, strict=True)
        done += len(y)


class _Text:
    """A text writer around a binary file."""

    def __init__(self, file):
        self.write = lambda text: file.write(text.encode())


def _write_csv(file: Any, head, rows):
    import csv

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([str(cell) for cell in row] for row in rows)  # of a float the shortest text that reads back equal


def _write_jsonl(file: Any, head, rows):
    import json

    for row in rows:
        file.write(json.dumps(dict(zip(head, map(_plain, row), strict=True)), ensure_ascii=False) + "\n")


def _plain(cell):
    """Return a value that JSON holds: a float with the digits of its own precision, None for NaN and infinity."""
    from math import isfinite

    kind = getattr(getattr(cell, "dtype", None), "kind", None)
    if kind == "f":
        return float(str(cell)) if isfinite(cell) else None
    return cell.item() if kind is not None else cell


def _write_npz(file, network, split, predictions, ids):
    """Write y and the columns: one array each, p of all classes, and id, the carried column or the files."""
    import numpy as np

    from ..launch.saved import outputs

    y = np.concatenate(list(outputs(network, split)))
    words = [name for name in predictions.head if name.startswith(("class", "confidence"))]
    arrays = {name: column for name, column in zip(predictions.head, predictions.columns(y), strict=True)}
    arrays = {name: np.array(list(arrays[name])) for name in words}
    p = predictions.probabilities(y)
    arrays |= {} if p is None else {"p": p}
    arrays |= {} if ids is None else {"id": np.array(list(ids))}
    np.savez(file, y=y, **arrays)


def _show(head, rows, count):
    """Print the first rows as a table."""
    from .text import table

    table(head, [[f"{cell:.4g}" if hasattr(cell, "is_integer") else str(cell) for cell in row]
                 for row in islice(rows, SHOWN)])  # fmt: skip
    if count > SHOWN:
        click.echo(f"{SHOWN} of {count} rows; --output FILE writes all")
