"""`nnjit predict MODEL`: outputs of a saved network, as CSV or NPZ."""

import sys
from pathlib import Path

import click

ROWS = 4096  # samples at a time


@click.command("predict")
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="SPEC", help="A data set, such as digits.")
@click.option(
    "--split", "part", type=click.Choice(["validation", "train"]), help="Default: validation, if there is one."
)
@click.option(
    "--input", "file", type=click.Path(path_type=Path), metavar="FILE", help="Samples: .npz (array x) or .csv."
)
@click.option("--output", default="-", metavar="FILE", help="A .csv or .npz file. Default: -, CSV on standard output.")
@click.option("--plugin", multiple=True, metavar="FILE_OR_MODULE", help="Load a plug-in first; may be repeated.")
def predict(model, data, part, file, output, plugin):
    """Apply MODEL, a .safetensors file or a run directory (its best parameters), to samples.

    Writes y = F(x), a row a sample, and before it the class where MODEL or the data set knows classes.
    """
    if (data is None) == (file is None):
        raise click.UsageError("give either --data SPEC or --input FILE")
    if output != "-" and Path(output).suffix not in (".csv", ".npz"):
        raise click.UsageError(f"--output {output}: expected a name that ends in .csv or .npz, or -")
    if output != "-" and not Path(output).parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {Path(output).parent}")

    from .. import data as datasets
    from ..registry import losses
    from ..training.checkpoint import atomic
    from ..training.saved import choose, open_saved

    network, config = open_saved(model, plugin)
    dataset = None if data is None else datasets.load(data)
    split = _read(file, network.input_shape) if dataset is None else choose(dataset, part)
    classifies = config is not None and losses.create(config.training.loss).classification
    classifies = classifies or (dataset is not None and dataset.classes is not None)
    if output == "-":
        _write_csv(sys.stdout, network, split, classifies)
        return
    with atomic(output) as target:
        if output.endswith(".npz"):
            _write_npz(target, network, split, classifies)
        else:
            _write_csv(_Text(target), network, split, classifies)


class _Text:
    """Lets csv write text to a binary file."""

    def __init__(self, file):
        self.write = lambda text: file.write(text.encode())


def _outputs(network, split):
    """Outputs, some samples at a time."""
    for first in range(0, len(split), ROWS):
        yield network.predict(split.take(slice(first, first + ROWS), network.dtype)[0])


def _write_csv(file, network, split, classifies):
    import csv
    from math import prod

    from ..training.metrics import classes

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class"] * classifies + [f"y{i}" for i in range(prod(network.output_shape))])
    for y in _outputs(network, split):
        named = classes(y) if classifies else [None] * len(y)
        for row, name in zip(y.reshape(len(y), -1), named, strict=True):
            writer.writerow([name] * classifies + [str(number) for number in row])


def _write_npz(file, network, split, classifies):
    import numpy as np

    from ..training.metrics import classes

    y = np.concatenate(list(_outputs(network, split)))
    np.savez(file, y=y, **({"class": classes(y)} if classifies else {}))


def _read(path, shape):
    """Samples without targets, from .npz or .csv, as a Split."""
    import numpy as np

    from ..data import Split
    from ..data.files import find
    from ..data.split import as_samples
    from ..errors import DataError

    found = find(path)
    if found.suffix not in (".npz", ".csv"):
        raise DataError(f"{path}: expected samples in a .npz or .csv file")
    x = _read_npz(found) if found.suffix == ".npz" else _read_csv(found)
    x = as_samples(x) if x.ndim else x.reshape(1, 1)
    if x.shape[1:] != shape and x[0].size == np.prod(shape) and x.ndim == 2:
        x = x.reshape(-1, *shape)  # a table has one row a sample
    if x.shape[1:] != shape:
        raise DataError(f"{path}: samples have shape {x.shape[1:]}, the network takes {shape}")
    return Split(x, np.zeros(len(x), int), 1 / 255 if x.dtype == np.uint8 else 1.0, str(path))


def _read_npz(path):
    import numpy as np

    from ..data.files import reading, reason
    from ..errors import DataError

    with reading(path):
        try:
            with np.load(path, allow_pickle=False) as archive:
                names = archive.files
                name = "x" if "x" in names or len(names) != 1 else names[0]
                return np.asarray(archive[name])
        except KeyError:
            raise DataError(f"{path} holds no array x, but {', '.join(names) or 'nothing'}") from None
        except OSError:
            raise
        except Exception as error:  # a damaged archive may fail anywhere in zipfile, zlib or NumPy's own parser
            raise DataError(f"{path} cannot be read as NPZ: {reason(error)}") from None


def _read_csv(path):
    import csv

    import numpy as np

    from ..data.files import reading
    from ..errors import DataError

    rows = []
    with reading(path), open(path, newline="", encoding="utf-8-sig") as file:
        try:
            table = csv.reader(file)
            head = next(table, [])
            for cells in filter(None, table):
                if len(cells) != len(head):
                    raise DataError(
                        f"{path}, line {table.line_num}: {len(cells)} columns, but the header has {len(head)}"
                    )
                rows.append(np.array(cells, np.float64))
        except (ValueError, csv.Error) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}, line {table.line_num}: {error}") from None
    if not rows:
        raise DataError(f"{path} holds a header but no rows")
    return np.array(rows)
