"""Convolution and its transpose: PyTorch's values, the dense matrix, translation, adjoints, what cannot be."""

import inspect
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run
from nnjit import registry
from nnjit.errors import NnjitError, ShapeError, SpecError
from nnjit.kernels.cpu import conv as cpu_conv
from nnjit.kernels.cpu import conv_depthwise as cpu_depthwise
from nnjit.kernels.cpu import conv_transpose as cpu_transpose
from nnjit.kernels.cpu import winograd as cpu_winograd
from nnjit.kernels.reference import conv as reference_conv
from nnjit.kernels.reference import conv_transpose as reference_transpose
from window_vectors import compare

both = pytest.mark.parametrize("folder", ["cpu", "reference"])
BORDERS = ("zeros", "edge", "reflect", "wrap")


@both
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("name, count", [("conv", 90), ("conv_transpose", 50)])
def test_stored_answers_of_pytorch(name, count, dtype, tolerance, folder):
    assert compare({name}, dtype, folder, tolerance) == count


@pytest.mark.parametrize("cpu, reference", [(cpu_conv, reference_conv), (cpu_transpose, reference_transpose)])
def test_twins_take_the_same_arguments(cpu, reference):
    names = [name for name in vars(reference) if name.startswith(("forward", "backward"))]
    assert len(names) >= 3
    for name in names:
        assert getattr(cpu, name).arguments == tuple(inspect.signature(getattr(reference, name)).parameters), name


