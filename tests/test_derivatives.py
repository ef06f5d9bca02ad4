"""Derivatives of a program: against PyTorch in float64, by the adjoint identity, and in users' compiled loops."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.errors import NnjitError, ShapeError, UsageError
from nnjit.kernels.counters import STEP
from nnjit.layers import Layer, kernel
from nnjit.program.program import Program
from nnjit.registry import compose
from numba import get_num_threads, njit, prange, set_num_threads
from numba.core.errors import TypingError

CASES = [
    (f"{name}{options}", shape)
    for name in registry.names()
    for options, shape in registry.get(name).check_cases or ()
    if name == registry.find(name).name
] + [("lppool(2, p=inf)", (2, 5, 4)), ("lppool(3, p=1.0, stride=1, padding=1)", (1, 4, 4))]


def network(layers, shape, seed=0):
    """Return a network in float64 with drawn parameters and buffers, and 3 samples, deltas and tangents."""
    net, rng = compose(layers, shape, dtype="float64", seed=seed), np.random.default_rng(seed)
    net.theta[:] = rng.standard_normal(net.theta.size) / 2
    net.flat_buffers[:] = rng.uniform(0.5, 1.5, net.flat_buffers.size)
    x, dx = net.graph.draw(rng, 3), rng.standard_normal((3, *shape))
    return net, x, dx, rng.standard_normal((3, *net.output_shape))


def derivatives(program, x, dx, dy, run=None):
    """Return all derivatives by name; `run` maps a kind to its functions, by default the compiled ones."""
    state, outs = program.state, (len(x), *program.network.output_shape)
    y, back, made = np.empty(outs), np.empty_like(x), {}
    call = run or (lambda kind, name: getattr(program, name))
    state.gradient[:] = 1
    call("vjp", "vjp")(state, x, dy, y, back, False)
    made |= {"y": y.copy(), "vjp": back, "gradient": state.gradient - 1}
    forward = np.empty(outs)
    call("jvp", "jvp")(state, x, dx, y, forward)
    made |= {"y again": y.copy(), "jvp": forward}
    J = np.empty((len(x), y[0].size, x[0].size))
    call("jacobian", "jacobian")(state, x, y, J)
    return made | {"y for J": y, "jacobian": J}


def interpreted(program):
    """Return the functions of the texts, line by line with compiled kernels."""
    return lambda kind, name: getattr(program.derivatives.code(kind).run, name)


def by_torch(net, x, dx, dy):
    """Return the same derivatives by PyTorch; skip the case if it lacks a layer."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install nnjit[peers]")
    from nnjit.bench import torch_twin
    from nnjit.bench.describe import describe

    rows = describe(net.layers, net.input_shape)
    written = formula(torch, net) if len(net.layers) == 1 else None
    if written is None:
        try:
            module = torch_twin.build(rows).double().eval()
        except torch_twin.NoTwin:
            return None
        tensors = torch_twin.parameters(module, rows)
    else:
        module, tensors = torch.nn.Identity(), {}
        module.forward = written
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.from_numpy(net.parameters[name]))
    running = [each for each in module.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    assert running or written or not net.buffers, "a twin that lacks the drawn buffers"
    statistics = iter(net.buffers.values() if running else ())
    for each, (mean, variance) in zip(running, zip(statistics, statistics, strict=True), strict=True):
        each.running_mean.copy_(torch.from_numpy(mean))
        each.running_var.copy_(torch.from_numpy(variance))
    at = torch.from_numpy(x).requires_grad_()
    # Once more as training sees the network: the gradient of a loss.
    losses = {}
    if tensors and not any(isinstance(each, torch.nn.Dropout) for each in module.modules()):
        twin = copy.deepcopy(module).train()
        loss = torch.nn.functional.mse_loss(twin(at.detach()), torch.from_numpy(dy))
        own = torch_twin.parameters(twin, rows)
        found = torch.autograd.grad(loss, own.values())
        losses = {"loss": np.array(loss.item()), "of loss": _flat(net, own, found)}
    y = module(at)
    back, *gradients = torch.autograd.grad(y, [at, *tensors.values()], torch.from_numpy(dy), allow_unused=True)
    _, forward = torch.autograd.functional.jvp(module, at.detach(), torch.from_numpy(dx))
    J = [torch.autograd.functional.jacobian(lambda one: module(one[None])[0], each) for each in at.detach()]
    found = {
        "y": y,
        "vjp": back,
        "jvp": forward,
        "jacobian": torch.stack(J).reshape(len(x), y[0].numel(), at[0].numel()),
    }
    found = {name: value.detach().numpy() for name, value in found.items()}
    return found | losses | {"gradient": _flat(net, tensors, gradients)}


def formula(torch, net):
    """Return what a layer of PyTorch does not compute as a function of x for PyTorch; None for other layers."""
    (layer,) = net.layers
    match net.graph.nodes[0].kind:
        case "noise" | "random_crop" | "random_flip" | "random_rotation":  # the identity in prediction
            return lambda x: x * 1.0
        case "standardize" | "minmax" | "unstandardize" as kind:
            shape = -1, *[1] * (len(net.input_shape) - 1)
            shift, scale = (torch.from_numpy(values).reshape(shape) for values in net.buffers.values())
            return lambda x: x * scale + shift if kind == "unstandardize" else (x - shift) / scale
        case "lppool":
            window = layer.window(net.input_shape)

            def pool(x):
                padding = [n for k in reversed(range(x.ndim - 2)) for n in (window.before[k], window.kernel[k])]
                x = torch.nn.functional.pad(x, padding).abs()  # more behind than needed; rest is left out below
                for k, count in enumerate(window.output(net.input_shape[1:])):
                    x = x.unfold(2 + k, window.kernel[k], window.stride[k]).narrow(2 + k, 0, count)
                x = x.flatten(len(net.input_shape) + 1)
                return x.amax(-1) if layer.p == np.inf else x.pow(layer.p).sum(-1) ** (1 / layer.p)

            return pool
    return None


def _flat(net, tensors, gradients):
    """Return PyTorch's gradients as a vector like theta."""
    own = {name: g.numpy() for name, g in zip(tensors, gradients, strict=True)}
    return np.concatenate([*(own[name].ravel() for name in net.parameters if net.parameters[name].size), np.empty(0)])


def near(got, wanted, about, tolerance=1e-10):
    """Check arrays by name; return the largest error, in units of an array's largest number, at least 1."""
    largest = 0.0
    for name, value in wanted.items():
        scale = max(1.0, np.abs(value).max(initial=0))
        np.testing.assert_allclose(got[name], value, rtol=0, atol=tolerance * scale, err_msg=f"{name} of {about}")
        largest = max(largest, np.abs(np.asarray(got[name]) - value).max(initial=0) / scale)
    return largest


def compared(layers, shape, batch_size, seed=0, run=interpreted):
    """Check all derivatives of a network; return the largest error against PyTorch's, None if that lacks a layer."""
    net, x, dx, dy = network(layers, shape, seed)
    program = Program(net, batch_size=batch_size, derivatives=True)
    got = derivatives(program, x, dx, dy, run(program))
    agree(got, x, dx, dy)
    wanted = by_torch(net, x, dx, dy)
    if wanted is None:
        return None
    if "loss" in wanted:
        program = Program(net, "mse", "sgd", batch_size=len(x), derivatives=True)
        got["loss"] = run(program)("gradient", "loss_gradient")(program.state, x, dy)
        got["of loss"] = program.state.gradient
    return near(got, wanted, f"{layers} on {shape}")


@pytest.mark.parametrize("spec, shape", CASES, ids=[f"{spec} on {shape}" for spec, shape in CASES])
def test_every_layer(spec, shape):
    compared([spec], shape, batch_size=2)  # three samples are two batches


def agree(got, x, dx, dy):
    """Check the derivatives against each other: <dy, J dx> = <J^T dy, dx>, and J by either direction."""
    flat = {name: got[name].reshape(len(x), -1) for name in ("vjp", "jvp")}
    pairs = {"jvp": ("noi,ni->no", dx), "vjp": ("noi,no->ni", dy)}
    near(flat, {k: np.einsum(how, got["jacobian"], v.reshape(len(x), -1)) for k, (how, v) in pairs.items()}, "J")
    near({"<>": (got["vjp"] * dx).sum()}, {"<>": (dy * got["jvp"]).sum()}, "the adjoint identity")
    near({"y": got["y again"]}, {"y": got["y"]}, "jvp")
    near({"y": got["y for J"]}, {"y": got["y"]}, "jacobian")


# -- networks ----------------------------------------------------------------------------------------------------------

FLAT = ["dense(5)", "dense(3, bias=False)", "tanh", "relu", "gelu", "softplus", "layernorm", "softmax", "dropout(0.3)",
        "residual(['dense({0})', 'tanh'])", "residual(['layernorm'])", "batchnorm", "elu"]  # fmt: skip
IMAGES = ["conv(4, 3, padding='same')", "conv(3, 2, stride=2, groups=1)", "maxpool(2)", "avgpool(2, padding=1)", "silu",
          "batchnorm", "residual(['conv({0}, 3, padding=1)', 'relu', 'batchnorm'])", "lppool(2)",
          "conv_transpose(2, 2, stride=2)", "layernorm"]  # fmt: skip


@st.composite
def drawn_networks(draw):
    """Draw layers that fit each other, and the shape of a sample."""
    images = draw(st.booleans())
    shape = draw(st.sampled_from([(1, 7, 6), (2, 8, 8), (3, 9)] if images else [(1,), (4,), (9,)]))
    layers, size = [], shape
    for _ in range(draw(st.integers(1, 5))):
        spec = draw(st.sampled_from(IMAGES if images else FLAT)).format(size[0])
        try:
            size = compose([*layers, spec], shape).output_shape
        except NnjitError:  # it does not fit
            continue
        layers.append(spec)
    if images and draw(st.booleans()):
        layers += [draw(st.sampled_from(["flatten", "global_avgpool", "global_maxpool"])), "dense(3)"]
    return layers or ["tanh"], shape


@settings(max_examples=25, deadline=None)
@given(drawn=drawn_networks(), batch_size=st.sampled_from([1, 2, 7]), seed=st.integers(0, 2**31 - 1))
def test_drawn_networks(drawn, batch_size, seed):
    compared(*drawn, batch_size, seed)


def test_what_a_jacobian_keeps_has_a_place_of_its_own():
    """128 rows are two batches: the statistics of the normalisations, which have no rows, must outlive the first."""
    compared(["batchnorm", "residual(['conv(2, 3, padding=1)', 'relu', 'batchnorm'])"], (2, 8, 8), batch_size=1)
    same, layers = "conv(4, 3, padding='same')", []
    for _ in range(3):  # more loops than calls
        layers += [same, "batchnorm"]
        compared([*layers, "flatten", "dense(3)"], (1, 7, 6), batch_size=1)


# -- compiled ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled():
    net, x, dx, dy = network(["dense(5)", "tanh", "layernorm", "dense(2)"], (4,))
    return net.compile("mse", "sgd(lr=0.5)", batch_size=3), x, dx, dy


def test_compiled_functions_are_those_of_the_text(compiled):
    program, x, dx, dy = compiled
    got = derivatives(program, x, dx, dy)
    near(got, derivatives(program, x, dx, dy, interpreted(program)), "compiled", 1e-13)


@njit
def in_every_form(predict, vjp, jvp, jacobian, gradient, state, x, dx, dy, label):
    y, back, forward, J = predict(state, x), vjp(state, x, dy), jvp(state, x, dx), jacobian(state, x)
    y1, back1, forward1, J1 = (
        predict(state, x[1]),
        vjp(state, x[1], dy[1]),
        jvp(state, x[1], dx[1]),
        jacobian(state, x[1]),
    )
    into, flag = np.empty_like(y1), vjp(state, x[1], dy[1], False)
    predict(state, x[1], into)
    return (y, *back, *forward, *J), (y1, *back1, *forward1, *J1), into, flag, gradient(state, x[1], label)


def test_one_sample_and_outputs_left_out(compiled):
    program, x, dx, dy = compiled
    state, names = program.new_state(), ("y", "y", "vjp", "y again", "jvp", "y for J", "jacobian")
    wanted = derivatives(program, x, dx, dy)
    given = (program.predict, program.vjp, program.jvp, program.jacobian, program.gradient, state, x, dx, dy, dy[1])
    whole, one, into, flag, loss = in_every_form(*given)
    assert program.vjp(state, x[1], dy[1], np.empty(2), np.empty(4)) is None, "nothing was left out"
    python = program.predict(state, x), program.predict(state, x[1]), *program.vjp(state, x[1], dy[1], True)[:1]
    for name, value, single in zip(names, whole, one, strict=True):
        near({name: value}, {name: wanted[name]}, "a batch", 1e-13)
        near({name: single}, {name: wanted[name][1]}, "one sample", 1e-13)
    for value, row in ((into, 1), (flag[0], 1), (python[0], slice(None)), (python[1], 1), (python[2], 1)):
        near({"y": value}, {"y": wanted["y"][row]}, "a form", 1e-13)
    assert loss == pytest.approx(np.mean((wanted["y"][1] - dy[1]) ** 2), rel=1e-12)


def test_a_label_is_a_sample_too(by_symbol):
    net, x, *_ = network(["dense(3)"], (4,))
    program = net.compile("cross_entropy", batch_size=1)
    got = njit(lambda gradient, state, x: gradient(state, x, 2))(program.gradient, program.state, x[0])
    assert got == program.gradient(program.state, x[:1], np.array([2])) == program.gradient(program.state, x[0], 2)


def test_gradient_is_that_of_a_step_and_changes_nothing_else():
    net, x, _, target = network(["dense(6)", "batchnorm", "dropout(0.5)", "relu", "dense(2)"], (4,))
    program = net.compile("mse", "sgd(lr=0.5)", batch_size=3, clip=None)
    state = program.new_state()
    state.counters[STEP] = 7
    before = {name: getattr(state, name).copy() for name in ("theta", "buffers", "counters", "moments")}
    loss = program.gradient(state, x, target)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(state, name), value)
    gradient = state.gradient.copy()
    assert program.step(state, x, target) == pytest.approx(loss, rel=1e-13)
    near({"gradient": state.gradient}, {"gradient": gradient}, "a step", 1e-13)
    assert (state.buffers != before["buffers"]).all() and state.counters[STEP] == 8


