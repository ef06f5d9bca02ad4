"""The certification of large and tiny numbers, of specs with options, and of losses, optimizers and schedules."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.check import certify
from nnjit.check.cases import cases_of
from nnjit.check.extremes import extremes
from nnjit.errors import ShapeError, SpecError, UnknownName
from nnjit.layers import Layer, elementwise, kernel
from nnjit.registry import compose, losses, optimizers, schedules
from nnjit.training import Loss, Optimizer, Schedule
from numba import prange

# -- large and tiny numbers --------------------------------------------------------------------------------------------


class SafeMish(Layer):
    """y = x tanh(softplus(x)), with exp(-|x|) alone."""

    @elementwise
    def forward(x):
        return x * np.tanh((0.0 if x < 0 else x) + np.log1p(np.exp(-abs(x))))

    @forward.derivative
    def backward_input(x):
        e = np.exp(-abs(x))
        t = np.tanh((0.0 if x < 0 else x) + np.log1p(e))
        return t + (x * (1.0 - t) * (1.0 + t) * (1.0 if x > 0 else e) / (1.0 + e) if t < 1.0 else 0.0)


class Square(Layer):
    """y = x^2, which float32 cannot hold for x = 1e20: there is nothing to mend."""

    @elementwise
    def forward(x):
        return x * x

    @forward.derivative
    def backward_input(x):
        return 2.0 * x


class Softplus(Square):
    @elementwise
    def forward(x):
        return np.log(1.0 + np.exp(x))

    @forward.derivative
    def backward_input(y):
        return 1.0 - np.exp(-y)


class Ratio(Square):
    """y = x^2 / (1 + x^2): 1 for 1e20, where the square is infinite."""

    @elementwise
    def forward(x):
        return x * x / (1.0 + x * x)

    @forward.derivative
    def backward_input(x):
        return 2.0 * x / (1.0 + x * x) ** 2


class Reciprocal(Square):
    """y = x / |x|, 0 / 0 at 0, where even the exact result is not a number."""

    @elementwise
    def forward(x):
        return x / abs(x)

    @forward.derivative
    def backward_input(x):
        return 0.0 * x


class Unit(Square):
    """y = x / sqrt(sum x^2): squares of 1e-30 are 0, those of 1e20 infinite."""

    @kernel(form="matrix")
    def forward(x, y):
        for n in prange(x.shape[0]):
            total = 0.0
            for j in range(x.shape[1]):
                total += x[n, j] * x[n, j]
            for j in range(x.shape[1]):
                y[n, j] = x[n, j] / np.sqrt(total)


class Coarse(Square):
    """y = x + 1e8 - 1e8: finite, but rounded to multiples of 8."""

    @elementwise
    def forward(x):
        return (x + 1e8) - 1e8

    @forward.derivative
    def backward_input():
        return 1.0


class Deviations(Square):
    """y = (x - m) / sqrt(v + 0.01) of a sample: 0, a plausible number, where the variance is infinite."""

    @kernel(form="matrix")
    def forward(x, y):
        for n in prange(x.shape[0]):
            mean, variance = 0.0, 0.0
            for j in range(x.shape[1]):
                mean += x[n, j] / float(x.shape[1])
            for j in range(x.shape[1]):
                variance += (x[n, j] - mean) ** 2 / float(x.shape[1])
            for j in range(x.shape[1]):
                y[n, j] = (x[n, j] - mean) / np.sqrt(variance + 0.01)


class Wave(Square):
    """y = sin(3.7 x): for large numbers rounding decides, so that there is no right number."""

    @elementwise
    def forward(x):
        return np.sin(3.7 * x)

    @forward.derivative
    def backward_input(x):
        return 3.7 * np.cos(3.7 * x)


@pytest.mark.parametrize(("cls", "words"), [
    (Wave, []), (Deviations, ["is 0 for x = ", "e+20, where ", "overflow encountered", "variance += "]),
    (SafeMish, []), (Square, []), (Reciprocal, []), (Coarse, ["0 is right", "(x + 1e8) - 1e8"]),
    (Softplus, ["forward: y[", "is inf for x = 100, where 100 is right", "overflow encountered in exp in",
                "return np.log(1.0 + np.exp(x))", "max(x, 0) + log1p(exp(-abs(x)))"]),
    (Ratio, ["is nan for x = ", "e+20, where 1 is right", "invalid value", "divide by the largest number first"]),
    (Unit, ["inf for x = ", "e-", "divide by zero encountered", "y[n, j] = x[n, j] / np.sqrt(total)"]),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_results_are_right_where_the_exact_ones_are_numbers(cls, words):
    found = []
    registry.register("planted", force=True)(cls)
    try:
        network = compose(["planted"], (3,))
        extremes(network, np.random.default_rng(0), lambda column, part, sentence: found.append((part, sentence)))
    finally:
        registry.unregister("planted")
    sentences = [f"{part}: {sentence}" for part, sentence in found if sentence]
    assert bool(sentences) == bool(words) and len(found) > 8
    for word in words:
        assert any(word in sentence for sentence in sentences)


# -- specs and shapes --------------------------------------------------------------------------------------------------


def test_a_spec_is_tried_on_the_shapes_of_its_class_or_on_those_given():
    spec = "dense(units=4)"
    assert cases_of(spec) == [(spec, shape) for shape in ((1,), (3,), (7,), (101,))]
    assert cases_of(spec, [(6,)]) == [(spec, (6,))]
    assert cases_of("tanh", [(2, 2)]) == [(("tanh", {}), (2, 2))]
    with pytest.raises(ShapeError, match="expected an input of shape"):
        cases_of(spec, [(2, 2)])


@pytest.mark.parametrize(("name", "error", "words"), [
    ("dense(unts=3)", SpecError, "did you mean units"), ("dese(units=3)", UnknownName, "did you mean dense"),
    ("rmsprp", UnknownName, "did you mean rmsprop"), ("cosinee", UnknownName, "did you mean cosine"),
    ("huber(delta=-1)", SpecError, "delta must be"), ("adam(lr=)", SpecError, "does not read"),
])  # fmt: skip
def test_what_cannot_be_certified_is_refused(name, error, words):
    with pytest.raises(error, match=words):
        certify([name])


def test_a_shape_that_does_not_belong_there_is_refused():
    with pytest.raises(SpecError, match="an optimizer takes no shape"):
        certify(["adam"], shapes=[(3,)])
    with pytest.raises(ShapeError, match="expected an input of shape"):
        certify(["dense(2)"], shapes=[(3, 4)])
    assert certify(["flatten"], shapes=[(2, 3)]).messages == []


# -- losses, optimizers, schedules -------------------------------------------------------------------------------------


@pytest.fixture
def plugged():
    made = []

    def plug(catalogue, cls):
        catalogue.register("planted", force=True)(cls)
        made.append(catalogue)
        return certify(["planted"]).rows[0]

    yield plug
    for catalogue in made:
        catalogue.unregister("planted")


@pytest.fixture(scope="module")
def examples():
    """Load the examples of plug-ins."""
    from pathlib import Path

    folder = Path(__file__).resolve().parent.parent / "examples"
    return [registry.load_plugin(folder / f"{name}.py") for name in ("loss", "optimizer", "schedule")]


@pytest.mark.parametrize(
    "name", ["log_cosh", "sign_sgd", "inverse_sqrt", "cross_entropy", "mae", "adam", "sgd(0.1, 0.9)"]
)
def test_right_losses_and_optimizers_pass(examples, name):
    (row,) = certify([name]).rows
    assert not row.failures and row.verdict("shapes") == row.verdict("extremes") == "PASS"


@pytest.mark.parametrize("name", schedules.names())
def test_every_schedule_passes(name):
    assert not certify([name]).rows[0].failures


class Squares(Loss):
    """C_i = 1/2 ||y - t||^2, the right loss of which the ones below change a kernel."""

    @kernel(form="matrix")
    def forward(y, target, loss):
        for n in prange(loss.size):
            total = 0.0
            for j in range(y.shape[1]):
                total += (y[n, j] - target[n, j]) ** 2
            loss[n] = 0.5 * total

    @kernel(form="matrix")
    def backward(y, target, dy):
        for n in prange(y.shape[0]):
            for j in range(y.shape[1]):
                dy[n, j] = y[n, j] - target[n, j]


class TwiceTheGradient(Squares):
    @kernel(form="matrix")
    def backward(y, target, dy):
        for n in prange(y.shape[0]):
            for j in range(y.shape[1]):
                dy[n, j] = 2.0 * (y[n, j] - target[n, j])


class MeanOfBatch(Squares):
    @kernel(form="matrix")
    def forward(y, target, loss):
        for n in prange(loss.size):
            loss[n] = 0.0
            for i in range(loss.size):
                for j in range(y.shape[1]):
                    loss[n] += 0.5 * (y[i, j] - target[i, j]) ** 2


class Logistic(Squares):
    """C_i = sum log(1 + exp(y)) - t y."""

    @kernel(form="matrix")
    def forward(y, target, loss):
        for n in prange(loss.size):
            total = 0.0
            for j in range(y.shape[1]):
                total += np.log(1.0 + np.exp(y[n, j])) - target[n, j] * y[n, j]
            loss[n] = total

    @kernel(form="matrix")
    def backward(y, target, dy):
        for n in prange(y.shape[0]):
            for j in range(y.shape[1]):
                dy[n, j] = 1.0 / (1.0 + np.exp(-y[n, j])) - target[n, j]


class MisspeltTarget(Squares):
    @kernel(form="matrix")
    def backward(y, traget, dy):
        for n in prange(y.shape[0]):
            for j in range(y.shape[1]):
                dy[n, j] = y[n, j] - traget[n, j]


class NoShape(Squares):
    def validate_shape(self, out_shape):
        raise ShapeError("planted: nothing fits")


@pytest.mark.parametrize(("cls", "column", "words"), [
    (Squares, None, []),
    (TwiceTheGradient, "gradient", ["backward gives", "all 2 times", "2.0 * (y[n, j] - target[n, j])", "dy (1, 3)"]),
    (MeanOfBatch, "threads", ["sample 0 of loss comes out differently when it is alone"]),
    (Logistic, "extremes", ["loss[", "is inf", "np.log(1.0 + np.exp(y[n, j]))", "max(x, 0) + log1p"]),
    (MisspeltTarget, "shapes", ["takes 'traget'", "did you mean target"]),
    (NoShape, "shapes", ["takes none of the output shapes", "nothing fits"]),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_faults_of_losses(plugged, cls, column, words):
    row = plugged(losses, cls)
    assert row.kind == "loss" and (not row.failures if column is None else column in row.failures)
    for word in words:
        assert word in row.failures[column][0]


@kernel(form="matrix")
def loss_alone(weight, loss, dy):
    for n in prange(loss.size):
        loss[n] *= weight[n]
        for j in range(dy.shape[1]):
            dy[n, j] *= 1.0


@kernel(form="matrix")
def of_the_first(weight, loss, dy):
    for n in prange(loss.size):
        loss[n] *= weight[0]
        for j in range(dy.shape[1]):
            dy[n, j] *= weight[0]


@kernel(form="matrix")
def squared(weight, loss, dy):
    for n in prange(loss.size):
        loss[n] *= weight[n] * weight[n]
        for j in range(dy.shape[1]):
            dy[n, j] *= weight[n] * weight[n]


@kernel(form="matrix")
def shifted(weight, loss, dy):
    for n in prange(loss.size):
        loss[n] = weight[n] * loss[n] + (weight[n] - 1.0) * 1e-30
        for j in range(dy.shape[1]):
            dy[n, j] *= weight[n]


@kernel(form="matrix")
def rounded(weight, loss, dy):
    for n in prange(loss.size):
        loss[n] *= weight[n] * (1.0 + 3e-16)
        for j in range(dy.shape[1]):
            dy[n, j] *= weight[n]


@pytest.mark.parametrize(("weigh", "words"), [
    (loss_alone, ["dy[0, 0] is", "with its weight, where", "with weights of samples dC/dy[", "backward gives"]),
    (of_the_first, ["loss[1] is", "with weights of samples dC/dy["]),
    (squared, ["loss[0] is", "its weight times its value; multiply the loss"]),
    (shifted, ["loss[0] is ", "if sample 0 has the weight 0, where 0 is right"]),
    (rounded, ["loss[0] is", "with weights of 1, where", "its value without weights"]),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_faults_of_weights(plugged, monkeypatch, weigh, words):
    """The kernel of weights is nnjit's; the faults are planted in its place, beside a right loss of a plug-in."""
    monkeypatch.setattr("nnjit.kernels.cpu.loss.weigh", weigh)
    row = plugged(losses, Squares)
    assert set(row.failures) == {"gradient"}, row.failures
    for word in words:
        assert any(word in sentence for sentence in row.failures["gradient"]), row.failures
    assert all("test_check_kinds.py" in sentence for sentence in row.failures["gradient"])


