"""Scales as layers: fitted to the training split, in raw units wherever the network runs, defaults of a run on a table.

Oracles: fractions of whole numbers and scikit-learn's scalers for the fit, NumPy in float64 for the kernels, a network
without such layers on numbers that are scaled by hand for the training.
"""

import ctypes
import shutil
import warnings
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from command_line import nnjit, records
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nnjit import data
from nnjit.data.schema import Schema
from nnjit.data.split import Split
from nnjit.errors import DataError, ShapeError, SpecError
from nnjit.kernels.operations import operation
from nnjit.network.compose import load
from nnjit.registry import compose, create, layers
from nnjit.storage import checkpoint
from nnjit.training import several, trainer
from nnjit.training.fitting import fit_layers, ranges_of
from nnjit.training.settings import Settings
from nnjit.training.trainer import Trainer

RNG = np.random.default_rng(5)
N = 300
RAW = np.stack([300 + 20 * RNG.normal(size=N), 1e5 + 1e4 * RNG.normal(size=N), 1e-6 * np.exp(RNG.normal(size=N))], 1)
VALUES = (50 + 8 * (RAW[:, :1] - 300) / 20 + 5 * np.sin((RAW[:, 1:2] - 1e5) / 1e4)).astype(np.float64)
ENDS = "standardize dense(8) tanh dense(1) unstandardize"
MEAN, DEVIATION = RAW.mean(axis=0), RAW.std(axis=0)


def fitted(spec, x, shape=None, dtype="float64"):
    """Return the buffers of a layer fitted to samples; N * positions numbers a channel."""
    net = compose([spec, "flatten", "dense(2)"], x.shape[1:] if shape is None else shape, dtype=dtype)
    fit_layers(net, Split(x, np.zeros(len(x), int)))
    return net.buffers[f"{spec}.1.shift"], net.buffers[f"{spec}.1.scale"]


def trained(ends=ENDS, epochs=3, **options):
    net = compose(ends, (3,), seed=2)
    return net, net.fit(RAW, VALUES, loss="mse", epochs=epochs, **options)


# -- kernels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forward", "backward_input", "inverse", "inverse_backward_input"])
@pytest.mark.parametrize("C, positions", [(1, 1), (7, 1), (3, 5), (2, 16)])
def test_kernels_of_all_forms(name, C, positions):
    rng = np.random.default_rng(C)
    x, shift, scale = rng.normal(size=(4, C, positions)), rng.normal(size=C), rng.uniform(0.5, 2, C)
    s, f = shift[:, None], scale[:, None]
    expected = {"forward": (x - s) / f, "backward_input": x / f, "inverse": x * f + s, "inverse_backward_input": x * f}
    for folder in ("reference", "cpu"):
        kernel, y = operation(f"scale.{name}").on(folder), np.full(x.size, np.nan)
        given = {
            "x": x.ravel(),
            "dy": x.ravel(),
            "shift": shift,
            "scale": scale,
            "y": y,
            "dx": y,
            "positions": positions,
        }
        arguments = operation(f"scale.{name}").arguments
        kernel(*(given[key] for key in arguments))
        assert np.allclose(y.reshape(x.shape), expected[name], rtol=1e-15, atol=1e-15), folder
        if positions == 1:
            kernel, y = operation(f"scale_columns.{name}").on(folder), np.full((C, 4), np.nan)
            given |= {"x": x[:, :, 0].T.copy(), "dy": x[:, :, 0].T.copy(), "y": y, "dx": y}
            kernel(*(given[key] for key in operation(f"scale_columns.{name}").arguments))
            assert np.allclose(y.T, expected[name][:, :, 0], rtol=1e-15, atol=1e-15), folder


