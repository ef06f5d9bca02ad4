"""Tables: kinds of columns, gaps, several labels, splits, encodings; against pandas and scikit-learn where there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import nnjit, records
from nnjit import data, load
from nnjit.data.csv_file import CSV
from nnjit.data.encoding import Encoding
from nnjit.data.schema import Schema
from nnjit.errors import DataError, NnjitError, SpecError

TEXT = """id;age;city;y;part
1;3.5;Rome;yes;train
2;;Paris;no;train
3;4;Rome;yes;val
4;5;NA;no;test
5;9;Oslo;no;Train
"""


def write(folder, text, name="table.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def read(folder, text, label="y", validation=0, **options):
    return CSV(write(folder, text), label, validation=validation, **options).load()


def refused(match, folder, text, **options):
    with pytest.raises(NnjitError, match=match) as caught:
        read(folder, text, **options)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1500 and not said.endswith("."), said
    return said


# -- against pandas and scikit-learn -----------------------------------------------------------------------------------


def test_drawn_tables_are_what_pandas_and_scikit_learn_make_of_them():
    """60 tables; `python tests/drawn_tables.py --count 300` draws more."""
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    import drawn_tables

    outcomes = drawn_tables.run(60)
    assert outcomes["the same matrix"] > 5, outcomes  # half of them, but drawn tables are alike


def test_texts_that_are_missing_are_those_of_pandas():
    parsers = pytest.importorskip("pandas._libs.parsers")
    from nnjit.data.table import MISSING

    assert set(parsers.STR_NA_VALUES) == MISSING


# -- separators and headers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_are_recognized(tmp_path, separator, mark):
    text = mark + 'a,"b;Cc",y\n1,2,0\n3,4,1\n'.replace(",", separator).replace("C", ",")
    dataset = read(tmp_path, text)
    assert dataset.columns == ("a", "b;,c") and dataset.train.x.tolist() == [[1, 2], [3, 4]]
    assert {",": "commas", ";": "semicolons", "\t": "tabs"}[separator] in dataset.description


def test_a_separator_of_several_in_the_first_line(tmp_path):
    assert read(tmp_path, "a,b;y\n1;0\n2;1\n").columns == ("a,b",)  # all rows have two cells with semicolons only
    assert "say which separate" in refused("commas and semicolons", tmp_path, "a,b;y\n1,0;2\n2,1;2\n")
    assert read(tmp_path, "a,b;y,z\n1;0\n2;1\n", "y,z", separator=";").columns == ("a,b",)


@pytest.mark.parametrize(
    ("text", "label", "columns"),
    [
        ("5.1,3,setosa\n4.9,3.1,virginica\n", -1, ("x1", "x2")),
        ("0.5,1\n0.25,0\n", "x2", ("x1",)),
        ("NA,1,0\n2,3,1\n", "x3", ("x1", "x2")),
        ("a,b,y\n1,2,0\n", 2, ("a", "b")),
        ("2019,2020,y\n1,2,0\n", "y", ("2019", "2020")),  # the label's name is in the first line
        ("a,b\nred,yes\n", "b", ("a=red",)),
    ],
)
def test_headers_are_recognized(tmp_path, text, label, columns):
    missing = "mean" if "NA" in text else "refuse"
    assert read(tmp_path, text, label, missing=missing).columns == columns


def test_a_header_in_doubt(tmp_path):
    for text in ("a,b\nred,yes\nblue,no\n", "0,1,2\n5,6,1\n", "name,2019,y\nx,3,1\n", "a,3\nb,b\n"):
        refused("may name the columns or be data; say header=True or header=False", tmp_path, text, label=-1)
    assert read(tmp_path, "a,b\nred,yes\n", -1, header=True).columns == ("a=red",)
    assert read(tmp_path, "a,b\nred,yes\n", -1, header=False).columns == ("x1=a", "x1=red")


# -- kinds -------------------------------------------------------------------------------------------------------------


def test_kinds_and_their_inputs(tmp_path):
    text = "a,zip,city,ok,y\n1,8001,Rome,True,0\n2,8002,Oslo,False,1\n3,8001,Rome,True,0\n"
    dataset = read(tmp_path, text, kinds={"zip": "category"})
    assert dataset.columns == ("a", "zip=8001", "zip=8002", "city=Oslo", "city=Rome", "ok=False", "ok=True")
    assert dataset.train.x[1].tolist() == [2, 0, 1, 1, 0, 1, 0]
    assert read(tmp_path, text, features=["zip", "a"]).columns == ("a", "zip")
    assert read(tmp_path, text, drop=["city", "ok"]).columns == ("a", "zip")
    rows = [line.split() for line in dataset.description.splitlines()[1:]]
    assert rows == [
        ["column", "kind", "missing", "values"], ["a", "number", "0", "1", "to", "3"],
        ["zip", "category", "0", "2:", "8001,", "8002"], ["city", "category", "0", "2:", "Oslo,", "Rome"],
        ["ok", "category", "0", "2:", "False,", "True"], ["y", "class", "0", "2:", "0,", "1"],
        ["note:", "the", "column", "'a'", "counts", "the", "rows;", "leave", "it", "out", "with", "drop=['a']"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("match", "text", "options"),
    [
        ("'day' holds dates, such as '2024-01-05'; .*drop=..day", "day,y\n2024-01-05,0\n2024-01-06,1\n", {}),
        ("'day' holds dates", "day,y\n5.1.2024,0\n06/01/24,1\n", {}),
        ("'day' holds dates", "day,y\n2024-01-05T10:00:00Z,0\n2024-01-06 11:30,1\n", {}),
        ("line 3, column 'x': 'a' is not a finite number; .*kinds={'x': 'category'}", "x,y\n1,0\na,1\n", {}),
        ("line 3, column 'x': '1' is a number, but 'a' is a word; .*kinds={'x': 'category'}", "x,y\na,0\n1,1\n", {}),
        ("line 2, column 'x': '1,5' is not a finite number", "x;y\n1,5;0\n2,5;1\n", {}),
        ("2 cells are not .*line 2, column 'x': '50%' .*; line 3", "x,y\n50%,0\n20%,1\n", {}),
        ("lines 2 and 3 write one value in two ways, '1', '01'", "x,y\n1,0\n01,1\n", {"kinds": {"x": "category"}}),
        ("line 2, column 'x': 'a' is not a finite number", "x,y\na,0\n", {"kinds": {"x": "number"}}),
        ("drop: it has no column 'xx'; did you mean x?", "x,y\n1,0\n", {"drop": ["xx"]}),
        ("features: it has no column 'z'", "x,y\n1,0\n", {"features": ["z"]}),
        ("kinds: it has no column 'z'", "x,y\n1,0\n", {"kinds": {"z": "number"}}),
        ("kinds: 'y' is no input", "x,y\n1,0\n", {"kinds": {"y": "number"}}),
        ("features: 'y' is a label", "x,y\n1,0\n", {"features": ["x", "y"]}),
        ("no features besides the label", "x,y\n1,0\n", {"drop": ["x"]}),
        ("kinds: expected", "x,y\n1,0\n", {"kinds": {"x": "date"}}),
        ("missing: expected", "x,y\n1,0\n", {"missing": "median"}),
        ("two inputs would be called 'a=b'", "a,a=b,y\nb,1,0\nc,1,1\n", {}),
        ("the label 'y' is named twice", "x,y\n1,0\n", {"label": ["y", -1]}),
        ("label: expected .* got none", "x,y\n1,0\n", {"label": []}),
        ("'b.n' holds a control character", 'a,y\n"b\n",0\n', {}),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, match, text, options):
    refused(match, tmp_path, text, **options)


def test_names_of_rows_are_no_categories(tmp_path):
    rows = "".join(f"passenger {i},{i % 3},{i % 2}\n" for i in range(60))
    said = refused("too many different values for a category, 'name' .60.", tmp_path, "name,a,y\n" + rows)
    assert "drop=['name']" in said and "kinds={'name': 'category'}" in said
    assert len(read(tmp_path, "name,a,y\n" + rows, kinds={"name": "category"}).columns) == 61
    dataset = read(tmp_path, "id,a,y\n" + "".join(f"{i},7,{i % 2}\n" for i in range(60)))
    assert "'id' counts the rows" in dataset.description and "'a' has one value only" in dataset.description


def test_every_bad_cell_is_counted_and_five_are_shown(tmp_path):
    text = "a,b,y\n" + "1,2,0\n" * 3 + "".join(f"x{i},?,0\n" for i in range(20))
    said = refused("40 cells are not what the column holds", tmp_path, text)
    assert re.findall(r"line (\d+), column '(.)'", said) == [("5", "a"), ("5", "b"), ("6", "a"), ("6", "b"), ("7", "a")]
    assert "and 35 more" in said
    text = "a,b,y\n" + "1,2,0\n" * 3 + ",NA,0\n" * 20
    said = refused("40 cells are missing", tmp_path, text)
    assert re.findall(r"line (\d+), column '(.)'", said) == [("5", "a"), ("5", "b"), ("6", "a"), ("6", "b"), ("7", "a")]
    assert "and 35 more" in said and "missing='drop'" in said


# -- gaps --------------------------------------------------------------------------------------------------------------

GAPS = "a,c,y\n1,p,0\n,q,1\n4,,0\n100,q,1\n10,q,1\n"


def test_gaps(tmp_path):
    """The column of splits keeps row 4 (100) from the means."""
    text = "\n".join(f"{line},{part}" for line, part in zip(GAPS.split(), ["part", *"ttt", "v", "t"], strict=True))
    text = re.sub(r"\bt$", "train", re.sub(r"\bv$", "validation", text, flags=re.M), flags=re.M)
    refused("2 cells are missing .line 3, column 'a'; line 4, column 'c'.", tmp_path, text, validation="part")
    drop = read(tmp_path, text, validation="part", missing="drop")
    assert drop.train.x.tolist() == [[1, 1, 0], [10, 0, 1]] and "2 dropped that miss a cell" in drop.description
    mean = read(tmp_path, text, validation="part", missing="mean")
    assert mean.columns == ("a", "c=p", "c=q")
    assert mean.train.x.tolist() == [[1, 1, 0], [5, 0, 1], [4, 0, 1], [10, 0, 1]]
    both = read(tmp_path, text, validation="part", missing="indicator")
    assert both.columns == ("a", "a missing", "c=p", "c=q", "c missing")
    assert both.train.x.tolist() == [[1, 0, 1, 0, 0], [5, 1, 0, 1, 0], [4, 0, 0, 0, 1], [10, 0, 0, 1, 0]]
    assert both.validation.x.tolist() == [[100, 0, 0, 1, 0]]


def test_a_label_is_never_filled_in(tmp_path):
    for missing in ("refuse", "mean", "indicator"):
        said = refused("1 cell is missing .line 3, column 'y'", tmp_path, "x,y\n1,a\n2,\n", missing=missing)
        assert "missing='drop'" in said
    assert len(read(tmp_path, "x,y\n1,a\n2,\n", missing="drop").train) == 1
    refused("never filled in", tmp_path, "x,y\n1,1\n2,NA\n", missing="mean", target="value")
    refused("every row has a missing cell", tmp_path, "x,y\n1,\n2,NA\n", missing="drop")
    refused("no training row has a value in the column 'x'", tmp_path, "x,y\n,1\nNA,2\n", missing="mean")


# -- labels ------------------------------------------------------------------------------------------------------------


def test_several_labels(tmp_path):
    text = "a,y,b,z\n1,0,5,1\n2,1,6,1\n3,1,7,0\n"
    answers = read(tmp_path, text, ["y", -1])
    assert answers.train.y.tolist() == [[0, 1], [1, 1], [1, 0]] and answers.targets == ("y", "z")
    assert answers.columns == ("a", "b") and answers.classes is None
    values = read(tmp_path, text.replace("1,0,5,1", "1,0.25,5,-3"), ["z", "y"], target="value")
    assert values.train.y.tolist() == [[-3, 0.25], [1, 1], [0, 1]] and values.targets == ("z", "y")
    refused("line 3, column 'z': each of several labels is 0 or 1, got 2", tmp_path, text.replace("6,1", "6,2"),
            label=["y", "z"])  # fmt: skip
    assert read(tmp_path, text, "y", target="value").targets == ("y",)
    assert read(tmp_path, text, "y").targets is None


# -- splits ------------------------------------------------------------------------------------------------------------


def test_a_column_divides_the_rows(tmp_path):
    dataset = read(tmp_path, TEXT, validation="part", drop=["id"], missing="indicator")
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [3, 1, 1]
    assert dataset.test.x.tolist() == [[5, 0, 0, 0, 0, 1]] and dataset.validation.y.tolist() == [1]
    same = read(tmp_path, TEXT, validation="part", test="part", drop=["id"], missing="indicator")
    np.testing.assert_array_equal(same.test.x, dataset.test.x)
    text = TEXT.replace("val\n", "train\n")
    only = read(tmp_path, text, validation=0.25, test="part", missing="mean")
    assert [len(split) for split in (only.train, only.validation, only.test)] == [3, 1, 1]
    for match, text, options in (
        ("line 4, column 'part': expected train, validation or test, got 'maybe'", TEXT.replace("val", "maybe"), {}),
        ("line 4, column 'part': expected .* got nothing", TEXT.replace("val", ""), {}),
        ("no cell of the column 'part' says validation", TEXT.replace("val", "train"), {}),
        ("no row is left to train with", re.sub("[tT]rain", "val", TEXT), {}),
        ("has test rows, and test is given", TEXT, {"test": 0.5}),
        ("has no column 'prt'; did you mean part", TEXT, {"validation": "prt"}),
        ("has rows for validation too; give validation='part'", TEXT, {"validation": 0, "test": "part"}),
        ("validation: expected a share", TEXT, {"validation": "0.2"}),
        ("test: expected", TEXT, {"test": 1.5}),
        ("test: expected", TEXT, {"test": ""}),
    ):
        refused(match, tmp_path, text, **{"validation": "part", "missing": "mean", **options})


def test_shares_are_disjoint(tmp_path):
    dataset = read(tmp_path, "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)), validation=0.25, test=0.5)
    parts = [split.x[:, 0] for split in (dataset.train, dataset.validation, dataset.test)]
    assert [len(part) for part in parts] == [10, 10, 20] and sorted(np.concatenate(parts)) == list(range(40))


@pytest.mark.parametrize("values, rows, noted", [(21, 100, True), (21, 300, False), (20, 40, False)])
def test_many_whole_numbers_as_classes_are_noted(tmp_path, values, rows, noted):
    dataset = read(tmp_path, "a,y\n" + "".join(f"{i},{i % values}\n" for i in range(rows)))
    assert any("target='value'" in note for note in dataset.notes) == noted


def test_other_files(tmp_path):
    later = write(tmp_path, "city,y,age,id\nOslo,no,7,1\nRome,yes,,2\n", "later.tsv".replace("tsv", "csv"))
    options = {"drop": ["id", "part"], "missing": "mean"}
    dataset = read(tmp_path, TEXT, validation=later, test=later, **options)
    assert dataset.columns == ("age", "city=Oslo", "city=Paris", "city=Rome")
    assert dataset.validation.x.tolist() == [[7, 1, 0, 0], [5.375, 0, 0, 1]]  # the mean of the training file
    assert dataset.validation.y.tolist() == [0, 1] and len(dataset.train) == 5 and len(dataset.test) == 2
    for match, text in (
        ("line 2, column 'city': the training data has no value 'Oxlo'; did you mean Oslo", "city,y,age\nOxlo,no,7\n"),
        ("holds the class 'maybe', which .* does not", "city,y,age\nOslo,maybe,7\n"),
        ("columns are not those of training .missing: 'city'; unknown: 'town'", "town,y,age\nOslo,no,7\n"),
        ("classes are words there and numbers", "city,y,age\nOslo,1,7\n"),
    ):
        write(tmp_path, text, "later.csv")
        refused(match, tmp_path, TEXT, validation=later, **options)


# -- frames and Arrow --------------------------------------------------------------------------------------------------


class Series:
    """A column of a frame."""

    def __init__(self, array):
        self.array = array

    def to_numpy(self):
        return self.array


class Plain:
    """The least that a frame has."""

    def __init__(self, **columns):
        self.columns, self.arrays = list(columns), columns

    def __getitem__(self, name):
        return Series(np.asarray(self.arrays[name]))


def test_a_frame(tmp_path):
    frame = Plain(
        age=np.array([3.5, np.nan, 4, 5, 9]), city=np.array(["Rome", "Paris", "Rome", None, "Oslo"], object),
        y=np.array(["yes", "no", "yes", "no", "no"]), part=np.array(["train", "train", "val", "test", "Train"], object),
        id=np.arange(1, 6), ok=np.array([True, False, True, True, False]),
    )  # fmt: skip
    text = TEXT.replace("id;", "ok;").replace("\n1;", "\nTrue;").replace("\n2;", "\nFalse;").replace("\n3;", "\nTrue;")
    text = text.replace("\n4;", "\nTrue;").replace("\n5;", "\nFalse;")
    for missing in ("mean", "indicator", "drop"):
        ours = data.table(frame, "y", validation="part", drop=["id"], missing=missing)
        file = read(tmp_path, text, validation="part", missing=missing)
        columns = [file.columns.index(name) for name in ours.columns]
        np.testing.assert_array_equal(ours.train.x, file.train.x[:, columns])
        assert ours.class_names == ("no", "yes") and set(ours.columns) == set(file.columns)
    with pytest.raises(DataError, match=r"row 1 .counted from 0., column 'age'; row 3"):
        data.table(frame, "y", drop=["id", "part"])


@pytest.mark.parametrize(
    ("match", "column"),
    [
        ("holds dates, such as '2024-01-05'", np.array(["2024-01-05", "2024-01-06"], "M8[D]")),
        ("row 1 .*: '1' is not a number|row 0 .*'a' is not a number", np.array(["a", 1], object)),
        ("row 1 .*: inf is not a finite number", np.array([1, np.inf])),
        ("row 0 .*: expected a number or a text, got a list", np.array([[1], [1, 2], None], object)[:2]),
        ("holds complex128", np.array([1j, 2])),
        ("has shape", np.zeros((2, 2))),
    ],
)
def test_columns_of_frames_that_cannot_be_used(match, column):
    with pytest.raises(DataError, match=match):
        data.table(Plain(x=column, y=np.array([0, 1])), "y", validation=0)


def test_what_is_no_frame():
    with pytest.raises(DataError, match="expected a frame"):
        data.table(np.eye(3), "y")
    with pytest.raises(SpecError, match="missing: expected"):
        data.table(Plain(x=[1], y=[1]), "y", missing="spam")
    with pytest.raises(SpecError, match="validation: expected a share or a column of the frame"):
        data.table(Plain(x=[1], y=[1]), "y", validation="later.csv")


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_parquet_and_arrow(tmp_path, suffix):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pa.table(
        {"age": [3.5, None, 4.0, 5.0, 9.0], "city": ["Rome", "Paris", "Rome", None, "Oslo"],
         "y": ["yes", "no", "yes", "no", "no"], "part": ["train", "train", "val", "test", "Train"]}
    )  # fmt: skip
    path = tmp_path / f"table.{suffix}"
    (parquet.write_table if suffix == "parquet" else feather.write_feather)(table, str(path))
    spec = f"arrow({str(path)!r}, label='y', validation='part', missing='indicator')"
    found, file = data.load(spec), read(tmp_path, TEXT, validation="part", drop=["id"], missing="indicator")
    np.testing.assert_array_equal(found.train.x, file.train.x)
    assert found.encoding.codings == file.encoding.codings
    later = data.samples(path, file.encoding)
    np.testing.assert_array_equal(later.train.x[:1], file.train.x[:1])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be read as a table"):
        data.load(spec)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_row_groups_are_one_table(tmp_path, suffix):
    """Columns of all kinds, whose dictionaries and gaps differ from group to group, are those of pandas' frame."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "number": rng.normal(size=40), "whole": rng.integers(0, 9, 40), "small": rng.integers(0, 9, 40).astype("u1"),
        "gaps": np.where(rng.random(40) < 0.4, np.nan, rng.normal(size=40)), "yes": rng.random(40) < 0.5,
        "text": rng.choice(["a", "b", None], 40), "kind": pd.Categorical(np.repeat(["u", "v", "w", "x"], 10)),
        "label": rng.choice(["p", "q"], 40),
    })  # fmt: skip
    path = tmp_path / f"table.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path, row_group_size=7)
    else:
        frame.to_feather(path, chunksize=7)
    found = data.load(f"arrow({str(path)!r}, label='label', missing='indicator', validation=0)")
    expected = data.table(frame, "label", missing="indicator", validation=0)
    assert found.columns == expected.columns and found.class_names == expected.class_names
    np.testing.assert_array_equal(found.train.x, expected.train.x)
    np.testing.assert_array_equal(found.train.y, expected.train.y)


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = write(tmp_path, "x", "table.parquet")
    with pytest.raises(DataError, match=re.escape('needs pyarrow: pip install "nnjit[arrow]"')):
        data.load(f"arrow({path!r}, label='y')")


