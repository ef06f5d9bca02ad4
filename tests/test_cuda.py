"""CUDA without a GPU: all tests in the simulator, every kernel compiled without a driver, errors in a sentence."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command_line import SCRIPT
from nnjit import registry
from nnjit.check.cases import cases
from nnjit.check.runner import Run
from nnjit.errors import DeviceError, SpecError
from nnjit.kernels.compiler.kernel import kernel
from nnjit.kernels.cuda import conv, dense, product, step
from nnjit.kernels.gpu import driver, launch, tensor
from nnjit.kernels.operations import operation
from nnjit.layers.base import Layer
from nnjit.program import device, device_arrays
from nnjit.program.program import Program
from nnjit.registry import builtin, compose
from nnjit.training.clip import Clip
from numba import prange

HERE = Path(__file__).parent
here_compiles = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
# Arithmetic; reading the learning rate, a float64, and Numba's comparison of sizes in reshape do no harm.
DOUBLE = re.compile(r"\b(add|sub|mul|div|fma|mad|neg|abs|min|max|sqrt|rcp|ex2|lg2)\b[.\w]*\.f64")
GENERATIONS = [(7, 5), (8, 0), (9, 0)]


def test_everything_in_the_simulator():
    """Start another process: Numba chooses between GPU and simulator when it is imported."""
    _everything({"NUMBA_ENABLE_CUDASIM": "1"})


@pytest.mark.skipif(not launch.cuda.is_available(), reason="there is no GPU")
def test_everything_on_the_gpu():
    """Run the same tests, with large sizes too."""
    _everything({})


@pytest.mark.skipif(
    not (launch.cuda.is_available() and shutil.which("compute-sanitizer")), reason="there is no GPU, or no sanitiser"
)
@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "synccheck"])
def test_the_sanitiser_finds_nothing(tool):
    """Look for invalid addresses, races in shared memory and barriers that not all threads reach; small sizes only."""
    _everything({}, ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"], ["-k", "not large"])


def _everything(environment, before=(), after=()):
    command = [*before, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "-W", "ignore"]
    environment = {**os.environ, **environment}
    done = subprocess.run([*command, "on_cuda.py", *after], cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# -- compiled without a driver -----------------------------------------------------------------------------------------


def noted(kernel, arguments):
    """Yield (name, Python function, argument types) of a kernel's launches on NumPy arrays."""
    for each in launch.launches(kernel, arguments):
        function = each.kernel.py_func
        yield function.__name__, function, tuple(map(numba_type, each.arguments))


def numba_type(value):
    from numba.cuda import types

    if isinstance(value, np.ndarray):
        return types.Array(getattr(types, value.dtype.name), value.ndim, "C")
    if isinstance(value, tuple):
        return types.UniTuple(types.int64, len(value))
    if isinstance(value, bool):
        return types.boolean
    return types.int64 if isinstance(value, int) else getattr(types, type(value).__name__)


def ptx(function, signature, generation, monkeypatch):
    """Compile the code for a generation of GPUs, although the kernel's functions query a device for it."""
    from numba import cuda
    from numba.cuda import dispatcher

    gpu = type("GPU", (), {"compute_capability": generation})
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: gpu)
    return cuda.compile(function, signature, cc=generation, device=False, abi="numba", output="ptx")[0]


