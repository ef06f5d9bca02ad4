"""The program: one text runs in three ways with the same result; its memory, schedule and names."""

import ast
import copy
import hashlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from nnjit import data, registry
from nnjit.errors import NnjitError, ShapeError, SpecError
from nnjit.kernels.counters import HEAD, ROWS, STEP, STOP
from nnjit.kernels.cpu import conv
from nnjit.layers import Layer, constant, kernel
from nnjit.program import layout, schedule
from nnjit.program.calls import Var
from nnjit.program.graph import Ref
from nnjit.program.program import Program
from nnjit.program.slots import Binding, Slot
from nnjit.program.state import State
from nnjit.registry import compose
from nnjit.training.clip import Clip
from nnjit.training.losses import Quadratic
from numba import prange

HERE = Path(__file__).parent


def residual(*layers):
    return ("residual", {"layers": list(layers)})


def program_of(layers, shape, loss="quadratic", optimizer="sgd(lr=0.1)", batch_size=4, dtype="float64", **options):
    return Program(compose(layers, shape, dtype=dtype, seed=7), loss, optimizer, batch_size, **options)


def samples(program, count, seed=0):
    """Draw x and targets for a program: labels or values, as its loss needs."""
    rng = np.random.default_rng(seed)
    net = program.network
    x = rng.normal(size=(count, *net.input_shape)).astype(net.dtype)
    if program.labels:
        return x, rng.integers(0, net.output_shape[0], count)
    return x, rng.random((count, *net.output_shape)).astype(net.dtype)


def train(functions, state, x, y, epochs=3):
    """Train epochs in different orders; return the losses."""
    rng = np.random.default_rng(1)
    return [functions.epoch(state, x, y, rng.permutation(len(x))) for _ in range(epochs)]


def assert_same(program, other, losses, other_losses, rtol):
    """Compare two states after the same training."""
    state = program.state
    np.testing.assert_allclose(losses, other_losses, rtol=rtol)
    for name in ("theta", "gradient", "moments", "buffers"):
        a, b = getattr(state, name), getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (np.abs(b).max() if b.size else 0), err_msg=name)
    np.testing.assert_array_equal(state.counters[:4], other.counters[:4])
    rows = state.counters[ROWS] * program.plan.log.width
    np.testing.assert_allclose(state.log[:rows], other.log[:rows], rtol=rtol)


# The same text, compiled and with the reference kernels


def test_ten_points_agree_to_1e_12_over_1000_steps():
    """An inlined program with single samples drawn at random, as in the lecture's example."""
    points = data.load("ten_points").train
    program = program_of("dense(2) sigmoid dense(3) sigmoid dense(2) sigmoid", (2,), "quadratic", "sgd(0.05)", 1)
    assert program.plan.shares.inline and not program.labels
    other = program.new_state()
    program.compile()
    order = np.random.default_rng(0).integers(0, 10, 1000)
    x, y = np.ascontiguousarray(points.x), np.ascontiguousarray(points.y)
    losses = program.epoch(program.state, x, y, order), program.reference().epoch(other, x, y, order)
    assert_same(program, other, [losses[0]], [losses[1]], rtol=1e-12)
    assert program.state.counters[STEP] == 1000 and not program.state.counters[STOP]


MIXED = [
    "dense(64)",
    "tanh",
    "dropout(0.3)",
    residual("dense(64)", "sigmoid", residual("dense(64)", "tanh")),
    residual("batchnorm", "dense(64)"),
    "layernorm",
    "dense(6)",
    "softmax",
    "dense(4)",
]


@pytest.fixture(scope="module")
def sharded():
    """64 samples per batch are enough work for four blocks."""
    program = program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64)
    shares = program.plan.shares
    assert (shares.blocks, shares.parts, shares.inline) == (4, schedule.PARTS, False)
    return program.compile()


def test_sharded(sharded):
    """The last batch has 3 samples, fewer than there are blocks."""
    x, y = samples(sharded, 64 * 2 + 3)
    sharded.state.theta[:] = sharded.new_state().theta
    other = sharded.new_state()
    assert_same(sharded, other, train(sharded, sharded.state, x, y), train(sharded.reference(), other, x, y), rtol=1e-9)
    out = np.empty((len(x), 4))
    sharded.predict(sharded.state, x, out)
    np.testing.assert_allclose(out, sharded.network.forward(x), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_few_samples_are_divided_by_layers(monkeypatch, batch_size):
    """Convolutions of every kind and a dense layer, each in a separate loop, on one thread and on more."""
    monkeypatch.setattr(schedule, "SHARD", 10_000)
    monkeypatch.setattr(schedule, "DIVIDE", 10_000)
    layers = ["conv(40, 3, padding='same')", "relu", "conv(33, 5, padding=2, border='wrap')", "maxpool(2)",
              "conv(36, 2, stride=2)", "conv(36, 3, padding='same', groups=36)", "flatten", "dense(150)"]  # fmt: skip
    network = compose(layers, (20, 12, 11), seed=3, dtype="float64")
    program = network.compile(loss="mse", optimizer="sgd(lr=0.01)", batch_size=batch_size)
    assert [each.split for each in program.plan.forward].count(True) >= 4
    rng = np.random.default_rng(1)
    x, y, out = rng.standard_normal((7, 20, 12, 11)), rng.standard_normal((7, 150)), np.empty((7, 150))
    before, found = numba.get_num_threads(), set()
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        program.predict(program.state, x, out)
        found.add(out.tobytes())
    numba.set_num_threads(before)
    assert len(found) == 1
    np.testing.assert_allclose(out, network.forward(x), rtol=1e-9, atol=1e-12)
    other = program.new_state()
    assert_same(program, other, train(program, program.state, x, y), train(program.reference(), other, x, y), rtol=1e-8)


def test_serial(monkeypatch):
    monkeypatch.setattr(schedule, "SHARD", 10**9)
    program = program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64)
    assert (program.plan.shares.blocks, program.plan.shares.parts, program.plan.shares.inline) == (1, 1, False)
    other = program.new_state()
    program.compile()
    x, y = samples(program, 64 + 3)
    assert_same(program, other, train(program, program.state, x, y), train(program.reference(), other, x, y), rtol=1e-9)


