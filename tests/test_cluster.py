"""`nnjit run --scheduler` on a Dask cluster of this machine, against runs one after the other."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest
from command_line import SCRIPT, all_wait, nnjit, waiting
from nnjit import load
from nnjit.launch import cluster as of_dask
from nnjit.launch import remote

distributed = pytest.importorskip("distributed")
LAYERS = ["--layers", "dense(3)", "--epochs", "2"]
LOCAL = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard"]
PATIENCE = 180  # seconds in which processes of a busy machine do what they shall


def until(fact, process=None):
    """Wait until fact() is true, while a process runs."""
    end = time.monotonic() + PATIENCE
    while not (found := fact()):
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.05)
    return found


class Dask:
    """Processes of `dask scheduler` and `dask worker`, which listen to this machine only."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start(self, *arguments, **environment):
        with open(self.folder / f"{len(self.processes)}.log", "wb") as log:
            command = [sys.executable, "-m", "dask", *arguments, *LOCAL]
            self.processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment, cwd=self.folder)
            )
        return self.processes[-1]

    def scheduler(self):
        """Start a scheduler and return its address."""
        file = self.folder / "scheduler.json"
        process = self.start("scheduler", "--port", "0", "--scheduler-file", str(file))
        until(file.is_file, process)
        return until(lambda: json.loads(file.read_text() or "{}").get("address"), process)

    def worker(self, address, count=1, **environment):
        """Start workers of two threads each, and wait until the scheduler knows them."""
        process = self.start("worker", address, "--nworkers", str(count), "--nthreads", "2", **environment)
        with distributed.Client(address, set_as_default=False) as client:
            until(lambda: len(client.nthreads()) >= count, process)

    def end(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return the address of a scheduler with two workers."""
    dask = Dask(tmp_path_factory.mktemp("dask"))
    try:
        address = dask.scheduler()
        dask.worker(address, 2)
        yield address
    finally:
        dask.end()


@pytest.fixture
def table(here):
    """Make a table of three classes, 50 rows each, and return the option that names it."""
    rng = np.random.default_rng(0)
    rows = [(*rng.normal(k % 3, 0.5, 2), "abc"[k % 3]) for k in range(150)]
    Path("t.csv").write_text("u,v,kind\n" + "".join(f"{u:.4f},{v:.4f},{kind}\n" for u, v, kind in rows))
    return ["--data", "csv(path='t.csv', label='kind', test=0.2)"]


def same(a, b, seeds):
    """Check that two directories of runs hold the same files, table and parameters."""
    files = [sorted(str(file.relative_to(path)) for file in Path(path).rglob("*")) for path in (a, b)]
    assert files[0] == files[1]
    for file in ("results.csv", "results.json", "many.toml"):
        assert Path(a, file).read_text() == Path(b, file).read_text()
    for seed in seeds:
        one, other = (load(f"{path}/seed-{seed}/last.safetensors") for path in (a, b))
        np.testing.assert_array_equal(one.theta, other.theta)


PLUGIN = """
import os, pathlib, signal, sys
from nnjit.data.csv_file import CSV
from nnjit.registry import datasets

class Killing(CSV):
    def load(self, *arguments, **options):
        if "nnjit.launch.remote" in " ".join(sys.orig_argv) and len(os.listdir("MARKS")) < TIMES:
            pathlib.Path("MARKS", str(os.getpid())).touch()
            os.kill(os.WHOM(), signal.SIGKILL)
            signal.pause()
        return super().load(*arguments, **options)

datasets.register("killing_WHOM")(Killing)
"""


def killing(here, table, whom, times):
    """Return the options of a plug-in that kills what trains, as often as it is said."""
    text = PLUGIN.replace("WHOM", whom).replace("TIMES", str(times)).replace("MARKS", str(here / "marks"))
    Path(f"{whom}.py").write_text(text)
    return ["--data", table[1].replace("csv(", f"killing_{whom}("), "--plugin", f"{whom}.py"]


def test_runs_on_a_cluster_give_the_same_table(table, here, cluster):
    """A worker is killed, and its run is done again."""
    os.mkdir("marks")
    options = [*killing(here, table, "getppid", 1), *LAYERS, "--seeds", "0,1"]
    nnjit("run", *options, "--output", "whole")
    said = nnjit("run", *options, "--scheduler", cluster, "--output", "far")
    assert "far: 2 runs" in said and "(2 of 2)" in said and "mean of 2" in said
    assert len(os.listdir("marks")) >= 1
    same("whole", "far", (0, 1))


def test_a_run_whose_process_is_killed_again_and_again_is_named(table, here, cluster, monkeypatch):
    assert of_dask.LOST == 3
    monkeypatch.setattr(of_dask, "LOST", 2)
    os.mkdir("marks")
    options = [*killing(here, table, "getpid", 99), *LAYERS, "--seeds", "7,8"]
    said = nnjit("run", *options, "--scheduler", cluster, "--output", "far", status=1)
    assert re.search(r"seed-[78] was lost 2 times.*signal 9 ended its process.*memory", said)
    assert len(os.listdir("marks")) >= 2 and not list(Path().glob("far/.*"))


def test_ctrl_c_stops_the_runs_of_this_command_only(table, here, cluster):
    """Each saves a checkpoint, and the same command with --resume goes on to the same table."""
    plugin, metric = waiting(here)
    more = [*table, "--layers", "dense(3)", "--seeds", "0,1", "--epochs", 6, *plugin, *metric]
    nnjit("run", *more, "--output", "whole")
    Path("WAIT").touch()
    with distributed.Client(cluster, set_as_default=False) as client:
        event = distributed.Event("go on", client)
        other = client.submit(methodcaller("wait"), event, pure=False)
        command = [*SCRIPT, *map(str, ("run", *more, "--scheduler", cluster, "--output", "m"))]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: all_wait(here, 2), process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + signal.SIGINT and "SIGINT stopped seed-0 and seed-1" in said
        assert f"continue with nnjit run --resume m --scheduler {cluster}" in said
        assert other.status == "pending" and not list(Path().glob("m/.*"))
        event.set()
        assert other.result(PATIENCE)
    Path("WAIT").unlink()
    nnjit("run", "--resume", "m", "--scheduler", cluster, *plugin)
    same("whole", "m", (0, 1))


@pytest.mark.parametrize(
    "name, patched, said",
    [
        ("versions", lambda *more: {"nnjit": "0.0.1"}, "has nnjit 0.1.0, the command 0.0.1"),
        ("versions", lambda *more: {"numba": "0.1"}, r"has numba [\d.]+, the command 0.1"),
        ("versions", lambda *more: {"nnjit-tropical": "2.1"}, "has no nnjit-tropical (2.1)"),
        ("digest", lambda plugin: "0123", "has another source of the plug-in"),
        ("digest", None, "does not have the plug-in"),
    ],
)
def test_workers_that_have_something_else(table, here, cluster, monkeypatch, name, patched, said):
    plugin = Path("mine.py")
    plugin.write_text("")
    if patched is None:  # the worker does not see the file
        patched = lambda file, found=remote.digest: [found(file), plugin.unlink()][0]  # noqa: E731
    monkeypatch.setattr(remote, name, patched)
    options = ["--seeds", "0,1", "--scheduler", cluster, "--plugin", plugin]
    output = nnjit("run", *table, *LAYERS, *options, status=2)
    assert f"the worker {cluster.rpartition(':')[0]}" in output and "(and 1 other)" in output
    assert re.search(said if "\\" in said else re.escape(said), output)
    assert set(os.listdir()) <= {"t.csv", "mine.py", "__pycache__"}


def test_workers_that_do_not_see_the_directory_or_the_data(table, here, cluster, monkeypatch):
    options = [*table, *LAYERS, "--seeds", "0,1", "--scheduler", cluster, "--output", "far"]
    with monkeypatch.context() as patch:
        patch.setattr(of_dask.Cluster, "__enter__", lambda self: self)
        said = nnjit("run", *options, status=2)
        assert f"does not see the directory {here / 'far'}" in said
    needed = of_dask.Cluster._needed
    nowhere = str(here / "nowhere.csv")
    monkeypatch.setattr(of_dask.Cluster, "_needed", lambda *given: needed(*given)._replace(files=(nowhere,)))
    assert f"does not see the data {nowhere}" in nnjit("run", *options, status=2)
    assert os.listdir() == ["t.csv"]


def test_what_is_no_scheduler(table, here, cluster, monkeypatch):
    options = [*table, *LAYERS, "--seeds", "0,1", "--scheduler"]
    for address in ("here", "127.0.0.1", ""):
        assert "expected the address of a Dask scheduler" in nnjit("run", *options, address, status=2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr("nnjit.launch.cluster.CONNECT", 1.0)
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        said = nnjit("run", *options, address, status=2)
        assert address in said and "no scheduler of Dask answers there within 1 s" in said
    with distributed.Client(cluster, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
    assert "a worker of Dask, no scheduler" in nnjit("run", *options, worker, status=2)
    assert "--folds or --seeds" in nnjit("run", *table, "--scheduler", cluster, status=2)
    assert "give one of them" in nnjit("run", *options, cluster, "--workers", 2, status=2)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert 'pip install "nnjit[dask]"' in nnjit("run", *options, cluster, status=2)
    assert os.listdir() == ["t.csv"]


def test_a_scheduler_without_workers_and_a_worker_without_nnjit(table, here, tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("dask"))
    try:
        address = dask.scheduler()
        options = [*table, *LAYERS, "--seeds", "0,1", "--scheduler", address]
        assert f"it has no workers; start some with dask worker {address}" in nnjit("run", *options, status=2)
        (dask.folder / "nnjit").mkdir()
        (dask.folder / "nnjit" / "__init__.py").write_text('import sys\nsys.modules["nnjit.launch"] = None\n')
        dask.worker(address, PYTHONPATH=str(dask.folder))
        said = nnjit("run", *options, status=2)
        assert re.search(r"worker tcp://127.0.0.1:\d+ has no nnjit 0.1.0", said)
        assert os.listdir() == ["t.csv"]
    finally:
        dask.end()


def test_the_version_is_that_of_the_code_that_runs(monkeypatch):
    """An installed nnjit may be another one than that on the path."""
    monkeypatch.setattr(remote, "__version__", "9.9")
    assert remote.versions("nnjit")["nnjit"] == "9.9"
    needs = remote.Needs({"nnjit": "0.1.0"}, {}, "", "")
    assert remote.missing(needs) == "has nnjit 9.9, the command 0.1.0"


def test_a_digest_is_that_of_the_whole_package(tmp_path, monkeypatch):
    """The hash changes with any file of the package, and with nothing else."""
    (tmp_path / "petals").mkdir()
    (tmp_path / "petals" / "__init__.py").write_text("")
    (tmp_path / "petals" / "layer.py").write_text("x = 1\n")
    (tmp_path / "single.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [remote.digest(name) for name in ("petals.layer", "petals", "single", str(tmp_path / "single.py"))]
    assert found[0] == found[1] and found[2] == found[3] != found[0] and all(found)
    (tmp_path / "petals" / "layer.py").write_text("x = 2\n")
    assert remote.digest("petals") != found[0]
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert remote.digest("__main__") == ""
    assert remote.digest("petals_of_another") == remote.digest(str(tmp_path / "missing.py")) == ""


def test_the_commands_of_the_page(here, cluster):
    """docs/scale.md, from top to bottom: each command runs, with the scheduler of this test."""
    root = Path(__file__).parents[1]
    text = (root / "docs" / "scale.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    commands = [line for language, content in blocks if language == "sh" for line in content.splitlines()]
    started = [shlex.split(line) for _, content in blocks for line in content.splitlines() if line.startswith("dask ")]
    assert {command[1] for command in started} == {"scheduler", "worker"}
    assert all({"--host", "--dashboard-address"} <= set(command) for command in started)
    figures = []
    for line in commands:
        program, *arguments = shlex.split(line.replace("tcp://127.0.0.1:8786", cluster).replace("0..3", "0..1"))
        if program == "nnjit":
            nnjit(*arguments)
        elif arguments[0].startswith("examples/"):
            said = python(str(root / arguments[0]), *arguments[1:])
            figures.append(re.findall(r"turn \d+: ([\d.]+) steps", said))
    assert len(figures) == 2 and figures[0] == figures[1] and len(figures[0]) == 2
    for language, content in blocks:
        if language == "python":
            exec(compile(content, "docs/scale.md", "exec"), {})
    same("seeds", "far", range(2))
    assert text.count("\n## ") == 4


def python(*arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=10 * PATIENCE)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
