"""The certification of layers: right ones pass, and each planted fault fails in its column, with its name."""

import math

import numpy as np
import pytest
from nnjit import registry
from nnjit.check import COLUMNS, certify
from nnjit.check.cases import cases
from nnjit.check.derivatives import differences, remainders
from nnjit.check.races import races
from nnjit.check.runner import same_bits
from nnjit.errors import ShapeError, UnknownName
from nnjit.layers import Layer, constant, elementwise, kernel, weight, zeros
from numba import njit, prange

SHARE = 0.5


@pytest.fixture
def plugged():
    """Return a function that registers layers for one test."""
    names = []

    def plug(cls, name="planted"):
        registry.register(name, force=True)(cls)
        names.append(name)
        return name

    yield plug
    for name in names:
        registry.unregister(name)


EVERYWHERE = [column for column in COLUMNS if column not in ("cuda", "jvp")]  # on_cuda.py, and below


def verdicts(name):
    """Return column -> verdict of one layer, and its messages as one text."""
    report = certify([name])
    (row,) = report.rows
    assert report.failed == row.failed == bool(report.messages)
    return {column: row.verdict(column) for column in EVERYWHERE}, "\n".join(report.messages)


def only(*failed):
    """Require that exactly these columns fail."""
    return {column: "FAIL" if column in failed else "PASS" for column in EVERYWHERE}


# -- forward mode ------------------------------------------------------------------------------------------------------


class Squares(Layer):
    """y = x^2 as a kernel, with the jvp that a class below has, or with none."""

    @kernel(form="flat")
    def forward(x, y):
        for i in prange(x.size):
            y[i] = x[i] * x[i]

    @kernel(form="flat")
    def backward_input(x, dy, dx):
        for i in prange(x.size):
            dx[i] = 2.0 * x[i] * dy[i]


class RightSquares(Squares):
    @kernel(form="flat")
    def jvp(x, dx, dy):
        for i in prange(x.size):
            dy[i] = 2.0 * x[i] * dx[i]


class WrongSquares(Squares):
    @kernel(form="flat")
    def jvp(x, dx, dy):
        for i in prange(x.size):
            dy[i] = 3.0 * x[i] * dx[i]


class WrongInPrediction(Squares):
    """Right in training; it has no jvp that could disagree."""

    @kernel(form="flat")
    def backward_input(x, dy, training, dx):
        for i in prange(x.size):
            dx[i] = (2.0 if training else 3.0) * x[i] * dy[i]


class ForgetsInPrediction(Layer):
    """y = x + b, whose gradient is 0 in prediction."""

    linear = ("b",)
    check_cases = [("planted", (3,))]

    def parameters(self, in_shape):
        return {"b": zeros(in_shape)}

    @kernel
    def forward(x, b, y):
        for n in prange(x.shape[0]):
            for i in range(x.shape[1]):
                y[n, i] = x[n, i] + (b[i] if b.size else 0.0)

    @kernel
    def backward_input(dy, dx):
        for n in prange(dy.shape[0]):
            for i in range(dy.shape[1]):
                dx[n, i] = dy[n, i]

    @kernel
    def backward_parameters(dy, training, db):
        for i in prange(db.size):
            total = 0.0
            for n in range(dy.shape[0]):
                total += dy[n, i]
            db[i] = total if training else 0.0


class SymmetricSquares(Squares):
    symmetric = True


class LinearSquares(Squares):
    linear = ()


@pytest.mark.parametrize(("cls", "verdict", "words"), [
    (RightSquares, "PASS", ""), (SymmetricSquares, "PASS", ""), (Squares, "-", "give it a kernel jvp(x, dx, dy)"),
    (WrongSquares, "FAIL", "is not that of central differences"), (LinearSquares, "FAIL", "central differences"),
    (WrongInPrediction, "FAIL", "along a direction of x"), (ForgetsInPrediction, "FAIL", "along a direction of theta"),
])  # fmt: skip
def test_forward_mode_is_certified(plugged, cls, verdict, words):
    report = certify([plugged(cls)])
    (row,) = report.rows
    assert row.verdict("jvp") == verdict and not set(row.failures) - {"jvp"}
    assert words in " ".join([*report.messages, *row.notes]) and len(row.notes) <= 1


# -- layers that are right ---------------------------------------------------------------------------------------------


