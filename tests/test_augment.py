"""Augmentation: against PyTorch, draws against a generator in Python integers, adjoints, and whole programs."""

import math
import tomllib

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run
from nnjit import compose, registry
from nnjit.errors import ShapeError, SpecError
from nnjit.launch import launch
from nnjit.program import schedule
from nnjit.program.program import Program
from nnjit.storage import checkpoint
from test_dropout import MASK, splitmix

FOLDERS = ["cpu", "reference"]
LAYERS = ["random_flip('both')", "random_crop(2, 'reflect')", "random_rotation(30)", "noise(0.1)"]


def draw(seed, index):
    """Return the 64 random bits of a sample, or for noise of an element, in Python's integers."""
    return splitmix((splitmix(seed & MASK) + (index + 1) * 0x9E3779B97F4A7C15) & MASK)


def flips(seed, n):
    """Return whether the columns of sample n are reversed, and whether its rows are."""
    return draw(seed, n) >> 63 == 1, draw(seed, n) >> 62 & 1 == 1


def shifts(seed, n, padding, rank):
    """Return how many cells sample n moves along each of its spatial axes."""
    numbers = [draw(seed, n) >> 21 * axis & 0x1FFFFF for axis in range(3 - rank, 3)]
    return [(number * (2 * padding + 1) >> 21) - padding for number in numbers]


def angle(seed, n, degrees):
    return math.radians(((draw(seed, n) >> 40) / 2**23 - 1) * degrees)


def normal(seed, index):
    """Return a normal number by the formula of Box and Muller."""
    u, v = (draw(seed, index) >> 40) / 2**24, (draw(seed, index) >> 16 & 0xFFFFFF) / 2**24
    return math.sqrt(-2 * math.log1p(-u)) * math.cos(2 * math.pi * v)


# -- the definitions, by PyTorch ---------------------------------------------------------------------------------------


