"""The network: composed from specs, its flat vectors and their names, forward and backward pass, prediction."""

import subprocess
import sys

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import DeviceError, NnjitError, ShapeError, SpecError, UnknownName
from nnjit.layers import Layer, constant, kernel, zeros
from nnjit.network.network import Network
from nnjit.registry import compose
from numba import prange

pytestmark = pytest.mark.usefixtures("linked")  # test_few.py: inlined programs


def residual(*layers):
    return ("residual", {"layers": list(layers)})


def randomized(layers, input_shape, seed=0):
    """Make a float64 network with drawn parameters, so that a zero hides no gradient."""
    net = compose(layers, input_shape, dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    net.theta[:] = rng.normal(0, 0.5, net.theta.size)
    for name, buffer in net.buffers.items():
        buffer[...] = rng.uniform(0.5, 1.5, buffer.shape) if "variance" in name else rng.normal(size=buffer.shape)
    return net


# Composing


def test_all_forms_of_specs():
    forms = [
        "dense(3) relu dense(units=2)",
        ["dense(3)", "relu", "dense(2)"],
        [("dense", {"units": 3}), ("relu", {}), {"layer": "dense", "units": 2}],
        [registry.create("dense(3)"), "relu", registry.get("dense")(2)],
        ("dense(units=3, bias=True)", "relu", "dense(2)"),
    ]
    nets = [compose(form, (4,), seed=5) for form in forms]
    assert nets[0].output_shape == (2,) and nets[0].theta.size == 4 * 3 + 3 + 3 * 2 + 2
    for net in nets[1:]:
        assert [layer.spec() for layer in net.layers] == ["dense(units=3)", "relu", "dense(units=2)"]
        np.testing.assert_array_equal(net.theta, nets[0].theta)
    again = compose(**{k: v for k, v in nets[0].description().items() if k != "names"})
    np.testing.assert_array_equal(again.theta, nets[0].theta)
    assert nets[0].description()["names"] == ["dense", "relu"]
    one = compose(["dense(1)"], 4)  # a whole number is a shape, too
    assert one.input_shape == (4,)


@pytest.mark.parametrize(
    "layers, shape, error, words",
    [
        (["conv(2, 3)", "dense(4)"], (1, 6, 6), ShapeError, ["dense.2", "flatten"]),
        (["dense(4)", residual("dense(4)", "dense(3)")], (4,), ShapeError, ["residual.2", "(3,)", "(4,)"]),
        (["dense(4)", residual("tanh", residual("conv(2, 3)"))], (4,), ShapeError, ["residual.2.residual.2.conv.1"]),
        (["relu", "dens(4)"], (4,), UnknownName, ["dens", "dense"]),
        (["dense(4)", "dense(units=2, unit=3)"], (4,), SpecError, ["layer 2", "unit", "units"]),
        (["dense(0)"], (4,), SpecError, ["dense", "units", "0"]),
        ([], (4,), SpecError, ["layers"]),
        (["relu"], (), ShapeError, ["input_shape"]),
        (["relu"], (3, 0), ShapeError, ["input_shape"]),
        (["relu"], "12x", ShapeError, ["input_shape"]),
        (["relu"], (2.5,), ShapeError, ["input_shape"]),
    ],
)
def test_what_cannot_be_composed(layers, shape, error, words):
    with pytest.raises(error) as raised:
        compose(layers, shape)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(
    "options, error, word",
    [
        ({"dtype": "float16"}, SpecError, "float16"),
        ({"dtype": int}, SpecError, "int"),
        ({"device": "tpu"}, DeviceError, "tpu"),
        ({"seed": -1}, SpecError, "-1"),
        ({"seed": 2**31}, SpecError, "2147483648"),
        ({"seed": 1.0}, SpecError, "1.0"),
        ({"seed": True}, SpecError, "True"),
    ],
)
def test_options_that_are_refused(options, error, word):
    with pytest.raises(error, match=word):
        compose(["dense(2)"], (2,), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.dtype("float64")])
def test_dtypes(dtype):
    net = compose(["dense(2)"], (2,), dtype=dtype)
    assert net.dtype == np.dtype(dtype) == net.theta.dtype == net.forward([[1, 2]]).dtype


# Theta and its views


NESTED = ["conv(2, 3, padding='same')", residual("batchnorm", residual("conv(2, 1)", "tanh")), "flatten", "dense(3)"]