@cache
def every_kernel():
    """Collect the launches of the programs of all layers, in float32, each kernel once for a signature."""
    found = {}
    for name in builtin.LAYERS:
        for spec, shape in cases(name):
            network = compose([spec], shape, seed=1)
            x, dy = np.zeros((2, *shape), np.float32), np.zeros((2, *network.output_shape), np.float32)
            for call in Run(network, x, dy).calls():
                kernel = call.kernel.on("cuda") if hasattr(call.kernel, "on") else call.kernel
                found |= {each[::2]: each for each in noted(kernel, list(call.arguments().values()))}
    f, i = np.zeros(8, np.float32), np.zeros(8, np.int64)
    matrix = f.reshape(4, 2)
    for name in ("quadratic", "mse", "mae", "binary_cross_entropy", "cross_entropy", "huber", "lp"):
        for function, out in ((name, f[:4]), (f"{name}_backward", matrix)):
            more = [1.5] if name in ("huber", "lp") else []
            kernel = operation(f"loss.{function}").on("cuda")
            found |= {each[::2]: each for each in noted(kernel, [matrix, matrix, out, *more])}
    for function, out in (("cross_entropy_labels", f[:4]), ("cross_entropy_labels_backward", matrix)):
        kernel = operation(f"loss.{function}").on("cuda")
        found |= {each[::2]: each for each in noted(kernel, [matrix, i[:4], out])}
    rate, count = launch.DeviceScalar("_rates[0]", float), launch.DeviceScalar("_counters[0]")
    flats = (i, np.zeros(2), np.zeros(2))
    for function, arguments in (
        ("update.gradient_descent", [f, f, rate, 0.1]),
        ("update.sgd", [f, f, f, rate, 0.1, True, 0.1]),
        ("update.rmsprop", [f, f, f, rate, 0.1, 0.1]),
        ("update.adam", [f, f, f, f, rate, count, 0.1, 0.1, 0.1, 0.1]),
        ("update.adamw", [f, f, f, f, rate, count, 0.1, 0.1, 0.1, 0.1]),
        ("norm.scale", [f, rate]),
        ("batch.gather", [f, i, count, 2, f]),
        ("batch.gather", [i, i, count, 1, i]),
    ):
        for each in launch.launches(operation(function).on("cuda"), arguments, flats, guarded=True):
            found[function, each.kernel] = (function, each.kernel.py_func, tuple(map(numba_type, each.arguments)))
    return list(found.values())


@here_compiles
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_kernel_compiles_and_float32_stays_float32(generation, monkeypatch):
    names = set()
    for name, function, signature in every_kernel():
        code = ptx(function, signature, generation, monkeypatch)
        assert ".entry" in code
        assert not DOUBLE.search(code), f"{name} computes in float64"
        names.add(name)
    assert len(names) > 50


@here_compiles
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_tiles_on_every_generation(generation, monkeypatch):
    """Vectors of four from global and shared memory; ptxas, if found, spills nothing."""
    for tile, (name, function, signature) in tiled():
        if generation != GENERATIONS[-1] and tile != product.TILES[0]:
            continue  # the older GPUs get the largest tile
        code = ptx(function, signature, generation, monkeypatch)
        assert "ld.shared.v4.f32" in code and not DOUBLE.search(code)
        if name == "dense.forward":
            assert re.search(r"ld(\.global)?\.v4\.f32", code)
        _fits(code, generation, 128 if tile.side == 8 else 255)


def _fits(code, generation, registers):
    """Nothing is spilled, and each thread's arrays stay in registers."""
    said = assembled(code, generation, registers)
    assert said is None or "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in said, said


@here_compiles
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_in_the_code(precision, monkeypatch):
    """The instruction occurs once for each piece of the tile, and factors are rounded."""
    form = tensor.FORMS[precision]
    largest, *_, smallest = product.TENSOR_TILES
    works = [((8, 0), largest, "dense.forward"), ((9, 0), largest, "conv.backward_weight")]
    works += [((9, 0), smallest, "dense.forward")]
    for generation, tile, wanted in works:
        for _, (name, function, signature) in tiled(precision, [tile]):
            if name == wanted:
                code = ptx(function, signature, generation, monkeypatch)
                of_a_step = tile.down // 16 * (tile.across // 8) * (tile.depth // (8 * form.each))
                assert code.count(f"mma.sync.aligned.{form.product}") == of_a_step
                assert form.rounding in code and not DOUBLE.search(code)
                _fits(code, generation, 255)


