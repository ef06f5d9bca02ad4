"""Samples as columns: kernels against the reference of rows, and whole programs against those with samples as rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run, run_columns
from nnjit import registry
from nnjit.kernels.cpu.columns import MOST
from nnjit.kernels.cpu.matrix_small import multiply
from nnjit.kernels.cpu.view import View
from nnjit.kernels.cpu.words import ADD, BIAS, ZERO
from nnjit.layers.activations import Activation
from nnjit.program import fork, schedule
from nnjit.program.program import Program
from nnjit.registry import builtin
from numba import njit, prange

BOUND = {np.float32: 2e-5, np.float64: 1e-13}
sizes = st.sampled_from([1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 33, 48, 70])


@njit
def product(A, rows, columns, B, b, C, M, N, K, start):
    multiply(View(A, rows, columns), View(B, N, 1), View(b, 1, 1), View(C, N, 1), M, N, K, start)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from([ZERO, ADD, BIAS]), st.booleans())
def test_small_product(M, N, K, start, transposed):
    """Whole numbers: the product is exact, whatever the sizes of tiles and remainders."""
    rng = np.random.default_rng(M + 100 * N + 10000 * K)
    A, B, b = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((M, K), (K, N), M))
    C = np.full((M + 1, N), 5, np.float32)
    expected = A @ B + {ZERO: 0, ADD: 5, BIAS: b[:, None]}[start]
    given_A = np.ascontiguousarray(A.T) if transposed else A
    product(given_A.ravel(), 1 if transposed else K, M if transposed else 1, B.ravel(), b, C.ravel(), M, N, K, start)
    np.testing.assert_array_equal(C[:M], expected)
    assert (C[M] == 5).all()


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, sizes, st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_affine_layer_is_that_of_rows(N, m, n, bias, real):
    layer, rng = registry.create(("dense", {"units": n, "bias": bias})), np.random.default_rng(N + m + n)
    x, dy = rng.standard_normal((N, m)), rng.standard_normal((N, n))
    exact = run(layer, x, dy, folder="reference")
    for folder in ("cpu", "reference"):
        got = run_columns(layer, x.astype(real), dy.astype(real), exact, folder)
        for name in ("y", "dx", "dW", "db"):
            scale = 1 + np.abs(exact[name]).max(initial=0)
            np.testing.assert_allclose(got[name] / scale, exact[name] / scale, atol=BOUND[real], err_msg=name)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["softmax", "layernorm(0.1)"]),
    sizes,
    sizes,
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_layers_over_the_features_are_those_of_rows(spec, N, F, real, large):
    layer, rng = registry.create(spec), np.random.default_rng(N + F)
    x, dy = rng.standard_normal((N, F)) * (300 if large else 1), rng.standard_normal((N, F))
    exact = run(layer, x, dy, folder="reference")
    for folder in ("cpu", "reference"):
        got = run_columns(layer, x.astype(real), dy.astype(real), exact, folder)
        for name in got:
            scale = (1 + np.abs(exact[name]).max()) * (300 if large else 1)
            np.testing.assert_allclose(got[name] / scale, exact[name] / scale, atol=BOUND[real], err_msg=name)


def test_softmax_of_huge_numbers():
    """No exponential overflows, no subnormal number is stored, and a NaN reaches its own sample alone."""
    x = np.array([[1e8, 1e8, -1e8], [-1e30, 0, 1e30], [0, 0, -87], [0, np.nan, 0], [-np.inf, 0, 0]], np.float32)
    for folder in ("cpu", "reference"):
        y = run_columns(registry.create("softmax"), x, np.zeros_like(x), {}, folder)["y"]
        np.testing.assert_array_equal(y[:3], [[0.5, 0.5, 0], [0, 0, 1], [0.5, 0.5, 0]])
        assert np.isnan(y[3]).all() and (y[4] == [0, 0.5, 0.5]).all()


def test_which_layers_and_losses_take_columns():
    """Batch normalisation, which couples the batch, and powers have no kernels for columns."""
    left = {name for name in builtin.LOSSES if registry.losses.create(name).column_kernel("forward", (3,)) is None}
    assert left == {"lp"}
    same_shape = [name for name in builtin.LAYERS if issubclass(registry.layers.get(name), Activation)]
    for spec in [*same_shape, "softmax", "layernorm", "dropout(0.1)", "dense(3)", "flatten", "batchnorm"]:
        graph = registry.compose(spec, input_shape=(6,)).graph
        assert (schedule.narrow_from(graph) == 0) == (spec != "batchnorm"), spec
    assert schedule.narrow_from(registry.compose("softmax flatten", input_shape=(2, 3)).graph) == 1  # over two maps


NARROW = "dense(9) tanh dense(5) relu dense(3)"
OTHERS = [
    "dense(8)",
    "dropout(0.3)",
    "layernorm",
    ("residual", {"layers": ["dense(8)", "tanh"]}),
    "dense(3)",
    "softmax",
]


def trained(spec, batch, samples, loss="mse", real="float64", run="compiled", shape=(4,), optimizer="adam(lr=0.01)"):
    """Train for two epochs and predict; return losses, theta, the log and the predictions."""
    net = registry.compose(spec, input_shape=shape, seed=0, dtype=real)
    program = Program(net, loss, optimizer, batch)
    functions = {"compiled": lambda: program, "reference": program.reference}[run]()
    rng = np.random.default_rng(1)
    x, order = rng.standard_normal((samples, *shape)).astype(real), rng.permutation(samples)
    y = np.full((samples, *net.output_shape), np.nan, real)
    target = rng.integers(0, 3, samples) if program.labels else rng.standard_normal(y.shape).astype(real)
    losses = [functions.epoch(program.state, x, target, order) for _ in range(2)]
    functions.predict(program.state, x, y)
    columns = program.plan.shares.narrow is not None
    return columns, [np.array(losses), net.theta.copy(), program.state.log[:40].copy(), y]


@pytest.mark.parametrize(
    "spec, loss", [(NARROW, "mse"), (NARROW, "cross_entropy"), (NARROW, "lp"), (OTHERS, "quadratic")]
)
@pytest.mark.parametrize(
    "batch, samples",
    [(64, 64), (64, 133), (700, 1501), (5000, 5001)],  # one block and several, whole tiles and parts of them
)
def test_training_is_that_of_rows(batch, samples, spec, loss, monkeypatch):
    """Masks of dropout are the same too."""
    columns, got = trained(spec, batch, samples, loss)
    assert columns
    _, reference = trained(spec, batch, samples, loss, run="reference")
    monkeypatch.setattr(schedule, "COLUMNS_FROM", 10**9)
    columns, rows = trained(spec, batch, samples, loss)
    assert not columns
    for each, other, exact in zip(got, reference, rows, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(other, exact, rtol=1e-9, atol=1e-11)


AFTER_OTHERS = {
    "maps": ("conv(3, 3) relu maxpool(2) flatten dense(16) tanh dense(9) relu dense(3)", (1, 8, 8)),
    "a wide layer": (f"dense(9) tanh dense({schedule.NARROW + 1}) relu dense(40) tanh dense(150) relu dense(3)", (4,)),
    "batch normalisation": (
        [
            "dense(8, bias=False)",
            "batchnorm",
            ("residual", {"layers": ["dense(8)", "tanh"]}),
            "dropout(0.2)",
            "dense(3)",
        ],
        (4,),
    ),
}


@pytest.mark.parametrize("name", AFTER_OTHERS)
@pytest.mark.parametrize("batch, samples, loss", [(40, 70, "cross_entropy"), (1500, 2001, "lp")])
def test_narrow_layers_after_others(name, batch, samples, loss, monkeypatch):
    """Rows become columns once: losses, theta, norms and predictions are those of rows, to rounding."""
    spec, shape = AFTER_OTHERS[name]
    monkeypatch.setattr(schedule, "NARROW_SHARE", 0)
    columns, got = trained(spec, batch, samples, loss, shape=shape)
    assert columns
    monkeypatch.setattr(schedule, "COLUMNS_FROM", 10**9)
    columns, rows = trained(spec, batch, samples, loss, shape=shape)
    assert not columns
    for each, exact in zip(got, rows, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-9, atol=1e-11)


def test_blocks_behind_layers_without_parameters(monkeypatch):
    """The last batch fills one block of the narrow layers, and more than one of the others."""
    how = ("maxpool(2) flatten dense(30) tanh dense(3)", 1500, 1690)
    columns, got = trained(*how, shape=(1, 12, 12), optimizer="sgd(lr=0.1)")
    assert columns
    monkeypatch.setattr(schedule, "COLUMNS_FROM", 10**9)
    columns, rows = trained(*how, shape=(1, 12, 12), optimizer="sgd(lr=0.1)")
    assert not columns
    for each, exact in zip(got, rows, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-9, atol=1e-11)


SAME_SHAPE = ["tanh", "gelu", "layernorm", "softmax", "dropout(0.3)", "identity", "batchnorm"]
HEADS = {(4,): [], (2, 3): ["flatten"], (1, 5, 5): ["conv(2, 3)", "relu", "flatten"]}
WIDTHS = {(4,): 4, (2, 3): 6, (1, 5, 5): 18}


@st.composite
def networks(draw):
    """Networks in which narrow layers may follow anything: (layers, shape)."""
    shape = draw(st.sampled_from(list(HEADS)))
    layers, width = list(HEADS[shape]), WIDTHS[shape]
    for kind in draw(st.lists(st.sampled_from(["dense", "residual", *SAME_SHAPE]), max_size=6)):
        if kind == "dense":
            width = draw(st.sampled_from([1, 5, 20]))
            layers.append(f"dense({width})")
        elif kind == "residual":
            inner = draw(st.lists(st.sampled_from([f"dense({width})", *SAME_SHAPE]), min_size=1, max_size=3))
            layers.append(
                ("residual", {"layers": [*inner, *([("residual", {"layers": ["tanh"]})] * draw(st.booleans()))]})
            )
        else:
            layers.append(kind)
    return [*layers, "dense(3)", *draw(st.sampled_from([[], ["tanh"], ["identity"]]))], shape


@settings(max_examples=60, deadline=None)
@given(
    networks(),
    st.sampled_from(["mse", "lp", "cross_entropy", "binary_cross_entropy"]),
    st.integers(6, 30),
    st.integers(2, 40),
    st.data(),
)
@pytest.mark.filterwarnings("ignore:.*has one number for each channel")
def test_plans_with_columns_compute_what_rows_do(network, loss, batch, samples, data):
    """The text in plain Python, with blocks and tiles of a few samples, some of them short.

    Not by Adam, which divides the rounding errors of a gradient of 0 by themselves.
    """
    (spec, shape), few = network, data.draw(st.integers(2, 4))
    sizes = {"SHARD": data.draw(st.sampled_from([0, 10**9])), "NARROW": data.draw(st.sampled_from([10, 256]))}
    sizes |= dict.fromkeys(("SAMPLES", "COLUMN_BLOCK", "TILE", "STEP"), few) | {"NARROW_SHARE": 0, "COLUMN_WORK": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items():
            patch.setattr(schedule, name, value)
        how = {"shape": shape, "run": "reference", "optimizer": "sgd(lr=0.05)"}
        _, got = trained(spec, batch, samples, loss, **how)
        patch.setattr(schedule, "COLUMNS_FROM", 10**9)
        columns, rows = trained(spec, batch, samples, loss, **how)
    assert not columns
    for each, exact in zip(got, rows, strict=True):
        np.testing.assert_allclose(each, exact, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spec", [NARROW, AFTER_OTHERS["a wide layer"][0]])
def test_bits_do_not_depend_on_threads(spec):
    def result():
        return np.concatenate([array.ravel() for array in trained(spec, 4000, 9001, real="float32")[1]])

    many, word = result(), fork._words[fork.RUNNER]
    threads = word.value
    assert threads, "the loops did not run on threads"
    word.value = 0  # blocks run one after the other
    try:
        np.testing.assert_array_equal(result(), many)
    finally:
        word.value = threads


def test_a_nan_in_one_tile_stops_training_and_keeps_theta():
    net = registry.compose(NARROW, input_shape=(4,), seed=0)
    program, theta = net.compile(loss="mse", optimizer="adam(lr=0.01)", batch_size=5000), net.theta.copy()
    x, y = np.ones((5000, 4), np.float32), np.ones((5000, 3), np.float32)
    x[4321, 1] = np.nan
    assert np.isnan(program.step(program.state, x, y))
    np.testing.assert_array_equal(net.theta, theta)
    x[4321, 1] = 1
    assert np.isfinite(program.step(program.state, x, y))


def test_which_networks_have_samples_as_columns():
    def columns(spec, batch, shape=(4,), **options):
        net = registry.compose(spec, input_shape=shape)
        return "columns" in Program(net, "mse", "sgd", batch, **options).source.split("# Places")[1]

    assert columns("dense(99) relu dense(99) relu dense(3)", 6) and columns(NARROW, 17)
    assert columns("flatten dense(9, bias=False) identity relu", 300, (2, 3))
    assert not columns("dense(99) relu dense(99) relu dense(3)", 5)  # too few to fill the vectors
    assert not columns(NARROW, 16) and not columns("dense(2) relu dense(3)", 30)  # tiny: inlined
    assert not columns("dense(2) softmax", 17, (50,)) and columns("dense(10) softmax", 17, (10,))  # rows fill vectors
    assert not columns("dense(1)", 250) and columns("dense(2)", 250)  # one output, tiny
    assert not columns("dense(300) relu dense(3)", 300)  # wide
    assert not columns("dense(9) batchnorm dense(3)", 300)  # most of the work is before
    assert columns("dense(9) batchnorm dense(9) relu dense(9) relu dense(3)", 300)
    assert columns("conv(2, 3) flatten dense(32) relu dense(3)", 300, (1, 6, 6))
    assert not columns("conv(4, 3) flatten dense(32) relu dense(3)", 300, (1, 8, 8))  # 144 numbers of a sample turn
    assert schedule.TILE <= MOST


def test_a_formula_of_a_user_works_on_columns():
    from nnjit.layers.base import Layer, elementwise

    @registry.register("cubed_for_test_columns", force=True)
    class Cubed(Layer):
        @elementwise
        def forward(x):
            return x * x * x

        @forward.derivative
        def backward_input(x):
            return 3.0 * x * x

    try:
        columns, got = trained("dense(6) cubed_for_test_columns dense(3)", 100, 160)
        _, exact = trained("dense(6) cubed_for_test_columns dense(3)", 100, 160, run="reference")
        assert columns
        for each, other in zip(got, exact, strict=True):
            np.testing.assert_allclose(each, other, rtol=1e-9, atol=1e-11)
    finally:
        registry.unregister("cubed_for_test_columns")


def test_a_loss_of_a_user_takes_columns():
    from nnjit.training import Loss, kernel

    class Cubes(Loss):
        """The sum of |y - t|^3 / 3 over the outputs."""

        @kernel(form="matrix")
        def forward(y, target, loss):
            for n in prange(loss.size):
                loss[n] = 0.0
                for j in range(y.shape[1]):
                    loss[n] += abs(y[n, j] - target[n, j]) ** 3 / 3.0

        @kernel(form="matrix")
        def backward(y, target, dy):
            for n in prange(y.shape[0]):
                for j in range(y.shape[1]):
                    dy[n, j] = (y[n, j] - target[n, j]) * abs(y[n, j] - target[n, j])

    class CubesOfColumns(Cubes):
        @kernel(form="matrix")
        def forward_columns(y, target, loss):
            for n in prange(loss.size):
                loss[n] = 0.0
                for j in range(y.shape[0]):
                    loss[n] += abs(y[j, n] - target[n, j]) ** 3 / 3.0

        @kernel(form="matrix")
        def backward_columns(y, target, dy):
            for j in prange(y.shape[0]):
                for n in range(y.shape[1]):
                    dy[j, n] = (y[j, n] - target[n, j]) * abs(y[j, n] - target[n, j])

        def column_kernel(self, attribute, out_shape):
            assert out_shape == (3,)
            return getattr(self, f"{attribute}_columns")

    found = {}
    for name, loss in (("rows_for_test", Cubes), ("columns_for_test", CubesOfColumns)):
        registry.losses.register(name, force=True)(loss)
        try:
            columns, found[name] = trained(NARROW, 100, 160, name)
            source = Program(registry.compose(NARROW, input_shape=(4,)), name, "sgd", 100).source
        finally:
            registry.losses.unregister(name)
        assert columns and ("z4_rows, target, C_i)" in source) == (name == "rows_for_test")
    for rows, each in zip(*found.values(), strict=True):
        np.testing.assert_allclose(each, rows, rtol=1e-9, atol=1e-11)


def test_a_layer_derived_from_a_built_in_one_keeps_its_kernels():
    """It has no kernels for columns, so samples stay rows."""
    from nnjit.layers.base import kernel
    from nnjit.layers.dense import Dense

    class Doubled(Dense):
        """y = 2 (W x + b)."""

        @kernel
        def forward(x, W, b, y):
            for n in prange(len(x)):
                for j in range(len(W)):
                    total = b[j]
                    for i in range(x.shape[1]):
                        total += W[j, i] * x[n, i]
                    y[n, j] = 2.0 * total

    registry.layers.register("doubled_for_test_columns", force=True)(Doubled)
    try:
        net = registry.compose("doubled_for_test_columns(20) dense(20)", input_shape=(10,), seed=0, dtype="float64")
        x = np.random.default_rng(0).standard_normal((60, 10))
        (W, b), (V, c) = (
            [net.parameters[f"{name}.{key}"] for key in "Wb"] for name in (node.name for node in net.graph.nodes)
        )
        np.testing.assert_allclose(net.predict(x), 2 * (x @ W.T + b) @ V.T + c, rtol=1e-12)
    finally:
        registry.layers.unregister("doubled_for_test_columns")


def test_a_loss_derived_from_a_built_in_one_keeps_its_kernels():
    from nnjit.training import kernel
    from nnjit.training.losses import MSE

    class Constant(MSE):
        @kernel(form="flat")
        def forward(target, loss):
            for n in prange(loss.size):
                loss[n] = 7.0

    registry.losses.register("constant_for_test_columns", force=True)(Constant)
    try:
        columns, (losses, *_) = trained(NARROW, 100, 160, "constant_for_test_columns")
    finally:
        registry.losses.unregister("constant_for_test_columns")
    assert columns and (losses == 7).all()