def agrees_in_float32(layer, x, dy, rng):
    """Assert that the CPU's values and gradients in float32 are the reference's in float64."""
    W = rng.standard_normal(layer.parameters(x.shape[1:])["W"].shape)
    exact = run(layer, x, dy, {"W": W}, "reference")
    found = run(layer, x.astype(np.float32), dy.astype(np.float32), {"W": W}, "cpu")
    for name in ("y", "dx", "dW"):
        scale = np.abs(exact[name]).max() + 1.0
        np.testing.assert_allclose(found[name] / scale, exact[name] / scale, atol=3e-6, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3), maps=st.integers(1, 19), each=st.integers(1, 19), groups=st.sampled_from([1, 1, 1, 2, 3]),
    sizes=st.tuples(st.integers(1, 13), st.integers(1, 52)), kernel=st.tuples(st.integers(1, 4), st.integers(1, 7)),
    stride=st.sampled_from([1, 1, 2, 3]), dilation=st.sampled_from([1, 1, 2]), border=st.sampled_from(BORDERS),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_every_tile_and_tail(batch, maps, each, groups, sizes, kernel, stride, dilation, border, seed):
    """Rows of one number to more than three vectors, one filter to nineteen: against the reference in float64."""
    options = {"filters": each * groups, "kernel_size": kernel, "stride": stride, "dilation": dilation,
               "padding": tuple(min(d, i - 1) for d, i in zip((1, 2), sizes, strict=True)), "border": border,
               "groups": groups}  # fmt: skip
    layer, rng = registry.create(("conv", options)), np.random.default_rng(seed)
    x = rng.standard_normal((batch, maps * groups, *sizes))
    try:
        dy = rng.standard_normal((batch, *layer.output_shape(x.shape[1:])))
    except ShapeError:
        return
    agrees_in_float32(layer, x, dy, rng)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.sampled_from([1, 2, 9]), maps=st.sampled_from([24, 25, 33, 48, 72]), filters=st.sampled_from([24, 31, 64]),
    sizes=st.tuples(st.integers(1, 11), st.one_of(st.integers(1, 11), st.sampled_from([30, 31, 32, 33, 130]))),
    padding=st.tuples(st.tuples(*[st.integers(0, 3)] * 2), st.tuples(*[st.integers(0, 3)] * 2)),
    border=st.sampled_from(BORDERS), seed=st.integers(0, 9), bias=st.booleans(),
)  # fmt: skip
def test_many_maps_of_3x3_taps(batch, maps, filters, sizes, padding, border, seed, bias):
    """Cases of the other algorithm: odd and even sizes, strips that fill their vectors and that do not."""
    padding = tuple(tuple(min(side, i - 1) for side in sides) for sides, i in zip(padding, sizes, strict=True))
    options = {"filters": filters, "kernel_size": 3, "padding": padding, "border": border, "bias": bias}
    layer, rng = registry.create(("conv", options)), np.random.default_rng(seed)
    x = rng.standard_normal((batch, maps, *sizes))
    try:
        dy = rng.standard_normal((batch, *layer.output_shape(x.shape[1:])))
    except ShapeError:
        return
    assert layer.kernel("forward", x.shape[1:]).on("cpu") is cpu_winograd.forward
    exact = run(layer, x, dy, None, "reference", seed=seed)
    given = {name: exact[name] for name in ("W", "b")}
    found = run(layer, x.astype(np.float32), dy.astype(np.float32), given, "cpu")
    for name in ("y", "dx", "dW"):
        scale = np.abs(exact[name]).max() + 1.0
        # sums of up to 12,870 numbers, rounded about sqrt(12,870) times 6e-8
        np.testing.assert_allclose(found[name] / scale, exact[name] / scale, atol=7e-6, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.sampled_from([1, 2, 9, 17]), maps=st.integers(1, 40), filters=st.integers(8, 50),
    sizes=st.lists(st.integers(1, 9), min_size=0, max_size=2), row=st.one_of(st.integers(1, 20), st.just(300)),
    taps=st.integers(1, 5), stride=st.integers(1, 3), groups=st.sampled_from([1, 1, 2]), seed=st.integers(0, 9),
    padding=st.integers(0, 2), border=st.sampled_from(BORDERS),
)  # fmt: skip
def test_filters_side_by_side(batch, maps, filters, sizes, row, taps, stride, groups, seed, padding, border):
    """One to three dimensions, many filters: tiles of every height, bands and columns that end early."""
    sizes = (*sizes, row)
    options = {"filters": filters * groups, "kernel_size": tuple(min(taps, i) for i in sizes), "stride": stride,
               "padding": tuple(min(padding, i - 1) for i in sizes), "groups": groups, "border": border}  # fmt: skip
    layer, rng = registry.create(("conv", options)), np.random.default_rng(seed)
    x = rng.standard_normal((batch, maps * groups, *sizes))
    dy = rng.standard_normal((batch, *layer.output_shape(x.shape[1:])))
    exact = run(layer, x, dy, None, "reference", seed=seed)
    given = {name: exact[name] for name in ("W", "b")}
    found = run(layer, x.astype(np.float32), dy.astype(np.float32), given, "cpu")
    for name in ("y", "dx", "dW"):
        scale = np.abs(exact[name]).max() + 1.0
        np.testing.assert_allclose(found[name] / scale, exact[name] / scale, atol=3e-6, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.sampled_from([1, 3, 30]), maps=st.integers(2, 5), row=st.one_of(st.integers(1, 20), st.just(32)),
    sizes=st.lists(st.integers(1, 9), min_size=0, max_size=2), taps=st.tuples(*[st.integers(1, 4)] * 3),
    dilation=st.sampled_from([1, 1, 2]), padding=st.sampled_from([0, 1, 2, "same", "full"]), seed=st.integers(0, 9),
)  # fmt: skip
def test_one_map_for_each_filter(batch, maps, sizes, row, taps, dilation, padding, seed):
    """Rows that fill their vectors and planes taken as one row, three rows of taps and others."""
    sizes = (*sizes, row)
    taps = tuple(min(t, (i - 1) // dilation + 1) for t, i in zip(taps, sizes, strict=False))
    padding = padding if isinstance(padding, str) else tuple(min(padding, (t - 1) * dilation) for t in taps)
    options = {"filters": maps, "groups": maps, "kernel_size": taps, "dilation": dilation, "padding": padding}
    layer, rng = registry.create(("conv", options)), np.random.default_rng(seed)
    x = rng.standard_normal((batch, maps, *sizes))
    assert layer.kernel("forward", x.shape[1:]).on("cpu") is cpu_depthwise.forward
    dy = rng.standard_normal((batch, *layer.output_shape(x.shape[1:])))
    exact = run(layer, x, dy, None, "reference", seed=seed)
    given = {name: exact[name] for name in ("W", "b")}
    found = run(layer, x.astype(np.float32), dy.astype(np.float32), given, "cpu")
    for name in ("y", "dx", "dW"):
        scale = np.abs(exact[name]).max() + 1.0
        np.testing.assert_allclose(found[name] / scale, exact[name] / scale, atol=3e-6, err_msg=name)


@pytest.mark.parametrize("maps, filters, taps", [(300, 20, 3), (5, 20, 47), (600, 3, 2), (3, 2, 50)])
def test_sums_of_more_terms_than_fit(maps, filters, taps):
    """Weights in several portions, in float64: to its rounding."""
    layer = registry.create(("conv1d", {"filters": filters, "kernel_size": taps, "padding": "same", "stride": 2}))
    x = np.random.default_rng(0).standard_normal((2, maps, 2 * taps + 9))
    exact, found = (run(layer, x, np.ones_like, None, folder) for folder in ("reference", "cpu"))
    for name in ("y", "dx", "dW"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-12, atol=1e-11, err_msg=name)


@pytest.mark.parametrize(
    "batch, maps, size", [(3, 1, 118), (1, 1, 181), (2, 16, 60), (1, 16, 84), (3, 24, 32), (1, 24, 50)]
)
def test_frames_with_and_without_room(batch, maps, size):
    """Frames of deltas of some samples, of one and of none stay on the stack, in each of the three algorithms."""
    spec = {1: "conv(2, 5, padding='same')", 16: "conv(16, 5, padding='same')", 24: "conv(24, 3, padding='same')"}[maps]
    layer, rng = registry.create(spec), np.random.default_rng(size)
    x = rng.standard_normal((batch, maps, size, size))
    dy = rng.standard_normal((batch, *layer.output_shape(x.shape[1:])))
    agrees_in_float32(layer, x, dy, rng)


@pytest.mark.parametrize("maps, filters", [(160, 24), (24, 200), (256, 256)])
def test_as_many_maps_as_fit(maps, filters):
    """Weights in several portions, in float64: to its rounding."""
    layer, rng = registry.create(("conv", {"filters": filters, "kernel_size": 3})), np.random.default_rng(0)
    x = rng.standard_normal((2, maps, 5, 6))
    exact, found = (run(layer, x, np.ones_like, None, folder) for folder in ("reference", "cpu"))
    for name in ("y", "dx", "dW"):
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-12, atol=1e-11, err_msg=name)


# -- numbers that are not finite, or are much larger than the others ---------------------------------------------------

GEOMETRIES = {  # name -> filters, maps, options: each algorithm, with and without strides, gaps, tails
    "tiles": (3, 2, {"kernel_size": (3, 4), "padding": 1}),
    "rows laid apart": (2, 1, {"kernel_size": 5, "padding": 2}),
    "tiles with a stride": (5, 3, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "tiles with gaps": (5, 4, {"kernel_size": 3, "dilation": 2, "padding": 2, "groups": 1}),
    "groups": (6, 4, {"kernel_size": 3, "padding": 2, "groups": 2}),
    "filters": (33, 5, {"kernel_size": 3, "stride": 2, "padding": 1}),
    "winograd": (32, 32, {"kernel_size": 3, "padding": 1}),
    "winograd without padding": (24, 17, {"kernel_size": 3}),
    "depthwise": (3, 3, {"kernel_size": 3, "padding": 1, "groups": 3}),
    "one filter too few for four": (3, 3, {"kernel_size": 3, "padding": 1, "stride": 2, "transposed": True}),
    "five maps back": (5, 5, {"kernel_size": 2, "dilation": 2, "padding": 1, "transposed": True}),
}


def with_one(name, number, where, size=(9, 11), seed=0):
    """Return a layer and its arrays, one number among them replaced."""
    filters, maps, options = GEOMETRIES[name]
    options = dict(options)
    kind = "conv_transpose" if options.pop("transposed", False) else "conv"
    layer, rng = registry.create((kind, {"filters": filters, **options})), np.random.default_rng(seed)
    arrays = {"x": rng.standard_normal((2, maps, *size))}
    arrays["dy"] = rng.standard_normal((2, *layer.output_shape((maps, *size))))
    arrays["W"] = rng.standard_normal(layer.parameters((maps, *size))["W"].shape)
    arrays["b"] = rng.standard_normal(filters)
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    array, place = where
    flat = arrays[array].reshape(-1)
    flat[int(place * (flat.size - 1))] = number
    return layer, arrays


def run_arrays(layer, arrays, folder, dtype):
    given = {key: arrays[key].astype(dtype) for key in ("W", "b")}
    with np.errstate(all="ignore"):
        return run(layer, arrays["x"].astype(dtype), arrays["dy"].astype(dtype), given, folder)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(GEOMETRIES)), number=st.sampled_from([np.inf, -np.inf, np.nan]),
    array=st.sampled_from(["x", "dy", "W"]), place=st.floats(0, 1), seed=st.integers(0, 3),
)  # fmt: skip
def test_the_same_places_are_not_finite(name, number, array, place, seed):
    """One such number reaches the results that it is a term of, as infinity or NaN, and no other."""
    layer, arrays = with_one(name, number, (array, place), seed=seed)
    exact = run_arrays(layer, arrays, "reference", np.float64)
    found = run_arrays(layer, arrays, "cpu", np.float32)
    for key in ("y", "dx", "dW", "db"):
        for same in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(same(found[key]), same(exact[key]), err_msg=f"{key} {same.__name__}")


