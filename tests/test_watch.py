"""`nnjit watch`: a run followed by its files, how it ended, and paths that are no run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from command_line import SCRIPT, SMALL, UNDRAWN, nnjit
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit.launch import watch
from nnjit.storage.run_directory import RunDirectory
from screen import on_terminal

RUN = [*UNDRAWN, "run", "--layers", "flatten dense(10)", "--output", "run"]
WATCH = [*SCRIPT, "watch", "run"]


def epochs_in(text):
    return [line for line in text.splitlines() if line.startswith("epoch ")]


def started(*options):
    """Start a run of many epochs, and wait until it trains."""
    process = subprocess.Popen([*RUN, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (Path("run/log.jsonl").is_file() and '"epoch_end"' in Path("run/log.jsonl").read_text()):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    return process


# -- a run that ended --------------------------------------------------------------------------------------------------


def test_it_shows_what_the_runs_own_terminal_shows(here):
    shown = nnjit("run", "--layers", "flatten dense(10)", "--epochs", 25, "--set", "training.class_weights=balanced")
    said = nnjit("watch", "runs/digits-1")
    assert epochs_in(said) == epochs_in(shown)
    assert "the loss is weighted by class: 0 " in said
    assert said.splitlines()[-1].startswith("runs/digits-1: finished after step 1125 (epoch 25), in ")


def test_a_run_that_stopped_early(here):
    options = ["--layers", "flatten dense(10)", "--optimizer", "sgd(lr=20.0)", "--epochs", 60, "--patience", 2]
    shown = nnjit("run", *options, "--output", "run")
    said = nnjit("watch", "run")
    (line,) = [line for line in shown.splitlines() if line.startswith("stopped after epoch ")]
    assert line in said.splitlines() and "run: stopped after step " in said


def test_a_run_that_diverged(here):
    nnjit("run", *SMALL, "--optimizer", "sgd(lr=1e38)", "--output", "run", status=1)
    assert "run: the run failed after step " in nnjit("watch", "run", status=1)
    assert json.loads(Path("run/state.json").read_text())["state"] == "failed"


def test_a_run_without_a_state(trained, here):
    """As an earlier nnjit wrote it."""
    shutil.copytree(trained, "run")
    os.unlink("run/state.json")
    assert "run: finished after step 90 (epoch 2)" in nnjit("watch", "run")


# -- a run that trains -------------------------------------------------------------------------------------------------


def test_a_run_that_is_interrupted_while_it_is_watched(here):
    run = started("--epochs", "1000000")
    seen = []

    def act(process, terminal, text):
        if "left" in text and not seen:
            seen.append(text)
            run.send_signal(signal.SIGTERM)

    status, text = on_terminal(WATCH, 100, act)
    run.communicate(timeout=60)
    assert status == 1 and "SIGTERM stopped the run after step " in text and "nnjit run --resume run" in text
    assert seen and "epoch" in seen[0] and "Traceback" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="files are held by locks of Unix")
def test_ctrl_c_ends_the_watching_and_a_kill_the_run(here):
    """Ctrl-C leaves the run alone; if it is killed, the watching says so."""
    run = started("--epochs", "1000000")
    watching = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=60)
    assert (watching.returncode, said.strip()) == (130, "") and run.poll() is None
    watching = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout.readline().startswith("epoch ")
    assert RunDirectory("run").is_held() is True
    run.kill()
    run.communicate(timeout=60)
    assert RunDirectory("run").is_held() is False
    _, said = watching.communicate(timeout=60)
    assert watching.returncode == 1 and "the process that trained is gone" in said and "--resume run" in said


def test_it_waits_for_a_run_to_begin(here):
    watching = subprocess.Popen(WATCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout.readline() == "waiting for a run at run; Ctrl-C ends the waiting\n"
    nnjit("run", *SMALL, "--output", "run")
    said, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and len(epochs_in(said)) == 2 and "run: finished" in said


def test_a_process_on_another_machine_is_not_called_gone(trained, here):
    shutil.copytree(trained, "run")
    Path("run/state.json").write_text(json.dumps({"state": "running", "host": "elsewhere", "epochs": 2}))
    assert RunDirectory("run").is_held() is None


# -- the log -----------------------------------------------------------------------------------------------------------

RECORD = st.builds(
    lambda epoch, step: {"epoch": epoch, "step": step, "seconds": 1.5}, st.integers(1, 99), st.integers(1)
)
LINE = st.one_of(RECORD.map(json.dumps), st.sampled_from(["", "{", "[1]", '{"epoch": 1}', '"text"', "\u00e9", "1"]))


@settings(deadline=None)
@given(st.lists(LINE), st.lists(st.integers(0, 400)), st.randoms())
def test_a_log_is_read_as_it_grows(lines, cuts, random):
    """Written in pieces that end anywhere, it gives the records of the whole, each once."""
    text = "".join(f"{line}\n" for line in lines).encode()
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    with tempfile.TemporaryDirectory() as folder:
        path, found = Path(folder, "log.jsonl"), []
        log = watch.LogFile(path)
        assert log.more() == ([], False)
        for first, last in pairwise(places):
            with open(path, "ab") as file:
                file.write(text[first:last])
            records, replaced = log.more()
            found += records
            assert not replaced
        assert found == [json.loads(line) for line in lines if line.startswith('{"epoch"') and '"step"' in line]
        Path(folder, "new").write_bytes(text)
        os.replace(Path(folder, "new"), path)
        assert log.more() == (found, True) or not text


# -- paths that are no run ---------------------------------------------------------------------------------------------


def test_paths_that_are_no_run(trained, here):
    os.mkdir("runs")
    shutil.copytree(trained, "runs/digits-1")
    os.makedirs("other/deep")
    Path("table.csv").write_text("a,b\n")
    for path, said in (
        ("runs", "runs: not a run directory (it lacks config.toml); it holds the run runs/digits-1"),
        ("other", "other: not a run directory (it lacks config.toml)"),
        ("runs/digist-1", "runs/digist-1: there is no such run; did you mean runs/digits-1?"),
        ("table.csv", "table.csv: a file, but a run directory was expected"),
    ):
        assert nnjit("watch", path, status=1) == f"nnjit: {said}\n"
    assert "it follows one run, got 2" in nnjit("watch", "runs/digits-1", "other", status=2)
    assert "Missing argument" in nnjit("watch", status=2)
    os.mkdir("many")
    Path("many/many.toml").touch()
    shutil.move("runs/digits-1", "many/seed-1")
    assert "watch one of them, such as many/seed-1" in nnjit("watch", "many", status=2)
