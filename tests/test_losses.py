"""Losses: PyTorch's values, the lecture's (1) and (2), central differences, exact cases, accepted targets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.errors import DataError, ShapeError, SpecError
from nnjit.kernels.compiler.kernel import kernel
from nnjit.training.losses import Loss
from nnjit.training.measure import MeanLoss
from numba import prange

pytestmark = pytest.mark.usefixtures("linked")

VECTORS = np.load(Path(__file__).parent / "vectors" / "training.npz")
SPECS = {
    "quadratic": "quadratic", "mse": "mse", "mae": "mae", "huber": "huber(0.7)", "lp_half": "lp(0.5)", "lp_1": "lp(1)",
    "lp_3": "lp(3)", "cross_entropy": "cross_entropy", "cross_entropy_labels": "cross_entropy",
    "binary_cross_entropy": "binary_cross_entropy",
}  # fmt: skip
both = pytest.mark.parametrize("folder", ["cpu", "reference", "columns"])  # those of the CPU, samples as columns
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def compute(spec, y, target, folder):
    """Compute C_i of every sample, and dC_i/dy."""
    made = registry.losses.create(spec)
    labels = "_labels" if target.dtype.kind == "i" else ""
    flat = y.reshape(len(y), -1)  # form "matrix"
    values = {"y": flat.copy(), "target": target if labels else target.reshape(flat.shape).astype(y.dtype)}
    values |= {"loss": np.full(len(y), np.nan, y.dtype), "dy": np.full_like(flat, np.nan), **made.options()}
    kernels = [getattr(made, attribute + labels) for attribute in ("forward", "backward")]
    if folder == "columns" and (found := made.column_kernel("forward" + labels, y.shape[1:])):
        kernels = [found, made.column_kernel("backward" + labels, y.shape[1:])]
        values |= {"y": flat.T.copy(), "dy": values["dy"].T.copy()}
    for each in kernels:
        assert each.form == "matrix"
        each.on("reference" if folder == "reference" else "cpu")(*(values[name] for name in each.arguments))
    if "columns" in kernels[0].name:
        values |= {name: values[name].T for name in ("y", "dy")}
    np.testing.assert_array_equal(values["y"], flat)
    return values["loss"], values["dy"].reshape(y.shape)


@pytest.mark.parametrize("name", SPECS)
@both
@dtypes
def test_against_pytorch(name, folder, dtype):
    v = {key: VECTORS[f"loss.{name}.{key}"] for key in ("y", "target", "cost", "gradient")}
    loss, dy = compute(SPECS[name], v["y"].astype(dtype), v["target"], folder)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(loss.mean(), v["cost"], rtol=tolerance)
    np.testing.assert_allclose(dy / len(dy), v["gradient"], rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("name", SPECS)
@both
def test_gradient_by_central_differences(name, folder):
    rng = np.random.default_rng(4)
    y = rng.normal(size=(3, 4))
    target = rng.uniform(0.1, 0.9, y.shape)
    if name == "cross_entropy_labels":
        target = np.array([1, 3, 0])
    _, dy = compute(SPECS[name], y, target, folder)
    h = 1e-6
    for j in range(4):
        e = h * np.eye(4)[j]
        up, down = (compute(SPECS[name], y + s * e, target, folder)[0] for s in (1, -1))
        np.testing.assert_allclose(dy[:, j], (up - down) / (2 * h), atol=2e-8)


@both
def test_lecture_1_and_2(folder):
    """C_i = 1/2 ||y_i - F(x_i)||_2^2 and dC/da[L] = a[L] - y."""
    a, t = np.random.default_rng(0).normal(size=(2, 5, 3))
    loss, dy = compute("quadratic", a, t, folder)
    np.testing.assert_allclose(loss, [0.5 * np.linalg.norm(t[i] - a[i]) ** 2 for i in range(5)], rtol=1e-13)
    np.testing.assert_array_equal(dy, a - t)


@both
def test_cross_entropy_is_the_logarithm_of_softmax(folder):
    y = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])) + np.array([[5.0], [-3.0]])
    loss, dy = compute("cross_entropy", y, np.array([0, 2]), folder)
    np.testing.assert_allclose(loss, [np.log(2), -np.log(0.7)], rtol=1e-13)
    np.testing.assert_allclose(dy, [[-0.5, 0.25, 0.25], [0.1, 0.2, -0.3]], atol=1e-14)
    one_hot = compute("cross_entropy", y, np.eye(3)[[0, 2]], folder)
    np.testing.assert_allclose(one_hot[0], loss, rtol=1e-13)
    np.testing.assert_allclose(one_hot[1], dy, atol=1e-14)


@dtypes
@pytest.mark.parametrize("classes", [7, 16, 31, 64, 100, 150])
def test_largest_logit_wherever_it_is(classes, dtype):
    """All logits are far below 0, where a row's missing numbers must not count as 0; NaN gives NaN."""
    for place in range(classes):
        y = np.full((2, classes), -2e3, dtype)
        y[0, place], y[1, place] = -1e3, np.nan
        loss, dy = compute("cross_entropy", y, np.array([place, 0]), "cpu")
        assert loss[0] == 0 and not dy[0].any()
        assert np.isnan(loss[1]) and np.isnan(dy[1]).all()


