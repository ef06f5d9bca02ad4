"""Metrics of sets, whole and in parts, against plain definitions and scikit-learn; sentences for what does not fit."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from command_line import nnjit, records
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import plots, registry
from nnjit.data import load
from nnjit.errors import NnjitError, SpecError, UnknownName, UsageError
from nnjit.network import compose
from nnjit.training import Metric, measure
from nnjit.training.metrics import base
from nnjit.training.metrics.predictions import Predictions, Targets, classes, confusion_matrix, outputs_of

pytestmark = pytest.mark.usefixtures("linked")

NAN = math.nan
EACH = "(average='none')"


def measured(spec, y, target, loss=None, cuts=()):
    """Measure a set that comes in parts."""
    y, target = np.asarray(y), np.asarray(target)
    loss = None if loss is None else registry.losses.create(loss)
    outputs = outputs_of(loss, y.shape[1:], target)
    metric = base.create_one(spec)
    metric.check(outputs)
    with np.errstate(all="ignore"):
        pairs = zip(np.split(y, cuts), np.split(target, cuts), strict=True)
        return metric.value([metric.part(Predictions(a, Targets(t, outputs))) for a, t in pairs])


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


@st.composite
def cut(draw, count):
    return sorted(draw(st.sets(st.integers(1, count - 1), max_size=3))) if count > 1 else []


@st.composite
def classified(draw):
    """Draw logits with equal rows and numbers, absent classes, one sample; one output for two classes."""
    many, count = draw(st.integers(2, 12)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    present = rng.permutation(many)[: draw(st.integers(1, many))]
    single = many == 2 and draw(st.booleans())
    rows = rng.normal(size=(max(1, count // draw(st.integers(1, 4))), 1 if single else many))
    if draw(st.booleans()):
        rows = np.round(rows)
    y = rows[rng.integers(0, len(rows), count)].astype(draw(st.sampled_from([np.float32, np.float64])))
    return y, rng.choice(present, count), many, draw(cut(count))


@st.composite
def labelled(draw):
    """Draw logits of several labels, some of which are always or never there."""
    many, count = draw(st.integers(2, 6)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    y = np.round(rng.normal(size=(count, many)) - rng.integers(-1, 2, many) * 2, 1)
    target = (rng.random((count, many)) < rng.choice([0, 0.3, 0.7, 1], many)).astype(float)
    return y, target, many, draw(cut(count))


@st.composite
def valued(draw):
    """Draw outputs and targets in units of any size, some of them constant."""
    many, count = draw(st.integers(1, 4)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    unit, offset = 10.0 ** rng.integers(-6, 7, many), rng.choice([0, 1, 1e3], many)
    target = (rng.normal(size=(count, many)) * rng.integers(0, 2, many) + offset) * unit
    return target + rng.normal(size=(count, many)) * unit * 0.3, target, many, draw(cut(count))


# -- plain definitions -------------------------------------------------------------------------------------------------


def class_of(row):
    return int(row[0] > 0) if len(row) == 1 else max(range(len(row)), key=lambda c: (row[c], -c))


def area(scores, has):
    """Share of pairs (with, without) in which the score with it is larger; 1/2 for equal ones."""
    pairs = [(s > r) + (s == r) / 2 for s, one in zip(scores, has, strict=True) if one
             for r, other in zip(scores, has, strict=True) if not other]  # fmt: skip
    return sum(pairs) / len(pairs) if pairs else NAN


def ratio(a, b):
    return a / b if b else 0.0


def counted(predicted, actual, name):
    """Precision, recall or F1 of booleans; NaN if there is neither a prediction nor a case."""
    right, p, a = sum(predicted & actual), sum(predicted), sum(actual)
    found = {"precision": ratio(right, p), "recall": ratio(right, a), "f1": ratio(2 * right, p + a)}
    return found[name] if p + a else NAN


def mean(numbers):
    kept = [number for number in numbers if not math.isnan(number)]
    return sum(kept) / len(kept) if kept else NAN


@settings(max_examples=60, deadline=None)
@given(classified())
def test_metrics_of_classes_are_their_definitions(drawn):
    y, t, many, cuts = drawn
    loss = "binary_cross_entropy" if y.shape[1] == 1 else "cross_entropy"
    predicted = np.array([class_of(row) for row in y])
    assert np.array_equal(classes(y), predicted)
    full = np.column_stack([0 * y[:, 0], y[:, 0]]) if y.shape[1] == 1 else y
    p = np.exp(full.astype(float) - full.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    forms = [t[:, None].astype(float)] if y.shape[1] == 1 else [t, np.eye(many)[t]]
    for target in forms:

        def value(spec, target=target):
            return measured(spec, y, target, loss, cuts)

        agree(value("accuracy"), np.mean(predicted == t))
        recalls = [np.mean(predicted[t == c] == c) for c in set(t.tolist())]
        agree(value("balanced_accuracy"), mean(recalls))
        for name in ("precision", "recall", "f1"):
            each = [counted(predicted == c, t == c, name) for c in range(many)]
            agree(value(name + EACH), each)
            agree(value(name), mean(each))
        agree(value("log_loss"), np.mean([-np.log(p[i, c]) for i, c in enumerate(t)]))
        for k in range(1, many):
            right = [c in sorted(range(many), key=lambda j: (-row[j], j))[:k] for row, c in zip(full, t, strict=True)]
            agree(value(f"top_k(k={k})"), np.mean(right))
        if many > 1:
            agree(value("top_k(1)"), value("accuracy"))
    if many == 2:
        expected = area((full[:, 1].astype(float) - full[:, 0]).tolist(), (t == 1).tolist())
        agree(measured("auc" + EACH, y, forms[0], loss, cuts), [expected] * 2)
        agree(measured("auc", y, forms[0], loss, cuts), expected)


@settings(max_examples=60, deadline=None)
@given(classified())
def test_the_area_of_many_classes(drawn):
    """Rows are equal or differ: probabilities that are equal but for rounding would be a tie or not by chance."""
    y, t, many, cuts = drawn
    y = np.repeat(np.random.default_rng(len(y)).normal(size=(-(-len(y) // 2), max(many, 3))), 2, axis=0)[: len(t)]
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    each = [area(p[:, c].tolist(), (t == c).tolist()) for c in range(max(many, 3))]
    agree(measured("auc" + EACH, y, t, "cross_entropy", cuts), each)
    agree(measured("auc", y, t, "cross_entropy", cuts), mean(each))


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_metrics_of_labels_are_their_definitions(drawn):
    y, t, many, cuts = drawn

    def value(spec):
        return measured(spec, y, t, "binary_cross_entropy", cuts)

    predicted, actual = y > 0, t > 0.5
    agree(value("accuracy"), np.mean(predicted == actual))
    agree(value("subset_accuracy"), np.mean([np.array_equal(a, b) for a, b in zip(predicted, actual, strict=True)]))
    for name in ("precision", "recall", "f1"):
        each = [counted(predicted[:, c], actual[:, c], name) for c in range(many)]
        agree(value(name + EACH), each)
        agree(value(name), mean(each))
    each = [area(y[:, c].tolist(), actual[:, c].tolist()) for c in range(many)]
    agree(value("auc" + EACH), each)
    agree(value("auc"), mean(each))
    s = 1 / (1 + np.exp(-y))
    agree(value("log_loss"), -np.mean(np.log(np.where(actual, s, 1 - s))))


@settings(max_examples=60, deadline=None)
@given(valued())
def test_metrics_of_values_are_their_definitions(drawn):
    y, t, many, cuts = drawn

    def value(spec):
        return measured(spec, y, t, "mse", cuts)

    e = y - t
    for name, each in (
        ("mae", [np.mean(np.abs(e[:, j])) for j in range(many)]),
        ("rmse", [np.sqrt(np.mean(e[:, j] ** 2)) for j in range(many)]),
    ):
        agree(value(name + EACH), each)
        agree(value(name), np.mean(each))
    constant = [len(set(t[:, j].tolist())) == 1 for j in range(many)]
    each = [
        NAN if constant[j] else 1 - np.sum(e[:, j] ** 2) / np.sum((t[:, j] - t[:, j].mean()) ** 2) for j in range(many)
    ]
    np.testing.assert_allclose(value("r2" + EACH), each, rtol=1e-6, atol=1e-9)
    agree(value("r2"), mean(value("r2" + EACH).tolist()))
    agree(value("max_error"), np.max(np.abs(e)))
    for name, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        agree(value(name), np.mean([np.linalg.norm(row, order) for row in e]))


# -- scikit-learn ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30, deadline=None)
@given(classified())
def test_metrics_of_classes_are_those_of_scikit_learn(drawn):
    sk = pytest.importorskip("sklearn.metrics")
    y, t, many, cuts = drawn
    single = y.shape[1] == 1
    loss, target = ("binary_cross_entropy", t[:, None]) if single else ("cross_entropy", t)
    predicted = (y[:, 0] > 0).astype(int) if single else y.argmax(axis=1)

    def value(spec):
        return measured(spec, y, target, loss, cuts)

    agree(value("accuracy"), sk.accuracy_score(t, predicted))
    agree(value("balanced_accuracy"), sk.balanced_accuracy_score(t, predicted))
    for name in ("precision", "recall", "f1"):
        score = getattr(sk, f"{name}_score")
        agree(value(name), score(t, predicted, average="macro", zero_division=0))
        each = value(name + EACH)
        agree(each[~np.isnan(each)], score(t, predicted, average=None, zero_division=0))
        assert np.flatnonzero(~np.isnan(each)).tolist() == sorted({*t.tolist(), *predicted.tolist()})
    full = np.column_stack([0 * y[:, 0], y[:, 0]]) if single else y
    p = np.exp(full.astype(float)) / np.exp(full.astype(float)).sum(axis=1, keepdims=True)
    agree(value("log_loss"), sk.log_loss(t, p, labels=range(many)))
    if many == 2 and len(set(t.tolist())) == 2:
        agree(value("auc"), sk.roc_auc_score(t, full[:, 1].astype(float) - full[:, 0]))
    if many > 2:  # of equal scores scikit-learn takes the last
        for k in range(1, many):
            expected = sk.top_k_accuracy_score(many - 1 - t, y[:, ::-1], k=k, labels=range(many))
            agree(value(f"top_k({k})"), expected)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=20, deadline=None)
@given(st.integers(3, 12), st.integers(0, 10**6))
def test_the_area_of_many_classes_is_that_of_scikit_learn(many, seed):
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    t = rng.permutation(np.arange(3 * many) % many)
    y = rng.normal(size=(len(t), many))
    p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    agree(measured("auc", y, t, "cross_entropy", [5]), sk.roc_auc_score(t, p, multi_class="ovr"))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=30, deadline=None)
@given(labelled(), valued())
def test_metrics_of_labels_and_values_are_those_of_scikit_learn(labels, values):
    sk = pytest.importorskip("sklearn.metrics")
    y, t, _, cuts = labels
    loss = "binary_cross_entropy"
    agree(measured("accuracy", y, t, loss, cuts), 1 - sk.hamming_loss(t, y > 0))
    agree(measured("subset_accuracy", y, t, loss, cuts), sk.accuracy_score(t, y > 0))
    for name in ("precision", "recall", "f1"):
        each = measured(name + EACH, y, t, loss, cuts)
        agree(np.nan_to_num(each), getattr(sk, f"{name}_score")(t, y > 0, average=None, zero_division=0))
    y, t, _, cuts = values
    for name, score in (("mae", sk.mean_absolute_error), ("rmse", sk.root_mean_squared_error)):
        agree(measured(name, y, t, "mse", cuts), score(t, y))
        agree(measured(name + EACH, y, t, "mse", cuts), score(t, y, multioutput="raw_values"))
    agree(measured("max_error", y, t, "mse", cuts), sk.max_error(t.ravel(), y.ravel()))
    varied = np.ptp(t, axis=0) > 0
    if varied.all() and len(t) > 1:
        np.testing.assert_allclose(measured("r2", y, t, "mse", cuts), sk.r2_score(t, y), rtol=1e-6, atol=1e-9)


# -- what is not defined -----------------------------------------------------------------------------------------------


def test_undefined_values_are_nan():
    one_class = np.array([1, 1, 1])
    y = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
    assert math.isnan(measured("auc", y, one_class, "cross_entropy"))
    assert math.isnan(measured("r2", y[:, :1], np.full((3, 1), 0.1), "mse", [1]))  # 0.1 * 3 / 3 is not 0.1
    agree(measured("r2" + EACH, y, np.array([[0.1, 0], [0.1, 1], [0.1, 2]]), "mse", [1, 2]), [NAN, 1 - (1 + 1) / 2])
    agree(measured("f1" + EACH, [[1.0, 0, 0], [1, 0, 0]], [0, 1], "cross_entropy"), [2 / 3, 0, NAN])
    agree(measured("precision" + EACH, [[1.0, 0, 0], [1, 0, 0]], [0, 1], "cross_entropy"), [0.5, 0, NAN])
    agree(measured("recall" + EACH, [[1.0, 0, 0], [0, 1, 0]], [0, 0], "cross_entropy"), [0.5, 0, NAN])
    assert math.isnan(measured("auc", [[NAN, 0.0], [0, 1]], [0, 1], "cross_entropy"))
    assert measured("top_k(1)", [[NAN, 0.0], [NAN, 1]], [0, 1], "cross_entropy") == 0


@pytest.mark.parametrize("name, expected", [
    ("accuracy", 1 / 3), ("top_k(k=1)", 1 / 3), ("balanced_accuracy", 1 / 4), ("precision", 1 / 2), ("recall", 1 / 4),
    ("f1", 1 / 3),
])  # fmt: skip
def test_outputs_that_are_nan_are_no_class(name, expected):
    """argmax takes the first NaN, so that a network of NaN would be right wherever the class is 0."""
    y, labels = np.array([[NAN, NAN, NAN], [3.0, NAN, 1.0], [0.0, 2.0, 1.0]]), [0, 1, 1]
    assert measured(name, y, labels, "cross_entropy", [1]) == pytest.approx(expected)


def test_labels_and_values_that_are_nan():
    y, t = np.array([[NAN, 1.0], [-1.0, NAN], [1.0, 2.0]]), np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    assert measured("accuracy", y, t, "binary_cross_entropy", [2]) == pytest.approx(4 / 6)
    assert measured("recall", y, t, "binary_cross_entropy", [2]) == 1
    for name in ("mae", "rmse", "r2"):  # the mean over outputs is not that of the other outputs
        assert math.isnan(measured(name, [[NAN, 1.0], [2.0, 3.0]], np.array([[0.0, 1.0], [1.0, 0.0]]), "mse", [1]))
    assert math.isnan(measured("auc", y, t, "binary_cross_entropy", [2]))


@pytest.mark.parametrize("size", [1e-170, 1e-150, 1e100, 1e153, 1e160])
def test_squares_that_overflow_or_vanish(size):
    """Against fractions: right, or NaN or infinite; never a perfect prediction."""
    rng = np.random.default_rng(0)
    t, y = size * rng.normal(size=(9, 1)), 1e-3 * size * rng.normal(size=(9, 1))
    y += t
    target, errors = [Fraction(float(v)) for v in t[:, 0]], [Fraction(float(e)) for e in (y - t)[:, 0]]
    squares, center = sum(e * e for e in errors), sum(target) / 9
    r2 = float(1 - squares / sum((v - center) ** 2 for v in target))
    scale = Fraction(size)
    rmse = math.sqrt(float(squares / 9 / scale**2)) * size
    for name, exact in (("rmse", rmse), ("r2", r2)):
        found = measured(name, y, t, "mse", [1])
        assert not math.isfinite(found) or found == pytest.approx(exact, rel=1e-9)
        assert math.isfinite(found) or not 1e-130 < size < 1e150


def test_large_offsets_leave_r2_right():
    t = 1e9 + np.array([[0.0], [1], [2], [3]])
    for cuts in ([], [1], [1, 3]):
        agree(measured("r2", t + np.array([[0.5], [0], [0], [0]]), t, "mse", cuts), 1 - 0.25 / 5)


def test_log_loss_is_finite_for_sure_and_wrong_predictions():
    agree(measured("log_loss", [[1000.0, 0, -1000]], [2], "cross_entropy"), 2000)
    agree(measured("log_loss", [[-1000.0]], [[1.0]], "binary_cross_entropy"), 1000)
    agree(measured("log_loss", [[1.0, 3.0]], [[0.25, 0.75]], "cross_entropy"), np.log(1 + np.exp(-2)) + 0.25 * 2)


def test_outputs_by_position():
    y = np.zeros((1, 2, 3))
    y[0, 1, :2] = 1  # class 1, 1, 0
    assert measured("accuracy", y, [[1, 0, 0]]) == pytest.approx(2 / 3)
    assert measured("accuracy", np.ones((2, 1, 2, 2)), np.zeros((2, 1, 2, 2)), "binary_cross_entropy") == 0


def test_confusion_matrix():
    y, right = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.9, 0.0, 0.1]]), np.array([1, 0, 1, 2])
    expected = np.zeros((3, 3), int)
    for i, j in zip(right, y.argmax(axis=1), strict=True):
        expected[i, j] += 1
    ce = registry.losses.create("cross_entropy")
    for target in (right, np.eye(3)[right]):
        outputs = outputs_of(ce, (3,), target)
        np.testing.assert_array_equal(confusion_matrix(Predictions(y, Targets(target, outputs))), expected)


# -- what fits ---------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3)).astype(np.float32)
CLASSES = np.arange(30) % 4
SETS = {  # targets, loss, the metrics that are measured always
    "classes": (CLASSES, "cross_entropy", ["accuracy"]),
    "one-hot": (np.eye(4)[CLASSES], "quadratic", ["accuracy"]),
    "labels": (RNG.integers(0, 2, (30, 4)), "binary_cross_entropy", ["accuracy", "f1"]),
    "values": (RNG.normal(size=(30, 4)), "mse", ["rmse", "r2"]),
}
FITS = {
    "classes": "accuracy top_k(k=2) balanced_accuracy precision recall f1 auc log_loss",
    "one-hot": "accuracy top_k(k=2) balanced_accuracy precision recall f1 auc mae rmse r2 max_error l1 l2 linf",
    "labels": "accuracy subset_accuracy precision recall f1 auc log_loss l1 l2 linf",
    "values": "mae rmse r2 max_error l1 l2 linf",
}


def network():
    return registry.compose(["dense(4)"], input_shape=(3,))


@pytest.mark.parametrize("kind", SETS)
def test_fit_and_evaluate_measure_what_fits_and_refuse_the_rest(kind):
    y, loss, always = SETS[kind]
    fits = FITS[kind].split()
    net = network()
    history = net.fit(X, y, loss=loss, metrics=FITS[kind], epochs=2, batch_size=8, validation=(X[:20], y[:20]))
    record = history.epochs[-1]
    names = list(dict.fromkeys([*always, *fits]))
    assert [n for n in record if n in names] == names and all(f"val_{name}" in record for name in names)
    found = net.evaluate(X, y, loss, fits)
    assert list(found) == ["loss", *fits]
    assert found == pytest.approx({"loss": found["loss"]} | {name: record[name] for name in fits}, rel=1e-6)
    assert list(net.evaluate(X, y, loss)) == ["loss", *always]
    before = net.theta.copy()
    for spec in {*registry.metrics.names(), "top_k(k=2)", "top_k(k=4)"} - {*fits}:
        with pytest.raises(SpecError, match=rf"^metrics: {spec.split('(')[0]}\b.* would fit$") as error:
            net.fit(X, y, loss=loss, metrics=[spec], epochs=1)
        fitting = str(error.value).removesuffix(" would fit").replace(",", " ").split()[-1]
        if fitting != "shape":
            assert fitting in [*fits, "top_k(k=3)"]
        with pytest.raises(SpecError, match=f"^metrics: {spec.split('(')[0]}"):
            net.evaluate(X, y, loss, [spec])
    assert np.array_equal(net.theta, before)


def test_without_a_loss_the_outputs_may_be_anything():
    net = network()
    assert net.evaluate(X, SETS["one-hot"][0]) == net.evaluate(X, CLASSES)
    for y, spec in ((CLASSES, "auc"), (CLASSES, "log_loss")):
        with pytest.raises(SpecError, match=r"loss.*accuracy would fit"):
            net.evaluate(X, y, metrics=[spec])
    with pytest.raises(SpecError, match='labels need loss="binary_cross_entropy"'):
        net.evaluate(X, SETS["labels"][0], metrics=["accuracy"])
    with pytest.raises(SpecError, match="nothing to measure"):
        net.evaluate(X, SETS["labels"][0])
    one = registry.compose(["dense(1)"], input_shape=(3,))
    expected = one.evaluate(X, CLASSES % 2, "binary_cross_entropy", ["auc"])["auc"]
    assert one.evaluate(X, CLASSES % 2, metrics=["auc"]) == {"auc": expected}


def test_accuracy_of_one_output_needs_a_logit():
    one = registry.compose(["dense(1)"], input_shape=(3,))
    y = (CLASSES % 2)[:, None].astype(float)
    for loss in ("mse", "quadratic", None):
        with pytest.raises(SpecError, match=r"metrics: accuracy cannot be measured on x, y: .*rmse or r2 would fit"):
            one.evaluate(X, y, loss, ["accuracy"])
    assert 0 <= one.evaluate(X, y, "binary_cross_entropy")["accuracy"] <= 1


def test_targets_are_one_hot_or_values():
    """Rows that sum to 1 are no classes under a loss of values: shares of sand, silt and clay are a regression."""
    shares = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    mse, labels = registry.losses.create("mse"), np.array([0, 1])
    assert outputs_of(mse, (3,), shares).kind == "values"
    assert (
        outputs_of(mse, (3,), np.eye(3)).kind == "classes" and outputs_of(mse, (3,), np.eye(3), shares).kind == "values"
    )
    assert outputs_of(mse, (2,), np.vstack([np.tile([1.0, 0], (200, 1)), [[1, 1]]])).kind == "values"
    assert outputs_of(registry.losses.create("cross_entropy"), (3,), shares).kind == "classes"
    assert outputs_of(None, (3,), labels).kind == "classes"


def test_names_and_options():
    with pytest.raises(UnknownName, match="did you mean accuracy"):
        base.create(["acuracy"])
    with pytest.raises(SpecError, match="top_k: k must be a whole number from 1 on, got 0"):
        base.create("top_k(k=0)")
    with pytest.raises(SpecError, match="average: expected 'macro' or 'none', got \"micro\""):
        base.create(["f1(average='micro')"])
    for wrong in (3, True, None, registry.metrics.create("f1"), {"metric": "f1"}):
        with pytest.raises(SpecError, match="metrics: expected a list of metrics"):
            base.create(wrong)
    forms = ["f1(average='none')", ("f1", {"average": "none"}), {"metric": "f1", "average": "none"}]
    made = base.create([*forms, registry.metrics.create(forms[0])])
    assert {each.spec() for each in made} == {"f1(average='none')"} and all(isinstance(each, Metric) for each in made)
    assert [each.spec() for each in base.create("f1, top_k(3) l2")] == ["f1", "top_k(k=3)", "l2"]


def test_a_metric_may_not_take_a_key_of_the_log():
    @registry.metrics.register("lr")
    class Rate(Metric):
        """A name that is taken."""

    try:
        with pytest.raises(SpecError, match="the log has another lr"):
            network().fit(X, CLASSES, metrics=["lr"], epochs=1)
    finally:
        registry.metrics.unregister("lr")


# -- parts, log and plots ----------------------------------------------------------------------------------------------


def test_a_set_in_parts_is_measured_as_a_whole(monkeypatch):
    net, (y, loss, _) = network(), SETS["classes"]
    whole = net.evaluate(X, y, loss, FITS["classes"])
    values = net.evaluate(X, SETS["values"][0], "mse", FITS["values"])
    monkeypatch.setattr(measure, "PART", 7)
    for found, expected in (
        (net.evaluate(X, y, loss, FITS["classes"]), whole),
        (net.evaluate(X, SETS["values"][0], "mse", FITS["values"]), values),
    ):
        assert found == pytest.approx(expected, rel=1e-12)


def test_metrics_of_each_class_and_nan_go_through_log_and_plots(tmp_path):
    net = registry.compose(["dense(5)"], input_shape=(3,))  # the class 4 does not occur
    specs = ["f1(average='none')", "auc(average='none')", "auc"]
    out = tmp_path / "run"
    history = net.fit(X, CLASSES, metrics=specs, epochs=3, validation=(X[:1], CLASSES[:1]), output=out)
    record = history.epochs[-1]
    assert list(record[specs[1]]) == ["0", "1", "2", "3", "4"] and math.isnan(record[specs[1]]["4"])
    assert math.isnan(record["val_auc"]) and record["auc"] == pytest.approx(mean(record[specs[1]].values()))
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][-1]
    assert logged["val_auc"] is None and logged[specs[1]]["4"] is None
    for runs in ([out], [out, out]):
        assert plots.draw(runs, "metrics", tmp_path / "m.png").stat().st_size > 10_000
    assert math.isnan(history.column("val_auc")[0])
    assert history.column("f1(average='none')/2")[-1] == record[specs[0]]["2"]
    assert np.isnan(history.column("f1(average='none')/9")).all() and np.isnan(history.column("no/2")).all()
    with pytest.raises(UsageError, match=r"a number for each of 0, 1, 2, 3, 4; give one, f1\(average='none'\)/0"):
        history.column("f1(average='none')")
    assert net.evaluate(X, CLASSES, "cross_entropy", [specs[0]])[specs[0]] == record[specs[0]]


def test_the_command_line(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=CLASSES)
    data = f"npz(path={str(tmp_path / 'a.npz')!r}, validation=0.2)"
    out = tmp_path / "run"
    printed = nnjit("run", "--data", data, "--layers", "dense(4)", "--epochs", "2", "--metrics",
                    "f1, top_k(3) f1(average='none')", "--output", out)  # fmt: skip
    assert "val_f1 " in printed and "val_top_k(k=3) " in printed
    shown = nnjit("evaluate", out, "--metrics", "f1(average='none') log_loss")
    lines = [line.split() for line in shown.splitlines()]
    place = lines.index(["f1(average='none')"])
    assert [line[0] for line in lines[place + 1 : place + 5]] == ["0", "1", "2", "3"] and lines[-1][0] == "log_loss"
    assert "accuracy" in nnjit("evaluate", out)
    assert "did you mean accuracy" in nnjit("run", "--metrics", "acuracy", status=2)
    assert "would fit" in nnjit("run", "--metrics", "rmse", "--epochs", "1", "--output", tmp_path / "no", status=2)
    assert not (tmp_path / "no").exists()


def test_metrics_of_each_target_have_the_names_of_the_targets(tmp_path):
    """In the log, in `evaluate` and on the command line, also for a table whose labels come in another order."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 2))
    y = np.stack([3 * x[:, 0] + rng.normal(size=120), 1e4 * x[:, 1]], 1)
    table = tmp_path / "t.csv"
    table.write_text("u,v,mass,age\n" + "".join(",".join(map(repr, row)) + "\n" for row in np.hstack([x, y]).tolist()))
    data = f"csv(path={str(table)!r}, label=['age', 'mass'], target='value', validation=0.5)"
    out, spec = tmp_path / "run", "r2(average='none')"
    nnjit("run", "--data", data, "--layers", "dense(2)", "--epochs", 2, "--metrics", spec, "--output", out)
    held = load(data).validation
    expected = r2(held.y, compose.load(out).predict(held.x.astype(np.float32)))
    assert abs(expected[0] - expected[1]) > 1e-3
    best = min(records(out)[1:], key=lambda record: record.get("val_loss", math.inf))
    for found in (best[f"val_{spec}"], compose.load(out).evaluate(held.x, held.y, "mse", [spec])[spec]):
        assert list(found) == ["age", "mass"] and list(found.values()) == pytest.approx(expected, rel=1e-4)
    assert list(best.get(spec, found)) == ["age", "mass"]
    copied = tmp_path / "copy.csv"
    copied.write_text(table.read_text())
    swapped = data.replace("['age', 'mass']", "['mass', 'age']").replace(str(table), str(copied))
    for spoken in (data, swapped):
        lines = [line.split() for line in nnjit("evaluate", out, "--data", spoken, "--metrics", spec).splitlines()]
        shown = {line[0]: float(line[1]) for line in lines[lines.index([spec]) + 1 :]}
        if spoken is swapped:  # other data is measured whole
            expected = r2(y[:, ::-1], compose.load(out).predict(x.astype(np.float32)))
        assert shown == pytest.approx(dict(zip(("age", "mass"), expected, strict=True)), rel=1e-4)


def r2(t, y):
    return 1 - ((y - t) ** 2).sum(axis=0) / ((t - t.mean(axis=0)) ** 2).sum(axis=0)


def test_errors_are_of_nnjit():
    with pytest.raises(NnjitError):
        base.create(["f1("])
