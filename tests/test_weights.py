"""Weights of samples and of classes, against repeated samples, plain sums, and PyTorch's weighted losses."""

import ctypes

import numpy as np
import pytest
from command_line import nnjit, records
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data import load
from nnjit.data.frames import table
from nnjit.data.split import Split
from nnjit.errors import DataError, NnjitError, ShapeError, SpecError
from nnjit.program.program import Program
from nnjit.training import config_file, weights
from nnjit.training.resume import check_data, fingerprints
from nnjit.training.settings import Settings
from numba import njit

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 4)).astype(np.float32)
LABELS = np.array([0] * 14 + [1] * 8 + [2] * 2)
VALUES = RNG.normal(size=(24, 2)).astype(np.float32)
# Layers whose samples are inlined, columns, rows, and both; the last is a batch-coupled one.
LAYERS = ["dense(3)", "dense(24) tanh dense(24) relu dense(3)", "dense(70) relu dense(300) relu dense(3)",
          "dense(300) relu dense(16) tanh dense(3)", "dense(9) batchnorm relu dense(3)"]  # fmt: skip
LOSSES = ["quadratic", "mse", "mae", "huber(delta=0.3)", "lp(p=3)", "cross_entropy", "binary_cross_entropy"]


def program(layers, loss, dtype="float64", batch=24, **options):
    net = registry.compose(layers, input_shape=(4,), dtype=dtype, seed=3)
    return Program(net, loss, "sgd(lr=0.1)", batch, labels=False, derivatives=True, **options)


def targets(loss, rng, count=24):
    if loss == "cross_entropy":
        return rng.dirichlet(np.ones(3), count)
    return rng.random((count, 3)) if loss == "binary_cross_entropy" else rng.normal(size=(count, 3))


