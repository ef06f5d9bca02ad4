"""`nnjit run`: what it leaves behind, what it refuses, how it is stopped and continued."""

import ast
import os
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SCRIPT, SMALL, nnjit, records
from nnjit import load
from nnjit.training.config import resolve

FILES = {"config.toml", "log.jsonl", "program.py", "summary.txt", "last.safetensors", "best.safetensors"}
FILES |= {"loss.png", "gradient_norms.png"}


def test_a_run_leaves_everything_behind(trained):
    assert {path.name for path in trained.iterdir()} == FILES
    table = tomllib.loads((trained / "config.toml").read_text())
    config = resolve(table)
    assert config.text() == (trained / "config.toml").read_text()
    assert config.model.input_shape == [1, 8, 8] and config.model.layers == ["flatten", "dense(units=10)"]
    assert config.training.epochs == 2 and config.data == {"name": "digits"}
    epochs = [record for record in records(trained) if record.get("epoch_end")]
    assert [record["epoch"] for record in epochs] == [1, 2]
    ast.parse((trained / "program.py").read_text())
    assert "dense.2" in (trained / "summary.txt").read_text()


def test_one_line_an_epoch_and_a_last_line(here):
    lines = nnjit("run", *SMALL).splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    record = records(here / "runs/digits-1")[-1]
    for name in ("loss", "val_loss", "val_accuracy"):
        assert f"{name} {record[name]:.4g}" in epochs[-1] and f"{name} {record[name]:.4g}" in lines[-1]
    assert lines[-1].startswith("runs/digits-1: ") and lines[-1].endswith(" s")


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
    nnjit("run", "mine.toml", "--output", "empty")
    assert "loss.png" in os.listdir("empty")


def test_every_option_reaches_the_config(here):
    Path("base.toml").write_text("[training]\nepochs = 9\nschedule = 'cosine'\n")
    nnjit(
        "run", "base.toml", "--layers", "flatten, dense(4), dense(2)", "--data", "ten_points", "--loss", "quadratic",
        "--optimizer", "sgd(lr=0.5)", "--epochs", 2, "--batch-size", 0, "--device", "cpu", "--threads", 1, "--seed", 7,
        "--output", "out", "--set", "training.norm=1", "--set", "model.layers[1]=tanh", "--set", "model.dtype=float64",
    )  # fmt: skip
    config = resolve(tomllib.loads(Path("out/config.toml").read_text()))
    assert config.model.layers == ["flatten", "tanh", "dense(units=2)"] and config.model.dtype == "float64"
    assert config.data == {"name": "ten_points"}
    training = config.training
    assert (training.loss, training.optimizer, training.schedule) == ("quadratic", "sgd(lr=0.5)", "cosine")
    assert (training.epochs, training.batch_size, training.seed, training.norm) == (2, 0, 7, 1.0)
    assert config.run.threads == 1
    assert len([record for record in records(here / "out") if not record.get("epoch_end")]) == 2  # the whole set a step


@pytest.mark.parametrize(
    "arguments, status",
    [
        (["missing.toml"], 2),
        (["--layers", "flatten dense(5)"], 2),  # ten classes
        (["--layers", "dense(10)"], 2),
        (["--data", "csv(path='missing.csv', label='y')"], 1),
        (["--loss", "quadratic"], 2),  # labels, where values are needed
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
    assert resolve(tomllib.loads(Path("run/config.toml").read_text())).training.epochs == last + 2


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


def test_resume_refuses_what_would_change_the_run(trained):
    for option in (["--seed", "1"], ["--layers", "relu"], ["--output", "x"], ["--set", "training.seed=1"], ["a.toml"]):
        assert "cannot be given with it" in nnjit("run", "--resume", trained, *option, status=2)
    assert "2 epochs are trained already" in nnjit("run", "--resume", trained, "--epochs", 1, status=2)