@both
@dtypes
def test_huge_logits(folder, dtype):
    loss, dy = compute("cross_entropy", np.array([[1e30, 0, -1e30]], dtype), np.array([0]), folder)
    assert loss[0] == 0 and (dy == 0).all()
    loss, dy = compute("binary_cross_entropy", np.array([[3e4], [-3e4]], dtype), np.array([[0.0], [0.0]]), folder)
    np.testing.assert_array_equal(loss, np.array([3e4, 0], dtype))
    np.testing.assert_array_equal(dy, [[1], [0]])


@both
@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_label_out_of_range_is_nan_for_its_sample_alone(label, folder):
    loss, dy = compute("cross_entropy", np.zeros((3, 3)), np.array([0, label, 2]), folder)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    np.testing.assert_array_equal(np.isnan(dy), [[False] * 3, [True] * 3, [False] * 3])


@both
@pytest.mark.parametrize("spec", ["lp(0.5)", "lp(1)", "lp(1.5)", "mae"])
def test_gradient_at_zero_error_is_zero(spec, folder):
    y = np.array([[1.0, -2.0]])
    loss, dy = compute(spec, y, y.copy(), folder)
    assert loss[0] == 0 and (dy == 0).all()


@both
@pytest.mark.parametrize("spec", [s for s in SPECS.values() if s != "cross_entropy"])
def test_nan_goes_through(spec, folder):
    loss, dy = compute(spec, np.array([[np.nan, 1.0], [0.0, 1.0]]), np.full((2, 2), 0.5), folder)
    np.testing.assert_array_equal(np.isnan(loss), [True, False])
    assert np.isnan(dy[0, 0]) and np.isfinite(dy[1]).all()


@both
def test_nan_logit_goes_through_cross_entropy(folder):
    for position in range(3):
        y = np.zeros((1, 3))
        y[0, position] = np.nan
        for target in (np.array([0]), np.eye(3)[[0]]):
            loss, dy = compute("cross_entropy", y, target, folder)
            assert np.isnan(loss[0]) and np.isnan(dy).all()


@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
def test_cross_entropy_wants_classes(shape):
    with pytest.raises(ShapeError, match="cross_entropy: expected an output of shape"):
        registry.losses.create("cross_entropy").validate_shape(shape)
    registry.losses.create("quadratic").validate_shape(shape)


@pytest.mark.parametrize("spec", ["huber(0)", "huber(inf)", "lp(0)", "lp(-1)", "lp(inf)"])
def test_options(spec):
    with pytest.raises(SpecError, match="must be a finite number above 0"):
        registry.losses.create(spec)


# -- targets -----------------------------------------------------------------------------------------------------------

ROWS = np.array([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])


def network(outputs):
    return registry.compose([f"dense({outputs})"], input_shape=(2,))


