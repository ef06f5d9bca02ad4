"""All tests on CUDA. With a GPU: ``python -m pytest tests/on_cuda.py``; otherwise test_cuda.py uses the simulator.

Expected values come from the NumPy reference kernels, from PyTorch's stored results and from the program's text run in
plain Python. The simulator runs a subset of the cases, small ones, since it runs a thread of a block after the other.
"""

import json
import re

import numpy as np
import pytest
from command_line import nnjit, records
from layer_runner import run
from nnjit import registry
from nnjit.check import certify
from nnjit.check.cases import cases
from nnjit.check.runner import Run, same_bits
from nnjit.data import split
from nnjit.data.split import Split
from nnjit.errors import DivergenceError, NnjitError, ShapeError
from nnjit.kernels.compiler.elementwise import Formula
from nnjit.kernels.counters import ROWS, STEP, STOP
from nnjit.kernels.cuda import dense, product
from nnjit.kernels.gpu import launch, tensor
from nnjit.kernels.operations import operation
from nnjit.layers import Layer, constant, elementwise, kernel, zeros
from nnjit.program import calls as program_calls
from nnjit.program import device, device_arrays, device_samples, device_trace
from nnjit.program.cuda_form import cuda_form
from nnjit.program.graph import Ref
from nnjit.program.program import Program
from nnjit.registry import builtin, compose
from nnjit.storage import checkpoint
from nnjit.training.clip import Clip
from nnjit.training.settings import Settings
from nnjit.training.trainer import Trainer
from numba import cuda, njit, prange
from window_vectors import cases as windows
from window_vectors import near

pytestmark = pytest.mark.usefixtures("linked")  # programs on the CPU, with which those on CUDA are compared
SIMULATED = launch.SIMULATED
if SIMULATED:
    import simulator
    from nnjit.training import predicted

    simulator.use()
    predicted.CELLS = 6  # the plane of the ten points: with 150 along each axis it takes five minutes
DTYPES = [(np.float32, 2e-5), (np.float64, 1e-11)]


def close(got, wanted, tolerance, label=""):
    """Compare within `tolerance` of the largest number (at least 1)."""
    finite = np.abs(wanted[np.isfinite(wanted)])
    atol = tolerance * max(1.0, finite.max(initial=0.0))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=atol, err_msg=label, equal_nan=True)


# -- kernels against the reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(builtin.LAYERS))
def test_every_layer_against_the_reference(name):
    """Check each call of the forward and backward pass, with the arguments that the program passes."""
    made, rng = cases(name), np.random.default_rng(1)
    for spec, shape in made[:: 3 if SIMULATED and len(made) > 4 else 1]:
        for dtype, tolerance in DTYPES[: 1 if SIMULATED and "conv" in name else 2]:
            network = compose([spec], shape, dtype=np.dtype(dtype).name, seed=3)
            x = network.graph.draw(rng, 2).astype(dtype)
            every = Run(network, x, rng.normal(size=(2, *network.output_shape)).astype(dtype))
            for call in every.calls():
                _examine(call, tolerance)


def _examine(call, tolerance):
    expected, kept = call.copies(fill=0, dtype=np.float64), call.run.reference_scratch
    for name in call.scratch:
        if call.values[name] in kept:
            expected[name][...] = kept[call.values[name]].reshape(expected[name].shape)
    call.reference()(*expected.values())
    kept |= {call.values[name]: expected[name].copy() for name in call.scratch}
    found, again = call.copies(fill=np.nan), call.copies(fill=0)
    for copies in (found, again):
        launch.run(cuda_form(call), *copies.values())
    for name, wanted in expected.items():
        if isinstance(wanted, np.ndarray) and name not in call.scratch:
            close(found[name], wanted, tolerance, f"{call.name}: {name}")
            assert same_bits(found[name], again[name]).all(), f"{call.name}: {name} differs from run to run"
    call.keep(found)


@pytest.mark.parametrize(
    "name, every", [("conv", 9), ("conv_transpose", 9), ("maxpool", 3), ("avgpool", 3), ("lppool", 2)]
)
def test_stored_answers_of_pytorch(name, every):
    chosen = [case for case in windows() if registry.name_of(type(case[0])) == name][:: every if SIMULATED else 1]
    assert len(chosen) >= 5
    for layer, x, parameters, dy, wanted in chosen:
        got = run(layer, x.astype(np.float32), dy.astype(np.float32), parameters, "cuda")
        near(got, wanted, 1e-5, f"{layer} on {x.shape}")


@pytest.mark.parametrize("name", ["layernorm", "batchnorm"])
def test_normalisation_of_numbers_whose_squares_overflow(name):
    """Layer normalisation is right, batch normalisation NaN where its running variance overflows."""
    x = np.random.default_rng(1).normal(size=(3, 2, 5)) * np.array([1e20, 1.0])[:, None]
    x[1] *= 1e-20 if name == "layernorm" else 1
    with np.errstate(all="ignore"):
        wanted, got = (run(registry.create(name), x.astype(np.float32), None, None, f) for f in ("reference", "cuda"))
    close(got["y"], wanted["y"], 2e-5)
    assert np.isnan(got["y"]).any() == (name == "batchnorm")


LOSSES = ["quadratic", "mse", "mae", "huber", "lp", "binary_cross_entropy", "cross_entropy"]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype, tolerance", DTYPES)
def test_losses(name, dtype, tolerance):
    rng = np.random.default_rng(2)
    y, target = rng.normal(size=(5, 3)).astype(dtype), rng.random((5, 3)).astype(dtype)
    more = {"huber": (0.5,), "lp": (1.5,)}.get(name, ())
    for function, shape in ((name, (5,)), (f"{name}_backward", (5, 3))):
        _against_reference(f"loss.{function}", [y, target, np.full(shape, np.nan, dtype), *more], tolerance)


@pytest.mark.parametrize("dtype, tolerance", DTYPES)
def test_labels_and_what_is_no_label(dtype, tolerance):
    y, target = np.random.default_rng(3).normal(size=(4, 3)).astype(dtype), np.array([0, 2, 3, -1])
    for function, shape in (("cross_entropy_labels", (4,)), ("cross_entropy_labels_backward", (4, 3))):
        wanted = _against_reference(f"loss.{function}", [y, target, np.zeros(shape, dtype)], tolerance)
        assert np.isnan(wanted[2:]).all() and np.isfinite(wanted[:2]).all()