def test_inlined():
    program = program_of(["dense(3)", "batchnorm", "dense(2)"], (4,), batch_size=4)
    assert program.plan.shares.inline
    other = program.new_state()
    program.compile()
    x, y = samples(program, 11)
    assert_same(
        program, other, train(program, program.state, x, y), train(program.reference(), other, x, y), rtol=1e-11
    )


SMALL = ["dense(3)", "sigmoid", "dense(2)"]
VARIANTS = {
    "values": {},
    "one-hot": {"loss": "cross_entropy", "labels": False},
    "labels": {"loss": "cross_entropy", "labels": True},
    "clipped": {"clip": Clip(max=0.05, p=3.0)},
    "rates": {"rates": [0.5, 0.25, 0.125]},
    "p = 1": {"norm": 1.0},
    "p = inf": {"norm": np.inf},
    "float32": {"dtype": "float32"},
}


@pytest.fixture(scope="module")
def variants():
    """Return name -> a small compiled program; kernels are called by symbol, which compiles faster than inlining."""
    made = {}

    def variant(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(schedule, "INLINE", 0)
                made[name] = program_of(SMALL, (3,), **VARIANTS[name]).compile()
        program = made[name]
        program.network.initialize(7)
        return program, program.new_state()

    return variant


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(variants, name):
    program, state = variants(name)
    assert not program.plan.shares.inline and program.labels == (name == "labels")
    other = program.new_state()
    x, y = samples(program, 10)
    losses, expected = train(program, state, x, y), train(program.reference(), other, x, y)
    program.state = state
    assert_same(program, other, losses, expected, rtol=1e-5 if name == "float32" else 1e-12)
    assert state.counters[STEP] == 9 and not np.array_equal(state.theta, program.new_state().theta)


def test_labels_are_one_hot_targets(variants):
    (labels, one), (values, two) = variants("labels"), variants("one-hot")
    x, y = samples(labels, 10)
    np.testing.assert_allclose(train(labels, one, x, y), train(values, two, x, np.eye(2)[y]), rtol=1e-13)
    np.testing.assert_allclose(one.theta, two.theta, rtol=1e-13)


def test_clipping_shortens_the_gradient(variants):
    """Steps of sgd are -lr g with ||g||_3 at most 0.05, and equal to it if the gradient was longer."""
    program, state = variants("clipped")
    x, y = samples(program, 4)
    steps = []
    for _ in range(5):
        before = state.theta.copy()
        program.step(state, x, y)
        steps.append(np.sum(np.abs(state.theta - before) ** 3) ** (1 / 3) / 0.1)
    norms = state.log.reshape(-1)[2 : 5 * program.plan.log.width : program.plan.log.width]
    assert norms.max() > 0.05
    np.testing.assert_allclose(steps, np.minimum(norms, 0.05), rtol=1e-12)


def test_rates_step_by_step_and_the_last_holds_on(variants):
    program, state = variants("rates")
    x, y = samples(program, 4)
    for rate in (0.5, 0.25, 0.125, 0.125):
        before = state.theta.copy()
        program.step(state, x, y)
        np.testing.assert_allclose(state.theta, before - rate * state.gradient, rtol=1e-13)
    assert state.log[1 :: program.plan.log.width][:4].tolist() == [0.5, 0.25, 0.125, 0.125]


def test_the_log_begins_anew_when_it_is_full(variants):
    program, state = variants("values")
    state = State(**{**state._asdict(), "rates": np.zeros(1)})
    x, y = samples(program, 8)
    rows, (one, two) = program.plan.log.rows, (program.step(state, x[i : i + 4], y[i : i + 4]) for i in (0, 4))
    order = np.concatenate(
        [np.tile(np.arange(4), rows - 2), np.arange(4, 8)]
    )  # the last batch is row 1 of the next turn
    program.epoch(state, x, y, np.concatenate([order, order[-4:]]))
    assert state.counters[ROWS] == rows + 2 and one != two
    assert state.log[: 3 * program.plan.log.width : program.plan.log.width].tolist() == [two, two, one]


def test_what_does_not_fit_is_refused(variants):
    """Compiled code would read and write beyond the arrays."""
    program, state = variants("values")
    x, y = samples(program, 5)
    before = copy.deepcopy(state)
    for wrong, sentence in (
        ((x, y), "1 to 4 samples"),
        ((x[:0], y[:0]), "1 to 4 samples"),
        ((x[:4, :2].copy(), y[:4]), r"x \(N, 3\) of float64, got shape \(4, 2\)"),
        ((x[:3], y[:4]), "as many rows in target as in x, got 4 and 3"),
        ((x[:4], y[:4, :1].copy()), r"target \(N, 2\) of float64, got shape \(4, 1\)"),
    ):
        with pytest.raises(ShapeError, match=f"step: expected {sentence}"):
            program.step(state, *wrong)
    with pytest.raises(ShapeError, match="predict: expected as many rows in y"):
        program.predict(state, x, np.empty((4, 2)))
    with pytest.raises(ShapeError, match="epoch: expected as many rows in targets"):
        program.epoch(state, x, y[:4], np.arange(5))
    for array, kept in zip(state, before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("name", ["values", "p = inf"])
def test_a_gradient_that_is_no_number_stops(name):
    """A finite loss with a NaN in the gradient (0 times an infinite weight): no array that it would spoil changes."""
    layers = ["dense(3)", "sigmoid", "dense(3)", "sigmoid", "dense(2)"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "INLINE", 0)
        program = program_of(layers, (3,), **VARIANTS[name]).compile()
    program.network.parameters["dense.3.W"][...] = np.inf
    before = program.network.parameters["dense.1.W"].copy()
    x, y = samples(program, 4)
    for functions, state in ((program, program.new_state()), (program.reference(), program.new_state())):
        assert np.isnan(functions.step(state, np.abs(x), y))
        assert np.isfinite(state.log[0]), "the loss itself is a number"
        assert state.counters[STOP] == 1 and state.counters[STEP] == 0
        assert np.isnan(state.log[2]), "the total norm hides it"
        np.testing.assert_array_equal(state.theta[: before.size], before.ravel())
        assert np.isnan(functions.epoch(state, np.abs(x), y, np.arange(4)))


# Threads


def trained_bits(program, threads):
    """Hash all arrays after two epochs of the sharded program."""
    x, y = samples(program, 64 * 2 + 3)
    program.network.initialize(7)
    state, before = program.new_state(), numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        losses = train(program, state, x, y, epochs=2)
    finally:
        numba.set_num_threads(before)
    arrays = (np.array(losses), state.theta, state.gradient, state.moments, state.buffers, state.log)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def test_the_number_of_threads_changes_no_bit(sharded):
    """Run with 1, 2 and 4 threads; four in another process if Numba was started with fewer."""
    counts = [n for n in (1, 2, 4) if n <= numba.config.NUMBA_NUM_THREADS]
    bits = [trained_bits(sharded, n) for n in counts]
    if 4 not in counts:
        code = (
            f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_program as t;"
            "p = t.program_of(t.MIXED, (60,), 'cross_entropy', 'adam(lr=1e-3)', batch_size=64).compile();"
            "print(*{t.trained_bits(p, n) for n in (1, 4)})"
        )
        environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        bits += ran.stdout.split()
    assert len(set(bits)) == 1


def test_two_threads_with_a_state_each(variants):
    """Each program computes what it computes alone."""
    program, _ = variants("values")
    sets = [samples(program, 40, seed) for seed in (1, 2)]
    alone, together = ([program.new_state(), program.new_state()] for _ in range(2))
    orders = [np.random.default_rng(seed).integers(0, 40, 40_000) for seed in (1, 2)]
    losses = {}

    def run(key, state, i):
        losses[key] = program.epoch(state, *sets[i], orders[i])

    for i in range(2):
        run(("alone", i), alone[i], i)
    threads = [threading.Thread(target=run, args=(("together", i), together[i], i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert losses["alone", i] == losses["together", i]
        for one, two in zip(alone[i], together[i], strict=True):
            np.testing.assert_array_equal(one, two)
    assert losses["alone", 0] != losses["alone", 1]


# Memory


def test_a_state_is_a_few_flat_arrays():
    deep = program_of(
        [*["dense(3)", "tanh", residual("batchnorm", "dense(3)")] * 20, "dense(2)"], (3,), "cross_entropy"
    )
    *arrays, _ = deep.state
    assert len(arrays) <= 8 and deep.state._fields == program_of(SMALL, (3,)).state._fields
    for array in arrays:
        assert array.ndim == 1 and array.flags.c_contiguous and array.ctypes.data % array.itemsize == 0
    assert {str(array.dtype) for array in arrays} == {"float64", "int64"}


@pytest.mark.parametrize("name", ["mixed", "small", "predicting"])
def test_what_is_predicted_is_allocated(name):
    program = {
        "mixed": lambda: program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64, dtype="float32"),
        "small": lambda: program_of(SMALL, (3,), rates=np.ones(100)),
        "predicting": lambda: Program(compose(SMALL, (3,)), batch_size=5),
    }[name]()
    predicted = program.memory()
    for state in (program.state, program.new_state()):
        assert {field: getattr(state, field).nbytes for field in state._fields if field != "layout"} == predicted
    S = program.network.theta.size
    assert predicted["theta"] == predicted["gradient"] == S * program.dtype.itemsize
    assert predicted["moments"] == (2 if name == "mixed" else 0) * S * program.dtype.itemsize


def test_new_state_is_independent():
    program = program_of(SMALL, (3,), optimizer="adam(lr=0.1)")
    run, new = program.reference(), program.new_state()
    x, y = samples(program, 4)
    assert np.shares_memory(program.state.theta, program.network.theta)
    for field, one, two in zip(new._fields, new, program.state, strict=True):
        assert field in ("rates", "layout") or not np.shares_memory(one, two), field  # rates are only read
    kept = copy.deepcopy(program.state)
    run.step(new, x, y)
    for array, before in zip(program.state, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    assert new.counters[STEP] == 1 and np.any(new.theta != program.network.theta)
    again = program.new_state()
    assert not again.moments.any() and again.counters[STEP] == 0
    np.testing.assert_array_equal(again.theta, program.network.theta)


def test_memory_of_a_chain_does_not_grow_with_its_depth():
    """For prediction a layer's input and output are enough; training keeps the arguments of the backward pass."""
    sizes = [Program(compose(["dense(16)", "tanh"] * n, (16,)), batch_size=8).plan.layout.arena_size for n in (2, 20)]
    assert sizes[0] == sizes[1] == (4 * 16) * 8
    for batch_size, kept in ((5, 2), (17, 1)):  # a[l] for (5), and where samples are rows delta[l] for (4) and (5)
        chains = [program_of(["dense(32)", "tanh"] * n, (32,), batch_size=batch_size) for n in (2, 3, 4)]
        size = [chain.plan.layout.arena_size for chain in chains]
        assert size[2] - size[1] == size[1] - size[0] == kept * 32 * batch_size


class Canary:
    """Run a text and compare the numbers that every kernel reads with those last written there, sample by sample."""

    def __init__(self, program, monkeypatch):
        self.plan, self.last, self.compared, self.roots = program.plan, {}, 0, {}
        plain, canary = Binding.python, self

        def python(binding, function):
            call = plain(binding, function)

            def watched(s, n0, n1, *given):
                named = zip(binding.names, binding.values(given), strict=True)
                slots = {name: v for name, v in named if isinstance(v, Slot) and v.flat == "arena"}
                before = {name: slot.of(s, n0, n1).copy() for name, slot in slots.items()}
                call(s, n0, n1, *given)
                for name, slot in slots.items():
                    canary.check(f"{binding.name}: {name}", slot, n0, n1, before[name], slot.of(s, n0, n1))

            return watched

        monkeypatch.setattr(Binding, "python", python)
        self.run = program.reference()
        for ref, variable in program.plan.variables.items():
            if isinstance(ref, Ref):
                self.roots[id(getattr(self.run, variable))] = program.plan.storage.of(ref)

    def check(self, what, slot, n0, n1, before, after):
        """Compare an array that a kernel did not change, so that it may have read it, with the numbers last written."""
        root = self.roots[id(slot)]
        rows = range(n0, n1) if slot.per_sample else (slot.scratch and n0 // slot.scratch.samples,)
        before, after = (before.T, after.T) if slot.columns else (before, after)
        for i, old, new in zip(rows, before, after, strict=True) if slot.per_sample else [(*rows, before, after)]:
            if np.array_equal(old, new) and (root, i) in self.last:
                np.testing.assert_array_equal(old.ravel(), self.last[root, i], err_msg=f"{what}, sample {i}")
                self.compared += 1
            self.last[root, i] = new.ravel().copy()

    def step(self, state, x, y):
        self.last.clear()
        return self.run.step(state, x, y)


WATCHED = {
    "mixed, sharded": (MIXED, (6,), "cross_entropy", 11, 0),
    "mixed, serial": (MIXED, (6,), "cross_entropy", 11, 10**9),
    "a chain, sharded": (["dense(5)", "gelu", "dense(4)", "silu", "dense(2)"], (6,), "quadratic", 11, 0),
    "a chain": (["dense(5)", "gelu", "dense(4)", "silu", "dense(3)", "tanh", "dense(2)"], (6,), "quadratic", 5, 10**9),
    "columns, sharded": (["dense(5)", "gelu", "dense(4)", "silu", "dense(2)"], (6,), "quadratic", 11, 0),
    "columns": (["dense(5)", "gelu", "dense(4)", "silu", "dense(3)", "tanh", "dense(2)"], (6,), "mse", 9, 10**9),
    "narrow layers behind others": (
        ["dense(7)", "batchnorm", "identity", residual("dense(7)", "gelu"), "dense(5)", "silu", "dense(2)"],
        (6,), "quadratic", 11, 0,
    ),
    "narrow layers behind maps": (
        ["conv(2, 3)", "relu", "maxpool(2)", "flatten", residual("identity"), "dense(9)", "dropout(0.3)", "layernorm",
         residual(residual("dense(9)", "tanh")), "dense(2)"],
        (1, 6, 6), "huber", 9, 10**9,
    ),
    "maps": (
        ["conv(2, 3, padding='same')", "relu", residual("conv(2, 1)", "batchnorm", "identity"), "maxpool(2)", "flatten",
         "dense(4)", residual(residual("identity")), "dense(2)"],
        (1, 4, 4), "cross_entropy", 7, 0,
    ),
}  # fmt: skip


def watched_program(name, monkeypatch):
    layers, shape, loss, batch_size, shard = WATCHED[name]
    monkeypatch.setattr(schedule, "SHARD", shard)
    monkeypatch.setattr(schedule, "SAMPLES", 2)
    narrow = name.startswith(("columns", "narrow"))
    sizes = {
        "COLUMNS_FROM": 6 if narrow else 10**9,
        "COLUMN_WORK": 0,
        "COLUMN_BLOCK": 2,
        "TILE": 2,
        "STEP": 2,
        "FEW_OF_STEP": 1,
    }
    for key, value in (sizes | {"NARROW_SHARE": 0}).items():
        monkeypatch.setattr(schedule, key, value)
    program = program_of(layers, shape, loss, batch_size=batch_size)
    shares, behind = program.plan.shares, name.startswith("narrow")
    assert shares.blocks == (1 if shard else 3 if narrow and not behind else 4)
    found = shares.narrow
    assert (found is not None) == narrow and (not narrow or (found.first > 0) == behind)
    assert not narrow or (found.tile, found.blocks) == (2, 1 if shard else 3)
    return program


@pytest.mark.parametrize("name", WATCHED)
def test_nothing_is_overwritten_that_is_still_read(name, monkeypatch):
    program = watched_program(name, monkeypatch)
    canary = Canary(program, monkeypatch)
    x, y = samples(program, program.batch_size)
    for count in (len(x), 3):
        canary.step(program.state, x[:count], y[:count])
    assert canary.compared > 100


@pytest.mark.parametrize("name", WATCHED)
def test_an_overlap_is_seen(name, monkeypatch):
    """With all short-lived arrays at one address the test above must fail."""
    monkeypatch.setattr(
        layout,
        "pack",
        lambda items: (max((size for _, size in items.values()), default=0), dict.fromkeys(items, 0)),
    )
    program = watched_program(name, monkeypatch)
    canary = Canary(program, monkeypatch)
    with pytest.raises(AssertionError, match=r"sample [01]"):
        canary.step(program.state, *samples(program, program.batch_size))


def test_gradients_do_not_depend_on_what_was_in_memory():
    """Every number of a state that is not initialised is NaN; the step is the same."""
    program = program_of(MIXED, (6,), "cross_entropy", batch_size=5)
    run, clean, dirty = program.reference(), program.new_state(), program.new_state()
    for array in (dirty.gradient, dirty.arena, dirty.log):
        array[:] = np.nan
    dirty.counters[HEAD + program.batch_size :] = -(10**6)
    x, y = samples(program, 5)
    assert run.step(clean, x, y) == run.step(dirty, x, y)
    np.testing.assert_array_equal(clean.theta, dirty.theta)
    np.testing.assert_array_equal(clean.log[: program.plan.log.width], dirty.log[: program.plan.log.width])


def test_one_loop_between_two_barriers():
    """Parts of a batch-coupled layer run at the same time, so the same function must not read their results.

    So such a function holds one call, and a residual that begins with such a layer adds its deltas elsewhere.
    """
    layers = [residual("batchnorm", "dense(3)"), residual("batchnorm", residual("batchnorm", "tanh")), "dense(2)"]
    for first in ([], ["dense(3)"]):
        plan = program_of([*first, *layers], (3,)).plan
        split = [pair for pair in zip(plan.forward, reversed(plan.backward), strict=True) if pair[0].split]
        assert len(split) == 3
        for forward, backward in split:
            assert len(forward.calls) == 1 and len(backward.calls) <= 1 and backward.split
        adds = [call for each in plan.backward for call in each.calls if call.attribute == "backward_add"]
        assert len(adds) == (3 if first else 2) and not any(call.split for call in adds)


# The schedule


def graph(*layers, shape=(50,)):
    return compose(list(layers), shape).graph


def test_operations_are_those_of_the_layers():
    assert schedule.operations(graph("dense(40)", "relu", "dense(3)").nodes) == 40 * 50 + 40 + 3 * 40
    assert schedule.operations(graph("flatten", "identity").nodes) == 0


def test_layers_of_one_sample_are_divided_where_their_kernels_divide_the_filters():
    assert conv.DIVIDE == schedule.DIVIDE  # kernels do not know programs


def test_blocks():
    """200,000 multiplications for a fork, at most 8 blocks of about 16 samples or more, a power of two."""
    large, small = graph("dense(1000)"), graph("dense(5)")
    assert schedule.blocks(large, 3) == schedule.parts(large, 3) == 1
    assert [schedule.blocks(large, n) for n in (16, 31, 32, 48, 64, 127, 128, 10_000)] == [1, 1, 2, 4, 4, 8, 8, 8]
    assert [schedule.parts(large, n) for n in (3, 4, 64)] == [1, 8, 8]
    assert [schedule.blocks(small, n) for n in (64, 799, 800, 10**6)] == [1, 1, 8, 8]
    huge = graph("dense(10000)")  # 500,000 multiplications per sample, so 8 samples are a block's work; then 2
    assert [schedule.blocks(huge, n) for n in (4, 8, 16, 64)] == [1, 1, 2, 8]
    assert [schedule.blocks(graph("dense(200000)"), n) for n in (1, 2, 4, 8)] == [1, 1, 2, 4]


def test_blocks_do_not_depend_on_threads():
    net = graph("dense(1000)")
    before, counts = numba.get_num_threads(), set()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            counts.add((schedule.blocks(net, 64), schedule.parts(net, 64)))
    finally:
        numba.set_num_threads(before)
    assert counts == {(4, 8)}


def test_inlined_where_no_layer_has_much_to_do():
    assert schedule.inline(graph("dense(2)", "relu", "dense(20)"), 1)
    assert schedule.inline(graph("dense(40)"), 1) and not schedule.inline(graph("dense(401)"), 1)
    assert schedule.inline(graph("dense(50)"), 8) and not schedule.inline(graph("dense(51)"), 8)
    assert schedule.inline(graph("dense(4)", "softmax"), 10) and not schedule.inline(graph("dense(5)", "softmax"), 13)
    assert schedule.inline(graph("dense(1)"), 40) and not schedule.inline(graph("dense(1)"), 41)
    layers = ("dense(2)", "dense(5)", "dense(8)")
    assert schedule.inline(graph(*layers), 19) and not schedule.inline(graph(*layers), 20)  # samples as columns
    assert [schedule.shares(graph("dense(2)"), n, False).inline for n in (1, 12, 13)] == [True, True, False]
    wide = graph("dense(64)", "dense(64)")
    assert [schedule.inline(wide, n, gradients=False) for n in (4, 5, 8)] == [True, True, True]
    assert [schedule.inline(wide, n) for n in (4, 5)] == [True, False]


# The text


def identifiers(source):
    """Collect all names that a text defines or uses, those of arguments included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        found |= {value for value in (getattr(node, key, None) for key in ("id", "arg", "name")) if value}
    return found


OWN = """BATCH INPUTS TARGETS OUTPUTS BLOCKS SAMPLES WORKERS PARTS STEP SEED ROWS STOP FAULT HEAD BOUNDS FIRST LAYERS
    CHUNK LOSSES LOG_ROWS LOG_WIDTH SUMS LARGEST POWER SCRATCH C C_i N s n0 n1 w p q c k x y lo hi row rate steps clip
    norm share total training seed first part target targets order step epoch predict LIGHT LEARNS WHOLE layout
    nan label train_step mixed overlap
    step_samples epoch_samples predict_samples
    forward backward record cost update_chunk chunk_norm chunk_bounds gradients theta gradient sums fixed batch block
    prange range min np
    ValueError first_moment second_moment i"""
SCHEME = re.compile(
    r"(z|a|da|delta)\d+|d?(W|b|gain|offset)\d*|(mean|inverse_deviation|running_mean|running_variance)\d*"
    r"|(forward|backward)_[az]\d+(_to_[az]\d+)?|[a-z]+\d+_(forward|backward_(input|weight|bias|parameters|add)|add)"
    r"|cross_entropy_(forward|backward)|batch_(gather|copy|put)|(mean|clip)_gradient|norm_partial|update"
    r"|(PREDICT|STEP|EPOCH)_(STATE|ARRAYS|LABELS|ORDER)"
)


def test_names_follow_the_lecture():
    program = program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64)
    others = {name for name in identifiers(program.source) - {*OWN.split()} if not SCHEME.fullmatch(name)}
    assert others == set()
    text = program_of("dense(3) tanh dense(2)", (4,), batch_size=2).source
    calls = dict(re.findall(r"^ +(\w+)\(s, n0, n1, (.*?)\)", text, re.MULTILINE))
    for name, arguments in {
        "dense2_forward": "a1, W2, b2, z2",
        "tanh2_forward": "z2, a2",
        "dense3_forward": "a2, W3, b3, z3",
        "dense3_backward_input": "W3, delta3, da2",
        "dense2_backward_weight": "a1, delta2, dW2, part",
        "dense2_backward_bias": "delta2, db2, part",
    }.items():
        assert calls[name] == arguments


def test_a_table_first_and_memory_last():
    """A row for each layer with the equations of its calls, then functions; arrays are defined at the end."""
    program = program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64)
    head, lines = ast.get_docstring(ast.parse(program.source)), program.source.splitlines()
    table = re.sub(r"\s+", " ", head)
    for node in program.network.graph.nodes:
        assert f" {node.name} {node.y.shape} " in table
    for call in [call for each in program.plan.passes for call in each.calls]:
        assert " ".join(call.equation.split()) in table
        assert sum(f" {call.binding.name}(" in line for line in lines) == 1, "each call stands once"
    definitions = [i for i, line in enumerate(lines) if re.match(r"\w+ = (fixed|batch|block)\(", line)]
    last = max(i for i, line in enumerate(lines) if line.startswith("def "))
    assert len(definitions) == len(program.plan.variables) and min(definitions) > last
    assert program.source.count("SCRATCH = ") == 1 and not re.search(r"(counters|log|arena)\[\d", program.source)


@pytest.mark.parametrize("one, two", [("leaky_relu(0.1)", "leaky_relu(0.2)"), ("dropout(0.1)", "dropout(0.2)")])
def test_an_option_is_in_the_text(one, two):
    """The text contains options, though no call passes them: it is the key of compiled programs."""
    texts = [program_of(f"dense(3) {spec} dense(2)", (3,)).source for spec in (one, two)]
    assert texts[0] != texts[1]
    assert len({re.sub(r"0\.[12]\b", "", text) for text in texts}) == 1


def test_functions_are_named_by_the_activations_between_which_they_lie(monkeypatch):
    def functions(layers, shape, **more):
        tree = ast.parse(Program(compose(layers, shape), **more).source)
        return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]

    training = {"loss": "quadratic", "optimizer": "sgd", "batch_size": 8}
    assert functions("dense(4) tanh dense(2)", (3,), **training)[:3] == ["forward", "backward", "gradients"]
    monkeypatch.setattr(schedule, "SHARD", 0)
    names = functions("dense(4) batchnorm relu dense(2)", (3,), **training)
    assert names[:3] == ["forward_a1_to_a2", "forward_a2_to_z3", "forward_z3_to_z4"]
    assert names[3:7] == ["backward_z4_to_z3", "backward_z3_to_a2", "gradients", "chunk_bounds"]
    names = functions("dense(4) batchnorm", (3,), **training)
    assert names[:3] == ["forward_a1_to_a2", "forward_a2_to_z3", "backward_z3"], "the loss alone is the last region"
    assert functions("dense(2)", (3,), batch_size=4, backward=True)[-2:] == ["forward", "backward"]


def test_a_network_of_aliases_has_no_calls():
    program = Program(compose("flatten identity", (2, 2)), batch_size=3, backward=True)
    names = [node.name for node in ast.parse(program.source).body if isinstance(node, ast.FunctionDef)]
    assert names == ["forward", "backward"]
    program.run.forward(program.state, 3, 0, False)


@pytest.mark.parametrize("batch_size", [2, 500])
def test_no_line_of_the_text_is_wider_than_120(batch_size):
    deep = [spec for k in range(40) for spec in (f"dense({30 + k})", "batchnorm")]
    inner = residual("conv_transpose(32, 3, padding='same')", "batchnorm", "layernorm", residual("batchnorm", "relu"))
    maps = ["conv(32, 3, padding='same')", "batchnorm", inner, "maxpool(2)", "dropout(0.25)", "flatten", "dense(10)"]
    loss = ("huber", {"delta": 0.123456789012345})
    optimizer = "adamw(lr=0.000123456789, beta1=0.912345678, beta2=0.999912345, epsilon=1.23456e-8, weight_decay=0.01)"
    for layers, shape in ((deep, (30,)), (maps, (3, 16, 16, 16))):
        network = compose(layers, shape)
        for more in ({}, {"backward": True}, {"loss": loss, "optimizer": optimizer}):
            source = Program(network, batch_size=batch_size, **more).source
            ast.parse(source)
            assert [line for line in source.splitlines() if len(line) > 120] == []


def test_a_plan_is_data():
    plan = program_of("dense(3) tanh dense(2)", (4,), batch_size=2).plan
    for part in (plan, plan.task, plan.shares, plan.log, plan.layout, plan.storage, plan.forward[0], plan.calls()[0]):
        with pytest.raises(AttributeError):
            setattr(part, part._fields[0], ())
    with pytest.raises(ValueError, match="identifier"):
        Var("1.0 / N", float)


def test_layers_that_end_a_network():
    """An affine layer is z, and its gradient delta; any other layer is a."""
    for spec, named in {
        "tanh dense(2)": "z3",
        "dense(2)": "z2",
        "dense(2) tanh": "a2",
        "dense(2) softmax": "a3",
    }.items():
        program = program_of(spec, (4,))
        assert re.search(rf"quadratic_backward\(s, n0, n1, {named}, target, d", program.source), spec
        assert (f"delta{named[1]} = {named} - t" in program.source) == (named[0] == "z")


def times(name, *names):
    """Register a layer y = x p1 p2 ... under a name, its parameters under names."""
    arguments = ", ".join(names)
    product = " * ".join(f"{each}[0]" for each in names)
    space = {"kernel": kernel, "prange": prange, "Layer": Layer, "constant": constant, "np": np}
    text = f"""
class Times(Layer):
    def parameters(self, in_shape):
        return {{name: constant(i + 2.0, (1,)) for i, name in enumerate({names!r})}}

    @kernel
    def forward(x, {arguments}, y):
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = x[i, j] * {product}

    @kernel
    def backward_input(dy, {arguments}, dx):
        for i in prange(dy.shape[0]):
            for j in range(dy.shape[1]):
                dx[i, j] = dy[i, j] * {product}

    @kernel
    def backward_parameters(x, dy, {arguments}, {", ".join("d" + each for each in names)}):
        for _ in prange(1):
            total = np.sum(x * dy) * {product}
            {"; ".join(f"d{each}[0] = total / {each}[0]" for each in names)}
"""
    exec(text, space)
    registry.register(name, force=True)(space["Times"])


HOSTILE = [
    ("epoch", ("forward_", "gradients", "a")),
    ("np", ("z", "delta", "BLOCKS")),
    ("s", ("backward_", "theta", "sums")),
    ("prange", ("W", "é", "C_i")),
    ("forward_1", ("output", "learn", "state")),
    ("forward", ("forward_a1_to_z", "backward_a", "fixed")),
]


@pytest.mark.parametrize("name, names", HOSTILE)
def test_registered_names_cannot_break_the_text(name, names):
    """Layers and parameters with names that the text uses: it still says what it should."""
    times(name, *names)
    try:
        program = program_of([name, "dense(2)", name], (3,), batch_size=4)
        ast.parse(program.source)
        W, b = (program.network.parameters[f"dense.2.{each}"] for each in "Wb")
        x, y = samples(program, 4)
        F = 24 * ((24 * x) @ W.T + b)
        run = program.reference()
        assert run.step(program.new_state(), x, y) == pytest.approx(np.sum((F - y) ** 2) / 8, rel=1e-12)
        out = np.empty((4, 2))
        run.predict(program.state, x, out)
        np.testing.assert_allclose(out, F, rtol=1e-12)
        state = program.new_state()
        run.step(state, x, y)
        slope = np.sum((F - y) * F) / 4  # C by any of the last layer's factors, times the factor
        np.testing.assert_allclose(state.gradient[-3:] * [2.0, 3.0, 4.0], slope, rtol=1e-12)
    finally:
        registry.unregister(name)


def test_an_option_that_is_text_stays_text():
    @registry.losses.register("quoted_for_test_program", force=True)
    class Quoted(Quadratic):
        note: str = ""

    try:
        note = '""" + __import__("os").name + """ \\'
        program = program_of(SMALL, (3,), ("quoted_for_test_program", {"note": note}))
        tree = ast.parse(program.source)
        assert "__import__" in ast.get_docstring(tree) and "__import__" not in identifiers(program.source)
    finally:
        registry.losses.unregister("quoted_for_test_program")


@pytest.mark.parametrize("argument", ["s", "n0", "n1", "part", "parts"])
def test_arguments_that_the_program_has_itself(argument):
    times("taken_for_test_program", argument)
    try:
        with pytest.raises(NnjitError, match=f"taken_for_test_program_forward.*{argument!r}"):
            program_of(["taken_for_test_program"], (3,))
    finally:
        registry.unregister("taken_for_test_program")


def test_no_path_in_the_text():
    source = program_of(MIXED, (60,), "cross_entropy", "adam(lr=1e-3)", batch_size=64).source
    assert not re.search(r"(?<![\w/ ])/\w|\\|[A-Za-z]:/", source)
    for place in {str(HERE), str(Path.cwd()), str(Path.home()), sys.prefix} - {"/"}:
        assert place not in source


@pytest.mark.parametrize(
    "layers, options, error, words",
    [
        (SMALL, {"batch_size": 0}, SpecError, "batch_size"),
        (SMALL, {"batch_size": True}, SpecError, "batch_size"),
        (SMALL, {"batch_size": 2.0}, SpecError, "batch_size"),
        (SMALL, {"labels": True}, ShapeError, "quadratic"),
        (["dense(1)"], {"loss": "cross_entropy"}, ShapeError, "cross_entropy"),
        (["tanh"], {}, ShapeError, "no parameters"),
        (SMALL, {"loss": "quadrat"}, NnjitError, "quadratic"),
        (SMALL, {"optimizer": "sgd(lr=-1)"}, SpecError, "lr"),
    ],
)
def test_programs_that_cannot_be(layers, options, error, words):
    with pytest.raises(error, match=words):
        program_of(layers, (3,), **options)


@pytest.mark.parametrize("optimizer", ["sgd(lr=0.1)", "adam(lr=0.1)"])
@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 8.0, np.inf])
def test_a_norm_of_any_p_has_a_finite_limit(optimizer, p):
    source = Program(compose(["dense(2)"], (3,)), "mse", optimizer, norm=p).source
    (limits,) = [line for line in source.splitlines() if line.startswith("LARGEST, POWER = ")]
    assert all(np.isfinite(float(number)) for number in limits.split("=")[1].split("#")[0].split(","))
