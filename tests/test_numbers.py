"""Every public number works for any value, or one sentence names it; no network becomes NaN by it."""

import inspect
import math
import typing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit import data, registry
from nnjit.check.cases import cases
from nnjit.data.split import Split
from nnjit.errors import DivergenceError, NnjitError, ShapeError, SpecError
from nnjit.kernels.counters import STOP
from nnjit.layers import Layer, constant, elementwise
from nnjit.program import memory
from nnjit.program.norms import lp_norm
from nnjit.program.program import Program
from nnjit.registry import compose
from nnjit.training import clip
from nnjit.training.schedules import Schedule
from nnjit.training.settings import Settings

pytestmark = pytest.mark.usefixtures("linked")

NEVER = [math.nan, True, "3", None, 1j, [1], {}, (), object()]  # for any option
ODD = [math.nan, math.inf, -math.inf, -1, 0, 1e400, True, "3", 2**31, 2**63 - 1, 2**64, 10**30, 10**400, 1e-50, -1e-50,
       1e300, 0.99999999999, 1 + 1e-12, 1.5, np.float32(0.5), np.int64(2), np.bool_(True)]  # fmt: skip
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """Pretend that the machine has 1 GB, so that sizes are too large on every machine."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 250_000}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)


def works(call, word):
    """Return whether a call works; a refusal must be one sentence that contains a word."""
    try:
        call()
    except DivergenceError:
        return False
    except NnjitError as error:
        assert word in str(error) and "\n" not in str(error), error
        return False
    return True


# -- options of all that is registered ---------------------------------------------------------------------------------


def numeric(catalogue):
    """Return (name, option) of every option that takes numbers."""
    for name in catalogue.names():
        for option, parameter in inspect.signature(catalogue.get(name)).parameters.items():
            kinds = typing.get_args(parameter.annotation) or (parameter.annotation,)
            if {int, float, bool} & set(kinds) or typing.get_origin(parameter.annotation) is tuple:
                yield name, option


def with_option(catalogue, name, option, value, needed=()):
    """Return the smallest spec with one option replaced."""
    return name, dict(needed) | {option: value}


@pytest.mark.parametrize("name, option", list(numeric(registry.layers)))
def test_layers(name, option):
    rng = np.random.default_rng(0)
    for spec, shape in cases(name)[:2]:
        made = registry.create(spec).options()
        for value in [*ODD, *((value,) * max(1, len(shape) - 1) for value in ODD)]:

            def run(value=value, made=made, shape=shape):
                net = compose([(name, made | {option: value})], shape)
                x = net.graph.draw(rng, 4).astype(np.float32)
                for training in (True, False):
                    y = net.forward(x, training=training)
                    dx = net.backward(np.ones_like(y))
                    assert not np.isnan(y).any() and not np.isnan(dx).any(), (option, value)
                assert not np.isnan(net.theta).any() and not np.isnan(net.gradient).any()

            works(run, name)


STEPS = {registry.losses: ("loss", "mse"), registry.optimizers: ("optimizer", "sgd")}


@pytest.mark.parametrize("catalogue, name, option", [(c, *each) for c in STEPS for each in numeric(c)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_and_optimizers(catalogue, name, option, dtype):
    """Make five steps with the compiled kernels: theta is finite, or the stop flag is set."""
    target = np.random.default_rng(1).normal(size=(4, 2)).astype(dtype)
    for value in ODD:
        net = compose("dense(2)", (3,), dtype=dtype)

        def run(value=value, net=net):
            chosen = {"loss": "mse", "optimizer": "sgd(lr=0.1)", STEPS[catalogue][0]: (name, {option: value})}
            program = Program(net, chosen["loss"], chosen["optimizer"], batch_size=4).interpret()
            with np.errstate(all="ignore"):
                losses = [program.run.step(program.state, X.astype(dtype), target) for _ in range(5)]
            assert np.isfinite(net.theta).all() or program.state.counters[STOP] or not np.isfinite(losses[-1]), value

        works(run, option)


@pytest.mark.parametrize("name, option", list(numeric(registry.schedules)))
def test_schedules(name, option):
    needed = {"every": 1} if name == "step" else {}
    net = compose("dense(2)", (3,))
    for value in ODD:
        spec = with_option(registry.schedules, name, option, value, needed)
        works(lambda spec=spec: net.fit(X, [0, 1, 0, 1], schedule=spec, epochs=2, seed=0), name)
        assert np.isfinite(net.theta).all()


@pytest.mark.parametrize("name, option", list(numeric(registry.initializers)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initializers(name, option, dtype):
    for value in ODD:
        init = with_option(registry.initializers, name, option, value)

        def run(init=init):
            net = compose([("dense", {"units": 2, "init": init})], (3,), dtype=dtype)
            assert np.isfinite(net.theta).all()

        works(run, name)


@pytest.mark.parametrize("name, option", list(numeric(registry.datasets)))
def test_datasets(name, option, here):
    needed = {"path": "missing"} if "path" in inspect.signature(registry.datasets.get(name)).parameters else {}
    needed |= {"label": 0} if name == "csv" else {}
    for value in ODD:
        spec = with_option(registry.datasets, name, option, value, needed)
        works(lambda spec=spec: data.load(spec), "missing" if needed and _makes(spec) else option)


def _makes(spec):
    try:
        return registry.datasets.create(spec) is not None
    except NnjitError:
        return False


@pytest.mark.parametrize("option", ["max", "p"])
def test_clipping(option):
    net = compose("dense(2)", (3,))
    for value in ODD:
        spec = ("norm", {option: value})
        works(lambda spec=spec: Program(net, "mse", "sgd(lr=0.1)", 4, clip=clip.create(spec)), option)


# -- arguments ---------------------------------------------------------------------------------------------------------


def net():
    return compose("dense(2)", (3,))


Y = np.array([0, 1, 0, 1])
# argument -> (a call with it, values that are refused besides NEVER, values that work)
ARGUMENTS = {
    "input_shape": (
        lambda v: compose("relu", v),
        [(3.5, 4), (3.0,), (0,), (-1, 2), (True, 4), (math.nan,), (math.inf,), (2**70,), ("3",), {3: 1}, b"3", 3.0, -2],
        [3, (3,), [3, 4], np.array([3, 4]), (np.int64(3),)],
    ),
    "seed": (lambda v: compose("dense(2)", (3,), seed=v), [-1, 2**31, 1.5, math.inf], [0, 2**31 - 1, np.int8(3)]),
    "seed of initialize": (lambda v: net().initialize(v), [-1, 2**31, 1.5], [0, np.int64(3)]),
    "batch_size of predict": (lambda v: net().predict(X, batch_size=v), [0, -1, 1.5, 10**15, 2**70], [np.int64(64)]),
    "batch_size of Program": (lambda v: Program(net(), "mse", "sgd", v), [0, -1, 1.5, 10**15, 2**70], [np.int64(3)]),
    "norm of Program": (lambda v: Program(net(), "mse", "sgd", 4, norm=v), [0, -1.0, 1e-300], [1, math.inf]),
    "clip of Program": (lambda v: Program(net(), "mse", "sgd", 4, clip=v), [3, "norm(max=1)"], [clip.Clip(1.0)]),
    "rates": (
        lambda v: Program(net(), "mse", "sgd", 4, rates=v),
        [[math.inf], [-1.0], [0.1, math.nan], [1e300], [[0.1]], [[0.1], [0.1, 0.2]], [True], np.zeros((1, 1)), [1j]],
        [0.1, 0, [0.1, 0.2], [1], np.float32([0.1])],
    ),
    "epochs": (lambda v: Settings(epochs=v), [0, -1, 1.5, math.inf, 2**64], [1, np.int64(3)]),
    "batch_size": (lambda v: Settings(batch_size=v), [-1, 1.5, math.inf, 2**64], [0, np.int64(3), 10**15]),
    "seed of fit": (lambda v: Settings(seed=v), [-1, 2**31, 1.5], [0, np.int64(3)]),
    "norm": (lambda v: Program(net(), "mse", "sgd", 4, norm=Settings(norm=v).norm), [0, -1], [np.float32(1)]),
    "validation": (lambda v: Split(X, Y).hold_out(v), [1, -0.1, 1.5, math.inf], [0, 0.25, np.float32(0.5)]),
    "low": (lambda v: registry.create(("minmax", {"low": v, "high": 2})), [math.inf, -math.inf, 2], [0, np.float32(1)]),
    "p": (lambda v: lp_norm(X, v), [0, -1], [1, math.inf, np.float32(2)]),
}  # fmt: skip
MAY_BE_NONE = ("clip", "rates")


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments(argument):
    call, wrong, right = ARGUMENTS[argument]
    name = argument.split()[0]
    lists = ((), [1], {}) if name == "input_shape" else ([1],) if name == "rates" else ()
    for value in [*NEVER, *wrong]:
        if (value is None and name in MAY_BE_NONE) or any(value is each or value == each for each in lists if each):
            continue
        assert not works(lambda value=value: call(value), name), value
    for value in right:
        assert works(lambda value=value: call(value), name), value


def test_numpy_scalars_are_pythons_afterwards(tmp_path):
    """Instances convert numbers to Python's, so that they can be written to a config."""
    made = compose("dense(2)", (np.int64(3),), seed=np.int64(1))
    assert type(made.seed) is int and type(made.input_shape[0]) is int
    made.fit(
        X, Y, epochs=np.int64(1), batch_size=np.int8(4), seed=np.uint8(3), norm=np.float32(2), output=tmp_path / "run"
    )
    assert "epochs = 1\n" in (tmp_path / "run" / "config.toml").read_text()


