"""Kernels on extreme numbers: zeros, subnormals, tiny and huge numbers, infinities and NaN, in any mixture.

NaN and infinities must be where the NumPy reference has them. A finite number may differ by as much as another rounding
of the inputs changes it (`spread`), so that sums that cancel need not be more exact than their terms.
"""

from importlib import import_module

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.errors import DivergenceError, SpecError
from nnjit.kernels.compiler.kernel import Kernel, kernel
from nnjit.kernels.compiler.subnormal import exp, flush
from nnjit.kernels.counters import STEP, STOP
from nnjit.kernels.operations import operation
from nnjit.training.clip import Clip
from numba import prange

pytestmark = pytest.mark.usefixtures("linked")

REALS = [np.float32, np.float64]
MATRIX = ("y", "target", "dy")


def pool(real, largest):
    """Return extreme numbers of a type, without finite ones above `largest`."""
    tiny, most = float(np.finfo(real).tiny), float(np.finfo(real).max)
    found = [0.0, float(np.finfo(real).smallest_subnormal), tiny / 8, tiny, 3 * tiny, tiny**0.75, tiny**0.5, tiny**0.25]
    found += [1e-3, 0.5, 1.0, 3.0, 60.0, 90.0, 1e3, 1e4, most**0.25, 1.1 * most**0.5, most**0.75, most / 4, most]
    found = [number for number in found if number <= largest] + [np.inf]
    return np.array([*found, *(-number for number in found), np.nan], real)


class Drawing:
    """Draw arrays of extreme numbers; with `moderate` a hundred of their products can be added without overflow."""

    def __init__(self, seed, real):
        self.rng, self.real = np.random.default_rng(seed), real

    def extreme(self, *shape, largest=np.inf):
        rng, numbers = self.rng, pool(self.real, largest)
        if rng.random() < 0.5:  # a few of them, else each number separately
            numbers = rng.choice(numbers, rng.integers(1, 4))
        found = rng.normal(size=shape).astype(self.real)
        chosen = rng.random(shape) < rng.choice([0.1, 0.5, 1.0])
        found[chosen] = rng.choice(numbers, chosen.sum())
        return found

    def moderate(self, *shape):
        return self.extreme(*shape, largest=float(np.finfo(self.real).max) ** 0.25)

    def deviation(self, *shape):
        """Return 1 / sqrt(v + epsilon) of a drawn variance v."""
        return 1 / np.sqrt(np.abs(self.extreme(*shape)) + self.real(1e-5))

    def number(self, *choices):
        return float(self.real(self.rng.choice(choices)))


def loss(draw, kernel):
    N, F = draw.rng.integers(1, 4), draw.rng.choice([1, 2, 5, 17, 33])
    given = {name: draw.extreme(N, F) for name in MATRIX} | {name: draw.extreme(N) for name in ("loss", "weight")}
    if "labels" in kernel:
        given["target"] = draw.rng.integers(-1, F + 1, N)
    elif "cross" in kernel:
        given["target"] = draw.rng.random((N, F)).astype(draw.real)
        given["y"] = draw.extreme(N, F, largest=float(np.finfo(draw.real).max) / 256)
    return given | {"delta": 0.7, "p": draw.number(0.5, 1, 2, 3)}


def update(draw, kernel):
    n, names = draw.rng.choice([1, 3, 17, 40]), ("theta", "gradient", "velocity", "first_moment")
    given = {name: draw.extreme(n) for name in names} | {"second_moment": np.abs(draw.extreme(n))}
    given |= {"rate": draw.number(0.1, 1e-3), "momentum": 0.9, "decay": 0.9, "nesterov": bool(draw.rng.integers(2))}
    given |= {"beta1": draw.number(0, 0.9), "beta2": draw.number(0.5, 0.999), "epsilon": draw.number(1e-8, 1e-3)}
    return given | {"step": int(draw.rng.choice([1, 2, 1000])), "weight_decay": draw.number(0, 0.01)}


def softmax(draw, kernel):
    shape = (draw.rng.integers(1, 4), draw.rng.choice([1, 2, 9, 33]), draw.rng.choice([1, 3]))
    y = np.moveaxis(draw.rng.dirichlet(np.full(shape[1], 0.05), (shape[0], shape[2])), 2, 1).astype(draw.real)
    given = {"x": draw.extreme(*shape), "y": y.copy(), "dx": draw.extreme(*shape)}
    return given | {"dy": draw.moderate(*shape)}


