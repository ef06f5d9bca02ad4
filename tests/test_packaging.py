"""Installed files, imports at start-up, and the direction of imports between the rooms."""

import ast
import json
import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from nnjit.registry import builtin

ROOT = Path(__file__).resolve().parent.parent
STRUCTURE = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "structure.py")))
# Imports inside functions, each to start faster or because not every machine has CUDA. The commands are not listed:
# each imports what it needs when it runs.
LATE = {
    ("check/kernels", "kernels/gpu/driver"),
    ("check/kernels", "kernels/gpu/launch"),
    ("launch/many", "launch/cluster"),
    ("launch/remote", "storage/run_directory"),
    ("network/network", "kernels/gpu/driver"),
    ("network/network", "training/config"),
    ("program/code", "program/device"),
    ("program/device_function", "kernels/gpu/thread"),
    ("program/program", "program/device_function"),
    ("training/run_and_draw", "plots/__init__"),
    ("training/run_and_draw", "plots/run_log"),
}
# Files that may import a module by its name: names of a user, the tables of names, operations (named by their file).
BY_NAME = {
    "__init__",
    "kernels/operations",
    "registry/__init__",
    "registry/plugins",
    "registry/sources",
    "kernels/compiler/prepare",
}


@pytest.fixture(scope="module")
def files():
    """Parse all files of the package: when a test needs them, since each process of pytest imports this file."""
    return STRUCTURE.files()


def test_no_circle_of_imports(files):
    assert STRUCTURE.circle(files) == []


def test_imports_run_downwards(files):
    assert STRUCTURE.upward(files) == [] and STRUCTURE.homeless(files) == []


def test_late_imports_are_listed(files):
    late = {
        (name, other)
        for name in files
        for other in set(STRUCTURE.imports(files, name)) - set(STRUCTURE.imports(files, name, top=True))
        if not name.startswith("cli/")
    }
    assert late == LATE


def test_a_circle_and_an_upward_import_are_seen():
    """The tests above say nothing if the scan finds nothing."""
    files = {"network/network": ast.parse("from ..program.graph import Graph"), "program/graph": ast.parse("x = 1")}
    assert list(STRUCTURE.imports(files, "network/network")) == ["program/graph"]
    assert STRUCTURE.circle(files) == STRUCTURE.upward(files) == []
    files["program/graph"] = ast.parse("def late():\n    from ..network import network")
    assert STRUCTURE.upward(files) == [("program/graph", "network/network")]
    assert set(STRUCTURE.circle(files)) == {"network/network", "program/graph"}


def test_imported_names_exist(files):
    """Imports in functions count too: a wrong one fails only when the function runs."""
    for name, tree in files.items():
        folder = name.split("/")[:-1]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*folder[: len(folder) - node.level + 1], *(node.module.split(".") if node.module else [])]
                path = "/".join(base)
                module = files.get(path) or files[f"{path}/__init__".lstrip("/")]
                for alias in node.names:
                    inner = f"{path}/{alias.name}".lstrip("/")
                    known = inner in files or f"{inner}/__init__" in files or alias.name in defined(module)
                    assert known or (path, alias.name) == ("registry", "compose"), (
                        f"{name} imports {path}: {alias.name}"
                    )


@cache
def defined(module):
    """Names that a module defines."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def test_imports_inside_the_project_are_relative(files):
    for name, tree in files.items():
        for node in ast.walk(tree):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not any(module.split(".")[0] == "nnjit" for module in modules), name


def test_modules_are_named_in_the_tables_only(files):
    """No other import by a string; the tables' targets are the arrows that the scan of imports does not see."""
    found = {
        name
        for name, tree in files.items()
        if any(
            isinstance(node, (ast.Name, ast.Attribute))
            and ast.unparse(node).split(".")[-1] in ("import_module", "__import__")
            for node in ast.walk(tree)
        )
    }
    assert found == BY_NAME


def test_arrows_of_the_tables():
    """The arrows lead from the registry, which is at the bottom, to the registered classes."""
    rooms = {STRUCTURE.room(target.partition(":")[0].removeprefix("nnjit.").replace(".", "/")) for target in TARGETS}
    assert rooms == {"layers", "training", "data", "network"}


def test_the_package_list_is_the_tree(files):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {name.rpartition("/")[0] for name in files}
    packages = {".".join(["nnjit", *filter(None, folder.split("/"))]) for folder in folders}
    assert sorted(config["packages"]) == sorted(packages)
    assert all(f"{folder}/__init__".lstrip("/") in files for folder in folders), "a folder without __init__.py"
    assert config["package-dir"] == {"nnjit": "."}


def test_nothing_at_the_root_but_the_package(files):
    """A module or conftest.py at the root would be importable under a name that others may use."""
    assert {name for name in files if "/" not in name} == {"__init__", "errors"}


def test_no_place_of_this_machine_in_the_sources(files):
    home = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt)/", re.IGNORECASE)
    for name in files:
        assert not home.search((ROOT / f"{name}.py").read_text(encoding="utf-8")), name


TABLES = ("LAYERS", "LOSSES", "OPTIMIZERS", "SCHEDULES", "INITIALIZERS", "DATASETS", "METRICS")
TARGETS = [*(target for table in TABLES for target in getattr(builtin, table).values()), builtin.COMPOSE]


@pytest.mark.parametrize("table", TABLES)
def test_targets_of_the_table_of_names(table):
    for name, target in getattr(builtin, table).items():
        module, attribute = target.split(":")
        assert isinstance(getattr(import_module(module), attribute), type), name


def test_importing_nnjit_imports_neither_numba_nor_numpy():
    """The registry and the command line do not import Numba either: `nnjit --help` must answer at once."""
    code = (
        "import json, sys, nnjit, nnjit.registry, nnjit.cli.main;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout))
    assert "nnjit" in loaded and not loaded & {"numba", "numpy", "llvmlite", "matplotlib", "pydantic", "rich"}