@here_compiles
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_formula_at_the_end_leaves_the_sums_in_registers(activation, monkeypatch):
    """A long formula is a loop over a copy: a piece is never read from the thread's memory while it is multiplied."""
    tile, (_, function, signature) = next(tiled(activation=activation))
    assert tile == product.TILES[0]
    code = ptx(function, signature, (9, 0), monkeypatch)
    sums, _, rest = code.rpartition("bar.sync")
    assert "ld.local" not in sums and sums.count("fma.rn.f32") >= tile.side**2 and not DOUBLE.search(code)
    assert ("ld.local" in rest) == (activation == "gelu")


def tiled(precision="float32", tiles=None, activation=None):
    """Yield (tile, (name, function, signature)) of the products of dense and conv with every tile."""
    every = "TILES" if precision == "float32" else "TENSOR_TILES"
    former = getattr(product, every)
    x, W, y, b = (np.zeros(s, np.float32) for s in ((8, 16), (12, 16), (8, 12), (12,)))
    image, taps, out = (np.zeros(s, np.float32) for s in ((2, 4, 1, 6, 6), (4, 4, 1, 3, 3), (2, 4, 1, 4, 4)))
    none, one = np.zeros((2, 0, 0, 0, 0), np.float32), (1, 1, 1)
    odd, U, v = (np.zeros(s, np.float32) for s in ((7, 15), (11, 15), (7, 11)))  # not read by fours
    works = {
        "dense.forward": (dense.forward, (x, W, b, y)),
        "dense.backward_input": (dense.backward_input, (W, y, x)),
        "dense.backward_weight": (dense.backward_weight, (x, y, W)),
        "dense.forward, odd": (dense.forward, (odd, U, b[:11], v)),
        "dense.backward_input, odd": (dense.backward_input, (U, v, odd)),
        "dense.backward_weight, odd": (dense.backward_weight, (odd, v, U)),
        "conv.forward": (conv.forward, (image, taps, b[:4], none, out, one, one, 1, (0, 0, 0), 0)),
        "conv.backward_input": (conv.backward_input, (taps, out, none, none, image, one, one, 1, (0, 0, 0), 0)),
        "conv.backward_weight": (conv.backward_weight, (image, none, out, taps, one, one, 1, (0, 0, 0), 0)),
    }
    seen = set()  # conv.forward and conv.backward_input are the same code
    for tile in tiles or former:
        for name, (code, arguments) in works.items():
            try:
                setattr(product, every, [tile])
                with launch.precision(precision):
                    found = launch.launches(code, arguments)
            finally:
                setattr(product, every, former)
            if activation is not None:
                z = arguments[-1].reshape(-1)
                found = launch.with_epilogue(found, registry.create(activation).forward, [z, np.zeros_like(z)], ["x"])
            for each in found:
                function, signature = each.kernel.py_func, tuple(map(numba_type, each.arguments))
                if "product" in function.__name__ and (function, signature) not in seen:
                    seen.add((function, signature))
                    yield tile, (name, function, signature)


def assembled(code, generation, registers):
    """Return what ptxas reports of registers and spills with this limit of registers; None without ptxas."""
    found = [*map(str, Path(sys.prefix).rglob("site-packages/nvidia/*/bin/ptxas")), shutil.which("ptxas")]
    if found[0] is None:
        return None
    command = [found[0], "-v", f"-arch=sm_{generation[0]}{generation[1]}", f"-maxrregcount={registers}"]
    done = subprocess.run([*command, "-", "-o", os.devnull], input=code, capture_output=True, text=True)
    if "Unsupported .version" in done.stderr:  # older than the package that wrote the code
        return None
    assert done.returncode == 0, done.stderr
    return done.stderr


