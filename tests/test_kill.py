"""kill -9 at any moment: the run directory stays readable, and a resumed run ends with the bits of an unbroken one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nnjit
import pytest
from nnjit.errors import CheckpointError, RunExists
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

EPOCHS, STEPS = 5, 60  # steps of kill_runner.CONFIG
SAVE = ["write", "fsync", "replace", "fsync"]  # the last fsync is the folder's
STAGES = {  # moments of a checkpoint: which of the four calls, and when
    "before write": (0, "before"),
    "half written": (0, "half"),
    "between write and fsync": (0, "after"),
    "between fsync and rename": (1, "after"),
    "after rename": (2, "after"),
}
CREATION = {  # indices in the trace of a run: the first checkpoint, then the hidden directory gets its name
    "first checkpoint half written": (0, "half"),
    "before the directory's rename": (4, "before"),
    "after the directory's rename": (4, "after"),
}


@pytest.fixture(scope="module")
def process():
    """Return a function that runs a job of kill_runner in another process and returns the exit status."""
    runner = [sys.executable, str(Path(__file__).with_name("kill_runner.py"))]
    with subprocess.Popen(runner, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def ask(path, **job):
            server.stdin.write(json.dumps({"path": str(path), **job}, default=str) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture(scope="module")
def whole(process, tmp_path_factory):
    """Make the run without a break; return it, and its writes, fsyncs and renames in order."""
    folder = tmp_path_factory.mktemp("whole")
    assert process(folder / "run", trace=folder / "trace") == 0
    return folder / "run", (folder / "trace").read_text().splitlines()


def saves(trace, name):
    """Return the indices in the trace at which the checkpoints of this name begin."""
    return [i - 2 for i, event in enumerate(trace) if event == f"replace {name}"]


def kept(path):
    """Return all that a resumed run may depend on and a user may read, except times."""
    found = {}
    for name in ("last.safetensors", "best.safetensors"):
        tensors, about = checkpoint.read(path / name)
        about["progress"].pop("seconds")
        found[name] = {key: (a.dtype.str, a.shape, a.tobytes()) for key, a in tensors.items()}, about
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    found["log"] = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return found | {name: (path / name).read_text() for name in ("config.toml", "program.py", "summary.txt")}


def readable(path):
    """Do what a user or a program may do with a run at any moment; return the records of its log."""
    directory = RunDirectory.open(path)
    for file in path.glob("*.safetensors"):
        nnjit.load(file)
    text = (path / "log.jsonl").read_text()
    records = directory.records()
    assert len(records) >= text.count("\n"), "a line that was ended is whole"
    return records


def assert_resumes(process, path, whole):
    assert process(path, resume=True) == 0
    assert kept(path) == kept(whole[0])


def test_the_order_of_a_checkpoint(whole):
    """Data is on disk before the name, the name before the next file: a power failure would show it, a kill cannot."""
    path, trace = whole
    last, best = (saves(trace, f"{name}.safetensors") for name in ("last", "best"))
    assert len(last) == 1 + 2 * EPOCHS and len(best) >= 4
    events = [event.partition(" ")[0] for event in trace]
    assert events[:6] == [*SAVE, "rename", "fsync"]
    states = saves(trace, "state.json")
    assert len(states) == 2, "at the beginning and at the end"
    assert events[6:] == SAVE * (len(events[6:]) // 4) and len(events) == 4 * len(last + best + states) + 2
    assert all(i + 4 in last for i in best), "the best is written before the last"
    assert set(best) <= {i - 4 for i in last[2::2]}, "at the end of an epoch"
    final = checkpoint.read(path / "last.safetensors")[1]["progress"]
    assert (final["epoch"], final["step"], final["done"]) == (EPOCHS, STEPS, 0)


@pytest.mark.parametrize("step", range(3, STEPS, 6))
def test_killed_in_the_middle_of_training(process, whole, tmp_path, step):
    path = tmp_path / "run"
    assert process(path, step=step) == -9
    assert len([record for record in readable(path) if not record.get("epoch_end")]) == step
    progress = checkpoint.read(path / "last.safetensors")[1]["progress"]
    assert progress["step"] == step - 1, "the checkpoint after the step before"
    assert progress["epoch"] == (step - 1) // (STEPS // EPOCHS)
    assert_resumes(process, path, whole)


def test_killed_before_the_first_checkpoint_by_time(process, whole, tmp_path):
    path = tmp_path / "run"
    assert process(path, step=STEPS // 2, keep=1e9) == -9
    readable(path)
    assert checkpoint.read(path / "last.safetensors")[1]["progress"]["step"] == 0
    assert not (path / "best.safetensors").exists()
    assert_resumes(process, path, whole)


def test_the_times_of_checkpoints_leave_no_trace(process, whole, tmp_path):
    """If only the end writes checkpoints, the best included, the files are those of a run with many checkpoints."""
    assert process(tmp_path / "run", keep=1e9, trace=tmp_path / "trace") == 0
    trace = (tmp_path / "trace").read_text().splitlines()
    names = [event.split()[1] for event in trace if event.startswith("replace")]
    assert names == [
        "last.safetensors", "state.json", "best.safetensors", "last.safetensors", "state.json"
    ]  # fmt: skip
    assert kept(tmp_path / "run") == kept(whole[0])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name, within", [("last", True), ("last", False), ("best", False)])
def test_killed_in_a_checkpoint(process, whole, tmp_path, name, within, stage):
    """Kill in epochs 1 to 3, within the epoch or at its end; the first checkpoint is of the untrained network."""
    path, trace = tmp_path / "run", whole[1]
    number, when = STAGES[stage]
    epoch = list(STAGES).index(stage) % 3 + 1
    name, index = f"{name}.safetensors", 2 * epoch - within if name == "last" else epoch - 1
    assert process(path, moment=(saves(trace, name)[index] + number, when)) == -9
    readable(path)
    saved = checkpoint.read(path / name)[1]["progress"] if (path / name).exists() else None
    if stage == "after rename":
        assert (saved["epoch"], saved["done"]) == ((epoch - 1, 1) if within else (epoch, 0))
        assert not list(path.glob(".*"))
    else:
        assert saved is None or (saved["epoch"] < epoch and saved["done"] == (name[0] == "l" and not within))
        left = list(path.glob(f".{name}.*.tmp"))
        assert len(left) == 1, "it was not killed where it should be"
        assert (left[0].stat().st_size > 0) == (stage != "before write")
    assert_resumes(process, path, whole)


@pytest.mark.parametrize("stage", CREATION)
def test_killed_while_the_directory_is_made(process, whole, tmp_path, stage):
    """The directory is there and whole, or absent; then the same command starts again next to the remains."""
    path = tmp_path / "run"
    assert process(path, moment=CREATION[stage]) == -9
    if stage.startswith("after"):
        readable(path)
        assert_resumes(process, path, whole)
    else:
        assert not path.exists() and len(os.listdir(tmp_path)) == 1
        assert process(path) == 0
        assert kept(path) == kept(whole[0])


@pytest.mark.parametrize("moment", [(0, "half"), (3, "after"), (4, "before")])
def test_killed_while_an_existing_directory_is_filled(process, tmp_path, moment):
    """The directory is a whole run or refused as not a run."""
    path = tmp_path / "run"
    path.mkdir()
    assert process(path, moment=moment) == -9
    if moment[0] == 4:
        readable(path)
        return
    with pytest.raises(CheckpointError, match=r"lacks config\.toml"):
        RunDirectory.open(path)
    with pytest.raises(RunExists, match=r"choose another directory$"):
        RunDirectory(path).refuse_existing()


@pytest.mark.parametrize("number", [2, 6, 10], ids=["log", "config", "checkpoint"])
def test_a_resume_that_is_killed_is_resumed(process, whole, tmp_path, number):
    """Kill before the rename of each file that it writes: the log cut off, the config, the first checkpoint."""
    path = tmp_path / "run"
    assert process(path, step=STEPS // 2) == -9
    assert process(path, resume=True, moment=(number, "before")) == -9
    readable(path)
    assert_resumes(process, path, whole)


def test_leftovers_do_not_disturb(process, whole, tmp_path):
    """Hidden temporary files of former kills, and a log with an incomplete last line."""
    path = tmp_path / "run"
    assert process(path, step=STEPS // 2) == -9
    for name in ("last.safetensors", "best.safetensors", "log.jsonl", "config.toml"):
        (path / f".{name}.0123abcd.tmp").write_bytes(b"\x00 half a file")
    shutil.copytree(path, tmp_path / ".run.0123abcd.tmp")
    before = len(readable(path))
    with open(path / "log.jsonl", "a") as file:
        file.write('{"epoch": 3, "st')
    assert len(readable(path)) == before
    assert_resumes(process, path, whole)


def test_how_many_steps_are_taken_at_once_leaves_no_trace(process, whole, tmp_path):
    """The number of steps in one call depends on the machine; here each step is a call."""
    assert process(tmp_path / "run", step=10**9) == 0
    assert kept(tmp_path / "run") == kept(whole[0])
