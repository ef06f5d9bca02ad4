"""Remarks on runs that did not learn: planted faults, runs that learn, and the loss of a constant by minimisation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import nnjit
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data.split import Split
from nnjit.data.ten_points import TenPoints
from nnjit.training import losses
from nnjit.training.constant import constant_loss
from nnjit.training.program_log import ProgramLog
from nnjit.training.remarks import EPOCHS, Remarks
from scipy.optimize import minimize

pytestmark = pytest.mark.usefixtures("linked")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 4)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
HELD = X[:40], LABELS[:40]

# -- the loss of the best constant -------------------------------------------------------------------------------------


def cost(loss, y, weights):
    """Return the mean loss of a constant prediction (outputs,) by its definition, in NumPy."""

    def of(c):
        e = c - y if y.ndim == 2 else None
        if isinstance(loss, losses.CrossEntropy):
            log_p = c - np.log(np.exp(c - c.max()).sum()) - c.max()
            each = -log_p[y] if y.ndim == 1 else -(y * log_p).sum(1)
        elif isinstance(loss, losses.BinaryCrossEntropy):
            each = (np.logaddexp(0, c) - y * c).mean(1)
        elif isinstance(loss, losses.Quadratic):
            each = 0.5 * (e**2).sum(1)
        elif isinstance(loss, losses.MSE):
            each = (e**2).mean(1)
        elif isinstance(loss, losses.MAE):
            each = abs(e).mean(1)
        elif isinstance(loss, losses.Huber):
            d = loss.delta
            each = np.where(abs(e) <= d, e**2 / 2, d * (abs(e) - d / 2)).mean(1)
        else:
            each = (abs(e) ** loss.p).sum(1)
        return float((weights * each).mean())

    return of


SPECS = ["cross_entropy", "soft", "binary_cross_entropy", "quadratic", "mse", "mae", "huber(0.5)", "lp(1.5)", "lp(3)"]


@example("mae", 2, 3, 3, True)
@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SPECS), st.integers(2, 12), st.integers(1, 3), st.integers(0, 2**32), st.booleans())
def test_no_constant_has_a_smaller_loss(spec, count, outputs, seed, weigh):
    rng = np.random.default_rng(seed)
    loss = registry.losses.create("cross_entropy" if spec == "soft" else spec)
    y = rng.normal(size=(count, outputs)) * 3
    if spec == "cross_entropy":
        y, outputs = rng.integers(0, outputs + 1, count), outputs + 1
    elif spec == "soft":
        y = rng.dirichlet(np.ones(outputs), count)
    elif spec == "binary_cross_entropy":
        y = rng.random((count, outputs))
    weights = rng.random(count) + 0.1 if weigh else np.ones(count)
    found, of = constant_loss(loss, y, weights if weigh else None), cost(loss, y, weights)
    zeros = y.ndim == 1 or spec in ("soft", "binary_cross_entropy")
    starts = [np.zeros(outputs)] if zeros else [np.median(y, axis=0), *y]  # the simplex can stop at an edge of mae
    options = {"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000}
    least = min(minimize(of, start, method="Nelder-Mead", options=options).fun for start in starts)
    assert found == pytest.approx(least, rel=2e-3, abs=2e-3) and found <= least + 1e-9


def test_a_loss_whose_best_constant_is_unknown():
    assert constant_loss(registry.losses.create("lp(0.5)"), X) is None
    assert constant_loss(losses.Loss(), X) is None


def test_many_targets_are_sampled(monkeypatch):
    y = np.random.default_rng(1).normal(size=(20_000, 1))
    monkeypatch.setattr("nnjit.training.constant.NUMBERS", 5000)
    assert constant_loss(losses.MSE(), y) == pytest.approx(y.var(), rel=0.05)


# -- planted faults ----------------------------------------------------------------------------------------------------


def train(layers, y=LABELS, x=X, held=HELD, bias=None, seed=1, **options):
    net = registry.compose(list(layers), input_shape=x.shape[1:], seed=seed)
    if bias is not None:
        net.parameters[bias][...] = -100
    return net.fit(x, y, validation=held, **{"epochs": 12, "batch_size": 10, **options})


SMALL = ["dense(6)", "tanh", "dense(3)"]


def test_a_dead_layer_is_named_with_what_killed_it():
    remark, *more = train(["dense(6)", "relu", "dense(3)"], bias="dense.1.b").remarks
    assert not more and "dense.1 learned nothing" in remark and "relu.2 gave 0" in remark and "leaky_relu" in remark


def test_a_saturated_layer_is_named():
    (remark,) = train(SMALL, x=X * 1e6, held=None).remarks
    assert "dense.1 learned nothing" in remark and "tanh.2 is saturated" in remark and "scaled samples" in remark


def test_a_chain_of_sigmoids():
    (remark,) = train(["dense(6)", "sigmoid"] * 20 + ["dense(3)"], epochs=8).remarks
    assert "constant prediction" in remark and "the gradient of dense.1 is" in remark and "batchnorm" in remark


@pytest.mark.parametrize("rate, way", [(1e-12, "larger learning rate"), (300.0, "learning rate")])
def test_a_learning_rate_that_is_too_small_or_too_large(rate, way):
    history = train(["dense(3)"], y=RNG.permutation(LABELS), held=None, optimizer=f"sgd(lr={rate})")
    (remark,) = history.remarks
    assert "the loss of a constant prediction is" in remark and way in remark
    assert repr(history).splitlines()[-1] == f"note: {remark}"


def test_shuffled_labels():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(400, 4)).astype(np.float32), rng.integers(0, 3, 400)
    held = x[160:], y[160:]
    (remark,) = train(["dense(64)", "tanh", "dense(3)"], y=y[:160], x=x[:160], held=held, epochs=100).remarks
    assert "val_loss never fell below" in remark and "the loss of a constant prediction" in remark


def test_raw_columns():
    (remark,) = train(["dense(3)"], x=X * [1, 1, 1e4, 1], y=LABELS, held=None, optimizer="sgd(lr=1e-3)").remarks
    assert "standardize" in remark and "samples reach" in remark


def test_an_end_far_above_the_best():
    layers, wrong = ["dense(64)", "tanh", "dense(3)"], np.where(np.arange(40) % 8 == 0, LABELS[40:80], LABELS[:40])
    history = train(layers, held=(X[:40], wrong), epochs=400, optimizer="adam(lr=0.05)")
    figures = history.column("val_loss")
    assert figures[-1] > 1.5 * figures.min(), "otherwise this shows nothing"
    (remark,) = history.remarks
    assert f"val_loss ended at {figures[-1]:.4g}" in remark and f"in epoch {figures.argmin() + 1}" in remark
    history = train(layers, held=(X[:40], wrong), epochs=400, optimizer="adam(lr=0.05)", patience=50)
    assert history.restored and history.remarks == [], "its network has the best parameters"


# -- runs about which nothing is to be said ----------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_runs_that_learn(epochs):
    assert train(SMALL, epochs=epochs).remarks == []
    assert train(SMALL, epochs=epochs, held=None, optimizer="sgd(lr=0.1)").remarks == []


def test_a_solved_task_has_gradients_of_0():
    """Both samples are fitted exactly; then no gradient is left."""
    x = np.repeat(np.eye(4, dtype=np.float32)[:2], 80, axis=0)
    history = train(["dense(3)"], x=x, y=np.repeat([0, 2], 80), held=None, optimizer="sgd(lr=50)", epochs=40)
    assert history.epochs[-1]["loss"] < 1e-3 and history.remarks == []


@pytest.mark.parametrize("epochs", [1, 5, 300, 3000])
def test_the_ten_points(epochs):
    """The network of the paper, whose loss stays near that of a constant for some thousand steps, and then falls."""
    data = TenPoints().load().train
    net = registry.compose(["dense(2)", "sigmoid", "dense(3)", "sigmoid", "dense(2)", "sigmoid"], (2,), seed=1)
    history = net.fit(data.x, data.y, loss="quadratic", optimizer="sgd(lr=0.5)", epochs=epochs, batch_size=1)
    assert all("constant" in remark for remark in history.remarks) and len(history.remarks) <= (epochs == 300)


FIGURES = st.floats(1e-6, 1e6)


def remarks_of(figures, constant, held=True, patience=None, steps=50, norms=1.0, targets=None):
    """Return the remarks on a made history, whose best constant has this loss; `held` True: the same figures."""
    y = np.array([[-(constant**0.5)], [constant**0.5]] * 10) if targets is None else targets  # MSE: `constant`
    split, held = Split(np.zeros((len(y), 1)), y), figures if held is True else held or None
    trainer = SimpleNamespace(
        train=split, validation=None if held is None else split, loss=losses.MSE(), steps_per_epoch=steps,
        _directory=None, settings=SimpleNamespace(patience=patience),
        program=SimpleNamespace(layer_names=["dense.1"]),
        network=SimpleNamespace(graph=SimpleNamespace(nodes=[])),
    )  # fmt: skip
    made = Remarks(trainer)
    for k, figure in enumerate(figures):
        made.add({"loss": figure} | ({"val_loss": held[k]} if held is not None else {}))
    return made.at_end(np.full((steps, 1), norms))


@settings(max_examples=200, deadline=None)
@given(st.lists(FIGURES, min_size=1, max_size=30), FIGURES, st.booleans(), st.booleans())
def test_made_histories(figures, constant, held, patience):
    """Each remark is true, and none is made on a run whose last epoch is its best and better than a constant."""
    found = remarks_of(figures, constant, held, 5 if patience else None)
    best = min(figures)
    assert len(found) <= 1
    if figures[-1] == best and best < 0.98 * constant:
        assert not found
    if found and "constant" in found[0]:
        assert best > 0.989 * constant and len(figures) >= EPOCHS
    elif found:
        assert figures[-1] >= 1.5 * best and not patience and f"{figures[-1]:.4g}" in found[0]
        assert f"{best:.4g} in epoch {figures.index(best) + 1}" in found[0]


@given(st.floats(0.01, 0.9), st.integers(3, 30), FIGURES)
def test_falling_losses_are_no_reason_for_a_remark(factor, epochs, first):
    assume(first * factor**epochs > 1e-9)
    assert remarks_of([first * factor**epoch for epoch in range(epochs)], first / 1e6) == []


def noisy(figures, noise, seed=0):
    """Return figures that go up and down, such as those of a training with dropout."""
    return np.asarray(figures) * (1 + noise * np.random.default_rng(seed).normal(size=len(figures)))


SLOW = 0.7 + 1.2 * np.exp(-np.arange(30) / 20)
# Losses and validation losses like those of runs on bundled tables, and the word of the remark; the constant's is 0.69.
RUNS = {
    "learns": (np.geomspace(0.9, 0.05, 30), np.geomspace(0.8, 0.1, 30), ""),
    "learns little": (np.linspace(0.75, 0.66, 30), np.linspace(0.72, 0.67, 30), ""),
    "learns slowly, with dropout": (noisy(SLOW, 0.03), SLOW, ""),
    "learns slowly, with dropout, unvalidated": (noisy(SLOW, 0.03), None, ""),
    "is far above, and falls": (np.geomspace(90, 9, 30), None, ""),
    "falls slowly": (np.linspace(1.4, 1.3, 10), np.linspace(1.4, 1.3, 10), ""),
    "learns, but its training loss has dropout": (np.full(30, 0.7), np.linspace(0.7, 0.5, 30), ""),
    "a step that ends higher": ([0.9, 0.4, 0.2, 0.1, 0.12, 0.11], [0.8, 0.4, 0.2, 0.12, 0.16, 0.15], ""),
    "ends a little above its best": (np.geomspace(0.6, 0.01, 30), [*np.linspace(0.6, 0.05, 20), *[0.09] * 10], ""),
    "ends high by chance": (np.geomspace(0.6, 0.2, 10), [*np.geomspace(0.6, 0.22, 9), 0.38], ""),
    "was interrupted early": ([0.9, 0.8], [0.9, 0.8], ""),
    "overfits": (
        np.geomspace(0.6, 0.01, 30),
        [*np.linspace(0.6, 0.2, 10), *np.linspace(0.2, 0.9, 20)],
        "above its best",
    ),
    "rate too small": ([1.4] * 30, [1.4] * 30, "larger learning rate"),
    "rate too large": (noisy([5.0] * 30, 0.2), noisy([5.0] * 30, 0.2, 1), "smaller learning rate"),
    "a constant": (noisy([0.693] * 30, 0.003), noisy([0.695] * 30, 0.003), "belong together"),
    "other samples do not follow": (np.geomspace(0.7, 0.1, 30), np.geomspace(0.7, 2, 30), "val_loss never fell"),
    "explodes after it learned": ([0.6, 0.2, 0.1, 4.0, 7.0], [0.6, 0.2, 0.1, 4.0, 7.0], "smaller learning rate"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_table_of_runs(name):
    losses, held, word = RUNS[name]
    (*found,) = remarks_of(list(losses), 0.69, None if held is None else list(held))
    assert [word in remark for remark in found] == [True] * bool(word), found


@pytest.mark.parametrize("target", [np.zeros(160, int), np.full((160, 1), 7.0)])
def test_targets_that_are_all_the_same(target):
    remark, *more = remarks_of([0.5, 0.1], 1.0, targets=target)
    assert not more and "all 160 training samples have the same target" in remark
    assert not remarks_of([0.5, 0.1], 1.0, targets=target[:5]), "too few"


# -- where they are said -----------------------------------------------------------------------------------------------


def test_a_run_says_it_and_keeps_it(here):
    said = nnjit("run", "--layers", "flatten dense(10)", "--optimizer", "sgd(lr=1e-12)", "--epochs", 4, "--output", "a")
    (note,) = [line for line in said.splitlines() if line.startswith("note: ")]
    assert "constant prediction" in note and "larger learning rate" in note
    last = json.loads((here / "a/log.jsonl").read_text().splitlines()[-1])
    assert (
        last["remarks"] == [note.removeprefix("note: ")] == json.loads((here / "a/state.json").read_text())["remarks"]
    )
    assert note in nnjit("run", "--resume", "a")
    options = ["--layers", "flatten dense(10)", "--optimizer", "sgd(lr=1e-12)", "--epochs", 4]
    said = nnjit("run", *options, "--seeds", "0..1", "--set", "training.class_weights=balanced").splitlines()
    said = [line for line in said if not line.startswith("compiling")]
    assert [line[:5] for line in said[1:5]] == ["seed-", "note:", "seed-", "note:"], "nothing else is between"


def test_the_log_of_steps_covers_the_last_epoch():
    """`Program` keeps 1024 rows; an epoch may have more, and a run fewer than are asked for."""
    log = object.__new__(ProgramLog)
    log.ring = np.arange(40.0).reshape(8, 5)
    log.counters = np.zeros(6, np.int64)
    for rows, asked, expected in ((3, 10, [0, 1, 2]), (11, 4, [7, 0, 1, 2]), (30, 100, [6, 7, 0, 1, 2, 3, 4, 5])):
        log.counters[2] = rows
        np.testing.assert_array_equal(log.norms(asked), log.ring[expected, 3:])