def by_torch(layer, x, seed, first):
    """Return what PyTorch makes of samples with these draws, in float64."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install nnjit[peers]")
    options, rank, y = layer.options(), x.ndim - 2, torch.from_numpy(x.astype(np.float64)).clone()
    for n in range(len(x)):
        if "axes" in options:
            chosen = zip(("horizontal", "vertical"), (-1, -2), flips(seed, first + n), strict=True)
            y[n] = torch.flip(y[n], [axis for name, axis, on in chosen if on and options["axes"] in (name, "both")])
        elif "padding" in options:
            padding, mode = options["padding"], {"zeros": "constant"}.get(options["border"], options["border"])
            padded = torch.nn.functional.pad(y[n][None], [padding] * 2 * rank, mode)[0]
            places = zip(shifts(seed, first + n, padding, rank), x.shape[2:], strict=True)
            y[n] = padded[(slice(None), *(slice(padding + move, padding + move + size) for move, size in places))]
        elif "degrees" in options:
            y[n] = _turned(torch, y[n], angle(seed, first + n, options["degrees"]))
        else:
            z = [normal(seed, (first + n) * y[n].numel() + i) for i in range(y[n].numel())]
            y[n] += options["deviation"] * torch.tensor(z, dtype=torch.float64).reshape(y[n].shape)
    return y.numpy()


def _turned(torch, x, angle):
    """Return planes (..., H, W) turned by an angle, in cells, around their centre."""
    height, width = x.shape[-2:]
    a, b = np.mgrid[:height, :width].reshape(2, -1) - np.array([[(height - 1) / 2], [(width - 1) / 2]])
    cos, sin = math.cos(angle), math.sin(angle)
    # grid_sample counts from -1 to 1, columns first
    grid = np.stack([2 * (sin * a + cos * b) / width, 2 * (cos * a - sin * b) / height], -1)
    grid = torch.from_numpy(grid).reshape(1, height, width, 2)
    planes = x.reshape(1, -1, height, width)
    return torch.nn.functional.grid_sample(planes, grid, "bilinear", "zeros", align_corners=False).reshape(x.shape)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize(
    "spec, shape",
    [
        ("random_flip", (2, 7)),
        ("random_flip('vertical')", (1, 4, 5)),
        ("random_flip('both')", (3, 5, 4)),
        ("random_flip('both')", (2, 3, 2, 5)),
        ("random_crop(4)", (2, 7)),
        ("random_crop(3, 'reflect')", (1, 4)),
        ("random_crop(2)", (3, 5, 4)),
        ("random_crop(3, 'reflect')", (2, 4, 7)),
        ("random_crop(2)", (2, 3, 4, 3)),
        ("random_crop(2, 'reflect')", (1, 3, 4, 5)),
        ("random_rotation(180)", (2, 5, 5)),
        ("random_rotation(20)", (3, 4, 9)),
        ("random_rotation(90)", (2, 3, 6, 5)),
        ("noise(0.5)", (2, 3, 5)),
        ("noise(3)", (11,)),
    ],
)
def test_layers_are_what_pytorch_gives_for_their_draws(folder, dtype, tolerance, spec, shape):
    layer, x = registry.create(spec), np.random.default_rng(0).normal(size=(8, *shape)).astype(dtype)
    for seed, first in ((7, 0), (2**62, 10**6)):
        got = run(layer, x, folder=folder, seed=seed, first=first)["y"]
        np.testing.assert_allclose(got, by_torch(layer, x, seed, first), rtol=0, atol=tolerance)
        assert (got != x).any()


specs = st.one_of(
    st.sampled_from(["random_flip('horizontal')", "random_flip('vertical')", "random_flip('both')", "noise(0.7)"]),
    st.tuples(st.integers(0, 3), st.sampled_from(["zeros", "reflect"])).map(lambda t: f"random_crop{t}"),
    st.floats(0, 180).map(lambda degrees: f"random_rotation({degrees!r})"),
)


@settings(max_examples=150, deadline=None)
@given(specs, st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)), st.integers(0, 2**40), st.booleans())
def test_backward_is_the_adjoint(spec, shape, seed, training):
    """<A u, v> = <u, A' v> for the linear part A of forward, and the CPU's kernels give what the reference gives."""
    layer, rng = registry.create(spec), np.random.default_rng(seed)
    u, v = rng.normal(size=(2, 3, *shape))
    results = [run(layer, u, v, folder=folder, seed=seed, training=training) for folder in FOLDERS]
    offset = run(layer, np.zeros_like(u), folder="cpu", seed=seed, training=training)["y"]
    assert abs(np.sum((results[0]["y"] - offset) * v) - np.sum(u * results[0]["dx"])) < 1e-11 * u.size
    for name in ("y", "dx"):
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=0, atol=1e-11)


# -- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", LAYERS)
def test_a_draw_is_that_of_the_sample_wherever_it_is_computed(spec):
    """In blocks, in parts of a loop, in smaller batches; another step draws otherwise."""
    layer, x = registry.create(spec), np.random.default_rng(1).normal(size=(9, 2, 5, 6)).astype(np.float32)
    whole = run(layer, x, x, seed=5)
    for name in ("y", "dx"):
        parts = [run(layer, x[lo:hi], x[lo:hi], seed=5, first=lo)[name] for lo, hi in ((0, 2), (2, 3), (3, 9))]
        np.testing.assert_array_equal(np.concatenate(parts), whole[name])
        np.testing.assert_array_equal(run(layer, x, x, seed=5, parts=7)[name], whole[name])
        np.testing.assert_array_equal(run(layer, x[:4], x[:4], seed=5)[name], whole[name][:4])
    assert (run(layer, x, seed=6)["y"] != whole["y"]).any()


N = 20_000
NEAR = 5 / math.sqrt(N)  # five standard errors of a mean of numbers with deviation 1


def signs(numbers):
    """Return -1 and 1 for samples that stay, and that are mirrored."""
    return np.where(numbers, 1.0, -1.0)


@pytest.mark.parametrize("seed", [3, 4])
def test_flips_are_fair_and_independent(seed):
    """One in two along each axis, in no relation to the other axis, the sample before, or the same sample of a step."""
    x = np.broadcast_to(np.arange(4.0, dtype=np.float32).reshape(1, 2, 2), (N, 1, 2, 2))
    first = [run(registry.create("random_flip('both')"), x, seed=s)["y"][:, 0, 0, 0] for s in (seed, seed + 1009)]
    across, down, other = signs(first[0] % 2 == 1), signs(first[0] >= 2), signs(first[1] % 2 == 1)
    assert abs(across.mean()) < NEAR and abs(down.mean()) < NEAR
    for pair in ((across, down), (across, other), (across[1:], across[:-1]), (down[1:], down[:-1])):
        assert abs(np.mean(pair[0] * pair[1])) < NEAR


def test_shifts_cover_their_range_evenly():
    """Each pair of shifts as often as every other: chi-squared of 48 degrees of freedom, six deviations."""
    places = np.arange(49.0, dtype=np.float32).reshape(1, 7, 7)
    x = np.broadcast_to(places, (N, 1, 7, 7))
    seen = run(registry.create("random_crop(3)"), x, seed=8)["y"][:, 0, 3, 3]  # the centre shows where it came from
    counts = np.bincount(seen.astype(int), minlength=49)
    assert abs(np.sum((counts - N / 49) ** 2) / (N / 49) - 48) < 6 * math.sqrt(2 * 48)


def test_angles_are_uniform():
    """A picture whose numbers are their columns shows the angle: bilinear interpolation of it is exact."""
    x = np.broadcast_to(np.arange(-2.0, 3.0), (N, 1, 5, 5))
    y = run(registry.create("random_rotation(120)"), x, seed=2)["y"][:, 0]
    found = np.degrees(np.arctan2(y[:, 3, 2], y[:, 2, 3]))
    assert found.min() >= -120 and found.max() < 120
    counts, _ = np.histogram(found, 24, (-120, 120))
    assert abs(np.sum((counts - N / 24) ** 2) / (N / 24) - 23) < 6 * math.sqrt(2 * 23)


def test_noise_is_normal():
    """Mean, deviation, asymmetry and tails; neighbours, and two steps, are not correlated."""
    layer, x = registry.create("noise(0.25)"), np.full((1, 10 * N), 3.0)
    z, other = ((run(layer, x, seed=seed)["y"][0] - 3) / 0.25 for seed in (1, 2))
    for power, moment, deviation in (
        (1, 0, 1),
        (2, 1, 2),
        (3, 0, 15),
        (4, 3, 96),
    ):  # of z^power: its mean, its variance
        assert abs(np.mean(z**power) - moment) < 5 * math.sqrt(deviation / z.size), power
    assert 4 < abs(z).max() < 5.8
    assert abs(np.mean(z[1:] * z[:-1])) < 5 / math.sqrt(z.size) and abs(np.mean(z * other)) < 5 / math.sqrt(z.size)


# -- prediction, errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("spec", LAYERS)
def test_prediction_changes_nothing(folder, spec):
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)
    got = run(registry.create(spec), x, x, folder=folder, training=False)
    np.testing.assert_array_equal(got["y"], x)
    np.testing.assert_array_equal(got["dx"], x)


@pytest.mark.parametrize(
    "spec, fact",
    [
        ("random_flip('up')", "'horizontal', 'vertical' or 'both'"),
        ("random_crop(-1)", "0 or more cells, got -1"),
        ("random_crop(2, 'edge')", "'zeros' or 'reflect'"),
        ("random_rotation(181)", "from 0 to 180"),
        ("random_rotation(-1)", "from 0 to 180"),
        ("noise(-0.1)", "0 or more"),
        ("noise(inf)", "0 or more"),
    ],
)
def test_options_that_are_refused(spec, fact):
    with pytest.raises(SpecError, match=fact):
        registry.create(spec)


@pytest.mark.parametrize(
    "spec, shape, fact",
    [
        ("random_flip", (5,), r"\(C, \*spatial\) .* got \(5,\)"),
        ("random_flip('both')", (2, 5), r"takes an input with rows, .* got \(2, 5\); choose axes 'horizontal'"),
        ("random_crop(1)", (5,), r"\(C, \*spatial\) .* got \(5,\)"),
        ("random_crop(4)", (1, 4, 9), r"less than the 4 cells of the shortest .* \(1, 4, 9\), got 4"),
        ("random_rotation(5)", (1, 4), r"\(C, height, width\) or .* got \(1, 4\)"),
    ],
)
def test_inputs_that_are_refused(spec, shape, fact):
    with pytest.raises(ShapeError, match=fact):
        compose(spec, shape)


# -- programs ----------------------------------------------------------------------------------------------------------


def test_a_program_trains_alike_on_any_threads_and_predicts_as_without(monkeypatch):
    """Four blocks of samples, against the reference kernels; then predictions of a network with the same theta."""
    monkeypatch.setattr(schedule, "SHARD", 1_000)
    monkeypatch.setattr(schedule, "SAMPLES", 4)
    for name in ("INLINE", "FEW_INLINE", "FEW_PASSED"):
        monkeypatch.setattr(schedule, name, 0)
    monkeypatch.setattr(schedule, "COLUMNS_FROM", 10**9)  # their sums have another order, for either network
    rest, shape = ["flatten", "dense(3)"], (1, 6, 5)
    net = compose([*LAYERS, *rest], shape, dtype="float64", seed=2)
    program = Program(net, "cross_entropy", "sgd(lr=0.1)", batch_size=16)
    assert program.plan.shares.blocks == 4
    program.compile()
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(2 * 16 + 3, *shape)), rng.integers(0, 3, 35)
    before, found, order = numba.get_num_threads(), [], np.arange(35)
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        state = program.new_state()
        losses = [program.epoch(state, x, labels, order) for _ in range(2)]
        found.append((losses, state.theta.tobytes()))
    numba.set_num_threads(before)
    assert found[0] == found[1] and losses[0] != losses[1]
    other, functions = program.new_state(), program.reference()
    np.testing.assert_allclose(losses, [functions.epoch(other, x, labels, order) for _ in range(2)], rtol=1e-9)
    np.testing.assert_allclose(state.theta, other.theta, rtol=1e-8, atol=1e-11)
    plain = compose(rest, shape, dtype="float64")
    net.theta[:] = plain.theta[:] = state.theta
    np.testing.assert_array_equal(net.predict(x), plain.predict(x))


def test_one_thread_predicts_as_without():
    """A function for one thread is that of prediction, in which these layers are nothing."""
    net, x = compose([*LAYERS, "flatten", "dense(2)"], (1, 3, 4), seed=1), np.arange(12, dtype=np.float32)
    W, b = net.parameters.values()
    y, dx, dy, dtheta = np.empty(2, "f"), np.empty(12, "f"), np.array([3, -2], "f"), np.zeros_like(net.theta)
    program = Program(net, batch_size=1, derivatives=True)
    program.device_function("predict")(net.theta, x, y)
    np.testing.assert_allclose(y, W @ x + b, rtol=1e-5)
    program.device_function("vjp")(net.theta, x, dy, y, dx, dtheta)
    np.testing.assert_allclose(dx, W.T @ dy, rtol=1e-5)
    np.testing.assert_allclose(dtheta[:24].reshape(2, 12), np.outer(dy, x), rtol=1e-5)


def test_a_run_scales_pixels_first_and_goes_on_with_the_same_draws(tmp_path):
    """A run that is continued has the bits of a run that was not interrupted; `minmax` stands before the layers."""

    def config(epochs):
        training = {"epochs": epochs, "batch_size": 128, "seed": 3}
        return {
            "model": {"layers": [*LAYERS, "flatten", "dense(10)"]},
            "data": {"name": "digits"},
            "training": training,
        }

    launch.start(config(2), tmp_path / "whole")
    launch.start(config(1), tmp_path / "parts")
    launch.resume(tmp_path / "parts", epochs=2)
    one, two = (checkpoint.read(tmp_path / name / "last.safetensors")[0] for name in ("whole", "parts"))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name)
    layers = tomllib.loads((tmp_path / "whole/config.toml").read_text())["model"]["layers"]
    assert layers[0] == "minmax(low=0.0, high=16.0)" and layers[1].startswith("random_flip")
