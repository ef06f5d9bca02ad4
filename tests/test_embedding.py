"""Embeddings of categories: the layer, codes of tables, and scales that leave categories alone.

Oracles: the definition written plainly with one sample at a time, a product with one-hot rows, scikit-learn's
ColumnTransformer, PyTorch (in test_derivatives.py, by a twin of the layer), and OrdinalEncoder (in drawn_tables.py).
"""

import ctypes
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from command_line import nnjit
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run
from nnjit import data, registry
from nnjit.check import certify
from nnjit.data.csv_file import CSV
from nnjit.data.encoding import Coding, Encoding
from nnjit.data.schema import Schema
from nnjit.data.split import Split
from nnjit.errors import DataError, ShapeError, SpecError
from nnjit.kernels.compiler.kernel import kernel
from nnjit.layers.embedding import Embedding
from nnjit.network.compose import load
from nnjit.program.program import Program
from nnjit.registry import compose, create
from nnjit.training.fitting import fit_layers, ranges_of
from numba import get_num_threads, prange, set_num_threads

WRONG = (-1.0, 0.5, 3.0, 1e30, -1e30, np.inf, -np.inf, np.nan)


# -- the layer ---------------------------------------------------------------------------------------------------------


def by_definition(layer, x, table, dy):
    """Return y, dx and dtable of samples, one number at a time."""
    tables, gradients, first = {}, {}, 0
    flat, summed = table.ravel(), np.zeros(table.size)
    for column, count, size in zip(layer.columns, layer.counts, layer.sizes, strict=True):
        tables[column] = flat[first : first + count * size].reshape(count, size)
        gradients[column] = summed[first : first + count * size].reshape(count, size)
        first += count * size
    y, dx = [], np.zeros_like(x)
    for sample, delta, back in zip(x, dy, dx, strict=True):
        row: list = []
        for i, number in enumerate(sample):
            at = len(row)
            if i not in tables:
                row.append(number)
                back[i] = delta[at]
                continue
            if number in range(len(tables[i])):
                row += list(tables[i][int(number)])
                gradients[i][int(number)] += delta[at : len(row)]
            else:
                row += [np.nan] * tables[i].shape[1]
                gradients[i][...] = back[i] = np.nan
        y.append(row)
    return {"y": np.array(y), "dx": dx, "dtable": summed.reshape(table.shape)}


@st.composite
def layers(draw):
    """Draw a layer, its number of inputs, and one size or a size for each column."""
    features = draw(st.integers(1, 7))
    columns = draw(st.lists(st.integers(0, features - 1), min_size=1, max_size=min(3, features), unique=True))
    counts = [draw(st.integers(1, 9)) for _ in columns]
    size = draw(st.one_of(st.none(), st.integers(1, 4), st.just([draw(st.integers(1, 4)) for _ in columns])))
    return create(("embedding", {"columns": sorted(columns), "counts": counts, "size": size})), features


@settings(max_examples=40, deadline=None)
@given(drawn=layers(), N=st.integers(1, 9), parts=st.sampled_from([1, 3]), wrong=st.booleans(), seed=st.integers(0, 99))
def test_kernels_are_the_definition(drawn, N, parts, wrong, seed):
    layer, features = drawn
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, features))
    for column, count in zip(layer.columns, layer.counts, strict=True):
        x[:, column] = rng.integers(0, count, N)
    if wrong:
        number = rng.choice(WRONG)
        x[rng.integers(N), layer.columns[0]] = layer.counts[0] if number == 3.0 else number
    table = rng.normal(size=layer.parameters((features,))["table"].shape)
    dy = rng.normal(size=(N, *layer.output_shape((features,))))
    expected = by_definition(layer, x, table, dy)
    assert wrong == np.isnan(expected["y"]).any()
    for folder in ("reference", "cpu"):
        found = run(layer, x, dy, {"table": table}, folder, parts=parts)
        for name, wanted in expected.items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-14, atol=1e-14, err_msg=f"{folder} {name}")


