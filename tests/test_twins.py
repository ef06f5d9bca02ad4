"""The folders of kernels have the same files, functions and arguments, by inspection; nothing is compiled."""

import ast
from pathlib import Path

import pytest
from nnjit.kernels.compiler.kernel import Kernel
from nnjit.kernels.gpu.launch import Launcher
from nnjit.kernels.operations import Operation
from nnjit.registry import builtin, layers, losses

KERNELS = Path(__file__).resolve().parent.parent / "kernels"
DEVICES = [folder for folder in ("cpu", "cuda") if (KERNELS / folder).is_dir()]


def files(folder):
    """Map file -> name -> definition of its public functions; in a device's folder of those marked as kernels."""
    found = {}
    for file in sorted((KERNELS / folder).glob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        shared = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == f"cpu.{file.stem}"]
        definitions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
        if folder != "reference":
            definitions = [node for node in definitions if is_kernel(node)]
        if definitions:  # else a module of helpers
            found[file.stem] = {node.name: node for node in definitions}
            found[file.stem] |= {a.name: FILES["cpu"][file.stem][a.name] for node in shared for a in node.names}
    return found


def is_kernel(definition):
    """Functions marked @kernel, or on CUDA @launcher."""
    return is_loop(definition) or "launcher" in marks(definition)


def is_loop(definition):
    return "kernel" in marks(definition)


def marks(definition):
    return [ast.unparse(decorator).split("(")[0] for decorator in definition.decorator_list]


FILES: dict = {}
for folder in ("reference", *DEVICES):
    FILES[folder] = files(folder)
# Other algorithms for some functions.
OTHER = {file: "conv" for file in ("winograd", "conv_by_filter", "conv_depthwise")}
OTHER |= {"pooling_pairs": "pooling", "dense_few": "dense"}
ALGORITHMS = {file: FILES["cpu"].pop(file) for file in OTHER}
SHARED = {"augment", "dropout", "residual", "update"}  # the CPU's kernels run on CUDA
# On CUDA samples are always rows, and there are no derivatives but those of training.
KINDS = ("dense", "dropout", "layernorm", "loss", "scale", "softmax")
CPU_ALONE = {"columns", "jacobian", "jvp", *(f"{kind}_columns" for kind in KINDS)}
TWINS = [(folder, file) for folder in DEVICES for file in FILES[folder]]


def test_there_are_kernels():
    assert DEVICES == ["cpu", "cuda"] and {"dense", "conv", "loss", "update"} <= set(FILES["reference"])
    assert {"forward", "backward_input", "backward_weight", "backward_bias"} <= set(FILES["cpu"]["dense"])


@pytest.mark.parametrize("folder", DEVICES)
def test_same_files(folder):
    shared = SHARED | CPU_ALONE if folder == "cuda" else set()
    assert set(FILES[folder]) == set(FILES["reference"]) - shared


def test_a_kernel_that_is_the_same_on_both_devices_stands_once():
    """No function of kernels/cuda has the body of its twin in kernels/cpu."""
    for file, functions in FILES["cuda"].items():
        for name, definition in functions.items():
            twin = FILES["cpu"][file][name]
            assert definition is twin or body(definition) != body(twin), f"{file}.{name}"


def body(definition):
    """Return the statements, without the docstring."""
    return [ast.unparse(node) for node in definition.body[bool(ast.get_docstring(definition)) :]]


@pytest.mark.parametrize("file", sorted(SHARED))
def test_shared_kernels_are_loops(file):
    assert all(is_loop(definition) for definition in FILES["cpu"][file].values())
    assert Operation(f"{file}.{next(iter(FILES['cpu'][file]))}").on("cuda") is not None


@pytest.mark.parametrize("folder, file", TWINS)
def test_same_functions_arguments_and_defaults(folder, file):
    def described(folder):
        return {name: ast.unparse(definition.args) for name, definition in FILES[folder][file].items()}

    assert described(folder) == described("reference")
    for name, definition in FILES[folder][file].items():
        assert ast.get_docstring(definition), f"{folder}/{file}.py: {name} has no docstring"
        assert ast.get_docstring(FILES["reference"][file][name]), f"reference/{file}.py: {name} has no docstring"


@pytest.mark.parametrize("file", OTHER)
def test_other_algorithms_take_the_same_arguments(file):
    assert ALGORITHMS[file]
    for name, definition in ALGORITHMS[file].items():
        assert ast.unparse(definition.args) == ast.unparse(FILES["cpu"][OTHER[file]][name].args), name
        assert ast.get_docstring(definition)


@pytest.mark.parametrize("folder, file", TWINS)
def test_every_kernel_has_one_top_level_loop(folder, file):
    for name, definition in FILES[folder][file].items():
        if not is_loop(definition):
            continue
        loops = [node for node in ast.walk(definition) if isinstance(node, ast.Call) and is_prange(node)]
        top = [node for node in definition.body if isinstance(node, ast.For) and is_prange(node.iter)]
        assert len(top) == len(loops) == 1, f"{folder}/{file}.py: {name} has {len(top)} top-level prange loops"
        assert len(top[0].iter.args) == 1, f"{folder}/{file}.py: {name} must count from 0: prange(n)"
        assert not any(isinstance(node, (ast.Raise, ast.Assert)) for node in ast.walk(definition)), f"{name} may raise"


def is_prange(node):
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "prange"


def test_operations_are_found_and_are_kernels():
    """Every operation of a built-in layer or loss exists in all folders."""
    named = set()
    for cls in [layers.get(name) for name in builtin.LAYERS] + [losses.get(name) for name in builtin.LOSSES]:
        named |= {value for base in cls.__mro__ for value in vars(base).values() if isinstance(value, Operation)}
    assert len(named) > 30
    for operation in named:
        assert isinstance(operation.on("cpu"), Kernel), operation
        assert isinstance(operation.on("cuda"), (Kernel, Launcher)), operation
        assert operation.on("cpu").arguments == operation.on("cuda").arguments == operation.arguments, operation