def softmax_columns(draw, kernel):
    return {name: array[..., 0].T.copy() for name, array in softmax(draw, kernel).items()}


def loss_columns(draw, kernel):
    given = loss(draw, kernel)
    return given | {name: given[name].T.copy() for name in ("y", "dy")}


def batchnorm(draw, kernel):
    N, C, positions = draw.rng.integers(1, 4), draw.rng.choice([1, 3]), draw.rng.choice([1, 9, 20])
    given = {name: draw.moderate(N, C, positions) for name in ("x", "y", "dy", "dx")}
    given |= {name: draw.moderate(C) for name in ("gain", "offset", "running_mean", "mean", "dgain", "doffset")}
    if kernel == "forward" and draw.rng.random() < 0.3:  # a variance that overflows
        given["x"] = draw.extreme(N, C, positions, largest=float(np.finfo(draw.real).max) / 256)
    given |= {"running_variance": np.abs(draw.extreme(C)), "inverse_deviation": draw.deviation(C)}
    unequal(draw, given)
    return given | {"momentum": 0.9, "epsilon": 1e-5, "training": bool(draw.rng.integers(2))}


def layernorm(draw, kernel):
    N, F = draw.rng.integers(1, 4), draw.rng.choice([1, 5, 33, 70])
    given = {name: draw.moderate(N * F) for name in ("x", "y", "dy", "dx")} | {"mean": draw.moderate(N)}
    if kernel == "forward" and draw.rng.random() < 0.3:
        given["x"] = draw.extreme(N * F, largest=float(np.finfo(draw.real).max) / 256)
    given |= {name: draw.moderate(F) for name in ("gain", "offset", "dgain", "doffset")}
    unequal(draw, given)
    return given | {"inverse_deviation": draw.deviation(N), "epsilon": 1e-5}


def unequal(draw, given):
    """Make numbers unequal if a gain is infinite: rounding would decide whether x - m is 0."""
    if np.isinf(given["gain"]).any():
        given["x"] *= draw.rng.uniform(0.5, 1, given["x"].shape).astype(draw.real)


def norm(draw, kernel):
    p = draw.number(1, 2, 3, np.inf)
    most = float(np.finfo(draw.real).max)  # the p-th power of a number in float64, whose sums must not overflow
    n = draw.rng.choice([1, 3, 17, 40])
    g = draw.extreme(n, largest=most if draw.real is np.float32 or p == np.inf else most**0.25)
    return {"g": g, "sums": np.zeros(3), "index": 1, "p": p, "factor": 0.3}


def residual(draw, kernel):
    return {name: draw.extreme(draw_n) for draw_n in [draw.rng.choice([1, 17])] for name in ("x", "skip", "y")}


def dense(draw, kernel):
    N, n, m = draw.rng.choice([1, 3, 9]), draw.rng.choice([1, 5, 33]), draw.rng.choice([1, 3, 17, 40])
    shapes = {"x": (N, m), "W": (n, m), "b": (n,), "y": (N, n), "dy": (N, n), "dx": (N, m), "dW": (n, m), "db": (n,)}
    return {name: draw.moderate(*shape) for name, shape in shapes.items()}


def pooling(draw, kernel):
    rng = draw.rng
    image = (1, int(rng.integers(1, 5)), int(rng.choice([3, 9, 20])))
    size = (1, int(rng.integers(1, image[1] + 1)), int(rng.integers(1, 4)))
    stride, before = (1, *map(int, rng.integers(1, 4, 2))), tuple(int(rng.integers(0, k)) for k in size)
    out = tuple((i + 2 * b - k) // s + 1 for i, b, k, s in zip(image, before, size, stride, strict=True))
    maps, options = (int(rng.integers(1, 3)), 2), {"size": size, "stride": stride, "pad_before": before}
    options |= {"p": draw.number(1, 1.5, 2, 3, np.inf), "count_padding": bool(rng.integers(2))}
    out = () if "global" in kernel else out
    x = draw.extreme(*maps, *image) if "max" in kernel or "lp" in kernel else draw.moderate(*maps, *image)
    given = {"x": x, "dx": draw.extreme(*maps, *image), "y": np.zeros((*maps, *out), draw.real)}
    given |= {"dy": draw.moderate(*maps, *out), "argmax": np.zeros((*maps, *out), draw.real)}
    reference = import_module("nnjit.kernels.reference.pooling")
    if kernel == "lp_backward_input":
        reference.lp_forward(x, given["y"], size, stride, before, options["p"])
    if kernel == "max_backward_input":
        reference.max_forward(x, given["y"].copy(), given["argmax"], size, stride, before)
    return given | options


DRAWN = {"loss": loss, "update": update, "softmax": softmax, "batchnorm": batchnorm, "layernorm": layernorm}
DRAWN |= {"softmax_columns": softmax_columns, "loss_columns": loss_columns}
DRAWN |= {"norm": norm, "residual": residual, "dense": dense, "pooling": pooling}
KERNELS = [
    (file, name)
    for file in DRAWN
    for name, kernel in vars(import_module(f"nnjit.kernels.cpu.{file}")).items()
    if isinstance(kernel, Kernel) and kernel.function.__module__.endswith(f".{file}")
]


def copies(given):
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in given.items()}


