"""The public interface: docs/api.md against the importable names, and their type annotations."""

import ast
import inspect
import re
import runpy
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nnjit import errors, registry
from nnjit.data import Split
from nnjit.data.split import Dataset
from nnjit.layers import Layer, Parameter
from nnjit.layers.initializers import Initializer
from nnjit.registry import Options
from nnjit.training import Loss, Metric, Optimizer, Schedule
from nnjit.training.history import History

ROOT = Path(__file__).resolve().parent.parent
STRUCTURE = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "structure.py")))
# Imports for type checkers only, which never run: the modules that a `__getattr__` loads.
FOR_TYPES = {
    ("__init__", "errors"),
    ("__init__", "network/compose"),
    ("__init__", "network/network"),
    ("__init__", "registry/__init__"),
    ("program/program", "program/device_function"),
    ("registry/__init__", "network/compose"),
}


def _tables():
    """Read docs/api.md: first cell of a row -> the names in its second cell."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Classes to derive from")[0]
    rows = re.findall(r"^\| `([\w.]+)`[^|]*\| (`.*) \|$", text, re.MULTILINE)
    return {first: re.findall(r"`(\w+)`", names) for first, names in rows}


MODULES = {name: names for name, names in _tables().items() if name.rpartition(".")[2].islower()}
CLASSES = {name: names for name, names in _tables().items() if name not in MODULES}


def test_the_page_has_its_tables():
    assert len(MODULES) >= 8 and len(CLASSES) >= 8 and "nnjit" in MODULES and "nnjit.Network" in CLASSES


@pytest.mark.parametrize("name", MODULES)
def test_public_names_of_a_module(name):
    """docs/api.md lists exactly the names that the module exports."""
    module = import_module(name)
    defined = [n for n, value in vars(module).items() if getattr(value, "__module__", "") == name and n[0] != "_"]
    assert sorted(MODULES[name]) == sorted(getattr(module, "__all__", defined))
    for each in MODULES[name]:
        assert getattr(module, each) is not None


def _instances():
    net = registry.compose("dense(2)", (3,))
    split = Split(np.zeros((2, 3)), np.array([0, 1]))
    program = net.compile("mse", "sgd", batch_size=2)
    callers = [program.states(1), program.c_function("predict"), program.c_state()]
    callers.append(program.device_function("predict"))
    return [net, program, program.state, *callers, History(), registry.layers, split, Dataset("two", split)]


def test_public_names_of_classes():
    found = {f"{type(each).__module__}.{type(each).__qualname__}": each for each in _instances()}
    for name, names in CLASSES.items():
        module, _, cls = name.rpartition(".")
        cls = getattr(import_module(module), cls)
        instance = found.get(f"{cls.__module__}.{cls.__qualname__}")
        present = [*dir(cls), *vars(cls).get("__annotations__", ())]
        present += dir(instance) if instance is not None else []
        assert set(names) <= set(present), name


def _functions():
    """Return name -> function, for all names of docs/api.md and the methods that plug-ins override."""
    # Made by decorators that every cached kernel's key depends on; they take and give functions.
    apart = {"kernel", "elementwise", "operation"}
    for name, names in MODULES.items():
        for each in set(names) - apart:
            value = getattr(import_module(name), each)
            if inspect.isclass(value):
                yield from _methods(value, [n for n in vars(value) if n[0] != "_"])
                if not issubclass(value, Options) and "__init__" in vars(value):
                    yield f"{name}.{each}.__init__", value.__init__
            elif inspect.isfunction(value) or inspect.ismethod(value):
                yield f"{name}.{each}", value
    for name, names in CLASSES.items():
        module, _, cls = name.rpartition(".")
        yield from _methods(getattr(import_module(module), cls), names)
    for cls in (Layer, Loss, Metric, Optimizer, Schedule, Initializer, Parameter, Options, *vars(errors).values()):
        if inspect.isclass(cls):
            yield from _methods(cls, [n for n in vars(cls) if n[0] != "_"])


def _methods(cls, names):
    for name in names:
        value = inspect.getattr_static(cls, name, None)
        value = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        value = getattr(value, "function", value)  # of a `once`
        if inspect.isfunction(value):
            yield f"{cls.__module__}.{cls.__qualname__}.{name}", value


@pytest.mark.parametrize("name, function", sorted(dict(_functions()).items()))
def test_public_functions_are_annotated(name, function):
    signature = inspect.signature(function)
    names = [p.name for p in signature.parameters.values() if p.name not in ("self", "cls")]
    bare = [n for n in names if signature.parameters[n].annotation is inspect.Parameter.empty]
    assert not bare and signature.return_annotation is not inspect.Signature.empty, bare


def test_the_package_says_that_it_is_typed():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "py.typed" in config["setuptools"]["package-data"]["nnjit"] and (ROOT / "py.typed").is_file()
    assert config["mypy"]["check_untyped_defs"]


def test_imports_for_type_checkers():
    """These imports never run, and each names what the same file loads at its first use."""
    found, every = set(), STRUCTURE.files()
    for name, tree in every.items():
        blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        for block in blocks:
            files = every | {name: ast.Module(block.body, [])}
            found |= {(name, other) for other in STRUCTURE.imports(files, name)}
    assert found == FOR_TYPES


def test_a_program_has_its_functions_from_the_start():
    """Functions work without a call of `compile`; a program without a loss has no step, and says why."""
    net = registry.compose("dense(2)", (3,))
    program = net.compile("mse", "sgd", batch_size=2)
    assert {"predict", "step", "epoch", "run"} <= set(dir(program))
    from nnjit.program.program import Program

    fresh = Program(net, "mse", "sgd", 2, derivatives=True)
    x, y = np.ones((2, 3), np.float32), np.empty((2, 2), np.float32)
    fresh.predict(fresh.state, x, y)
    np.testing.assert_array_equal(y, net.predict(x))
    assert fresh.step is program.step and fresh.compile() is fresh
    only = Program(net, batch_size=2)
    assert not hasattr(only, "step")
    with pytest.raises(AttributeError, match="epoch: this program has no loss and no optimizer"):
        _ = only.epoch
