"""`nnjit evaluate` and `nnjit predict` against NumPy and against the network itself."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from command_line import nnjit
from nnjit import data, load


def test_evaluate_agrees_with_numpy(trained):
    net, digits = load(trained), data.load("digits")
    for part, split in (("validation", digits.validation), ("train", digits.train)):
        x, y = split.take(slice(None), np.float64)
        z = x.reshape(len(x), -1) @ net.parameters["dense.2.W"].T.astype(float) + net.parameters["dense.2.b"]
        shifted = z - z.max(1, keepdims=True)
        loss = float(np.mean(np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]))
        found = dict(line.split(maxsplit=1) for line in nnjit("evaluate", trained, "--split", part).splitlines())
        assert float(found["accuracy"]) == pytest.approx(np.mean(z.argmax(1) == y), abs=1e-6)
        assert float(found["loss"]) == pytest.approx(loss, rel=1e-4)
        assert found["samples"].startswith(f"{len(y)} of ")
    assert nnjit("evaluate", trained) == nnjit("evaluate", trained, "--split", "validation", "--metrics", "accuracy")


def test_evaluate_of_a_file_needs_data(trained):
    file = trained / "last.safetensors"
    assert "give --data SPEC" in nnjit("evaluate", file, status=2)
    assert "accuracy" in nnjit("evaluate", file, "--data", "digits")
    assert "no validation samples" in nnjit("evaluate", file, "--data", "ten_points", "--split", "validation", status=2)
    assert nnjit("evaluate", file, "--data", "ten_points", status=2).startswith("nnjit: ")  # of another shape
    assert "no metric is called" in nnjit("evaluate", trained, "--metrics", "acuracy", status=2)
    assert nnjit("evaluate", "missing", status=1).startswith("nnjit: missing: expected a saved network")


def test_predictions_are_those_of_the_network(trained, here):
    net = load(trained)
    x, _ = data.load("digits").validation.take(slice(None), np.float32)
    y = net.predict(x)
    shown = nnjit("predict", trained, "--data", "digits")
    nnjit("predict", trained, "--data", "digits", "--output", "y.csv")
    assert Path("y.csv").read_text() == shown
    head, *rows = csv.reader(shown.splitlines())
    assert head == ["class", *(f"y{i}" for i in range(10))]
    assert np.array_equal(np.array(rows)[:, 1:].astype(np.float32), y)  # every bit
    assert [int(row[0]) for row in rows] == y.argmax(1).tolist()
    np.savez("x.npz", x=x)
    nnjit("predict", trained, "--input", "x.npz", "--output", "y.npz")
    with np.load("y.npz") as saved:
        assert np.array_equal(saved["y"], y) and np.array_equal(saved["class"], y.argmax(1))
    np.savetxt(
        "x.csv",
        x.reshape(len(x), -1),
        delimiter=",",
        header=",".join(f"p{i}" for i in range(64)),
        comments="",
        fmt="%.9g",
    )
    file = trained / "last.safetensors"  # nothing says that the outputs are classes
    head, *rows = csv.reader(nnjit("predict", file, "--input", "x.csv").splitlines())
    assert head == [f"y{i}" for i in range(10)] and np.array_equal(np.array(rows).astype(np.float32), y)


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