class Affine(Layer):
    """y = gain * x + offset for each channel. (N, C, *spatial) -> same shape."""

    start: float = 1.0

    check_cases = [("planted", (3,)), ("planted", (2, 1, 3))]

    def parameters(self, in_shape):
        return {"gain": constant(self.start, (in_shape[0],)), "offset": zeros((in_shape[0],))}

    @kernel
    def forward(x, gain, offset, y):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, y3 = x.reshape((N, C, S)), y.reshape((N, C, S))
        for i in prange(N * C):
            n, c = i // C, i % C
            for s in range(S):
                y3[n, c, s] = gain[c] * x3[n, c, s] + offset[c]

    @kernel
    def backward_input(gain, dy, dx):
        N, C = dy.shape[:2]
        S = dy.size // (N * C)
        dy3, dx3 = dy.reshape((N, C, S)), dx.reshape((N, C, S))
        for n in prange(N):
            for c in range(C):
                for s in range(S):
                    dx3[n, c, s] = gain[c] * dy3[n, c, s]

    @kernel
    def backward_parameters(x, dy, dgain, doffset):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, dy3 = x.reshape((N, C, S)), dy.reshape((N, C, S))
        for c in prange(C):
            g, o = 0.0, 0.0
            for n in range(N):
                for s in range(S):
                    g += dy3[n, c, s] * x3[n, c, s]
                    o += dy3[n, c, s]
            dgain[c] = g
            doffset[c] = o


@njit
def _square(v):
    return v * v


class Linear(Layer):
    """y = W x, with a helper function, whole-array statements and slices."""

    units: int

    check_cases = [("planted(3)", (3,)), ("planted(2)", (5,)), ("planted(units=1)", (1,))]

    def output_shape(self, in_shape):
        if len(in_shape) != 1:
            raise ShapeError(f"planted: expected (features,), got {in_shape}")
        return (self.units,)

    def parameters(self, in_shape):
        return {"W": weight((self.units, in_shape[0]), in_shape[0], self.units)}

    @kernel
    def forward(x, W, y):
        for i in prange(x.shape[0]):
            for j in range(W.shape[0]):
                z = 0.0
                for k in range(W.shape[1]):
                    z += W[j, k] * x[i, k]
                y[i, j] = z

    @kernel
    def backward_input(W, dy, dx):
        for i in prange(dy.shape[0]):
            dx[i, :] = 0.0
            for j in range(W.shape[0]):
                row = W[j]
                for k in range(W.shape[1]):
                    dx[i, k] += dy[i, j] * row[k]

    @kernel
    def backward_weight(x, dy, dW):
        for j in prange(dW.shape[0]):
            for k in range(dW.shape[1]):
                total = 0.0
                for i in range(x.shape[0]):
                    total += dy[i, j] * x[i, k]
                dW[j, k] = total


class Cube(Layer):
    """y = x^3 / 2 + share x^2, a formula with a helper."""

    share: float

    @elementwise
    def forward(x, share):
        return 0.5 * x * _square(x) + share * _square(x)

    @forward.derivative
    def backward_input(x, share):
        return 1.5 * _square(x) + 2 * share * x


@pytest.mark.parametrize("cls", [Affine, Linear, Cube])
def test_a_right_plugin_passes(plugged, cls):
    assert verdicts(plugged(cls)) == (only(), "")


@pytest.mark.parametrize("name", sorted(registry.names()))
def test_every_layer_passes(name):
    report = certify([name])
    assert report.messages == []
    (row,) = report.rows
    assert row.verdict("gradient") == row.verdict("shapes") == "PASS"


@pytest.mark.parametrize("name", sorted(n for n in registry.names() if registry.find(n).source == "built-in"))
def test_every_builtin_layer_has_cases(name):
    cls = registry.get(name)
    assert len(cases(name)) == len(cls.check_cases) > 0
    for spec, shape in cases(name):
        layer = registry.create(spec)
        assert type(layer) is cls
        layer.output_shape(shape)


class Small(Linear):
    """A layer that takes two of the four cases it inherits."""

    check_cases = None

    def output_shape(self, in_shape):
        if in_shape[0] > 3:
            raise ShapeError("at most three")
        return super().output_shape(in_shape)


