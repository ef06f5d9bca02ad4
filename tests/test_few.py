"""Few samples: the affine layer with constant sizes, and direct calls from compiled code."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.check.races import interpreted
from nnjit.kernels.compiler import masks
from nnjit.kernels.cpu import dense, dense_few
from nnjit.kernels.operations import operation
from nnjit.program.direct import FIELDS, signature_of
from numba import njit

GUARD = 40  # numbers around a result, which nothing may touch
SIZES = [(1, 1, 1), (1, 2, 4), (1, 3, 5), (2, 4, 33), (3, 5, 3), (1, 8, 16), (1, 15, 9), (1, 16, 16), (2, 17, 20),
         (1, 32, 7), (1, 65, 50)]  # fmt: skip


@pytest.mark.parametrize("N, m, n", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_exact(N, m, n, dtype, bias):
    """Whole numbers, whose sums are exact in any order, compiled and in plain Python."""
    rng = np.random.default_rng(N + m + n)
    x, W, b = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((N, m), (n, m), n * bias))
    for run in (dense_few.forward, interpreted(dense_few.forward.function, range)):
        room = np.full(N * n + 2 * GUARD, 7, dtype)
        run(x, W, b, room[GUARD:-GUARD].reshape(N, n))
        np.testing.assert_array_equal(room[GUARD:-GUARD].reshape(N, n), x @ W.T + (b if bias else 0))
        assert (room[:GUARD] == 7).all() and (room[-GUARD:] == 7).all()


@pytest.mark.parametrize("N, m, n", [*((N, n, m) for N, m, n in SIZES), (1, 150, 5), (1, 65, 9), (3, 70, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_are_exact(N, m, n, dtype):
    rng = np.random.default_rng(N + m + n)
    x, W, dy = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((N, m), (n, m), (N, n)))
    for plain in (False, True):
        for kernel, given, wanted in (
            (dense_few.backward_input, (W, dy), dy @ W),
            (dense_few.backward_weight, (x, dy), dy.T @ x),
        ):
            room = np.full(wanted.size + 2 * GUARD, 7, dtype)
            run = interpreted(kernel.function, range) if plain else kernel
            run(*given, room[GUARD:-GUARD].reshape(wanted.shape))
            np.testing.assert_array_equal(room[GUARD:-GUARD].reshape(wanted.shape), wanted)
            assert (room[:GUARD] == 7).all() and (room[-GUARD:] == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_vectors_are_summed_as_among_many_samples(dtype):
    """One sample alone, by groups of rows, gives the bits of dense.forward."""
    rng = np.random.default_rng(0)
    for m, n in ((16, 16), (33, 20), (64, 64)):
        x, W, b = (rng.standard_normal(shape).astype(dtype) for shape in ((1, m), (n, m), n))
        found, expected = np.empty((2, 1, n), dtype)
        dense_few.forward(x, W, b, found)
        dense.forward(x, W, b, expected)
        np.testing.assert_array_equal(found, expected)


def test_small_networks_take_the_kernel_for_few_samples():
    forward = operation("dense.forward", few="dense_few")
    assert forward.on("few") is dense_few.forward and forward.on("cpu") is dense.forward
    assert operation("dense.backward_bias").on("few") is dense.backward_bias


@njit
def call(function, state, x, y):
    return function(state, x, y)


@njit
def call_each(function, state, x, y):
    for i in range(len(x)):
        function(state, x[i : i + 1], y[i : i + 1])


@pytest.mark.parametrize("batch_size", [1, 8, 40])
@pytest.mark.parametrize("layers", ["dense(5) tanh dense(3)", "dense(80) relu dense(90) tanh dense(3)"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_direct_calls_give_the_bits_of_calls_from_python(layers, batch_size, dtype):
    """The functions are predict and step, for inlined and linked programs, and for a state of more learning rates."""
    net = registry.compose(layers.split(), input_shape=(4,), dtype=dtype)
    x, target = (np.random.default_rng(k).standard_normal((batch_size, k)).astype(dtype) for k in (4, 3))
    rates = [0.1, 0.01, 0.001]
    program, other = (net.compile(loss="mse", optimizer="adam", batch_size=batch_size, rates=r) for r in (0.1, rates))
    assert program.state.layout == other.state.layout
    found, alone, expected = np.empty((3, batch_size, 3), dtype)
    states = [other.new_state() for _ in range(2)]
    for _ in range(3):
        losses = [run(program.step, state, x, target) for run, state in zip(RUNS, states, strict=True)]
        assert losses[0] == losses[1]
    for a, b in zip(states[0][:-1], states[1][:-1], strict=True):
        np.testing.assert_array_equal(a, b)
    call(program.predict, states[0], x, found)
    program.predict(states[1], x, expected)
    np.testing.assert_array_equal(found, expected)
    call_each(program.predict, states[0], x, alone)
    np.testing.assert_allclose(alone, expected, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-6)


RUNS = (call, lambda function, *arguments: function(*arguments))


def test_a_direct_call_takes_few_numbers():
    program = registry.compose(["dense(3)"], input_shape=(4,)).compile(loss="mse", optimizer="sgd", batch_size=1)
    kinds = [parameter.type for parameter in program.predict.parameters]
    assert len(signature_of("predict", kinds)) == len(FIELDS["predict"]) + 3 == 6  # and x, y, N


MASKED = """
define void @f(ptr %a, <4 x ptr> %b, ptr %c) {
  %x = tail call <4 x float> @llvm.masked.load.v4f32.p0(ptr align 4 %a, <4 x i1> <i1 true, i1 true, i1 true, i1 false>, <4 x float> poison), !noalias !0
  %y = call <4 x float> @llvm.masked.gather.v4f32.v4p0(<4 x ptr> align 4 %b, <4 x i1> <i1 true, i1 false, i1 true, i1 false>, <4 x float> poison)
  %z = fadd <4 x float> %x, %y
  call void @llvm.masked.store.v4f32.p0(<4 x float> %z, ptr align 4 %c, <4 x i1> <i1 false, i1 true, i1 true, i1 false>)
  ret void
}
declare <4 x float> @llvm.masked.load.v4f32.p0(ptr captures(none), <4 x i1>, <4 x float>)
!0 = !{}
"""  # noqa: E501


def test_masks_of_few_numbers_are_written_out():
    text = masks.written_out(MASKED)
    assert "call" not in text and text.count("load float") == 5 and text.count("store float") == 2
    assert text.count("extractelement <4 x ptr> %b, i32 2") == 1 and text.count(", !noalias !0") == 3
    for many in ("<4 x i1> %m", f"<8 x i1> <{', '.join(5 * ['i1 true'] + 3 * ['i1 false'])}>"):
        line = f"%x = call <8 x float> @llvm.masked.load.v8f32.p0(ptr %a, {many}, <8 x float> poison)"
        assert masks.written_out(line) == line + "\n"  # the mask is not known, or has many lanes
    given = line.replace("poison", "%given")
    assert masks.written_out(given) == given + "\n"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_of_three_neurons_keep_to_their_arrays(dtype):
    """Loops over three numbers are computed in vectors of four: no fourth one is read or written."""
    net = registry.compose(["dense(3)", "tanh", "dense(3)"], input_shape=(3,), dtype=dtype)
    program = net.compile(loss="mse", optimizer="sgd", batch_size=1)
    room = np.full((5, 3), 7, dtype)
    x = np.arange(3, dtype=dtype).reshape(1, 3)
    call(program.predict, program.state, x, room[2:3])
    np.testing.assert_allclose(room[2:3], net.predict(x), rtol=1e-5)
    assert (np.delete(room, 2, 0) == 7).all()


def test_an_entry_gives_the_first_number_of_y():
    """A loop that uses y gets what is in y, for one sample and for several, and an empty batch is not read."""
    net = registry.compose(["dense(3)"], input_shape=(4,))
    program = net.compile(loss="mse", optimizer="sgd", batch_size=1)

    @njit
    def first(function, state, x, y):
        function(state, x, y)
        return y[0, 0] if len(y) else -1

    for n in (1, 3, 0):
        x = np.random.default_rng(n).standard_normal((n, 4)).astype("f4")
        y = np.full((n, 3), 7, "f4")
        assert first(program.predict, program.state, x, y) == (y[0, 0] if n else -1)
        np.testing.assert_allclose(y, net.predict(x) if n else y, rtol=1e-5)


@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_passed_by_value_are_those_of_x(inputs, dtype):
    """A loop that changes every input gives the bits of separate calls from Python."""
    net = registry.compose(["dense(5)", "tanh", "dense(2)"], input_shape=(inputs,), dtype=dtype)
    program = net.compile(loss="mse", optimizer="sgd", batch_size=1)

    @njit
    def simulate(function, state, x, y, steps):
        for _ in range(steps):
            function(state, x, y)
            for k in range(x.shape[1]):
                x[0, k] = y[0, k % 2]

    x, y = np.full((1, inputs), 0.5, dtype), np.empty((1, 2), dtype)
    other, expected = x.copy(), y.copy()
    simulate(program.predict, program.state, x, y, 4)
    for _ in range(4):
        program.predict(program.state, other, expected)
        other[0] = expected[0, np.arange(inputs) % 2]
    np.testing.assert_array_equal(y, expected)


def test_reads_of_a_sample_on_the_stack_are_ordinary():
    text = "\n".join([
        "define void @f(ptr %a) {", f"  %{masks.SAMPLE}1 = alloca [2 x float], align 4",
        f"  %p = getelementptr float, ptr %{masks.SAMPLE}1, i64 1", "  %x = load volatile float, ptr %p, align 4",
        "  %y = load volatile float, ptr %a, align 4",
    ])  # fmt: skip
    assert masks.promoted(text) == text.replace("%x = load volatile", "%x = load") + "\n"
