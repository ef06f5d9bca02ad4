"""Functions for one thread of a user's CUDA kernel: against the CPU's program, and as machine code without a driver.

`on_cuda.py` runs them in kernels, in the simulator or on a GPU.
"""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.errors import ShapeError, SpecError
from nnjit.layers import Layer, elementwise, kernel
from nnjit.program.program import Program
from nnjit.registry import compose
from numba import njit, prange
from test_cuda import GENERATIONS, assembled, here_compiles, ptx

NETWORKS = {
    "2-16-16-1": ("dense(16) tanh dense(16) tanh dense(1)", (2,)),
    "4-8-3": ("dense(8) relu dense(3) softmax", (4,)),
    "every layer": (
        [
            *("flatten", "dense(6)", "gelu", ("residual", {"layers": ["dense(6)", "silu", "identity"]})),
            *(("residual", {"layers": [("residual", {"layers": ["tanh"]}), "dropout(0.5)"]}), "batchnorm"),
            *("leaky_relu(0.2)", "layernorm", ("residual", {"layers": ["identity"]}), "dense(4, bias=False)"),
            *("softmax", "softplus", ("reshape", {"shape": (2, 2)})),
        ],
        (3, 2),
    ),
    "a residual first": ([("residual", {"layers": ["dense(4)", "elu"]}), "dense(2)"], (4,)),
    "codes": ("standardize embedding([1, 2], [3, 4], size=[2, 1]) dense(3) tanh dense(2)", (4,)),
    "wide": ("dense(20) sigmoid layernorm dense(33) selu dense(20) softmax", (3,)),
    "17-17-17": ("dense(17) tanh dense(17) gelu dense(1)", (2,)),
    "many weights": ("dense(16) dense(16) tanh dense(16) dense(16)", (16,)),  # registers, and loops in dense layers
}


def made(name, dtype="float64"):
    """Return a network with drawn parameters and running statistics, its program, and samples with dy."""
    spec, shape = NETWORKS[name]
    net, rng = compose(spec, shape, dtype=dtype), np.random.default_rng(1)
    net.theta[:] = rng.normal(scale=0.5, size=net.theta.size)
    net.flat_buffers[:] = rng.uniform(0.5, 1.5, net.flat_buffers.size)
    for index in net.graph.codes():
        net.buffers["standardize.1.shift"][index], net.buffers["standardize.1.scale"][index] = 0, 1
    x, dy = net.graph.draw(rng, 3).astype(dtype), rng.normal(size=(3, *net.output_shape)).astype(dtype)
    return net, Program(net, batch_size=3, derivatives=True), x, dy


def reference(program):
    """Return vjp of a program, run with the NumPy kernels: nothing is compiled."""
    function = program.derivatives.code("vjp").reference().vjp

    def vjp(state, x, dy):
        y, dx = np.empty_like(dy), np.empty_like(x)
        function(state, x, dy, y, dx, False)
        return y, dx

    return vjp


def vectors(net):
    """Return the arguments that are no sample's: theta, and the running statistics if there are any."""
    return [net.theta, *([net.flat_buffers] if net.flat_buffers.size else [])]


def check(predict, vjp, net, program, of_program, x, dy, tolerance):
    """Compare functions for one sample with vjp of the program, dtheta over all samples."""
    program.state.gradient[:] = 0
    y, dx = of_program(program.state, x, dy)
    dtheta = np.zeros_like(net.theta)
    for n in range(len(x)):
        found, again, back = np.empty(y[n].size, y.dtype), np.empty(y[n].size, y.dtype), np.empty(x[n].size, y.dtype)
        predict(*vectors(net), x[n].ravel(), found)
        vjp(*vectors(net), x[n].ravel(), dy[n].ravel(), again, back, dtheta)
        np.testing.assert_array_equal(found, again)
        np.testing.assert_allclose(found, y[n].ravel(), rtol=0, atol=tolerance)
        np.testing.assert_allclose(back, dx[n].ravel(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(dtheta, program.state.gradient, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-13)])
def test_the_text_in_python(name, dtype, tolerance):
    net, program, x, dy = made(name, dtype)
    functions = [program.device_function(each) for each in ("predict", "vjp")]
    check(*functions, net, program, reference(program), x, dy, tolerance)


