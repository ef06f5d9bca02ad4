"""Faulty configs, specs and data files: one sentence, exit status 1 or 2, and nothing left behind.

Each example is broken by construction: one that was right after all would train, and fail here by its exit status 0.
"""

import gzip
import io
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit.cli.main import nnjit
from nnjit.registry.specs import literal
from nnjit.storage import toml

a_hundred = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
EXAMPLE = {
    "model": {"layers": ["flatten", "dense(8)", "relu", "dense(10)"], "input_shape": [1, 8, 8], "dtype": "float32"},
    "data": {"name": "digits"},
    "training": {"loss": "cross_entropy", "optimizer": "sgd", "epochs": 1, "batch_size": 32, "seed": 0, "norm": 2.0},
    "run": {"device": "cpu", "threads": 1},
}
NOT_A_WORD = st.text(st.characters(codec="utf-8"), max_size=12).map(lambda text: f"{text}?")  # no name contains a "?"
WRONG = {  # values that no option of a kind accepts
    "text": st.one_of(st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), max_size=3)),
    "count": st.one_of(
        st.integers(max_value=-1), st.floats(), st.booleans(), NOT_A_WORD, st.lists(st.integers(), max_size=2)
    ),
    "number": st.one_of(st.floats(max_value=-1e-9), st.booleans(), NOT_A_WORD, st.lists(st.integers(), max_size=2)),
    "list": st.one_of(
        st.integers(),
        st.booleans(),
        st.floats(),
        st.just([]),
        st.lists(st.integers(max_value=0), min_size=1, max_size=3),
    ),
}
KINDS = {
    "layers": "list",
    "input_shape": "list",
    "epochs": "count",
    "batch_size": "count",
    "seed": "count",
    "threads": "count",
}
KINDS |= {"norm": "number"}


def refused(arguments, stdin=None, files=()):
    """Run the command line in an empty folder with some files; it must refuse in a sentence and leave no files."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, content in dict(files).items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)
        before = sorted(Path().rglob("*"))
        result = CliRunner().invoke(nnjit, arguments, input=stdin)
        assert sorted(Path().rglob("*")) == before
    assert type(result.exception) is SystemExit, result.exception  # any other exception would have been a traceback
    assert result.exit_code in (1, 2), result.output
    lines = result.output.splitlines()
    assert lines[0].startswith(("nnjit: ", "Usage: ")) and "Traceback" not in result.output, result.output
    mistakes = [line for line in lines if line.startswith("  ")]
    assert len(lines) <= 4 or len(lines) == 1 + len(mistakes), result.output
    return result.output


# -- configs -----------------------------------------------------------------------------------------------------------


@st.composite
def broken_tables(draw):
    """Make the example with one to three faults, as TOML."""
    table = json.loads(json.dumps(EXAMPLE))
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(list(table)))
        fault = draw(st.sampled_from(["section", "no section", "key", "value", "layer", "name"]))
        if fault == "section":
            table[draw(NOT_A_WORD)] = draw(st.one_of(st.integers(), st.just({})))
        elif fault == "no section" or not isinstance(table.get(section), dict):
            table[section] = draw(WRONG["text"])
        elif fault == "key":
            table[section][draw(NOT_A_WORD)] = draw(st.one_of(NOT_A_WORD, st.integers(-9, 9)))
        elif fault == "value":
            key = draw(st.sampled_from([key for key in table[section] if not key.endswith("?")] or ["?"]))
            table[section][key] = draw(WRONG[KINDS.get(key, "text")])
        elif fault == "layer" and isinstance(table["model"], dict) and isinstance(table["model"]["layers"], list):
            table["model"]["layers"].insert(draw(st.integers(0, 4)), draw(broken_specs()))
        else:
            table["training"] = {"loss": draw(NOT_A_WORD)}
    return toml.write(table)


@st.composite
def broken_text(draw):
    """Insert bytes that TOML forbids into the example's text, or cut it off inside a value."""
    text = toml.write(EXAMPLE).encode()
    if draw(st.booleans()):
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(st.sampled_from([b"\x00", b"\xff", b"\x7f", b"\n=\n", b"\n[\n", b'\n"\n'])) + text[at:]
    inside = [at for at in range(1, len(text)) if text[at - 1 : at] in b"=,[("]
    return text[: draw(st.sampled_from(inside))]


