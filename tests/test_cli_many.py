"""`nnjit run --folds --seeds` and `nnjit compare`, against single runs and plain arithmetic."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SCRIPT, all_wait, nnjit, records, waiting
from nnjit import data, load
from nnjit.errors import UsageError
from nnjit.launch.many import read_seeds

LAYERS = ["--layers", "dense(3)", "--epochs", "2"]


@pytest.fixture
def table(here):
    """Make a table of three classes, 50 rows each, and return the option that names it."""
    rng = np.random.default_rng(0)
    rows = [(*rng.normal(k % 3, 0.5, 2), "abc"[k % 3]) for k in range(150)]
    Path("t.csv").write_text("u,v,kind\n" + "".join(f"{u:.4f},{v:.4f},{kind}\n" for u, v, kind in rows))
    return ["--data", "csv(path='t.csv', label='kind', test=0.2)"]


def best(path):
    """Return the record of the epoch with the smallest loss of validation."""
    return min((each for each in records(path) if each.get("epoch_end")), key=lambda each: each["val_loss"])


def test_every_pair_is_a_run_of_its_own_and_the_table_holds_their_mean(table, here):
    lines = nnjit("run", *table, *LAYERS, "--folds", 3, "--seeds", "1,4", "--output", "many", pictures=True)
    lines = lines.splitlines()
    names = [f"fold-{k}-seed-{seed}" for k in (1, 2, 3) for seed in (1, 4)]
    assert {path.name for path in Path("many").iterdir()} == {
        *names,
        "many.toml",
        "results.csv",
        "results.json",
        "loss.png",
        "metrics.png",
    }
    found = json.loads(Path("many/results.json").read_text())
    assert [row["run"] for row in found["runs"]] == names
    for row in found["runs"]:
        record = best(here / "many" / row["run"])
        tested = json.loads((here / "many" / row["run"] / "test.json").read_text())
        assert (row["epoch"], row["val_loss"], row["val_accuracy"]) == (
            record["epoch"], record["val_loss"], record["val_accuracy"],
        )  # fmt: skip
        assert (row["test_loss"], row["test_accuracy"]) == (tested["loss"], tested["accuracy"])
    for name in ("val_loss", "val_accuracy", "test_accuracy"):
        column = np.array([row[name] for row in found["runs"]])
        assert found["mean"][name] == pytest.approx(column.mean(), rel=1e-12)
        assert found["standard deviation"][name] == pytest.approx(column.std(ddof=1), rel=1e-12)
        last = {line.split("  ")[0]: line.split() for line in lines}
        place = next(line for line in lines if line.startswith("run ")).split().index(name)
        assert last["mean of 6"][place - 1 + 2] == f"{column.mean():.4g}"
        assert last["standard deviation (n - 1)"][place - 1 + 4] == f"{column.std(ddof=1):.4g}"
    with open("many/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows[:6]] == [row["val_loss"] for row in found["runs"]]
    assert [row["run"] for row in rows[6:]] == ["mean", "standard deviation"]
    nnjit("run", *table, *LAYERS, "--seed", 4, "--set", "run.fold=[2, 3]", "--output", "one", pictures=True)
    assert {path.stem for path in Path("one").glob("*.png")} == {"loss", "gradient_norms", "plane"}  # two inputs
    np.testing.assert_array_equal(load("one/last.safetensors").theta, load("many/fold-2-seed-4/last.safetensors").theta)


def test_a_fold_is_never_trained_on_and_evaluated_again(table, here):
    nnjit("run", *table, *LAYERS, "--folds", 3, "--output", "many")
    held = []
    for k in (1, 2, 3):
        config = tomllib.loads(Path(f"many/fold-{k}/config.toml").read_text())
        assert config["run"]["fold"] == [k, 3] and config["training"]["seed"] == 0
        parts = data.load(config["data"]["name"], 0, (k, 3))
        train, validation = ({tuple(row) for row in split.x.tolist()} for split in (parts.train, parts.validation))
        assert not train & validation and len(parts.train) + len(parts.validation) == 120
        held.append(validation)
        said = dict(line.split(maxsplit=1) for line in nnjit("evaluate", f"many/fold-{k}").splitlines())
        assert float(said["loss"]) == pytest.approx(best(here / f"many/fold-{k}")["val_loss"], rel=1e-5)
        assert nnjit("evaluate", f"many/fold-{k}", *table) == nnjit("evaluate", f"many/fold-{k}")
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])


def test_what_a_signal_stopped_goes_on_as_if_nothing_had_happened(table, here, monkeypatch):
    nnjit("run", *table, *LAYERS, "--seeds", "0..2", "--output", "whole")
    epochs = []

    def stop(self, record):
        epochs.append(record["epoch"])
        if len(epochs) == 3:  # the first of the second run
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("nnjit.training.progress.Quiet.epoch", stop)
        said = nnjit("run", *table, *LAYERS, "--seeds", "0..2", "--output", "parts", status=128 + 15)
    assert "SIGTERM stopped seed-1; 1 of 3 runs have ended; continue with nnjit run --resume parts" in said
    assert not os.path.exists("parts/seed-2") and len(json.loads(Path("parts/results.json").read_text())["runs"]) == 1
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert "3 runs; 1 of them ended already" in nnjit("run", "--resume", "../parts")
    monkeypatch.chdir(here)
    for file in ("results.csv", "results.json"):
        assert Path("parts", file).read_text() == Path("whole", file).read_text()
    for seed in range(3):
        a, b = (load(f"{name}/seed-{seed}/last.safetensors") for name in ("whole", "parts"))
        np.testing.assert_array_equal(a.theta, b.theta)
    assert "--resume parts" in nnjit("run", *table, *LAYERS, "--seeds", "0..2", "--output", "parts", status=2)
    nnjit("run", "--resume", "parts")
    assert Path("parts/results.csv").read_text() == Path("whole/results.csv").read_text()


def test_a_run_that_diverges_is_named_and_left_out_of_the_mean(table, here):
    options = [*table, *LAYERS, "--optimizer", "adam(lr=0.003)"]
    nnjit("run", *options, "--seeds", "0..2", "--output", "good")
    shutil.copytree("good", "mixed")
    shutil.rmtree("mixed/seed-1")
    found = json.loads(Path("mixed/results.json").read_text())
    del found["runs"][1]
    Path("mixed/results.json").write_text(json.dumps(found))
    config = Path("mixed/many.toml")
    config.write_text(config.read_text().replace("adam(lr=0.003)", "sgd(lr=3e38)"))
    said = nnjit("run", "--resume", "mixed", status=1)
    assert "seed-1 (3 of 3): " in said and "not finite" in said and "mean of 2" in said
    after = json.loads(Path("mixed/results.json").read_text())
    good = [row for row in json.loads(Path("good/results.json").read_text())["runs"] if row["run"] != "seed-1"]
    assert after["mean of"] == 2
    assert after["mean"]["val_loss"] == pytest.approx(np.mean([row["val_loss"] for row in good]), rel=1e-12)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--folds", "1"], "--folds 1: expected 2 or more"),
        (["--folds", "5", "--set", "run.fold=[1, 5]"], "run.fold"),
        (["--folds", "5", "--set", "run.fold=[6, 5]"], "run.fold: expected a number from 1 to that of the folds"),
        (["--folds", "121"], "expected 2 to 120 folds"),
        (["--folds", "3", "--layers", "dense(2)"], "label 2"),
        (["--seeds", "1", "--seed", "1"], "--seeds those of several"),
        (["--seeds", "4..0"], "--seeds"),
        (["--folds", "3", "--resume", "somewhere"], "--folds cannot be given with it"),
        (["--seeds", "1", "--output", "t.csv"], "exists already"),
    ],
)
def test_what_is_refused_leaves_nothing(table, here, arguments, said):
    options = [] if "--resume" in arguments else [*table, *LAYERS]
    output = nnjit("run", *options, *arguments, status=2)
    assert said in output
    assert os.listdir() == ["t.csv"]


@pytest.mark.parametrize(
    "text, seeds", [("0..4", [0, 1, 2, 3, 4]), ("1,5,9", [1, 5, 9]), ("7", [7]), ("0..2, 9", [0, 1, 2, 9])]
)
def test_seeds_as_text(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1..", "..3", "-1", "3..1", "1,1", "0..2,1", "1.5", "2147483648", "0..,3"])
def test_seeds_that_cannot_be(text):
    with pytest.raises(UsageError, match="--seeds"):
        read_seeds(text)


# -- compare -----------------------------------------------------------------------------------------------------------


def cells(output):
    """Return the rows of a printed table: its columns are apart by two spaces or more."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in output.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:] if len(line) == len(lines[0])]