def test_a_large_offset_keeps_its_digits():
    """1e5 +- 1 in float32, whose numbers there are 0.008 apart: nothing is lost but the rounding of the data."""
    rng = np.random.default_rng(0)
    x = (1e5 + rng.normal(size=(500, 2))).astype(np.float32)
    net = compose("standardize", (2,))
    fit_layers(net, Split(x, np.zeros((500, 1))))
    y, exact = net.predict(x), (x - x.astype(float).mean(axis=0)) / x.astype(float).std(axis=0)
    error = y - exact
    assert np.abs(error - error.mean(axis=0)).max() < 1e-6  # the mean is rounded too, once for all samples
    assert np.abs(error).max() < np.spacing(np.float32(1e5))


# -- the fit -----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    columns=st.lists(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=12), min_size=1, max_size=3),
    offset=st.integers(-(2**20), 2**20),
)
def test_means_and_deviations_are_exact_ones_rounded(columns, offset):
    """Against sums of fractions; a column of one value has the deviation 1."""
    rows = min(map(len, columns))
    x = np.array([[float(column[i] + offset) for column in columns] for i in range(rows)])
    shift, scale = fitted("standardize", x)
    low, width = fitted("minmax", x)
    for j, column in enumerate(x.T):
        numbers = [Fraction(v) for v in column]
        mean = sum(numbers) / rows
        variance = float(sum((v - mean) ** 2 for v in numbers) / rows)
        assert shift[j] == pytest.approx(float(mean), rel=1e-12, abs=1e-12 * variance**0.5)
        assert scale[j] == (1 if min(numbers) == max(numbers) else pytest.approx(variance**0.5, rel=1e-12))
        assert low[j] == column.min() and width[j] == (np.ptp(column) or 1)


@pytest.mark.parametrize("rows", [1, 2, 50, 9000])  # 9000: three parts
@pytest.mark.parametrize("offset, size", [(0, 1), (1e6, 1), (-3e-7, 1e-6), (1e120, 1e118)])
def test_the_fit_is_that_of_scikit_learn(rows, offset, size):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = offset + size * np.random.default_rng(rows).normal(size=(rows, 3))
    x[:, 2] = offset
    shift, scale = fitted("standardize", x)
    oracle = preprocessing.StandardScaler().fit(x)
    assert np.allclose(shift, oracle.mean_, rtol=1e-12, atol=1e-12 * size)
    assert np.allclose(scale, oracle.scale_, rtol=1e-12)
    low, width = fitted("minmax", x)
    oracle = preprocessing.MinMaxScaler().fit(x)
    assert np.array_equal(low, oracle.data_min_) and np.allclose(width, oracle.data_range_ + (oracle.data_range_ == 0))


def test_maps_are_scaled_each_by_its_own_numbers():
    x = 7 + np.random.default_rng(0).normal(size=(5, 3, 4, 2)) * np.array([1, 10, 100])[:, None, None]
    shift, scale = fitted("standardize", x)
    assert np.allclose(shift, x.mean(axis=(0, 2, 3))) and np.allclose(scale, x.std(axis=(0, 2, 3)))
    net = compose("flatten reshape((3, 4, 2)) standardize flatten dense(2)", (24,), dtype="float64")
    fit_layers(net, Split(x.reshape(5, 24), np.zeros(5, int)))
    assert np.allclose(net.buffers["standardize.3.shift"], shift)


def test_the_fit_sees_the_training_split_only():
    net = compose(ENDS, (3,))
    net.fit(RAW[:200], VALUES[:200], loss="mse", epochs=1, validation=(RAW[200:] * 1.1, VALUES[200:] + 1e3))
    assert np.allclose(net.buffers["standardize.1.shift"], RAW[:200].mean(axis=0), rtol=1e-6)
    assert np.allclose(net.buffers["standardize.1.scale"], RAW[:200].std(axis=0), rtol=1e-6)
    assert np.allclose(net.buffers["unstandardize.5.shift"], VALUES[:200].mean(), rtol=1e-6)
    assert np.allclose(net.buffers["unstandardize.5.scale"], VALUES[:200].std(), rtol=1e-6)