@pytest.mark.parametrize("scale", [1, 1e-30])  # whose square float32 does not hold
@pytest.mark.parametrize("array", ["x", "dy", "W"])
@pytest.mark.parametrize("name", ["tiles", "winograd", "winograd without padding"])
def test_one_large_number_costs_the_others_nothing(name, array, scale):
    """1e6 among numbers of about 1: every result is as exact as its own terms allow."""
    layer, arrays = with_one(name, 1e6, (array, 0.51))
    arrays[array] *= np.float32(scale)
    arrays["b"] *= np.float32(scale)
    found = run_arrays(layer, arrays, "cpu", np.float32)
    exact = run_arrays(layer, arrays, "reference", np.float64)
    terms = run_arrays(layer, {key: np.abs(value) for key, value in arrays.items()}, "reference", np.float64)
    for key in ("y", "dx"):
        assert (np.abs(found[key] - exact[key]) <= 64 * 2.0**-24 * terms[key]).all(), key
    # of the gradient: of a filter and a map, what is below 2^-16 of the largest of nine
    size = np.maximum(2.0**-16 * np.abs(exact["dW"]).max(axis=(2, 3), keepdims=True), np.abs(exact["dW"]))
    assert (np.abs(found["dW"] - exact["dW"]) <= 64 * 2.0**-24 * terms["dW"] + 2.0**-5 * size).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_gradient_of_zero_is_zero(size):
    """Deltas that meet a weight only at zeros: rounding is not to be taken for a gradient."""
    rng = np.random.default_rng(0)
    layer = registry.create("conv(32, 3, padding='same')")
    x, dy = (rng.standard_normal((4, 32, *size)).astype(np.float32) for _ in range(2))
    x[:, ::2, :, : size[1] // 2], dy[:, ::3, :, size[1] // 2 - 1 :] = 0, 0
    exact = run(layer, x.astype(np.float64), dy.astype(np.float64), folder="reference")["dW"]
    found = run(layer, x, dy)["dW"]
    assert (exact == 0).sum() > 400
    np.testing.assert_array_equal(found == 0, exact == 0)


@pytest.mark.parametrize("maps, size", [(32, 32), (64, 16), (128, 8)])
def test_the_gradient_is_summed_in_portions(maps, size):
    """Relative in the 2-norm: the plain algorithm has 1e-7 to 3e-7, sums of all pieces in one number 4e-7 to 1.4e-6."""
    rng = np.random.default_rng(0)
    layer = registry.create(f"conv({maps}, 3, padding='same')")
    x, dy = (rng.standard_normal((8, maps, size, size)).astype(np.float32) for _ in range(2))
    W = {"W": np.zeros((maps, maps, 3, 3)), "b": np.zeros(maps)}
    found, exact = (run(layer, a, d, W)["dW"] for a, d in ((x, dy), (x.astype(np.float64), dy.astype(np.float64))))
    assert np.linalg.norm(found - exact) < 3.2e-7 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    "spec, shape",
    [("conv(3, 1)", (200_000, 2, 1, 1)), ("conv(3, 3, groups=3)", (60_000, 3, 4, 4)),
     ("conv(32, 3)", (20_000, 4, 4, 4)), ("conv_transpose(2, 2)", (60_000, 2, 4, 4)), ("dense(5)", (300_000, 3)),
     ("dense(20)", (300_000, 20)), ("dense(70)", (100_000, 20))],
)  # fmt: skip
def test_sums_over_very_many_samples(spec, shape):
    """Numbers of one sign, in float32: sums run in portions."""
    rng, layer = np.random.default_rng(0), registry.create(spec)
    x, dy = rng.random(shape), rng.random((shape[0], *layer.output_shape(shape[1:])))
    x, dy = x.astype(np.float32), dy.astype(np.float32)
    found = run(layer, x, dy)
    exact = run(layer, x.astype(np.float64), dy.astype(np.float64), None, "cpu")
    for key in ("dW", "db"):
        np.testing.assert_allclose(found[key], exact[key], rtol=4e-6, err_msg=key)