def outputs(function, given):
    given = copies(given)
    with np.errstate(all="ignore"):
        function(*given.values())
    return {n: a for n, a in given.items() if isinstance(a, np.ndarray) and a.dtype.kind == "f"}


def shaken(given, rng):
    """Change the numbers of the arguments by a few units in the last place."""
    found = copies(given)
    for name, value in found.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and name != "argmax":
            value *= 1 + rng.choice([-32, 32], value.shape).astype(value.dtype) * np.finfo(value.dtype).eps
    return found


def whole(file, name, given):
    """Return the size of intermediate results whose rounding a change of the inputs does not show."""
    if (file, name) == ("layernorm", "backward_input"):  # gain dy - its mean
        numbers = (np.abs(given[each]) for each in ("gain", "dy", "inverse_deviation"))
        return np.prod([np.max(a, where=np.isfinite(a), initial=0).astype(float) for a in numbers])
    return 1.0 if "loss" in file else 0.0  # log(sum) near log(1)


@pytest.mark.parametrize("file, name", KERNELS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), real=st.sampled_from(REALS))
@example(seed=62610, real=np.float32)  # (x - m) r of batchnorm is too small to store, its mean with dy infinite
def test_kernels_against_the_reference(file, name, seed, real):
    kernel = getattr(import_module(f"nnjit.kernels.cpu.{file}"), name)
    reference = getattr(import_module(f"nnjit.kernels.reference.{file}"), name)
    drawn = DRAWN[file](Drawing(seed, real), name)
    given = {argument: drawn[argument] for argument in kernel.arguments}
    got, expected = outputs(kernel, given), outputs(reference, given)
    rng, eps, tiny = np.random.default_rng(seed), float(np.finfo(real).eps), float(np.finfo(real).tiny)
    others = [outputs(reference, shaken(given, rng)) for _ in range(8)]
    for argument, exact in expected.items():
        found, finite = got[argument], np.isfinite(exact)
        near_the_end = np.abs(exact) > np.finfo(exact.dtype).max / 4  # rounding decides whether it is infinite
        same = (found == exact) | (np.isnan(found) & np.isnan(exact)) | near_the_end
        np.testing.assert_array_equal(np.isfinite(found) | near_the_end, finite | near_the_end, err_msg=argument)
        assert same[~finite].all(), f"{argument}: {found[~finite & ~same]} for {exact[~finite & ~same]}"
        with np.errstate(all="ignore"):
            spread = np.max([np.abs(other[argument] - exact) for other in others], axis=0)
            spread = np.where(np.isfinite(spread), spread, np.inf)  # changed beyond the largest number
            off = np.abs(found - exact)
            bad = finite & ~same & ~(off <= 16 * spread + 64 * eps * np.maximum(np.abs(exact), eps) + 4 * tiny)
            bad &= ~(off <= 8 * eps * whole(file, name, given))
        assert not bad.any(), f"{argument}: {found[bad]} for {exact[bad]}"


def subnormal(a):
    return (a != 0) & (np.abs(a) < np.finfo(a.dtype).tiny)


FLUSHED = [("update", name) for name in ("gradient_descent", "sgd", "rmsprop", "adam", "adamw")]
FLUSHED += [("softmax", "forward"), ("softmax_columns", "forward")]
CROSS = [f"{kind}_backward" for kind in ("binary_cross_entropy", "cross_entropy", "cross_entropy_labels")]
FLUSHED += [(file, name) for file in ("loss", "loss_columns") for name in CROSS]