class Descent(Optimizer):
    """theta <- theta - eta v, v <- g, of which those below change something."""

    lr: float = 0.1
    moments = ("v",)

    @kernel(form="flat")
    def update(theta, gradient, v, rate):
        for i in prange(theta.size):
            v[i] = gradient[i]
            theta[i] -= rate * v[i]


class Ascent(Descent):
    @kernel(form="flat")
    def update(theta, gradient, v, rate):
        for i in prange(theta.size):
            v[i] = gradient[i]
            theta[i] += rate * v[i]


class Normalized(Descent):
    @kernel(form="flat")
    def update(theta, gradient, v, rate):
        for i in prange(theta.size):
            v[i] = gradient[i] * gradient[i]
            theta[i] -= rate * gradient[i] / np.sqrt(v[i])


class Squared(Descent):
    @kernel(form="flat")
    def update(theta, gradient, v, rate):
        for i in prange(theta.size):
            v[i] += gradient[i] * gradient[i]
            theta[i] -= rate * gradient[i] / (np.sqrt(v[i]) + 1e-8)


class Spoils(Descent):
    @kernel(form="flat")
    def update(theta, gradient, v, rate):
        for i in prange(theta.size):
            v[i] = gradient[i]
            gradient[i] = 0.0
            theta[i] -= rate * v[i]