# -- sizes beyond memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: compose("dense(300000000)", (3,)),
        lambda: compose("dense(1099511627776) dense(1099511627776)", (2**40,)),  # 2^80 numbers: 0 in 64 bits
        lambda: compose("relu", (2**40, 2**40)).predict(np.zeros((1, 1))),
        lambda: Program(compose("relu", (2**40, 2**40))),
        lambda: compose("dense(100000)", (3,)).predict(X, batch_size=10**6),
        lambda: compose("dense(100000)", (3,)).predict(np.zeros((10**4, 3), np.float32), batch_size=1),
        lambda: compose("dense(100000)", (3,)).compile("mse", batch_size=10**6),
        lambda: compose("dense(100000)", (3,)).fit(np.zeros((10**4, 3)), np.zeros(10**4, int), batch_size=0),
        lambda: net().fit(X, Y, epochs=10**12, schedule="cosine"),
    ],
)
def test_what_is_beyond_memory_is_refused_before_it_is_taken(call, monkeypatch):
    """One sentence with both sizes for a wrong size; another sentence for a batch of another shape."""
    with pytest.raises((SpecError, ShapeError), match=r"take .* GB, and this machine has 1\.02 GB|expected shape"):
        call()


# -- what plug-ins give ------------------------------------------------------------------------------------------------