@pytest.mark.parametrize("file, name", FLUSHED)
@pytest.mark.parametrize("folder", ["cpu", "reference"])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), real=st.sampled_from(REALS))
def test_no_subnormal_number_is_stored(file, name, folder, seed, real):
    drawn = DRAWN[file](Drawing(seed, real), name)
    given = {argument: drawn[argument] for argument in operation(f"{file}.{name}").arguments}
    if "loss" in file:
        given["target"] = np.zeros_like(given["target"])  # otherwise the exponentials vanish against it
    found = outputs(operation(f"{file}.{name}").on(folder), given)
    read = ("gradient", "x", "target") + (("y",) if "loss" in file else ())
    for argument in found.keys() - {*read}:
        assert not subnormal(found[argument]).any(), f"{argument}: {found[argument]}"


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", ["sigmoid", "silu", "softplus", "gelu"])
def test_exponentials_in_formulas_store_no_subnormal_number(name, real):
    """The inputs range from normal results to results that are 0 anyway."""
    edge = np.log(float(np.finfo(real).tiny))
    edge = -np.sqrt(-2 * edge) if name == "gelu" else edge
    x = np.linspace(1.3 * edge, 0.8 * edge, 2000).astype(real)
    formula = registry.create(name).forward
    for run in (formula, formula.plain()):
        y = np.full_like(x, np.nan)
        run(x, y)
        assert not subnormal(y).any() and (y == 0).any() and (y != 0).any()


@pytest.mark.parametrize("real", REALS)
def test_flush(real):
    tiny = np.finfo(real).tiny
    x = np.array([tiny / 2, -tiny / 2, tiny, -tiny, 0, 1, np.inf, -np.inf, np.nan], real)
    expected = np.array([0, 0, tiny, -tiny, 0, 1, np.inf, -np.inf, np.nan], real)
    np.testing.assert_array_equal(flush(x), expected)
    compiled = np.empty_like(x)
    flushed(x, compiled)
    np.testing.assert_array_equal(compiled, expected)
    assert flush(x).dtype == real and not np.signbit(flush(x)[1]) and not np.signbit(compiled[1])
    assert exp(real(np.log(tiny) - 1)) == 0


@kernel
def flushed(x, y):
    for i in prange(x.size):
        y[i] = flush(x[i])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd(momentum=0.9)", "sgd(0.1, 0.9, True)"])
@pytest.mark.parametrize("folder", ["cpu", "reference"])
def test_moments_of_a_dead_unit_decay_to_zero(optimizer, folder):
    """Moments decay to 0 and not to the smallest number, where rounding would keep them and slow down every step."""
    made = registry.optimizers.create(optimizer)
    values = {name: np.full(3, 1e-30, np.float32) for name in made.moments} | made.options()
    values |= {"theta": np.ones(3, np.float32), "gradient": np.zeros(3, np.float32), "rate": 0.1, "step": 10**6}
    for _ in range(400):
        made.update.on(folder)(*(values[name] for name in made.update.arguments))
    for name in made.moments:
        if name == "second_moment" and "adam" in optimizer:  # 0.999 to the power of 400 is not small
            values[name][:] = 1e-38
            made.update.on(folder)(*(values[argument] for argument in made.update.arguments))
        assert not values[name].any(), name


# The compiler may regroup the terms of a sum, and nothing else.


@kernel
def rounding(a, b, total, rest, quotient):
    for i in prange(1):
        t = 0.0
        for j in range(a.size):
            t += a[j]
        total[i] = t
        for j in range(a.size):
            rest[j] = b[j] - (b[j] - a[j])
            quotient[j] = a[j] / b[j]


def test_only_sums_are_regrouped():
    """A plug-in's kernel computes what it says: differences do not cancel, no division becomes a product with 1 / b."""
    a, b = np.full(64, 0.3, np.float32), np.full(64, 1e30, np.float32)
    total, rest, quotient = np.zeros(1, np.float32), np.ones_like(a), np.ones_like(a)
    rounding(a, b, total, rest, quotient)
    assert not rest.any() and total[0] == pytest.approx(19.2)
    tiny = np.full(64, 1e-39, np.float32)  # whose reciprocal is infinite
    rounding(tiny, tiny, total, rest, quotient)
    assert (quotient == 1).all()