def test_compare_shows_what_differs_and_the_best_figures(table, here):
    nnjit("run", *table, *LAYERS, "--folds", 2, "--output", "folds")
    nnjit("run", *table, *LAYERS, "--optimizer", "sgd(lr=0.1)", "--output", "other")
    rows = cells(nnjit("compare", "folds", "other"))
    assert [row["run"] for row in rows] == ["folds/fold-1", "folds/fold-2", "other"]
    assert [row["fold"] for row in rows] == ["1 of 2", "2 of 2", "-"]
    assert [row["optimizer"] for row in rows] == ["adam(lr=0.003)"] * 2 + ["sgd(lr=0.1)"]
    for row in rows:
        record = best(here / row["run"])
        assert row["epoch"] == str(record["epoch"])
        assert row["val_loss"] == f"{record['val_loss']:.4g}" and row["val_accuracy"] == f"{record['val_accuracy']:.4g}"
    assert not {"seed", "batch_size", "loss (*)", "data"} & set(rows[0])
    alone = cells(nnjit("compare", "other"))
    assert len(alone) == 1 and "optimizer" not in alone[0]


def test_losses_of_different_losses_are_marked(table, here):
    nnjit("run", "--data", "ten_points", "--layers", "dense(2)", "--loss", "quadratic", "--epochs", 1, "--output", "a")
    nnjit("run", "--data", "ten_points", "--layers", "dense(2)", "--loss", "mse", "--epochs", 1, "--output", "b")
    output = nnjit("compare", "a", "b")
    assert {"loss", "loss (*)"} <= set(cells(output)[0])  # the name of the loss, and its value
    assert "(*) cannot be compared: the losses are quadratic, mse" in output


