"""`mpiexec -n 4 nnjit run`: the curve of one process, one sentence for what cannot be, and an end of all ranks."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import mpi_runner
import numpy as np
import pytest
from command_line import UNDRAWN, nnjit, records
from nnjit.launch import launch
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory
from nnjit.training import shared_arrays
from nnjit.training.config import resolve

ROOT = Path(__file__).resolve().parent.parent
needs_mpi = pytest.mark.skipif(mpi_runner.launcher() is None, reason="needs mpiexec and mpi4py")

# A narrow network whose batch has seven blocks of samples, with a mask that is keyed by the places of a batch.
NARROW = """
[data]
name = "digits"
[model]
layers = ["flatten", "dense(32)", "relu", "dropout(0.2)", "dense(10)"]
[training]
epochs = 3
batch_size = 400
"""
# Convolutions, whose gradients are summed in another order; all that is decided by numbers of the whole batch.
WIDE = """
[data]
name = "digits"
[model]
layers = ["conv2d(8, 3)", "relu", "maxpool(2)", "flatten", "dense(10)"]
[training]
epochs = 6
batch_size = 99
optimizer = "adamw(lr=3e-3, weight_decay=0.1)"
schedule = "cosine"
clip = "norm(1.0)"
patience = 1
min_delta = 0.3
metrics = ["accuracy", "f1"]
"""
# Batch normalisation, behind layers without biases: those have gradients of 0 but for rounding, which adam enlarges.
NORMALISED = """
[data]
name = "digits"
[model]
layers = ["conv2d(8, 3, bias=False)", "batchnorm", "relu", "flatten", "dense(8, bias=False)", "batchnorm", "dense(10)"]
[training]
epochs = 2
batch_size = 100
"""
DIFFERS = ("seconds",)


def log(path):
    """Return the records of a run without times."""
    return [{name: value for name, value in record.items() if name not in DIFFERS} for record in records(path)]


def numbers(value):
    """Yield all numbers of records, with the names on the way."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from ((f"{name}.{path}", number) for path, number in numbers(part))
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float):
        yield "", float(value)


@pytest.fixture
def config(here):
    def write(text):
        (here / "config.toml").write_text(text)
        return here / "config.toml"

    return write