# -- the encoding travels with the network -----------------------------------------------------------------------------


def test_an_encoding_is_saved_and_read(tmp_path):
    dataset = read(tmp_path, TEXT, validation="part", drop=["id"], missing="indicator")
    schema = Schema.of_dataset(dataset)
    assert Schema.from_table(json.loads(json.dumps(schema.table()))) == schema
    older = {name: value for name, value in schema.table().items() if name not in ("targets", "encoding")}
    assert Schema.from_table(older).of_columns == Encoding.of_numbers(dataset.columns)


def rows(count, seed):
    rng = np.random.default_rng(seed)
    city, x = rng.integers(0, 3, count), rng.normal(size=count)
    return x, city, ["yes" if x > 1 - city else "no" for x, city in zip(x, city, strict=True)]


def test_raw_tables_for_a_saved_network(tmp_path, here):
    """Run, evaluate and predict on raw files give what `net.predict` gives for the matrix made by hand."""
    names = np.array(["Oslo", "Paris", "Rome"])
    x, city, y = rows(90, 0)
    lines = [f"{i};{'' if i % 9 == 0 else x[i]};{names[city[i]]};{y[i]}" for i in range(90)]
    write(tmp_path, "id;x;city;y\n" + "\n".join(lines), "train.csv")
    spec = "csv('train.csv', label='y', drop=['id'], missing='indicator', validation=0.2)"
    layers = ["--layers", "dense(2)", "--epochs", "5", "--optimizer", "adam(lr=0.1)"]
    said = nnjit("run", "--data", spec, *layers, "--output", "run")
    assert re.search(r"train\.csv: 90 rows, separated by semicolons.*\n.*\nid +dropped\nx +number +10 .*\ncity", said)
    net = load("run")
    mean = net.trained_on.encoding.codings[0].fill
    x, city, y = rows(20, 1)
    matrix = np.column_stack([np.where(np.arange(20) < 3, mean, x), np.arange(20) < 3, city[:, None] == np.arange(3)])
    cells = [f"{names[city[i]]},{y[i]},{'NA' if i < 3 else float(x[i])},{i}" for i in range(20)]
    write(tmp_path, "city,y,x,id\n" + "\n".join(cells), "later.csv")
    expected = net.predict(matrix)
    head, *found = nnjit("predict", "run", "--input", "later.csv").splitlines()
    assert head == "class,confidence,p(no),p(yes)"
    probabilities = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([list(map(float, row.split(",")[2:])) for row in found], probabilities, rtol=1e-5)
    frame = Plain(x=np.where(np.arange(20) < 3, np.nan, x), city=names[city].astype(object), id=np.arange(20))
    np.testing.assert_array_equal(net.predict(frame), expected)
    told = nnjit("evaluate", "run", "--data", "csv('later.csv', label='y', validation=0)")
    accuracy = float(re.search(r"accuracy +(\S+)", told).group(1))
    right = np.array(["no", "yes"])[expected.argmax(1)] == np.array(y)
    assert accuracy == pytest.approx(right.mean(), abs=1e-6)
    own = nnjit("evaluate", "run", stream="stdout").splitlines()[1]
    assert own.endswith(f"18 of {here / 'train.csv'}, held out of training")
    for match, text in (
        ("line 2, column 'city': the training data has no value 'Bern'", "city,x\nBern,1\n"),
        ("missing: 'city'", "x\n1\n"),
        ("unknown: 'z'", "x,city,z\n1,Rome,2\n"),
        ("1 cell is missing .line 2, column 'city'.; fill", "x,city\n1,\n"),
        ("line 2, column 'x': 'spam' is not a finite number", "x,city\nspam,Rome\n"),
    ):
        write(tmp_path, text, "later.csv")
        assert re.search(match, nnjit("predict", "run", "--input", "later.csv", status=1))
    assert len(records(here / "run"))