@pytest.mark.parametrize("optimizer, clip", [("sgd(lr=0.5)", None), ("adam(lr=0.1)", None), ("sgd", "norm(max=0.1)")])
def test_gradient_and_update_are_a_step(request, optimizer, clip):
    """The first program is inlined."""
    from nnjit.training import clip as clips

    if optimizer != "sgd(lr=0.5)":
        request.getfixturevalue("by_symbol")
    net, x, _, target = network(["dense(6)", "tanh", "dense(2)"], (4,))
    program = net.compile("mse", optimizer, batch_size=3, clip=clip and clips.create(clip))
    one, other = program.new_state(), program.new_state()
    for _ in range(3):
        program.step(one, x, target)
        program.gradient(other, x, target)
        norm, scaled = np.linalg.norm(other.gradient), other.gradient.copy()
        other.gradient[:] = scaled / 4
        assert program.update(other, 4.0) == pytest.approx(norm, rel=1e-12)
        assert not other.gradient.any()
        near({"theta": other.theta}, {"theta": one.theta}, "a step", 1e-12)
        assert one.counters[STEP] == other.counters[STEP]


def test_a_gradient_that_is_not_finite_changes_nothing(by_symbol):
    net, *_ = network(["dense(2)"], (4,))
    program = net.compile("mse", batch_size=3)
    state = program.new_state()
    theta = state.theta.copy()
    state.gradient[3] = np.inf
    assert np.isnan(program.update(state, 1.0)) and state.counters[STEP] == 0
    np.testing.assert_array_equal(state.theta, theta)


