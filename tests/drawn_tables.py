"""Drawn tables, read by nnjit and by pandas with scikit-learn: the same matrix, or a sentence.

    python tests/drawn_tables.py --count 300

Tables have numbers in many forms, categories and gaps in drawn columns and labels, one label or several in any order,
columns to leave out, a drawn separator, quotes, spaces, empty lines, ends of lines, a byte order mark, a column that
says train, validation or test, and sometimes no header, a separator that is none or one odd cell. pandas.read_csv reads
them, a ColumnTransformer of OneHotEncoder (or OrdinalEncoder) and SimpleImputer(add_indicator=True) encodes them. A
table with gaps that no option allows, an odd cell or a column without values must be refused; any other must give the
matrix, unless its separator or header is in doubt, which the sentence then says; what it says to do must then help. The
same matrix must come from the frame of pandas, and from a file with the columns in another order, read as the encoding
says.
"""

import argparse
import csv
import io
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit import data
from nnjit.data.csv_file import CSV
from nnjit.errors import NnjitError

WORDS = ("red", "green", "blue", "New York", "a,b", "x;y", "größe", "it's", 'say "hi"', "S", "m-1")
NAMES = ("a", "b_2", "Größe", "x,y", "p;q", "it's", "two words", 'in "quotes"')
ODD = ("spam", "1,5", "1_0", "inf", "0x1F", "12%", "--1", "1e999", "1 2")
GAPS = ("", "NA", "N/A", "nan", "NaN", "null", "NULL", "None", "n/a", "<NA>", "#N/A")
SPLIT = {
    "train": ("train", "Training", "TRAIN"), "validation": ("validation", "val", "VALID", "dev"),
    "test": ("test", "Test"),
}  # fmt: skip
FORMS = ("{:.6g}", "{:.6g}", "{:+.3e}", "{:.2E}", "{:.0f}.", "{:.17g}", "{:07.1f}")


@st.composite
def tables(draw):
    """Draw a table as a dict: its columns of text, and how it is written and read."""
    rows = draw(st.integers(3, 16) | st.integers(22, 28))  # the first 20 rows decide on separator and header
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    columns, kinds = {}, {}
    for name in names:
        kind = draw(st.sampled_from(["number", "number", "whole", "words", "flags", "codes"]))
        number = st.builds(str.format, st.sampled_from(FORMS), st.floats(-1e6, 1e6)) | st.sampled_from([".5", "-.25"])
        words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
        cell = {
            "number": number, "whole": st.integers(-9, 99).map(str), "words": st.sampled_from(words),
            "flags": st.sampled_from(["True", "False"]), "codes": st.integers(1, 4).map(str),
        }[kind]  # fmt: skip
        cells = draw(st.lists(cell, min_size=rows, max_size=rows))
        gaps = draw(st.sampled_from([0, 0, 1, 2, 3]))
        for row in draw(st.lists(st.integers(0, rows - 1), min_size=gaps, max_size=gaps)):
            cells[row] = draw(st.sampled_from(GAPS))
        columns[name], kinds[name] = cells, "number" if kind in ("number", "whole") else "category"
        if kind == "codes":
            kinds[name] = "declared"
    label = draw(st.sampled_from(["words", "numbers", "value", "values", "answers"]))
    count = 1 if label in ("words", "numbers", "value") else draw(st.integers(2, 3))
    cell = {
        "words": st.sampled_from(["yes", "no", "per haps"]), "numbers": st.integers(0, 3).map(str),
        "answers": st.sampled_from("01"),
    }.get(label, st.floats(-9, 9).map(lambda x: f"{x:.4g}"))  # fmt: skip
    labels = [f"y{k}" for k in range(count)]
    columns |= {name: draw(st.lists(cell, min_size=rows, max_size=rows)) for name in labels}
    label_gaps = max(0, draw(st.integers(0, 9)) - 7)
    for row in draw(st.lists(st.integers(0, rows - 1), min_size=label_gaps, max_size=label_gaps)):
        columns[draw(st.sampled_from(labels))][row] = draw(st.sampled_from(GAPS))
    divided = draw(st.booleans())
    if divided:
        tested = ["test"] * draw(st.integers(0, 1))
        parts = [draw(st.sampled_from(["train", "train", "validation", *tested])) for _ in range(rows)]
        columns["part"] = [draw(st.sampled_from(SPLIT[part])) for part in parts]
    if draw(st.booleans()):  # names of the rows, which are no input
        columns["id"] = [f"row {i}" if i else draw(st.sampled_from(["", "row"])) for i in range(rows)]
    left_out = (
        draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names) - 1)) if draw(st.booleans()) else []
    )
    odd = draw(st.sampled_from(ODD)) if draw(st.integers(0, 7)) == 0 else None
    kinds = {name: kind for name, kind in kinds.items() if name not in left_out}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    if odd is not None and numbers:
        columns[draw(st.sampled_from(numbers))][draw(st.integers(0, rows - 1))] = odd
    else:
        odd = None
    order = draw(st.permutations(list(columns)))
    header = draw(st.sampled_from([True, True, False]))
    return {
        "columns": {name: columns[name] for name in order}, "kinds": kinds, "label": label,
        "labels": draw(st.permutations(labels)), "label gaps": label_gaps > 0, "named": draw(st.booleans()),
        "divided": divided, "odd": odd, "missing": draw(st.sampled_from(["refuse", "drop", "mean", "indicator"])),
        "separator": draw(st.sampled_from(",;\t" * 5 + "|" * header)), "say separator": draw(st.booleans()),
        "header": header, "say header": draw(st.booleans()), "blank": draw(st.booleans()), "open": draw(st.booleans()),
        "quote": draw(st.booleans()), "spaces": draw(st.booleans()), "mark": draw(st.booleans()),
        "categories": draw(st.sampled_from(["onehot", "codes"])),
        "end": draw(st.sampled_from(["\n", "\r\n", "\r"])), "shuffled": draw(st.permutations(list(columns))),
    }  # fmt: skip


