"""The certification of layers: right ones pass, and every planted fault is caught by its column, with its name."""

import math

import numpy as np
import pytest
from nnjit import registry
from nnjit.check import COLUMNS, certify
from nnjit.check.cases import CASES, cases
from nnjit.check.derivatives import differences, remainders
from nnjit.check.races import races
from nnjit.errors import ShapeError, UnknownName
from nnjit.layers import Layer, constant, elementwise, kernel, weight, zeros
from numba import njit, prange

SHARE = 0.5


@pytest.fixture
def plugged():
    """Registers layers for one test."""
    names = []

    def plug(cls, name="planted"):
        registry.register(name, force=True)(cls)
        names.append(name)
        return name

    yield plug
    for name in names:
        registry.unregister(name)


def verdicts(name):
    """Column -> verdict of one layer, and its messages as one text."""
    report = certify([name])
    (row,) = report.rows
    assert report.failed == row.failed == bool(report.messages)
    return {column: row.verdict(column) for column in COLUMNS}, "\n".join(report.messages)


def only(*failed):
    """Exactly these columns fail."""
    return {column: "FAIL" if column in failed else "PASS" for column in COLUMNS}


# -- layers that are right ---------------------------------------------------------------------------------------------


class Affine(Layer):
    """y = gain * x + offset for each channel. (N, C, *spatial) -> same shape."""

    start: float = 1.0

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
    """y = W x, and a helper function, whole-array statements and slices, as kernels may use them."""

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


def test_every_builtin_layer_has_cases():
    assert set(CASES) == {name for name in registry.names() if registry.find(name).source == "built-in"}


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
                    dgain[c] += dy3[n, c, s] * x3[n, c, s]
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
        (WrongSign, ["gradient", "taylor"], ["x: dC/dx[0, 0]", "all with the wrong sign"]),
        (WrongFactor, ["gradient", "taylor"], ["planted.1.gain: dC/dgain[0]", "all 2 times too large"]),
        (Transposed, ["gradient", "taylor"], ["planted.1.W: dC/dW[0, 1]", "as if it were transposed"]),
        (Accumulates, ["writes"], ["planted_backward_parameters: dgain[0] depends", "not added to"]),
        (Race, ["races", "threads"], ["planted_backward_parameters: ", "iterations 0 and 1 of its loop both write dgain[0]"]),
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
    assert "planted_backward_weight: reaches beyond an array: index 2" in text
