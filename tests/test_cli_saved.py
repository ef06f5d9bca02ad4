"""`nnjit evaluate` and `nnjit predict` against NumPy and against the network itself."""

import csv
import json
import math
import os
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import nnjit
from hypothesis import given
from hypothesis import strategies as st
from nnjit import data, load, registry
from nnjit.launch.predictions import Predictions


def test_evaluate_agrees_with_numpy(trained):
    net, digits = load(trained), data.load("digits")
    for part, split in (("validation", digits.validation), ("train", digits.train)):
        x, y = split.take(slice(None), np.float64)
        z = x.reshape(len(x), -1) / 16 @ net.parameters["dense.3.W"].T.astype(float) + net.parameters["dense.3.b"]
        shifted = z - z.max(1, keepdims=True)
        loss = float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]))
        found = dict(line.split(maxsplit=1) for line in nnjit("evaluate", trained, "--split", part).splitlines())
        assert float(found["accuracy"]) == pytest.approx(np.mean(z.argmax(1) == y), abs=1e-6)
        assert float(found["loss"]) == pytest.approx(loss, rel=1e-4)
        assert found["samples"].startswith(f"{len(y)} of ")
    assert nnjit("evaluate", trained) == nnjit("evaluate", trained, "--split", "validation", "--metrics", "accuracy")


def test_evaluate_of_a_file_needs_data(trained, tmp_path):
    file = trained / "last.safetensors"
    assert "give --data SPEC" in nnjit("evaluate", file, status=2)
    assert "accuracy" in nnjit("evaluate", file, "--data", "digits")
    split = data.load("digits").validation
    np.savez(tmp_path / "x.npz", x=split.x, y=split.y)
    alone = f"npz({str(tmp_path / 'x.npz')!r}, validation=0)"
    assert "no validation samples" in nnjit("evaluate", file, "--data", alone, "--split", "validation", status=2)
    said = nnjit("evaluate", file, "--data", "ten_points", status=1)
    assert "samples have shape (2,), the network takes (1, 8, 8)" in said
    assert "no metric is called" in nnjit("evaluate", trained, "--metrics", "acuracy", status=2)
    assert nnjit("evaluate", "missing", status=1).startswith("nnjit: missing: expected a saved network")