@here_compiles
def test_the_end_of_a_step_compiles(monkeypatch):
    f, i, d, t = np.zeros(8, np.float32), np.zeros(8, np.int64), np.zeros(8), np.zeros(4, np.int32)
    for each in (
        launch.launch(step.measure, 1, launch.THREADS, f, d, i, 0.5, 2.0, 1),
        launch.launch(step.record, 1, launch.THREADS, f, i, d, d, t, (1, 1, 1), (1, 2, 3, 4), 2.0, 0.0, 1.0),
    ):
        assert ".entry" in ptx(each.kernel.py_func, tuple(map(numba_type, each.arguments)), (9, 0), monkeypatch)


class HostMemory:
    """Replacement for numba.cuda that launches and loads nothing: arrays lie in host memory."""

    device_array = staticmethod(np.zeros)
    to_device = staticmethod(np.asarray)

    @staticmethod
    def stream():
        return 0


LAYERS = ["conv(4, 3, padding='same', stride=2)", "batchnorm", "relu", "maxpool(2)", "flatten", "dropout(0.5)",
          ("residual", {"layers": ["dense(16)", "tanh"]}), "layernorm", "dense(3)"]  # fmt: skip


@here_compiles
def test_a_whole_training_step_compiles(monkeypatch):
    """Collect the launches of a program: gather, forward, backward, weights, norms, clipping and the update."""
    monkeypatch.setattr(driver, "require", lambda *given: None)
    monkeypatch.setattr(device, "require", lambda: None)
    monkeypatch.setattr(device_arrays, "cuda", HostMemory)
    monkeypatch.setattr(driver.Sequence, "compile", lambda *given: None)
    network = compose(LAYERS, (2, 9, 8), device="cuda", seed=1)
    program = Program(network, "cross_entropy", "adam", 4, clip=Clip(max=1.0, p=2.0), weighted=True)
    run = device.DeviceRun(program)
    real, whole = np.zeros(1, np.float32), np.zeros(1, np.int64)
    noted = run.trace.step(4, [real, whole, real], whole)
    assert len(noted) > 30
    names = set()
    for each in noted:
        assert all(array.flags.c_contiguous for array in each.arguments if isinstance(array, np.ndarray))
        function, signature = each.kernel.py_func, tuple(map(numba_type, each.arguments))
        if (function, signature) not in names:
            names.add((function, signature))
            code = ptx(function, signature, (9, 0), monkeypatch)
            assert ".entry" in code and (function.__name__.startswith("step_") or not DOUBLE.search(code))
    (measured,) = [each for each in noted if each.kernel.py_func.__name__ == "step_measure"]
    assert measured.arguments[2].dtype == np.int64  # indices into theta, which may be longer than 2**31
    wide = [each for each in noted if each.threads == 1024]
    assert wide and all(each.kernel.targetoptions["max_registers"] == 64 for each in wide)  # of 65,536
    assert noted[0].kernel.py_func.__name__ == "batch_gather" and noted[-1].kernel.py_func.__name__ == "update_adam"


# -- from a loop to a grid ---------------------------------------------------------------------------------------------


@kernel
def _halved(x, y):
    """y = x / 2."""
    rows = x.shape[0]
    for i in prange(rows):
        y[i] = 0.5 * x[i]


def test_the_grid_is_as_large_as_the_loop():
    x = np.zeros((5 * launch.THREADS + 1, 3), np.float32)
    (found,) = launch.launches(_halved, [x, x])
    assert found.grid == (6,) and found.threads == launch.THREADS and len(found.arguments) == 2
    (large,) = launch.launches(_halved, [np.broadcast_to(x[0], (10**9, 3)), x])
    assert large.grid == (launch.GRID,)
    assert launch.launches(_halved, [x[:0], x[:0]]) == []


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, expected",
    [
        ("\nCUDA driver library cannot be found.\nEnsure ...", "there is no NVIDIA driver on this machine"),
        ("[803] CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "the NVIDIA driver cannot be used .*803"),
        (None, "the NVIDIA driver finds no GPU"),
        ("", "numba-cuda came without its compiler, libNVVM"),
    ],
)
def test_no_gpu(said, expected, monkeypatch):
    monkeypatch.setattr(driver.nvvm, "is_available", lambda: said is None)
    monkeypatch.setattr(driver, "SIMULATED", False)
    monkeypatch.setattr(driver, "find_spec", lambda name: True)
    monkeypatch.setattr(driver.cuda, "is_available", lambda: False)
    monkeypatch.setattr(driver.cuda, "cuda_error", lambda: said)
    with pytest.raises(DeviceError, match=f"device cuda: {expected}") as error:
        compose("dense(2)", (3,), device="cuda")
    assert error.value.exit_status == 1 and "\n" not in str(error.value)


