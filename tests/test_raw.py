"""Raw numbers of a known range, such as pixels: `minmax(low, high)` scales them inside the network, by every way.

Oracles: NumPy in float64, and networks without that layer on numbers that are scaled by hand.
"""

import json
import shutil

import numba
import numpy as np
import pytest
from command_line import SMALL, nnjit, records
from nnjit import data, load
from nnjit.data import Dataset, Split
from nnjit.errors import CheckpointError, DataError, SpecError
from nnjit.registry import Options, compose, create, datasets
from nnjit.storage import checkpoint
from nnjit.storage.run_directory import RunDirectory
from nnjit.training import config_file
from safetensors.numpy import save_file

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (40, 1, 8, 8), np.uint8)
LABELS = np.arange(40) % 3
BODY = "flatten dense(4) tanh dense(3)"


@pytest.fixture(scope="module")
def net():
    made = compose(f"minmax(0, 255) {BODY}", (1, 8, 8), seed=1)
    made.fit(PIXELS, LABELS, epochs=2, batch_size=8)
    return made


def by_hand(net, x):
    """Return F(x) in NumPy, in float64."""
    W, b, V, c = (array.astype(float) for array in net.parameters.values())
    return np.tanh(x.reshape(len(x), -1) / 255 @ W.T + b) @ V.T + c


# -- the layer ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high", [(0, 255), (-1, 1), (3, 3.5), (-1e3, -1)])
def test_a_range_becomes_0_to_1_in_every_channel(low, high):
    for shape in ((4,), (2, 3)):
        net = compose(f"minmax({low}, {high})", shape, dtype="float64")
        x = RNG.uniform(2 * low - high, 2 * high - low, (5, *shape))
        np.testing.assert_allclose(net.predict(x), (x - low) / (high - low), rtol=1e-14, atol=1e-14)
        assert (net.predict(np.full((1, *shape), low)) == 0).all() and (
            net.predict(np.full((1, *shape), high)) == 1
        ).all()


def test_a_range_is_not_fitted(net):
    assert net.buffers["minmax.1.shift"].tolist() == [0] and net.buffers["minmax.1.scale"].tolist() == [255]
    assert create("minmax").fitted_to == "samples" and create("minmax(0, 255)").fitted_to is None
    inside = compose("dense(4) minmax(-1, 1) dense(2)", (3,))  # it need not be the first layer
    inside.fit(RNG.normal(size=(20, 3)), np.arange(20) % 2, epochs=1)
    assert inside.trained_on.raw_range is None


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("minmax(low=0)", "high missing; give both ends of a range"),
        ("minmax(high=16)", "low missing; give both ends of a range"),
        ("minmax(1, 1)", "low < high, got 1 and 1"),
        ("minmax(2, -2)", "low < high, got 2 and -2"),
        ("minmax(0, 1e39)", "float32 cannot hold 1e"),
        ("minmax(0, hihg=255)", "did you mean high"),
    ],
)
def test_ranges_that_are_none(spec, match):
    with pytest.raises(SpecError, match=match):
        compose([spec, "dense(2)"], (3,))


# -- the same picture by every way -------------------------------------------------------------------------------------


@numba.njit
def _simulated(predict, state, x, y):
    for i in range(len(x)):
        predict(state, x[i : i + 1], y[i : i + 1])