def test_names_and_places_in_theta():
    net = compose(NESTED, (2, 4, 4))
    shapes = {name: array.shape for name, array in net.parameters.items()}
    assert shapes == {
        "conv.1.W": (2, 2, 3, 3),
        "conv.1.b": (2,),
        "residual.2.batchnorm.1.gain": (2,),
        "residual.2.batchnorm.1.offset": (2,),
        "residual.2.residual.2.conv.1.W": (2, 2, 1, 1),
        "residual.2.residual.2.conv.1.b": (2,),
        "dense.4.W": (3, 32),
        "dense.4.b": (3,),
    }
    assert list(net.buffers) == ["residual.2.batchnorm.1.running_mean", "residual.2.batchnorm.1.running_variance"]
    assert list(net.gradients) == list(net.parameters)
    np.testing.assert_array_equal(np.concatenate([a.ravel() for a in net.parameters.values()]), net.theta)
    assert net.theta.size == net.gradient.size == sum(a.size for a in net.parameters.values())
    assert not set(net.buffers) & set(net.parameters) and net.flat_buffers.size == 4


VECTORS = [("parameters", "theta"), ("gradients", "gradient"), ("buffers", "flat_buffers")]


@pytest.mark.parametrize("views, flat", VECTORS)
def test_views_write_through(views, flat):
    net = compose(NESTED, (2, 4, 4))
    views, flat = getattr(net, views), getattr(net, flat)
    for i, (name, array) in enumerate(views.items(), start=1):
        array[...] = i
        assert np.shares_memory(array, flat) and np.all(views[name] == i)
    places = [np.flatnonzero(flat == i) for i in range(1, len(views) + 1)]
    assert all(np.all(np.diff(place) == 1) for place in places)  # in one piece
    assert sorted(np.concatenate(places)) == list(range(flat.size))  # all of it, nothing twice
    with pytest.raises(KeyError):
        views["dense.9.W"]


def test_without_bias():
    net = compose(["dense(3, bias=False)", "relu"], (2,), dtype="float64")
    assert list(net.parameters) == ["dense.1.W"] and net.theta.size == 6
    np.testing.assert_allclose(
        net.forward([[1.0, -2.0]]), np.maximum(net.parameters["dense.1.W"] @ [1.0, -2.0], 0)[None]
    )


@pytest.mark.parametrize("word", ["x", "dy", "training", "seed", "first", "two words"])
def test_parameter_names_that_mean_something_else(word):
    class Odd(Layer):
        def parameters(self, in_shape):
            return {word: zeros((1,))}

    registry.register("odd_for_test_network", force=True)(Odd)
    try:
        with pytest.raises(SpecError, match=r"odd_for_test_network\.1"):
            compose(["odd_for_test_network"], (2,))
    finally:
        registry.unregister("odd_for_test_network")


def test_an_argument_that_cannot_be_bound_says_what_can():
    @registry.register("unbound_for_test_network", force=True)
    class Unbound(Layer):
        scale: float = 2.0

        def parameters(self, in_shape):
            return {"gain": constant(1.0, in_shape)}

        @kernel
        def forward(x, gein, y):
            for i in prange(x.shape[0]):
                y[i] = gein[0] * x[i]

    try:
        with pytest.raises(NnjitError, match=r"unbound_for_test_network\.1: forward takes 'gein'.*gain.*dgain.*scale"):
            compose(["unbound_for_test_network"], (2,)).forward(np.zeros((1, 2)))
    finally:
        registry.unregister("unbound_for_test_network")


# Initialisation