def test_a_trained_network_keeps_its_scales_until_it_is_initialized():
    net, _ = trained(epochs=1)
    before = net.flat_buffers.copy()
    net.fit(RAW * 1.5, VALUES * 3, loss="mse", epochs=1)
    assert np.array_equal(net.flat_buffers, before)
    net.initialize(0)
    assert np.array_equal(net.buffers["standardize.1.scale"], np.ones(3)) and net.trained_on is None
    net.fit(RAW * 1.5, VALUES * 3, loss="mse", epochs=1)
    assert np.allclose(net.buffers["standardize.1.shift"], 1.5 * MEAN, rtol=1e-6)
    net = compose(ENDS, (3,))
    net.buffers["standardize.1.scale"][...] = 2  # by hand
    net.fit(RAW / 1e5, VALUES, loss="mse", epochs=1)
    assert np.array_equal(net.buffers["standardize.1.scale"], [2, 2, 2])


def test_a_training_that_failed_leaves_nothing_behind():
    net = compose(ENDS, (3,))
    with pytest.raises(DataError):
        net.fit(RAW, VALUES + 1e12, loss="mse", epochs=1)
    with pytest.raises(SpecError):
        net.fit(RAW, VALUES, loss="mse", epochs=1, metrics=["accuracy"])
    net.fit(2 * RAW, 3 * VALUES, loss="mse", epochs=1)
    assert np.allclose(net.buffers["standardize.1.shift"], 2 * MEAN, rtol=1e-6)
    assert np.allclose(net.buffers["unstandardize.5.scale"], 3 * VALUES.std(), rtol=1e-6)


@pytest.mark.parametrize(
    "specs, loss, words",
    [
        ("dense(3) standardize dense(1)", "mse", ["standardize.2", "dense.1", "first"]),
        ("standardize minmax dense(1)", "mse", ["minmax.2", "standardize.1"]),
        ("standardize unstandardize dense(1)", "mse", ["unstandardize.2", "last"]),
        ("standardize dense(1) unstandardize", "binary_cross_entropy", ["unstandardize.3", "binary_cross_entropy"]),
    ],
)
def test_a_scale_in_the_wrong_place(specs, loss, words):
    with pytest.raises(SpecError) as error:
        compose(specs, (3,)).fit(RAW, VALUES > 50, loss=loss, epochs=1)
    assert all(word in str(error.value) for word in words), error.value


def test_data_that_the_dtype_cannot_tell_apart():
    x = RAW.copy()
    x[:, 1] += 1e12
    with pytest.raises(DataError, match=r"standardize.1: feature 1 .*float32.*float64.*subtract"):
        compose(ENDS, (3,)).fit(x, VALUES, loss="mse", epochs=1)
    with pytest.raises(DataError, match=r"unstandardize.5: target 0.*float32"):
        compose(ENDS, (3,)).fit(RAW, VALUES + 1e12, loss="mse", epochs=1)
    with pytest.raises(DataError, match=r"feature 2.*float32 cannot hold"):
        compose(ENDS, (3,)).fit(RAW * [1, 1, 1e-36], VALUES, loss="mse", epochs=1)
    net = compose(ENDS, (3,), dtype="float64")
    net.fit(x, VALUES, loss="mse", epochs=1)
    assert np.isfinite(net.predict(x)).all()


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_is_that_on_numbers_scaled_by_hand():
    """All losses are those without the layers on scaled columns and targets, within rounding."""
    shift, width = VALUES.mean(), VALUES.std()
    net = compose(ENDS, (3,), seed=2, dtype="float64")
    held = (RAW[:40], VALUES[:40])
    history = net.fit(RAW, VALUES, loss="huber(delta=0.5)", epochs=4, validation=held, clip="norm(max=0.1)")
    bare = compose("dense(8) tanh dense(1)", (3,), dtype="float64")
    start = compose(ENDS, (3,), seed=2, dtype="float64")
    bare.theta[:] = start.theta
    x, y = (RAW - MEAN) / DEVIATION, (VALUES - shift) / width
    other = bare.fit(x, y, loss="huber(delta=0.5)", epochs=4, validation=(x[:40], y[:40]), clip="norm(max=0.1)")
    for name in ("loss", "val_loss"):
        assert np.allclose(history.column(name), other.column(name), rtol=1e-9)
    assert np.allclose(net.predict(RAW), bare.predict(x) * width + shift, rtol=1e-9)
    found = net.evaluate(*held, loss="huber(delta=0.5)")
    assert found["scaled_loss"] == pytest.approx(history.epochs[-1]["val_loss"], rel=1e-9)
    error = np.abs(net.predict(RAW[:40]) - VALUES[:40])
    assert found["loss"] == pytest.approx(np.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25)).mean(), rel=1e-9)


