"""`nnjit compile`: what it writes is all that a run needs, from a copy that cannot be written."""

import os
import shutil
import subprocess
import sys

from command_line import SCRIPT, nnjit
from nnjit.launch import fill

CONFIG = """
[model]
layers = ["flatten", "dense(10)"]

[training]
epochs = 6
batch_size = 50
"""
# Short epochs run several to a compiled call, as in trainings of many epochs.
MANY = "from nnjit.training import orders; orders.MANY = 0\n"
# A run, and an application of its network, in a process whose cache cannot be written, also by the superuser.
LATER = """
import sys, warnings
warnings.simplefilter("error")
from numba.core.caching import IndexDataCacheFile
from nnjit.cli.main import nnjit
from nnjit.kernels.compiler import cache
def refuse(self, *arguments):
    raise PermissionError(13, "Permission denied")
IndexDataCacheFile.save = refuse
for arguments in (["run", sys.argv[1], "--output", "run"], ["evaluate", "run"]):
    try:
        nnjit.main(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
    print("compiled", cache.compiled)
"""


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


def test_a_copy_of_the_cache_is_all_that_a_run_needs(tmp_path):
    config, image = tmp_path / "small.toml", tmp_path / "image"
    config.write_text(CONFIG)
    environment = os.environ | {"NNJIT_CACHE_DIR": str(tmp_path / "built"), "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", MANY + SCRIPT[-1], "compile", str(config)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    made = files(tmp_path / "built")
    count = sum(name.endswith(".nbc") for name in made)
    lines = dict(line.split(maxsplit=1) for line in said.stdout.splitlines() if "  " in line)
    assert lines["written"].startswith(f"{count} functions") and lines["written"].endswith("(0 were there)")
    assert lines["to"] == str(tmp_path / "built") and lines["network"] == "650 parameters in float32, batches of 50"
    assert {"nnjit", "python", "numba", "system", "processor"} <= lines.keys() and "not stored" not in said.stdout
    assert not (tmp_path / "runs").exists() and said.stderr == ""
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"0 functions, 0.0 MB ({count} were there)" in again.stdout and files(tmp_path / "built") == made

    shutil.copytree(tmp_path / "built", image)
    (image / "compiled").chmod(0o500)
    try:
        command = [sys.executable, "-c", MANY + LATER, str(config)]
        done = subprocess.run(
            command, env=environment | {"NNJIT_CACHE_DIR": str(image)}, capture_output=True, text=True, cwd=tmp_path
        )
    finally:
        (image / "compiled").chmod(0o700)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert done.stdout.count("compiled 0") == 2
    assert files(image).keys() == made.keys()


UNSTORED = """
import ctypes, math
from numba import prange
from nnjit.layers import Layer, kernel
from nnjit.registry import register

root = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(math.sqrt)

@register("doubled_for_test_compile", force=True)
class Doubled(Layer):
    @kernel(form="matrix")
    def forward(x, y):
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = root(4.0) * x[i, j]

    @kernel(form="matrix")
    def backward_input(dy, dx):
        for i in prange(dy.shape[0]):
            for j in range(dy.shape[1]):
                dx[i, j] = root(4.0) * dy[i, j]
"""


def test_code_that_cannot_be_stored_is_named(tmp_path):
    (tmp_path / "doubled.py").write_text(UNSTORED)
    said = nnjit(
        "compile", "--plugin", tmp_path / "doubled.py", "--layers", "flatten doubled_for_test_compile dense(10)"
    )
    assert "not stored: a kernel that depends on an object without a textual form" in said


def test_requests_that_it_refuses(tmp_path, monkeypatch):
    assert "code for a GPU is not kept on disk" in nnjit("compile", "--set", "run.device=cuda", status=2)
    assert "absent.toml" in nnjit("compile", tmp_path / "absent.toml", status=2)
    assert "did you mean dense?" in nnjit("compile", "--layers", "flatten desne(10)", status=2)
    monkeypatch.setenv("NNJIT_CACHE_DIR", str(tmp_path / "full"))
    monkeypatch.setattr(fill, "writable", lambda: False)
    assert f"{tmp_path / 'full'} cannot be written" in nnjit("compile", status=1)