def test_vjp_in_training_is_that_of_a_training_step(by_symbol):
    """It takes the masks of the present step and moves running statistics, not the counter."""
    net, x, _, dy = network(["dense(6)", "batchnorm", "dropout(0.5)", "tanh", "dense(2)"], (4,))
    program = net.compile("mse", batch_size=3)
    y = net.forward(x, training=True)
    dx = net.backward(dy)
    state = program.new_state()
    state.buffers[:], state.counters[STEP] = 1.0, 0
    got = program.vjp(state, x, dy, training=True)
    with pytest.raises(UsageError, match="training by name, got 'traning'; did you mean training"):
        program.vjp(state, x, dy, traning=True)
    for function, named in ((program.predict, {"y": x}), (program.vjp, {"dy": dy, "training": True})):
        with pytest.raises(UsageError, match="expected arguments by position"):
            function(state, **named)  # in order they would be taken for x
    near({"y": got[0], "dx": got[1], "g": state.gradient}, {"y": y, "dx": dx, "g": net.gradient}, "training")
    assert (state.buffers != 1.0).all() and state.counters[STEP] == 0
    state.counters[STEP] = 1
    assert np.abs(program.vjp(state, x, dy, True)[0] - y).max() > 0.01, "another step has other masks"


def test_gradients_add_up_until_they_are_cleared(compiled):
    program, x, _, dy = compiled
    state = program.new_state()
    for k in range(1, 4):
        program.vjp(state, x, dy)
        if k == 1:
            once = state.gradient.copy()
        np.testing.assert_allclose(state.gradient, k * once, rtol=1e-13)
    program.clear(state)
    assert not state.gradient.any()


