"""Layers from outside: a plug-in that is an installed package, and one that is a single file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SCRIPT, records

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


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


def nnjit(cwd, *arguments, site=None, status=0):
    """Run a process that sees the packages in `site`; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    command = [*SCRIPT, *map(str, arguments)]
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode == status and "Traceback" not in ran.stderr, ran.stderr
    return ran.stdout + ran.stderr


def row(table, name):
    """Return the cells of one line of a table."""
    return next((line.split() for line in table.splitlines() if line.split()[:1] == [name]), None)


def test_an_installed_package_is_listed_with_its_name(installed, tmp_path):
    cells = row(nnjit(tmp_path, "layers", site=installed), "channel_scale")
    assert cells is not None and "nnjit-affine" in cells
    assert "nnjit_affine" in nnjit(tmp_path, "layers", "channel_scale", site=installed)
    assert row(nnjit(tmp_path, "layers"), "channel_scale") is None


def test_an_installed_package_trains_from_a_config(installed, tmp_path):
    config = EXAMPLES / "nnjit-affine" / "config.toml"
    nnjit(tmp_path, "run", config, "--epochs", 1, "--output", "run", site=installed)
    last = records(tmp_path / "run")[-1]
    assert last["epoch"] == 1 and last["val_accuracy"] > 0.5
    assert last["gradient_norms"]["channel_scale.2"] > 0 and last["update_ratios"]["channel_scale.2"] > 0
    said = nnjit(tmp_path, "evaluate", "run", "--data", "digits", status=1)
    assert "needs plug-in layers that are not loaded: channel_scale (from nnjit_affine)" in said


def test_an_installed_package_passes_check(installed, tmp_path):
    assert "failed" not in " ".join(row(nnjit(tmp_path, "check", "channel_scale", site=installed), "channel_scale"))


PLUGIN = ("--plugin", EXAMPLES / "affine.py")


def test_a_file_is_a_plugin(tmp_path):
    cells = row(nnjit(tmp_path, "layers", *PLUGIN), "affine")
    assert cells is not None and any("affine.py" in cell for cell in cells)
    nnjit(tmp_path, "run", *PLUGIN, "--layers", "affine flatten dense(10)", "--epochs", 1, "--output", "run")
    last = records(tmp_path / "run")[-1]
    assert last["val_accuracy"] > 0.5
    assert last["gradient_norms"]["affine.2"] > 0 and last["update_ratios"]["affine.2"] > 0
    assert "affine" in nnjit(tmp_path, "run", "--layers", "affine flatten dense(10)", status=2)


def test_a_file_passes_check(tmp_path):
    assert "failed" not in " ".join(row(nnjit(tmp_path, "check", "affine", *PLUGIN), "affine"))