# -- a convolution is a dense layer with a sparse, shared matrix -------------------------------------------------------


def source(q, i, border):
    """Return the cell a padded position shows, by walking: back at the end (reflect), on at the other end (wrap)."""
    if border == "edge":
        return min(max(q, 0), i - 1)
    if border == "wrap":
        return q % i
    if border == "reflect":
        return ([*range(i), *range(i - 2, 0, -1)] * 9)[q + 4 * (2 * i - 2 or 1)] if i > 1 else 0
    return q if 0 <= q < i else None


def matrix(W, in_sizes, out_sizes, stride, dilation, before, groups, border):
    """Return the matrix (F * out, C * in) of the definition, one entry of W at a time."""
    F, m = W.shape[:2]
    dense = np.zeros((F, *out_sizes, m * groups, *in_sizes))
    for f, a, taps in product(range(F), range(m), np.ndindex(W.shape[2:])):
        c = f // (F // groups) * m + a
        for o in np.ndindex(*out_sizes):
            place = [
                source(j * s + t * d - b, i, border)
                for j, s, t, d, b, i in zip(o, stride, taps, dilation, before, in_sizes, strict=True)
            ]
            if None not in place:
                dense[(f, *o, c, *place)] += W[(f, a, *taps)]
    return dense.reshape(F * int(np.prod(out_sizes)), -1)