GUIDE = ROOT / "docs" / "mpi.md"
needs_guide = pytest.mark.skipif(not GUIDE.is_file(), reason="an installation without the checkout's documents")


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """Run the commands of docs/mpi.md; return their folder, and what each has printed."""
    here, printed = tmp_path_factory.mktemp("guide"), {}
    text = GUIDE.read_text(encoding="utf-8")
    (config,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (here / "config.toml").write_text(config)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    with contextlib.chdir(here):
        for line in commands:
            words = shlex.split(line)
            if words[:2] == ["mpiexec", "-n"] and words[3] == "nnjit":
                status, printed[line], err = mpi_runner.run(int(words[2]), *words[4:], cwd=here)
                assert (status, err) == (0, ""), line
            elif words[:2] == ["mpiexec", "-n"]:
                script = [sys.executable, str(ROOT / words[4])]
                status, out, err = mpi_runner.run(2, "--steps", 2, "--only", "MLP", cwd=here, script=script)
                assert (status, err) == (0, "") and "| MLP, 128 |" in out, line
                printed[line] = out
            elif words[0] == "nnjit":
                printed[line] = nnjit(*words[1:])
            else:
                assert words[0] in ("pip", "export"), line
                printed[line] = ""
    return here, printed


@needs_mpi
@needs_guide
def test_the_commands_of_the_guide(guide):
    here, printed = guide
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["mpi"] == ["mpi4py>=4"]
    assert f"export {' '.join(f'{name}={value}' for name, value in mpi_runner.LOOPBACK.items())}" in printed
    assert log(here / "together")[-1]["epoch"] == 7


@needs_mpi
@needs_guide
def test_shares_of_whole_blocks_have_the_bits_of_one_process(guide, here, config):
    """Four ranks begin a run, one process and two ranks continue it: the log is that of one process."""
    folder, printed = guide
    assert (folder / "config.toml").read_text().split() == NARROW.split()
    nnjit("run", config(NARROW), "--epochs", 7, "--output", "one")  # 1437 samples: the last batch has 237
    assert log(folder / "together") == log(here / "one")
    begun, continued = (out for line, out in printed.items() if "together" in line and "mpiexec" in line)
    for count, out in ((4, begun), (2, continued)):
        assert f"{count} processes divide each batch of 400 samples" in out and "the bits" in out
    assert begun.count("epoch 3/3") == 1  # rank 0 alone prints


def assert_close(one, many):
    """Check that the records of two runs are equal up to rounding, which training enlarges."""
    assert len(one) == len(many)
    for (name, a), (same, b) in zip(numbers(one), numbers(many), strict=True):
        assert name == same
        assert a == pytest.approx(b, rel=2e-3, abs=2e-3), name


@needs_mpi
def test_other_shares_have_the_curve_of_one_process_up_to_rounding(here, config):
    given = config(WIDE)
    nnjit("run", given, "--output", "one")
    status, out, err = mpi_runner.run(2, "run", given, "--output", "many", cwd=here)
    assert (status, err) == (0, "") and "differ by rounding" in out
    one, many = log(here / "one"), log(here / "many")
    assert one[-1]["stopped"] == many[-1]["stopped"]  # patience ended both
    assert_close(one, many)


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """Make a run of two ranks that normalise their shares; return its directory and what it has printed."""
    here = tmp_path_factory.mktemp("shares")
    (here / "config.toml").write_text(NORMALISED)
    status, out, err = mpi_runner.run(2, "run", "config.toml", "--output", "run", cwd=here)
    assert (status, err) == (0, "")
    return here / "run", out


@needs_mpi
def test_batch_normalisation_sees_the_whole_batch_if_the_config_says_so(here, config, shares):
    given = config(NORMALISED)
    nnjit("run", given, "--output", "one")
    whole = ("--set", "run.global_statistics=true")
    status, out, err = mpi_runner.run(3, "run", given, *whole, "--output", "many", cwd=here)
    assert (status, err) == (0, "") and "normalise all of it in batchnorm" in out
    assert_close(log(here / "one"), log(here / "many"))
    path, out = shares
    assert "statistics are those of 50 samples" in out.replace("\n", " ")
    with pytest.raises(AssertionError):
        assert_close(log(here / "one"), log(path))


@needs_mpi
def test_statistics_of_shares_go_on_within_an_epoch(here, config, shares):
    """A checkpoint within an epoch has those of each rank; another number of ranks goes on with their mean."""
    given = config(NORMALISED)
    stopping = (
        "import signal; from nnjit.kernels.counters import STEP; from nnjit.training import shard, trainer\n"
        "from nnjit.cli.main import main\n"
        "steps, trainer.PAUSE = shard.Shard.steps, 0\n"
        "def stop(self, order):\n"
        "    steps(self, order)\n"
        "    if self.ranks.rank == 0 and self.state.counters[STEP] == 20: signal.raise_signal(signal.SIGTERM)\n"
        "shard.Shard.steps = stop\n"
        "main()"
    )
    script = [sys.executable, "-c", stopping]
    status, _, err = mpi_runner.run(2, "run", given, "--output", "run", cwd=here, script=script)
    assert status == 128 + signal.SIGTERM and "after step 20" in err
    tensors, about = checkpoint.read(here / "run" / "last.safetensors")
    rows = tensors["ranks:statistics"]
    assert len(rows) == 2 and not np.array_equal(*rows) and about["progress"]["done"] == 5
    shutil.copytree(here / "run", here / "other")
    resolved = resolve(tomllib.loads(given.read_text()), "")
    network = launch.prepare(resolved, checkpoint=(tensors, about["progress"])).trainer.network
    own = np.concatenate([array.ravel() for name, array in network.buffers.items() if name.startswith("batchnorm")])
    np.testing.assert_allclose(own, rows.mean(axis=0), rtol=1e-6)
    assert mpi_runner.run(2, "run", "--resume", "run", cwd=here)[::2] == (0, "")
    (found, _), (whole, _) = (checkpoint.read(path / "last.safetensors") for path in (here / "run", shares[0]))
    assert found.keys() == whole.keys() and "ranks:statistics" not in found
    for name, array in whole.items():
        np.testing.assert_array_equal(found[name], array)
    assert mpi_runner.run(3, "run", "--resume", "other", cwd=here)[::2] == (0, "")


LONG = ("--epochs", "100000", "--set", "training.patience=100000")


def begun(path):
    """Return a fact: the run at a path has logged some steps."""
    return lambda: (path / "log.jsonl").is_file() and (path / "log.jsonl").read_text().count("\n") > 20


@needs_mpi
def test_a_killed_rank_ends_the_job_and_leaves_a_run_to_resume(here, config):
    given = config(NARROW)
    with mpi_runner.start(2, "run", given, *LONG, "--output", "run", cwd=here) as process:
        victim = mpi_runner.rank_of(process, 1)
        mpi_runner.wait_for(process, begun(here / "run"))
        os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode or not mpi_runner.tells_of_kills()
    _, about = checkpoint.read(here / "run" / "last.safetensors")
    epochs = str(about["progress"]["epoch"] + 3)
    # The resumed ranks take their rows batch by batch, as from data that does not fit into memory.
    rows = "from nnjit.training import trainer; trainer.IN_MEMORY = 0; from nnjit.cli.main import main; main()"
    script = [sys.executable, "-c", rows]
    status, _, err = mpi_runner.run(2, "run", "--resume", "run", "--epochs", epochs, cwd=here, script=script)
    assert (status, err) == (0, "")
    nnjit("run", given, "--epochs", epochs, "--output", "whole")
    assert log(here / "run")[-1]["loss"] == log(here / "whole")[-1]["loss"]


@needs_mpi
def test_a_signal_to_one_rank_ends_all_after_the_step(here, config):
    given = config(NARROW)
    with mpi_runner.start(2, "run", given, *LONG, "--output", "run", cwd=here) as process:
        follower = mpi_runner.rank_of(process, 1)
        mpi_runner.wait_for(process, begun(here / "run"))
        os.kill(follower, signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and err.count("SIGTERM stopped the run after step") == 1
    nnjit("run", "--resume", "run", "--epochs", "100000", "--set", "x=1", status=2)
    assert RunDirectory.open(here / "run").state()["state"] == "interrupted"


@needs_mpi
def test_a_rank_that_fails_says_so_and_ends_the_job(here, config):
    broken = (
        "import os; from nnjit.training import shard; from nnjit.cli.main import main\n"
        "steps = shard.Shard.steps\n"
        "def fail(self, order):\n"
        "    if self.ranks.rank == 1: raise OSError('the disk is gone')\n"
        "    steps(self, order)\n"
        "shard.Shard.steps = fail\n"
        "main()"
    )
    script = [sys.executable, "-c", broken]
    status, _, err = mpi_runner.run(2, "run", config(NARROW), "--output", "run", cwd=here, script=script)
    assert status and "rank 1 on" in err and "the disk is gone" in err and "Traceback" not in err


# Ranks that are asked for one thing after the other, the first time with another version of Numba on rank 1.
ASKED = """
import json, os, sys
import numba
from nnjit.cli.main import main

version, found = numba.__version__, []
for number, arguments in enumerate(json.loads(sys.argv.pop())):
    numba.__version__ = "0.1" if number == 0 and os.environ["PMI_RANK"] == "1" else version
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        found.append(end.code)
sys.exit(2 if found == [2] * (number + 1) else 1)
"""
REFUSED = [
    (["run"], "numba 0.1"),
    (["run", "none.toml"], "there is no config none.toml"),
    (["run", "--seeds", "0..3"], "--seeds: 2 processes were started together"),
    (["run", "--batch-size", "1", "--data", "digits"], "training.batch_size: 2 processes divide each batch"),
]


@needs_mpi
def test_what_ranks_cannot_do_is_one_sentence_of_rank_0(here):
    asked = json.dumps([arguments for arguments, _ in REFUSED])
    status, out, err = mpi_runner.run(2, asked, cwd=here, script=[sys.executable, "-c", ASKED])
    assert status == 2 and out == "" and not list(here.iterdir())
    assert [err.count(sentence) for _, sentence in REFUSED] == [1] * len(REFUSED)
    first, second, *_ = err.splitlines()
    assert "rank 1 on" in first and "numba 0.1" in first and "none.toml" in second


@pytest.mark.parametrize(
    "names",
    [
        ("PMI_RANK", "PMI_SIZE"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_processes_that_were_started_together_never_train_alone(here, monkeypatch, names):
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # as if it was not installed
    for name, value in zip(names, ("0", "3"), strict=True):
        monkeypatch.setenv(name, value)
    assert "3 processes were started together" in nnjit("run", status=2)
    monkeypatch.setenv(names[0], "1")
    assert nnjit("run", status=2) == ""  # rank 0 has said it
    assert not list(here.iterdir())


def test_arrays_of_mapped_files_are_sent_as_places_in_them(tmp_path):
    numbers = np.arange(60_000, dtype=">i4").reshape(3, 100, 200)
    (tmp_path / "file").write_bytes(b"header " + numbers.tobytes())
    mapped = np.memmap(tmp_path / "file", ">i4", mode="r", offset=7, shape=numbers.shape)
    for view in (mapped, mapped[1:], np.asarray(mapped)[2], mapped.reshape(300, 200)):
        kind, path, dtype, offset, shape = shared_arrays.in_file(view)
        assert kind == "file" and np.array_equal(np.memmap(path, dtype, "r", offset, shape), view)
    for other in (numbers, mapped[:, ::2], np.array(mapped), mapped + 1):
        assert shared_arrays.in_file(other) is None
    buffer = io.BytesIO()
    pickler = shared_arrays._Pickler(buffer)
    pickler.dump({"mapped": mapped, "in memory": numbers, "twice": numbers, "small": numbers[0, 0]})
    assert [array is numbers for array in pickler.arrays] == [True]
    buffer.seek(0)
    found = shared_arrays._Unpickler(buffer, pickler.arrays).load()
    assert isinstance(found["mapped"], np.memmap) and np.array_equal(found["mapped"], numbers)
    assert found["in memory"] is found["twice"] is numbers and np.array_equal(found["small"], numbers[0, 0])


@needs_mpi
@pytest.mark.skipif(not GUIDE.is_file(), reason="an installation without the checkout's examples")
def test_the_script_for_slurm_starts_a_run_and_continues_it(here, config):
    config(NARROW)
    for name, words in {"srun": [*mpi_runner.launcher(), "-n", "2"], "nnjit": UNDRAWN}.items():
        (here / name).write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
        (here / name).chmod(0o755)
    given = {**os.environ, **mpi_runner.LOOPBACK, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    for _ in range(2):
        command = ["bash", str(ROOT / "examples" / "slurm.sh"), "config.toml"]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=mpi_runner.LIMIT, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert "runs/config-slurm/last.safetensors (epoch 3)" in done.stdout
