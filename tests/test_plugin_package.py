"""Layers from outside: a plug-in that is an installed package, and one that is a single file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import command_line
import pytest
from command_line import records
from nnjit import registry

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MARK = "-- the next command"
# Commands one after the other, in a process that draws no pictures.
SEVERAL = f"""
import json, sys
from nnjit.cli.main import nnjit
from nnjit.training import run_and_draw
run_and_draw._draw = lambda *_: None
for arguments in json.loads(sys.argv[1]):
    try:
        nnjit.main(arguments)
    except SystemExit as end:
        print(end.code)
    print({MARK!r}, flush=True)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install examples/nnjit-affine into a folder by pip, from a copy, since building leaves files behind."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLES / "nnjit-affine", folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command += ["--disable-pip-version-check", "--target", folder / "site", folder / "source"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder / "site"


def nnjit(cwd, *commands, site=None):
    """Run commands in a process that sees the packages in `site`; yield the output and the exit status of each."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [sys.executable, "-c", SEVERAL, json.dumps([list(map(str, each)) for each in commands])]
    ran = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ran.returncode == 0 and "Traceback" not in ran.stdout, ran.stdout
    for said in ran.stdout.split(f"{MARK}\n")[:-1]:
        output, status = said.rstrip("\n").rsplit("\n", 1)
        yield output, int(status)


def row(table, name):
    """Return the cells of one line of a table."""
    return next((line.split() for line in table.splitlines() if line.split()[:1] == [name]), None)


def test_an_installed_package_is_listed_trains_from_a_config_and_passes_check(installed, tmp_path):
    config = EXAMPLES / "nnjit-affine" / "config.toml"
    commands = [
        ["layers"],
        ["layers", "channel_scale"],
        ["run", config, "--epochs", 1, "--output", "run"],
        ["check", "channel_scale"],
    ]
    listed, described, trained, checked = nnjit(tmp_path, *commands, site=installed)
    assert {status for _, status in (listed, described, trained, checked)} == {0}
    cells = row(listed[0], "channel_scale")
    assert cells is not None and "nnjit-affine" in cells
    assert "nnjit_affine" in described[0]
    last = records(tmp_path / "run")[-1]
    assert last["epoch"] == 1 and last["val_accuracy"] > 0.5
    assert last["gradient_norms"]["channel_scale.2"] > 0 and last["update_ratios"]["channel_scale.2"] > 0
    assert "failed" not in " ".join(row(checked[0], "channel_scale"))
    listed, evaluated = nnjit(tmp_path, ["layers"], ["evaluate", "run", "--data", "digits"])  # it is not installed here
    assert row(listed[0], "channel_scale") is None
    assert "needs plug-in layers that are not loaded: channel_scale (from nnjit_affine)" in evaluated[0]
    assert evaluated[1] == 1


@pytest.fixture
def plugin(here):
    """Return the options that load a copy of examples/affine.py; its name is free again afterwards."""
    shutil.copy(EXAMPLES / "affine.py", here)
    yield "--plugin", here / "affine.py"
    if "affine" in registry.names():
        registry.unregister("affine")


def test_a_file_is_a_plugin(plugin, here):
    cells = row(command_line.nnjit("layers", *plugin), "affine")
    assert cells is not None and any("affine.py" in cell for cell in cells)
    command = ["run", "--layers", "affine flatten dense(10)"]
    command_line.nnjit(*command, *plugin, "--epochs", 1, "--output", "run")
    last = records(here / "run")[-1]
    assert last["val_accuracy"] > 0.5
    assert last["gradient_norms"]["affine.2"] > 0 and last["update_ratios"]["affine.2"] > 0
    registry.unregister("affine")
    assert "affine" in command_line.nnjit(*command, status=2)


def test_a_file_passes_check(plugin):
    assert "failed" not in " ".join(row(command_line.nnjit("check", "affine", *plugin), "affine"))