@pytest.fixture
def drawn(here):
    """Train on a table of 40 rows, 8 of which the seed holds out; tables of 25 more, of other names and divided."""
    rng = np.random.default_rng(3)

    def write(name, count, **more):
        x = rng.normal(size=(count, 2))
        y = x @ [2, -1] + 0.3 * rng.normal(size=count)
        head = ",".join(["u", "v", "y", *more])
        rows = zip(*x.T.tolist(), y.tolist(), *more.values(), strict=True)
        Path(name).write_text(head + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
        return x.astype(np.float32), y[:, None]

    made = {"t.csv": write("t.csv", 40), "new.csv": write("new.csv", 25)}
    write("parts.csv", 20, part=["train", "validation"] * 10)
    spec = "csv(path='t.csv', label='y', target='value', validation=0.2)"
    nnjit("run", "--data", spec, "--layers", "dense(1)", "--epochs", 2, "--seed", 5, "--output", "run")
    return made, data.load(spec, 5), load("run")


def said_by(*arguments):
    found = dict(line.split(maxsplit=1) for line in nnjit("evaluate", *arguments).splitlines())
    return found["samples"], float(found["loss"])


def test_other_data_is_measured_whole_and_own_data_where_it_was_held_out(drawn):
    """Losses against the mean squared error of the predictions, by NumPy."""
    made, divided, net = drawn

    def mse(x, y):
        return pytest.approx(np.mean((net.predict(x.astype(np.float32)) - y) ** 2), rel=1e-4)

    held = mse(divided.validation.x, divided.validation.y)
    os.symlink("t.csv", "link.csv")
    full = "csv(path='t.csv', label='y', target='value', validation=0.2)"
    plain = "csv(path='t.csv', label='y', target='value')"  # whose share would be another one
    names = [["--data", name] for name in (full, plain, "t.csv", "./t.csv", "link.csv")]
    for own in ([], *names, ["--split", "validation"], [*names[2], "--split", "validation"]):
        assert said_by("run", *own) == (f"8 of {Path.cwd() / 't.csv'}, held out of training", held)
    trained = said_by("run", "--split", "train", "--data", "t.csv")
    assert "32 of " in trained[0] and trained[0].endswith("which the network was trained on")
    assert trained[1] == mse(divided.train.x, divided.train.y)
    found = said_by("run", "--data", plain.replace(")", ", validation=0)"))
    assert found == ("40 of t.csv, all rows, also those that the network was trained on", mse(*made["t.csv"]))
    for other in ("new.csv", "csv(path='new.csv', label='y', target='value', validation=0.4)"):
        assert said_by("run", "--data", other) == ("25 of new.csv, all rows", mse(*made["new.csv"]))
    assert said_by("run", "--data", other, "--split", "validation")[0] == "10 of new.csv, its validation rows"
    parts = "csv(path='parts.csv', label='y', target='value', validation='part')"
    assert said_by("run", "--data", parts)[0] == "10 of parts.csv, its validation rows"
    x, y = made["new.csv"]
    np.savez("new.npz", x=x, y=y)
    assert said_by("run", "--data", "new.npz") == ("25 of new.npz (x, y), all rows", mse(x, y))
    _, columns = read_rows(nnjit("predict", "run", "--data", "new.csv"))
    np.testing.assert_allclose(columns["y"].astype(float), net.predict(x)[:, 0], rtol=1e-6)
    _, columns = read_rows(nnjit("predict", "run", "--data", "t.csv", stream="stdout"))
    assert len(columns["y"]) == 8
    unknown = said_by("run/last.safetensors", "--data", full, "--loss", "mse")
    assert unknown[0].startswith("8 of t.csv, some of which the network may have been trained on")


@pytest.mark.parametrize("change", ["validation=0.5", "test=0.3", "label='u'", "validation='v'", "drop=['u']"])
def test_rows_of_the_training_file_are_not_held_out_again(drawn, change):
    name = change.partition("=")[0]
    options = {"label": "'y'", "target": "'value'", name: change.partition("=")[2]}
    spec = "csv(path='t.csv', " + ", ".join(f"{key}={value}" for key, value in options.items()) + ")"
    for command in ("evaluate", "predict"):
        said = nnjit(command, "run", "--data", spec, status=2)
        assert "t.csv is the data that the network was trained on" in said and f"leave out {name}=" in said


def test_a_table_named_alone_needs_a_label_by_name(drawn):
    """The place of a column in another table may be another one, so it is asked for."""
    spec = "csv(path='t.csv', label=-1, target='value')"
    nnjit("run", "--data", spec, "--layers", "dense(1)", "--epochs", 1, "--output", "placed")
    assert said_by("placed", "--data", "t.csv")[0].endswith("held out of training")
    assert "say which column to predict" in nnjit("evaluate", "placed", "--data", "new.csv", status=1)


def softmax(z):
    """Softmax of rows, by Python's own sums."""
    rows = []
    for row in np.asarray(z, float).tolist():
        powers = [math.exp(each - max(row)) for each in row]
        rows.append([power / math.fsum(powers) for power in powers])
    return np.array(rows)


def read_rows(text):
    """Return the head and the columns of a CSV text."""
    head, *rows = csv.reader(text.splitlines())
    return head, dict(zip(head, np.array(rows).T, strict=True))


@pytest.mark.parametrize("top", [None, 2])
def test_outputs_that_are_nan_have_no_class(top):
    net = registry.compose(["dense(3)", "softmax"], (2,))
    y = np.array([[0.2, 0.5, 0.3], [np.nan, 0.5, 0.3], [0.6, 0.3, 0.1]])
    first, confidence, *_ = Predictions(net, None, top=top).columns(y)
    assert list(first) == [1, -1, 0] and list(confidence) == [0.5, pytest.approx(np.nan, nan_ok=True), 0.6]


def test_predictions_are_those_of_the_network(trained, here):
    net = load(trained)
    x, _ = data.load("digits").validation.take(slice(None), np.float32)
    y = net.predict(x)
    shown = nnjit("predict", trained, "--data", "digits", stream="stdout")
    nnjit("predict", trained, "--data", "digits", "--output", "y.csv")
    assert Path("y.csv").read_text() == shown
    head, columns = read_rows(shown)
    assert head == ["class", "confidence", *(f"p({i})" for i in range(10))]
    p = softmax(y)
    np.testing.assert_allclose(np.array([columns[f"p({i})"] for i in range(10)], float).T, p, rtol=1e-12)
    np.testing.assert_allclose(columns["confidence"].astype(float), p.max(1), rtol=1e-12)
    assert columns["class"].astype(int).tolist() == y.argmax(1).tolist()
    np.savez("x.npz", x=x)
    nnjit("predict", trained, "--input", "x.npz", "--output", "y.npz")
    with np.load("y.npz") as saved:
        assert np.array_equal(saved["y"], y) and np.array_equal(saved["class"], y.argmax(1))  # every bit
        np.testing.assert_allclose(saved["p"], p, rtol=1e-12)
        assert [str(each) for each in saved["confidence"]] == columns["confidence"].tolist()
    nnjit("predict", trained, "--data", "digits", "--output", "y.jsonl")
    rows = [json.loads(line) for line in Path("y.jsonl").read_text().splitlines()]
    assert [row["class"] for row in rows] == y.argmax(1).tolist()
    assert [repr(row["p(3)"]) for row in rows] == columns["p(3)"].tolist()  # every digit
    names = ",".join(f"p{i}" for i in range(64))
    np.savetxt("x.csv", x.reshape(len(x), -1), delimiter=",", header=names, comments="", fmt="%.9g")
    file = trained / "last.safetensors"  # nothing says that the outputs are classes
    head, columns = read_rows(nnjit("predict", file, "--input", "x.csv"))
    assert head == [f"y{i}" for i in range(10)]
    assert np.array_equal(np.array(list(columns.values())).T.astype(np.float32), y)
    assert nnjit("predict", file, "--input", "-", stdin=Path("x.csv").read_text()) == nnjit(
        "predict", file, "--input", "x.csv"
    )
    nnjit("predict", file, "--input", "x.csv", "--output", "raw.jsonl")
    rows = [json.loads(line) for line in Path("raw.jsonl").read_text().splitlines()]
    assert np.array_equal(np.array([list(row.values()) for row in rows]).astype(np.float32), y)


def test_the_most_probable_classes(trained):
    y = load(trained).predict(data.load("digits").validation.take(slice(None), np.float32)[0])
    head, columns = read_rows(nnjit("predict", trained, "--data", "digits", "--top", 3, stream="stdout"))
    assert head == ["class", "confidence", "class 2", "confidence 2", "class 3", "confidence 3"]
    order = np.argsort(-y, axis=1)
    for k, (name, confidence) in enumerate((head[:2], head[2:4], head[4:])):
        assert columns[name].astype(int).tolist() == order[:, k].tolist()
        expected = softmax(y)[np.arange(len(y)), order[:, k]]
        np.testing.assert_allclose(columns[confidence].astype(float), expected, rtol=1e-12)
    assert "from 1 to that of the classes, 10, got 11" in nnjit(
        "predict", trained, "--data", "digits", "--top", 11, status=2
    )
    said = nnjit("predict", trained / "last.safetensors", "--data", "digits", "--top", 1, status=2)
    assert "the probabilities of classes are not known" in said


@pytest.fixture
def kinds(here):
    """Train on a table of two classes with names, and return its path and that of the run."""
    rng = np.random.default_rng(1)
    rows = [(f"n{i}", *rng.normal(i % 2, 1, 2), ("no", "yes")[i % 2]) for i in range(60)]
    lines = "".join(f"{u:.5f},{v:.5f},{kind}\n" for _, u, v, kind in rows)
    Path("t.csv").write_text("u,v,kind\n" + lines)
    Path("new.csv").write_text("name,v,u\n" + "".join(f"{name},{v:.5f},{u:.5f}\n" for name, u, v, _ in rows))
    options = ["--data", "csv(path='t.csv', label='kind')", "--epochs", 1]
    nnjit("run", *options, "--layers", "dense(1)", "--loss", "binary_cross_entropy", "--output", "one")
    nnjit("run", *options, "--layers", "dense(2) softmax", "--loss", "cross_entropy", "--output", "two")
    return here


def test_one_logit_is_the_probability_of_the_second_class(kinds):
    y = load("one").predict(np.loadtxt("t.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=np.float32))[:, 0]
    head, columns = read_rows(nnjit("predict", "one", "--input", "new.csv", "--id", "name"))
    assert head == ["name", "class", "confidence", "p(no)", "p(yes)"]
    assert columns["name"].tolist() == [f"n{i}" for i in range(60)]
    expected = [1 / (1 + math.exp(-each)) for each in y.tolist()]
    np.testing.assert_allclose(columns["p(yes)"].astype(float), expected, rtol=1e-12)
    np.testing.assert_allclose(columns["p(no)"].astype(float), 1 - np.array(expected), rtol=1e-9)
    assert columns["class"].tolist() == ["yes" if p > 0.5 else "no" for p in expected]
    most = np.maximum(expected, 1 - np.array(expected))
    np.testing.assert_allclose(columns["confidence"].astype(float), most, rtol=1e-9)
    _, top = read_rows(nnjit("predict", "one", "--input", "new.csv", "--id", "name", "--top", 2))
    assert top["class"].tolist() == columns["class"].tolist()
    assert all({a, b} == {"no", "yes"} for a, b in zip(top["class"], top["class 2"], strict=True))


def test_a_carried_column_may_be_a_feature_and_is_never_lost(kinds):
    Path("t2.csv").write_text("u,v\n1.50,2\n-0,3e0\n")
    head, columns = read_rows(nnjit("predict", "one", "--input", "t2.csv", "--id", "u"))
    assert head[0] == "u" and columns["u"].tolist() == ["1.50", "-0"]
    said = nnjit("predict", "one", "--input", "new.csv", status=1)
    assert "'name'" in said  # not carried, so it would be a feature
    assert "no column 'nam'" in nnjit("predict", "one", "--input", "new.csv", "--id", "nam", status=1)
    assert "--id names a column of --input" in nnjit("predict", "one", "--data", "digits", "--id", "u", status=2)
    text = "name,v,u\na,1,x\n"
    said = nnjit("predict", "one", "--input", "-", "--id", "name", stdin=text, status=1)
    assert said.startswith("nnjit: standard input, line 2, column 'u'")
    nnjit("predict", "one", "--input", "new.csv", "--id", "name", "--output", "p.jsonl")
    first = json.loads(Path("p.jsonl").read_text().splitlines()[0])
    assert list(first) == ["name", "class", "confidence", "p(no)", "p(yes)"] and first["name"] == "n0"
    np.savez("x.npz", x=np.zeros((3, 2)), who=np.array(["a", "b", "c"]))
    nnjit("predict", "one", "--input", "x.npz", "--id", "who", "--output", "p.npz")
    with np.load("p.npz") as saved:
        assert saved["id"].tolist() == ["a", "b", "c"] and saved["class"].dtype.kind == "U"


@pytest.mark.parametrize("source", ["odd.csv", "odd.dat", "-"])
def test_a_table_in_doubt_is_read_as_its_reader_says(kinds, source):
    """The message of doubt has the form that then works; the predictions are those of a table without doubt."""
    rows = np.array([[1, 2], [0, -3], [7, 0.5]])
    Path("plain.csv").write_text("u,v\n" + "".join(f"{u:g},{v:g}\n" for u, v in rows))
    expected = nnjit("predict", "one", "--input", "plain.csv")
    text = "u;v;a,b\n" + "".join(f"{u:g};{v:g};x,y\n" for u, v in rows)
    if source != "-":
        Path(source).write_text(text)
    stdin = text if source == "-" else None
    known = ["--id", "a,b"]
    spec = f"csv(path={source!r})" if source.endswith(".dat") else source
    said = nnjit("predict", "one", "--input", spec, *known, stdin=stdin, status=1)
    assert f"--input \"csv(path={source!r}, separator=','" in said and "/tmp" not in said
    form = said[said.index('"csv(') + 1 :].split('"')[0].replace("separator=','", "separator=';'")
    head, columns = read_rows(nnjit("predict", "one", "--input", form, *known, stdin=stdin))
    assert head[0] == "a,b" and columns["a,b"].tolist() == ["x,y"] * 3
    assert [columns[name].tolist() for name in head[1:]] == [each.tolist() for each in read_rows(expected)[1].values()]


def test_a_header_in_doubt_is_answered_by_input(kinds):
    """Two columns whose names are numbers: the first line counts, so it may be either."""
    Path("digits.csv").write_text("1,2,label\n" + "".join(f"{i},{-i},{'ab'[i % 2]}\n" for i in range(20)))
    options = ["--data", "csv(path='digits.csv', label='label')", "--layers", "dense(2)", "--epochs", 1]
    nnjit("run", *options, "--output", "counted")
    Path("later.csv").write_text("5,6\n7,8\n")
    said = nnjit("predict", "counted", "--input", "later.csv", status=1)
    assert "names no columns" in said
    Path("later.csv").write_text("3,4\n7,x\n")
    said = nnjit("predict", "counted", "--input", "later.csv", status=1)
    assert "--input \"csv(path='later.csv', header=True)\"" in said
    Path("later.csv").write_text("2,1\n7,8\n")
    nnjit("predict", "counted", "--input", "csv(path='later.csv', header=True)")


@pytest.mark.parametrize(
    "spec, said",
    [
        ("csv(path='new.csv', label='u')", "csv: label is about training; for samples without targets csv takes path"),
        ("npz(path='x.npz', validation=0.3)", "npz: validation is about training"),
        ("digits()", "digits does not read samples without targets"),
        ("cvs(path='new.csv')", "did you mean csv"),
        ("csv(path='new.csv', seperator=';')", "separator"),
        ("new.xls", "name the reader of another, such as"),
        ("csv(path='nwe.csv')", "did you mean new.csv"),
    ],
)
def test_readers_of_input_that_cannot_be(kinds, spec, said):
    found = nnjit(
        "predict", "one", "--input", spec, status=1 if said.startswith(("name the", "did you mean new")) else 2
    )
    assert said in found and found.startswith("nnjit: ")


def test_a_network_that_ends_in_softmax_says_probabilities_without_its_run(kinds):
    net = load("two")
    y = net.predict(np.loadtxt("t.csv", delimiter=",", skiprows=1, usecols=(0, 1), dtype=np.float32))
    _, columns = read_rows(nnjit("predict", "two/last.safetensors", "--input", "new.csv", "--id", "name"))
    assert np.array_equal(columns["p(no)"].astype(float), y[:, 0].astype(float))
    _, by_loss = read_rows(nnjit("predict", "two", "--input", "new.csv", "--id", "name"))  # softmax of the outputs
    np.testing.assert_allclose(by_loss["p(no)"].astype(float), softmax(y)[:, 0], rtol=1e-12)


def predictions(layers, loss, top=None):
    """Return the columns of a network that was trained with this loss."""
    resolved = SimpleNamespace(settings=SimpleNamespace(loss=registry.losses.create(loss)))
    return Predictions(registry.compose(layers, (2,)), resolved, None, top)


logits = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.floats(-5, 5, width=32)


@given(z=st.lists(logits, min_size=3, max_size=3))
def test_probabilities_of_any_logits(z):
    """Against exact sums; the order of the classes is that of the outputs, also where probabilities are equal."""
    y = np.array([z], np.float32)
    columns = dict(zip(*(lambda p: (p.head, p.columns(y)))(predictions("dense(3)", "cross_entropy")), strict=True))
    p = [float(columns[f"p({k})"][0]) for k in range(3)]
    np.testing.assert_allclose(p, softmax(y)[0], rtol=1e-12, atol=0)
    assert columns["class"][0] == y[0].argmax() and float(columns["confidence"][0]) == max(p)
    best = predictions("dense(3)", "cross_entropy", top=3)
    found = dict(zip(best.head, best.columns(y), strict=True))
    order = [found[name][0] for name in ("class", "class 2", "class 3")]
    assert order == sorted(range(3), key=lambda k: (-y[0, k], k))
    assert [float(found[name][0]) for name in ("confidence", "confidence 2", "confidence 3")] == [p[k] for k in order]


@given(z=logits)
def test_two_probabilities_of_any_logit(z):
    y = np.array([[z]], np.float32)
    found = predictions("dense(1)", "binary_cross_entropy")
    columns = {name: column[0] for name, column in zip(found.head, found.columns(y), strict=True)}
    power = Decimal(float(y[0, 0])).copy_negate().exp() if abs(z) < 700 else None
    if power is not None:
        np.testing.assert_allclose(float(columns["p(1)"]), float(1 / (1 + power)), rtol=1e-14)
        np.testing.assert_allclose(float(columns["p(0)"]), float(power / (1 + power)), rtol=1e-14)
    assert columns["class"] == int(y[0, 0] > 0) and columns["confidence"] == max(columns["p(0)"], columns["p(1)"])
    assert 0 <= columns["p(0)"] <= 1 and columns["p(0)"] + columns["p(1)"] == pytest.approx(1, rel=1e-15)


def test_outputs_that_are_answers_to_several_questions():
    found = predictions("dense(3)", "binary_cross_entropy")
    assert found.head == ["p(0)", "p(1)", "p(2)"]
    p = [column[0] for column in found.columns(np.array([[0.0, -2.0, 3.0]], np.float32))]
    np.testing.assert_allclose(p, [0.5, 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-3))], rtol=1e-14)


def test_values_have_the_names_of_their_targets(here):
    Path("reader.py").write_text(
        "import numpy as np\nfrom nnjit import registry\nfrom nnjit.data import Dataset, Split\n"
        "from nnjit.registry import Options\n@registry.datasets.register('two_targets')\nclass Two(Options):\n"
        "    def load(self):\n        x = np.arange(40.0).reshape(20, 2) / 40\n"
        "        return Dataset('two', Split(x, x[:, ::-1] * 2), targets=('mass', 'age'), validation_share=0.2)\n"
    )
    options = ["--data", "two_targets", "--plugin", "reader.py"]
    nnjit("run", *options, "--layers", "dense(2)", "--loss", "mse", "--epochs", 1, "--output", "run")
    head, columns = read_rows(nnjit("predict", "run", *options, "--split", "train", stream="stdout"))
    assert head == ["mass", "age"] and len(columns["mass"]) == 16
    net = load("run")
    assert net.trained_on.targets == ("mass", "age")
    x, _ = data.load("two_targets").train.take(slice(None), np.float32)
    assert np.array_equal(columns["age"].astype(np.float32), net.predict(x)[:, 1])


def test_a_table_on_a_terminal(trained, monkeypatch):
    """On a terminal the first rows, shortened; through a pipe CSV."""
    from nnjit.cli import predict

    monkeypatch.setattr(predict.sys.stdout.__class__, "isatty", lambda self: True, raising=False)
    shown = []
    monkeypatch.setattr("nnjit.cli.text.table", lambda head, rows: shown.append((head, rows)))
    predict._show(["class", "confidence"], iter([("a", 0.123456789)] * 60), 60)
    head, rows = shown[0]
    assert head == ["class", "confidence"] and len(rows) == 50 and rows[0] == ["a", "0.1235"]


def test_predictions_that_cannot_be(trained, here):
    (here / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    np.savez("two.npz", a=np.zeros((2, 1, 8, 8)), b=np.zeros(2))
    np.savez("nan.npz", np.full((2, 64), np.nan))
    np.savez("text.npz", x=np.array(["a"]))
    np.savez("scalar.npz", x=np.float32(1))
    Path("wide.csv").write_text("a,b\n1,2\n")
    Path("word.csv").write_text(",".join(f"a{i}" for i in range(64)) + "\n" + ",".join("x" * 64) + "\n")
    Path("torn.csv").write_text("a,b\n1,2\n1\n")
    Path("head.csv").write_text("a,b\n")
    Path("x.txt").write_text("1")
    before = sorted(os.listdir())
    for name, said in {
        "bad.npz": "is not an NPZ file", "two.npz": "no array x, but a, b", "nan.npz": "NaN", "text.npz": "text.npz",
        "scalar.npz": "x must have shape", "wide.csv": "the network takes (1, 8, 8)", "word.csv": "line 2",
        "torn.csv": "line 3: 1 columns", "head.csv": "no rows", "x.txt": ".npz or .csv", "missing.npz": "there is no",
    }.items():  # fmt: skip
        assert said in nnjit("predict", trained, "--input", name, "--output", "y.csv", status=1)
    for arguments in ([], ["--data", "digits", "--input", "x.csv"], ["--data", "digits", "--output", "y.txt"]):
        nnjit("predict", trained, *arguments, status=2)
    assert "there is no folder" in nnjit("predict", trained, "--data", "digits", "--output", "no/y.csv", status=2)
    assert sorted(os.listdir()) == before