def test_what_no_grid_holds_is_refused():
    f = np.zeros(16, np.float32)
    for M, groups in ((1, 70000), (10**7, 1)):
        with pytest.raises(DeviceError, match="at most 65535 groups and 2097120 rows"):
            product.multiply(product.Factor(f), product.Factor(f), f[:0], f, M, 1, 1, groups=groups)


def test_float64_takes_smaller_tiles():
    for real, columns in ((np.float32, 128), (np.float64, 64)):
        x = np.zeros((2048, 4), real)
        (found,) = dense.forward.function(x, x, x[0, :0], np.zeros((2048, 2048), real))
        assert found.grid[0] == 2048 // columns


def test_no_package(monkeypatch):
    monkeypatch.setattr(driver, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"numba-cuda is not installed; pip install .nnjit\[cuda\]."):
        compose("dense(2)", (3,), device="cuda")


@pytest.mark.parametrize("capability, fits", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_tensor_cores_need_a_gpu_that_has_them(capability, fits, monkeypatch):
    gpu = type("GPU", (), {"compute_capability": capability})
    monkeypatch.setattr(driver, "find_spec", lambda name: True)
    monkeypatch.setattr(driver.cuda, "is_available", lambda: True)
    monkeypatch.setattr(driver.cuda, "get_current_device", lambda: gpu)
    compose("dense(2)", (3,), device="cuda")
    if fits:
        assert compose("dense(2)", (3,), device="cuda", precision="tf32").precision == "tf32"
    else:
        with pytest.raises(
            DeviceError, match=r"precision: tf32 needs a GPU .* 8\.0, this one has 7\.5; choose float32"
        ):
            compose("dense(2)", (3,), device="cuda", precision="tf32")


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"precision": "tf32"}, "precision: tf32 needs the tensor cores of device cuda, got device cpu"),
        ({"precision": "tf33", "device": "cuda"}, "precision: expected float32, tf32 or bf16, got .*did you mean tf32"),
        ({"precision": "bf16", "device": "cuda", "dtype": "float64"}, "precision: bf16 rounds float32 numbers"),
    ],
)
def test_a_precision_that_cannot_be_is_a_mistake_of_the_caller(options, expected):
    with pytest.raises(SpecError, match=expected) as error:
        compose("dense(2)", (3,), **options)
    assert error.value.exit_status == 2


class CudaAPIError(Exception):
    __module__ = "numba.cuda.cudadrv.driver"

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize(
    "raised, expected",
    [
        (CudaAPIError(2, "[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"), "smaller batch_size"),
        (
            CudaAPIError(700, "[700] CUDA_ERROR_ILLEGAL_ADDRESS\nmore"),
            ".*700.*ADDRESS; .*lost",
        ),
        (CudaAPIError(222, "[222] CUDA_ERROR_UNSUPPORTED_PTX_VERSION"), r"driver is too old .*222.*numba-cuda\[cu12\]"),
        (MemoryError(), "out of memory"),
    ],
)
def test_errors_of_the_driver_are_one_sentence(raised, expected):
    with pytest.raises(DeviceError, match=expected) as error, driver.translated("device cuda"):
        raise raised
    assert str(error.value).startswith("device cuda: ") and "\n" not in str(error.value)
    with pytest.raises(KeyError), driver.translated("device cuda"):
        raise KeyError("ours")