@pytest.mark.parametrize(
    "file, name", [("loss", "cross_entropy_labels"), ("norm", "partial"), ("layernorm", "forward")]
)
def test_sums_are_vector_loops(file, name):
    """In the code for every kind of CPU a sum adds vectors, of doubles in norm.partial."""
    drawn = DRAWN[file](Drawing(0, np.float32), name)
    made = getattr(import_module(f"nnjit.kernels.cpu.{file}"), name)
    fresh = Kernel(made.function, made.form)
    given = {argument: drawn[argument] for argument in made.arguments}
    text = compiled_text(fresh, given)
    assert any("fadd" in line and "reassoc" in line and " x " in line for line in text.splitlines())
    for flag in ("nnan", "ninf", "arcp", "afn"):
        assert not any(f" {flag} " in line for line in text.splitlines()), flag
    assert all("fadd" in line for line in text.splitlines() if " nsz " in line or " reassoc " in line)


def compiled_text(kernel, given):
    """Return LLVM's text of a kernel after optimisation; code from the disk cache has none."""
    from nnjit.kernels.compiler.kernel import type_of
    from nnjit.kernels.compiler.options import FLOATS, OPTIONS
    from numba import njit, types

    signature = tuple(FLOATS[np.float32] if type(a) is float else type_of(a) for a in given.values())
    dispatcher = njit(**OPTIONS)(kernel.python(np.float32))
    dispatcher.compile((*signature, types.intp, types.intp))
    return next(iter(dispatcher.inspect_llvm().values()))


# Samples of users.


@pytest.mark.parametrize("folder", ["cpu", "reference"])
@pytest.mark.parametrize("logits, expected", [
    ([1e4, 1e4], np.log(2)), ([1e30, 1e30], np.log(2)), ([60, 60.000004], 0.6931491), ([-1e30, -1e30], np.log(2)),
    ([np.finfo(np.float32).max] * 2, np.log(2)), ([3, -np.inf], 0),
])  # fmt: skip
def test_cross_entropy_of_large_logits(logits, expected, folder):
    y, found = np.array([logits], np.float32), np.zeros(1, np.float32)
    exact = np.log(np.sum(np.exp(y[0].astype(float) - y.max()))) - (float(y[0, 0]) - y.max())
    operation("loss.cross_entropy_labels").on(folder)(y, np.array([0]), found)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert exact == pytest.approx(expected, abs=3e-6)
    if np.isfinite(y).all():
        operation("loss.cross_entropy").on(folder)(y, np.array([[1, 0]], np.float32), found)
        np.testing.assert_allclose(found, exact, rtol=1e-6)


@pytest.mark.parametrize("folder", ["cpu", "reference"])
def test_an_infinite_input_of_batchnorm_in_prediction_stays_in_its_place(folder):
    x, dy = np.ones((3, 2, 4), np.float32), np.ones((3, 2, 4), np.float32)
    x[1, 0, 2], dx = np.inf, np.full((3, 2, 4), np.nan, np.float32)
    kept = [np.full(2, value, np.float32) for value in (2.0, 0.5, 0.25)]
    operation("batchnorm.backward_input").on(folder)(x, *kept, dy, dx, False)
    np.testing.assert_array_equal(dx, np.full_like(dx, 0.5))


def normalised(x, dy, gain, offset, epsilon=1e-5):
    """Return y, dx, dgain and doffset of layer normalisation (N, F), in the longest floats of NumPy."""
    x, dy, gain, offset = (a.astype(np.longdouble) for a in (x, dy, gain, offset))
    r = 1 / np.sqrt(x.var(axis=1, keepdims=True) + epsilon)
    h, g = (x - x.mean(axis=1, keepdims=True)) * r, gain * dy
    dx = r * (g - g.mean(axis=1, keepdims=True) - h * (g * h).mean(axis=1, keepdims=True))
    return gain * h + offset, dx, (dy * h).sum(axis=0), dy.sum(axis=0)


LARGE = [1e18, 1.7e19, 3e19, 1e20, 1e30, 1e37, 1.7e38]  # from 1.8e19 on squares overflow in float32