def written(table, order, header=True):
    """Return the text of a table with its columns in this order."""
    text, columns = io.StringIO(), table["columns"]
    quoting = csv.QUOTE_ALL if table["quote"] else csv.QUOTE_MINIMAL
    rows = [*([order] if header else []), *zip(*(columns[name] for name in order), strict=True)]
    if table["spaces"] and not table["quote"]:
        odd = set(',;"\t')
        rows = [[cell if odd & set(cell) else f" {cell} " for cell in row] for row in rows]
    writer = csv.writer(text, delimiter=table["separator"], quoting=quoting, lineterminator=table["end"])
    for i, row in enumerate(rows):
        writer.writerow(row)
        text.write(table["end"] * (table["blank"] and i % 3 == 1))
    found = text.getvalue()
    return ("\ufeff" if table["mark"] else "") + (found.removesuffix(table["end"]) if table["open"] else found)


def options_of(table, names):
    """Return the options of the reader, for a table whose columns it calls by `names`."""
    labels = [names[name] for name in table["labels"]]
    inputs = [names[name] for name in reversed(table["kinds"])]
    others = [name for name in names.values() if name not in (*inputs, *labels, names.get("part"))]
    left_out = {"features": inputs} if table["named"] else {"drop": others}
    declared = {names[name]: "category" for name, kind in table["kinds"].items() if kind == "declared"}
    return {
        "label": labels if len(labels) > 1 else labels[0],
        "target": "value" if table["label"].startswith("value") else "class", "missing": table["missing"],
        "kinds": declared or None, "categories": table["categories"],
        "validation": names["part"] if table["divided"] else 0,
    } | left_out  # fmt: skip