CALLER = """
from numba import njit


@njit(cache=True)
def everything(predict, vjp, jvp, jacobian, gradient, update, step, state, x, dx, dy):
    found = predict(state, x), vjp(state, x, dy), jvp(state, x, dx), jacobian(state, x)
    return found, vjp(state, x, dy, True), gradient(state, x, dy), update(state, 0.5), step(state, x, dy)
"""
PROCESS = """
import hashlib
import numpy as np
from numba.core import event

compiled = event.RecordingListener()
event.register("numba:compile", compiled)
from nnjit.registry import compose
from code_of_user import everything

digest, rng = hashlib.sha256(), np.random.default_rng(0)
for layers, shape in ((["dense(5)", "tanh", "dense(2)"], (4,)),
                      (["conv(3, 3)", "batchnorm", "relu", "dropout(0.3)", "flatten", "dense(2)"], (1, 12, 12))):
    program = compose(layers, shape, dtype="float64", seed=1).compile("mse", "adam", batch_size=3)
    names = ("predict", "vjp", "jvp", "jacobian", "gradient", "update", "step")
    functions = [getattr(program, name) for name in names]
    (x, dx), dy = rng.standard_normal((2, 3, *shape)), rng.standard_normal((3, 2))
    (y, back, forward, J), training, *numbers = everything(*functions, program.state, x, dx, dy)
    for array in (y, *back, *forward, *J, *training, np.array(numbers), program.state.theta, program.state.gradient):
        digest.update(np.ascontiguousarray(array).tobytes())
hits = sum(everything.stats.cache_hits.values())
print(digest.hexdigest(), hits, len([each for _, each in compiled.buffer if each.is_start]))
"""