def test_metrics_are_in_units():
    net, history = trained(metrics=["linf"], validation=(RAW[:50], VALUES[:50]), epochs=2)
    error = np.abs(net.predict(RAW[:50]) - VALUES[:50]).max(axis=1).mean()
    assert history.epochs[-1]["val_linf"] == pytest.approx(error, rel=1e-4)
    assert net.evaluate(RAW[:50], VALUES[:50], metrics=["linf"])["linf"] == pytest.approx(error, rel=1e-4)


def test_one_hot_targets_behind_units_are_values_in_training_and_later():
    net = compose("standardize dense(3) unstandardize", (3,))
    y = np.eye(3)[np.arange(60) % 3]
    history = net.fit(RAW[:60], y, loss="mse", epochs=1)
    assert {"rmse", "r2"} <= history.epochs[-1].keys() and "accuracy" not in history.epochs[-1]
    assert {*net.evaluate(RAW[:60], y, loss="mse")} == {"loss", "scaled_loss", "rmse", "r2"}


def test_epochs_in_a_row_and_one_by_one_are_the_same(monkeypatch, tmp_path):
    def outcome(short, name):
        monkeypatch.setattr(trainer, "SHORT", short)
        net = compose(ENDS, (3,), seed=2)
        made = Trainer(net, Split(RAW, VALUES), Split(RAW[:30], VALUES[:30]), Settings(loss="mse", epochs=6))
        lengths, run = [], several.Several.run
        monkeypatch.setattr(several.Several, "run", lambda *given: lengths.append(run(*given)) or lengths[-1])
        made.run(made.record(tmp_path / name, ""))
        monkeypatch.setattr(several.Several, "run", run)
        tensors, _ = checkpoint.read(tmp_path / name / "last.safetensors")
        best = load(tmp_path / name).predict(RAW)
        return lengths, [r["val_loss"] for r in made.history.epochs], tensors, best

    lengths, losses, tensors, best = outcome(10.0, "row")
    assert max(lengths, default=1) > 1
    none, singly, others, same = outcome(0, "single")
    assert not none and losses == singly and tensors.keys() == others.keys() and np.array_equal(best, same)
    assert all(np.array_equal(tensors[name], others[name]) for name in tensors)


def test_targets_of_several_units():
    targets = np.concatenate([VALUES, VALUES * 1e6, 1e-3 * RAW[:, :1]], axis=1)
    net = compose("minmax dense(8) tanh dense(3) unstandardize", (3,), seed=2)
    net.fit(RAW, targets, loss="mse", epochs=60)
    error = ((net.predict(RAW) - targets) ** 2).mean(axis=0) / targets.var(axis=0)
    assert (error < 0.2).all(), error


def test_a_plugin_may_bring_another_scale_of_targets():
    """Logarithms of targets, by the three functions of the protocol."""
    kernel = layers.get("sigmoid").forward  # any formula: training does not run the last layer

    class Exponential(layers.get("identity")):
        fitted_to = "targets"
        forward = kernel
        alias = False

        def to_units(self, y, buffers):
            return np.exp(y)

        def from_units(self, y, buffers):
            return np.log(y)

    layers.register("exponential_for_a_test")(Exponential)
    net = compose("standardize dense(1) exponential_for_a_test", (3,))
    held = Split(RAW[:30], np.exp(VALUES[:30] / 50))
    made = Trainer(net, Split(RAW, np.exp(VALUES / 50)), held, Settings(loss="mse", metrics=("l2",)))
    assert np.allclose(made.train.y, VALUES / 50) and np.allclose(made.validation.y, VALUES[:30] / 50)


