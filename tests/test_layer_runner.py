"""The runner of other tests catches kernels that write beyond, forget, accumulate or change inputs."""

import numpy as np
import pytest
from layer_runner import run
from nnjit.layers import Layer, constant, kernel
from numba import prange


class Fine(Layer):
    """y = gain x."""

    def parameters(self, in_shape):
        return {"gain": constant(2.0, (1,))}

    @kernel
    def forward(x, gain, y):
        for n in prange(len(x)):
            for j in range(x.shape[1]):
                y[n, j] = gain[0] * x[n, j]

    @kernel
    def backward_input(dy, gain, dx):
        for n in prange(len(dy)):
            for j in range(dy.shape[1]):
                dx[n, j] = gain[0] * dy[n, j]

    @kernel
    def backward_gain(x, dy, dgain):
        for one in prange(1):
            total = 0.0
            for n in range(len(x)):
                for j in range(x.shape[1]):
                    total += x[n, j] * dy[n, j]
            dgain[one] = total


@kernel
def beyond(x, y):
    for i in prange(x.size + 1):
        memory = y.base if i == x.size else y.reshape(-1)
        memory[-1 if i == x.size else i] = 0.0


@kernel
def forgets(x, y):
    for n in prange(len(x) - 1):
        y[n] = x[n]


@kernel
def accumulates(dy, dx):
    for n in prange(len(dy)):
        dx[n] += dy[n]


@kernel
def spoils(x, y):
    for n in prange(len(x)):
        y[n] = x[n]
        x[n] = 0.0


@kernel
def unknown(x, z):
    for n in prange(len(x)):
        z[n] = x[n]


X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("folder", ["reference", "cpu"])
def test_a_layer_runs(folder):
    got = run(Fine(), X, np.ones_like(X), {"gain": np.array([3.0])}, folder)
    np.testing.assert_array_equal(got["y"], 3 * X)
    np.testing.assert_array_equal(got["dx"], np.full_like(X, 3))
    np.testing.assert_array_equal(got["dgain"], [15])


@pytest.mark.parametrize(
    "attribute, planted, sentence",
    [
        ("forward", beyond, "wrote beyond y"),
        ("forward", forgets, "y was not written whole"),
        ("forward", spoils, "changed x"),
        ("forward", unknown, "no array or number is called"),
        ("backward_input", accumulates, "dx was not written whole"),
    ],
)
def test_faults_are_caught(attribute, planted, sentence):
    faulty = type("Faulty", (Fine,), {attribute: planted})
    with pytest.raises(AssertionError, match=sentence):
        run(faulty(), X, np.ones_like(X), folder="reference")
