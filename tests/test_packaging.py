"""What is installed, what is imported when, and which way imports run between the rooms."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from nnjit.registry import builtin

ROOT = Path(__file__).resolve().parent.parent
# Folders of a checkout that are no part of the package.
APART = {"tests", "benchmarks", "examples", "docs", "build", "dist", "runs"}

# Room or file -> rooms and files it may import, at the top or inside functions; the first line that fits counts.
ALLOWED = {
    "errors": set(),
    "kernels": {"kernels", "errors"},
    "registry/compose": {"registry", "network/network", "errors"},
    "registry": {"registry", "errors"},
    "network": {"network", "registry", "kernels", "errors"},
    "layers": {"layers", "network/layer", "registry", "kernels", "errors"},
    "data": {"data", "registry", "errors"},
    "training": {"training", "network", "registry", "kernels", "data", "plots", "errors"},
    "check": {"check", "network", "registry", "kernels", "errors"},
    "bench": {"bench", "network", "registry", "kernels", "errors"},
    "plots": {"plots", "errors"},
    "__init__": set(),
}
ALLOWED["cli"] = {*ALLOWED, "cli"}  # may import all
# Against that direction, inside a method: a network trains and saves itself.
HANDED_OVER = {("network/network", "training/fit"), ("network/network", "training/checkpoint")}
# Inside functions only, where a circle would be otherwise.
LATE = {("registry/__init__", "registry/compose"), ("training/fit", "training/config")}


def files():
    """Path without suffix, such as "network/plan", of every module of the package -> its tree."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        place = file.relative_to(ROOT)
        if place.parts[0] not in APART and not any(part[0] == "." for part in place.parts):
            found[place.with_suffix("").as_posix()] = ast.parse(file.read_text(encoding="utf-8"))
    return found


FILES = files()


def imports(name, top=False):
    """Files of ours that a file imports; `top`: when it is imported itself."""
    room = name.split("/")[:-1]
    for node in _statements(FILES[name], top):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "nnjit" for alias in node.names), f"{name}: import nnjit..."
        elif node.level == 0:
            assert node.module.split(".")[0] != "nnjit", f"{name}: imports inside the project are relative"
        else:
            base = [*room[: len(room) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                inner, package = "/".join([*base, alias.name]), "/".join([*base, "__init__"])
                yield next((f for f in (inner, f"{inner}/__init__", "/".join(base)) if f in FILES), package)


def _statements(node, top):
    """Import statements; with `top` not those inside functions or for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif not (top and _runs_later(child)):
            yield from _statements(child, top)


def _runs_later(node):
    inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    return inside or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))


def matches(file, entry):
    return file == entry or file.startswith(entry + "/")


@pytest.mark.parametrize("name", FILES)
def test_imports_run_one_way(name):
    allowed = next(rooms for entry, rooms in ALLOWED.items() if matches(name, entry))
    for other in set(imports(name)) - {other for file, other in HANDED_OVER if file == name}:
        assert any(matches(other, entry) for entry in allowed), f"{name} imports {other}"


def test_no_circle_of_imports():
    """Imports inside functions count, but for the few that are listed above."""
    late = HANDED_OVER | LATE
    edges = {name: {other for other in imports(name) if (name, other) not in late} for name in FILES}
    assert all(other in imports(name) and other not in imports(name, top=True) for name, other in late)
    done, way = set(), []

    def visit(name):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            way.append(name)
            for other in sorted(edges[name]):
                visit(other)
            done.add(way.pop())

    for name in FILES:
        visit(name)
    assert done == set(FILES)


def test_the_scan_sees_imports():
    """The tables above say nothing if the scan finds nothing."""
    assert {"network/graph", "network/notation", "kernels/slots"} <= set(imports("network/plan"))
    assert "network/assemble" in set(imports("network/program")) - set(imports("network/program", top=True))
    assert "training/fit" in set(imports("network/network"))
    assert "registry/__init__" in set(imports("network/graph"))


def test_the_package_list_is_the_tree():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {name.rpartition("/")[0] for name in FILES}
    packages = {".".join(["nnjit", *filter(None, folder.split("/"))]) for folder in folders}
    assert sorted(config["packages"]) == sorted(packages)
    assert all(f"{folder}/__init__".lstrip("/") in FILES for folder in folders), "a folder without __init__.py"
    assert config["package-dir"] == {"nnjit": "."}


def test_nothing_at_the_root_but_the_package():
    """A module or conftest.py at the root would be importable under a name that others may use."""
    assert {name for name in FILES if "/" not in name} == {"__init__", "errors"}


def test_no_place_of_this_machine_in_the_sources():
    home = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt)/", re.IGNORECASE)
    for name in FILES:
        assert not home.search((ROOT / f"{name}.py").read_text(encoding="utf-8")), name


TABLES = ("LAYERS", "LOSSES", "OPTIMIZERS", "SCHEDULES", "INITIALIZERS", "DATASETS")


@pytest.mark.parametrize("table", TABLES)
def test_targets_of_the_table_of_names(table):
    for name, target in getattr(builtin, table).items():
        module, attribute = target.split(":")
        assert isinstance(getattr(import_module(module), attribute), type), name


def test_importing_nnjit_imports_neither_numba_nor_numpy():
    """Neither do the registry and the command line: `nnjit --help` must answer at once."""
    code = (
        "import json, sys, nnjit, nnjit.registry, nnjit.cli.main;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(ran.stdout))
    assert "nnjit" in loaded and not loaded & {"numba", "numpy", "llvmlite", "matplotlib", "pydantic", "rich"}