def test_cases_may_be_options_alone_and_are_inherited_as_far_as_they_fit(plugged):
    listed = [("(3)", (3,)), ("(units=2)", (2,)), ("planted(1)", (1,)), ("(4)", (7,))]
    owner = type("Owner", (Small,), {"check_cases": listed})
    plugged(owner)
    assert cases("planted") == [
        ("planted(3)", (3,)),
        ("planted(units=2)", (2,)),
        ("planted(1)", (1,)),
        ("planted(4)", (7,)),
    ]
    plugged(type("Heir", (owner,), {}), "heir")
    assert cases("heir") == [("heir(3)", (3,)), ("heir(units=2)", (2,))]  # "planted(1)" is another layer
    plugged(type("Refuses", (owner,), {"output_shape": lambda self, in_shape: _refuse()}), "refuses")
    with pytest.raises(ShapeError, match="takes none of the input shapes"):
        cases("refuses")


def _refuse():
    raise ShapeError("no shape is right")


# -- planted faults ----------------------------------------------------------------------------------------------------


class WrongSign(Affine):
    @kernel
    def backward_input(gain, dy, dx):
        N, C = dy.shape[:2]
        S = dy.size // (N * C)
        dy3, dx3 = dy.reshape((N, C, S)), dx.reshape((N, C, S))
        for n in prange(N):
            for c in range(C):
                for s in range(S):
                    dx3[n, c, s] = -gain[c] * dy3[n, c, s]


class WrongFactor(Affine):
    @kernel
    def backward_parameters(x, dy, dgain, doffset):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, dy3 = x.reshape((N, C, S)), dy.reshape((N, C, S))
        for c in prange(C):
            g, o = 0.0, 0.0
            for n in range(N):
                for s in range(S):
                    g += dy3[n, c, s] * x3[n, c, s]
                    o += dy3[n, c, s]
            dgain[c] = 2.0 * g
            doffset[c] = o


class Transposed(Linear):
    check_cases = [("planted(3)", (3,))]

    @kernel
    def backward_weight(x, dy, dW):
        for j in prange(dW.shape[0]):
            for k in range(dW.shape[1]):
                total = 0.0
                for i in range(x.shape[0]):
                    total += dy[i, k] * x[i, j]
                dW[j, k] = total


class TransposedBeyond(Transposed):
    check_cases = [("planted(2)", (5,))]


class Accumulates(Affine):
    @kernel
    def backward_parameters(x, dy, dgain, doffset):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, dy3 = x.reshape((N, C, S)), dy.reshape((N, C, S))
        for c in prange(C):
            o = 0.0
            for n in range(N):
                for s in range(S):
                    dgain[c] = dgain[c] + dy3[n, c, s] * x3[n, c, s]
                    o += dy3[n, c, s]
            doffset[c] = o


class Race(Affine):
    @kernel
    def backward_parameters(x, dy, dgain, doffset):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, dy3 = x.reshape((N, C, S)), dy.reshape((N, C, S))
        for n in prange(N):
            for c in range(C):
                if n == 0:
                    dgain[c] = 0.0
                    doffset[c] = 0.0
                for s in range(S):
                    dgain[c] += dy3[n, c, s] * x3[n, c, s]
                    doffset[c] += dy3[n, c, s]


class Promotion(Affine):
    @kernel
    def forward(x, gain, offset, y):
        N, C = x.shape[:2]
        S = x.size // (N * C)
        x3, y3 = x.reshape((N, C, S)), y.reshape((N, C, S))
        for i in prange(N * C):
            n, c = i // C, i % C
            for s in range(S):
                y3[n, c, s] = gain[c] * x3[n, c, s] + offset[c] * S / S


