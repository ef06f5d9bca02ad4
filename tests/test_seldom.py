"""Functions that are compiled only where a program may reach them: the plan leaves out none that a kernel reaches."""

import os
import subprocess
import sys

import numpy as np
import pytest
from nnjit.errors import ShapeError
from nnjit.kernels.compiler import late, machine_code
from nnjit.kernels.compiler.linked import array, seldom
from nnjit.registry import compose
from numba import njit, types

# A program trains and predicts twice: first with all `seldom` functions, then the words of those that its plan leaves
# out hold the address of `abort`. Prints how many of them were left out.
PLANNED = """
import sys
import numpy as np
from nnjit import compose
from nnjit.kernels.compiler import late
from nnjit.kernels.compiler.source import Source, all_called
from nnjit.program import assemble
from nnjit.program.program import Program

layers, shape, batch, fewer, dtype = eval(sys.argv[1])
rng = np.random.default_rng(0)
net = compose(layers, shape, dtype=dtype, seed=3)
program = Program(net, "quadratic", "sgd(lr=0.1)", batch)
x, y = rng.normal(size=(batch, *shape)).astype(dtype), rng.normal(size=(batch, *net.output_shape)).astype(dtype)

def run():
    state = program.new_state()
    for n in (batch, fewer):
        program.step(state, x[:n], y[:n])
        program.predict(state, x[:n], z := np.zeros_like(y[:n]))
    return state.theta, z

first, words, real = run(), {}, program.dtype.type
for binding, left_out in assemble.not_reached(program).items():
    kernel = assemble._kernel(binding, "cpu")
    called = Source(kernel.function).told()[1]
    for function in all_called(called):
        function.provide(real)
        words.setdefault(function.register(real)[0], False)
    for function in all_called(called, left_out):
        words[function.register(real)[0]] = True
out = [word for word, reached in words.items() if word.endswith(late.WORD) and not reached]
second = run()
for word in out:
    late.fill(word, "abort")
third = run()
assert all(np.array_equal(a, b) and np.array_equal(b, c) for a, b, c in zip(first, second, third))
print(len(out))
"""
CASES = {  # layers, shape, batch, a smaller batch, type
    "the default": ("conv(16, 3, padding='same') relu maxpool(2) conv(32, 3, padding='same') relu maxpool(2) flatten"
                    " dense(10)", (1, 8, 8), 32, 3, "float32"),
    "filters in runs": ("conv(36, 3, padding='same') conv(44, (3, 2), padding='full', border='edge') flatten dense(5)",
                        (3, 12, 13), 20, 2, "float32"),
    "strides and groups": ("conv(10, 3, stride=2) conv(20, 3, groups=2, padding='same', border='wrap') conv(7, 1)"
                           " flatten dense(300)", (5, 21, 11), 70, 1, "float64"),
    "many samples": ("dense(300) tanh dense(70)", (290,), 1300, 300, "float64"),
}  # fmt: skip


def left_out(case):
    """Run a case; return how many functions its plan leaves out."""
    run = subprocess.run([sys.executable, "-c", PLANNED, repr(case)], capture_output=True, text=True)
    assert run.returncode == 0, (case, run.stderr)
    return int(run.stdout)


@pytest.mark.parametrize("case", CASES)
def test_no_kernel_reaches_what_its_plan_leaves_out(case):
    assert left_out(CASES[case]) > 0, "nothing is left out"


def drawn(rng):
    """Draw layers that fit each other, the shape of a sample, two batches and a type."""
    shape, layers = (int(rng.integers(1, 9)), *rng.integers(5, 19, rng.integers(1, 3)).tolist()), []
    for _ in range(rng.integers(1, 4)):
        filters, size, stride = rng.choice([1, 3, 4, 8, 11, 16, 25, 40, 64]), rng.integers(1, 6), rng.choice([1, 1, 2])
        padding = rng.choice(["valid", "same", "full"]) if stride == 1 else "valid"
        spec = f"conv({filters}, {size}, stride={stride}, padding='{padding}')"
        try:
            compose([*layers, spec], shape)
        except ShapeError:
            continue
        layers.append(spec)
    layers += ["flatten", f"dense({rng.choice([3, 17, 64, 130])})"]
    batch = int(rng.choice([1, 2, 7, 31, 64, 300]))
    return " ".join(layers), shape, batch, int(rng.integers(1, batch + 1)), str(rng.choice(["float32", "float64"]))


@pytest.mark.parametrize("seed", range(6))
def test_drawn_networks_reach_nothing_that_their_plan_leaves_out(seed):
    left_out(drawn(np.random.default_rng(seed)))


LATER = """
import numpy as np
from nnjit.kernels.compiler import cache
from nnjit.kernels.compiler.kernel import type_of
from nnjit.kernels.cpu import dense
from nnjit.kernels.cpu.matrix_transposed import add_by_transposing, add_packed_product
rng = np.random.default_rng(0)
x, W, b, y = (rng.normal(size=size).astype(np.float32) for size in ((300, 50), (40, 50), (40,), (300, 40)))
left_out = dense.forward.not_reached([x[:4], W, b, y[:4]])
assert left_out == {add_by_transposing.py_func, add_packed_product.py_func}
dense.forward.symbol(tuple(map(type_of, (x, W, b, y))), np.float32, left_out)
print(cache.compiled)
dense.forward(x, W, b, y)
assert np.allclose(y, x @ W.T + b, atol=1e-4)
print(cache.compiled)
"""


def test_code_that_is_loaded_finds_functions_that_come_later(tmp_path):
    """They are compiled when the first call needs them, and the kernel is not compiled again."""
    run = [sys.executable, "-c", LATER]
    environment = os.environ | {"NNJIT_CACHE_DIR": str(tmp_path)}
    for compiled in (["3", "5"], ["0", "0"]):  # the second process loads the same code from disk
        done = subprocess.run(run, env=environment, capture_output=True, text=True)
        assert done.stdout.split() == compiled, done.stderr


@seldom
def doubled(x: array, y: array, n):
    for i in range(n):
        y[i] = 2 * x[i]


def test_a_users_function_reaches_all_that_it_calls():
    """Also if a kernel that may leave the function out was compiled first, for arguments of the same types."""
    signature = (types.float64[::1], types.float64[::1], types.intp)
    machine_code.compiling.append(doubled)
    try:
        njit(lambda x, y, n: doubled(x, y, n)).compile(signature)
    finally:
        machine_code.compiling.pop()
    word, _ = doubled.py_func.register(np.float64)
    before = late._words[word].value
    users = njit(lambda x, y, n: doubled(x, y, n))
    users.compile(signature)
    assert late._words[word].value != before, "still the address of abort"
    x, y = np.arange(3.0), np.zeros(3)
    users(x, y, 3)
    assert np.array_equal(y, [0, 2, 4])