# -- programs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers, loss",
    [*((LAYERS[1], loss) for loss in LOSSES), (LAYERS[0], "mse"), (LAYERS[2], "lp(p=3)"), (LAYERS[3], "huber")],
)
def test_a_weight_is_a_factor_of_the_loss_and_of_its_gradient(layers, loss):
    """The gradient is the weighted mean of those of single samples by the NumPy reference, which have no weights."""
    rng = np.random.default_rng(len(layers))
    x, t, w = rng.normal(size=(24, 4)), targets(loss, rng), rng.normal(size=24)
    made, plain = program(layers, loss, weighted=True), program(layers, loss, batch=1)
    state, one = made.new_state(), plain.new_state()
    reference = plain.derivatives.code("gradient").reference().loss_gradient
    found = made.gradient(state, x, t, w)
    cost, gradient = 0.0, np.zeros_like(state.gradient)
    for i in range(24):
        cost += w[i] * reference(one, x[i : i + 1], t[i : i + 1]) / 24
        gradient += w[i] * one.gradient / 24
    np.testing.assert_allclose(found, cost, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(state.gradient, gradient, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("layers", [LAYERS[0], LAYERS[3], LAYERS[4]])
def test_weights_of_one_change_nothing(layers):
    """Inlined code is fused as a whole, so there the last bits differ."""
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(50, 4)).astype(np.float32), rng.normal(size=(50, 3)).astype(np.float32)
    plain, made = program(layers, "mse", "float32", 16), program(layers, "mse", "float32", 16, weighted=True)
    order, ones = rng.permutation(50), np.ones(50, np.float32)
    for _ in range(2):
        mean = plain.epoch(plain.state, x, t, order)
        assert mean == pytest.approx(made.epoch(made.state, x, t, order, ones), rel=1e-6)
    np.testing.assert_allclose(plain.state.theta, made.state.theta, rtol=1e-4, atol=1e-6)


def test_an_epoch_takes_the_weights_of_its_order():
    rng = np.random.default_rng(2)
    x, t, w = rng.normal(size=(9, 4)), rng.normal(size=(9, 3)), rng.random(9)
    made, other = (program(LAYERS[0], "mse", batch=4, weighted=True) for _ in range(2))
    order = np.array([8, 1, 5, 5, 0, 7, 2])
    mean = made.epoch(made.state, x, t, order, w)
    terms = [other.step(other.state, x[rows], t[rows], w[rows]) * len(rows) for rows in (order[:4], order[4:])]
    assert mean == pytest.approx(sum(terms) / 7, rel=1e-14)
    np.testing.assert_array_equal(made.state.theta, other.state.theta)


@njit
def steps(step, epoch, gradient, state, x, t, w, order):
    one = step(state, x[0], t[0], w[0])
    return one, step(state, x, t, w), gradient(state, x, t, w), epoch(state, x, t, order, w)


def test_jitted_code_passes_weights():
    rng = np.random.default_rng(3)
    x, t, w = rng.normal(size=(4, 4)), rng.normal(size=(4, 3)), rng.random(4)
    made, other = (program(LAYERS[0], "mse", batch=4, weighted=True) for _ in range(2))
    order = np.arange(4)
    found = steps(made.step, made.epoch, made.gradient, made.state, x, t, w, order)
    state = other.state
    expected = other.step(state, x[:1], t[:1], w[:1]), other.step(state, x, t, w), other.gradient(state, x, t, w)
    assert found == (*expected, other.epoch(state, x, t, order, w))


def test_wrong_weights_of_a_call_are_refused():
    made, plain = program(LAYERS[0], "mse", weighted=True), program(LAYERS[0], "mse")
    x, t, order = X.astype(float), RNG.normal(size=(24, 3)), np.arange(24)
    w = np.ones(24)
    for call in (
        lambda: made.step(made.state, x, t), lambda: made.step(made.state, x, t, w[:9]),
        lambda: made.step(made.state, x, t, w.astype(np.float32)), lambda: made.epoch(made.state, x, t, order),
        lambda: made.epoch(made.state, x, t, order, w[1:]), lambda: made.gradient(made.state, x, t, w[None]),
        lambda: plain.step(plain.state, x, t, w), lambda: made.step(plain.state, x, t, w),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=r"weight|step|epoch"):
            call()


def test_c_gets_weights():
    made, other = (program(LAYERS[0], "mse", batch=4, weighted=True) for _ in range(2))
    x, t, w = X[:4].astype(float), RNG.normal(size=(4, 3)), RNG.random(4)
    function, loss = made.c_function("step"), np.empty(1)
    assert "const double *weight" in function.declaration
    pointer = ctypes.POINTER(ctypes.c_double)
    arrays = (each.ctypes.data_as(pointer) for each in (x, t, w, loss))
    assert function.ctypes(made.c_state(), *arrays, 4) == 0
    assert loss[0] == other.step(other.state, x, t, w)
    np.testing.assert_array_equal(made.state.theta, other.state.theta)


# -- training ----------------------------------------------------------------------------------------------------------


def descent(theta, counts):
    """Take three steps of softmax regression, each on the samples as often as they count."""
    rows = np.repeat(np.arange(24), counts)
    x, y = np.column_stack([X.astype(float), np.ones(24)])[rows], np.eye(3)[LABELS[rows]]
    losses = []
    for _ in range(3):
        z = x @ theta.T
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        losses.append(-np.log((p * y).sum(axis=1)).mean())
        theta = theta - 0.1 * (p - y).T @ x / len(rows)
    return theta, losses


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=24, max_size=24).filter(any))
def test_whole_weights_are_repeated_samples(counts):
    """Gradient descent on the whole set: the weighted mean over samples is the mean over repeated ones."""
    net = registry.compose("dense(3)", input_shape=(4,), dtype="float64", seed=2)
    W, b = (net.parameters[f"dense.1.{name}"] for name in "Wb")
    theta, losses = descent(np.column_stack([W, b]), counts)
    history = net.fit(X, LABELS, weights=counts, optimizer="sgd(lr=0.1)", batch_size=0, epochs=3)
    np.testing.assert_allclose(np.column_stack([W, b]), theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose([record["loss"] for record in history.epochs], losses, rtol=1e-10)


@pytest.mark.parametrize("how", ["in a row", "one by one", "callback", "streamed"])
def test_every_way_through_an_epoch_has_the_weights(how, monkeypatch, by_symbol):
    """The loss of the log and that of the validation are sums over samples, written plainly."""
    if how == "streamed":
        monkeypatch.setattr("nnjit.training.trainer.IN_MEMORY", 0)
    net = registry.compose("dense(3)", input_shape=(4,), dtype="float64", seed=4)
    w, held_w = RNG.random(24) + 0.1, RNG.random(9)
    y, start = LABELS, net.theta.copy()
    seen = []
    callbacks = [lambda record: seen.append(net.theta.copy())] if how == "callback" else []
    epochs = 300 if how == "in a row" else 1
    history = net.fit(
        X, y, loss="cross_entropy", optimizer="sgd(lr=0)", epochs=epochs, batch_size=5, weights=w,
        class_weights=[1, 2, 4], validation=(X[:9], y[:9], held_w), callbacks=callbacks,
    )  # fmt: skip
    np.testing.assert_array_equal(net.theta, start)
    z = net.predict(X.astype(float))
    terms = -(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[np.arange(24), y]
    by_class = np.array([1, 2, 4])[y]
    scale = (w * by_class).mean()
    for record in history.epochs[-2:]:
        assert record["loss"] == pytest.approx((w * by_class / scale * terms).mean(), rel=1e-12)
        expected = (held_w * by_class[:9] / scale * terms[:9]).mean()
        assert record["val_loss"] == pytest.approx(expected, rel=1e-12)
    assert record["accuracy"] == pytest.approx((z.argmax(axis=1) == y).mean())


def test_balanced_is_what_scikit_learn_computes():
    made = weights.weighted(Split(X, LABELS), None, "balanced", registry.losses.create("cross_entropy"), 3, None)[0]
    plain = np.array([24 / (3 * n) for n in (14, 8, 2)])[LABELS]
    np.testing.assert_allclose(made.weights, plain / plain.mean(), rtol=1e-14)
    try:
        from sklearn.utils.class_weight import compute_sample_weight
    except ImportError:
        return
    np.testing.assert_allclose(made.weights, compute_sample_weight("balanced", LABELS), rtol=1e-14)


def test_class_weights_against_pytorch():
    """The gradient of PyTorch's weighted cross-entropy, whose mean is over the sum of the weights."""
    torch = pytest.importorskip("torch")
    factors = np.array([0.5, 1.0, 6.0])
    net = registry.compose("dense(3)", input_shape=(4,), dtype="float64", seed=4)
    linear = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        linear.weight[:] = torch.from_numpy(net.parameters["dense.1.W"].copy())
        linear.bias[:] = torch.from_numpy(net.parameters["dense.1.b"].copy())
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.2)
    x, y = torch.from_numpy(X.astype(float)), torch.from_numpy(LABELS)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(linear(x), y, weight=torch.from_numpy(factors)).backward()
        optimizer.step()
    net.fit(X, LABELS, optimizer="sgd(lr=0.2)", batch_size=0, epochs=5, class_weights=factors)
    np.testing.assert_allclose(net.parameters["dense.1.W"], linear.weight.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_a_class_that_counts_more_is_predicted_more():
    """Samples of a class of one in six are found more often with balanced weights."""
    rng, found = np.random.default_rng(0), []
    x = np.repeat(rng.normal(size=(400, 1)), 4, axis=1)
    y = (x[:, 0] + rng.normal(size=400) > 1.5).astype(int)
    for classes in (None, "balanced"):
        net = registry.compose("dense(3)", input_shape=(4,), dtype="float64", seed=0)
        net.fit(x, y, epochs=60, batch_size=0, optimizer="adam(lr=0.05)", class_weights=classes)
        predicted = net.predict(x).argmax(axis=1)
        found.append((predicted[y == 1] == 1).mean())
    assert found[0] < 0.6 and found[1] > found[0] + 0.15


def test_one_output_and_soft_targets_have_classes():
    loss = registry.losses.create("binary_cross_entropy")
    y = (LABELS == 0).astype(np.int64)
    one = weights.weighted(Split(X, loss.targets(y, (1,))), None, {"1": 3.0}, loss, 1, None)[0].weights
    plain = np.where(y == 1, 3.0, 1.0)
    np.testing.assert_allclose(one, plain / plain.mean())
    loss, soft = registry.losses.create("cross_entropy"), np.random.default_rng(0).dirichlet(np.ones(3), 24)
    found = weights.weighted(Split(X, soft), None, {"0": 2.0, "2": 0.0}, loss, 3, None)[0].weights
    plain = soft @ [2.0, 1.0, 0.0]
    np.testing.assert_allclose(found, plain / plain.mean())


# -- data, config and command line -------------------------------------------------------------------------------------


def write(path, weighted=True):
    rows = [(x[0], x[1], "abc"[k], i % 4) for i, (x, k) in enumerate(zip(X, LABELS, strict=True))]
    head = "p,q,kind,many\n" if weighted else "p,q,kind\n"
    path.write_text(head + "".join(",".join(map(str, row[: 3 + weighted])) + "\n" for row in rows))
    return path


def test_tables_have_a_column_of_weights(tmp_path):
    path = write(tmp_path / "a.csv")
    found = load(f"csv({str(path)!r}, label='kind', weight='many', validation=0.25)")
    assert found.columns == ("p", "q") and "weight" in found.description
    cells = [line.split(",") for line in path.read_text().split()[1:]]
    both = {tuple(x): w for split in (found.train, found.validation)
            for x, w in zip(split.x.tolist(), split.weights, strict=True)}  # fmt: skip
    assert both == {(float(p), float(q)): float(many) for p, q, _, many in cells}
    frame = {name: np.array([row[k] for row in cells]) for k, name in enumerate(("p", "q", "kind", "many"))}
    frame |= {name: frame[name].astype(float) for name in ("p", "q", "many")}

    class Frame(dict):
        columns = property(lambda self: list(self))

        def __getitem__(self, name):
            return Column(dict.__getitem__(self, name))

    class Column:
        def __init__(self, values):
            self.to_numpy = lambda: values

    other = table(Frame(frame), label="kind", weight="many", validation=0.25)
    np.testing.assert_array_equal(other.train.weights, found.train.weights)


def test_archives_have_arrays_of_weights(tmp_path):
    w = RNG.random(24)
    np.savez(tmp_path / "a.npz", x_train=X, y_train=LABELS, w_train=w, x_val=X[:5], y_val=LABELS[:5], w_val=w[:5])
    found = load(f"npz({str(tmp_path / 'a.npz')!r})")
    np.testing.assert_array_equal(found.train.weights, w)
    np.testing.assert_array_equal(found.validation.weights, w[:5])


def test_a_run_on_the_command_line_says_how_it_weighs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.csv")
    data = f"csv({str(path)!r}, label='kind', weight='many')"
    said = nnjit("run", "--data", data, "--layers", "dense(3)", "--epochs", "2", "--class-weights", "a=1,c=3",
                 "--output", "run")  # fmt: skip
    assert "weighted by class and by sample" in said and "c " in said
    config, _ = config_file.read(tmp_path / "run" / "config.toml")
    assert config["training"]["class_weights"] == {"a": 1.0, "c": 3.0}
    epochs = [each for each in records(tmp_path / "run") if each.get("epoch_end")]
    dataset = load(data, seed=0)
    net = registry.compose("standardize dense(3)", input_shape=(2,))
    by_number = net.fit(
        dataset.train.x, dataset.train.y, weights=dataset.train.weights, class_weights=[1, 1, 3], epochs=2,
        validation=(dataset.validation.x, dataset.validation.y, dataset.validation.weights),
    )  # fmt: skip
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(by_number.column(name), [each[name] for each in epochs], rtol=1e-6)
    assert "weights" in nnjit("evaluate", "run")
    path.write_text(path.read_text().replace(",3\n", ",2\n"))
    assert "weights" in nnjit("run", "--resume", "run", "--epochs", "3", status=1)


def test_what_has_no_meaning_is_refused(tmp_path):
    net = registry.compose("dense(3)", input_shape=(4,))
    values = registry.compose("dense(2)", input_shape=(4,))
    for wrong, error, words in (
        ({"weights": np.ones(23)}, DataError, "24"),
        ({"weights": -np.ones(24)}, DataError, "row 0"),
        ({"weights": np.full(24, np.nan)}, DataError, "row 0"),
        ({"weights": np.zeros(24)}, SpecError, "all 0"),
        ({"weights": np.ones((24, 1))}, DataError, "(24, 1)"),
        ({"class_weights": "balance"}, SpecError, "balanced"),
        ({"class_weights": {"3": 1.0}}, SpecError, "0, 1, 2"),
        ({"class_weights": [1.0, -1.0]}, SpecError, "from 0 on"),
        ({"class_weights": {}}, SpecError, "balanced"),
        ({"class_weights": "0=1,1"}, SpecError, "0=1,1"),
        ({"class_weights": {0: True}}, SpecError, "balanced"),
        ({"validation": (X, LABELS, np.ones(24))}, SpecError, "both"),
    ):
        with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
            net.fit(X, LABELS, epochs=1, **wrong)
    with pytest.raises(SpecError, match="mse"):
        values.fit(X, VALUES, loss="mse", epochs=1, class_weights="balanced")
    path = write(tmp_path / "a.csv")
    for options in ("weight='kind'", "weight='mny'", "weight='many', features=['many']"):
        with pytest.raises(NnjitError, match=r"kind|many"):
            load(f"csv({str(path)!r}, label='kind', {options})")
    path.write_text(path.read_text().replace(",3\n", ",\n"))
    with pytest.raises(DataError, match="missing"):
        load(f"csv({str(path)!r}, label='kind', weight='many')")
    assert Settings(class_weights="a=1, b=2.5").class_weights == {"a": 1.0, "b": 2.5}


def test_a_run_that_had_no_weights_is_not_continued_with_some():
    """The data of a run is known by its fingerprint, and weights are part of it."""
    plain, more = Split(X, LABELS), Split(X, LABELS, weights=np.ones(24))
    for before, now in ((plain, more), (more, plain)):
        with pytest.raises(DataError, match="the weights of its samples"):
            check_data({"data": fingerprints(before, None)}, fingerprints(now, None))