def test_a_raw_picture_by_every_way(net, tmp_path):
    x = PIXELS[:5]
    expected = net.predict(x)
    np.testing.assert_allclose(expected, by_hand(net, x), rtol=1e-4, atol=1e-5)
    for other in (x.astype(np.float32), x.astype(float), x.astype(int)):
        assert np.array_equal(net.predict(other), expected)
    program, y = net.compile(batch_size=4), np.zeros((5, 3), np.float32)
    _simulated(program.predict, program.state, x.astype(np.float32), y)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    net.save(tmp_path / "net.safetensors")
    again = load(tmp_path / "net.safetensors")
    assert np.array_equal(again.predict(x), expected) and again.trained_on == net.trained_on
    np.savez(tmp_path / "x.npz", x=x, y=LABELS[:5])
    nnjit("predict", tmp_path / "net.safetensors", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as found:
        assert np.array_equal(found["y"] if "y" in found else np.stack([found[f"y{k}"] for k in range(3)], 1), expected)
    told = nnjit("evaluate", tmp_path / "net.safetensors", "--data", f"npz({str(tmp_path / 'x.npz')!r}, validation=0)")
    right = net.evaluate(x, LABELS[:5], metrics=["accuracy"])["accuracy"]
    assert right == np.mean(expected.argmax(1) == LABELS[:5]) and f"{right:.6g}" in told
    dy = np.ones((1, 3))  # derivatives are those of a raw pixel
    exact = compose(f"minmax(0, 255) {BODY}", (1, 8, 8), dtype="float64")
    exact.theta[:] = net.theta
    exact.forward(x[:1])
    h = np.zeros(x[:1].shape)
    h[0, 0, 3, 4] = 1e-3
    slope = (exact.predict(x[:1] + h) - exact.predict(x[:1] - h)).sum() / 2e-3
    assert exact.backward(dy)[0, 0, 3, 4] == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_training_is_that_on_numbers_scaled_by_hand():
    one, other = compose(f"minmax(0, 255) {BODY}", (1, 8, 8), seed=1), compose(BODY, (1, 8, 8))
    other.theta[:] = one.theta
    options = {"epochs": 3, "batch_size": 8, "optimizer": "adam(lr=3e-3)"}
    losses = one.fit(PIXELS, LABELS, **options).column("loss")
    np.testing.assert_allclose(losses, other.fit(PIXELS / 255, LABELS, **options).column("loss"), rtol=1e-4)


# -- numbers that were scaled already ----------------------------------------------------------------------------------


def test_numbers_to_train_with_that_are_not_raw():
    deep = PIXELS * np.uint16(257)
    for x, match in ((PIXELS / 255, "up to 1 .*a range of 0 to 255 was expected"), (deep, "up to 6.554e\\+04")):
        with pytest.raises(DataError, match=match + ".*minmax\\(0, 255\\): give raw numbers, not scaled"):
            compose(f"minmax(0, 255) {BODY}", (1, 8, 8)).fit(x.astype(np.float32), LABELS, epochs=1)
    for x in (PIXELS // 100, PIXELS * 0.0):  # dark, black
        compose(f"minmax(0, 255) {BODY}", (1, 8, 8)).fit(x, LABELS, epochs=1, batch_size=8)


def test_numbers_to_validate_with_that_are_not_raw():
    with pytest.raises(DataError, match=r"those of training were bytes up to 255.*give raw numbers"):
        compose(f"minmax(0, 255) {BODY}", (1, 8, 8)).fit(PIXELS, LABELS, validation=(PIXELS / 255, LABELS), epochs=1)


def test_floats_and_bytes_are_the_same_units_for_a_second_fit():
    net = compose("minmax(0, 255) flatten dense(3)", (1, 8, 8))
    net.fit(PIXELS // 2, LABELS, epochs=1)
    net.fit(PIXELS.astype(float), LABELS, epochs=1)
    assert (net.trained_on.raw_range, net.trained_on.largest) == ((0, 255), PIXELS.max())


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    path = tmp_path_factory.mktemp("pixels") / "pixels.npz"
    np.savez(path, x=PIXELS, y=LABELS)
    return f"npz(path={str(path)!r})"


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ([], ["minmax(low=0.0, high=255.0)", "flatten", "dense(units=3)"]),
        (["--set", "model.scale=off"], ["flatten", "dense(units=3)"]),
        (["--layers", "standardize flatten dense(3)"], ["standardize", "flatten", "dense(units=3)"]),
        (["--layers", "flatten minmax(0, 100) dense(3)"], ["flatten", "minmax(low=0.0, high=100.0)", "dense(units=3)"]),
    ],
)
def test_layers_that_a_run_adds(pixels, here, options, layers):
    nnjit("run", "--data", pixels, "--layers", "flatten dense(3)", "--epochs", "1", "--output", "run", *options)
    assert config_file.read("run/config.toml")[0]["model"]["layers"] == layers
    assert load("run").description()["layers"] == layers


def test_a_run_is_that_of_fit_and_continues(trained, here):
    net, digits = load(trained), data.load("digits")
    assert net.description()["layers"] == ["minmax(low=0.0, high=16.0)", "flatten", "dense(units=10)"]
    x, y = digits.train.take(slice(None), "float32")
    same = compose(net.description()["layers"], (1, 8, 8))
    history = same.fit(x, y, epochs=2)
    logged = [record for record in records(trained) if record.get("epoch_end")]
    assert [record["loss"] for record in history.epochs] == pytest.approx(
        [record["loss"] for record in logged], rel=1e-6
    )
    shutil.copytree(trained, "run")
    nnjit("run", "--resume", "run", "--epochs", "3")
    assert load("run").description() == net.description()


def test_a_mistake_has_its_place_in_the_config(here):
    said = nnjit("run", "--layers", "conv(4, 3) flatten flatten(3) dense(10)", status=2)
    assert "model.layers[2]" in said
    said = nnjit("run", "--layers", "conv(4, 9) flatten dense(10)", status=2)
    assert "model.layers[0]" in said and "minmax" not in said


def test_a_plugin_states_its_range(here):
    class Deep(Options):
        def load(self):
            return Dataset("deep", Split(PIXELS * np.uint16(257), LABELS), raw_range=(0, 65535))

    datasets.register("deep_for_a_test")(Deep)
    try:
        nnjit("run", "--data", "deep_for_a_test", *SMALL, "--output", "run")
        assert load("run").trained_on.raw_range == (0, 65535)
    finally:
        datasets.unregister("deep_for_a_test")


def test_bytes_of_a_table_have_no_range():
    assert Dataset("t", Split(PIXELS[:, 0, 0], LABELS)).raw_range == (0, 255)
    assert Dataset("t", Split(PIXELS[:, 0, 0], LABELS), columns=tuple("abcdefgh")).raw_range is None


# -- networks that older versions saved --------------------------------------------------------------------------------


def older(path, layers, scale, **known):
    """Write a network as versions did that multiplied bytes by a factor outside of it."""
    net = compose(layers, (1, 8, 8), seed=4)
    net.save(path)
    tensors, about = checkpoint.read(path)
    about["trained_on"] = {
        "columns": None, "classes": None, "holds_bytes": True, "scale": scale, "largest": 1.0, "targets": None,
        "encoding": None, "ranges": None,
    } | known  # fmt: skip
    save_file(tensors, path, {"nnjit": json.dumps(about)})
    return net


@pytest.mark.parametrize("high", [255, 16])
@pytest.mark.parametrize("layers", ["flatten dense(3)", "batchnorm conv(2, 3) flatten dense(3)"])
def test_an_older_network_scales_bytes_in_itself(tmp_path, high, layers):
    net, x = older(tmp_path / "net.safetensors", layers, 1 / high), np.minimum(PIXELS, high)
    found = load(tmp_path / "net.safetensors")
    assert found.layers[0].spec() == f"minmax(low=0.0, high={high:.1f})"
    assert (found.trained_on.raw_range, found.trained_on.largest) == ((0, high), high)
    np.testing.assert_allclose(found.predict(x), net.predict(x * np.float32(1 / high)), rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="not scaled"):
        found.predict(x / high)
    found.save(tmp_path / "again.safetensors")
    assert np.array_equal(load(tmp_path / "again.safetensors").predict(x), found.predict(x))


def test_an_older_network_of_floats_stays_as_it_is(tmp_path):
    net = older(tmp_path / "net.safetensors", "flatten dense(3)", 1.0, holds_bytes=False)
    found, x = load(tmp_path / "net.safetensors"), PIXELS / 255
    assert len(found.layers) == 2 and np.array_equal(found.predict(x), net.predict(x))
    with pytest.raises(DataError, match="up to 255"):
        found.predict(PIXELS)


def test_an_older_run_is_evaluated_but_not_continued(trained, here):
    """A run on digits whose network began behind the factor 1/16."""
    shutil.copytree(trained, "run")
    for name in ("best.safetensors", "last.safetensors"):
        tensors, about = checkpoint.read(f"run/{name}")
        tensors = {key.replace("dense.3", "dense.2"): each for key, each in tensors.items() if "minmax" not in key}
        about["network"]["layers"] = about["network"]["layers"][1:]
        del about["trained_on"]["raw_range"]
        about["trained_on"] |= {"scale": 1 / 16, "largest": 1.0}
        save_file(tensors, f"run/{name}", {"nnjit": json.dumps(about)})
    config = RunDirectory.open("run").path / "config.toml"
    config.write_text(config.read_text().replace('"minmax(low=0.0, high=16.0)", ', ""))
    assert nnjit("evaluate", "run") == nnjit("evaluate", trained)
    said = nnjit("run", "--resume", "run", "--epochs", "3", status=1)
    assert "an older nnjit trained it, which multiplied the samples by 0.0625 outside of the network" in said


def test_a_damaged_entry(tmp_path):
    for wrong in ({"raw_range": [1]}, {"raw_range": "ab"}, {"scale": "x"}):
        older(tmp_path / "net.safetensors", "flatten dense(3)", **{"scale": 1 / 255} | wrong)
        with pytest.raises(CheckpointError, match="what the network was trained on cannot be read"):
            load(tmp_path / "net.safetensors")