def tried(net, y, loss):
    """Collect the sentences of fit, evaluate and the validation of fit, which must agree."""
    x, said = np.ones((len(y), 2)), []
    good = np.full((2, *net.output_shape), 1 / net.output_shape[0])
    for call in (
        lambda: net.evaluate(x, y, loss=loss),
        lambda: net.fit(x, y, loss=loss, epochs=1),
        lambda: net.fit(np.ones((2, 2)), good, loss=loss, epochs=1, validation=(x, y)),
    ):
        try:
            call()
        except (DataError, ShapeError) as error:
            said.append(str(error).split(": ", 1)[1])
    assert len(said) in (0, 3) and len(set(said)) <= 1, said
    return said[0] if said else None


@pytest.mark.parametrize("kind", ["u1", "i1", "i8", "u8", "?", "f2", "f4", "f8"])
def test_binary_cross_entropy_takes_0_and_1(kind):
    y = np.array([0, 1, 1, 0]).astype(kind)
    net = network(1)
    if y.dtype.kind != "f":
        assert tried(net, y, "binary_cross_entropy") is None
    assert tried(net, y[:, None], "binary_cross_entropy") is None
    assert tried(network(2), y.reshape(2, 2), "binary_cross_entropy") is None


def test_labels_and_columns_of_labels_train_alike():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    thetas = []
    for targets in (y, y[:, None], y[:, None].astype(float), y.astype(bool)):
        net = network(1)
        history = net.fit(x, targets, loss="binary_cross_entropy", epochs=2, validation=(x, targets))
        z = x.astype(np.float32) @ net.parameters["dense.1.W"].T + net.parameters["dense.1.b"]
        assert history.epochs[-1]["val_accuracy"] == pytest.approx(np.mean((z[:, 0] > 0) == y))
        counts = np.zeros((2, 2), int)
        np.add.at(counts, (y, (z[:, 0] > 0).astype(int)), 1)
        assert history.epochs[-1]["val_confusion"] == counts.tolist()
        thetas.append(net.theta)
    for theta in thetas[1:]:
        np.testing.assert_array_equal(theta, thetas[0])


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([[0], [255]], "these are from 0 to 255: divide by 255, or take y > 0"),
        ([[-1.0], [1.0]], r"these are from -1 to 1: \(y \+ 1\) / 2 for -1 and 1"),
        ([[0.5], [1.5]], "these are from 0.5 to 1.5"),
        ([0, 1, 2], "labels of more than two classes are for cross_entropy"),
        ([-1, 1], r"labels begin at 0; for labels -1 and 1 use \(y \+ 1\) // 2"),
        ([[0, 1], [1, 0]], r"takes targets of the output's shape \(1,\), got \(2,\)"),
    ],
)
def test_binary_cross_entropy_refuses_other_targets(y, said):
    with pytest.raises((DataError, ShapeError), match=said):
        network(1).fit(np.ones((len(y), 2)), np.array(y), loss="binary_cross_entropy", epochs=1)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (ROWS * [-1, 1, 1] + [0, 0.5, 0], r"row 0 \(counted from 0\) holds -0.25"),
        (ROWS * 2, "row 0 .* sums to 2; for several classes at once use binary_cross_entropy"),
        (np.array([[1, 0, 0], [1, 1, 0]]), "row 1 .* sums to 2"),
        (np.array([[True, False, False], [False, False, False]]), "row 1 .* sums to 0"),
        (np.array([1, 2, 3]), "label 3, but the network has 3 outputs, for the labels 0 to 2; the labels begin at 1"),
        (np.array([0, 3]), "label 3, but the network has 3 outputs, for the labels 0 to 2$"),
        (np.array([1, 4]), "label 4, but the network has 3 outputs, for the labels 0 to 2$"),
        (np.array([0, -1]), "the label of row 1 .* is -1, but labels begin at 0$"),
        (
            np.array([0, 2**64 - 1], np.uint64),
            "the label of row 1 .* is 18446744073709551615, but labels are the numbers",
        ),
        (np.array([2**63, 1], np.uint64), "the label of row 0 .* is 9223372036854775808"),
        (np.array([2**40, 1]), "the label of row 0 .* is 1099511627776"),
        (np.array([2**70, 1]), "y must hold real numbers, but its dtype is object"),
    ],
)
def test_cross_entropy_refuses_what_are_no_classes(y, said):
    for call in (network(3).fit, network(3).evaluate):
        with pytest.raises((DataError, ShapeError), match=said):
            call(np.ones((len(y), 2)), y, loss="cross_entropy")


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_probabilities_that_a_softmax_made_are_taken(kind):
    z = np.random.default_rng(0).normal(size=(50, 200)).astype(kind)
    e = np.exp(z - z.max(1, keepdims=True))
    assert tried(network(200), e / e.sum(1, keepdims=True, dtype=kind), "cross_entropy") is None
    assert tried(network(3), ROWS.astype(kind), "cross_entropy") is None
    assert tried(network(3), np.eye(3)[[0, 2]].astype(int), "cross_entropy") is None


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 255.0]), min_size=4, max_size=4),
    loss=st.sampled_from(sorted(registry.losses.names())),
)
def test_every_loss_takes_what_it_says(values, loss):
    y = np.array(values).reshape(2, 2)
    fits = {
        "cross_entropy": (y >= 0).all() and (abs(y.sum(1) - 1) < 1e-3).all(),
        "binary_cross_entropy": y.min() >= 0 and y.max() <= 1,
    }
    options = {"p": 2.0} if loss == "lp" else {}
    made = registry.losses.create((loss, options))
    try:
        assert made.targets(y, (2,)) is y and fits.get(loss, True)
    except DataError as error:
        assert not fits[loss] and f"{loss} takes" in str(error)