def test_a_cached_caller_has_the_same_bits_in_two_processes(tmp_path):
    """The second process loads the user's function and the programs' from disk, and compiles nothing."""
    (tmp_path / "code_of_user.py").write_text(CALLER)
    (tmp_path / "process.py").write_text(PROCESS)
    environment, told = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, []
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "process.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr
        told.append(ran.stdout.split())
    (first, hits, compiled), (second, again, anew) = told
    assert first == second and hits == "0" and again == "2"
    assert int(compiled) >= 2 and anew == "0"


@njit(parallel=True)
def on_threads(vjp, states, x, dy, y, dx):
    for k in prange(len(states)):
        y[k], dx[k] = vjp(states[k], x[k], dy[k])


@njit
def in_a_row(vjp, states, x, dy, y, dx):
    for k in range(len(states)):
        y[k], dx[k] = vjp(states[k], x[k], dy[k])


def test_a_parallel_loop_has_the_bits_of_a_serial_one(compiled):
    """A thousand environments with a state each, 20 times on one thread and 20 times on two."""
    program, *_ = compiled
    rng, most = np.random.default_rng(1), get_num_threads()
    x, dy = rng.standard_normal((1000, 4)), rng.standard_normal((1000, 2))

    def run(loop):
        states, y, dx = program.states(1000, gradient=True), np.empty((1000, 2)), np.empty((1000, 4))
        loop(program.vjp, states, x, dy, y, dx)
        return y, dx, np.array([states[k].gradient for k in range(1000)])

    wanted = run(in_a_row)
    try:
        for threads in (1, min(2, most)):
            set_num_threads(threads)
            for _ in range(20):
                for one, other in zip(wanted, run(on_threads), strict=True):
                    np.testing.assert_array_equal(one, other)
    finally:
        set_num_threads(most)