CASES = [
    # in_shape, filters, kernel, stride, dilation, ((before, after), ...), groups
    ((2, 5), 3, (3,), (1,), (1,), ((1, 1),), 1),
    ((1, 7), 1, (2,), (2,), (3,), ((0, 2),), 1),
    ((4, 4, 5), 2, (3, 2), (2, 1), (1, 2), ((1, 2), (2, 0)), 2),
    ((3, 4, 4), 6, (3, 3), (1, 1), (1, 1), ((2, 2), (2, 2)), 3),
    ((2, 3, 3, 4), 1, (2, 2, 3), (1, 2, 1), (1, 1, 1), ((1, 0), (0, 2), (1, 1)), 1),
]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("in_shape, filters, kernel, stride, dilation, padding, groups", CASES)
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
def test_is_a_sparse_matrix(in_shape, filters, kernel, stride, dilation, padding, groups, border, transposed):
    options = dict(kernel_size=kernel, stride=stride, dilation=dilation, padding=padding, groups=groups, border=border)
    layer = registry.create(("conv", {"filters": filters, **options}))
    shape, out_shape = in_shape, layer.output_shape(in_shape)
    rng = np.random.default_rng(filters)
    W = rng.uniform(0.5, 1.5, layer.parameters(in_shape)["W"].shape)  # positive: entries do not cancel
    before = [pair[0] for pair in padding]
    M = matrix(W, in_shape[1:], out_shape[1:], stride, dilation, before, groups, border)
    if transposed:
        extra = tuple(
            i + sum(p) - d * (k - 1) - 1 - (o - 1) * s  # cells that the conv left over at the end
            for i, p, d, k, o, s in zip(in_shape[1:], padding, dilation, kernel, out_shape[1:], stride, strict=True)
        )
        options |= {"filters": in_shape[0], "output_padding": extra}
        layer, M = registry.create(("conv_transpose", options)), M.T
        shape, out_shape = out_shape, in_shape
        assert layer.output_shape(shape) == out_shape
    x, dy, b = rng.standard_normal((3, *shape)), rng.standard_normal((3, *out_shape)), rng.standard_normal(out_shape[0])
    got = run(layer, x, dy, {"W": W, "b": b})
    bias = np.repeat(b, np.prod(out_shape[1:]))
    np.testing.assert_allclose(got["y"].reshape(3, -1), x.reshape(3, -1) @ M.T + bias, atol=1e-12)
    np.testing.assert_allclose(got["dx"].reshape(3, -1), dy.reshape(3, -1) @ M, atol=1e-12)
    assert layer.connections(shape) == np.count_nonzero(M)
    if border == "zeros" and not any(map(any, padding)):
        assert layer.operations(shape) == np.count_nonzero(M)