UPDATES = {
    "gradient_descent": (0, (0.1, 0.01)),
    "sgd": (1, (0.1, 0.9, True, 0.01)),
    "rmsprop": (1, (0.1, 0.9, 1e-8)),
    "adam": (2, (0.1, 3, 0.9, 0.999, 1e-8, 0.01)),
    "adamw": (2, (0.1, 3, 0.9, 0.999, 1e-8, 0.01)),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("dtype, tolerance", DTYPES)
def test_updates(name, dtype, tolerance):
    moments, options = UPDATES[name]
    arrays = [np.random.default_rng(k).random(37).astype(dtype) for k in range(2 + moments)]
    _against_reference(f"update.{name}", [*arrays, *options], tolerance, written=(0, *range(2, 2 + moments)))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, 0.5, np.inf])
def test_norms(p):
    g = np.random.default_rng(4).normal(size=29).astype(np.float32)
    _against_reference("norm.partial", [g, np.zeros(3), 1, p], 1e-9, written=(1,))
    g[3] = np.nan
    sums = np.zeros(3)
    launch.run(operation("norm.partial").on("cuda"), g, sums, 1, p)
    assert np.isnan(sums[1]) and sums[0] == sums[2] == 0


def _against_reference(name, arguments, tolerance, written=(2,)):
    expected = [a.astype(float) if getattr(getattr(a, "dtype", None), "kind", "") == "f" else a for a in arguments]
    found = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    operation(name).on("reference")(*expected)
    launch.run(operation(name).on("cuda"), *found)
    for k in written:
        close(found[k], expected[k], tolerance, name)
    return found[written[0]]


# -- tiles of matrix products ------------------------------------------------------------------------------------------

REAL_TILES = [product.Tile(128, 128, 8, 8), product.Tile(64, 64, 16, 4), product.Tile(32, 32, 16, 4)]


@pytest.mark.parametrize("tile", product.TILES + (REAL_TILES[2:] if SIMULATED else []), ids=str)
@pytest.mark.parametrize("M, N, K", [(12, 20, 24), (9, 7, 5), (1, 33, 3)])
def test_tiles(tile, M, N, K, monkeypatch):
    """128-bit loads for sizes that are multiples of four, else single loads; edges in every direction."""
    monkeypatch.setattr(product, "TILES", [tile])
    _dense(M, N, K)


@pytest.mark.parametrize("splits", [2, 3])
def test_shares_of_a_sum(splits, monkeypatch):
    monkeypatch.setattr(product, "SHARE", 16)
    monkeypatch.setattr(product, "BLOCKS", splits)
    _dense(3, 5, 16 * splits + 3)


@pytest.mark.skipif(SIMULATED, reason="too large for the simulator")
@pytest.mark.parametrize("M, N, K", [(4096, 4096, 512), (1000, 1001, 1003), (128, 10, 4096), (129, 5, 70000)])
def test_large_products(M, N, K):
    _dense(M, N, K)


@pytest.mark.skipif(SIMULATED, reason="too large for the simulator")
@pytest.mark.parametrize(
    "options", ["64, 3, padding='same'", "32, 5, stride=2", "64, 3, groups=32, dilation=2", "8, 1"]
)
def test_large_convolutions(options):
    layer, rng = registry.create(f"conv({options})"), np.random.default_rng(6)
    x = rng.normal(size=(16, 32, 56, 55)).astype(np.float32)
    dy = rng.normal(size=(16, *layer.output_shape(x.shape[1:]))).astype(np.float32)
    wanted = run(layer, x.astype(float), dy.astype(float), folder="reference")
    got = run(layer, x, dy, folder="cuda")
    for name in ("y", "dx", "dW", "db"):
        close(got[name], wanted[name], 1e-5, name)


def _dense(M, N, K):
    """All three directions, with rows, columns and sum of these sizes."""
    rng = np.random.default_rng(5)
    x, W, b = (rng.normal(size=s).astype(np.float32) for s in ((M, K), (N, K), (N,)))
    dy = rng.normal(size=(M, N)).astype(np.float32)
    bound = 1e-6 * max(M, N, K) ** 0.5
    _against_reference("dense.forward", [x, W, b, np.full((M, N), np.nan, np.float32)], bound, written=(3,))
    _against_reference("dense.backward_input", [W, dy, np.full_like(x, np.nan)], bound)
    _against_reference("dense.backward_weight", [x, dy, np.full_like(W, np.nan)], bound)


# -- tensor cores ------------------------------------------------------------------------------------------------------

BITS = {"tf32": 10, "bf16": 7}  # beyond the point
TENSOR_WORKS = [(tile, *sizes) for tile in product.TENSOR_TILES for sizes in ((12, 20, 24), (19, 7, 5))]
if SIMULATED:
    TENSOR_WORKS += [(product.TensorTile(32, 16, 32, 16, 8), 20, 9, 20)]  # of four warps
else:
    TENSOR_WORKS += [(tile, 1000, 1001, 1003) for tile in product.TENSOR_TILES]
SUMS = 1e-6 if SIMULATED else 1e-4  # tensor cores truncate sums where float32 would round
tensor_cores = pytest.mark.skipif(
    not SIMULATED and launch.cuda.get_current_device().compute_capability < tensor.NEEDS, reason="no tensor cores"
)


def rounded(x, precision):
    """Round float32 numbers as tensor cores do: to the nearest, tf32 halves away from zero, bf16 halves to even."""
    part, exponent = np.frexp(x.astype(float))
    scaled = np.ldexp(part, BITS[precision] + 1)
    whole = np.rint(scaled) if precision == "bf16" else np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    return np.ldexp(whole, exponent - BITS[precision] - 1)


@tensor_cores
@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("tile, M, N, K", TENSOR_WORKS, ids=str)
def test_tensor_cores_multiply_rounded_numbers(tile, M, N, K, precision, monkeypatch):
    """The product of rounded factors to float32's rounding, of the factors themselves within the stated bound.

    128-bit loads where sizes are multiples of four, single ones where not; edges in every direction.
    """
    monkeypatch.setattr(product, "TENSOR_TILES", [tile])
    rng = np.random.default_rng(5)
    x, W, b, dy = (rng.normal(size=s).astype(np.float32) for s in ((M, K), (N, K), (N,), (M, N)))
    for name, factors, more in (
        ("forward", (x, W), (b,)),
        ("backward_input", (W, dy), ()),
        ("backward_weight", (x, dy), ()),
    ):
        shape = {"forward": (M, N), "backward_input": (M, K), "backward_weight": (N, K)}[name]
        found = np.full(shape, np.nan, np.float32)
        with launch.precision(precision):
            launch.run(operation(f"dense.{name}").on("cuda"), *factors, *more, found)
        wanted, exact, size = np.zeros((3, *shape))
        reference = operation(f"dense.{name}").on("reference")
        reference(*(rounded(f, precision) for f in factors), *more, wanted)
        close(found, wanted, SUMS, name)
        reference(*(f.astype(float) for f in factors), *more, exact)
        reference(*(np.abs(f.astype(float)) for f in factors), *map(np.zeros_like, more), size)
        assert (np.abs(found - exact) <= (2.0 ** -BITS[precision] + SUMS) * size).all()
        assert (np.abs(found - exact) > 1e-5).any(), "nothing was rounded"