def test_what_the_compiler_cannot_is_one_sentence():
    def compile(signature):
        raise ImportError("scipy 0.16+ is required for linear algebra")

    code = type("Code", (), {"compile": staticmethod(compile), "typeof_pyval": type})
    with pytest.raises(DeviceError, match=r"odd_forward has no CUDA form: scipy 0\.16\+ is required") as error:
        driver.Sequence([launch.Launch(code, (1,), 1, (1,))], 0).compile("odd_forward")
    assert error.value.exit_status == 1


def test_memory_that_runs_out_while_a_program_is_made(monkeypatch):
    def full(*given):
        raise CudaAPIError(2, "CUDA_ERROR_OUT_OF_MEMORY")

    for where in (driver, device):
        monkeypatch.setattr(where, "require", lambda *given: None)
    monkeypatch.setattr(device_arrays, "cuda", HostMemory)
    monkeypatch.setattr(HostMemory, "device_array", full)
    monkeypatch.setattr(driver.Sequence, "compile", lambda *given: None)
    program = Program(compose("dense(2)", (3,), device="cuda"), "mse", "sgd", 2)
    with pytest.raises(DeviceError, match=r"program of .* MB: .* not enough free memory; a smaller batch_size"):
        device.DeviceRun(program)


class Decomposed(Layer):
    """A layer whose kernel the CPU can compile and a GPU cannot."""

    def output_shape(self, in_shape):
        return in_shape

    @kernel
    def forward(x, y):
        """y = the singular values of each sample."""
        for n in prange(x.shape[0]):
            y[n] = np.linalg.svd(x[n : n + 1].T)[1][0]

    @kernel
    def backward_input(dy, dx):
        for n in prange(dy.shape[0]):
            dx[n] = dy[n]


@here_compiles
def test_what_does_not_compile_is_refused_before_any_memory_is_taken(monkeypatch):
    """All kernels are compiled for absent arrays, those of the plug-in too."""
    taken, seen = [], []

    def compile_without_a_driver(sequence, name):
        (each,) = sequence.launches
        seen.append(name)
        code = type("Code", (), {"typeof_pyval": staticmethod(numba_type)})
        code.compile = lambda signature: ptx(each.kernel.py_func, signature, (9, 0), monkeypatch)
        compiled(driver.Sequence([launch.Launch(code, each.grid, each.threads, each.arguments)], None), name)

    compiled = driver.Sequence.compile
    monkeypatch.setattr(driver.Sequence, "compile", compile_without_a_driver)
    for where in (driver, device):
        monkeypatch.setattr(where, "require", lambda *given: None)
    monkeypatch.setattr(device_arrays, "cuda", HostMemory)
    monkeypatch.setattr(HostMemory, "device_array", lambda *given: taken.append(given) or np.zeros(*given))
    monkeypatch.setattr(HostMemory, "to_device", lambda *given: taken.append(given) or np.asarray(*given))
    registry.register("decomposed", force=True)(Decomposed)
    try:
        program = Program(compose("dense(3) decomposed dense(2)", (3,), device="cuda"), "mse", "sgd", 2)
    finally:
        registry.unregister("decomposed")
    with pytest.raises(DeviceError, match=r"Decomposed_forward has no CUDA form: .*numba\.cuda knows") as error:
        device.DeviceRun(program)
    assert error.value.exit_status == 1 and "\n" not in str(error.value)
    assert len(seen) > 2 and not taken
    device.DeviceRun(Program(compose("dense(3) relu dense(2)", (3,), device="cuda"), "mse", "sgd", 2))
    assert taken


BENCHMARKS = HERE.parent / "benchmarks"