@a_hundred
@given(st.one_of(broken_text(), st.deferred(lambda: broken_tables().map(str.encode))), st.booleans())
def test_configs(content, piped):
    if piped:
        refused(["run", "-"], stdin=content)
    else:
        assert "broken.toml" in refused(["run", "broken.toml"], files={"broken.toml": content})


# -- specs -------------------------------------------------------------------------------------------------------------

OPTIONS = {"dense": ["units", "bias"], "dropout": ["rate"], "elu": ["alpha"], "layernorm": ["epsilon"]}


@st.composite
def broken_specs(draw):
    """Draw the spec of a layer with a fault."""
    name = draw(st.sampled_from(list(OPTIONS)))
    option = draw(st.sampled_from(OPTIONS[name]))
    fault = draw(st.sampled_from(["name", "option", "value", "syntax", "twice", "code", "many"]))
    if fault == "name":
        return draw(
            st.one_of(
                st.just(""), st.sampled_from(["dence(3)", "Dense(3)", "dense.x", "3", "'dense'", "[3]"]), NOT_A_WORD
            )
        )
    if fault == "option":
        return f"{name}({draw(st.sampled_from(['unit', 'sizes', 'x', '_', 'self', 'layer']))}=3)"
    if fault == "value":
        wrong = st.one_of(
            NOT_A_WORD, st.just([[]]), st.just({"a": 1}), st.integers(max_value=-1).filter(lambda n: n > -(2**63))
        )
        return f"{name}({option}={literal(draw(wrong))})"
    if fault == "twice":
        return f"{name}({option}=1, {option}=1)"
    if fault == "many":
        return f"{name}({', '.join(['1'] * draw(st.integers(5, 400)))})"
    if fault == "code":
        code = [
            "__import__('os').abort()",
            "1 + 1",
            "lambda: 1",
            "[x for x in (1,)]",
            "f'{1}'",
            "10 ** 10",
            "open",
            "9" * 5000,
        ]
        return f"{name}({option}={draw(st.sampled_from(code))})"
    text = f"{name}({option}=1)"
    at = draw(st.integers(1, len(text) - 1))
    return (
        text[:at]
        + draw(st.sampled_from(["(", ")", "]", "{", "'", '"', "\\", "\x00", "((", "**", "; ", "\n="]))
        + text[at:]
    )


@a_hundred
@given(broken_specs(), st.sampled_from(["layers", "data", "loss", "optimizer", "set", "metrics", "clip", "schedule"]))
def test_specs(spec, where):
    if where == "layers":  # commas and spaces divide --layers, so the spec is one argument of a table
        refused(["run", "-"], stdin=toml.write({"model": {"layers": ["flatten", spec, "dense(10)"]}}))
    elif where in ("data", "loss", "optimizer"):
        refused(["run", f"--{where}={spec}"])
    elif where == "set":
        refused(["run", "--set", f"model.layers[1]={spec}"])
    else:
        refused(["run", "-"], stdin=toml.write({"training": {where: [spec] if where == "metrics" else spec}}))


# -- data files --------------------------------------------------------------------------------------------------------


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


TABLE = [["a", "b", "label"], *([str(i), str(i * i), str(i % 2)] for i in range(6))]
X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6) % 2