def test_compare_of_what_is_no_run(here, trained):
    assert "not a run directory" in nnjit("compare", "missing", status=1)
    os.mkdir("empty")
    assert "holds runs" in nnjit("compare", trained, "empty", status=1)


# -- several at a time -------------------------------------------------------------------------------------------------

KILLED = """
import multiprocessing, os, pathlib
from nnjit.data.csv_file import CSV
from nnjit.registry import datasets

class Killed(CSV):
    def load(self, *arguments, **options):
        worker = multiprocessing.current_process().name.startswith("Loky")
        if worker and len(os.listdir("MARKS")) < TIMES:
            pathlib.Path("MARKS", str(os.getpid())).touch()
            os.kill(os.getpid(), 9)
        return super().load(*arguments, **options)

datasets.register("killedTIMES")(Killed)
"""


def test_runs_at_a_time_give_the_same_table(table, here):
    nnjit("run", *table, *LAYERS, "--seeds", "0..2", "--output", "whole")
    said = nnjit("run", *table, *LAYERS, "--seeds", "0..2", "--workers", 2, "--output", "apart")
    assert "3 runs" in said and "(3 of 3)" in said
    for file in ("results.csv", "results.json", "many.toml"):
        assert Path("apart", file).read_text() == Path("whole", file).read_text()
    for seed in range(3):
        a, b = (load(f"{name}/seed-{seed}/last.safetensors") for name in ("whole", "apart"))
        np.testing.assert_array_equal(a.theta, b.theta)


def test_the_run_of_a_killed_worker_is_done_again(table, here, monkeypatch):
    """Kills without end are an error instead."""
    os.mkdir("marks")
    for times in (1, 99):
        Path(f"killed{times}.py").write_text(KILLED.replace("TIMES", str(times)).replace("MARKS", str(here / "marks")))
    options = [*LAYERS, "--seeds", "0,1", "--workers", 2]
    data = [table[0], table[1].replace("csv(", "killed1(")]
    nnjit("run", *data, *options, "--plugin", "killed1.py", "--output", "m")
    assert len(os.listdir("marks")) >= 1 and len(json.loads(Path("m/results.json").read_text())["runs"]) == 2
    monkeypatch.setattr("nnjit.launch.trainings.LOST", 1)
    data[1] = data[1].replace("killed1(", "killed99(")
    said = nnjit("run", *data, *options, "--plugin", "killed99.py", status=1)
    assert "killed 1 times in a row" in said and "for 2 runs at a time" in said


def test_ctrl_c_stops_runs_that_train_at_a_time(table, here):
    """Each saves a checkpoint, and what was stopped goes on to the same table."""
    plugin, metric = waiting(here)
    more = [*table, "--layers", "dense(3)", "--seeds", "0,1", "--epochs", 6, *plugin, *metric]
    nnjit("run", *more, "--output", "whole")
    Path("WAIT").touch()
    command = [*SCRIPT, *map(str, ("run", *more, "--workers", 2, "--output", "m"))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not all_wait(here, 2):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT and "continue with nnjit run --resume m" in said
    assert "SIGINT stopped seed-0 and seed-1" in said
    Path("WAIT").unlink()
    nnjit("run", "--resume", "m", "--workers", 2, *plugin)
    assert Path("m/results.csv").read_text() == Path("whole/results.csv").read_text()


def test_workers_need_joblib_and_several_runs(table, here, monkeypatch):
    assert "expected 1 or more" in nnjit("run", *table, "--seeds", "0,1", "--workers", 0, status=2)
    assert "--folds or --seeds" in nnjit("run", *table, "--workers", 2, status=2)
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert 'pip install "nnjit[joblib]"' in nnjit("run", *table, *LAYERS, "--seeds", "0,1", "--workers", 2, status=2)
    assert os.listdir() == ["t.csv"]