def test_a_number_that_is_no_code_is_no_code_anywhere():
    """NaN in the outputs of its column and in no other, in prediction, and in derivatives."""
    net = compose("embedding([1], [3], size=2)", (3,))
    for number in WRONG:
        x = np.array([[7, number, 8], [7, 2, 8]], np.float32)
        for y in (net.predict(x), net.forward(x)):
            assert np.isnan(y).tolist() == [[False, True, True, False], [False] * 4], number
            np.testing.assert_array_equal(y[:, [0, 3]], x[:, [0, 2]])
            np.testing.assert_array_equal(y[1, 1:3], net.parameters["embedding.1.table"][2])
        dx = net.backward(np.ones((2, 4)))
        assert np.isnan(dx).tolist() == [[False, True, False], [False] * 3] and dx[1, 1] == 0
        assert np.isnan(net.gradients["embedding.1.table"]).all()
    assert np.array_equal(net.predict(np.array([[7, -0.0, 8]]))[0, 1:3], net.parameters["embedding.1.table"][0])


def test_training_is_that_on_one_hot_rows():
    """Rows of the table are columns of a dense layer without bias on one-hot inputs: the same losses."""
    rng = np.random.default_rng(3)
    code, z = rng.integers(0, 4, 60), rng.normal(size=(60, 1))
    target = rng.normal(size=(60, 2))
    ours = compose("embedding([0], [4], size=3) dense(5) tanh dense(2)", (2,), dtype="float64", seed=1)
    theirs = compose("dense(4, bias=False) dense(5) tanh dense(2)", (5,), dtype="float64")
    W = np.zeros((4, 5))  # the table beside a 1 that passes the number on
    W[:3, :4], W[3, 4] = ours.parameters["embedding.1.table"].T, 1
    theirs.theta[: W.size], theirs.theta[W.size :] = W.ravel(), ours.theta[12:]
    one_hot = np.concatenate([np.eye(4)[code], z], axis=1)
    for net, x in ((ours, np.column_stack([code, z])), (theirs, one_hot)):
        net.forward(x, training=True)
        net.backward(target)
    np.testing.assert_allclose(
        ours.gradients["embedding.1.table"].T, theirs.gradients["dense.1.W"][:3, :4], rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(ours.predict(np.column_stack([code, z])), theirs.predict(one_hot), rtol=1e-12)


def test_the_bits_of_training_do_not_depend_on_threads():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(0, 3, 300), rng.normal(size=300), rng.integers(0, 50, 300)])
    found, threads = [], get_num_threads()
    try:
        for count in {1, threads}:
            set_num_threads(count)
            net = compose("standardize embedding([0, 2], [3, 50]) dense(64) relu dense(1)", (3,), seed=1)
            net.fit(x, x[:, 1:2], loss="mse", epochs=2, batch_size=100)
            found.append(net.theta.copy())
    finally:
        set_num_threads(threads)
    assert all(np.array_equal(each, found[0]) for each in found)


def test_narrow_layers_behind_it_take_samples_as_columns():
    net = compose("embedding([0], [4], size=2) dense(3) tanh dense(1)", (2,), dtype="float64", seed=1)
    program = Program(net, "mse", "sgd(lr=0.1)", 256)
    x = net.graph.draw(np.random.default_rng(0), 256)
    assert program.plan.shares.columns_from == 1
    y, wanted = np.empty((256, 1)), np.empty((256, 1))
    reference, state = program.reference(), program.new_state()
    order = np.arange(256)
    for functions, memory, out in ((program, program.state, y), (reference, state, wanted)):
        functions.epoch(memory, x, x[:, 1:].copy(), order)
        functions.predict(memory, x, out)
    np.testing.assert_allclose(y, wanted, rtol=1e-9)


def test_sizes_and_initial_numbers():
    layer = create("embedding([0, 1, 2], [1, 10, 100000])")
    assert layer.sizes == (2, 6, 600) and layer.output_shape((4,)) == (609,)
    assert layer.parameters((4,))["table"].shape == (2 + 60 + 60_000_000,)
    assert create("embedding([0, 2], [3, 5], size=4)").parameters((4,))["table"].shape == (8, 4)
    table = compose("embedding([0], [500], size=4)", (1,)).parameters["embedding.1.table"]
    assert 0.045 < table.std() < 0.055
    table = compose("embedding([0], [500], size=4, init='normal(std=1)')", (1,)).parameters["embedding.1.table"]
    assert 0.9 < table.std() < 1.1


