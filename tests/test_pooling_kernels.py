"""Pooling: PyTorch's values, the definition cell by cell, ties, NaN, padding, norms far from 1, what cannot be."""

import inspect
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run
from nnjit import registry
from nnjit.check.promotion import promoted
from nnjit.errors import ShapeError, SpecError
from nnjit.kernels.compiler.kernel import Kernel
from nnjit.kernels.cpu import conv, conv_transpose
from nnjit.kernels.cpu import pooling as cpu
from nnjit.kernels.reference import pooling as reference
from numba import types
from window_vectors import compare

both = pytest.mark.parametrize("folder", ["cpu", "reference"])
NAMES = ("maxpool", "avgpool", "lppool", "global_avgpool", "global_maxpool")
INF = float("inf")


@both
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_stored_answers_of_pytorch(dtype, tolerance, folder):
    counts = [compare({name}, dtype, folder, tolerance) for name in NAMES]
    assert sum(counts) == 60 and min(counts) >= 3


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["maxpool", "avgpool", "padded"]), sizes=st.lists(st.integers(1, 9), min_size=0, max_size=2),
    row=st.one_of(st.integers(1, 40), st.sampled_from([700, 2500])), seed=st.integers(0, 9),
    size=st.one_of(st.integers(1, 6), st.sampled_from([400, 2100])), stride=st.sampled_from([None, 1, 2, 3, 7]),
    padding=st.integers(0, 3), dtype=st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_every_window_against_the_reference(name, sizes, row, seed, size, stride, padding, dtype):
    """Windows in one vector and in many, wider than a buffer, over borders; ties, NaN and minus infinity."""
    sizes = (*sizes, row) if row < 100 else (row,)
    kernel = tuple(min(size, i) for i in sizes)
    options = {"size": kernel, "stride": stride or kernel, "padding": tuple(min(padding, k - 1) for k in kernel)}
    if name == "padded":
        options["count_padding"] = True
    layer, rng = registry.create((name.replace("padded", "avgpool"), options)), np.random.default_rng(seed)
    x = rng.integers(-3, 4, (2, 3, *sizes)).astype(dtype)
    if name == "maxpool" and seed < 5:
        x[rng.random(x.shape) < 0.05] = np.nan
        x[rng.random(x.shape) < 0.3] = -INF
    dy = rng.standard_normal((2, *layer.output_shape(x.shape[1:])))
    wanted, got = (run(layer, x, dy, folder=folder) for folder in ("reference", "cpu"))
    for each in ("y", "dx"):
        bound = 1e-5 if dtype is np.float32 else 1e-12
        scale = 1.0 + np.abs(wanted[each][np.isfinite(wanted[each])]).max(initial=0)
        np.testing.assert_allclose(got[each], wanted[each], rtol=bound, atol=bound * scale, err_msg=each)


def test_twins_take_the_same_arguments():
    kernels = {name: each.arguments for name, each in vars(cpu).items() if isinstance(each, Kernel)}
    plain = {
        k: tuple(inspect.signature(v).parameters) for k, v in vars(reference).items() if k.endswith(("ward", "put"))
    }
    assert kernels == plain and len(kernels) == 10


def cells(spec, x):
    """For each position (n, c, o...): the cells of the input in its window, in row order, by trying all of them."""
    layer = registry.create(spec)
    window, shape = layer.window(x.shape[1:]), layer.output_shape(x.shape[1:])
    for index in np.ndindex(len(x), *shape):
        starts = [o * s - b for o, s, b in zip(index[2:], window.stride, window.before, strict=True)]
        ranges = [range(a, a + k) for a, k in zip(starts, window.kernel, strict=True)]
        inside = [c for c in product(*ranges) if all(0 <= j < i for j, i in zip(c, x.shape[2:], strict=True))]
        yield index, [(*index[:2], *c) for c in inside], int(np.prod(window.kernel))


@both
@pytest.mark.parametrize(
    "options", ["2", "3, stride=2, padding='same'", "(2, 3), stride=(1, 2), padding=((1, 0), (2, 2))"]
)
@pytest.mark.parametrize("name", ["maxpool", "avgpool", "padded", "lppool"])
def test_definition_cell_by_cell(name, options, folder):
    extra = {"padded": ", count_padding=True", "lppool": ", p=3"}.get(name, "")
    spec = f"{name.replace('padded', 'avgpool')}({options}{extra})"
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (2, 2, 5, 6)) + (0.5 if name == "lppool" else 0.0)  # ties for max
    dy = rng.standard_normal((2, *registry.create(spec).output_shape(x.shape[1:])))
    y, dx = np.zeros_like(dy), np.zeros_like(x, dtype=float)
    for index, inside, size in cells(spec, x):
        values = np.array([x[c] for c in inside], float)
        if name == "maxpool":
            slopes = np.arange(len(values)) == np.argmax(values)  # NumPy's argmax is the first
            y[index] = max(values)
        elif name == "lppool":
            y[index] = np.sum(np.abs(values) ** 3) ** (1 / 3)
            slopes = np.sign(values) * (np.abs(values) / y[index]) ** 2
        else:
            slopes = np.full(len(values), 1 / (size if name == "padded" else len(values)))
            y[index] = values @ slopes
        for c, slope in zip(inside, slopes, strict=True):
            dx[c] += slope * dy[index]
    got = run(registry.create(spec), x.astype(float), dy, folder=folder)
    np.testing.assert_allclose(got["y"], y, atol=1e-12)
    np.testing.assert_allclose(got["dx"], dx, atol=1e-12)


