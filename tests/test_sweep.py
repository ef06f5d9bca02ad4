"""`nnjit sweep`: ranges against configs written by hand, trials against single runs, pruning against plain NumPy."""

import csv
import itertools
import json
import math
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import optuna
import pytest
from command_line import SCRIPT, nnjit, records
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import load
from nnjit.errors import CheckpointError, SpecError
from nnjit.launch.ranges import Range, filled, find, opened
from nnjit.launch.study import Study
from nnjit.launch.trial import Judge
from nnjit.training.config import resolve

DOC = (Path(__file__).parents[1] / "docs" / "sweep.md").read_text()
LR = "{name = 'adam', lr = {low = 1e-4, high = 1e-1, log = true}}"
RATE = Range("training.optimizer.lr", "lr", ("training", "optimizer", "lr"), 1e-4, 0.1, log=True)
UNITS = Range("model.layers[0].units", "units", ("model", "layers", 0, "units"), 8, 64, step=8, whole=True)
KIND = Range("model.layers[1]", "layers[1]", ("model", "layers", 1), choices=["relu", "tanh", [3, 5]])


def ranges_of(text):
    """Return the ranges of a config, and the config."""
    tree = opened(tomllib.loads(text))
    return find(tree, lambda table: resolve(table, "c.toml"), "c.toml"), tree


# -- ranges, without a training ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option, said",
    [
        ("epochs = {low = 3, high = 1}", "training.epochs: low must be below high, got low = 3 and high = 1"),
        ("epochs = {low = 3, high = 3}", "low must be below high"),
        ("epochs = {low = 0, high = 9, log = true}", "log = true low must be above 0, got low = 0"),
        ("epochs = {low = 1, hihg = 9}", "training.epochs.hihg: unknown key of a range; did you mean high?"),
        ("epochs = {choises = [1, 9]}", "did you mean choices?"),
        ("epochs = {min = 1, max = 9}", "training.epochs.min: unknown key of a range; did you mean low?"),
        ("epochs = {low = 1}", "high missing"),
        ("epochs = {low = 1, high = 9, log = 1}", "training.epochs.log: expected true or false, got 1"),
        ("epochs = {low = 'one', high = 9}", 'training.epochs.low: expected a finite number, got "one"'),
        ("epochs = {low = 1, high = inf}", "training.epochs.high: expected a finite number, got inf"),
        ("epochs = {low = 1, high = 9, step = 3}", "multiple of step, such as 7, got high = 9"),
        ("epochs = {low = 1, high = 9, step = 0}", "training.epochs.step: expected a number above 0, got 0"),
        ("epochs = {low = 1, high = 9, step = 2, log = true}", "log and step"),
        ("epochs = {choices = [1]}", "two values or more"),
        ("epochs = {choices = [1, 2, 1]}", "1 is there twice"),
        ("epochs = {choices = [1, 2], low = 1}", "choices exclude low"),
        ("epochs = {low = 0, high = 9}", "training.epochs: expected a whole number from 1 on, got 0"),
        ("epochs = {low = 1, high = 9.5}", "high = 9.5: expected a whole number from 1 on"),
        ("epochs = {choices = [1, 'two']}", 'the choice two: expected a whole number from 1 on, got "two"'),
        ("optimizer = {name = 'sgd', momentum = {low = 0.0, high = 1.0}}", "momentum: high = 1.0: "),
        ("optimizer = {name = 'sgd', momentun = {low = 0.0, high = 0.5}}", "did you mean momentum?"),
        ("optimizer = {choices = ['adam', 'adm']}", "the choice adm: "),
        (
            "epochs = {low = 1, high = 2}\nbatch_sise = 3",
            "training.batch_sise: unknown option; did you mean batch_size?",
        ),
    ],
)
def test_a_wrong_range_is_refused_by_its_place(option, said):
    with pytest.raises(SpecError) as error:
        ranges_of(f"[training]\n{option}")
    assert said in str(error.value) and str(error.value).startswith("c.toml")