# -- properties --------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (3, 4)])
def test_translation_equivariance_at_stride_1(folder, shift):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7))
    layer = registry.create("conv(4, 3, padding='same', dilation=2, border='wrap')")
    moved = run(layer, np.roll(x, shift, (2, 3)), folder=folder)["y"]
    np.testing.assert_allclose(moved, np.roll(run(layer, x, folder=folder)["y"], shift, (2, 3)), atol=1e-12)
    strided = registry.create("conv(4, 3, stride=2, padding='same', border='wrap')")  # a stride breaks it
    moved = run(strided, np.roll(x, 1, 3), folder=folder)["y"]
    assert not np.allclose(moved, np.roll(run(strided, x, folder=folder)["y"], 1, 3), atol=1e-3)


def test_translation_without_border():
    image = np.zeros((1, 1, 12, 12))
    image[0, 0, 3:6, 2:5] = np.random.default_rng(0).standard_normal((3, 3))
    layer = registry.create("conv(2, 3)")
    there = run(layer, np.roll(image, (3, 4), (2, 3)))["y"]
    np.testing.assert_allclose(there[:, :, 3:, 4:], run(layer, image)["y"][:, :, :-3, :-4], atol=1e-14)


linear = {
    "border": st.sampled_from(BORDERS),
    "sizes": st.lists(st.integers(3, 7), min_size=1, max_size=3),
    "kernel": st.integers(1, 3),
    "stride": st.integers(1, 3),
    "sides": st.tuples(st.integers(0, 2), st.integers(0, 2)),
    "groups": st.integers(1, 2),
    "seed": st.integers(0, 99),
}


@settings(max_examples=40, deadline=None)
@given(**linear)
def test_gradients_are_adjoints(border, sizes, kernel, stride, sides, groups, seed):
    """<conv(u), v> = <u, dx> = <u, conv_transpose(v)> = <W, dW> for every border."""
    options = dict(kernel_size=kernel, stride=stride, groups=groups, border=border, bias=False)
    options["padding"] = (sides,) * len(sizes)
    conv = registry.create(("conv", {"filters": 2 * groups, **options}))
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((2, groups, *sizes))
    v = rng.standard_normal((2, *conv.output_shape(u.shape[1:])))
    W = rng.standard_normal((2 * groups, 1, *(kernel,) * len(sizes)))
    got = run(conv, u, v, {"W": W})
    extra = tuple((i + sum(sides) - kernel) % stride for i in sizes)
    back = registry.create(("conv_transpose", {"filters": groups, "output_padding": extra, **options}))
    turned = run(back, v, u, {"W": W})
    inner = np.vdot(got["y"], v)
    for same in (np.vdot(u, got["dx"]), np.vdot(u, turned["y"]), np.vdot(turned["dx"], v), np.vdot(W, got["dW"])):
        np.testing.assert_allclose(same, inner, atol=1e-10)
    np.testing.assert_allclose(turned["dW"], got["dW"], atol=1e-10)