@both
@pytest.mark.parametrize("spec", ["maxpool(2)", "global_maxpool"])
def test_ties_go_to_the_first_cell(spec, folder):
    got = run(registry.create(spec), np.full((1, 1, 2, 2), 3.0), np.ones_like, folder=folder)
    np.testing.assert_array_equal(got["dx"], [[[[1, 0], [0, 0]]]])


@both
def test_padding_never_wins_a_maximum(folder):
    x = np.full((1, 1, 2, 2), -7.0)
    got = run(registry.create("maxpool(3, stride=1, padding='full')"), x, np.ones_like, folder=folder)
    np.testing.assert_array_equal(got["y"], np.full((1, 1, 4, 4), -7.0))
    assert got["dx"].sum() == 16
    low = np.full((1, 1, 2, 2), -INF)  # nor where the input is as low as can be: dy stays in the image
    assert run(registry.create("maxpool(2, padding=1)"), low, np.ones_like, folder=folder)["dx"].sum() == 4


@both
@pytest.mark.parametrize(
    "spec", ["maxpool(2, stride=1)", "global_maxpool", "avgpool(2, 1)", "lppool(2, 3, 1)", "global_avgpool"]
)
def test_nan_is_not_lost(spec, folder):
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    x[0, 0, 0, 0] = np.nan
    y = run(registry.create(spec), x, np.ones_like, folder=folder)["y"]
    assert np.isnan(y.flat[0]) and (y.size == 1 or np.isfinite(y.flat[1:]).all())


def test_nan_gets_the_gradient_of_a_maximum():
    x = np.array([[[5.0, np.nan, 7.0, np.nan]]])
    for folder in ("cpu", "reference"):
        for spec in ("maxpool(4)", "global_maxpool"):
            np.testing.assert_array_equal(
                run(registry.create(spec), x, np.ones_like, folder=folder)["dx"], [[[0, 1, 0, 0]]]
            )


@both
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, INF])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norms_far_from_1(p, scale, folder):
    """No power overflows or vanishes in float32."""
    x = np.array([[[3, -4, 0, 1]]], np.float32)
    near = run(registry.create(("lppool", {"size": 4, "p": p})), x, np.ones_like, folder=folder)
    far = run(registry.create(("lppool", {"size": 4, "p": p})), x * np.float32(scale), np.ones_like, folder=folder)
    np.testing.assert_allclose(near["y"], [[[np.linalg.norm(x.ravel(), p)]]], rtol=1e-6)
    np.testing.assert_allclose(far["y"], near["y"] * np.float32(scale), rtol=1e-5)
    np.testing.assert_allclose(far["dx"], near["dx"], rtol=1e-5)


@both
@pytest.mark.parametrize("p", [1.0, 2.0, 2.5, INF])
def test_norm_of_nothing_has_no_slope(p, folder):
    got = run(registry.create(("lppool", {"size": 2, "p": p})), np.zeros((1, 1, 4)), np.ones_like, folder=folder)
    assert not got["y"].any() and not got["dx"].any()


@both
def test_maximum_norm_ties_go_to_the_first_cell(folder):
    x = np.array([[[1.0, -2.0, 2.0]]])
    got = run(registry.create("lppool(3, p=inf)"), x, np.ones_like, folder=folder)
    np.testing.assert_array_equal(got["dx"], [[[0, -1, 0]]])


@pytest.mark.parametrize("spec", ["maxpool(3, 2, 1)", "avgpool(2)", "lppool(2, 3)", "global_avgpool", "global_maxpool"])
def test_parts_give_the_same_bits(spec):
    layer, x = registry.create(spec), np.random.default_rng(0).standard_normal((3, 3, 6, 5)).astype(np.float32)
    whole, parted = (run(layer, x, np.ones_like, parts=parts) for parts in (1, 4))
    for name in ("y", "dx"):
        np.testing.assert_array_equal(parted[name], whole[name], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [5, 8, 16, 17, 33, 70])