def test_a_parameter_that_starts_as_no_number():
    class Planted(Layer):
        start: float = 1.0

        def buffers(self, in_shape):
            return {"kept": constant(self.start, in_shape)}

        @elementwise
        def forward(x):
            return x

    registry.register("planted_for_test_numbers", force=True)(Planted)
    try:
        for start in (math.inf, 1e300):
            with pytest.raises(SpecError, match=r"planted_for_test_numbers\.1"):
                compose([("planted_for_test_numbers", {"start": start})], (3,))
        Planted.buffers = lambda self, in_shape: {"kept": constant(1.0, (2.5,))}
        with pytest.raises(ShapeError, match=r"sizes of kept must be whole numbers from 0 on"):
            compose("planted_for_test_numbers", (3,))
    finally:
        registry.unregister("planted_for_test_numbers")


@pytest.mark.parametrize("given", [lambda n: np.full(n, np.nan), lambda n: -np.ones(n), lambda n: np.ones(n + 1),
                                   lambda n: 1.0])  # fmt: skip
def test_a_schedule_that_gives_no_rates(given):
    class Planted(Schedule):
        def factor(self, steps, total, steps_per_epoch):
            return given(len(steps))

    registry.schedules.register("planted_for_test_numbers", force=True)(Planted)
    try:
        with pytest.raises(SpecError, match=r"schedule: planted_for_test_numbers must give a finite factor"):
            net().fit(X, Y, schedule="planted_for_test_numbers", epochs=2)
    finally:
        registry.schedules.unregister("planted_for_test_numbers")


def test_a_last_step_that_leaves_no_number():
    """No loss is computed from the theta that the last step leaves."""
    made = compose("dense(2, init='constant(1)')", (3,))
    with pytest.raises(DivergenceError, match="theta is not finite after step 1"):
        made.fit(X * 1e10, np.ones((4, 2)), loss="mse", optimizer="sgd(lr=1e38)", epochs=1)


def test_masked_numbers():
    """They are missing, though some number lies in their places; a mask without any is none."""
    made, x, y = compose("dense(2)", (3,)), np.ma.masked_array(np.ones((4, 3)), mask=False), np.ones((4, 2))
    made.fit(x, y, loss="mse", epochs=1)
    assert made.predict(x).shape == (4, 2)
    x[1, 2] = np.ma.masked
    theta = made.theta.copy()
    for call in (
        lambda: made.fit(x, y, loss="mse"),
        lambda: made.fit(np.ones((4, 3)), x[:, 1:], loss="mse"),
        lambda: made.fit(np.ones((4, 3)), y, loss="mse", validation=(x, y)),
        lambda: made.evaluate(x, y, loss="mse"),
        lambda: made.predict(x),
        lambda: made.predict(x.astype(np.float32)),
        lambda: made.forward(x),
        lambda: made.compile("mse", "sgd", 4, rates=x[1]),
        lambda: setattr(made, "theta", np.ma.masked_equal(theta, theta[0])),
    ):
        with pytest.raises(NnjitError, match=r"[mM]ask"):
            call()
    np.testing.assert_array_equal(made.theta, theta)


# -- drawn values ------------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.sampled_from(ODD[:-1]), st.text(max_size=3))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NUMBERS, max_size=3), NUMBERS, NUMBERS)
def test_drawn(shape, units, rate):
    def run():
        made = compose([("dropout", {"rate": rate}), "flatten", ("dense", {"units": units})], tuple(shape))
        assert made.input_shape == tuple(shape) and np.isfinite(made.theta).all()

    works(run, "")