def oracle(path, table, names):
    """Return (x, y, part of each row, frame) by pandas and scikit-learn; a text if the table must be refused."""
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    if table["odd"] is not None:
        return "an odd cell"
    if table["separator"] == "|":
        return "no separator"
    frame = pandas.read_csv(
        path, sep=table["separator"], header=0 if table["header"] else None, encoding="utf-8-sig",
        names=None if table["header"] else list(names.values()), skipinitialspace=True,
        index_col=False, na_values=[f"{gap} " for gap in GAPS],
    )  # fmt: skip
    frame.columns = [name.strip() for name in frame.columns]
    for name in frame.columns:
        if frame[name].dtype.kind not in "biuf":
            frame[name] = frame[name].map(lambda cell: cell.strip() if isinstance(cell, str) else cell)
    kinds = {names[name]: kind for name, kind in table["kinds"].items()}
    features = [name for name in frame.columns if name in kinds]
    labels = [names[name] for name in table["labels"]]
    for name in features:  # a column of text: pandas reads flags and codes as it likes
        if kinds[name] != "number":
            text = frame[name].map(lambda v: v if v != v else str(int(v)) if isinstance(v, float) else str(v))
            frame[name] = text.astype(object)
    gaps = frame[features].isna().to_numpy()
    if table["missing"] == "refuse" and gaps.any():
        return "gaps"
    if table["missing"] != "drop" and table["label gaps"]:
        return "gaps in a label"
    if table["missing"] == "drop":
        frame = frame.dropna(subset=[*features, *labels]).reset_index(drop=True)
        if not len(frame):
            return "only gaps"
    parts = np.array(["train"] * len(frame))
    if table["divided"]:
        part_of = {text.lower(): part for part, texts in SPLIT.items() for text in texts}
        parts = frame[names["part"]].str.lower().map(part_of).to_numpy()
        if not {"train", "validation"} <= set(parts):
            return "one part"
    train = parts == "train"
    if frame[features][train].isna().all().any():
        return "a column without values"
    steps = []
    for name in features:
        known = sorted(frame[name].dropna().unique()) if kinds[name] != "number" else None
        if known is None:
            step = SimpleImputer(add_indicator=table["missing"] == "indicator")
        elif table["missing"] == "mean":
            encoder = OneHotEncoder if table["categories"] == "onehot" else OrdinalEncoder
            step = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder(categories=[known]))
        elif table["categories"] == "codes":  # missing is the last value
            values = np.array([*known, *[np.nan] * bool(frame[name].isna().any())], object)
            step = OrdinalEncoder(categories=[values], encoded_missing_value=len(known))
        else:
            absent = [np.nan] * bool(frame[name].isna().any())
            step = OneHotEncoder(categories=[np.array([*known, *absent], object)] if table["divided"] else "auto")
        steps.append((name, step, [name]))
    x = ColumnTransformer(steps, sparse_threshold=0).fit(frame[train]).transform(frame)
    y = frame[labels].to_numpy()
    if table["label"] == "words":
        y = np.unique(y.astype(str), return_inverse=True)[1].ravel()
    return np.asarray(x, float), y.ravel() if table["label"] == "numbers" else y, parts, frame


def trial(table, folder):
    """Compare one table; return what happened, or raise AssertionError."""
    order = list(table["columns"])
    path = folder / "table.csv"
    path.write_text(written(table, order, table["header"]), encoding="utf-8", newline="")
    names = {name: name if table["header"] else f"x{i + 1}" for i, name in enumerate(order)}
    options = options_of(table, names)
    options |= {"separator": table["separator"]} if table["say separator"] else {}
    options |= {"header": table["header"]} if table["say header"] else {}
    expected = oracle(path, table, names)
    try:
        dataset = CSV(str(path), **options).load()
    except NnjitError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 1500 and not said.endswith("."), said
        if isinstance(expected, str):
            return f"refused: {expected}"
        same(answered(said, table, path, options), *expected[:3])
        return "in doubt"
    assert not isinstance(expected, str), f"must be refused: {expected}"
    x, y, parts, frame = expected
    same(dataset, x, y, parts)
    options.pop("separator", None), options.pop("header", None)
    from_frame = data.table(frame, **options)
    same(from_frame, x, y, parts)
    assert from_frame.encoding.codings == dataset.encoding.codings
    if table["header"] and table["missing"] != "drop":
        path.write_text(written(table, table["shuffled"]), encoding="utf-8", newline="")
        found = data.samples(path, dataset.encoding)
        np.testing.assert_allclose(found.train.x, x, rtol=1e-12)
    return "the same matrix"


def answered(said, table, path, options):
    """Return the data set once all that messages of doubt ask for is said: the separator first, then the header."""
    asked = "header" if "header=True or header=False" in said else "separator"
    assert asked not in options and f"{asked}=" in said, said
    options = options | {asked: table[asked]}
    try:
        return CSV(str(path), **options).load()
    except NnjitError as error:
        return answered(str(error), table, path, options)


def same(dataset, x, y, parts):
    """Compare inputs and targets of all splits."""
    assert len(dataset.columns) == x.shape[1] == len(set(dataset.columns))
    for part in SPLIT:
        rows, split = parts == part, getattr(dataset, part)
        assert (split is None) == (not rows.any())
        if split is not None:
            np.testing.assert_allclose(split.x, x[rows], rtol=1e-12)
            np.testing.assert_array_equal(split.y, y[rows])


def run(count):
    """Draw and compare tables; return what happened how often."""
    outcomes = Counter()

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(table=tables())
    def every(table):
        with tempfile.TemporaryDirectory() as folder:
            outcomes[trial(table, Path(folder))] += 1

    every()
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=300)
    for outcome, number in sorted(run(parser.parse_args().count).items()):
        print(f"{outcome:35} {number}")
