"""The command line as a whole, and the commands that list what is there."""

import errno
import importlib
import os
import shlex
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
    assert "the commands are run, sweep, watch, plot" in nnjit("bananas", status=2)
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


KINDS = {name: value for name, value in vars(registry).items() if isinstance(value, registry.Catalogue)}


@pytest.mark.parametrize("kind", KINDS)
def test_list_knows_every_kind(kind):
    catalogue = KINDS[kind]
    output = nnjit("list", kind)
    assert output == nnjit("list", catalogue.kind)  # in the singular
    rows = [line.split()[0] for line in output.splitlines()[1:]]
    assert [row for row in rows if row != "broken:"] == catalogue.names()  # another test's broken plug-in
    for name in catalogue.names():
        explained = nnjit("list", kind, name)
        assert explained.startswith(f"{name}(") and explained.strip() in nnjit("list", name)
        for option in catalogue.get(name).__signature__.parameters:
            assert f"\n{option} " in explained


def test_list_has_all_names():
    rows = [line.split()[:2] for line in nnjit("list").splitlines()[1:]]
    assert [row for row in rows if row[0] != "broken:"] == [
        [kind, name] for kind, catalogue in KINDS.items() for name in catalogue.names()
    ]
    both = nnjit("list", "constant")  # a schedule and an initializer
    assert "training/schedules.py" in both and "layers/initializers.py" in both
    assert "did you mean losses?" in nnjit("list", "loses", status=2)
    assert "the kinds are layers, losses" in nnjit("list", "zzzz", status=2)
    assert "did you mean adam" in nnjit("list", "optimizers", "adm", status=2)
    assert "it is an optimizer" in nnjit("list", "losses", "adam", status=2)


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


# -- wrong first tries -------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(here):
    """Write a table of classes and one of values."""
    Path("cls.csv").write_text("a,b,kind\n" + "1,2,x\n2,3,y\n3,5,x\n4,1,y\n" * 10)
    Path("reg.csv").write_text("a,b,price\n" + "1,2,3.5\n2,3,4.5\n3,5,2.5\n4,1,9.5\n" * 10)
    return here


VALUES = "csv(path='reg.csv', label='price', target='value')"
CLASSES = "csv(path='cls.csv', label='kind')"


@pytest.mark.parametrize(
    "arguments, facts",
    [
        (["reg.csv"], ["reg.csv is no config", '--data "reg.csv"']),
        (["--data", "reg.csv"], ["reg.csv", "'a', 'b', 'price'", "label='price', target='value'"]),
        (["--data", "csv(path='cls.csv')"], ["cls.csv", "'a', 'b', 'kind'", "label='kind')"]),
        (["--data", "csv(path='reg.csv', label='price', target='regression')"], ["data.target", "did you mean value?"]),
        (["--data", CLASSES, "--layers", "conv(8,3) relu flatten dense(2)"], ["--layers", "2 numbers", "dense(2)"]),
        (["--data", VALUES, "--layers", "dense(1)", "--loss", "cross_entropy"], ["training.loss", "--loss mse"]),
        (["--data", VALUES, "--layers", "dense(2)", "--loss", "cross_entropy"], ["training.loss", "--loss mse"]),
        (["--data", CLASSES, "--layers", "dense(2)", "--loss", "mae"], ["loss of values", "--loss cross_entropy"]),
        (["--loss", "adam"], ["no loss", "optimizer", "--optimizer adam"]),
        (["--optimizer", "relu"], ["no optimizer", "layer", "--layers"]),
        (["--layers", "flatten dense(10) cross_entropy"], ["no layer", "loss", "--loss cross_entropy"]),
        (["--loss", "admw"], ["no loss", "did you mean the optimizer adamw", "--optimizer adamw"]),
        (["--data", "cosine"], ["no dataset", "schedule", "--set training.schedule=cosine"]),
        (["--data", "rge.csv"], ["rge.csv", "did you mean reg.csv"]),
        (["--data", "some/where"], ["no file or folder", "some/where"]),
    ],
)
def test_a_wrong_first_try_is_answered_by_what_works(tables, arguments, facts):
    before = sorted(os.listdir())
    result = nnjit("run", *arguments, status=1 if "label" in facts[-1] or "rge.csv" in facts[0] else 2)
    assert len(result.strip().splitlines()) == 1
    for fact in facts:
        assert fact in result
    assert sorted(os.listdir()) == before


def test_the_commands_that_are_named_work(tables):
    """From the name of a file alone to a run, by what each answer says."""
    said = nnjit("run", "reg.csv", status=2)
    said = nnjit(*shlex.split(said.partition("train on it: nnjit ")[2]), status=1)
    data = shlex.split(said.partition("such as ")[2].partition("; its")[0])
    assert data == ["--data", VALUES]
    said = nnjit("run", "--data", VALUES, "--layers", "conv(8,3) flatten dense(1)", "--loss", "mse", status=2)
    layers = said.partition("which --layers ")[2].split('"')[1]
    said = nnjit("run", "--data", VALUES, "--layers", layers, "--loss", "mse", "--epochs", 1)
    assert "validation: 4 of 40 rows" in said


def test_a_file_or_folder_named_alone_is_read_by_its_kind(here):
    from nnjit import data

    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    np.savez("d.npz", x=x, y=y)
    assert len(data.load("d.npz").train) == 18
    said = nnjit("run", "--data", "d.npz", "--layers", "dense(2)", "--epochs", 1, "--output", "run")
    assert said.startswith("validation: 2 of 20 rows, stratified by class, seed 0")
    assert "samples" in nnjit("evaluate", "run", "--data", "d.npz")
    os.mkdir("digits")  # a data set has this name
    assert data.files.reader_spec("digits") == "digits"
    assert data.files.reader_spec("./digits") == ("images", {"path": "./digits"})
    Path("digits/train-images-idx3-ubyte").touch()
    assert data.files.reader_spec("./digits") == ("idx", {"path": "./digits"})
    assert data.files.reader_spec("csv('a.csv', label='b')") == "csv('a.csv', label='b')"
    Path("t.txt").touch()
    assert "does not end in .csv, .tsv, .npz" in nnjit("run", "--data", "t.txt", status=2)


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