@pytest.mark.parametrize(
    "spec, words",
    [
        ("embedding([], [])", ["columns", "none"]),
        ("embedding([1, 0], [2, 2])", ["columns", "ascending", "[1, 0]"]),
        ("embedding([1, 1], [2, 2])", ["columns", "once"]),
        ("embedding([-1], [2])", ["columns", "from 0"]),
        ("embedding([0, 1], [2])", ["counts", "2 columns"]),
        ("embedding([0], [2], size=[1, 2])", ["size", "1 columns"]),
        ("embedding([0], [0])", ["counts", "from 1"]),
        ("embedding([0], [16777217])", ["counts", "16777216"]),
        ("embedding([0], [2], size=0)", ["size", "from 1"]),
        ("embedding(10, 4)", ["columns", "10"]),
    ],
)
def test_options_that_do_not_fit(spec, words):
    with pytest.raises(SpecError) as error:
        create(spec)
    assert all(word in str(error.value) for word in words), error.value


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"embedding\.1: .*columns: there is no input 3"):
        compose("embedding([3], [2])", (3,))
    with pytest.raises(ShapeError, match=r"embedding\.1: .*expected an input of shape \(features,\), got \(2, 3\)"):
        compose("embedding([0], [2])", (2, 3))


class Careless(Embedding):
    """An embedding whose gradient with respect to a code is not 0."""

    @kernel
    def backward_input(dx):
        for n in prange(dx.size):
            dx[n] = 1.0

    check_cases = [("([0], [3], size=2)", (1,))]


def test_check_knows_that_codes_have_no_slope():
    registry.register("careless")(Careless)
    try:
        (row,) = certify(["careless"]).rows
    finally:
        registry.unregister("careless")
    assert "dC/dx[0, 0] is 0 by differences, backward gives 1" in row.failures["gradient"][0]


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_the_exported_library_takes_codes(tmp_path):
    table = Split(np.array([[1.5, 0], [2.5, 1], [9, 2], [4, 1]]), np.array([[1.0], [2], [3], [4]]))
    net = compose("standardize embedding([1], [3]) dense(4) tanh dense(1) unstandardize", (2,))
    net.fit(table.x, table.y, loss="mse", epochs=1)
    net.trained_on = Schema.of(table, ("a", "b"), encoding=ENCODING)
    library = ctypes.CDLL(str(net.export(tmp_path / "flat.so", cpu="native")))
    workspace = np.zeros(1 << 16, np.uint8)
    for x in ([[1.5, 2]], [[1.5, 3]]):
        x, y = np.array(x, np.float32), np.zeros((1, 1), np.float32)
        assert library.flat_predict(*(ctypes.c_void_p(array.ctypes.data) for array in (x, y, workspace))) == 0
        np.testing.assert_allclose(y, net.forward(x), rtol=1e-6)
    assert np.isnan(y).all()
    assert "codes       b: 0 blue, 1 red, 2 missing" in (tmp_path / "flat.h").read_text()


# -- scales ------------------------------------------------------------------------------------------------------------

ENCODING = Encoding((Coding("a"), Coding("b", "category", ("blue", "red"), None, True, True)), "indicator")


def buffers(spec, x, schema=None):
    net = compose(f"{spec} dense(2)", x.shape[1:], dtype="float64")
    fit_layers(net, Split(x, np.zeros(len(x), int)), schema)
    return [net.buffers[f"{spec.split()[0]}.1.{name}"] for name in ("shift", "scale")]


@pytest.mark.parametrize("spec, scaler", [("standardize", "StandardScaler"), ("minmax", "MinMaxScaler")])
def test_scales_leave_categories_alone(tmp_path, spec, scaler):
    """As a ColumnTransformer does that scales numbers only: one-hot inputs, indicators and codes."""
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    from sklearn.compose import ColumnTransformer

    rng = np.random.default_rng(0)
    lines = [f"{rng.normal(50, 9) if i % 4 else ''},{'abc'[i % 3]},{i % 7 * 100},{i % 2}" for i in range(60)]
    path = tmp_path / "t.csv"
    path.write_text("x,k,z,y\n" + "\n".join(lines))
    for categories, numbers in (("onehot", [0, 5]), ("codes", [0, 3])):
        dataset = CSV(str(path), "y", validation=0, missing="indicator", categories=categories).load()
        mask = np.isin(np.arange(len(dataset.columns)), numbers)
        assert dataset.encoding.numbers == tuple(mask)
        x = np.asarray(dataset.train.x)
        layers = spec if categories == "onehot" else f"{spec} embedding([2], [3])"
        shift, scale = buffers(layers, x, Schema.of_dataset(dataset))
        oracle = ColumnTransformer(
            [("scale", getattr(preprocessing, scaler)(), mask)], remainder="passthrough", sparse_threshold=0
        ).fit_transform(x)
        order = [*np.flatnonzero(mask), *np.flatnonzero(~mask)]
        np.testing.assert_allclose(((x - shift) / scale)[:, order], oracle, rtol=1e-10, atol=1e-12)
        assert np.array_equal(shift[~mask], np.zeros((~mask).sum())) and (scale[~mask] == 1).all()