@pytest.mark.parametrize(
    "spec, maps",
    [("conv(5, 3, padding='same', border='edge')", 4), ("conv_transpose(5, 3, stride=2, padding=1)", 4),
     ("conv(64, 3, padding='same')", 64), ("conv(40, 3, stride=2, padding='same')", 5)],
)  # fmt: skip
def test_parts_give_the_same_bits(spec, maps):
    """Any division of a kernel's loop between threads."""
    layer, x = registry.create(spec), np.random.default_rng(0).standard_normal((19, maps, 6, 5)).astype(np.float32)
    whole, parted = (run(layer, x, np.ones_like, parts=parts) for parts in (1, 3))
    for name in ("y", "dx", "dW", "db"):
        np.testing.assert_array_equal(parted[name], whole[name], err_msg=name)


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec, in_shape, sentence",
    [
        ("conv(4, 5)", (1, 3, 9), "conv: kernel 5 does not fit an input of 3 with padding 0"),
        ("conv(4, 3)", (7,), r"conv: expected an input of shape \(C, \*spatial\)"),
        ("conv(4, 3)", (1, 5, 5, 5, 5), "1 to 3 spatial dimensions"),
        ("conv1d(4, 3)", (1, 5, 5), r"conv1d: expected an input of shape \(C, length\), got \(1, 5, 5\)"),
        ("conv3d(4, 3)", (1, 5, 5), r"conv3d: expected .*\(C, depth, height, width\)"),
        ("conv(4, 3, groups=2)", (3, 5, 5), "conv: input maps must be a multiple of groups 2, got 3"),
        ("conv(3, 3, groups=2)", (4, 5, 5), "conv: filters must be a multiple of groups 2, got 3"),
        ("conv(4, 3, padding=5, border='reflect')", (1, 5, 5), "'reflect' takes padding of less than the input's 5"),
        ("conv(4, 3, padding=((0, 5), (0, 0)), border='wrap')", (1, 5, 5), r"got \(0, 5\)"),
        ("conv_transpose(4, 3, output_padding=1)", (1, 5, 5), "output_padding 1 must be less than stride 1"),
        ("conv_transpose(4, 1, padding=3)", (1, 5, 5), "leaves nothing of an input of 5"),
    ],
)
def test_shapes_that_do_not_fit(spec, in_shape, sentence):
    with pytest.raises(ShapeError, match=sentence) as error:
        registry.create(spec).output_shape(in_shape)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ("conv(0, 3)", "conv: filters: expected whole numbers from 1"),
        ("conv(4, 0)", "conv: kernel_size: expected whole numbers from 1"),
        ("conv(4, 3, stride=0)", "conv: stride: expected"),
        ("conv(4, 3, dilation=-1)", "conv: dilation: expected"),
        ("conv(4, 3, padding=-1)", "conv: padding: expected"),
        ("conv(4, 3, padding='samee')", "did you mean same"),
        ("conv(4, 3, groups=0)", "conv: groups: expected"),
        ("conv(4, 3, border='mirror')", "conv: border: expected 'zeros'"),
        ("conv2d(4, (3, 3, 3))", "conv2d: kernel_size: expected one number or 2"),
        ("conv(4, (3, 3), stride=(1, 1, 1))", "conv: "),
        ("conv(4, (1, 2, 3, 4))", "conv: kernel_size: expected"),
        ("conv_transpose(4, 3, output_padding=-1)", "conv_transpose: output_padding: expected"),
    ],
)
def test_options_that_cannot_be(spec, sentence):
    with pytest.raises(SpecError, match=sentence) as error:
        registry.create(spec)
    assert "\n" not in str(error.value)


value = st.one_of(st.integers(-2, 6), st.sampled_from(["same", "full", "zeros", "reflect", True, None, 2**40, 1.5]))
odd = st.recursive(value, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["conv", "conv2d", "conv_transpose"]),
    options=st.fixed_dictionaries(
        {"filters": value, "kernel_size": odd},
        optional={"stride": odd, "padding": odd, "dilation": odd, "groups": value, "border": value},
    ),
    in_shape=st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple),
)
def test_any_options_make_a_layer_or_a_sentence(name, options, in_shape):
    try:
        layer = registry.create((name, options))
        out_shape = layer.output_shape(in_shape)
    except NnjitError as error:
        assert "\n" not in str(error) and str(error).startswith(name)
        return
    assert out_shape[0] == layer.filters and min(out_shape) >= 1
    if max(out_shape) * max(layer.parameters(in_shape)["W"].shape) < 10_000:
        run(layer, np.ones((1, *in_shape), np.float32), np.ones_like, folder="reference")