def test_channels_last():
    x = np.zeros((4, 6, 7, 3))
    net = registry.compose(["conv(2, 3)", "flatten", "dense(2)"], input_shape=(6, 7, 3))
    for call in (net.fit, net.evaluate):
        with pytest.raises(DataError, match=r"have their channels last, .*; use x.transpose\(0, 3, 1, 2\)"):
            call(x, np.arange(4) % 2, loss="cross_entropy")
    right = registry.compose(["conv(2, 3)", "flatten", "dense(2)"], input_shape=(3, 6, 7))
    with pytest.raises(DataError, match="have their channels last"):
        right.fit(x, np.arange(4) % 2)
    right.fit(x.transpose(0, 3, 1, 2), np.arange(4) % 2, epochs=1)
    registry.compose(["flatten", "dense(2)"], input_shape=(6, 7, 3)).fit(x, np.arange(4) % 2, epochs=1)


# -- the mean over a data set ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("largest", [1.0, 1e25, np.inf, np.nan])
def test_the_mean_loss_is_the_references_in_float64(name, largest):
    """For outputs in float32 whose squares overflow there, and for those that are not finite."""
    rng = np.random.default_rng(4)
    y = rng.normal(size=(700, 4)).astype(np.float32)
    y[3, 1] = largest
    target = rng.uniform(0.1, 0.9, y.shape).astype(np.float32)
    if name == "cross_entropy_labels":
        target = rng.integers(0, 4, len(y))
    with np.errstate(all="ignore"):
        expected = compute(SPECS[name], y.astype(float), target, "reference")[0].mean()
    found = MeanLoss(registry.losses.create(SPECS[name]), (4,), target.shape[1:])(y, target)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_the_mean_of_a_loss_of_images_by_a_plug_ins_kernel():
    @kernel
    def forward(loss, y, power, target):
        for n in prange(y.shape[0]):
            loss[n] = 0.0
            for c in range(y.shape[1]):
                loss[n] += abs(y[n, c, 1, 0] - target[n, c, 1, 0]) ** power

    class Corner(Loss):
        power: float = 1.5

    Corner.forward = forward
    rng = np.random.default_rng(4)
    y, target = rng.normal(size=(2, 5, 3, 2, 2)).astype(np.float32)
    expected = (np.abs(y.astype(float) - target)[:, :, 1, 0] ** 1.5).sum(axis=1).mean()
    np.testing.assert_allclose(MeanLoss(Corner(), (3, 2, 2), (3, 2, 2))(y, target), expected, rtol=1e-12)