def test_forms_of_a_range_and_their_names():
    layers = [
        "{layer = 'dense', units = {low = 8, high = 64}}",
        "\"residual(['dense({\\\"choices\\\": [8, 16]})', 'relu'])\"",
        "{choices = ['relu', 'tanh']}",
        "'dense(10)'",
    ]
    found, tree = ranges_of(
        f"[model]\nlayers = ['flatten', {', '.join(layers)}]\n"
        "[training]\noptimizer = \"sgd({'low': 1, 'high': 3}, momentum={'low': 0.0, 'high': 0.9})\"\n"
        "batch_size = {low = 8, high = 32, step = 8}\nmetrics = [\"top_k(k={'low': 2, 'high': 3})\"]\n"
    )
    about = {each.path: (each.name, each.whole, each.size()) for each in found}
    assert about == {
        "model.layers[1].units": ("layers[1].units", True, 57),
        "model.layers[2].layers[0].units": ("layers[2].layers[0].units", False, 2),
        "model.layers[3]": ("layers[3]", False, 2),
        "training.optimizer.lr": ("lr", False, math.inf),  # an option of any number has all between 1 and 3
        "training.optimizer.momentum": ("momentum", False, math.inf),
        "training.batch_size": ("batch_size", True, 4),
        "training.metrics[0].k": ("k", True, 2),
    }
    values = {each.place: each.ends()[-1][1] for each in found}
    by_hand = {
        "model": {"layers": ["flatten", "dense(64)", "residual(['dense(units=16)', 'relu'])", "tanh", "dense(10)"]},
        "training": {"optimizer": "sgd(lr=3.0, momentum=0.9)", "batch_size": 32, "metrics": ["top_k(k=3)"]},
    }
    assert resolve(filled(tree, values)).config == resolve(by_hand).config


@pytest.mark.parametrize(
    "text",
    [
        "[training]\nclass_weights = {low = 1, high = 5}",
        "[data]\nname = \"csv(path='t.csv', label='y', kinds={'low': 'number', 'high': 'number'})\"",
        "[model]\nlayers = [{layer = 'minmax', low = 0, high = 16}, 'flatten', 'dense(10)']",
        "[training]\nclip = {name = 'norm', max = 1.0}",
    ],
)
def test_a_table_that_an_option_takes_is_no_range(text):
    assert ranges_of(text)[0] == []


@given(low=st.integers(1, 50), count=st.integers(2, 9), step=st.integers(1, 7))
@settings(max_examples=10, deadline=None)
def test_values_of_whole_numbers_with_a_step(low, count, step):
    high = low + (count - 1) * step
    found, _ = ranges_of(f"[training]\nepochs = {{low = {low}, high = {high}, step = {step}}}")
    assert found[0].values() == np.arange(low, high + 1, step).tolist() and found[0].size() == count


# -- the study, without a training -------------------------------------------------------------------------------------


def told(values):
    """Return what a trial with these values gives, for tests of the study."""
    return abs(math.log10(values[RATE.path]) + 2) + abs(values[UNITS.path] - 40) / 100


def run_study(path, trials, new=True):
    """Run trials, each fifth pruned; return the study."""
    study = Study(path, [RATE, UNITS, KIND], 3, "minimize", "abc", new)
    for _ in range(trials):
        number, values = study.ask()
        figure = told(values)
        study.tell(number, {"trial": number, "values": values}, None if number % 5 == 4 else figure, {1: figure + 1})
    return study