def test_initialisation_is_deterministic():
    one, same, other = (compose(["dense(50)", "relu", "dense(3)"], (20,), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.theta, same.theta)
    assert np.mean(one.theta == other.theta) < 0.1  # the biases
    before = one.theta.copy()
    one.theta[:] = 0
    one.initialize(1)
    np.testing.assert_array_equal(one.theta, before)
    double = compose(["dense(50)", "relu", "dense(3)"], (20,), seed=1, dtype="float64")
    np.testing.assert_array_equal(double.theta.astype("float32"), one.theta)
    two = compose(["dense(20)", "dense(20)"], (20,), seed=1)  # each layer draws other numbers
    assert not np.any(two.parameters["dense.1.W"] == two.parameters["dense.2.W"])


@pytest.mark.parametrize(
    "activation, deviation",
    [
        ("relu", np.sqrt(2 / 400)),
        ("gelu", np.sqrt(2 / 400)),
        ("tanh", np.sqrt(2 / 500)),
        ("sigmoid", np.sqrt(2 / 500)),
        ("selu", np.sqrt(1 / 400)),
        ("softmax", np.sqrt(2 / 500)),
    ],
)
def test_the_activation_that_follows_chooses(activation, deviation):
    """The deviation of 40,000 draws (400 inputs, 100 units) is within 3 % of He's, Glorot's and LeCun's formulas."""
    W = compose(["dense(100)", activation], (400,), seed=3).parameters["dense.1.W"]
    assert np.std(W) == pytest.approx(deviation, rel=0.03) and abs(np.mean(W)) < 0.02 * deviation * 5
    own = compose(["dense(100, init='normal(0.5)')", activation], (400,), seed=3).parameters["dense.1.W"]
    assert np.std(own) == pytest.approx(0.5, rel=0.03)


def test_biases_gains_and_buffers_start_as_declared():
    net = compose(["dense(5)", "batchnorm"], (3,))
    assert not net.parameters["dense.1.b"].any() and not net.parameters["batchnorm.2.offset"].any()
    assert np.all(net.parameters["batchnorm.2.gain"] == 1) and np.all(net.buffers["batchnorm.2.running_variance"] == 1)
    net.forward(np.random.default_rng(0).normal(size=(8, 3)), training=True)
    assert net.buffers["batchnorm.2.running_mean"].any()
    net.initialize(0)
    assert not net.buffers["batchnorm.2.running_mean"].any()


# Forward and backward


GRADIENTS = {
    "a chain": (["dense(4)", "sigmoid", "dense(3)", "tanh", "dense(2)"], (3,)),
    "a residual of dense layers": (["dense(4)", residual("dense(4)", "tanh"), "dense(2)"], (3,)),
    "a residual of nothing": (["dense(4)", residual("identity"), "tanh"], (3,)),
    "a residual that ends in an alias": (["dense(4)", residual("dense(4)", "flatten"), "tanh"], (3,)),
    "a residual that begins with an alias": (["dense(4)", residual("flatten", "dense(4)"), "tanh"], (3,)),
    "residuals in residuals": (["dense(4)", residual(residual("dense(4)", residual("flatten")), "tanh")], (3,)),
    "a residual at the start": ([residual("tanh", "dense(3)"), "dense(2)"], (3,)),
    "batch normalisation": ([residual("batchnorm", "dense(4)"), residual("dense(4)", "batchnorm"), "dense(2)"], (4,)),
    "dropout": (["dense(6)", "dropout(0.5)", "dense(2)"], (3,)),
    "aliases": (["flatten", "dense(6)", "reshape((2, 3))", "identity", "softmax", "flatten"], (3, 2)),
    "maps": ([residual("avgpool(3, stride=1, padding=1)", "batchnorm"), "flatten", "layernorm", "dense(2)"], (2, 3, 3)),
    "nothing learned": (["tanh", "softmax"], (3,)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", GRADIENTS)
def test_backward_against_central_differences(case, training):
    """Derivatives of C = sum dy o F(x) by every parameter and every input."""
    layers, shape = GRADIENTS[case]
    net = randomized(layers, shape)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, *shape))
    dy = rng.normal(size=(3, *net.output_shape))
    running = net.flat_buffers.copy()

    def C():
        net.flat_buffers[:] = running
        return np.sum(net.forward(x, training=training) * dy)

    C()
    dx, gradient = net.backward(dy), net.gradient.copy()
    for array, slope in ((net.theta, gradient), (x.reshape(-1), dx.ravel())):
        for i in range(array.size):
            kept, h = array[i], 1e-5
            array[i] = kept + h
            above = C()
            array[i] = kept - h
            below = C()
            array[i] = kept
            assert slope[i] == pytest.approx((above - below) / (2 * h), abs=2e-8), f"{case}: {i}"


def test_backward_repeats_and_follows_the_last_forward():
    """Gradients are written, not added; each batch size has its program."""
    net = randomized(["dense(4)", "tanh", "dense(2)"], (3,))
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    net.forward(x)
    first, again = net.backward(dy), net.backward(dy)
    gradient = net.gradient.copy()
    np.testing.assert_array_equal(first, again)
    net.forward(x[:2])
    with pytest.raises(ShapeError, match="dy"):
        net.backward(dy)
    net.backward(dy[:2])
    half = net.gradient.copy()
    net.forward(x[2:])
    net.backward(dy[2:])
    np.testing.assert_allclose(half + net.gradient, gradient, rtol=1e-12, atol=1e-14)  # a sum over the batch


def test_backward_needs_forward():
    with pytest.raises(ShapeError, match="forward first"):
        compose(["dense(2)"], (2,)).backward(np.zeros((1, 2)))


@pytest.mark.parametrize("count", [1, 4])
def test_any_memory_order_and_a_batch_of_one(count):
    net = randomized(["flatten", "dense(4)", "tanh", "dense(2)"], (2, 3))
    base = np.random.default_rng(3).normal(size=(3, 2, 2 * count)).transpose(2, 1, 0)
    x = base[::2]
    assert x.shape == (count, 2, 3) and not x.flags.c_contiguous
    dy = np.asfortranarray(np.random.default_rng(4).normal(size=(2, count))).T[:, ::-1]
    kept = x.copy()
    y = net.forward(x)
    dx = net.backward(dy)
    np.testing.assert_array_equal(y, net.forward(np.ascontiguousarray(x)))
    np.testing.assert_array_equal(dx, net.backward(np.ascontiguousarray(dy)))
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_allclose(net.predict(x), y, rtol=1e-12)
    assert y.flags.owndata and dx.shape == x.shape
    y[...] = 0  # the caller owns the result
    assert np.any(net.forward(x))


@pytest.fixture(scope="module")
def predicting():
    return randomized(["flatten", "dense(4)", "tanh", "dense(2)"], (2, 3))


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 130])
def test_predict_takes_any_number_of_samples(predicting, count):
    x = np.random.default_rng(count).normal(size=(count, 2, 3))
    W1, b1, W2, b2 = predicting.parameters.values()
    expected = np.tanh(x.reshape(count, 6) @ W1.T + b1) @ W2.T + b2
    np.testing.assert_allclose(predicting.predict(x), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(predicting.forward(x), expected, rtol=1e-12, atol=1e-14)


def test_predict_follows_theta(predicting):
    x = np.ones((3, 2, 3))
    kept = predicting.theta.copy()
    predicting.theta[:] = 0
    assert not predicting.predict(x).any()
    predicting.theta[:] = kept
    assert predicting.predict(x).all()


@pytest.mark.parametrize("x", [np.zeros((2, 6)), np.zeros((0, 2, 3)), np.zeros(3), np.zeros((2, 3)), 1.0])
def test_arrays_that_do_not_fit(predicting, x):
    for run in (predicting.forward, predicting.predict):
        with pytest.raises(ShapeError, match=r"x: expected shape \(N, 2, 3\)"):
            run(x)


@pytest.mark.parametrize("x", [[["a", "b"]], [[1.0], [1.0, 2.0]], [None, {}]])
def test_what_is_no_array_of_numbers(predicting, x):
    with pytest.raises(ShapeError, match="x: expected an array of numbers"):
        predicting.forward(x)


def test_layers_may_be_instances_alone():
    net = Network([registry.create("dense(2)")], (3,))
    assert net.output_shape == (2,) and "dense" in repr(net)


@pytest.mark.parametrize("call", ["forward", "predict"])
def test_numbers_that_the_dtype_cannot_hold(call):
    """Such inputs would become infinite on the way, and the result NaN; infinite inputs are allowed."""
    net = compose("dense(3) tanh", (2,))
    for given in (np.full((1, 2), 1e300), [[1.0, 1e39]]):
        with pytest.raises(ShapeError, match=r"^x: holds numbers that are too large for float32"):
            getattr(net, call)(given)
    assert np.isnan(getattr(net, call)([[np.nan, 1.0]])).all()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_pauses_only_meanwhile(enabled):
    """A new process, in which everything is imported and compiled for the first time."""
    code = "gc.enable()" if enabled else "gc.disable()"
    code = (
        f"import gc, nnjit; {code}; nnjit.compose('dense(2)', (3,)).predict([[1.0, 2.0, 3.0]]); print(gc.isenabled())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == f"{enabled}\n"