# -- the same number by every way --------------------------------------------------------------------------------------


@numba.njit
def _simulated(predict, state, x, y):
    for i in range(len(x)):
        predict(state, x[i : i + 1], y[i : i + 1])


def test_raw_units_by_every_way(tmp_path):
    net, _ = trained(validation=(RAW[:50], VALUES[:50]))
    x = RAW[:5].astype(np.float32)
    expected = net.predict(x)
    program, y = net.compile(loss="mse", optimizer="sgd", labels=False, batch_size=4), np.zeros((5, 1), np.float32)
    _simulated(program.predict, program.state, x, y)
    assert np.allclose(y, expected, rtol=1e-6)
    net.save(tmp_path / "net.safetensors")
    assert np.array_equal(load(tmp_path / "net.safetensors").predict(x), expected)
    table = tmp_path / "in.csv"
    table.write_text("a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in RAW[:5].tolist()) + "\n")
    told = nnjit("predict", tmp_path / "net.safetensors", "--input", table)
    assert np.allclose(np.array(told.split()[1:], float), expected[:, 0], rtol=1e-6)
    # derivatives: central differences of predict, in float64
    exact = compose(ENDS, (3,), dtype="float64")
    exact.theta[:], exact.flat_buffers[:] = net.theta, net.flat_buffers
    steps = np.diag(DEVIATION * 1e-4)
    slopes = [(exact.predict(RAW[:1] + h) - exact.predict(RAW[:1] - h))[0, 0] / (2 * h.max()) for h in steps]
    exact.forward(RAW[:1])
    assert np.allclose(exact.backward(np.ones((1, 1)))[0], slopes, rtol=1e-5)
    # the loss of a compiled program is in units, through the last layer
    state = program.new_state()
    assert program.step(state, x[:4], VALUES[:4].astype("f4")) == pytest.approx(
        ((expected[:4] - VALUES[:4]) ** 2).mean(), rel=1e-4
    )


class Frame(dict):
    """The least that is a frame: columns by name, arrays with `to_numpy`."""

    columns = property(list)

    def __getitem__(self, name):
        return SimpleNamespace(to_numpy=lambda: np.array(super(Frame, self).__getitem__(name)))


@pytest.mark.skipif(not shutil.which("cc") and not shutil.which("gcc"), reason="there is no C compiler")
def test_one_sample_by_every_way(here):
    """A table with a category: bit for bit where the same program runs, else a few units in the last place.

    CSV files and frames take the raw cells in any order of the columns; NPZ files, arrays, jitted code and the library
    take the inputs by their names in `trained_on.columns`: raw numbers, and 1 or 0 for a category.
    """
    gases = np.array(["air", "He", "CO2"])[np.arange(N) % 3]
    y = VALUES[:, 0] + 4.0 * (gases == "He")
    names = ["temperature", "pressure", "concentration"]
    cells = [[*map(repr, row), gas] for row, gas in zip(RAW.tolist(), gases.tolist(), strict=True)]
    lines = [",".join([*row, repr(value)]) for row, value in zip(cells, y.tolist(), strict=True)]
    (here / "gas.csv").write_text("\n".join([",".join([*names, "gas", "y"]), *lines]) + "\n")
    spec = "csv(path='gas.csv', label='y', target='value')"
    nnjit("run", "--data", spec, "--layers", "dense(8) tanh dense(1)", "--epochs", 3, "--output", "run")
    net = load("run")
    raw = {name: RAW[:4, k] for k, name in enumerate(names)} | {f"gas={g}": (gases[:4] == g) * 1.0 for g in set(gases)}
    x = np.stack([raw[name] for name in net.trained_on.columns], axis=1)
    expected = net.predict(x)
    assert x.shape == (4, 6) and expected.dtype == np.float32 and np.ptp(expected) > 1

    def predicted(*arguments, **named):
        return np.array(nnjit("predict", "run", *arguments, **named).split()[1:], np.float32)[:, None]

    turned = "\n".join([",".join([*names[::-1], "gas"]), *(",".join([*r[2::-1], r[3]]) for r in cells[:4])]) + "\n"
    (here / "new.csv").write_text(turned)
    np.savez("new.npz", x=x)
    frame = Frame(gas=gases[:4], **{name: RAW[:4, k] for k, name in enumerate(names)})
    same = {
        "CSV": predicted("--input", "new.csv"),
        "CSV, its reader": predicted("--input", "csv(path='new.csv', separator=',', header=True)"),
        "standard input": predicted("--input", "-", stdin=turned),
        "NPZ": predicted("--input", "new.npz"),
        "the table itself": predicted("--input", "gas.csv")[:4],
        "frame": net.predict(frame),
        "float32": net.predict(x.astype(np.float32)),
        "lists": net.predict(x.tolist()),
        "file": load("run/best.safetensors").predict(x),
    }
    differ = [way for way, found in same.items() if not np.array_equal(found, expected)]
    assert not differ
    program, jitted = net.compile(loss="mse", optimizer="sgd", labels=False, batch_size=4), np.zeros_like(expected)
    _simulated(program.predict, program.state, x.astype(np.float32), jitted)
    library = ctypes.CDLL(str(net.export(here / "gas.so", cpu="native")))
    exported, workspace = np.zeros_like(expected), np.zeros(1 << 16, np.uint8)
    for sample, out in zip(x.astype(np.float32), exported, strict=True):
        assert library.gas_predict(*(ctypes.c_void_p(array.ctypes.data) for array in (sample, out, workspace))) == 0
    alone = np.concatenate([net.predict(sample[None]) for sample in x])
    head, *later = turned.splitlines()
    one_line = np.concatenate([predicted("--input", "-", stdin=f"{head}\n{line}\n") for line in later])
    for found in (jitted, exported, alone, one_line):
        np.testing.assert_array_max_ulp(found, expected, maxulp=4)


# -- runs on a table ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gas(tmp_path_factory):
    """Write the table of the regression."""
    path = tmp_path_factory.mktemp("gas") / "gas.csv"
    rows = np.concatenate([RAW, VALUES], axis=1).tolist()
    path.write_text("temperature,pressure,concentration,y\n" + "".join(",".join(map(repr, r)) + "\n" for r in rows))
    return path


def test_a_run_on_a_table_needs_no_options(gas, here):
    told = nnjit(
        "run",
        "--data",
        f"csv(path='{gas}', label='y', target='value')",
        "--epochs",
        "40",
        "--output",
        "run",
        pictures=True,
    )
    assert {path.stem for path in (here / "run").glob("*.png")} == {"loss", "gradient_norms", "residuals"}
    deviation = data.load(f"csv(path='{gas}', label='y', target='value')").train.y.std()
    assert f"loss in units of the target's deviation, {deviation:.4g}" in told
    net = load("run")
    spread = VALUES - VALUES.mean()
    assert 1 - ((net.predict(RAW) - VALUES) ** 2).sum() / (spread**2).sum() > 0.98
    config = (here / "run" / "config.toml").read_text()
    assert config.count('"standardize"') == config.count('"unstandardize"') == 1 and 'loss = "mse"' in config
    assert net.trained_on.ranges is not None and net.trained_on.columns == ("temperature", "pressure", "concentration")
    # a resumed run and one from the written config are the same as one without a break, layers and all
    nnjit("run", "--resume", "run", "--epochs", "45")
    nnjit("run", "run/config.toml", "--output", "again")
    tensors, others = (checkpoint.read(here / name / "last.safetensors")[0] for name in ("run", "again"))
    assert tensors.keys() == others.keys()
    assert all(np.array_equal(tensors[name], others[name]) for name in tensors)
    assert [r["loss"] for r in records(here / "run")] == [r["loss"] for r in records(here / "again")]
    lines = nnjit("evaluate", "run").splitlines()
    assert {line.split()[0] for line in lines} >= {"loss", "scaled_loss"}


def test_classes_of_a_table(here):
    x, names = RAW[:90], np.array(["hot", "cold"])[(RAW[:90, 0] < 300).astype(int)]
    rows = "".join(f"{a!r},{b!r},{name}\n" for (a, b, _), name in zip(x.tolist(), names, strict=True))
    (here / "t.csv").write_text("t,p,kind\n" + rows)
    nnjit("run", "--data", "csv(path='t.csv', label='kind')", "--output", "run")
    assert [layer.spec() for layer in load("run").layers] == [
        *("standardize", "dense(units=64, init='glorot')", "relu", "dense(units=64, init='glorot')", "relu"),
        "dense(units=2)",
    ]
    last = records(here / "run")[-1]
    assert last["val_accuracy"] > 0.7
    assert (last["epoch"], last["step"]) == (50, 150)  # three batches an epoch


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--set", "model.scale=off", "--layers", "dense(1)"], ["dense(units=1)"]),
        (["--layers", "minmax dense(1)"], ["minmax", "dense(units=1)"]),
        (["--layers", "dense(4) relu dense(1)"],
         ["standardize", "dense(units=4)", "relu", "dense(units=1)", "unstandardize"]),
        (["--layers", "dense(1) softplus"], ["standardize", "dense(units=1)", "softplus"]),
        (["--set", "model.dtype=float64", "--layers", "dense(1)"], ["standardize", "dense(units=1)", "unstandardize"]),
        (["--loss", "huber", "--layers", "dense(1)"], ["standardize", "dense(units=1)", "unstandardize"]),
    ],
    ids=str,
)  # fmt: skip
def test_layers_that_a_run_adds(gas, here, options, expected):
    options = ["--optimizer", "sgd(lr=1e-12)", *options]
    nnjit(
        "run", "--data", f"csv(path='{gas}', label='y', target='value')", "--epochs", "1", *options, "--output", "run"
    )
    assert [layer.spec() for layer in load("run").layers] == expected
    nnjit("run", "run/config.toml", "--output", "again")
    assert [layer.spec() for layer in load("again").layers] == expected