def test_a_study_that_is_continued_has_the_same_trials(tmp_path):
    whole = run_study(tmp_path / "a?{b}.db", 13).rows()  # the first ten have random values
    begun = run_study(tmp_path / "b.db", 7)
    number, values = begun.ask()
    begun = Study(tmp_path / "b.db", [RATE, UNITS, KIND], 3, "minimize", "abc", False)
    assert begun.unfinished() == [(number, values)]
    begun.tell(number, {"trial": number, "values": values}, told(values), {1: told(values) + 1})
    assert run_study(tmp_path / "b.db", 5, new=False).rows() == whole
    for row in whole:
        rate, units, kind = row["values"].values()
        assert 1e-4 <= rate <= 0.1 and units in range(8, 65, 8) and kind in KIND.choices
    read = optuna.load_study(study_name="nnjit", storage=f"sqlite:///{tmp_path / 'b.db'}")
    assert len(read.trials) == 13 and read.best_value == min(
        told(r["values"]) for k, r in enumerate(whole) if k % 5 != 4
    )


def test_all_combinations_are_tried_once(tmp_path):
    few = UNITS._replace(high=24)
    study = Study(tmp_path / "a.db", [few, KIND], 0, "minimize", "abc", True)
    study.try_all()
    found = [tuple(map(str, study.ask()[1].values())) for _ in range(9)]
    assert sorted(found) == sorted((str(u), str(k)) for u, k in itertools.product((8, 16, 24), KIND.choices))
    assert found != sorted(found)


def test_a_file_that_is_no_study_of_the_sweep_is_refused(tmp_path):
    run_study(tmp_path / "a.db", 1)
    (tmp_path / "text.db").write_text("neither a database nor a study " * 40)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("create table a (b)")
    for name, fingerprint, said in (
        ("text.db", "abc", "not a database"),
        ("other.db", "abc", "holds no study of nnjit sweep"),
        ("a.db", "abd", "another config"),
        ("none.db", "abc", "missing"),
    ):
        with pytest.raises(CheckpointError, match=said):
            Study(tmp_path / name, [RATE, UNITS, KIND], 3, "minimize", fingerprint, False)
    assert not (tmp_path / "none.db").exists()


def test_a_locked_study_is_said_to_be_locked(tmp_path, monkeypatch):
    run_study(tmp_path / "a.db", 1)
    monkeypatch.setattr("nnjit.launch.study.LOCKED", 0.1)
    other = sqlite3.connect(tmp_path / "a.db")
    other.execute("begin exclusive")
    with pytest.raises(CheckpointError, match=r"a\.db.*locked; another program"):
        Study(tmp_path / "a.db", [RATE, UNITS, KIND], 3, "minimize", "abc", False)
    other.close()