@tensor_cores
@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("options", ["3, 3, padding='same'", "4, 2, stride=2, groups=2"])
def test_convolutions_on_tensor_cores(options, precision):
    layer, rng = registry.create(f"conv({options})"), np.random.default_rng(6)
    x = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
    dy = rng.normal(size=(2, *layer.output_shape(x.shape[1:]))).astype(np.float32)
    parameters = {k: rng.normal(size=p.shape).astype(np.float32) for k, p in layer.parameters(x.shape[1:]).items()}
    with launch.precision(precision):
        got = run(layer, x, dy, parameters, folder="cuda")
    near = {k: rounded(a, precision) if k == "W" else a.astype(float) for k, a in parameters.items()}
    wanted = run(layer, rounded(x, precision), rounded(dy, precision), near, folder="reference")
    for name in ("y", "dx", "dW"):
        close(got[name], wanted[name], SUMS, name)
    np.testing.assert_allclose(got["db"], dy.sum((0, 2, 3)), atol=1e-5)  # no product


@tensor_cores
def test_a_network_in_another_precision():
    """Only the products are rounded, those of every program of the network; the rest is float32."""
    x, y = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32), np.array([0, 1, 1, 0])
    found = {}
    for precision in ("float32", "tf32", "bf16"):
        net = compose("dense(8) tanh dense(2)", (3,), device="cuda", seed=1, precision=precision)
        predicted, program = net.predict(x), net.compile("cross_entropy", batch_size=4)
        program.step(program.state, x, y)
        found[precision] = predicted, net.gradient.copy(), net.forward(x)
    for k in range(3):
        exact = found["float32"][k]
        for precision, bits in BITS.items():
            error = np.abs(found[precision][k] - exact).max()
            assert 1e-6 < error < 8 * 2.0**-bits, (precision, error)


