"""A run saves predictions of its best parameters, for its pictures: those that the saved network gives."""

import json

import numpy as np
import pytest
from nnjit import data
from nnjit.launch import launch
from nnjit.network.compose import load
from nnjit.training import predicted, run_and_draw
from safetensors import safe_open
from safetensors.numpy import load_file

pytestmark = pytest.mark.usefixtures("linked")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    monkeypatch.setattr(run_and_draw, "_draw", lambda *_: None)


def train(tmp_path, source, epochs=3, layers=None, **training):
    """Run a config; return the trainer, the tensors, what is said about them, and the saved network."""
    table = {"data": {"name": source}, "training": {"epochs": epochs, **training}}
    if layers is not None:
        table["model"] = {"layers": layers}
    finished = launch.start(table, tmp_path / "run")
    path = tmp_path / "run" / "predictions.safetensors"
    assert finished.trainer.history.written == [path]
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["nnjit"])
    return finished.trainer, load_file(path), about, load(tmp_path / "run")


def test_values_in_units_and_the_plane_of_two_inputs(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(5, 3, (80, 2))
    rows = "\n".join(f"{a},{b},{1000 * a * b},{a - b}" for a, b in x)
    (tmp_path / "t.csv").write_text(f"length,width,price,rest\n{rows}\n")
    source = f"csv('{tmp_path}/t.csv', label=['price', 'rest'], target='value')"
    trainer, tensors, about, net = train(tmp_path, source)
    held = data.load(source, 0).validation
    assert held is not None
    samples, targets = held.take(slice(None), np.float64)
    np.testing.assert_allclose(tensors["true"], targets, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(tensors["predicted"], net.predict(samples), rtol=1e-4, atol=1e-2)
    assert (about["kind"], about["data"], about["samples"]) == ("values", "validation", len(held))
    assert (about["targets"], about["inputs"]) == (["price", "rest"], ["length", "width"])
    cells = predicted.CELLS
    assert tensors["plane"].shape == (cells, cells, 2) and tensors["points"].shape == (72, 2)
    low, high = tensors["low"], tensors["high"]
    for row, column in ((40, 100), (cells - 40, 30), (75, 75)):
        place = low + (np.array([column, row]) + 0.5) / cells * (high - low)
        expected = net.predict(place[None])[0]
        np.testing.assert_allclose(tensors["plane"][row, column], expected, rtol=1e-3, atol=1e-2)
    assert trainer.loss_name == "mse of scaled targets"
    assert {record["loss_name"] for record in trainer.history.epochs} == {trainer.loss_name}


def test_classes_without_validation_and_the_network_keeps_the_last_parameters(tmp_path):
    layers = ["dense(3)", "sigmoid", "dense(2)", "sigmoid"]
    more = {"loss": "quadratic", "optimizer": "sgd(lr=40.0)", "batch_size": 1, "seed": 3}
    trainer, tensors, about, net = train(tmp_path, "ten_points", 20, layers, **more)
    assert trainer.progress["best_epoch"] < 20  # so that there are two kinds of parameters
    last = load_file(tmp_path / "run" / "last.safetensors")
    for name, value in trainer.network.parameters.items():
        np.testing.assert_array_equal(value, last[name])
    x, y = data.load("ten_points").train.take(slice(None), np.float32)
    scores = net.predict(x)
    np.testing.assert_array_equal(tensors["predicted"], scores.argmax(axis=1))
    np.testing.assert_array_equal(tensors["true"], y.argmax(axis=1))
    np.testing.assert_allclose(tensors["confidence"], scores.max(axis=1), rtol=1e-5)
    assert (about["data"], about["confidence"], about["epoch"]) == (
        "training",
        "output",
        trainer.progress["best_epoch"],
    )
    assert set(np.unique(tensors["plane"])) <= {0, 1} and trainer.loss_name == "quadratic"
    np.testing.assert_array_equal(tensors["points"], x.astype(np.float64))


def test_images_and_the_most_confident_mistakes_of_a_part_of_a_set(tmp_path, monkeypatch):
    monkeypatch.setattr(predicted, "MOST", 100)
    trainer, tensors, about, net = train(tmp_path, "digits", 1, ["flatten", "dense(10)"])
    held = data.load("digits", 0).validation
    assert held is not None and len(tensors["true"]) == 100 and about["samples"] == len(held)
    assert about["confidence"] == "probability" and trainer.loss_name == "cross_entropy"
    scores = net.predict(tensors["x"]).astype(np.float64)
    of = tensors["x_of"]
    np.testing.assert_array_equal(tensors["predicted"][of], scores.argmax(axis=1))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(tensors["confidence"][of], softmax.max(axis=1), rtol=1e-4)
    wrong = np.flatnonzero(tensors["predicted"] != tensors["true"])
    ranked = sorted(wrong, key=lambda k: -tensors["confidence"][k])
    assert list(tensors["mistakes_of"]) == ranked[: predicted.SHOWN]
    again = net.predict(tensors["mistakes_x"]).argmax(axis=1)
    np.testing.assert_array_equal(again, tensors["predicted"][tensors["mistakes_of"]])