def test_inputs_that_an_embedding_takes_are_not_scaled():
    """Without a table, too: the layers say which inputs are codes."""
    x = np.column_stack([np.arange(30) % 5, np.linspace(0, 99, 30)])
    shift, scale = buffers("minmax embedding([0], [5])", x)
    assert shift.tolist() == [0, 0] and scale.tolist() == [1, 99]
    net = compose("standardize flatten embedding([0], [5]) dense(1) unstandardize", (2,))
    history = net.fit(x, x[:, 1:], loss="mse", epochs=20, optimizer="adam(lr=0.03)")
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] / 4


@pytest.mark.parametrize(
    "layers, x, error, words",
    [
        ("embedding([0], [3]) dense(1)", [[0, 1], [3, 1]], DataError, ["feature 0", "3", "embedding.1", "0 to 2"]),
        ("embedding([0], [3]) dense(1)", [[0, 1], [0.5, 1]], DataError, ["feature 0", "0.5", "whole"]),
        ("dense(2) embedding([0], [3])", [[0, 1], [1, 1]], SpecError, ["embedding.2", "before it", "first"]),
        ("embedding([0], [3]) standardize dense(1)", [[0, 1], [1, 2]], SpecError, ["standardize.2", "embedding.1"]),
    ],
)
def test_data_and_places_that_are_refused(layers, x, error, words):
    net = compose(layers, (2,))
    with pytest.raises(error) as caught:
        net.fit(np.array(x), np.zeros((2, *net.output_shape)), loss="mse", epochs=1)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_scale_that_changes_codes_is_refused():
    net = compose("standardize embedding([0], [3]) dense(1)", (2,))
    net.buffers["standardize.1.scale"][...] = 2  # by hand, so that it is not fitted
    with pytest.raises(SpecError, match=r"standardize\.1 scales the feature 0 .*, which embedding\.2 takes as a code"):
        net.fit(np.zeros((4, 2)), np.zeros((4, 1)), loss="mse", epochs=1)


def test_units_are_those_of_numbers():
    """Numbers in other units are seen beside inputs of categories, which are whole and near 0."""
    rng = np.random.default_rng(1)
    codings = (Coding("x"), Coding("k", "category", tuple("abc")))
    x = np.column_stack([rng.normal(0, 300, 90), np.eye(3)[rng.integers(0, 3, 90)]])
    split = Split(x, np.zeros(90, int))
    known = replace(
        Schema.of(split, ("x", "k=a", "k=b", "k=c"), encoding=Encoding(codings)), ranges=ranges_of(split, (4,))
    )
    small = x * [1e-3, 1, 1, 1]
    for dtype in (np.float64, np.float32):
        taken = x.astype(dtype)
        assert known.checked_array(taken, np.dtype(dtype)) is taken
        with pytest.raises(DataError, match="column 'x' holds numbers up to"):
            known.checked_array(small.astype(dtype), np.dtype(dtype))
    assert known.checked_array(x[:1, :2].astype(np.float32), np.dtype("float32")).shape == (1, 2)
    nothing = replace(known, encoding=Encoding((Coding("k", "category", tuple("abcd")),)), ranges=((0, 1),) * 4)
    assert nothing.checked_array(np.eye(4), np.dtype("float32")) is not None


# -- tables ------------------------------------------------------------------------------------------------------------


def flats(folder, rows=90, seed=0, name="flats.csv"):
    """Write a table whose value depends on two categories, one with gaps; return its columns."""
    rng = np.random.default_rng(seed)
    area, heating, city = rng.uniform(20, 120, rows), rng.integers(0, 3, rows), rng.integers(0, 6, rows)
    gap = rng.random(rows) < 0.1
    words = [("" if g else ("district", "gas", "wood")[h]) for h, g in zip(heating, gap, strict=True)]
    rent = 9 * area + 80 * (heating == 0) + 50 * city
    lines = [f"{a},{w},{'ABCDEF'[c]},{r}" for a, w, c, r in zip(area, words, city, rent, strict=True)]
    (folder / name).write_text("area,heating,city,rent\n" + "\n".join(lines))
    return area, np.where(gap, 3, heating), city, words