@st.composite
def wide_networks(draw):
    """Draw the layers of a deep network that is too wide for registers, so that its text shares arrays of memory."""
    kinds = ["tanh", "relu", "gelu", "silu", "softplus", "layernorm", "batchnorm", "softmax", "identity"]
    layers = [f"dense({draw(st.integers(17, 24))})"]
    for _ in range(draw(st.integers(1, 5))):
        some = draw(st.lists(st.sampled_from(kinds), max_size=3))
        match draw(st.integers(0, 3)):
            case 0:
                layers += [*some, f"dense({draw(st.integers(1, 24))})"]
            case 1:
                layers += some
            case 2:
                layers.append(("residual", {"layers": some or ["identity"]}))
            case 3:
                layers.append(("residual", {"layers": [*some, ("residual", {"layers": ["silu", *some[:1]]})]}))
    return layers


@settings(max_examples=20, deadline=None)
@given(wide_networks(), st.integers(1, 24))
def test_arrays_share_memory(layers, inputs):
    """An array never takes the memory of one that is read later."""
    net, rng = compose(layers, (inputs,), dtype="float64"), np.random.default_rng(1)
    net.theta[:] = rng.normal(scale=0.5, size=net.theta.size)
    net.flat_buffers[:] = rng.uniform(0.5, 1.5, net.flat_buffers.size)
    program = Program(net, batch_size=1, derivatives=True)
    functions = [program.device_function(each) for each in ("predict", "vjp")]
    x, dy = rng.normal(size=(1, inputs)), rng.normal(size=(1, *net.output_shape))
    check(*functions, net, program, reference(program), x, dy, 1e-11)


@pytest.mark.parametrize("name, dtype, tolerance", [("2-16-16-1", "float32", 1e-6), ("4-8-3", "float64", 1e-15)])
def test_the_text_and_the_compiled_program(name, dtype, tolerance):
    net, program, x, dy = made(name, dtype)
    functions = [program.device_function(each) for each in ("predict", "vjp")]
    check(*functions, net, program, program.vjp, x, dy, tolerance)


def test_layernorm_whose_squares_overflow_is_nan():
    """In one thread there is no room for the scaled sums of the kernels."""
    net = compose("layernorm", (3,), dtype="float32")
    predict, y = net.compile().device_function("predict"), np.zeros(3, np.float32)
    predict(net.theta, np.array([1e20, -1e20, 3e19], np.float32), y)
    assert np.isnan(y).all()


def test_derivatives_that_are_not_wanted():
    net, program, x, dy = made("every layer")
    vjp, x, dy = program.device_function("vjp"), x[0].ravel(), dy[0].ravel()
    y, dx, dtheta = np.empty(4), np.empty(6), np.zeros_like(net.theta)
    vjp(*vectors(net), x, dy, y, dx, dtheta)
    again, added, back = np.empty(4), np.zeros_like(net.theta), np.empty(6)
    vjp(*vectors(net), x, dy, again, None, added)
    vjp(*vectors(net), x, dy, again, back, None)
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(back, dx)
    np.testing.assert_array_equal(added, dtheta)


def test_the_running_statistics_are_those_of_the_call():
    """Nothing of the network is frozen in the function."""
    net, program, x, _ = made("every layer")
    predict, y = program.device_function("predict"), np.empty(4)
    net.flat_buffers[:] *= 3
    net.theta[:] *= 0.5
    predict(*vectors(net), x[0].ravel(), y)
    wanted = np.empty((1, 2, 2))
    program.reference().predict(program.state, x[:1], wanted)
    np.testing.assert_allclose(y, wanted.ravel(), rtol=1e-12)