@pytest.mark.skipif(not SIMULATED, reason="a GPU has the instruction itself")
def test_the_simulated_instruction_is_that_of_the_manual():
    """Fill fragments by the tables of the PTX ISA (mma.m16n8k8 for tf32, mma.m16n8k16 for bf16)."""
    rng = np.random.default_rng(2)
    for form in tensor.FORMS.values():
        bf16, depth = form.name == "bf16", 8 * form.each
        A, B, C = (rounded(rng.normal(size=s), form.name) for s in ((16, depth), (depth, 8), (16, 8)))
        a, b, c = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32), np.zeros((32, 4), np.float32)
        bits_a, bits_b = (np.float32(x).view(np.uint32) >> np.uint32(16 * bf16) for x in (A, B))
        wanted = C + A @ B
        for lane in range(32):
            group, thread = lane >> 2, lane % 4
            for i in range(4 * form.each):  # a_i
                if bf16:
                    row = group if i < 2 or 4 <= i < 6 else group + 8
                    column = thread * 2 + (i & 1) + (8 if i >= 4 else 0)
                else:
                    row = group if i in (0, 2) else group + 8
                    column = thread if i < 2 else thread + 4
                a[lane, i // form.each] |= bits_a[row, column] << np.uint32(16 * (i % form.each))
            for i in range(2 * form.each):  # b_i
                row = thread * 2 + (i & 1) + (8 if i >= 2 else 0) if bf16 else (thread if i == 0 else thread + 4)
                b[lane, i // form.each] |= bits_b[row, group] << np.uint32(16 * (i % form.each))
            for i in range(4):  # c_i
                c[lane, i] = C[group if i < 2 else group + 8, thread * 2 + (i & 1)]
        found = tensor.whole(form, a, b, c)
        for lane in range(32):
            for i in range(4):
                at = lane // 4 + (0 if i < 2 else 8), lane % 4 * 2 + (i & 1)
                np.testing.assert_allclose(found[lane, i], wanted[at], rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not SIMULATED, reason="a GPU has the instruction itself")
def test_simulated_rounding():
    x = np.random.default_rng(3).normal(size=200).astype(np.float32) * np.float32(10.0) ** np.arange(-30, 30, 0.3)
    ties = np.float32(
        [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 0.0, np.inf, -np.inf]
    )
    for form in tensor.FORMS.values():
        round_one = tensor.rounding(form)
        for value in [*x.astype(np.float32), *ties]:
            held = tensor.numbers(form, round_one(value))[..., 0]
            assert held == (rounded(value, form.name) if np.isfinite(value) else value), (form.name, value)
        assert np.isnan(tensor.numbers(form, round_one(np.float32(np.nan)))[..., 0])


# -- programs ----------------------------------------------------------------------------------------------------------

AUGMENTED = "random_crop(1) noise(0.1)"
SMALL = f"{AUGMENTED} conv(2, 3, padding='same') relu maxpool(2) flatten dense(4) tanh dropout(0.3) dense(3)"
BRANCHED = [
    "dense(4)",
    ("residual", {"layers": ["batchnorm", "dense(4)", "sigmoid"]}),
    "layernorm",
    "dense(2)",
    "softmax",
]
PROGRAMS = {
    "adam": (SMALL, (1, 4, 4), "cross_entropy", "adam(lr=1e-2)", {}),
    "branched": (BRANCHED, (3,), "quadratic", "sgd(lr=0.1, momentum=0.9, nesterov=True)", {}),
    "clipped": ("dense(3)", (2,), "mse", "rmsprop(lr=0.01)", {"clip": Clip(max=0.1, p=2.0)}),
    "largest": ("dense(3) gelu", (2,), "mae", "adamw", {"clip": Clip(max=0.1, p=np.inf)}),
    "norm 3": ("dense(3) silu", (2,), "huber", "sgd", {"norm": 3.0, "rates": np.array([0.1, 0.01, 0.001])}),
}


def _programs(name, dtype="float64", batch_size=4):
    """Make a program for CUDA and one for the reference kernels, of equal networks, and samples for them."""
    layers, shape, loss, optimizer, options = PROGRAMS[name]
    both = [
        Program(compose(layers, shape, dtype=dtype, device=d, seed=7), loss, optimizer, batch_size, **options)
        for d in ("cuda", "cpu")
    ]
    rng, net = np.random.default_rng(8), both[0].network
    x = rng.normal(size=(10, *shape)).astype(dtype)
    y = rng.integers(0, 3, 10) if both[0].labels else rng.random((10, *net.output_shape)).astype(dtype)
    return *both, x, y


def _assert_same(state, other, width, rtol):
    for name in ("theta", "gradient", "moments", "buffers"):
        a, b = getattr(state, name), getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max(initial=0), err_msg=name)
    np.testing.assert_array_equal(state.counters[:4], other.counters[:4])
    rows = state.counters[ROWS] * width
    np.testing.assert_allclose(state.log[:rows], other.log[:rows], rtol=rtol)


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_equals_the_reference_program(name):
    """Train two epochs in different orders, the last batch smaller; then predict."""
    program, other, x, y = _programs(name)
    program.compile()
    functions = other.reference()
    for seed in (1, 2):
        order = np.random.default_rng(seed).permutation(10)
        found, wanted = program.epoch(program.state, x, y, order), functions.epoch(other.state, x, y, order)
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
    _assert_same(program.state, other.state, program.plan.log.width, 1e-8)
    assert program.state.counters[STEP] == 6
    found, wanted = np.empty((2, 10, *program.network.output_shape))
    program.predict(program.state, x, found)
    functions.predict(other.state, x, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-8, atol=1e-10)


def test_the_text_is_the_same_but_for_the_schedule():
    program, other, _, _ = _programs("adam")
    assert program.source == other.source and (program.plan.shares.blocks, program.plan.shares.parts) == (1, 1)


FUSED = {
    "y alone": ("dense(3) relu dense(2) tanh", (4,), {"relu": False, "tanh": False}),
    "z too": ("dense(3) gelu dense(2) elu(alpha=0.5)", (4,), {"gelu": True, "elu": True}),
    "shares": ("dense(3) silu dense(2)", (40,), {"silu": True}),
    "conv": ("conv(2, 3, padding='same') flatten leaky_relu(alpha=0.25) dense(2)", (1, 3, 3), {"leaky_relu": False}),
    "spread": ("conv_transpose(2, 3, stride=2) sigmoid flatten dense(2)", (1, 2, 2), {"sigmoid": False}),
    "normalised": ("dense(3) batchnorm relu dense(2) layernorm silu dense(2)", (4,), {"relu": False, "silu": True}),
    "pooled": ("maxpool(2) relu avgpool(2) tanh lppool(2) elu(alpha=0.5) flatten dense(2)", (1, 9, 8), {}),
    "summed": (["residual(['dense(4)'])", "relu", "dense(2)"], (4,), {"relu": False}),
    "dropped": ("dense(5) dropout(0.5) sigmoid dense(2)", (4,), {"sigmoid": False}),
}


@pytest.mark.parametrize("name", FUSED)
def test_an_activation_joins_the_kernel_before_it(name, monkeypatch):
    """The formula's launch is gone, in backward only if a kernel precedes it; unread arrays are not written."""
    layers, shape, written = FUSED[name]
    if name == "shares":
        monkeypatch.setattr(product, "SHARE", 16)
        monkeypatch.setattr(product, "BLOCKS", 2)
    both = [
        Program(compose(layers, shape, dtype="float64", device=d, seed=2), "quadratic", "sgd", 3)
        for d in ("cuda", "cpu")
    ]
    program, other = both
    rng, nodes = np.random.default_rng(3), program.network.graph.nodes
    x, target = rng.normal(size=(3, *shape)), rng.normal(size=(3, *program.network.output_shape))
    found = program.compile().step(program.state, x, target)
    np.testing.assert_allclose(found, other.reference().step(other.state, x, target), rtol=1e-12)
    np.testing.assert_allclose(program.state.gradient, other.state.gradient, rtol=1e-10, atol=1e-13)
    trace, arena_there = program.run.trace, program.run.arrays.state.arena
    arena_there.copy_to_device(np.full(arena_there.size, 7.5))
    noted = {"forward": trace.traced(trace.forward(3, 0, True)), "backward": trace.traced(trace.backward(3, 0, True))}
    names = {way: [each.kernel.py_func.__name__ for each in launches] for way, launches in noted.items()}
    for way, followed in (("forward", nodes), ("backward", nodes[:-1])):
        formulas = [type(node.layer).__name__ for node in followed if isinstance(node.layer.forward, Formula)]
        assert not [k for k in names[way] for formula in formulas if formula in k], names
    for each in noted["forward"]:
        each()
    arena = arena_there.copy_to_host()
    for node in nodes:
        if node.kind in written:
            slot = program.plan.slot(Ref("value", node.x.index))
            z = arena[slot.first(0, 3) :][: 3 * slot.size]
            assert (z != 7.5).all() if written[node.kind] else (z == 7.5).all(), node.name


def test_formulas_behind_each_other_are_one_loop_by_two():
    """The first formula joins the product, the second the third kernel; with a tail that is not a multiple of four."""
    layers = "dense(5) tanh softplus silu dense(2)"
    program, other = (Program(compose(layers, (3,), dtype="float64", device=d, seed=2), batch_size=3)
                      for d in ("cuda", "cpu"))  # fmt: skip
    x, y, expected = np.random.default_rng(3).normal(size=(3, 3)), np.empty((3, 2)), np.empty((3, 2))
    program.compile().predict(program.state, x, y)
    other.reference().predict(other.state, x, expected)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    names = [each.kernel.py_func.__name__ for each in program.run.trace.traced(program.run.trace.forward(3, 0, False))]
    assert len(names) == 3 and "Softplus" in names[1], names


def test_a_plug_in_takes_a_formula_where_it_only_stores():
    """A kernel takes no formula if it reads its result again, also by another name, or adds to it."""

    @kernel
    def halves(x, y):
        for i in prange(y.size):
            y[i] = 0.5 * x[i]

    @kernel
    def added(x, y):
        for i in prange(y.size):
            y[i] = x[i]
            y[i] += 1.0

    @kernel
    def seen(x, y):
        for i in prange(y.size):
            y[i] = x[i]
            y.reshape(-1)[i] = 2.0 * y.reshape(-1)[i]

    x, z, y = (launch.cuda.to_device(a) for a in (np.linspace(-2, 2, 6), np.zeros(6), np.zeros(6)))
    formula = registry.create("relu").forward
    noted = launch.launches(halves, [x, z])
    (joined,) = launch.with_epilogue(noted, formula, [z, y], ["x"])
    joined()
    np.testing.assert_array_equal(y.copy_to_host(), np.maximum(np.linspace(-1, 1, 6), 0))
    assert not z.copy_to_host().any()
    (joined,) = launch.with_epilogue(noted, formula, [z, y])
    joined()
    np.testing.assert_array_equal(z.copy_to_host(), np.linspace(-1, 1, 6))
    assert launch.with_epilogue(launch.launches(added, [x, z]), formula, [z, y]) is None
    assert launch.with_epilogue(launch.launches(seen, [x, z]), formula, [z, y]) is None
    assert launch.with_epilogue(noted, formula, [x, y]) is None  # only read


def test_an_array_of_one_number_beside_a_number():
    @kernel
    def scaled(x, y, factor):
        for i in prange(y.size):
            y[i] = factor * x[i]

    x, z, y = (launch.cuda.to_device(np.full(1, number)) for number in (-3.0, 0.0, 5.0))
    noted = launch.launches(scaled, [x, z, 2.0])
    (joined,) = launch.with_epilogue(noted, registry.create("relu").forward, [z, y])
    joined()
    assert (z.copy_to_host()[0], y.copy_to_host()[0]) == (-6.0, 0.0)


@pytest.mark.parametrize(
    "layers, shape",
    [
        ("dense(8) relu " * 4 + "dense(8)", (8,)),
        ("dense(3) tanh batchnorm relu batchnorm dense(2)", (4,)),  # from one loop of the plan into another
        ("dense(4) tanh layernorm silu gelu elu(alpha=0.5) dense(2)", (3,)),
        ("conv(2, 3) tanh maxpool(2) relu avgpool(2) sigmoid flatten dense(2)", (1, 8, 8)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_a_fused_kernel_writes_no_other_thread_of_it_reads(layers, shape, training, monkeypatch):
    """The result does not overlap any argument."""
    net = compose(layers, shape, device="cuda", seed=1)
    program = Program(net, *(("quadratic", "sgd") if training else ()), batch_size=4)
    joined, fused = [], device_trace.with_epilogue

    def noting(noted, formula, arguments, passing):
        found = fused(noted, formula, arguments, passing)
        out = arguments[formula.arguments.index(formula.output)]
        joined.extend((each, out) for each in found or [] if each not in noted)
        return found

    monkeypatch.setattr(device_trace, "with_epilogue", noting)
    trace = device.DeviceRun(program).trace
    for calls in [trace.forward(4, 0, training), *([trace.backward(4, 0, True)] if training else [])]:
        trace.traced(calls)
    for each, out in joined:
        begin, end = launch.address(out), launch.address(out) + out.nbytes
        for array in each.arguments:
            if getattr(array, "ndim", 0) and array.size and launch.address(array) != begin:
                at = launch.address(array)
                assert end <= at or at + array.nbytes <= begin
    assert len(joined) >= (4 if training else 2)


def test_a_step_and_float32():
    program, other, x, y = _programs("adam", "float32")
    loss = program.compile().step(program.state, x[:3], y[:3])
    np.testing.assert_allclose(loss, other.reference().step(other.state, x[:3], y[:3]), rtol=1e-5)
    _assert_same(program.state, other.state, program.plan.log.width, 2e-4)


def test_the_same_bits_in_every_run():
    states = []
    for _ in range(2):
        program, _, x, y = _programs("branched", "float32")
        program.compile().epoch(program.state, x, y, np.arange(10))
        states.append(program.state)
    for name in ("theta", "moments", "buffers", "log"):
        np.testing.assert_array_equal(getattr(states[0], name), getattr(states[1], name), err_msg=name)


def test_streamed_data_gives_the_same_bits(monkeypatch):
    """Slabs of one batch each, more of them than buffers."""
    found = []
    for resident in (True, False):
        if not resident:
            monkeypatch.setattr(device_samples, "free_memory", lambda: 0)
            monkeypatch.setattr(device_samples, "SLAB", 1)
        program, _, x, y = _programs("clipped", "float32")
        found.append(program.compile().epoch(program.state, x, y, np.random.default_rng(0).permutation(10)))
        found.append(program.network.theta)
    assert found[0] == found[2]
    np.testing.assert_array_equal(found[1], found[3])


@pytest.mark.parametrize("free", [0, 10**9], ids=["streamed", "resident"])
def test_a_set_larger_than_memory_is_read_slab_by_slab(free, monkeypatch):
    """Bytes are converted on the way into pinned memory, a slab of four samples at a time, stored there or not."""
    rng, read, copy = np.random.default_rng(0), [], split._copy
    data = Split(rng.integers(0, 256, (10, 3), np.uint8), rng.integers(0, 2, 10))
    layers = "minmax(0, 255) dense(4) tanh dense(2)"
    nets = {where: compose(layers, (3,), device=where, seed=1) for where in ("cpu", "cuda")}
    trainers = {where: Trainer(net, data, None, Settings(batch_size=4, epochs=2)) for where, net in nets.items()}
    trainers["cpu"].run()
    monkeypatch.setattr(device_samples, "free_memory", lambda: free)
    monkeypatch.setattr(device_samples, "SLAB", 1)
    monkeypatch.setattr(split, "_copy", lambda *of: read.append(copy(*of)) or read[-1])
    trainer = trainers["cuda"]
    monkeypatch.setattr(trainer, "_finish", lambda epoch: trainer.progress.update(epoch=epoch, done=0))  # reads more
    trainer.run()
    np.testing.assert_allclose(nets["cuda"].theta, nets["cpu"].theta, atol=1e-5)
    times = 2 if free == 0 else 1
    measured, *trained = [len(each) for each in read][1:]  # samples and labels: of metrics, then in each epoch or once
    assert measured == 10 and trained == times * [4, 4, 4, 4, 2, 2]


@pytest.mark.parametrize("free", [0, 10**9], ids=["streamed", "resident"])
def test_steps_of_weighted_samples_are_those_of_the_cpu(free, monkeypatch):
    monkeypatch.setattr(device_samples, "free_memory", lambda: free)
    monkeypatch.setattr(device_samples, "SLAB", 1)
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(10, 3)).astype(np.float32), rng.integers(0, 2, 10), rng.random(10).astype(np.float32)
    order, found = rng.permutation(10), {}
    for where in ("cpu", "cuda"):
        net = compose("dense(4) tanh dense(2)", (3,), device=where, seed=1)
        program = Program(net, "cross_entropy", "sgd(lr=0.5)", 4, weighted=True).compile()
        program.epoch(program.state, x, y, order, w)
        program.step(program.state, x[:3], y[:3], w[:3])
        found[where] = net.theta
        for wrong in ((), (w[:2],)):
            with pytest.raises(ShapeError, match="weight"):
                program.step(program.state, x[:3], y[:3], *wrong)
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-5, atol=1e-6)


def test_a_held_state_is_copied_only_when_it_is_fetched():
    program, _, x, y = _programs("clipped", "float32")
    program.compile()
    before = program.network.theta.copy()
    with program.on_device():
        program.epoch(program.state, x, y, np.arange(4))
        np.testing.assert_array_equal(program.network.theta, before)
        assert program.state.counters[STEP] == 1 and program.state.log[0] > 0
        program.download()
        assert (program.network.theta != before).any()


@pytest.mark.parametrize("free", [0, 10**9], ids=["streamed", "resident"])
def test_an_epoch_allocates_nothing(free, monkeypatch):
    """After the first epoch, which binds the launches, an epoch waits for the device only at its end."""
    monkeypatch.setattr(device_samples, "free_memory", lambda: free)
    monkeypatch.setattr(device_samples, "SLAB", 1)
    program, _, x, y = _programs("clipped", "float32")
    program.compile()
    with program.on_device():
        program.epoch(program.state, x, y, np.arange(10))
        waited, wait, bound = [], program.run.arrays.wait, dict(program.run._sequences)
        monkeypatch.setattr(program.run.arrays, "wait", lambda: waited.append(wait()))
        for name in ("device_array", "to_device", "pinned_array", "stream", "event"):
            monkeypatch.setattr(launch.cuda, name, None)
        program.epoch(program.state, x, y, np.arange(10)[::-1])
        assert program.run._sequences == bound
    assert len(waited) == 1 and program.state.counters[STEP] == 6


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run(bad):
    """The row is logged, the flag is set, and this step and the following ones change nothing."""
    program, _, x, y = _programs("clipped", "float32")
    program.compile()
    program.epoch(program.state, x, y, np.arange(4))
    before = program.network.theta.copy()
    if bad == "loss":
        x[5] = np.inf
    else:
        x[5], y[5] = 3e38, 0
    assert np.isnan(program.epoch(program.state, x, y, np.arange(10)[3:]))
    assert program.state.counters[STOP] == 1 and program.state.counters[ROWS] == 2 and program.state.counters[STEP] == 1
    np.testing.assert_array_equal(program.network.theta, before)


def test_an_infinite_gradient_of_a_finite_loss_stops_gradient_descent():
    """The largest norm of float64, with which such an optimizer takes a step, is not infinite in float32."""
    program = Program(compose("dense(1)", (1,), device="cuda"), "mae", "sgd(lr=0.1)", 2)
    program.network.theta[:] = 0
    x, y = np.full((2, 1), 3e38, np.float32), np.ones((2, 1), np.float32)
    assert np.isnan(program.compile().step(program.state, x, y))
    assert program.state.log[0] == 1 and program.state.log[2] == np.inf and program.state.counters[STOP] == 1
    assert not program.network.theta.any()


def test_forward_and_backward_by_hand():
    both = [compose(BRANCHED, (3,), dtype="float64", device=d, seed=2) for d in ("cuda", "cpu")]
    x, dy = np.random.default_rng(3).normal(size=(2, 5, 3))
    y = [net.forward(x, training=True) for net in both]
    np.testing.assert_allclose(y[0], y[1], rtol=1e-9)
    dx = [net.backward(dy[:, :2]) for net in both]
    np.testing.assert_allclose(dx[0], dx[1], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(both[0].gradient, both[1].gradient, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(both[0].flat_buffers, both[1].flat_buffers, rtol=1e-9)


def test_arrays_that_do_not_fit_are_refused():
    program, _, x, y = _programs("clipped")
    program.compile()
    for call in (
        lambda: program.step(program.state, x, y),  # more than a batch
        lambda: program.epoch(program.state, x[:, :1], y, np.arange(4)),
        lambda: program.epoch(program.state, x, y[:3], np.arange(4)),
        lambda: program.predict(program.state, x, np.empty((10, 4))),
    ):
        with pytest.raises(ShapeError, match="expected x"):
            call()
    size, out = x.shape[1], program.network.output_shape[0]
    memory = np.zeros(100, x.dtype)
    with pytest.raises(ShapeError, match="predict: expected y with memory of its own"):
        program.predict(program.state, memory[: 10 * size].reshape(10, size), memory[3:][: 10 * out].reshape(10, out))
    for order, sentence in (([0, 10], "indices of samples of x"), ([-1], "indices"), ([], "at least one index")):
        with pytest.raises(ShapeError, match=f"epoch: order must hold {sentence}"):
            program.epoch(program.state, x, y, np.array(order, int))


# -- plug-ins ----------------------------------------------------------------------------------------------------------


@njit
def _shifted(value, by):
    return value + by


class Affine(Layer):
    """y = gain * x + offset for each feature, plus an option; with a helper."""

    start: float = 1.5
    lift: float = 0.25

    def parameters(self, in_shape):
        return {"gain": constant(self.start, in_shape), "offset": zeros(in_shape)}

    @kernel
    def forward(x, gain, offset, y, lift):
        N, F = x.shape
        for i in prange(N * F):
            n, j = i // F, i % F
            y[n, j] = _shifted(gain[j] * x[n, j] + offset[j], 0.5 * lift)

    @kernel
    def backward_input(gain, dy, dx):
        for n in prange(dx.shape[0]):
            for j in range(dx.shape[1]):
                dx[n, j] = gain[j] * dy[n, j]

    @kernel
    def backward_parameters(x, dy, dgain, doffset):
        for j in prange(dgain.size):
            total, plain = 0.0, 0.0
            for n in range(x.shape[0]):
                total += x[n, j] * dy[n, j]
                plain += dy[n, j]
            dgain[j], doffset[j] = total, plain


class Cubic(Layer):
    """y = x^3 / 2 + alpha x."""

    alpha: float = 0.1

    @elementwise
    def forward(x, alpha):
        return 0.5 * x**3 + np.sign(x) * np.abs(alpha * x)

    @forward.derivative
    def backward_input(x, alpha):
        return 1.5 * x**2 + alpha


def test_formulas_take_four_numbers_at_a_time_where_they_are_aligned():
    x, y = (launch.cuda.to_device(np.random.default_rng(k).normal(size=11)) for k in (1, 2))
    relu = registry.create("relu")
    for first in (0, 1):  # the second begins between two groups of four
        for each in launch.launches(relu.forward, [x[first:], y[first:]]):
            each()
        np.testing.assert_array_equal(y.copy_to_host()[first:], np.maximum(x.copy_to_host()[first:], 0))


@pytest.mark.parametrize("layer, dtype", [(Affine, np.float32), (Affine, np.float64), (Cubic, np.float32)])
def test_a_plug_in_is_written_once(layer, dtype):
    x, dy = np.random.default_rng(9).normal(size=(2, 3, 4)).astype(dtype)
    got, wanted = (run(layer(), x, dy, folder=folder) for folder in ("cuda", "reference"))
    for name, array in wanted.items():
        close(got[name], array, 1e-6 if dtype is np.float32 else 1e-13, name)


def test_a_plug_in_trains():
    registry.register("affine_on_cuda", force=True)(Affine)
    losses = []
    for d in ("cuda", "cpu"):
        program = Program(compose("affine_on_cuda dense(2)", (3,), device=d, seed=1), "quadratic", "sgd", 3)
        x = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
        functions = program.compile() if d == "cuda" else program.reference()
        losses.append([functions.step(program.state, x, x[:, :2].copy()) for _ in range(2)])
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_layer_without_a_cuda_form_is_refused(monkeypatch):
    """The refusal comes before memory of the device is used, and says what to add."""
    net = compose("dense(2)", (3,), device="cuda")
    made = []
    monkeypatch.setattr(device_arrays.cuda, "device_array", lambda *a, **k: made.append(a))
    monkeypatch.setattr(program_calls.Calls, "data", _with_unknown_operation(program_calls.Calls.data))
    with pytest.raises(
        NnjitError, match=r"dense_forward: .*dense\.forwards.*add a function forwards to kernels/cuda/dense\.py"
    ):
        Program(net, batch_size=1)
    assert not made


def _with_unknown_operation(former):
    def data(calls, names):
        former(calls, names)
        binding = calls.bindings["dense2_forward"]
        binding.kernel = operation("dense.forwards", binding.form)

    return data


def test_certification_asks_cuda_too(monkeypatch):
    """In `nnjit check` a wrong CUDA form fails alone, and so does a form that cannot be compiled."""
    report = certify(["tanh", "dense"])
    assert report.messages == [] and [row.verdict("cuda") for row in report.rows] == ["PASS"] * 2
    former = operation("dense.forward").on("cuda")

    def careless(x, W, b, y):
        return former.function(x, W, b[:0], y)

    def lost(x, W, b, y):
        raise CudaAPIError("[999] CUDA_ERROR_UNKNOWN")

    for wrong, said in ((careless, r"y\[.*, the reference gives"), (lost, r"cannot run: .*\[999\]")):
        monkeypatch.setattr(dense, "forward", launch.launcher(wrong))
        (row,) = certify(["dense(2)"], shapes=[(3,)]).rows
        assert list(row.failures) == ["cuda"] and re.search(said, row.failures["cuda"][0]), row.failures


# -- runs: log, checkpoints, resuming on another device ----------------------------------------------------------------


def _fit(where, device, epochs=2, pictures=False, **more):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)).astype(np.float32), rng.integers(0, 2, 10)
    net = compose("dense(4) tanh dense(2)", (3,), device=device, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        if not pictures:  # of the CPU, whatever trained
            patch.setattr("nnjit.training.run_and_draw._draw", lambda *_: None)
        history = net.fit(x, y, batch_size=4, epochs=epochs, validation=(x[:4], y[:4]), output=where, **more)
    return net, history


def test_logs_are_the_same_on_both_devices(tmp_path):
    runs = {d: _fit(tmp_path / d, d) for d in ("cuda", "cpu")}
    logs = {d: [json.loads(line) for line in (tmp_path / d / "log.jsonl").read_text().splitlines()] for d in runs}
    assert [r.keys() for r in logs["cuda"]] == [r.keys() for r in logs["cpu"]] and len(logs["cuda"]) == 8
    for a, b in zip(logs["cuda"], logs["cpu"], strict=True):
        for name in ("epoch", "step", "lr", "accuracy", "val_accuracy"):
            assert a.get(name) == b.get(name)
        for name in ("loss", "gradient_norm", "val_loss"):
            assert a.get(name, 0) == pytest.approx(b.get(name, 0), rel=1e-4)
        assert a["gradient_norms"] == pytest.approx(b["gradient_norms"], rel=1e-4)
    np.testing.assert_allclose(runs["cuda"][0].theta, runs["cpu"][0].theta, atol=1e-5)


def test_patience_and_callbacks_are_the_same_on_both_devices(tmp_path):
    """A callback has the parameters of its epoch, and the best ones are the network's at the end."""
    found = {}
    for where in ("cuda", "cpu"):
        seen, trained = [], []
        net, history = _fit(
            tmp_path / where, where, epochs=9, optimizer="sgd(lr=6)", patience=2,
            callbacks=[_Keep(seen), lambda record, trained=trained: trained.append(record["epoch"])],
        )  # fmt: skip
        best = int(np.argmin(history.column("val_loss")))
        assert history.restored == best + 1 and np.array_equal(net.theta, seen[best]), where
        assert trained == list(range(1, len(history.epochs) + 1))
        found[where] = len(history.epochs), history.restored, history.stopped, net.predict(np.eye(3, dtype=np.float32))
    assert found["cuda"][:3] == found["cpu"][:3] and found["cpu"][0] < 9
    np.testing.assert_allclose(found["cuda"][3], found["cpu"][3], atol=1e-4)


class _Keep:
    """Keeps theta after every epoch."""

    def __init__(self, seen):
        self.seen = seen

    def begin(self, trainer):
        self.network = trainer.network

    def epoch(self, record):
        self.seen.append(self.network.theta.copy())


@pytest.mark.parametrize("first, second", [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_begun_on_one_device_resumes_on_the_other(tmp_path, first, second):
    whole, _ = _fit(tmp_path / "whole", "cpu", epochs=3)
    _fit(tmp_path / "begun", first, epochs=2)
    tensors, about = checkpoint.read(tmp_path / "begun" / "last.safetensors")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 3)).astype(np.float32), rng.integers(0, 2, 10)
    net = compose("dense(4) tanh dense(2)", (3,), device=second, seed=1)
    data, held = Split(x, y, name="x"), Split(x[:4], y[:4], name="validation")
    Trainer(net, data, held, Settings(batch_size=4, epochs=3), checkpoint=(tensors, about["progress"])).run()
    np.testing.assert_allclose(net.theta, whole.theta, atol=1e-5)


def test_the_command_line_resumes_on_another_device(tmp_path):
    path = tmp_path / "run"
    small = ["--data", "ten_points", "--layers", "dense(2)", "--loss", "quadratic", "--epochs", 1]
    nnjit("run", "--device", "cuda", *small, "--output", path)
    nnjit("run", "--resume", path, "--device", "cpu", "--epochs", 2, pictures=True)
    assert [record["epoch"] for record in records(path) if record.get("epoch_end")] == [1, 2]
    assert 'device = "cpu"' in (path / "config.toml").read_text() and (path / "gradient_norms.png").exists()


def test_info_says_how_steps_run():
    facts = dict(line.split("  ", 1) for line in nnjit("info").splitlines())
    ways = (
        "plain launches (the simulator has no graphs)" if SIMULATED else ("captured as CUDA graphs", "plain launches (")
    )
    assert facts["cuda steps"].strip().startswith(ways)


class CudaAPIError(Exception):
    __module__ = "numba.cuda.cudadrv.driver"


@pytest.mark.parametrize(
    "said, expected",
    [
        (
            "[700] CUDA_ERROR_ILLEGAL_ADDRESS",
            r"CUDA error \[700\] CUDA_ERROR_ILLEGAL_ADDRESS; .*lost",
        ),
        ("[2] CUDA_ERROR_OUT_OF_MEMORY", "the GPU has not enough free memory; a smaller batch_size needs less"),
    ],
)
def test_a_fault_of_the_gpu_leaves_the_run_as_it_was(said, expected, tmp_path, monkeypatch):
    """One sentence and exit status 1; the last epoch's checkpoint is there, and the run continues from it."""
    path, read = tmp_path / "run", device_arrays.Arrays.read
    small = ["--data", "ten_points", "--layers", "dense(2)", "--loss", "quadratic", "--epochs", 3]

    def fails(arrays, state):
        if state.counters[STEP]:
            raise CudaAPIError(said)  # the host sees a kernel's fault when it waits for the kernel
        return read(arrays, state)

    with monkeypatch.context() as patch:
        patch.setattr(device_arrays.Arrays, "read", fails)
        output = nnjit("run", "--device", "cuda", *small, "--output", path, status=1)
    assert re.fullmatch(f"nnjit: device cuda: {expected}", output.splitlines()[-1])
    assert [record["epoch"] for record in records(path) if record.get("epoch_end")] == [1]
    nnjit("run", "--resume", path)
    assert [record["epoch"] for record in records(path) if record.get("epoch_end")] == [1, 2, 3]


@tensor_cores
def test_a_run_with_tensor_cores_resumes_without_them(tmp_path):
    path = tmp_path / "run"
    small = ["--data", "ten_points", "--layers", "dense(2)", "--loss", "quadratic", "--epochs", 1]
    nnjit("run", "--device", "cuda", "--precision", "tf32", *small, "--output", path)
    assert 'precision = "tf32"' in (path / "config.toml").read_text()
    refused = nnjit("run", "--resume", path, "--device", "cpu", "--epochs", 2, status=2)
    assert (
        "run.precision: tf32 needs the tensor cores of device cuda, got device cpu; choose cuda, or float32" in refused
    )
    nnjit("run", "--resume", path, "--precision", "float32", "--epochs", 2)
    assert 'precision = "float32"' in (path / "config.toml").read_text()


def test_divergence_is_one_sentence_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(DivergenceError, match="not finite at step"):
        _fit(tmp_path / "run", "cuda", pictures=True, optimizer="sgd(lr=3e38)")
    assert (tmp_path / "run" / "last.safetensors").exists() and (tmp_path / "run" / "loss.png").exists()


# -- functions for one thread ------------------------------------------------------------------------------------------

TINY = [
    ("dense(16) tanh dense(16) tanh dense(1)", (2,), "float32", 1e-5),
    ("dense(8) relu dense(3) softmax", (4,), "float64", 1e-12),
    (["dense(4)", ("residual", {"layers": ["dense(4)", "gelu"]}), "layernorm", "dense(20)"], (3,), "float32", 1e-5),
    ("dense(16) dense(16) tanh dense(16) dense(3)", (3,), "float32", 1e-5),  # loops in dense layers
]


@pytest.mark.parametrize("layers, shape, dtype, tolerance", TINY)
def test_a_network_in_a_users_kernel(layers, shape, dtype, tolerance):
    """Each thread takes every sixth sample and adds its gradients to its row; a rollout wants none."""
    net, rng = compose(layers, shape, dtype=dtype, seed=1), np.random.default_rng(2)
    program = Program(net, batch_size=10, derivatives=True)
    predict, vjp = program.device_function("predict"), program.device_function("vjp")
    real = np.dtype(dtype).type

    @cuda.jit
    def derivatives(theta, x, dy, y, dx, dtheta):
        thread = cuda.grid(1)
        for n in range(thread, x.shape[0], dtheta.shape[0]):
            vjp(theta, x[n], dy[n], y[n], dx[n], dtheta[thread])

    @cuda.jit
    def steps(theta, x, dy, dx, count):
        n = cuda.grid(1)
        if n < x.shape[0]:
            inside, y = cuda.local.array(4, real), cuda.local.array(20, real)
            for k in range(x.shape[1]):
                inside[k] = x[n, k]
            for _ in range(count):
                predict(theta, inside[: x.shape[1]], y[: dy.shape[1]])
                for k in range(x.shape[1]):
                    inside[k] += real(0.1) * y[k % dy.shape[1]]
            vjp(theta, inside[: x.shape[1]], dy[n], y[: dy.shape[1]], dx[n], None)

    x, dy = (rng.normal(size=(10, *size)).astype(dtype) for size in (shape, net.output_shape))
    wanted, wanted_dx = np.empty_like(dy), np.empty_like(x)
    reference = program.derivatives.code("vjp").reference().vjp
    reference(program.state, x, dy, wanted, wanted_dx, False)
    y, dx, dtheta = np.empty_like(dy), np.empty_like(x), np.zeros((6, net.theta.size), dtype)
    derivatives[2, 3](net.theta, x, dy, y, dx, dtheta)
    close(y, wanted, tolerance)
    close(dx, wanted_dx, tolerance)
    close(dtheta.sum(axis=0), net.gradient, 10 * tolerance)
    moved = x.copy()
    for _ in range(3):
        reference(program.state, moved, dy, wanted, wanted_dx, False)
        moved += real(0.1) * wanted[:, np.arange(x.shape[1]) % dy.shape[1]]
    reference(program.state, moved, dy, wanted, wanted_dx, False)
    steps[3, 4](net.theta, x, dy, dx, 3)
    close(dx, wanted_dx, tolerance)
