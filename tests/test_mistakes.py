"""`mistakes.csv`: the mistakes of a run on a table, beside the rows of the file and the predictions, read by pandas."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import nnjit
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit.data.csv_file import CSV
from nnjit.training.predicted import mistakes

pd = pytest.importorskip("pandas")

pytestmark = pytest.mark.usefixtures("linked")
HEAT = ["gas", "wood", "district"]


@pytest.fixture
def homes(here):
    rng = np.random.default_rng(3)
    area = rng.uniform(20, 120, 160).round(1)
    frame = pd.DataFrame({
        "area": area, "rooms": area.astype(int) // 30, "heating": rng.choice(HEAT, 160),
        "price": np.where(area + rng.normal(0, 25, 160) > 70, "dear", "cheap"),
    })  # fmt: skip
    frame.loc[::17, "area"] = np.nan
    frame.loc[4::29, "heating"] = None
    frame.to_csv("homes.csv", index=False)
    return frame


def test_the_mistakes_of_a_run_are_rows_of_its_file(homes, here):
    data = "csv(path='homes.csv', label='price', missing='indicator', validation=0.5)"
    run = ["run", "--layers", "dense(3) tanh dense(2)", "--data", data, "--output", "run"]
    said = nnjit(*run, "--epochs", 2)
    found = pd.read_csv("run/mistakes.csv")
    assert "mistakes.csv" in said and list(found) == ["line", "true", "predicted", "confidence", *list(homes)[:3]]
    rows = homes.iloc[found["line"] - 2].reset_index(drop=True)  # a header, and lines are counted from 1
    pd.testing.assert_frame_equal(found[["area", "rooms", "heating"]], rows[["area", "rooms", "heating"]])
    assert list(found["true"]) == list(rows["price"]) and (found["true"] != found["predicted"]).all()
    nnjit("predict", "run", "--input", "homes.csv", "--id", "price", "--output", "all.csv")
    every = pd.read_csv("all.csv").iloc[found["line"] - 2]
    assert list(every["class"]) == list(found["predicted"])
    np.testing.assert_allclose(every["confidence"], found["confidence"], rtol=1e-5)
    assert found["confidence"].is_monotonic_decreasing and found["line"].is_unique
    records = map(json.loads, Path("run/log.jsonl").read_text().splitlines())
    best = min((each for each in records if "val_loss" in each), key=lambda each: each["val_loss"])
    assert len(found) == round((1 - best["val_accuracy"]) * 80)


@pytest.mark.parametrize("label, layers", [("area", "dense(1)"), (None, "dense(10)")])
def test_what_has_no_table_of_mistakes(homes, here, label, layers):
    """Values, and what is no table."""
    data = "digits" if label is None else f"csv(path='homes.csv', label='{label}', target='value', missing='drop')"
    said = nnjit("run", "--data", data, "--layers", f"flatten {layers}", "--epochs", 1, "--output", "run")
    assert "mistakes.csv" not in said and not os.path.exists("run/mistakes.csv")


CELLS = {"number": st.sampled_from(["", "1", "2.5", "-3e20", "0.1"]), "category": st.sampled_from(["", *HEAT])}


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(["drop", "indicator"]), st.sampled_from(["onehot", "codes"]), st.integers(2, 20))
def test_cells_are_those_of_the_file(tmp_path_factory, data, missing, categories, count):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    rows = [["1", "2", "gas", "a"], ["1", "3", "wood", "b"]]  # no column is without a value
    rows += [[data.draw(CELLS[kind]) for kind in ("number", "number", "category")] + ["a"] for _ in range(count)]
    path.write_text("\n".join(map(",".join, [["u", "v", "heat", "label"], *rows])))
    kinds = {"u": "number", "v": "number", "heat": "category"}
    dataset = CSV(str(path), label="label", missing=missing, categories=categories, kinds=kinds, validation=0).load()
    counted, lines = dataset.train.places
    cells, frame = dataset.encoding.decode(dataset.train.x), pd.read_csv(path, keep_default_na=False, dtype=str)
    if missing == "drop":
        frame = frame[(frame != "").all(axis=1)]
    assert counted == "line" and list(lines) == list(frame.index + 2) and list(cells) == ["u", "v", "heat"]
    assert cells["heat"] == list(frame["heat"])
    for name in "uv":
        assert [cell if cell == "" else float(cell) for cell in cells[name]] == [
            cell if cell == "" else float(cell) for cell in frame[name]
        ]


def test_rows_of_a_typed_file_are_counted_from_0(homes, here):
    pytest.importorskip("pyarrow")
    from nnjit.data.arrow_file import Arrow

    homes.to_parquet("homes.parquet")
    dataset = Arrow("homes.parquet", label="price", missing="drop", validation=0.5).load()
    whole = homes.dropna().index
    for split in (dataset.train, dataset.validation):
        counted, rows = split.places
        assert counted == "row" and set(rows) <= set(whole)
        np.testing.assert_array_equal(homes["area"][rows], split.x[:, 0])


def test_at_most_some_rows_are_listed(monkeypatch):
    from types import SimpleNamespace

    from nnjit.data.encoding import Encoding
    from nnjit.data.split import Split

    split = Split(np.arange(20.0)[:, None], np.zeros(20, int), places=("row", np.arange(20)))
    trainer = SimpleNamespace(
        train=split, validation=None, metrics=SimpleNamespace(outputs=SimpleNamespace(kind="classes")),
        schema=SimpleNamespace(encoding=Encoding.of_numbers(("true",)), classes=None),
    )  # fmt: skip
    tensors = {"true": split.y, "predicted": np.arange(20) % 2, "confidence": np.linspace(0, 1, 20)}
    monkeypatch.setattr("nnjit.training.predicted.MISTAKES", 3)
    head, columns = mistakes(trainer, tensors)
    assert (
        head == ["row", "true", "predicted", "confidence", "true"]
        and [list(c) for c in columns][::4] == [[19, 17, 15]] * 2
    )
    assert mistakes(trainer, tensors | {"predicted": split.y}) is None
