"""A network with a part that cannot learn is refused when it is composed: layers, losses, optimizers."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import NnjitError
from nnjit.layers import Layer, constant, elementwise, kernel, zeros
from nnjit.registry import compose
from nnjit.training.losses import Loss, losses
from nnjit.training.optimizers import Optimizer, optimizers
from numba import prange

pytestmark = pytest.mark.usefixtures("linked")  # test_few.py: inlined programs

NAME = "planted_for_test_duties"


class Scale(Layer):
    """y = gain x; the cases below take something from it or add something to it."""

    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape)}

    @kernel(form="matrix")
    def forward(x, gain, y):
        for n in prange(x.shape[0]):
            for i in range(x.shape[1]):
                y[n, i] = gain[i] * x[n, i]

    @kernel(form="matrix")
    def backward_input(gain, dy, dx):
        for n in prange(dy.shape[0]):
            for i in range(dy.shape[1]):
                dx[n, i] = gain[i] * dy[n, i]

    @kernel(form="matrix")
    def backward_parameters(x, dy, dgain):
        for i in prange(dgain.size):
            s = 0.0
            for n in range(x.shape[0]):
                s += dy[n, i] * x[n, i]
            dgain[i] = s


class NoGradient(Scale):
    backward_parameters = None


class Unread(Scale):
    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape), "offset": zeros(in_shape)}


class ReadBackwardOnly(Unread):
    @kernel
    def backward_offset(dy, offset, doffset):
        for i in prange(offset.size):
            doffset[i] = dy[0, i]


class TwoGradients(Scale):
    @kernel
    def backward_again(dy, dgain):
        for i in prange(dgain.size):
            dgain[i] = dy[0, i]


class Misspelt(Scale):
    @kernel
    def backward_parameters(x, dy, dgian):
        for i in prange(dgian.size):
            dgian[i] = 0.0


class Useless(Scale):
    @kernel
    def backward_more(x, dy):
        for i in prange(dy.shape[0]):
            dy[i, 0] = x[i, 0]


class GradientInBlocks(Scale):
    backward_parameters = None

    @kernel(form="matrix")
    def backward_input(x, gain, dy, dx, dgain):
        for n in prange(dy.shape[0]):
            for i in range(dy.shape[1]):
                dx[n, i] = gain[i] * dy[n, i]
                dgain[i] = dy[n, i] * x[n, i]


class WithoutOutput(Scale):
    @kernel
    def forward(x, gain):
        for n in prange(x.shape[0]):
            x[n, 0] = gain[0]


class UnwrittenOutput(Scale):
    @kernel
    def forward(x, gain, y):
        for n in prange(y.shape[0]):
            x[n, 0] = gain[0] * len(y) * y.size


class AddedOutput(Scale):
    @kernel
    def forward(x, gain, y):
        for n in prange(y.shape[0]):
            y[n, 0] += gain[0] * x[n, 0]


class UnwrittenDelta(Scale):
    @kernel
    def backward_input(gain, dy, dx):
        for n in prange(dx.shape[0]):
            dy[n, 0] = gain[0]


class WithoutDelta(Scale):
    @kernel
    def backward_input(gain, dy):
        for n in prange(dy.shape[0]):
            dy[n, 0] = gain[0]


class UnwrittenGradient(Scale):
    @kernel
    def backward_parameters(x, dy, dgain):
        for i in prange(dgain.size):
            s = x[0, i] * dy[0, i]  # noqa: F841


class DeltaInForward(Scale):
    @kernel
    def forward(x, gain, dy, y):
        for n in prange(x.shape[0]):
            y[n, 0] = gain[0] * x[n, 0] * dy[n, 0]


class DeltaOfInput(Scale):
    @kernel
    def backward_parameters(x, dx, dgain):
        for i in prange(dgain.size):
            dgain[i] = x[0, i] * dx[0, i]


class NoForward(Scale):
    forward = None


class ParametersOfAnAlias(Layer):
    forward, alias = None, True

    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape)}


REFUSED = {
    NoGradient: r"no kernel writes dgain, so the parameter gain would never be trained.*"
    r"backward_parameters\(x, dy, dgain\).*or make gain a buffer",
    Unread: "forward does not read the parameter offset",
    ReadBackwardOnly: "forward does not read the parameter offset",
    TwoGradients: "backward_again and backward_parameters all write dgain|"
    "backward_parameters and backward_again all write dgain",
    Misspelt: "backward_parameters takes 'dgian', which cannot be bound; known names: .*dgain",
    Useless: "backward_more takes no gradient of a parameter, so it would never be called",
    GradientInBlocks: "backward_input takes dgain, which needs a separate kernel",
    WithoutOutput: "forward does not write y",
    UnwrittenOutput: "forward does not write y",
    AddedOutput: "forward only adds to y",
    UnwrittenDelta: "backward_input does not write dx",
    WithoutDelta: "backward_input does not write dx",
    UnwrittenGradient: "backward_parameters does not write dgain",
    DeltaInForward: "forward takes dy, which only a backward kernel has",
    DeltaOfInput: "backward_parameters takes dx, which only backward_input writes",
    NoForward: "the layer has no forward kernel",
    ParametersOfAnAlias: "no kernel reads the parameter gain",
}


@pytest.fixture
def planted():
    """Return a function that registers a class for one test and returns its name."""
    made = []

    def plant(catalogue, cls):
        catalogue.register(NAME, force=True)(cls)
        made.append(catalogue)
        return NAME

    yield plant
    for catalogue in made:
        catalogue.unregister(NAME)


@pytest.mark.parametrize("cls", REFUSED, ids=lambda cls: cls.__name__)
def test_a_layer_that_could_not_learn_is_refused_when_composed(planted, cls):
    name = planted(registry.layers, cls)
    with pytest.raises(NnjitError, match=rf"{NAME}\.2: ({REFUSED[cls]})"):
        compose(["flatten", name, "dense(2)"], (3,))
    with pytest.raises(NnjitError, match=rf"residual\.1.*{NAME}\.1: ({REFUSED[cls]})"):
        compose([("residual", {"layers": [name]})], (3,))


@pytest.mark.parametrize(
    "layers", [["NAME"], ["dense(3)", "NAME", "relu"], [("residual", {"layers": ["NAME"]})]], ids=str
)
def test_every_parameter_that_composes_is_trained(planted, layers):
    name = planted(registry.layers, Scale)
    layers = [
        layer.replace("NAME", name) if isinstance(layer, str) else (layer[0], {"layers": [name]}) for layer in layers
    ]
    net = compose(layers, (3,))
    before = net.theta.copy()
    rng = np.random.default_rng(0)
    net.fit(rng.normal(size=(16, 3)), rng.normal(size=(16, 3)), loss="mse", optimizer="adam(lr=0.1)", epochs=3)
    assert (net.theta != before).all()


def test_all_parameters_of_every_built_in_layer_are_trained():
    """A step of SGD moves each of them: the built-in layers pass the checks of plug-ins."""
    for layers, shape in (
        ("conv(2, 3) batchnorm relu conv_transpose(2, 2) layernorm flatten dense(3)", (2, 6, 6)),
        ("conv1d(2, 3, bias=False) silu flatten dense(3, bias=False)", (2, 6)),
    ):
        net = compose(layers, shape, dtype="float64")
        x, dy = np.random.default_rng(0).normal(size=(4, *shape)), np.random.default_rng(1).normal(size=(4, 3))
        net.forward(x, training=True)
        net.backward(dy)
        for name, gradient in net.gradients.items():
            assert gradient.any(), name


def test_a_layer_without_backward_input_predicts_and_comes_first(planted):
    """Layers before it cannot be trained, which is refused before training; it may still predict, or come first."""

    class Forward(Layer):
        @elementwise
        def forward(x):
            return x + 1.0

    name = planted(registry.layers, Forward)
    net = compose([name, "dense(1)"], (3,))
    assert net.predict(np.ones((2, 3))).shape == (2, 1)
    net.fit(np.ones((2, 3)), np.ones((2, 1)), loss="mse", epochs=1)
    net = compose(["dense(3)", name, "dense(1)"], (3,))
    with pytest.raises(NnjitError, match=rf"{NAME}\.2: the layer has no backward_input, so nothing before it"):
        net.fit(np.ones((2, 3)), np.ones((2, 1)), loss="mse", epochs=1)


# -- losses and optimizers ---------------------------------------------------------------------------------------------


@kernel
def loss_forward(y, target, loss):
    for n in prange(len(y)):
        loss[n] = abs(y[n, 0] - target[n, 0])


@kernel
def loss_backward(y, target, dy):
    for n in prange(len(y)):
        dy[n, 0] = 1.0


@kernel
def writes_nothing(y, target, loss, dy):
    for n in prange(len(y)):
        target[n, 0] = y[n, 0]


@kernel
def descend(theta, gradient, rate):
    for i in prange(theta.size):
        theta[i] -= rate * gradient[i]


@kernel
def without_gradient(theta, rate):
    for i in prange(theta.size):
        theta[i] = rate


@kernel
def without_theta(gradient, rate):
    for i in prange(gradient.size):
        gradient[i] = rate


@pytest.mark.parametrize(
    "forward, backward, sentence",
    [
        (writes_nothing, loss_backward, "forward does not write loss"),
        (loss_forward, writes_nothing, "backward does not write dy"),
        (loss_backward, loss_backward, "forward does not write loss: it must be one of its arguments"),
        (loss_forward, loss_forward, "backward does not write dy: it must be one of its arguments"),
    ],
)
def test_a_loss_that_writes_nothing(planted, forward, backward, sentence):
    name = planted(losses, type("Planted", (Loss,), {"forward": forward, "backward": backward}))
    with pytest.raises(NnjitError, match=f"{NAME}: {sentence}"):
        compose("dense(1)", (3,)).compile(loss=name)


@pytest.mark.parametrize(
    "update, moments, sentence",
    [
        (without_gradient, (), "update does not take gradient"),
        (without_theta, (), "update does not write theta"),
        (descend, ("velocity",), "update does not take velocity"),
    ],
)
def test_an_optimizer_that_changes_nothing(planted, update, moments, sentence):
    space = {"update": update, "moments": moments, "lr": 0.1, "__annotations__": {"lr": float}}
    name = planted(optimizers, type("Planted", (Optimizer,), space))
    with pytest.raises(NnjitError, match=f"optimizer: {sentence}"):
        compose("dense(1)", (3,)).compile(loss="mse", optimizer=name)