@pytest.mark.parametrize("file", ["layernorm", "layernorm_columns"])
@pytest.mark.parametrize("folder", ["cpu", "reference"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from(LARGE), real=st.sampled_from(REALS))
def test_layer_normalisation_of_numbers_whose_squares_overflow(file, folder, seed, size, real):
    """Samples of large and of ordinary numbers, with small ones among them."""
    rng = np.random.default_rng(seed)
    N, F = rng.integers(1, 8), rng.choice([1, 2, 5, 33, 300])
    x, dy, gain, offset = (rng.uniform(-1, 1, shape) for shape in ((N, F), (N, F), F, F))
    x *= rng.choice([1, 1, 1e-3, 1e-20], (N, F)) * rng.choice([size, size, 3.0], (N, 1))
    x = (x if real is np.float32 else x * float(size) ** 7).astype(real)  # 1e20 becomes 1e160
    dy, gain, offset = (a.astype(real) for a in (dy, gain, offset))
    turn = (lambda a: a.T.copy()) if "columns" in file else (lambda a: a.ravel().copy())
    found = {name: np.zeros_like(turn(x)) for name in ("y", "dx")} | {"x": turn(x), "dy": turn(dy), "epsilon": 1e-5}
    found |= {"gain": gain, "offset": offset, "dgain": np.zeros_like(gain), "doffset": np.zeros_like(gain)}
    kept = (1, N) if "columns" in file else N
    found |= {name: np.zeros(kept, real) for name in ("mean", "inverse_deviation")}
    with np.errstate(all="ignore"):
        for name in ("forward", "backward_input", "backward_parameters"):
            kernel = operation(f"{file}.{name}")
            kernel.on(folder)(*(found[argument] for argument in kernel.arguments))
    for name, exact in zip(("y", "dx", "dgain", "doffset"), normalised(x, dy, gain, offset), strict=True):
        got = (
            found[name].reshape(F, N).T
            if "columns" in file and name in ("y", "dx")
            else found[name].reshape(exact.shape)
        )
        tolerance = (1e-5 if real is np.float32 else 1e-13) * (1 + np.sqrt(F)) * max(1, np.abs(exact).max())
        np.testing.assert_allclose(got, exact, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("file", ["layernorm", "layernorm_columns"])
@pytest.mark.parametrize("folder", ["cpu", "reference"])
def test_layer_normalisation_of_a_number_that_is_not_finite_is_nan(file, folder, bad):
    x, ones = np.array([[1.0, bad, 2.0], [1.0, 2.0, 3.0]], np.float32), np.ones(3, np.float32)
    x, kept = (x.T.copy(), (1, 2)) if "columns" in file else (x.ravel(), 2)
    y, *kept = np.zeros_like(x), np.zeros(kept, np.float32), np.zeros(kept, np.float32)
    with np.errstate(all="ignore"):
        operation(f"{file}.forward").on(folder)(x, ones, 0 * ones, y, *kept, 1e-5)
    y = y.T if "columns" in file else y.reshape(2, 3)
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


@pytest.mark.parametrize("folder", ["cpu", "reference"])
@pytest.mark.parametrize("x", [[1e20, -1e20, 3e19], [2e19, -2e19], [3e38, 2.9e38, 3e38]])
def test_batch_normalisation_of_numbers_whose_squares_overflow_is_nan(folder, x):
    """A channel whose running variance cannot be stored could not be predicted with; others are as they were."""
    x = np.stack([np.array(x), np.arange(len(x))], axis=1)[:, :, None].astype(np.float32)
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    y, mean, running = np.zeros_like(x), ones.copy(), (zeros.copy(), ones.copy())
    with np.errstate(all="ignore"):
        operation("batchnorm.forward").on(folder)(x, ones, zeros, y, *running, mean, ones.copy(), 0.9, 1e-5, True)
    assert np.isnan(y[:, 0]).all() and abs(y[:, 1].mean()) < 1e-6 and y[:, 1].std() > 0.99
    assert running[0][0] == 0 and running[1][0] == 1 and running[0][1] > 0


def test_a_training_whose_running_variance_overflows_ends_with_a_sentence():
    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32) * np.float32(1e20)
    net = registry.compose(["batchnorm", "dense(3)"], (4,))
    with pytest.raises(DivergenceError):
        net.fit(x, np.arange(32) % 3, epochs=1, batch_size=16)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, np.inf])