@pytest.mark.parametrize(
    "spec",
    [
        "maxpool(2)", "maxpool(3, 2, 1)", "maxpool(3, 1, 1)", "maxpool(5, 3, 2)", "maxpool((2, 5), (2, 4), (1, 2))",
        "avgpool(2)", "avgpool(3, 2, 1)", "avgpool(5, 1, 2, count_padding=True)", "avgpool(4, 3, 1)",
        "avgpool((3, 5), (1, 4))",
    ],
)  # fmt: skip
def test_every_tail_of_a_row(spec, width, dtype):
    """Rows of less and more windows than a vector has numbers, of every step, with ties, NaN and infinities."""
    layer, rng = registry.create(spec), np.random.default_rng(width)
    x = rng.integers(-3, 4, (2, 3, 7, width)).astype(dtype)
    if spec.startswith("max"):
        x[rng.random(x.shape) < 0.05] = np.nan
        x[rng.random(x.shape) < 0.3] = -INF
    dy = rng.standard_normal((2, *layer.output_shape(x.shape[1:]))).astype(dtype)
    got, plain = (run(layer, x, dy, folder=folder) for folder in ("cpu", "reference"))
    for name in ("y", "dx"):
        np.testing.assert_allclose(got[name], plain[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("spec", ["maxpool(40, 1, 20)", "avgpool(40, 1, 20)", "maxpool(40, 2)", "avgpool(40, 2)"])
def test_windows_that_reach_further_than_a_vector(spec):
    layer, x = registry.create(spec), np.random.default_rng(0).standard_normal((1, 2, 90))
    dy = np.random.default_rng(1).standard_normal((1, *layer.output_shape(x.shape[1:])))
    got, plain = (run(layer, x, dy, folder=folder) for folder in ("cpu", "reference"))
    for name in ("y", "dx"):
        np.testing.assert_allclose(got[name], plain[name], atol=1e-12, err_msg=name)


@pytest.mark.parametrize("file", [cpu, conv, conv_transpose])
def test_float32_stays_float32(file):
    """Nothing in the LLVM code of a kernel, helpers included, is a double."""
    image, vector = types.Array(types.float32, 5, "C"), types.Array(types.float32, 1, "C")
    kinds = dict.fromkeys(("x", "y", "argmax", "dx", "dy", "W", "dW", "padded", "dpadded", "haloed_dy"), image) | {
        "b": vector,
        "db": vector,
    }
    kinds |= dict.fromkeys(("size", "stride", "dilation", "pad_before"), types.UniTuple(types.intp, 3))
    kinds |= {"groups": types.intp, "border": types.intp, "p": types.float32, "count_padding": types.boolean}
    kernels = {name: each for name, each in vars(file).items() if isinstance(each, Kernel)}
    assert len(kernels) >= 3
    for name, each in kernels.items():
        flat = {k: types.Array(types.float32, 2, "C") for k in ("y", "dy") if name.startswith("global")}
        assert promoted(each, tuple((kinds | flat)[k] for k in each.arguments)) is None, name


@pytest.mark.parametrize(
    "spec, in_shape, sentence",
    [
        ("maxpool(3)", (1, 2, 5), "maxpool: kernel 3 does not fit an input of 2 with padding 0"),
        ("maxpool(2, padding=2)", (1, 5), "maxpool: padding of each side must be less than the window's 2 cells"),
        ("avgpool(2, padding=((0, 0), (0, 2)))", (1, 5, 5), r"avgpool: .*got \(0, 2\)"),
        ("maxpool(2)", (1, 4097, 4096), "maxpool: a map has at most 16777216 cells, got 16781312"),
        ("lppool(2)", (4,), r"lppool: expected an input of shape \(C, \*spatial\)"),
        ("global_avgpool", (4,), "global_avgpool: expected an input of shape"),
        ("global_maxpool", (1, 2, 3, 4, 5), "global_maxpool: expected an input of shape"),
    ],
)
def test_shapes_that_do_not_fit(spec, in_shape, sentence):
    with pytest.raises(ShapeError, match=sentence):
        registry.create(spec).output_shape(in_shape)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("maxpool(0)", "maxpool: size: expected whole numbers from 1"),
        ("maxpool(2, stride=0)", "maxpool: stride: expected"),
        ("avgpool(2, padding=-1)", "avgpool: padding: expected"),
        ("lppool(2, p=0.5)", "lppool: p: expected a number of at least 1, got 0.5"),
        ("lppool(2, p=-inf)", "lppool: p: expected"),
        ("maxpool((2, 2), stride=(1, 1, 1))", "maxpool: .* expected one number or"),
        ("maxpool(2, padding='sane')", "did you mean same"),
    ],
)
def test_options_that_cannot_be(spec, sentence):
    with pytest.raises(SpecError, match=sentence):
        registry.create(spec)


def test_stride_is_the_size_where_it_is_not_given():
    assert registry.create("maxpool((2, 3))").output_shape((4, 9, 9)) == (4, 4, 3)
    assert registry.create("lppool(2, 2, 1)").output_shape((4, 9, 9)) == (4, 8, 8)
    assert registry.create("avgpool(3, padding='same')").operations((2, 9)) == 2 * 3 * 3
