"""`nnjit run`: the files of a run, refusals, stopping and continuing."""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SCRIPT, SMALL, UNDRAWN, nnjit, records
from nnjit import load
from nnjit.storage.checkpoint import read
from nnjit.training.config import resolve
from PIL import Image

FILES = {"config.toml", "log.jsonl", "program.py", "summary.txt", "last.safetensors", "best.safetensors"}
FILES |= {"state.json", "predictions.safetensors"}
PICTURES = {"loss.png", "gradient_norms.png", "confusion.png", "samples.png"}


def test_a_run_leaves_everything_behind(trained):
    assert {path.name for path in trained.iterdir()} == FILES | PICTURES
    table = tomllib.loads((trained / "config.toml").read_text())
    config = resolve(table).config
    assert config.text() == (trained / "config.toml").read_text()
    assert config.model.input_shape == [1, 8, 8]
    assert config.model.layers == ["minmax(low=0.0, high=16.0)", "flatten", "dense(units=10)"]
    assert config.training.epochs == 2 and config.data == {"name": "digits"}
    epochs = [record for record in records(trained) if record.get("epoch_end")]
    assert [record["epoch"] for record in epochs] == [1, 2]
    ast.parse((trained / "program.py").read_text())
    assert "dense.3" in (trained / "summary.txt").read_text()


def test_one_line_an_epoch_and_a_last_line(here):
    lines = nnjit("run", *SMALL, pictures=True).splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    record = records(here / "runs/digits-1")[-1]
    for name in ("loss", "val_loss", "val_accuracy"):
        assert f"{name} {record[name]:.4g}" in epochs[-1] and f"{name} {record[name]:.4g}" in lines[-1]
    assert lines[-1].startswith("runs/digits-1/last.safetensors (epoch 2): ")
    assert re.search(r"  in [\d.]+ m?s$", lines[-1])
    (named,) = [line for line in lines if line.startswith("runs/digits-1: ")]
    known = {
        "config.toml",
        "log.jsonl",
        "program.py",
        "summary.txt",
        "last.safetensors",
        "best.safetensors",
        "state.json",
    }
    written = {path.name for path in (here / "runs/digits-1").iterdir()} - known
    assert set(named.removeprefix("runs/digits-1: ").split(", ")) == written


def test_run_directories_are_named_and_never_overwritten(here):
    Path("mine.toml").write_text("[model]\nlayers = ['flatten', 'dense(10)']\n[training]\nepochs = 1\n")
    for _ in range(2):
        nnjit("run", "mine.toml")
    nnjit("run", "-", stdin=Path("mine.toml").read_text())
    assert sorted(os.listdir("runs")) == ["digits-1", "mine-1", "mine-2"]
    before = (here / "runs/mine-1/last.safetensors").read_bytes()
    assert "exists already" in nnjit("run", "mine.toml", "--output", "runs/mine-1", status=2)
    assert (here / "runs/mine-1/last.safetensors").read_bytes() == before
    os.mkdir("empty")
    nnjit("run", "mine.toml", "--output", "empty", pictures=True)
    assert "loss.png" in os.listdir("empty")


def test_every_option_reaches_the_config(here):
    Path("base.toml").write_text("[training]\nepochs = 9\nschedule = 'cosine'\n")
    nnjit(
        "run", "base.toml", "--layers", "flatten, dense(4), dense(2)", "--data", "ten_points", "--loss", "quadratic",
        "--optimizer", "sgd(lr=0.5)", "--epochs", 2, "--batch-size", 0, "--device", "cpu", "--threads", 1, "--seed", 7,
        "--output", "out", "--set", "training.norm=1", "--set", "model.layers[1]=tanh", "--set", "model.dtype=float64",
    )  # fmt: skip
    config = resolve(tomllib.loads(Path("out/config.toml").read_text())).config
    assert config.model.layers == ["flatten", "tanh", "dense(units=2)"] and config.model.dtype == "float64"
    assert config.data == {"name": "ten_points"}
    training = config.training
    assert (training.loss, training.optimizer, training.schedule) == ("quadratic", "sgd(lr=0.5)", "cosine")
    assert (training.epochs, training.batch_size, training.seed, training.norm) == (2, 0, 7, 1.0)
    assert config.run.threads == 1
    assert len([record for record in records(here / "out") if not record.get("epoch_end")]) == 2  # one per epoch