def test_a_population_has_thetas_of_its_own(compiled):
    program, x, *_ = compiled
    states = program.states(3, theta="own")
    states.theta[1] *= 2
    whole = program.new_state()
    whole.theta[:] = states.theta[1]
    np.testing.assert_array_equal(program.predict(states[1], x), program.predict(whole, x))
    np.testing.assert_array_equal(program.predict(states[0], x), program.predict(program.state, x))
    shared = program.states(2)
    assert np.shares_memory(shared[0].theta, program.state.theta)
    with pytest.raises(IndexError, match="there are 2, got number 2"):
        shared[2]
    with pytest.raises(IndexError, match="none of this number"):
        njit(lambda states: states[2].layout)(shared)
    with pytest.raises(ShapeError, match="a light one"):
        program.vjp(shared[0], x, np.zeros((3, 2)))


def test_states_are_no_constants(compiled):
    states = compiled[0].states(2)
    with pytest.raises(TypingError, match="States cannot be a global"):
        njit(lambda: len(states))()


# -- layers without a derivative ---------------------------------------------------------------------------------------


class Sums(Layer):
    """y = x + the sum of x: linear, with a backward_input and nothing for forward mode."""

    @kernel
    def forward(x, y):
        for n in prange(x.shape[0]):
            total = 0.0
            for i in range(x.shape[1]):
                total += x[n, i]
            for i in range(x.shape[1]):
                y[n, i] = x[n, i] + total

    @kernel
    def backward_input(dy, dx):
        for n in prange(dy.shape[0]):
            total = 0.0
            for i in range(dy.shape[1]):
                total += dy[n, i]
            for i in range(dy.shape[1]):
                dx[n, i] = dy[n, i] + total


class LinearSums(Sums):
    """The same, which says that it is linear."""

    linear = ()


class Start(Layer):
    """A first layer, with nothing to give back to its input."""

    @kernel
    def forward(x, y):
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = x[i, j]


@pytest.fixture
def named():
    """Register layers for a test; return a function that does it."""
    names = []

    def register(name, kind):
        registry.register(name)(kind)
        names.append(name)
        return name

    yield register
    for name in names:
        registry.unregister(name)