SPEC = "csv('flats.csv', label='rent', target='value', missing='indicator', categories='codes')"


def test_a_table_with_codes_from_file_to_prediction(here):
    """The default network, its encoding, and one prediction by file, frame and matrix."""
    pandas = pytest.importorskip("pandas")
    flats(here)
    nnjit("run", "--data", SPEC, "--epochs", "30", "--output", "run")
    net = load("run")
    first = [layer.spec() for layer in net.layers[:2]]
    assert first[0] == "standardize" and re.fullmatch(r"embedding\(columns=.1, 2.,? counts=.4, 6.\)", first[1]), first
    assert net.trained_on.columns == ("area", "heating", "city")
    shift, scale = (net.buffers[f"standardize.1.{name}"] for name in ("shift", "scale"))
    assert shift[0] > 50 and scale[0] > 20 and shift[1:].tolist() == [0, 0] and scale[1:].tolist() == [1, 1]
    area, heating, city, words = flats(here, 20, 1, "later.csv")
    expected = net.predict(np.column_stack([area, heating, city]))
    assert np.isfinite(expected).all()
    frame = pandas.DataFrame({"city": ["ABCDEF"[c] for c in city], "area": area, "heating": words})
    np.testing.assert_array_equal(net.predict(frame), expected)
    (here / "later.csv").write_text(frame.to_csv(index=False))
    _, *found = nnjit("predict", "run", "--input", "later.csv").splitlines()
    np.testing.assert_allclose(list(map(float, found)), expected.ravel(), rtol=1e-6)
    assert "r2" in nnjit("evaluate", "run")
    (here / "later.csv").write_text("city,area,heating\nG,50,gas\n")
    assert "no value 'G'" in nnjit("predict", "run", "--input", "later.csv", status=1)
    assert Schema.from_table(json.loads(json.dumps(net.trained_on.table()))) == net.trained_on


@pytest.mark.parametrize(
    "layers, words",
    [
        ("dense(4) dense(1)", ["'heating' holds codes", "no layer takes them"]),
        ("embedding([1], [4]) dense(1)", ["'city' holds codes", "no layer takes them"]),
        ("embedding([1, 2], [3, 6]) dense(1)", ["'heating' holds codes", "3 rows", "4 codes"]),
        ("dense(3) embedding([1, 2], [4, 6]) dense(1)", ["'heating' holds codes"]),
    ],
)
def test_layers_that_do_not_take_the_codes(here, layers, words):
    flats(here)
    told = nnjit("run", "--data", SPEC, "--layers", layers, "--loss", "mse", "--output", "run", status=2)
    remedy = ["model.layers", "embedding(columns=[1, 2], counts=[4, 6])", "categories='onehot'"]
    assert all(word in told for word in (*words, *remedy)), told
    assert not (here / "run").exists()


def test_layers_that_take_the_codes(here):
    flats(here)
    layers = "embedding([1, 2], [4, 8], size=2) dense(1)"
    nnjit("run", "--data", SPEC, "--layers", layers, "--loss", "mse", "--epochs", "1", "--output", "run")
    assert [layer.spec().split("(")[0] for layer in load("run").layers] == [
        *("standardize", "embedding", "dense", "unstandardize")
    ]


def test_a_table_of_categories_alone_has_no_scale(here):
    flats(here)
    spec = SPEC.replace("target", "features=['heating', 'city'], target")
    nnjit("run", "--data", spec, "--epochs", "1", "--output", "run")
    assert load("run").layers[0].spec().startswith("embedding")


def test_codes_are_those_of_pandas():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"k": ["b", "a", None, "c", "b", "a"], "y": [0, 1, 0, 1, 0, 1]})
    codes = pandas.Categorical(frame["k"]).codes
    for missing, absent in (("indicator", 3), ("mean", 0)):
        dataset = data.table(frame, "y", validation=0, missing=missing, categories="codes")
        assert dataset.columns == ("k",)
        assert dataset.encoding.codes == {0: 4 if missing == "indicator" else 3}
        np.testing.assert_array_equal(np.asarray(dataset.train.x)[:, 0], np.where(codes < 0, absent, codes))
    with pytest.raises(SpecError, match=r"categories: .*code"):
        data.table(frame, "y", categories="code")


def test_an_older_encoding_has_no_codes():
    table = ENCODING.table()
    for coding in table["codings"]:
        coding.pop("codes")
    assert Encoding.from_table(table).codes == {} and ENCODING.codes == {1: 3}