@st.composite
def broken_csv(draw):
    rows = [list(row) for row in TABLE]
    at = draw(st.integers(1, len(rows) - 1))
    fault = draw(
        st.sampled_from(["cell", "label", "long", "short", "bytes", "head", "empty", "no rows", "column", "quote"])
    )
    if fault == "cell":
        rows[at][draw(st.integers(0, 1))] = draw(
            st.sampled_from(["", "nan", "inf", "1,5", "x", "1e999", "0x1", "--1", "\u0661?"])
        )
    elif fault == "label":
        rows[at][2] = draw(st.sampled_from(["", "-1", "0.5", "nan", "99999999999", "word"]))
    elif fault == "long":
        rows[at] += draw(st.lists(st.sampled_from(["0", "x"]), min_size=1, max_size=3))
    elif fault == "short":
        rows[at].pop()
    elif fault == "head":
        rows.pop(0)
    elif fault == "empty":
        return b""
    elif fault == "no rows":
        rows = rows[:1]
    elif fault == "column":
        rows[0][2] = "Label"
    text = "\n".join(",".join(row) for row in rows).encode()
    if fault == "bytes":
        place = draw(st.integers(0, len(text)))
        return text[:place] + draw(st.sampled_from([b"\xff\xfe", b"\x80", b"\xc3("])) + text[place:]
    return text.replace(b"\n", b'\n"', 1) if fault == "quote" else text


@st.composite
def broken_npz(draw):
    bad_x = [
        X.astype(complex),
        X.astype(str),
        X.astype(object),
        X[:5],
        X[:0],
        X * np.nan,
        X - np.inf,
        np.float32(3),
        X[None, :, :][:, :, :0],
    ]
    bad_y = [Y.astype(object), Y - 1, Y[:3], Y[:0], Y + 10**9, Y.astype(str), Y[:, None] * np.nan, np.array(1)]
    fault = draw(st.sampled_from(["x", "y", "names", "cut", "noise", "flipped"]))
    if fault == "x":
        return npz(x=draw(st.sampled_from(bad_x)), y=Y)
    if fault == "y":
        return npz(x=X, y=draw(st.sampled_from(bad_y)))
    if fault == "names":
        return npz(**draw(st.sampled_from([{"X": X, "Y": Y}, {"x": X}, {"y": Y}, {}, {"x_train": X, "y": Y}])))
    whole = npz(x=X, y=Y)
    if fault == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if fault == "noise":
        return draw(st.binary(min_size=1, max_size=300)) + b"."
    at = whole.index(X.tobytes()) + draw(st.integers(0, X.nbytes - 1))  # the archive's checksum shows it
    return whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]


@st.composite
def broken_idx(draw):
    images, labels = idx(np.zeros((6, 4, 4), np.uint8)), idx(Y.astype(np.uint8))
    fault = draw(st.sampled_from(["cut", "long", "head", "count", "gzip", "missing", "swapped"]))
    if fault == "cut":
        images = images[: draw(st.integers(0, len(images) - 1))]
    elif fault == "long":
        labels += draw(st.binary(min_size=1, max_size=9))
    elif fault == "head":
        images = (
            draw(st.sampled_from([b"\x00\x01", b"\x00\x00\x07\x01", b"PK\x03\x04", b"\x00\x00\x08\x00"])) + images[4:]
        )
    elif fault == "count":
        labels = idx(Y[: draw(st.integers(0, 5))].astype(np.uint8))
    elif fault == "gzip":
        squeezed = gzip.compress(images)
        images = squeezed[: draw(st.integers(2, len(squeezed) - 1))]
    elif fault == "swapped":
        images, labels = labels, images
    files = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}
    if fault == "missing":
        files.pop(draw(st.sampled_from(list(files))))
    return {f"mnist/{name}": content for name, content in files.items()}


@a_hundred
@given(
    st.one_of(
        st.tuples(
            st.just("csv(path='data.csv', label='label')"), broken_csv().map(lambda content: {"data.csv": content})
        ),
        st.tuples(st.just("npz('data.npz')"), broken_npz().map(lambda content: {"data.npz": content})),
        st.tuples(st.just("idx('mnist')"), broken_idx()),
        st.tuples(
            st.sampled_from(
                ["npz('no.npz')", "csv('no.csv', 0)", "idx('no')", "images('no')", "npz('.')", "images('.')"]
            ),
            st.just({}),
        ),
    )
)
def test_data_files(example):
    spec, files = example
    refused(["run", "--data", spec, "--layers", "flatten dense(2)", "--epochs", "1"], files=files)