def test_lppool_of_subnormal_numbers(p):
    x = np.full((1, 1, 4), 1e-39, np.float32)
    y = registry.compose([f"lppool(2, p={p})"], (1, 4)).forward(x)
    np.testing.assert_allclose(y, 1e-39 * 2 ** (1 / p), rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("size", [1e15, 2e19, 1e25, 3e37])
def test_a_gradient_whose_square_overflows(optimizer, size):
    """Either the step is right, as large as the learning rate, or the stop flag is set and nothing has changed."""
    for options in ({}, {"clip": Clip(max=1.0)}, {"norm": 1.0}, {"norm": np.inf}, {"norm": 0.5}):
        network = registry.compose(["dense(1)"], (1,), seed=0)
        program = network.compile(loss="mae", optimizer=f"{optimizer}(lr=0.1)", batch_size=1, **options)
        state = program.state
        state.theta[:] = 0
        program.step(state, np.array([[size]], np.float32), np.array([[1.0]], np.float32))  # a gradient of -size, -1
        if state.counters[STOP]:
            assert size > 1e18 and not options.get("clip") and state.counters[STEP] == 0
            assert not state.theta.any() and not state.moments.any()
        else:
            assert np.isfinite(state.moments).all() and np.isfinite(state.theta).all()
            change = np.sqrt(10) if optimizer == "rmsprop" else 1
            np.testing.assert_allclose(state.theta[0], 0.1 * change, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), real=st.sampled_from(REALS), size=st.floats(-30, 15), smallest=st.booleans(),
    spec=st.sampled_from(["adam", "adamw(weight_decay=0.1)", "adam(beta2=0.9)", "rmsprop", "adam(weight_decay=0.01)"]),
)  # fmt: skip
def test_steps_of_any_gradient_against_the_longest_floats(seed, real, size, smallest, spec):
    """With the smallest epsilon that is allowed, too: squares that vanish are hidden by it."""
    rng, made = np.random.default_rng(seed), registry.optimizers.create(spec)
    if smallest:
        made.epsilon = float(np.finfo(real).tiny)
        with pytest.raises(SpecError, match=r"epsilon must be at least \S+ in") as refused:
            made.check_dtype(np.dtype(real))
        made.epsilon = 1.01 * float(str(refused.value).partition("at least ")[2].partition(" ")[0])
    made.check_dtype(np.dtype(real))
    scale = 10.0 ** (size if real is np.float32 else 8 * size)
    given = {"theta": rng.normal(size=5), **{name: np.zeros(5) for name in made.moments}} | made.options()
    given = {
        name: real(value) if type(value) is not np.ndarray else value.astype(real) for name, value in given.items()
    }
    exact = {name: value.astype(np.longdouble) if type(value) is np.ndarray else value for name, value in given.items()}
    for step in range(1, 4):
        more = {"gradient": (scale * rng.uniform(0.5, 1, 5) * rng.choice([-1, 1], 5)).astype(real), "rate": real(0.1)}
        arguments = {**given, **more, "step": step}
        made.update.on("cpu")(*(arguments[name] for name in made.update.arguments))
        arguments = {**exact, "gradient": more["gradient"].astype(np.longdouble), "rate": real(0.1), "step": step}
        with np.errstate(all="ignore"):
            made.update.on("reference")(*(arguments[name] for name in made.update.arguments))
        np.testing.assert_allclose(given["theta"], exact["theta"], rtol=1e-5, atol=0.1 * step * 0.02)


@pytest.mark.parametrize("p", [8.5, 20, 1e3])
def test_a_norm_whose_powers_vanish_is_refused(p):
    """The norm of a gradient of 1e-4 was 0 for p = 100."""
    network = registry.compose(["dense(1)"], (1,))
    with pytest.raises(SpecError, match="at most 8, or inf"):
        network.compile(loss="mse", optimizer="sgd", norm=p)
    with pytest.raises(SpecError, match="from 1 to 8, or inf"):
        Clip(max=1.0, p=p)


def test_fit_says_that_squares_overflow():
    network = registry.compose(["dense(1)"], (1,), seed=0)
    network.theta[:] = 0
    x, y = np.full((2, 1), 1e25, np.float32), np.ones((2, 1), np.float32)
    with pytest.raises(DivergenceError, match="squares that the optimizer keeps overflow"):
        network.fit(x, y, loss="mae", optimizer="adam", epochs=1)
