"""`nnjit init` and `nnjit check`: from a skeleton to a certified layer, from a starting config to a run."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from command_line import SMALL, nnjit
from nnjit import registry
from nnjit.cli.init import config_text
from nnjit.training.config import resolve


def test_a_new_layer_from_skeleton_to_network(here):
    said = nnjit("init", "layer", "my_affine", "--output", "plugin")
    assert sorted(os.listdir("plugin")) == ["my_affine.py", "test_my_affine.py"] and "nnjit check my_affine" in said
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "plugin"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout
    try:
        plugin = ["--plugin", "plugin/my_affine.py"]
        assert "my_affine  start=1.0" in nnjit("layers", "my_*", *plugin)
        explained = nnjit("layers", "my_affine", *plugin)
        assert str(here / "plugin/my_affine.py") in explained and "in the class" in explained and "cpu" in explained
        nnjit("run", "--layers", "my_affine flatten dense(10)", "--epochs", 1, "--output", "run", *plugin)
        registry.unregister("my_affine")
        assert "give --plugin plugin/my_affine.py" in nnjit("evaluate", "run", status=1)
        assert "not imported unasked" in nnjit("run", "--resume", "run", status=2)
    finally:
        if "my_affine" in registry.names():
            registry.unregister("my_affine")


def test_init_writes_over_nothing(here):
    nnjit("init", "config")
    assert "exists already" in nnjit("init", "config", status=2)
    assert Path("nnjit.toml").read_text() == config_text()
    for name, said in (
        ("relu", "there is a layer"),
        ("a-b", "letters, digits and _"),
        ("class", "letters, digits and _"),
    ):
        assert said in nnjit("init", "layer", name, status=2)
    Path("mine.py").touch()
    assert "exists already" in nnjit("init", "layer", "mine", status=2)
    assert sorted(os.listdir()) == ["mine.py", "nnjit.toml"]


def test_the_starting_config_is_the_default_run(here):
    assert resolve(tomllib.loads(nnjit("init", "config", "-"))).config == resolve({}).config
    nnjit("init", "config", "start.toml")
    nnjit("run", "start.toml", *SMALL)
    assert (
        resolve(tomllib.loads(Path("runs/start-1/config.toml").read_text())).config.training.optimizer
        == "adam(lr=0.003)"
    )


def test_check_certifies_and_fails_by_its_exit_status(here):
    output = nnjit("check", "elu", "--draw", "slopes.png")
    assert "PASS" in output and "FAIL" not in output and Path("slopes.png").exists()
    Path("wrong.py").write_text(
        "from nnjit.layers import Layer, elementwise\nfrom nnjit.registry import register\n"
        "@register('wrong_square')\nclass WrongSquare(Layer):\n    '''y = x^2. Any shape.'''\n"
        "    @elementwise\n    def forward(x):\n        return x * x\n"
        "    @forward.derivative\n    def backward_input(x):\n        return x\n"
    )
    try:
        assert "FAIL" in nnjit("check", "wrong_square", "--plugin", "wrong.py", status=1)
    finally:
        registry.unregister("wrong_square")
    assert "schedule is called" in nnjit("check", "bananas", status=2)
    assert "expected sizes such as" in nnjit("check", "elu", "--shape", "abc", status=2)
    assert "needs the NAME" in nnjit("check", "--shape", "3", status=2)
    assert "flatten  PASS" in nnjit("check", "flatten", "--shape", "2,3")
