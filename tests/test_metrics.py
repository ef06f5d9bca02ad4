"""Metrics: by hand, against the definitions, and sentences for unsuitable shapes."""

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import ShapeError, UnknownName
from nnjit.training import metrics

Y = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.1, 0.2, 0.7], [0.9, 0.0, 0.1]])


def test_accuracy_of_labels_and_one_hot():
    labels = np.array([1, 0, 1, 2])
    assert metrics.accuracy(Y, labels) == 0.5
    assert metrics.accuracy(Y, np.eye(3)[labels]) == 0.5
    assert metrics.accuracy(Y.astype(np.float32), labels.astype(np.uint8)) == 0.5


def test_accuracy_of_binary_logits():
    y = np.array([[2.0], [-1.0], [0.5], [-0.1]])
    for target in ([1, 0, 0, 0], [[1.0], [0.0], [0.0], [0.0]]):
        assert metrics.accuracy(y, np.array(target)) == 0.75
    assert metrics.accuracy(y[:, 0], np.array([1, 0, 0, 0])) == 0.75


def test_accuracy_of_several_labels_a_sample():
    rng = np.random.default_rng(0)
    y, target = rng.normal(size=(30, 4)), rng.integers(0, 2, (30, 4))
    by_hand = np.mean(
        [[(logit > 0) == bool(t) for logit, t in zip(*row, strict=True)] for row in zip(y, target, strict=True)]
    )
    bce = registry.losses.create("binary_cross_entropy")
    assert metrics.get("accuracy", bce)(y, target) == pytest.approx(by_hand)
    with pytest.raises(ShapeError, match="several classes or none; it is measured with loss='binary_cross_entropy'"):
        metrics.get("accuracy")(y, target)
    assert metrics.get("accuracy", bce)(np.ones((2, 1, 2, 2)), np.zeros((2, 1, 2, 2))) == 0  # a map of one channel
    net = registry.compose(["dense(4)"], input_shape=(3,))
    history = net.fit(
        x := rng.normal(size=(30, 3)), target, loss="binary_cross_entropy", epochs=1, validation=(x, target)
    )
    expected = np.mean((net.predict(x) > 0) == target)
    assert history.epochs[0]["val_accuracy"] == pytest.approx(expected) and "val_confusion" not in history.epochs[0]
    assert net.evaluate(x, target, "binary_cross_entropy", ["accuracy"])["accuracy"] == pytest.approx(expected)


def test_accuracy_of_one_output_needs_a_logit():
    y, target = np.array([[0.3], [0.8]]), np.array([[0.0], [1.0]])
    for loss in ("mse", "quadratic"):
        with pytest.raises(ShapeError, match="accuracy: one output is measured under a loss that takes it as a logit"):
            metrics.get("accuracy", registry.losses.create(loss))(y, target)


def test_labels_beyond_the_outputs_have_no_accuracy():
    net = registry.compose(["dense(3)"], input_shape=(2,))
    with pytest.raises(ShapeError, match=r"label 3, but the network has 3 outputs.*the labels begin at 1"):
        net.evaluate(np.ones((3, 2)), np.array([1, 2, 3]), metrics=["accuracy"])
    one = registry.compose(["dense(1)"], input_shape=(2,))
    with pytest.raises(ShapeError, match="label 2, but the network has 1 output, for the labels 0 to 1"):
        one.evaluate(np.ones((2, 2)), np.array([1, 2]), metrics=["accuracy"])


@pytest.mark.parametrize("target", [np.eye(3)[[0, 1]], np.full((2, 3), 1 / 3), np.array([[0.2, 0.5, 0.3], [-1, 1, 0]])])
def test_accuracy_of_one_class_a_sample_needs_no_loss(target):
    assert metrics.accuracy(target, target) == 1


def test_accuracy_by_position():
    y = np.zeros((1, 2, 3))
    y[0, 1, :2] = 1  # class 1, 1, 0
    assert metrics.accuracy(y, np.array([[1, 0, 0]])) == pytest.approx(2 / 3)


def test_error_norms():
    y, t = np.random.default_rng(0).normal(size=(2, 5, 2, 3))
    for name, order in (("l1", 1), ("l2", 2), ("linf", np.inf)):
        by_hand = np.mean([np.linalg.norm((y[i] - t[i]).ravel(), order) for i in range(5)])
        assert metrics.get(name)(y, t) == pytest.approx(by_hand, rel=1e-13)


def test_batches_average_to_the_whole():
    y, t = np.random.default_rng(0).normal(size=(2, 9, 4))
    for name in metrics.METRICS:
        parts = [len(y[s]) * metrics.get(name)(y[s], t[s]) for s in (slice(0, 4), slice(4, 9))]
        assert sum(parts) / 9 == pytest.approx(metrics.get(name)(y, t), rel=1e-13)


def test_confusion_matrix():
    taken, right = Y.argmax(axis=1), np.array([1, 0, 1, 2])
    expected = np.zeros((3, 3), int)
    for i, j in zip(right, taken, strict=True):
        expected[i, j] += 1
    for target in (right, np.eye(3)[right]):
        np.testing.assert_array_equal(metrics.confusion_matrix(Y, target), expected)
    np.testing.assert_array_equal(metrics.confusion_matrix([[1.0], [-1.0], [2.0]], [1, 1, 0]), [[0, 1], [1, 1]])
    assert metrics.confusion_matrix(Y, right, count=5).shape == (5, 5)


def test_what_does_not_fit():
    with pytest.raises(UnknownName, match="did you mean accuracy"):
        metrics.get("acuracy")
    with pytest.raises(UnknownName, match="known are accuracy, l1, l2, linf"):
        metrics.get(7)
    with pytest.raises(ShapeError, match="targets for outputs of shape"):
        metrics.accuracy(Y, np.zeros(3))
    with pytest.raises(ShapeError, match="outputs' shape"):
        metrics.l2(Y, np.zeros(4, int))
    with pytest.raises(ShapeError, match="labels must be from 0 to 2"):
        metrics.confusion_matrix(Y, np.array([0, 1, 2, 3]))