@pytest.mark.skipif(launch.cuda.is_available() or not BENCHMARKS.is_dir(), reason="there is a GPU, or no checkout")
def test_the_benchmark_without_a_gpu_and_its_report(tmp_path, monkeypatch):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--output", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("device cuda: ") and not (tmp_path / "results").exists()
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    steps = {"nnjit": 1e-4, "eager": 4e-4, "CUDA graph": 2e-4, "torch.compile": 3e-4}
    found = {"device": "GPU", "torch": "2", "roofline": {"bytes": 4e12, "flops": 6e13}}
    found |= {"training": {}, "kernels": {}, "memory": {}}
    assert "| a copy, read and written | 4000 GB/s |" in gpu.markdown(found)  # after the first part
    found |= {
        "devices agree": {"loss": 1e-5, "accuracy points": 0.1},
        "training": {"float32": {"LeNet": steps, "MLP": {"nnjit": 1e-4, "eager": 1e-4, "CUDA graph": 1e-4}}},
        "kernels": {"bf16": {"product": (steps, 3e9, "flops", (0.6, 0.9))}},
        "memory": {"sum": ({"nnjit": 1e-4}, 2e8, "bytes", (0.8, 0.95))},
    }
    text = gpu.markdown(found)
    assert "| LeNet, batch 128 | 100 us | 4.00 | 2.00 | 3.00 | 2, 6; graph 0.9, 1.5 |" in text
    assert "| MLP, batch 128 | 100 us | 1.00 | 1.00 | does not run |" in text
    assert "| product | 100 us | 30.0 TFLOP/s | 0.50 | 4.00 | 0.6, 0.9 |" in text
    assert "| sum | 100 us | 2000 GB/s | 0.50 |  | 0.8, 0.95 |" in text


class Anything:
    """Replacement for torch and its results."""

    def __getattr__(self, name):
        return self

    def __call__(self, *given, **named):
        return self

    __rmul__ = __call__


class Zeros:
    """Replacement for a generator of random numbers: zeros without memory."""

    @staticmethod
    def normal(size):
        return np.broadcast_to(0.0, size)

    random = normal


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no checkout")
def test_what_the_benchmark_measures_can_be_launched(monkeypatch):
    """Its operations are bound to arrays of the real sizes and compared in every precision."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    def shared(torch, array):
        return device_arrays.stand_in(np.size(array), np.float32).reshape(np.shape(array)), Anything()

    bound, torch = [], Anything()
    monkeypatch.setattr(gpu, "shared", shared)
    monkeypatch.setattr(np.random, "default_rng", lambda *seed: Zeros)
    monkeypatch.setattr(gpu, "timed", lambda runs, synchronize: dict.fromkeys(runs, 1.0))
    monkeypatch.setattr(driver, "Sequence", lambda found, stream: bound.append(found) or (lambda: None))
    monkeypatch.setattr(launch.cuda, "stream", lambda: 0)
    monkeypatch.setattr(launch.cuda, "device_array", np.zeros)
    for precision in gpu.ROUNDING:
        assert len(gpu.product(torch, precision) | gpu.convolution(torch, precision)) == 4
    assert len(gpu.memory_bound(torch)) > 8 and all(bound)
    if find_spec("numba_cuda") is not None:  # a few percent of the instructions count the loop
        code = ptx(gpu.multiply_add, (numba_type(np.zeros(1, np.float32)),), (9, 0), monkeypatch)
        assert code.count("fma.rn.f32") >= 4 * gpu.UNROLLED > 20 * code.count("setp")


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no checkout")
def test_the_benchmark_compares_all_losses(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    assert gpu.devices_agree("digits", ("cpu", "cpu")) == {"loss": 0.0, "accuracy points": 0.0}


@pytest.mark.skipif(launch.cuda.is_available(), reason="there is a GPU")
def test_nnjit_run_without_a_gpu(tmp_path):
    command = [*SCRIPT, "run", "--device", "cuda", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert re.fullmatch(r"nnjit: .*device cuda: .+\n", done.stderr), done.stderr