def test_the_text_can_be_read():
    """A line of the text's function is a layer; loops take the place of `each` where the registers are too few."""
    program = planned(compose("dense(16) tanh dense(3)", (2,)))
    text = program.device_function("predict").source
    assert '"""z2 = W2 a1 + b2; W2 = theta[0:32] as (16, 2), b2 = theta[32:48]."""' in text
    assert "each(16, dense2_forward, theta, a1, z2)  # z2 = W2 a1 + b2" in text
    assert "atomic" not in program.device_function("vjp").source
    assert repr(program.device_function("vjp")) == (
        "<device function vjp(theta (99,), x (2,), dy (3,), y (3,), dx (2,), dtheta (99,)) of float32>"
    )
    wide = planned(compose("dense(17) tanh dense(3)", (2,))).device_function("predict").source
    assert "for j in range(17):\n        dense2_forward(j, theta, a1, z2)" in wide and "each(" not in wide
    many = planned(compose(*NETWORKS["many weights"])).device_function("vjp").source
    assert "for j in range(16):\n        each(15, move, a2)\n        dense2_forward(j, theta, a1, a2)" in many
    assert "    a2[15] = total\n" in many and "+= da2[0] * a1[k]\n" in many
    deep = planned(compose(["dense(16)", "tanh"] * 9, (16,)))  # more numbers than registers
    text = deep.device_function("vjp").source
    assert "each(" not in text
    assert re.search(r"a2 = z2 +# z2 is not read again\n", text)
    assert re.search(r"in_memory\(a1, a2, .*\n    cuda.threadfence_block\(\)", text)
    assert text.count("local.array(16") == 11  # x, nine activations and one gradient at a time


# -- refusals ----------------------------------------------------------------------------------------------------------


class Double(Layer):
    """y = 2 x, by a kernel."""

    @kernel
    def forward(x, y):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[n, j] = 2.0 * x[n, j]


class Cube(Layer):
    """y = x^3, without a derivative that is a formula."""

    @elementwise
    def forward(x):
        return x**3

    @kernel
    def backward_input(x, dy, dx):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                dx[n, j] = 3.0 * x[n, j] ** 2 * dy[n, j]


@pytest.fixture(scope="module", autouse=True)
def registered():
    for kind in (Double, Cube):
        registry.register(kind.__name__.lower())(kind)
    yield
    for kind in (Double, Cube):
        registry.unregister(kind.__name__.lower())


@pytest.mark.parametrize(
    "layers, shape, name, message",
    [
        (["conv(2, 3)"], (1, 5, 5), "predict", r"conv\.1 has no form for one thread; dense, .* with device=\"cuda\""),
        (["dense(2)", "double"], (3,), "predict", r"double\.2 has no form for one thread"),
        (["dense(65)", "dense(1)"], (3,), "predict", r"dense\.1 has 65 numbers, but one thread holds at most 64"),
        (["dense(2)"], (80,), "vjp", r"the input has 80 numbers"),
        (
            ["dense(6)", ("reshape", {"shape": (2, 3)}), "softmax"],
            (4,),
            "vjp",
            r"softmax\.3 has inputs \(2, 3\).*flatten",
        ),
        (["dense(2)", "cube"], (3,), "vjp", r"cube\.2 has no derivative for one thread: .*derivative.*predict needs"),
        (["dense(2)"], (3,), "step", r"expected one of predict, vjp, got .step"),
    ],
)
def test_refusals(layers, shape, name, message):
    with pytest.raises(SpecError, match=r"^device_function: .*" + message):
        planned(compose(layers, shape)).device_function(name)


def planned(net):
    """Return a program, of which nothing is compiled yet."""
    return Program(net, batch_size=1)


def test_a_formula_of_a_plugin_needs_no_more():
    net = compose(["dense(2)", "cube"], (3,))
    program, x, y = planned(net), np.ones(3, np.float32), np.empty(2, np.float32)
    program.device_function("predict")(net.theta, x, y)
    np.testing.assert_allclose(y, net.predict(x[None])[0], rtol=1e-6)


@pytest.mark.parametrize(
    "given, message",
    [
        ((np.zeros(3, np.float32), np.zeros(2)), r"predict: y: expected float32 \(2,\), got float64 \(2,\)"),
        ((np.zeros(2, np.float32), np.zeros(2, np.float32)), r"predict: x: expected float32 \(3,\), got .* \(2,\)"),
        ((None, np.zeros(2, np.float32)), r"predict: x: expected float32 \(3,\), got NoneType"),
    ],
)
def test_arrays_that_do_not_fit(given, message):
    net = compose("dense(2)", (3,))
    with pytest.raises(ShapeError, match=message):
        planned(net).device_function("predict")(net.theta, *given)