def test_mistakes_have_the_places_of_the_users_layers(gas, here):
    given = ["--data", f"csv(path='{gas}', label='y', target='value')"]
    told = nnjit("run", *given, "--layers", "dense(4) conv(3, 3) dense(1)", status=2)
    assert "model.layers[1]" in told and "standardize" not in told
    assert 'expected "auto"' in nnjit("run", *given, "--set", "model.scale=on", status=2)


# -- numbers in other units --------------------------------------------------------------------------------------------


def schema(x):
    """Return the schema of a network that scales its samples and was trained on x."""
    net = compose("standardize dense(2)", x.shape[1:])
    split = Split(x, np.zeros(len(x), int))
    fit_layers(net, split)
    return replace(Schema.of(split), ranges=ranges_of(split, x.shape[1:]))


@st.composite
def tables(draw):
    """Draw raw columns: offsets, sizes and forms of a table of measurements."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns = []
    for _ in range(draw(st.integers(1, 5))):
        size, offset = 10.0 ** draw(st.integers(-8, 8)), draw(st.sampled_from([0, 0.5, 3, 10, 100]))
        form = draw(st.sampled_from(["normal", "skewed", "sparse", "uniform", "whole", "constant"]))
        z = rng.normal(size=400)
        z = {
            "normal": z, "skewed": np.exp(2 * z), "sparse": np.maximum(z - 1.5, 0), "uniform": rng.uniform(size=400),
            "whole": np.rint(100 * z), "constant": np.ones(400),
        }[form]  # fmt: skip
        columns.append(size * (z + offset) if form != "whole" else z + np.rint(size))
    return np.stack(columns, axis=1)


@settings(max_examples=150, deadline=None)
@given(x=tables(), one=st.integers(0, 199))
@pytest.mark.filterwarnings("error::UserWarning")
def test_raw_numbers_are_taken(x, one):
    """Those of the same distribution, all and one by one: no refusal, no warning."""
    try:
        known = schema(x[:200])
    except DataError:  # too fine for float32
        assume(False)
    some = x[200:]
    assume(np.abs(some).max() < 2 * np.abs(x[:200]).max())
    inside = ((some >= x[:200].min(axis=0)) & (some <= x[:200].max(axis=0))).mean()
    assume(inside > 0.6)
    for part in (some, x[one : one + 1], x[:200].astype(np.float32)):
        assert known.checked_array(part, np.dtype(np.float32)) is part
    known.checked(Split(some, np.zeros(len(some), int)))


@settings(max_examples=150, deadline=None)
@given(x=tables(), one=st.integers(0, 199))
def test_standardized_numbers_are_told(x, one):
    """By a refusal or a warning, wherever they are not in the ranges of training; a hundredth of the range, too."""
    try:
        known = schema(x[:200])
    except DataError:
        assume(False)
    deviation = x[:200].std(axis=0)
    z = (x[:200] - x[:200].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    outside = ((z < x[:200].min(axis=0)) | (z > x[:200].max(axis=0))).mean()
    if outside > 0.75 and np.abs(z).max() < 10 and (z != np.rint(z)).all():
        assert answer(known, z) != "taken"
    small = x[:200] / 1000
    if (small != np.rint(small)).any():
        assert answer(known, small) == "refused", "a thousandth of the range"


def answer(known, x):
    """Tell whether numbers are "taken", "refused", or taken with a warning: "doubted"."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            known.checked_array(x, np.dtype(np.float32))
        except DataError:
            return "refused"
    return "doubted" if found else "taken"