@pytest.mark.parametrize(
    "arguments, status",
    [
        (["missing.toml"], 2),
        (["--layers", "flatten dense(5)"], 2),  # ten classes
        (["--layers", "dense(10)"], 2),
        (["--data", "csv(path='missing.csv', label='y')"], 1),
        (["--loss", "quadratic"], 2),  # class numbers for a loss of values
        (["--threads", "4096"], 2),
        (["--device", "tpu"], 2),
        (["--precision", "bf16"], 2),  # on the CPU
        (["--precision", "bf15"], 2),
        (["--plugin", "missing.py"], 2),
        (["--set", "epochs"], 2),
        (["--output", "file"], 2),
        (["--output", "file/below"], 1),
        (["--resume", "missing"], 1),
        (["--resume", ".", "--seed", "3"], 2),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing(here, arguments, status):
    Path("file").touch()
    output = nnjit(
        "run",
        *([] if "--layers" in arguments else SMALL if "--resume" not in arguments else []),
        *arguments,
        status=status,
    )
    assert os.listdir() == ["file"]
    assert len(output.splitlines()) == 1 or output.startswith(("Usage: ", "compiling"))


def test_divergence_names_the_last_good_checkpoint(here):
    output = nnjit("run", *SMALL, "--optimizer", "sgd(lr=1e38)", status=1)
    assert "not finite" in output and "runs/digits-1/last.safetensors" in output
    load("runs/digits-1/last.safetensors")


def test_a_signal_ends_the_run_in_order_and_resume_continues(here):
    command = [*SCRIPT, "run", "--layers", "flatten dense(10)", "--epochs", "1000000", "--output", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said.startswith("nnjit: SIGTERM stopped the run after step ") and "nnjit run --resume run" in said
    assert (here / "run/loss.png").exists()
    last = records(here / "run")[-1]["epoch"]
    nnjit("run", "--resume", "run", "--epochs", last + 2)
    epochs = [record["epoch"] for record in records(here / "run") if record.get("epoch_end")]
    assert epochs == list(range(1, last + 3))
    assert resolve(tomllib.loads(Path("run/config.toml").read_text())).config.training.epochs == last + 2


def test_resume_of_a_complete_run_changes_nothing(trained, here):
    shutil.copytree(trained, "run")
    nnjit("run", "--resume", "run")
    for name in ("config.toml", "log.jsonl", "last.safetensors", "best.safetensors"):
        assert (here / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_resume_equals_a_run_without_a_break(here):
    nnjit("run", *SMALL, "--epochs", 3, "--output", "whole")
    nnjit("run", *SMALL, "--epochs", 1, "--output", "parts")
    nnjit("run", "--resume", "parts", "--epochs", 3)
    a, b = load("whole/last.safetensors"), load("parts/last.safetensors")
    assert np.array_equal(a.theta, b.theta)


def rates(path):
    return {record["step"]: record["lr"] for record in records(path) if not record.get("epoch_end")}


@pytest.mark.parametrize(
    "schedule, epochs, ways",
    [
        ("cosine", 3, "start a new run with --epochs 3"),
        ("warmup(0.5, then='cosine')", 3, "start a new run with --epochs 3"),
        ("warmup(2, then='cosine')", 3, None),  # until here the rate rose in the same way
        ("step(1)", 3, None),
        ("warmup(0.5, then='step(1)')", 3, None),
        ("constant", 3, None),
    ],
)
def test_more_epochs_never_make_the_learning_rate_jump(here, schedule, epochs, ways):
    """The rates of a resumed run are those of a run that had all its epochs from the beginning, or it is refused."""
    options = ["--layers", "flatten dense(10)", "--batch-size", 256, "--set", f'training.schedule="{schedule}"']
    nnjit("run", *options, "--epochs", 2, "--output", "parts")
    before = {file: (here / "parts" / file).read_bytes() for file in os.listdir("parts")}
    if ways is None:
        nnjit("run", *options, "--epochs", epochs, "--output", "whole")
        nnjit("run", "--resume", "parts", "--epochs", epochs)
        assert rates(here / "parts") == rates(here / "whole")
        return
    said = nnjit("run", "--resume", "parts", "--epochs", epochs, status=2)
    assert "depends on the number of epochs" in said and "would jump from" in said and ways in said
    assert {file: (here / "parts" / file).read_bytes() for file in os.listdir("parts")} == before
    nnjit("run", "--resume", "parts", "--epochs", 2)


def test_an_unfinished_run_is_offered_its_own_epochs(here, monkeypatch):
    stop = signal.raise_signal
    monkeypatch.setattr("nnjit.training.progress.Lines.epoch", lambda *_: stop(signal.SIGTERM))
    options = ["--layers", "flatten dense(10)", "--set", "training.schedule=cosine", "--epochs", 3, "--output", "run"]
    assert "SIGTERM stopped the run after step 45; continue it with" in nnjit("run", *options, status=128 + 15)
    said = nnjit("run", "--resume", "run", "--epochs", 9, status=2)
    assert "continue it with --epochs 3, or start a new run with --epochs 9" in said


def flip(x, y):
    return x, 1 - y


def shorten(x, y):
    return x[:170], y[:170]


def shift(x, y):
    return x + 1, y


def narrow(x, y):
    return x.astype(np.float32), y


@pytest.mark.parametrize(
    "change, said",
    [(flip, "its labels or targets are not the same"), (shorten, "it has 153 rows, and had 180"),
     (shift, "its samples are not the same"), (narrow, "is float32 (4,), and was float64 (4,)")],
)  # fmt: skip
def test_a_run_is_continued_on_its_own_data_only(here, change, said):
    x = np.random.default_rng(0).normal(size=(200, 4))
    y = (x[:, 0] > 0).astype(int)
    np.savez("data.npz", x=x, y=y)
    nnjit("run", "--data", "npz(path='data.npz')", "--layers", "dense(2)", "--epochs", 1, "--output", "run")
    changed = dict(zip("xy", change(x, y), strict=True))
    np.savez("data.npz", **changed)
    before = {file: (here / "run" / file).read_bytes() for file in os.listdir("run")}
    found = nnjit("run", "--resume", "run", "--epochs", 2, status=1)
    assert found.startswith("nnjit: the training data changed since the run began") and said in found
    assert {file: (here / "run" / file).read_bytes() for file in os.listdir("run")} == before
    np.savez("data.npz", x=x, y=y)
    nnjit("run", "--resume", "run", "--epochs", 2)


def test_a_run_is_not_continued_in_other_batches(trained, here):
    shutil.copytree(trained, "run")
    text = Path("run/config.toml").read_text()
    Path("run/config.toml").write_text(text.replace("batch_size = 32", "batch_size = 16"))
    assert "trained in batches of 32" in nnjit("run", "--resume", "run", "--epochs", 3, status=2)


def test_a_run_is_continued_and_evaluated_from_another_folder(here, monkeypatch):
    """Paths of data and of plug-ins are absolute in the written config."""
    x = np.random.default_rng(0).normal(size=(200, 4))
    np.savez("data.npz", x=x, y=(x[:, 0] > 0).astype(int))
    Path("near.py").write_text(
        "from nnjit import registry\nfrom nnjit.data.npz import NPZ\n"
        "@registry.datasets.register('near')\nclass Near(NPZ):\n    address_path: str = 'no://where'\n"
    )
    os.mkdir("elsewhere")
    plugin = ["--plugin", "near.py"]
    for name, options in (("npz", []), ("near", plugin)):
        data = f"{name}(path='data.npz')"
        nnjit("run", "--data", data, "--layers", "dense(2)", "--epochs", 1, "--output", name, *options)
        assert tomllib.loads(Path(name, "config.toml").read_text())["data"] == {
            "name": f"{name}(path='{here / 'data.npz'}')"
        }
    here_said = nnjit("evaluate", "npz"), nnjit("evaluate", "near", *plugin)
    monkeypatch.chdir("elsewhere")
    assert nnjit("evaluate", "../npz") == here_said[0]
    assert nnjit("evaluate", "../near", "--plugin", "../near.py") == here_said[1]
    nnjit("run", "--resume", "../npz", "--epochs", 2)
    assert f"add --plugin {here / 'near.py'}" in nnjit("run", "--resume", "../near", status=2)
    nnjit("run", "--resume", "../near", "--epochs", 2, "--plugin", "../near.py")


def test_a_test_folder_is_measured_once_and_found_from_another_folder(here, monkeypatch):
    """Its path is absolute in the config; the figures are those of `evaluate --split test`."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 10), ("late", 6)):
        for i in range(count):
            os.makedirs(f"{name}/{'ab'[i % 2]}", exist_ok=True)
            Image.fromarray(rng.integers(0, 120, (4, 4), np.uint8) + np.uint8(100 * (i % 2))).save(
                f"{name}/{'ab'[i % 2]}/{i}.png"
            )
    data = "images(path='train', gray=True, validation=0.2, test='late')"
    said = nnjit("run", "--data", data, "--layers", "flatten dense(2)", "--epochs", 2, "--output", "run")
    assert "test: 6 rows of late" in said
    tested = json.loads(Path("run/test.json").read_text())
    assert tested["samples"] == 6 and said.count(f"(epoch 2): loss {tested['loss']:.4g}") == 1
    os.mkdir("elsewhere")
    monkeypatch.chdir("elsewhere")
    found = dict(line.split(maxsplit=1) for line in nnjit("evaluate", "../run", "--split", "test").splitlines())
    assert float(found["loss"]) == pytest.approx(tested["loss"], rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(tested["accuracy"], rel=1e-5)


def test_run_and_evaluate_say_which_parameters_they_measure(here):
    options = ["--optimizer", "sgd(lr=20.0)", "--epochs", 6, "--output", "run"]  # whose loss fluctuates
    lines = nnjit("run", "--layers", "flatten dense(10)", *options).splitlines()[-2:]
    epochs = [record for record in records(here / "run") if record.get("epoch_end")]
    best = min(epochs, key=lambda record: record["val_loss"])
    for line, file, record in zip(lines, ("best", "last"), (best, epochs[-1]), strict=True):
        assert line.startswith(f"run/{file}.safetensors (epoch {record['epoch']}): loss {record['loss']:.4g}")
        assert f"val_accuracy {record['val_accuracy']:.4g}" in line
    said = dict(line.split(maxsplit=1) for line in nnjit("evaluate", "run").splitlines())
    assert said["model"] == f"best.safetensors (epoch {best['epoch']})"
    assert float(said["loss"]) == pytest.approx(best["val_loss"], rel=1e-5)
    said = nnjit("evaluate", "run/last.safetensors", "--data", "digits", stream="stdout")
    assert said.splitlines()[0].split(maxsplit=1) == ["model", "last.safetensors (epoch 6)"]
    load("run/last.safetensors").save("mine.safetensors")
    assert "mine.safetensors\n" in nnjit("evaluate", "mine.safetensors", "--data", "digits")


# -- where a run is written --------------------------------------------------------------------------------------------


def test_runs_started_at_once_have_a_number_each(here):
    config = [*UNDRAWN, "run", "--layers", "flatten dense(10)", "--epochs", "1"]
    started = [subprocess.Popen(config, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    said = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sorted(os.listdir("runs")) == ["digits-1", "digits-2", "digits-3"]
    assert len({line for text in said for line in text.splitlines() if "last.safetensors" in line.split(" ")[0]}) == 3


@pytest.mark.parametrize("where", [".", "linked", "dangling", "empty/", "new/er"])
def test_output_into_a_directory_that_is_there(here, monkeypatch, where):
    """The current directory, by a link and empty, stays the same directory and gets the run."""
    work = here / "work"
    (work / "empty").mkdir(parents=True)
    monkeypatch.chdir(work if where != "." else work / "empty")
    os.symlink("empty", work / "linked")
    os.symlink("target", work / "dangling")
    target = Path.cwd() / where
    before = os.stat(target).st_ino if target.exists() else None
    nnjit("run", *SMALL, "--epochs", 1, "--output", where)
    assert {file.name for file in target.iterdir()} == FILES
    assert before in (None, os.stat(target).st_ino)
    assert (work / "linked").is_symlink() and (work / "dangling").is_symlink()
    assert "exists already" in nnjit("run", *SMALL, "--output", where, status=2)
    nnjit("run", "--resume", where, "--epochs", 2)


# -- standard output that fails ----------------------------------------------------------------------------------------

LONG = ["run", "--layers", "flatten dense(10)", "--output", "run", "--epochs"]


def finished(path, pictures=frozenset()):
    """Return the epochs of a complete run."""
    assert {file.name for file in path.iterdir()} == FILES | pictures
    return [record["epoch"] for record in records(path) if record.get("epoch_end")]


def test_a_reader_that_leaves_does_not_end_the_run(here):
    process = subprocess.Popen([*SCRIPT, *LONG, "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith(("epoch", "compiling", "validation"))
    process.stdout.close()  # as head -1 does
    said = process.stderr.read()
    assert (process.wait(timeout=60), said) == (
        0,
        "nnjit: standard output: Broken pipe; the run goes on without it\n",
    )
    assert finished(here / "run", PICTURES) == list(range(1, 31))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_behind_standard_output_does_not_end_the_run(here):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*UNDRAWN, *LONG, "2"], stdout=full, stderr=subprocess.PIPE, text=True)
    said = "nnjit: standard output: No space left on device; the run goes on without it\n"
    assert (done.returncode, done.stderr) == (0, said) and finished(here / "run") == [1, 2]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_end_the_run(here, closed):
    """Nor do they end the pictures, whose files could get the numbers of the streams."""
    drawn = "<&-" in closed
    line = " ".join(map(shlex.quote, [*(SCRIPT if drawn else UNDRAWN), *LONG, "2"]))
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert finished(here / "run", PICTURES if drawn else frozenset()) == [1, 2]
    assert not any("epoch 1/2" in file.read_text() for file in (here / "run").glob("*.[jtp][sox]*"))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_a_terminal_that_is_closed_ends_the_run_in_order(here):
    """After SIGHUP writing fails."""
    code = "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n" + SCRIPT[-1]
    ours, its = os.openpty()
    command = [*SCRIPT[:2], code, *LONG, "1000000"]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    seen = b""
    while b"best" not in seen:  # the line of the first epoch
        seen += os.read(ours, 1000)
    os.close(ours)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    step = read(here / "run/last.safetensors")[1]["progress"]["step"]
    last = records(here / "run")[-1]
    assert finished(here / "run", PICTURES) and step >= last["step"]
    nnjit("run", "--resume", "run", "--epochs", last["epoch"] + 1)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
)
def test_every_signal_ends_a_run_with_its_status(here, monkeypatch, number):
    monkeypatch.setattr("nnjit.training.progress.Lines.epoch", lambda *_: signal.raise_signal(number))
    former = signal.signal(number, signal.SIG_DFL)
    try:
        said = nnjit("run", *SMALL, "--output", "run", status=128 + number)
    finally:
        signal.signal(number, former)
    line = f"nnjit: {number.name} stopped the run after step 45; continue it with nnjit run --resume run"
    assert said.splitlines()[1:] == [line]  # after that on the data
    assert read(here / "run/last.safetensors")[1]["progress"]["epoch"] == 1


def test_resume_refuses_what_would_change_the_run(trained):
    for option in (["--seed", "1"], ["--layers", "relu"], ["--output", "x"], ["--set", "training.seed=1"], ["a.toml"]):
        assert "cannot be given with it" in nnjit("run", "--resume", trained, *option, status=2)
    assert "2 epochs are trained already" in nnjit("run", "--resume", trained, "--epochs", 1, status=2)