@pytest.mark.parametrize("batch_size", [40, 512])  # a tile, and blocks of some tiles with a gradient each
def test_a_vjp_of_many_samples_takes_them_as_columns(batch_size):
    """It has the results of samples as rows, for any number of samples, and adds to the gradient."""
    layers = ("dense(24)", "tanh", "dropout(0.4)", "residual(['dense(24)', 'gelu'])", "layernorm", "dense(5)")
    layers += ("softmax",)
    net, *_ = network(layers, (3,))
    many, few = net.compile(None, batch_size=batch_size), net.compile(None, batch_size=4)
    shares = many.derivatives.code("vjp").plan.shares
    assert shares.narrow and (shares.narrow.blocks > 1) == (batch_size == 512)
    assert few.derivatives.code("vjp").plan.shares.narrow is None
    for count in (1, 17, batch_size - 1, batch_size + 70):
        x, dy = (np.random.default_rng(count).standard_normal((count, width)) for width in (3, 5))
        found = []
        for program in (many, few):
            program.state.gradient[:] = 1.0
            y, dx = program.vjp(program.state, x, dy)
            found.append({"y": y, "dx": dx, "gradient": program.state.gradient.copy()})
        near(*found, f"{count} samples", 1e-11)
    state = many.state
    state.gradient[:] = 0
    x, dy = x[:batch_size], dy[:batch_size]
    y, dx = np.empty_like(dy), np.empty_like(x)
    many.vjp(state, x, dy, y, dx, True)
    got, reference = {"y": y, "dx": dx, "gradient": state.gradient.copy()}, many.derivatives.code("vjp").reference()
    state.gradient[:], y, dx = 0, np.empty_like(y), np.empty_like(dx)
    reference.vjp(state, x, dy, y, dx, True)
    near(got, {"y": y, "dx": dx, "gradient": state.gradient}, "dropout masks", 1e-11)
    assert not np.allclose(y, found[0]["y"][:batch_size])


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        (("dense(6)", "tanh", "layernorm", "dense(19)"), (21,)),  # inlined: 8 unit vectors at once, by rows
        (("dense(6)", "tanh", "layernorm", "dense(21)"), (19,)),  # by columns
        (("batchnorm", "maxpool(2)", "flatten", "residual(['dense(36)', 'tanh'])", "dense(67)"), (1, 24, 6)),
        (("dense(40)", "batchnorm", "residual(['tanh', 'dense(40)'])", "dense(71)"), (66,)),
    ],
)
def test_a_jacobian_of_more_unit_vectors_than_are_taken_at_once(layers, shape):
    """The values that the forward pass leaves to the first rows serve all of them."""
    net, x, dx, dy = network(layers, shape)
    program = net.compile(None, batch_size=3)
    code = program.derivatives.code("jacobian")
    unit = {"rows": dy[0], "columns": dx[0]}[code.task.derivative]
    assert code.task.batch_size < unit.size
    got = derivatives(program, x, dx, dy, None if code.plan.shares.inline else interpreted(program))
    flat = {"vjp": got["vjp"].reshape(3, -1), "jvp": got["jvp"].reshape(3, -1)}
    J = got["jacobian"]
    products = {
        "vjp": np.einsum("noi,no->ni", J, dy.reshape(3, -1)), "jvp": np.einsum("noi,ni->no", J, dx.reshape(3, -1))
    }  # fmt: skip
    near(products, flat, "J", 1e-11)
    near({"y": got["y for J"]}, {"y": got["y"]}, "y", 1e-12)


class InPlace(Layer):
    """y = x^2, whose backward kernel writes the scratch that forward left."""

    @kernel(form="matrix")
    def forward(x, y, twice):
        for n in prange(x.shape[0]):
            for i in range(x.shape[1]):
                twice[n, i] = 2 * x[n, i]
                y[n, i] = x[n, i] * x[n, i]

    @kernel(form="matrix")
    def backward_input(twice, dy, dx):
        for n in prange(dy.shape[0]):
            for i in range(dy.shape[1]):
                twice[n, i] *= dy[n, i]
                dx[n, i] = twice[n, i]

    def scratch(self, input_shape):
        return {"twice": ("N", *input_shape)}


