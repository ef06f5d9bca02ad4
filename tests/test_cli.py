"""The command line as a whole, and the commands that list what is there."""

import errno
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from command_line import SCRIPT, nnjit
from nnjit import errors, registry
from nnjit.cli import main as cli
from nnjit.registry.sources import Source
from nnjit.training.history import History


def test_help_imports_nothing_heavy():
    code = """
import sys
from nnjit.cli.main import SUMMARIES, nnjit
def ask(*arguments):
    try:
        nnjit.main([*arguments, "--help"])
    except SystemExit as end:
        assert end.code == 0
ask()
for command in SUMMARIES:
    ask(command)
heavy = {"numba", "numpy", "matplotlib", "pydantic", "rich", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_are_the_files_of_the_folder():
    commands = {}
    for file in Path(cli.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"nnjit.cli.{file.stem}")
        found = getattr(module, file.stem, None)
        if isinstance(found, click.Command) and file.stem != "main":
            commands[file.stem] = found
    assert commands.keys() == cli.SUMMARIES.keys()
    for name, command in commands.items():
        assert command.name == name and command.help
        assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_wrong_usage_exits_with_2():
    assert 'no command is called "rnu"; did you mean run?' in nnjit("rnu", status=2)
    assert "the commands are run, plot" in nnjit("bananas", status=2)
    assert "--layers" in nnjit("run", "--layer", "relu", status=2)
    assert "not a valid integer" in nnjit("run", "--epochs", "many", status=2)
    assert nnjit("--version").startswith("nnjit, version ")


@pytest.mark.parametrize(
    "error, status, said",
    [
        (errors.NnjitError("It broke"), 1, "nnjit: It broke\n"),
        (errors.UsageError("Not so"), 2, "nnjit: Not so\n"),
        (errors.DataError("Bad file"), 1, "nnjit: Bad file\n"),
        (OSError(errno.ENOSPC, "No space left", "runs/x"), 1, "nnjit: runs/x: No space left\n"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 1, "nnjit: runs: Permission denied\n"),
        (MemoryError(), 1, "nnjit: not enough memory\n"),
        (MemoryError("Unable to allocate 7 TiB"), 1, "nnjit: not enough memory: Unable to allocate 7 TiB\n"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)  # fmt: skip
def test_what_becomes_of_errors(monkeypatch, error, status, said):
    def fail():
        raise error

    monkeypatch.setattr(importlib.import_module("nnjit.cli.info").info, "callback", fail)
    output = nnjit("info", status=status)
    assert output.startswith(said) and (said or not output.strip())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*SCRIPT, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "nnjit: No space left on device\n")


# -- what is there -----------------------------------------------------------------------------------------------------


def test_layers_lists_every_name_and_the_broken_at_the_end(monkeypatch):
    monkeypatch.setitem(registry.layers._builtin, "ghost", Source("no_such_module:Ghost", "ghosts"))
    lines = nnjit("layers").splitlines()
    names = [name for name in registry.names() if name != "ghost"]
    assert [line.split()[0] for line in lines[1 : len(names) + 1]] == names
    assert lines[-1].startswith(
        "broken: ghost: plug-in ghosts (no_such_module:Ghost) cannot be imported: ModuleNotFound"
    )
    registry.layers._failed.pop("ghost")


@pytest.mark.parametrize("kind", ["layers", "losses", "optimizers", "schedules", "initializers", "datasets", "metrics"])
def test_layers_knows_every_kind(kind):
    catalogue = getattr(registry, kind)
    output = nnjit("layers", "--kind", kind)
    rows = [line.split()[0] for line in output.splitlines()[1:]]
    assert [row for row in rows if row != "broken:"] == catalogue.names()  # another test's broken plug-in
    for name in catalogue.names():
        explained = nnjit("layers", name, "--kind", kind)
        assert explained.startswith(f"{name}(")
        for option in catalogue.get(name).__signature__.parameters:
            assert f"\n{option} " in explained


def test_layers_explains_one():
    explained = nnjit("layers", "dense")
    assert "W x + b" in explained and "must be given" in explained and "devices  cpu" in explained
    place = next(line.split()[-1] for line in explained.splitlines() if line.startswith("source"))
    file, line = place.rsplit(":", 1)
    assert 'register("dense")' in Path(file).read_text().splitlines()[int(line) - 1]
    assert "did you mean dense?" in nnjit("layers", "dens", status=2)
    assert "no layer matches" in nnjit("layers", "dens?x*", status=2)


def test_show_of_a_run_and_of_its_config_agree(trained):
    config = trained / "config.toml"
    shown = nnjit("show", trained)
    assert shown == nnjit("show", config) == nnjit("show", "-", stdin=config.read_text())
    assert (trained / "summary.txt").read_text().strip() in shown and config.read_text().strip() in shown
    program = nnjit("show", trained, "--program")
    assert program == nnjit("show", config, "--program") and "_forward(s, n0, n1, " in program
    assert "not a run directory" in nnjit("show", trained.parent, status=1)
    assert "there is no config" in nnjit("show", trained / "nothing", status=2)


def test_info_says_what_is_installed():
    import numba

    facts = dict(line.split(maxsplit=1) for line in nnjit("info").splitlines())
    assert facts["numba"] == numba.__version__ and facts["numpy"] == np.__version__
    assert facts["cache"].startswith(os.environ["NNJIT_CACHE_DIR"])
    assert f"of {numba.config.NUMBA_NUM_THREADS}" in facts["threads"]


def test_cache_is_shown_and_cleared(here, monkeypatch):
    monkeypatch.setenv("NNJIT_CACHE_DIR", str(here / "cache"))
    assert nnjit("cache").strip() == str(here / "cache")
    (here / "cache/compiled/sub").mkdir(parents=True)
    (here / "cache/compiled/sub/a.nbc").write_bytes(bytes(2_500_000))
    assert "2.5 MB freed" in nnjit("cache", "clear")
    assert not (here / "cache/compiled").exists()
    assert "0.0 MB freed" in nnjit("cache", "clear")


# -- progress ----------------------------------------------------------------------------------------------------------


def test_compiling_is_told_only_when_it_takes_a_while(capsys, monkeypatch):
    from nnjit.training import progress

    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    for wait, expected in ((0.0, ""), (0.5, "compiling 12 kernels ...\n")):
        with progress.Lines() as told:
            told.compiling(0, 12)
            time.sleep(wait)
            told.compiling(12, 12)
        time.sleep(0.1)
        assert capsys.readouterr().out == expected


def test_lines_of_short_epochs_are_printed_together(capsys, monkeypatch):
    """The first at once, the others when time has passed, the last at the end."""
    from nnjit.training import progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen = []
    with progress.Lines() as reporter:
        for epoch, later in enumerate([0.0, 0.01, 0.2, 0.01], start=1):
            now[0] += later
            reporter.epoch({"epoch": epoch, "loss": 0.5, "seconds": 1.0})
            seen.append(capsys.readouterr().out.count("epoch"))
    assert seen == [1, 0, 2, 0] and capsys.readouterr().out == "epoch 4/?  loss 0.5  1.0 s\n"


def test_the_live_line_shows_epoch_step_and_losses(monkeypatch):
    import io
    from types import SimpleNamespace

    import rich.console
    from nnjit.training.progress import LiveLine

    screen = io.StringIO()
    console = rich.console.Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(rich.console, "Console", lambda file: console)
    with LiveLine() as told:
        told.compiling(3, 12)
        told.bar.refresh()
        told.begin(SimpleNamespace(settings=SimpleNamespace(epochs=4)))
        told.progress(1, 7, 45, 0.5)
        told.bar.refresh()
        told.epoch(
            {
                "epoch": 1,
                "step": 45,
                "seconds": 1.0,
                "loss": 0.25,
                "accuracy": 0.5,
                "val_loss": 0.125,
                "val_accuracy": 0.75,
            }
        )
        told.progress(2, 8, 45, 0.0625)
        told.end(History())
    lines = "7/45  loss 0.5", "8/45  loss 0.0625  val_loss 0.125  val_accuracy 0.75"
    for words in ("compiling 3/12 kernels ...", "epoch 1/4", *lines):
        assert words in screen.getvalue()
    assert "  accuracy" not in screen.getvalue()


def test_the_live_line_keeps_metrics_that_are_not_measured_after_each_epoch(monkeypatch):
    from nnjit.training.progress import LiveLine

    with LiveLine() as reporter:
        reporter.epoch({"epoch": 1, "loss": 0.25, "accuracy": 0.5, "metric_samples": 1000})
        for epoch in (2, 3):
            reporter.epoch({"epoch": epoch, "loss": 0.125})
            assert reporter._now["said"] == "loss 0.125  accuracy (1000 samples) 0.5"
        reporter.epoch({"epoch": 4, "loss": 0.125, "accuracy": 0.75, "metric_samples": 1000})
        assert reporter._now["said"].endswith("0.75")