@pytest.mark.parametrize(
    ("cls", "columns", "words"),
    [
        (WrongSign, ["gradient", "taylor"], ["x: dC/dx[0, 1]", "with the wrong sign", "backward_input writes it ("]),
        (WrongFactor, ["gradient", "taylor"], ["planted.1.gain: dC/dgain[", "all 2 times what they should be"]),
        (Transposed, ["gradient", "taylor"], ["planted.1.W: dC/dW[", "as if it were transposed"]),
        (Accumulates, ["writes"], ["planted_backward_parameters: dgain[0] depends", "not added to"]),
        (Race, ["races", "threads"], ["backward_parameters: iterations 0 and 1 of its loop both write dgain[0]"]),
        (Promotion, ["float32"], ["planted_forward: computes in float64", "+ offset[c] * S / S", "float(n)"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_a_planted_fault_is_caught_by_its_column(plugged, cls, columns, words):
    found, text = verdicts(plugged(cls))
    assert found == only(*columns)
    for word in ["planted on (", ", batch of ", *words]:
        assert word in text.replace("planted(3) on", "planted on")


def test_a_kernel_that_reaches_beyond_its_arrays_is_not_run(plugged):
    found, text = verdicts(plugged(TransposedBeyond))
    assert found["shapes"] == "FAIL" and found["gradient"] == "-"
    assert "planted_backward_weight: reaches beyond an array (" in text and "index 2 is out of bounds" in text
    assert "total += dy[i, k] * x[i, j]" in text and "W (2, 5)" in text


class WholeNumberOption(Layer):
    times: int = 3

    @elementwise
    def forward(x, times):
        return x * times

    @forward.derivative
    def backward_input(times):
        return times


class Forgets(Affine):
    """Leaves the last channel of dx unwritten."""

    @kernel
    def backward_input(gain, dy, dx):
        N, C = dy.shape[:2]
        S = dy.size // (N * C)
        dy3, dx3 = dy.reshape((N, C, S)), dx.reshape((N, C, S))
        for n in prange(N):
            for c in range(C - 1):
                for s in range(S):
                    dx3[n, c, s] = gain[c] * dy3[n, c, s]


class Overwrites(Layer):
    """Works in place on its input."""

    @kernel
    def forward(x, y):
        x1, y1 = x.reshape(x.size), y.reshape(y.size)
        for i in prange(x.size):
            x1[i] *= 2.0
            y1[i] = x1[i]

    @kernel
    def backward_input(dy, dx):
        dy1, dx1 = dy.reshape(dy.size), dx.reshape(dx.size)
        for i in prange(dx.size):
            dx1[i] = 2.0 * dy1[i]


class ByPlaceInBlock(Layer):
    """Weighs samples by their index in the block instead of the batch."""

    check_cases = [("planted", (2,))]

    @kernel
    def forward(x, y):
        for n in prange(x.shape[0]):
            for k in range(x.shape[1]):
                y[n, k] = x[n, k] * float(n + 1)

    @kernel
    def backward_input(dy, dx):
        for n in prange(dx.shape[0]):
            for k in range(dx.shape[1]):
                dx[n, k] = dy[n, k] * float(n + 1)


class TwoLoops(Affine):
    @kernel
    def forward(x, gain, offset, y):
        for i in prange(x.shape[0]):
            y[i] = 0.0
        for i in prange(x.shape[0]):
            y[i] = x[i]


class UnknownArgument(Affine):
    @kernel
    def forward(x, gain, shift, y):
        for i in prange(x.shape[0]):
            y[i] = x[i]


class NotFinite(Layer):
    @elementwise
    def forward(x):
        return np.log(x)

    @forward.derivative
    def backward_input(x):
        return 1 / x


class Sawtooth(Layer):
    """Kinks are closer together than any step, so no difference gives the derivative."""

    @elementwise
    def forward(x):
        return abs(x * 1234567.891 - np.floor(x * 1234567.891) - 0.5)

    @forward.derivative
    def backward_input(x):
        return 1234567.891 + 0.0 * x


class RaisesValueError(Layer):
    def output_shape(self, in_shape):
        channels, height, width = in_shape
        return channels, height, width


class TakesNothing(Layer):
    def output_shape(self, in_shape):
        raise ShapeError("planted: too picky")


class NeedsText(Layer):
    mode: str


class BadCases(Affine):
    check_cases = [(("planted", {"sise": 3}), (3,))]


class WrongCases(Affine):
    check_cases = ["planted"]


class OnlyAdds(Affine):
    @kernel
    def backward_input(gain, dy, dx):
        for n in prange(dy.shape[0]):
            dx[n] += gain[0] * dy[n]


class NoBackward(Layer):
    @elementwise
    def forward(x):
        return x


@pytest.mark.parametrize(
    ("cls", "column", "sentence"),
    [
        (WholeNumberOption, "float32", "'return x * times'"),
        (Forgets, "writes", "planted_backward_input: leaves dx[0, 2] unwritten"),
        (Overwrites, "writes", "planted_forward: changes x[0, 0], which it may only read"),
        (ByPlaceInBlock, "threads", "forward: sample 1 of y comes out differently when it is alone in its block"),
        (TwoLoops, "reference", "must hold exactly one top-level 'for ... in prange(n)' loop"),
        (UnknownArgument, "shapes", "forward takes 'shift', which cannot be bound"),
        (NotFinite, "shapes", "forward: gives nan for ordinary numbers"),
        (Sawtooth, "gradient", "derivatives lie at kinks, too many"),
        (RaisesValueError, "shapes", "output_shape fails on (3,) with ValueError: not enough values to unpack"),
        (TakesNothing, "shapes", "planted: takes none of the input shapes (3,), (2, 5), (2, 5, 4), (2, 3, 4, 3)"),
        (NeedsText, "shapes", "planted: no small value of its option mode is known; give the class check_cases"),
        (BadCases, "shapes", "planted on (3,), batch of 1: planted: unknown option"),
        (WrongCases, "shapes", "planted: check_cases is a list of (spec, input_shape), got ['planted']"),
        (OnlyAdds, "shapes", "planted.1: backward_input only adds to dx"),
        (NoBackward, "shapes", "the layer has no backward_input"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_other_faults_are_named_too(plugged, cls, column, sentence):
    found, text = verdicts(plugged(cls))
    assert found[column] == "FAIL"
    assert sentence in text
    assert "Traceback" not in text


def test_a_compiled_kernel_that_departs_from_its_reference_is_caught(monkeypatch):
    from nnjit.kernels.reference import dense

    def forward(x, W, b, y):
        y[...] = x @ W.T

    monkeypatch.setattr(dense, "forward", forward)
    found, text = verdicts("dense")
    assert found == only("reference", "extremes")
    assert "dense_forward: y[0, 0] is " in text and "the reference gives" in text


def test_bits_may_differ_a_little_where_svml_rounds(monkeypatch):
    from numba import config

    a = np.array([1.0, -2.0, np.nan])
    assert same_bits(a, a).all() and not same_bits(a, np.nextafter(a, 5))[:2].any()
    monkeypatch.setattr(config, "USING_SVML", True)
    assert same_bits(a, np.nextafter(a, 5))[:2].all()
    assert not same_bits(a, a * 1.001)[:2].any()


def test_a_fault_in_one_layer_leaves_the_others_certified(plugged):
    report = certify([plugged(WrongSign), "tanh"])
    assert [row.failed for row in report.rows] == [True, False]
    assert report.failed


# -- races -------------------------------------------------------------------------------------------------------------


def clear_first(x, y):
    y[:] = 0.0
    for i in prange(x.size):
        y[i] += x[i]


def sweep(x, y):
    for i in prange(1, x.size):
        y[i] = y[i - 1] + x[i]


def sum_by_helper(x, y):
    for i in prange(x.size):
        y[0] += _square(x[i])


def sum_a_row(x, y):
    rows = x.reshape((2, 3))
    for i in prange(2):
        y[i] = np.sum(rows[i] * 2.0) + rows[i, :2].max()


def overlapping_slices(x, y):
    for i in prange(3):
        y[i : i + 2] += x[i]


def read_the_total(x, y):
    total = y[0]
    for i in prange(x.size):
        y[i] = x[i] + total


@pytest.mark.parametrize(
    ("function", "sentences"),
    [
        (clear_first, ["the code outside of its loop, which every thread runs, writes y[0]"]),
        (sweep, ["iteration 2 of its loop reads y[1], which iteration 1 writes"]),
        (sum_by_helper, ["iterations 0 and 1 of its loop both write y[0]"]),
        (overlapping_slices, ["iterations 0 and 1 of its loop both write y[1]"]),
        (read_the_total, ["the code outside of its loop reads y[0], which iteration 0 writes"]),
        (sum_a_row, []),
    ],
)
def test_races_are_found_in_plain_functions(function, sentences):
    x = np.arange(6.0)
    y, expected = np.zeros(6), np.zeros(6)
    assert list(races(function, {"x": x, "y": y})) == sentences
    function(x, expected)
    np.testing.assert_array_equal(y, expected)  # recording does not change the result


def add(x, skip, y):
    for i in prange(y.size):
        y[i] = x[i] + skip[y.size - 1 - i]


def test_one_array_under_two_names_is_one_array():
    x = np.arange(4.0)
    assert races(add, {"x": np.ones(4), "skip": x.copy(), "y": x}) == {}
    assert races(add, {"x": np.ones(4), "skip": x, "y": x}) != {}


# -- derivatives -------------------------------------------------------------------------------------------------------


class Function:
    """A cost of a few numbers for `differences` and `remainders`."""

    def __init__(self, f, start):
        self.f, self.start = f, np.array(start)
        self.arrays = {"v": (0, self.start.shape)}

    def __call__(self, v):
        return self.f(v)


def test_kinks_are_told_from_wrong_derivatives():
    cost = Function(lambda v: abs(v[0]) + abs(v[1] - 3e-7) + np.sin(v[2]) + 1e3 * v[3] ** 3, [0.0, 0.0, 1.0, 1.0])
    gradient = np.array([1.0, -1.0, -math.cos(1.0), 3e3])
    found = differences(cost, gradient, np.random.default_rng(0))["v"]
    assert [d.verdict for d in found] == ["kink", "kink", "wrong", "right"]
    assert found[2].numeric == pytest.approx(math.cos(1.0), abs=1e-7)


@pytest.mark.parametrize(("error", "slope"), [(0.0, 2.0), (1.0, 1.0)])
def test_slope_of_the_remainder(error, slope):
    cost = Function(lambda v: np.sum(np.exp(v)), [0.1, -0.3, 0.5])
    gradient = np.exp(cost.start) + error
    assert remainders(cost, gradient, np.random.default_rng(0))[1] == pytest.approx(slope, abs=0.01)


def test_a_straight_line_has_no_slope_to_measure():
    cost = Function(lambda v: 3 * v[0], [1.0])
    assert math.isnan(remainders(cost, np.array([3.0]), np.random.default_rng(0))[1])
    assert remainders(cost, np.array([2.0]), np.random.default_rng(0))[1] == pytest.approx(1.0)


# -- names, table, picture ---------------------------------------------------------------------------------------------


def test_names_patterns_and_progress():
    seen = []
    report = certify(["flatten", "re?hape", "flatten"], progress=lambda *step: seen.append(step))
    assert [row.name for row in report.rows] == ["flatten", "reshape"]
    assert {(done, total, name.partition("(")[0]) for done, total, name, _ in seen} == {
        (0, 2, "flatten"),
        (1, 2, "reshape"),
    }
    assert len(set(seen)) == len(seen) > 4 and all(", batch of " in case for *_, case in seen)
    with pytest.raises(UnknownName, match="did you mean flatten"):
        certify(["flaten"])
    with pytest.raises(UnknownName, match=r"no layer, loss, optimizer or schedule matches 'cnv\*'"):
        certify(["cnv*"])


def test_an_alias_is_certified_once(plugged):
    registry.register("planted", aliases=("planted_too",), force=True)(Cube)
    try:
        assert [row.name for row in certify(["planted*"]).rows] == ["planted"]
    finally:
        registry.unregister("planted_too")
        registry.unregister("planted")


def test_a_plugin_that_cannot_be_imported_fails_alone(monkeypatch):
    from nnjit.registry import layers
    from nnjit.registry.sources import Source

    monkeypatch.setitem(layers._builtin, "absent", Source("nnjit.no_such_module:Absent"))
    report = certify(["absent", "flatten"])
    assert [row.failed for row in report.rows] == [True, False]
    assert "absent" in report.messages[0] and "cannot be imported" in report.messages[0]


def test_common_shapes_are_tried_where_a_plugin_names_none(plugged):
    class Anywhere(Affine):
        check_cases = None

    shapes = [shape for _, shape in cases(plugged(Anywhere))]
    assert shapes == [(3,), (2, 5), (2, 5, 4), (2, 3, 4, 3)]


def test_table_and_picture(plugged, tmp_path):
    from nnjit.plots import taylor

    report = certify(["flatten", plugged(WrongFactor)])
    lines = report.table().splitlines()
    assert lines[0].split() == ["layer", *COLUMNS]
    assert lines[1].split()[0] == "flatten" and lines[1].split()[-1] == "-"
    assert lines[2].split()[:3] == ["planted", "FAIL", "FAIL"]
    assert float(lines[2].split()[3]) == pytest.approx(1, abs=0.05)
    assert [line.index(word) for line, word in zip(lines, ["gradient", "PASS", "FAIL"], strict=False)] == [9] * 3
    assert lines[3] == "" and lines[4:] == [*report.messages, *report.notes]

    picture = taylor.draw(report.remainders, tmp_path / "taylor.svg")
    text = picture.read_text()
    assert text.count('id="remainder"') == text.count('id="slope 2"') == 2