@given(
    direction=st.sampled_from(["minimize", "maximize"]),
    epochs=st.integers(1, 45),
    others=st.integers(0, 9),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_pruning_is_that_of_the_median(direction, epochs, others, seed):
    rng = np.random.default_rng(seed)
    sign = 1 if direction == "minimize" else -1
    curves, own = rng.random((others, epochs)).round(2), rng.random(epochs).round(2)
    every = max(1, epochs // 20)
    compared = [epoch for epoch in range(1, epochs + 1) if epoch % every == 0]
    judge = Judge("val_loss", direction, [{e: float(curve[e - 1]) for e in compared} for curve in curves])
    judge.follow(epochs, [])
    expected = None
    for epoch in compared:
        best = min(sign * own[e - 1] for e in compared if e <= epoch)
        median = np.median(sign * curves[:, epoch - 1]) if others else np.nan
        if others >= 5 and epoch >= epochs // 4 and epoch < epochs and best > median + 1e-9:
            expected = epoch
            break
    stopped = next((e for e in range(1, epochs + 1) if judge.epoch({"epoch": e, "val_loss": float(own[e - 1])})), None)
    assert stopped == judge.pruned == expected


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(here):
    """Make a table of three classes, 50 rows each, and return the options of a sweep of the learning rate."""
    rng = np.random.default_rng(0)
    rows = [(*rng.normal(k % 3, 0.5, 2), "abc"[k % 3]) for k in range(150)]
    Path("t.csv").write_text("u,v,kind\n" + "".join(f"{u:.4f},{v:.4f},{kind}\n" for u, v, kind in rows))
    data = ["--data", "csv(path='t.csv', label='kind', test=0.2)", "--layers", "dense(3)", "--epochs", "4"]
    return [*data, "--set", f"training.optimizer={LR}"]


def rows_of(path):
    with open(Path(path, "results.csv"), newline="") as file:
        return list(csv.DictReader(file))


def ended(path):
    """Return the records of the epochs of a run."""
    return [each for each in records(Path(path)) if each.get("epoch_end")]


def test_trials_are_runs_and_the_best_is_that_of_their_logs(table, here):
    said = nnjit("sweep", *table, "--trials", 7, "--output", "s")
    rows = rows_of("s")
    assert [row["trial"] for row in rows] == [str(k) for k in range(7)]
    complete = [row for row in rows if row["state"] == "complete"]
    for row in rows:
        path = Path("s", f"trial-{row['trial']}")
        best = min(ended(path), key=lambda record: record["val_loss"])
        assert (int(row["epoch"]), float(row["val_loss"])) == (best["epoch"], best["val_loss"])
        assert len(ended(path)) == (4 if row["state"] == "complete" else int(row["why"].removeprefix("after epoch ")))
        config = tomllib.loads((path / "config.toml").read_text())
        assert config["training"]["optimizer"] == f"adam(lr={float(row['training.optimizer.lr'])!r})"
        assert os.path.isabs(re.search(r"path='([^']*)'", config["data"]["name"])[1])
        state = json.loads((path / "state.json").read_text())
        if row["state"] == "pruned":
            assert state["why"].startswith(f"pruned {row['why']} of 4, where its best val_loss so far was worse")
        assert state["state"] == {"complete": "finished", "pruned": "stopped"}[row["state"]]
    assert {row["state"] for row in rows} <= {"complete", "pruned"} and len(complete) >= 5
    best = min(complete, key=lambda row: float(row["val_loss"]))
    path = f"s/trial-{best['trial']}"
    assert f"best: {path}, val_loss {float(best['val_loss']):.4g}" in said
    assert f"nnjit run {path}/config.toml" in said and f"nnjit evaluate {path}" in said
    nnjit("run", f"{path}/config.toml", "--output", "again")  # the network of the best trial, bit for bit
    np.testing.assert_array_equal(load("again/last.safetensors").theta, load(f"{path}/last.safetensors").theta)
    assert {"history.png", "slice.png"} <= {file.name for file in Path("s").iterdir()}
    assert path.rpartition("/")[2] in nnjit("compare", "s") and "s/loss.png" in nnjit("plot", "s", "--what", "loss")
    assert "finished" in nnjit("watch", path)
    # Other commands and the same directory once more.
    assert "nnjit sweep --resume s" in nnjit("sweep", *table, "--output", "s", status=2)
    assert "nnjit sweep --resume s" in nnjit("run", "--resume", "s", status=2)
    assert "nnjit run --resume again" in nnjit("sweep", "--resume", "again", status=1)
    assert "--epochs cannot be given" in nnjit("sweep", "--resume", "s", "--epochs", 3, status=2)
    before = Path("s/results.csv").read_text()
    assert "7 of them ended already" in nnjit("sweep", "--resume", "s")
    assert "7 trials" in nnjit("sweep", "--resume", "s", "--trials", 3)
    assert Path("s/results.csv").read_text() == before
    text = Path("s/sweep.toml").read_text()
    Path("s/sweep.toml").write_text(text.replace("0.1", "0.2"))
    assert "another config" in nnjit("sweep", "--resume", "s", status=1)
    Path("s/sweep.toml").write_text(text)
    fcntl = pytest.importorskip("fcntl")
    with open("s/sweep.toml") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another process works on this sweep" in nnjit("sweep", "--resume", "s", status=2)


def test_a_sweep_that_was_stopped_goes_on_as_if_nothing_had_happened(table, here, monkeypatch):
    nnjit("sweep", *table, "--trials", 8, "--output", "whole")
    epochs = []

    def stop(self, record):
        epochs.append(record["epoch"])
        if len(epochs) == 22:  # after the five trials that are not compared with others
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("nnjit.training.progress.Silent.epoch", stop)
        said = nnjit("sweep", *table, "--trials", 8, "--output", "parts", status=128 + 15)
    found = re.search(
        r"SIGTERM stopped trial-(\d); \1 of 8 trials have ended; continue with nnjit sweep --resume", said
    )
    assert found and len(rows_of("parts")) == int(found[1]) >= 5
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    nnjit("sweep", "--resume", "../parts")
    monkeypatch.chdir(here)
    assert Path("parts/results.csv").read_text() == Path("whole/results.csv").read_text()
    for k in range(8):
        a, b = (load(f"{name}/trial-{k}/last.safetensors") for name in ("whole", "parts"))
        np.testing.assert_array_equal(a.theta, b.theta)


def test_a_trial_that_diverges_does_not_end_the_sweep_and_values_are_tried_once(table, here):
    optimizers = ["adam(lr=0.001)", "sgd(lr=3e38)", "adam(lr=0.01)"]
    options = ["--set", f"training.optimizer={{choices = {optimizers}}}", "--set", "sweep.metric=val_accuracy"]
    assert "say whether" in nnjit("sweep", *table, *options, "--output", "s", status=2)
    said = nnjit("sweep", *table, *options, "--set", "sweep.direction=maximize", "--output", "s")
    rows = {row["training.optimizer"]: row for row in rows_of("s")}
    assert sorted(rows) == sorted(optimizers) and len(rows_of("s")) == 3  # there are no more combinations
    assert rows["sgd(lr=3e38)"]["state"] == "failed" and "not finite" in rows["sgd(lr=3e38)"]["why"]
    best = max((row for row in rows.values() if row["state"] == "complete"), key=lambda row: float(row["val_accuracy"]))
    assert f"best: s/trial-{best['trial']}, val_accuracy" in said and "2 complete, 1 failed" in said
    bad = ["--set", "training.optimizer={choices = ['sgd(lr=3e38)', 'sgd(lr=3.1e38)']}"]
    assert "no trial has ended well" in nnjit("sweep", *table, *bad, "--output", "bad", status=1)


def test_trials_at_a_time_are_the_runs_of_their_configs(table, here):
    nnjit("sweep", *table, "--set", "sweep.prune=false", "--trials", 3, "--workers", 2, "--output", "s")
    rows = rows_of("s")
    assert [row["state"] for row in rows] == ["complete"] * 3
    nnjit("run", "s/trial-2/config.toml", "--output", "again")
    np.testing.assert_array_equal(load("again/last.safetensors").theta, load("s/trial-2/last.safetensors").theta)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals of a group")
def test_ctrl_c_stops_trials_that_train_at_a_time(table, here):
    arguments = [*table, "--epochs", "100000", "--trials", "2", "--workers", "2", "--output", "s"]
    command = subprocess.Popen(
        [*SCRIPT, "sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 300
        logs = [Path("s", f"trial-{k}", "log.jsonl") for k in range(2)]
        while not all(log.is_file() and log.stat().st_size > 1000 for log in logs):
            assert command.poll() is None and time.monotonic() < until, command.stdout.read()
            time.sleep(0.1)
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does
        said = command.communicate(timeout=300)[0]
    finally:
        command.kill()
    assert command.returncode == 130, said
    assert "SIGINT stopped trial-0 and trial-1; 0 of 2 trials have ended" in said and "Traceback" not in said
    for k in range(2):
        assert json.loads(Path("s", f"trial-{k}", "state.json").read_text())["state"] == "interrupted"


# A metric of workers that kills a process in the middle of a trial, as often as KILLS says, each time: the trial's name
# (None: any), the number of others that have ended before, and whom: its own process, the first one, or another worker.
# A checkpoint follows each epoch.
KILLING = """
import multiprocessing, os, signal, time
from contextlib import suppress
from pathlib import Path
from nnjit.registry import metrics
from nnjit.training import checkpoints
from nnjit.training.metrics.of_classes import Accuracy

if multiprocessing.current_process().name.startswith("Spawn"):  # not in the process of the tests
    checkpoints.KEEP = 0
HERE = Path(__file__).parent

def trained():
    for file in Path("/proc/self/fd").iterdir():
        if file.exists() and (found := file.resolve()).name == "log.jsonl":
            return found.parent.name

def ended():
    table = HERE / "s" / "results.csv"
    return table.is_file() and table.read_text().count("\\n") - 1

def others():
    # The other workers, also those that have not trained yet.
    for file in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((file / "stat").read_text().rpartition(")")[2].split()[1])
            is_worker = b"spawn_main" in (file / "cmdline").read_bytes()
            if is_worker and parent == os.getppid() and int(file.name) != os.getpid():
                yield int(file.name)

@metrics.register("NAME")
class Killing(Accuracy):
    count = 0

    def part(self, predictions):
        worker = multiprocessing.current_process().name.startswith("Spawn")
        if worker and (name := trained()):
            self.count += 1
            kills, marks = eval((HERE / "KILLS").read_text()), len(list(HERE.glob("mark-*")))
            if self.count == 3 and marks < len(kills) and kills[marks][0] in (None, name):
                while ended() < kills[marks][1]:
                    time.sleep(0.01)
                (HERE / f"mark-{marks}").write_text(str(os.getpid()))
                whom = {"self": [os.getpid()], "first": [os.getppid()], "other": list(others()) or [os.getpid()]}
                for number in whom[kills[marks][2]]:
                    os.kill(number, signal.SIGKILL)
                signal.pause()
        return super().part(predictions)
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs SIGKILL and /proc")


def runs_on(number):
    """Tell whether a process, which may be a zombie, has not ended."""
    try:
        return Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def killing(table, here):
    """Return the options of a sweep of three trials, each of whose combinations is tried once."""
    name = f"killing_{here.name}"  # a name is registered once
    Path("killing.py").write_text(KILLING.replace("NAME", name))
    Path("KILLS").write_text("[]")
    choices = "training.optimizer={choices = ['adam(lr=0.01)', 'adam(lr=0.003)', 'sgd(lr=0.1)']}"
    more = ["--set", "sweep.prune=false", "--plugin", "killing.py", "--metrics", name, "--epochs", "6"]
    return [*table[:-1], choices, *more]


def same(a, b):
    """Check that two sweeps have the same table and parameters."""
    assert Path(a, "results.csv").read_text() == Path(b, "results.csv").read_text()
    for k in range(3):
        one, other = (load(f"{name}/trial-{k}/last.safetensors") for name in (a, b))
        np.testing.assert_array_equal(one.theta, other.theta)


@needs_proc
def test_the_trial_of_a_killed_worker_goes_on(killing, here):
    """Two kills one after the other; then one of a worker that has no trial any more, and so holds a lock."""
    nnjit("sweep", *killing, "--output", "whole")
    Path("KILLS").write_text("[('trial-0', 0, 'self'), ('trial-0', 0, 'self'), ('trial-2', 2, 'other')]")
    said = nnjit("sweep", *killing, "--workers", 2, "--output", "s")
    assert said.count("a process that trains was killed; the trials that had begun go on") == 3
    assert "(3 of 3)" in said and "3 complete" in said and "Traceback" not in said
    same("s", "whole")


@needs_proc
def test_a_sweep_whose_processes_were_all_killed_goes_on(killing, here, monkeypatch):
    """Kills in a row end it with a sentence; so does one of the first process, whose workers end; then it resumes."""
    nnjit("sweep", *killing, "--output", "whole")
    monkeypatch.setattr("nnjit.launch.trainings.LOST", 1)
    Path("KILLS").write_text("[(None, 0, 'self')]")
    said = nnjit("sweep", *killing, "--workers", 2, "--output", "s", status=1)
    assert "processes that train were killed 1 times in a row" in said and "2 trials at a time" in said
    Path("KILLS").write_text("[(None, 0, 'self'), (None, 0, 'first')]")  # not before: the first process was this one
    resume = ["sweep", "--resume", "s", "--plugin", "killing.py"]
    first = subprocess.run([*SCRIPT, *resume, "--workers", "2"], capture_output=True, text=True, check=False)
    assert first.returncode == -signal.SIGKILL and "3 of 3)" not in first.stdout
    worker, until = Path("mark-1").read_text(), time.monotonic() + 60
    while runs_on(worker):
        assert time.monotonic() < until, "the worker outlives the first process"
        time.sleep(0.05)
    assert "3 complete" in nnjit(*resume)
    same("s", "whole")


@pytest.mark.parametrize(
    "options, said",
    [
        ([], "the config has no range"),
        (
            ["--set", f"training.optimizer={LR}", "--set", "sweep.trails=3"],
            "sweep.trails: unknown option; did you mean trials?",
        ),
        (
            ["--set", f"training.optimizer={LR}", "--set", "sweep.trials=0"],
            "sweep.trials: expected a whole number from 1 on",
        ),
        (["--set", f"training.optimizer={LR}", "--set", "sweep.metric=val_f2"], "val_loss, val_accuracy"),
        (["--set", "training.seed={low = 0, high = 4}"], "nnjit run --seeds"),
        (["--set", "data.validation={low = 0.1, high = 0.2}"], "the same rows"),
        (["--set", "training.loss={choices = ['cross_entropy', 'nll']}"], "training.loss"),
        (["--set", "training.class_weights={choices = ['balanced', {a = 2}]}"], "losses cannot be compared"),
        (["--layers", "conv(4, 3) flatten", "--set", f"training.optimizer={LR}"], "conv"),
        (["--set", "model.layers=['dense(3)', {choices = ['dense(3)', 'dense(2)']}]"], "the choice dense(2)"),
    ],
)
def test_what_is_refused_leaves_nothing(table, here, options, said):
    data = ["--set", "data={dataset = 'csv', path = 't.csv', label = 'kind'}", "--layers", "dense(3)"]
    assert said in nnjit("sweep", *data, *options, "--output", "s", status=2)
    assert os.listdir() == ["t.csv"]


def test_without_optuna_one_sentence_says_how_to_install_it(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = nnjit("sweep", "--set", f"training.optimizer={LR}", status=2)
    assert 'pip install "nnjit[optuna]"' in said and os.listdir() == []


def test_other_commands_say_that_a_range_is_for_a_sweep(here):
    Path("c.toml").write_text(f"[training]\noptimizer = {LR}\n")
    for command in (["run", "c.toml"], ["show", "c.toml"], ["run", "c.toml", "--seeds", "0..1"]):
        said = nnjit(*command, status=2)
        assert "training.optimizer.lr is a range" in said and "nnjit sweep c.toml" in said
    Path("c.toml").write_text("[sweep]\ntrials = 3\n")
    assert "nnjit sweep c.toml" in nnjit("run", "c.toml", status=2)
    Path("c.toml").write_text("[training]\nepochs = 0\nclass_weights = {low = 1, high = 2}\n")
    assert "range" not in nnjit("run", "c.toml", status=2)


def test_the_commands_of_the_page(here):
    Path("digits.toml").write_text(
        re.search(r"```toml\n(.*?)```", DOC, re.DOTALL)[1].replace("trials = 12", "trials = 3")
    )
    (commands,) = re.findall(r"```sh\n(.*?)```", DOC, re.DOTALL)
    for line in commands.replace("--trials 14", "--trials 4").splitlines():
        assert nnjit(*shlex.split(line)[1:])
    assert len(rows_of("runs/sweep")) == 4
    exec(re.search(r"```python\n(.*?)```", DOC, re.DOTALL)[1], {})