def test_the_message_names_column_range_and_remedy():
    net, _ = trained()
    z = (RAW - MEAN) / DEVIATION
    for wrong in (z, z[:1], RAW * [1, 0.001, 1]):
        with pytest.raises(DataError, match=r"feature \d .*in training they were from.*same units and not scaled"):
            net.predict(wrong)
        with pytest.raises(DataError):
            net.evaluate(wrong, VALUES[: len(wrong)], loss="mse")
    assert np.isfinite(net.predict(np.rint(RAW[:3]).astype(int))).all()  # whole numbers are raw
    assert np.isfinite(net.predict(np.zeros((1, 3)))).all()
    iris = np.random.default_rng(0).normal([5.8, 3.1, 3.8, 1.2], [0.8, 0.4, 1.8, 0.8], (150, 4))
    known = schema(iris)
    with pytest.warns(UserWarning, match="not be scaled before"):
        known.checked_array((iris - iris.mean(axis=0)) / iris.std(axis=0), np.dtype(np.float32))
    with pytest.raises(ShapeError):
        net.predict(RAW[:, :2])


def test_the_ranges_of_a_schema_are_kept_and_grow():
    one, other = (
        Schema(largest=3.0, ranges=ranges) for ranges in (((0.0, 1.0), (2.0, 3.0)), ((-1.0, 0.5), (2.5, 9.0)))
    )
    assert Schema.from_table(one.table()) == one
    assert one.after(other).ranges == ((-1.0, 1.0), (2.0, 9.0))
    table = Schema().table()
    del table["ranges"]  # of a file that an older version wrote
    assert Schema.from_table(table) == Schema()


def test_the_layers_are_what_their_names_say():
    for name in ("standardize", "minmax", "unstandardize"):
        net = compose(name, (3,))
        assert np.array_equal(net.predict(RAW.astype("f4")), RAW.astype("f4"))  # before it is fitted
        assert create(name).fitted_to == ("targets" if name == "unstandardize" else "samples")