def test_code_for_the_cpu_takes_another_function():
    predict = planned(compose("dense(2)", (3,))).device_function("predict")
    with pytest.raises(Exception, match=r"for kernels of numba.cuda .*; jitted code .* takes program.predict"):
        njit(lambda x: predict(x, x, x))(np.zeros(3))


# -- as machine code ---------------------------------------------------------------------------------------------------


def kernels(predict, vjp, outputs, real):
    """Return kernels that a user would write: predictions, vjp with dtheta in rows, and a loop over steps."""
    from numba import cuda

    def predictions(theta, x, y):
        i = cuda.grid(1)
        if i < x.shape[0]:
            predict(theta, x[i], y[i])

    def derivatives(theta, x, dy, y, dx, dtheta):
        i = cuda.grid(1)
        if i < x.shape[0]:
            vjp(theta, x[i], dy[i], y[i], dx[i], dtheta[i])

    def steps(theta, x, dx, count):
        i = cuda.grid(1)
        if i < x.shape[0]:
            y, dy = cuda.local.array(outputs, real), cuda.local.array(outputs, real)
            for _ in range(count):
                predict(theta, x[i], y)
                for k in range(outputs):
                    dy[k] = y[k]
                vjp(theta, x[i], dy, y, dx[i], None)
                for k in range(x.shape[1]):
                    x[i, k] -= dx[i, k]

    return {"predictions": predictions, "derivatives": derivatives, "steps": steps}


def with_statistics(vjp):
    from numba import cuda

    def derivatives(theta, buffers, x, dy, y, dx, dtheta):
        i = cuda.grid(1)
        if i < x.shape[0]:
            vjp(theta, buffers, x[i], dy[i], y[i], dx[i], dtheta[i])

    return derivatives


compiled: dict = {}  # (spec, generation) -> name -> PTX


def codes(spec, shape, generation, monkeypatch):
    """Yield (name, PTX) of the kernels of a network in float32."""
    from numba.cuda import types

    key = str(spec), generation
    if key not in compiled:
        net = compose(spec, shape)
        program = planned(net)
        vector, rows = (types.Array(types.float32, rank, "C") for rank in (1, 2))
        both = [program.device_function(name) for name in ("predict", "vjp")]
        made = kernels(*both, net.output_shape[0], np.float32)
        compiled[key] = {
            name: ptx(made[name], signature, generation, monkeypatch)
            for name, signature in (
                ("predictions", (vector, rows, rows)),
                ("derivatives", (vector, rows, rows, rows, rows, rows)),
                ("steps", (vector, rows, rows, types.int64)),
            )
        }
    return compiled[key].items()


SMALL = [("dense(16) tanh dense(16) tanh dense(1)", (2,)), ("dense(8) relu dense(3) softmax", (4,))]
WIDE = [("dense(32) tanh dense(32) tanh dense(2)", (4,)), ("dense(32) layernorm gelu dense(32)", (32,))]
# Networks whose layers' numbers together would take more than the 255 registers, unless a layer reads them again: with
# an activation that keeps x and y, with residuals, and 64 wide.
DEEP = [
    (["dense(20)", "silu"] * 5, (20,)),
    ([("residual", {"layers": ["dense(32)", "layernorm", "gelu"]})] * 3, (32,)),
    ("dense(64) tanh dense(64) tanh dense(64)", (64,)),
]
# Networks up to 16 wide of more parameters than are unrolled, with as many numbers as the registers may keep.
MANY = [
    (["dense(16)", "tanh"] * 7 + ["dense(1)"], (16,)),
    (["dense(16)", "silu"] * 3 + ["dense(16)", "tanh", "dense(1)"], (16,)),
]
NAMES = ["2-16-16-1", "4-8-3", "4-32-32-2", "32-32-32", "20 deep", "residuals", "64-64-64-64", "16 tanh", "16 silu"]
NAMED = dict(zip(NAMES, [*SMALL, *WIDE, *DEEP, *MANY], strict=True))
every = pytest.mark.parametrize(
    "spec, shape, generation",
    [
        pytest.param(*network, generation, id=f"{name}-sm_{generation[0]}{generation[1]}")
        for name, network in NAMED.items()
        for generation in (GENERATIONS if network in SMALL else GENERATIONS[::2] if network in WIDE else [(8, 0)])
    ],
)