def test_a_table_of_numbers_is_not_copied(tmp_path):
    """x is the array that the reader filled: 8 bytes a cell."""
    path = write(tmp_path, "a,b,c,y\n" + "1.5,2.5,3.5,0\n4,5,6,1\n" * 100_000)
    code = (
        "import resource, sys, numpy\nfrom nnjit.data.csv_file import CSV\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"dataset = CSV({path!r}, 'y', validation=0).load()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    used = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert int(used.stdout) * 1024 < 200_000 * 8 * 5 * 2.5  # five numbers a row, and what growing arrays leave


def test_the_commands_and_outputs_of_the_document(here):
    """docs/tables.md, from top to bottom: each command runs, each quoted output comes."""
    text = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
    blocks, said = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL), ""
    assert {"python", "sh", "text", "csv"} == {language for language, _ in blocks}
    for language, content in blocks:
        if language == "python" and "pandas" in content:
            pytest.importorskip("pandas")
        if language == "python":
            exec(compile(content, "docs/tables.md", "exec"), {})
        elif language == "csv" and content.startswith("line,"):
            continue  # mistakes.csv of a run with classes: tests/test_mistakes.py
        elif language == "csv":
            write(here, content, "later.csv")
            write(here, content.replace("gas", "oil"), "wrong.csv")
        elif language == "text":
            assert content in said
        else:
            said = ""
            for line in content.splitlines():
                said += nnjit(*shlex.split(line)[1:], status=None)