def test_a_kernel_may_write_the_scratch_that_forward_left(named):
    """A Jacobian of more rows than are computed at once has all of them right."""
    net, x, _, dy = network(["dense(20)", named("in_place", InPlace)], (30,))
    program = net.compile(None, batch_size=3)
    assert program.derivatives.code("jacobian").task.batch_size < 20
    J = program.jacobian(program.state, x)[1]
    near({"J": np.einsum("noi,no->ni", J, dy)}, {"J": program.vjp(program.state, x, dy)[1]}, "in place", 1e-12)


def test_a_layer_without_a_derivative_in_forward_mode_says_what_to_add(named, by_symbol):
    net, x, dx, dy = network(["dense(3)", named("sums", Sums), "tanh"], (4,))
    program = net.compile(None, batch_size=2)
    with pytest.raises(NnjitError, match=r"^jvp: sums.2: .* give it a kernel jvp\(x, dx, dy\)"):
        _ = program.jvp
    J = program.jacobian(program.state, x)[1]  # by vjp, though there are more outputs
    near({"J": np.einsum("noi,no->ni", J, dy)}, {"J": program.vjp(program.state, x, dy)[1]}, "sums", 1e-12)
    net, *_ = network(["dense(3)", named("linear_sums", LinearSums), "tanh"], (4,))
    program = net.compile(None, batch_size=2)
    near({"jvp": program.jvp(program.state, x, dx)[1]}, {"jvp": np.einsum("noi,ni->no", J, dx)}, "linear sums", 1e-12)


class Twisted(registry.get("dense")):
    """A class with another forward than that from which it derives, of which `linear` is not true."""

    @kernel
    def forward(x, W, b, y):
        for n in prange(x.shape[0]):
            for i in range(W.shape[0]):
                total = b[i]
                for j in range(W.shape[1]):
                    total += W[i, j] * x[n, j]
                y[n, i] = total * total


class TwistedMaximum(registry.get("maxpool")):
    @kernel
    def forward(x, y, argmax):
        for i in prange(x.shape[0]):
            y[i] = 0.0
            argmax[i] = 0.0


@pytest.mark.parametrize("cls, spec, shape", [(Twisted, "(3)", (4,)), (TwistedMaximum, "(2)", (1, 4, 4))])
def test_what_a_class_says_of_its_forward_is_not_inherited_by_another_forward(named, cls, spec, shape):
    net = compose([named("twisted", cls) + spec], shape, dtype="float64")
    with pytest.raises(NnjitError, match="the layer has no derivative in forward mode"):
        _ = net.compile(None, batch_size=1).jvp


def test_a_copy_of_states_has_other_memory(compiled):
    program, x, *_ = compiled
    read = njit(lambda predict, states, x: predict(states[1], x))
    states = program.states(2, theta="own")
    first = read(program.predict, states, x)
    other = copy.deepcopy(states)
    other.theta[1] = 0
    np.testing.assert_array_equal(read(program.predict, states, x), first)
    assert np.abs(read(program.predict, other, x) - first).max() > 0 and not other[1].theta.any()


def test_a_layer_without_backward_input_has_forward_mode_only(named):
    net, *_ = network(["dense(3)", named("start", Start)], (4,))
    program = net.compile(None, batch_size=2)
    with pytest.raises(NnjitError, match=r"^vjp: start\.2: the layer has no backward_input"):
        _ = program.vjp
    with pytest.raises(NnjitError, match=r"^jvp: start\.2"):
        _ = program.jvp


def test_programs_without_derivatives_say_so(compiled):
    program = compiled[0]
    with pytest.raises(AttributeError, match="this program has no loss and no optimizer"):
        _ = compose(["dense(2)"], (3,)).compile(None).gradient
    with pytest.raises(AttributeError, match=r"in a program that net\.compile"):
        _ = Program(program.network, batch_size=2).vjp


def test_a_state_without_room_for_derivatives_is_refused(compiled):
    program = compiled[0]
    state = Program(program.network, "mse", "sgd(lr=0.5)", 3).new_state()
    with pytest.raises(ShapeError, match="another program's"):
        program.vjp(state, np.zeros((1, 4)), np.zeros((1, 2)))