@here_compiles
@every
def test_float32_stays_float32(spec, shape, generation, monkeypatch):
    for name, code in codes(spec, shape, generation, monkeypatch):
        assert ".entry" in code and ".f64" not in code and "atom" not in code, name


@here_compiles
@every
def test_registers(spec, shape, generation, monkeypatch):
    """Up to 16 wide a thread's numbers are in registers, also in a loop over steps; wider ones spill nothing."""
    for name, code in codes(spec, shape, generation, monkeypatch):
        said = said_of(code, generation)
        assert "0 bytes spill stores, 0 bytes spill loads" in said, (name, said)
        assert (spec, shape) not in SMALL + MANY or "0 bytes stack frame" in said, (name, said)


def said_of(code, generation):
    """Return what ptxas reports; skip the test where there is none that reads this PTX."""
    said = assembled(code, generation, 255)
    if said is None:
        pytest.skip("there is no ptxas for this PTX; pip install nvidia-cuda-nvcc")
    return said


@here_compiles
def test_every_layer_in_registers(monkeypatch):
    from numba.cuda import types

    net, program, *_ = made("every layer", "float32")
    vector, rows = (types.Array(types.float32, rank, "C") for rank in (1, 2))
    signature = (*[vector] * len(vectors(net)), *[rows] * 5)
    code = ptx(with_statistics(program.device_function("vjp")), signature, (9, 0), monkeypatch)
    assert ".f64" not in code
    assert "0 bytes stack frame" in said_of(code, (9, 0))


@here_compiles
def test_networks_of_one_architecture_share_the_code():
    one, other = (planned(compose("dense(2)", (3,), seed=seed)).device_function("predict") for seed in (0, 1))
    assert one._numba_type_ == other._numba_type_
    assert one._numba_type_ != planned(compose("dense(1)", (3,))).device_function("predict")._numba_type_


@here_compiles
@pytest.mark.parametrize(
    "wrong, message",
    [(1, r"^predict: x: expected a float32 array of rank 1, got array\(float64, 1d"), (2, r"^predict: y: expected")],
)
def test_wrong_arrays_are_refused_by_a_sentence(wrong, message, monkeypatch):
    from numba.cuda import types

    program = planned(compose("dense(2)", (3,)))
    made = kernels(program.device_function("predict"), None, 2, np.float32)
    signature = [types.Array(types.float32, rank, "C") for rank in (1, 2, 2)]
    signature[wrong] = types.Array(types.float64, 2, "C")
    with pytest.raises(ShapeError, match=message):
        ptx(made["predictions"], tuple(signature), (9, 0), monkeypatch)


@here_compiles
@pytest.mark.parametrize("name", ["4-8-3", "17-17-17", "many weights"])
def test_compiled_for_the_cpu(name):
    """The same text as jitted functions, `each` compiled by the code of kernels, computes what it says."""
    from nnjit.kernels.compiler import source
    from nnjit.kernels.gpu import thread
    from numba.extending import intrinsic

    net, program, x, dy = made(name)
    found = {}
    for what in ("predict", "vjp"):
        function = program.device_function(what)
        space = {"each": intrinsic(thread.each._defn), "np": np, "real": np.float64, "flush": flushed, "njit": njit}
        for called, formula in function._formulas:
            definition, namespace = formula.scalar(np.float64)
            space[called] = njit(source.build(definition, called, "", namespace))
        text = re.sub(r".*(expect|threadfence_block|in_memory)\(.*", "", function.source)
        text = text.replace("cuda.local.array", "np.empty").replace("\ndef ", "\n@njit\ndef ")
        exec(text, space)
        found[what] = space[what]
    check(found["predict"], found["vjp"], net, program, reference(program), x, dy, 1e-13)


@njit
def flushed(x):
    return x if abs(x) >= 2.3e-308 else 0.0