class Unknown(Descent):
    @kernel(form="flat")
    def update(theta, gradient, v, rat):
        for i in prange(theta.size):
            v[i] = gradient[i]
            theta[i] -= rat * v[i]


@pytest.mark.parametrize(("cls", "column", "words"), [
    (Descent, None, []),
    (Ascent, "gradient", ["does not go down the gradient", "theta[i] += rate * v[i]", "theta (1,)"]),
    (Normalized, "extremes", ["inf for gradient = ", "divide by zero", "np.sqrt(v[i])"]),
    (Squared, "extremes", ["v overflows for a gradient of size 1e+20", "say squares = True", "v[i] += gradient[i]"]),
    (Spoils, "writes", ["changes gradient[0], which it may only read", "gradient[i] = 0.0"]),
    (Unknown, "shapes", ["takes 'rat'", "did you mean rate"]),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_faults_of_optimizers(plugged, cls, column, words):
    row = plugged(optimizers, cls)
    assert row.kind == "optimizer" and (not row.failures if column is None else column in row.failures)
    for word in words:
        assert word in row.failures[column][0]


def schedule(function, **attributes):
    return type("Planted", (Schedule,), {"factor": function, **attributes})


@pytest.mark.parametrize(("function", "column", "words"), [
    (lambda self, steps, total, per_epoch: 1 / np.sqrt(steps), "extremes", "factor of the first step"),
    (lambda self, steps, total, per_epoch: np.linspace(1, 0, total + 1)[steps] - 0.3, "extremes", "keep it from 0"),
    (lambda self, steps, total, per_epoch: np.linspace(1, 0.5, len(steps)), "shapes", "which other steps are asked"),
    (lambda self, steps, total, per_epoch: 0.5, "shapes", "for 1 steps; return a number for each"),
    (lambda self, steps, total, per_epoch: steps * 0.0, "extremes", "nothing is learned"),
    (lambda self, steps, total, per_epoch: steps.nothing, "shapes", "AttributeError"),
], ids=lambda value: value if isinstance(value, str) else "factor")  # fmt: skip
def test_faults_of_schedules(plugged, function, column, words):
    row = plugged(schedules, schedule(function))
    assert words in row.failures[column][0] and row.kind == "schedule"


def test_a_schedule_that_is_not_constant(plugged):
    row = plugged(schedules, schedule(lambda self, steps, total, per_epoch: 0.5 + 0.0 * steps, constant=True))
    assert "constant = True, but a factor is 0.5" in row.failures["extremes"][0]
