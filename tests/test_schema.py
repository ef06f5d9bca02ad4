"""Later data is matched with the training data: columns and classes by name, numbers by their units."""

import csv
import json
import re

import numpy as np
import pytest
from command_line import nnjit, records
from hypothesis import given, settings
from hypothesis import strategies as st
from nnjit import data, load, registry
from nnjit.data import Dataset, Split
from nnjit.data.schema import Schema
from nnjit.errors import CheckpointError, DataError, ShapeError
from nnjit.plots import confusion
from nnjit.plots.run_log import read
from nnjit.storage import checkpoint
from PIL import Image

pytestmark = pytest.mark.usefixtures("linked")

KINDS = ("cat", "cow", "dog")


def rows_of(count, seed):
    """Draw rows (a, b, c) and kinds that depend on them."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, count)
    return rng.normal(size=(count, 3)) + 3 * np.eye(3)[kinds], [KINDS[kind] for kind in kinds]


def write_table(path, x, kinds, columns="abc", validation=0):
    """Format the columns in this order, the kind between the first two."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([columns[0], "kind", *columns[1:]])
        for row, kind in zip(x, kinds, strict=True):
            cells = [repr(float(row["abc".index(name)])) if name in "abc" else "7" for name in columns]
            writer.writerow([cells[0], kind, *cells[1:]])
    return f"csv(path={str(path)!r}, label='kind', validation={validation})"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Make a run on a table of words, and more such rows."""
    folder = tmp_path_factory.mktemp("table")
    spec = write_table(folder / "train.csv", *rows_of(90, 0), validation=0.1)
    layers = ["--layers", "dense(3)", "--epochs", "8", "--optimizer", "adam(lr=0.1)", "--set", "model.scale=off"]
    nnjit("run", "--data", spec, *layers, "--output", folder / "run")
    return folder / "run", *rows_of(40, 1)


def measured(*arguments, **named):
    return dict(line.split(maxsplit=1) for line in nnjit("evaluate", *arguments, **named).splitlines()[1:])


def by_hand(net, x, labels):
    """Compute accuracy and loss in NumPy."""
    z = x @ net.parameters["dense.1.W"].T.astype(float) + net.parameters["dense.1.b"]
    e = z - z.max(1, keepdims=True)
    return np.mean(z.argmax(1) == labels), np.mean(np.log(np.exp(e).sum(1)) - e[np.arange(len(x)), labels])


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["abc", "cab", "bca", "cba"])
@pytest.mark.parametrize("missing", [None, "cat", "cow", "dog"])
def test_columns_and_classes_are_matched_by_name(table, tmp_path, order, missing):
    run, x, kinds = table
    kept = [i for i, kind in enumerate(kinds) if kind != missing]
    x, kinds = x[kept], [kinds[i] for i in kept]
    found = measured(run, "--data", write_table(tmp_path / "t.csv", x, kinds, order))
    accuracy, loss = by_hand(load(run), x, np.array([KINDS.index(kind) for kind in kinds]))
    assert float(found["accuracy"]) == pytest.approx(accuracy, abs=1e-6) and accuracy > 0.9
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-4)


def test_columns_and_classes_that_do_not_match(table, tmp_path):
    run, x, kinds = table

    def refused(columns, kinds=kinds):
        return nnjit("evaluate", run, "--data", write_table(tmp_path / "t.csv", x, kinds, columns), status=1)

    assert re.search(r"columns .* of training .*missing.* 'b', 'c'(?!,)", refused("a"))
    assert re.search(r"missing.* 'c'(?!,).* unknown.* 'd'(?!,)", refused("abd"))
    assert re.search(r"unknown.* 'd', 'e'(?!,)", refused("adbec")) and "missing" not in refused("adbec")
    assert "not trained on the class 'cats'; did you mean cat?" in refused("abc", ["cats", *kinds[1:]])
    assert "not trained on the class 'emu', 'gnu'; it knows 'cat', 'cow', 'dog'" in refused(
        "abc", ["emu", "gnu", *kinds[2:]]
    )


def test_names_are_in_the_checkpoint_the_log_the_picture_and_the_predictions(table, tmp_path, here):
    run, x, _ = table
    assert load(run).trained_on.columns == ("a", "b", "c") and load(run).trained_on.classes == KINDS
    assert [r["val_classes"] for r in records(run) if r.get("epoch_end")] == [list(KINDS)] * 8
    assert confusion.matrix(read(run))[1] == list(KINDS)
    np.savetxt("t.csv", x[:, [2, 0, 1]], delimiter=",", header="c,a,b", comments="", fmt="%.17g")
    head, *rows = csv.reader(nnjit("predict", run, "--input", "t.csv").splitlines())
    y = load(run).predict(x)
    assert head == ["class", "confidence", *(f"p({name})" for name in KINDS)]
    p = np.exp(y.astype(float)) / np.exp(y.astype(float)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.array(rows)[:, 2:].astype(float), p, rtol=1e-12)
    assert [row[0] for row in rows] == [KINDS[i] for i in y.argmax(1)]
    nnjit("predict", run / "last.safetensors", "--input", "t.csv", "--output", "y.npz")
    with np.load("y.npz", allow_pickle=False) as saved:
        assert saved["class"].tolist() == [row[0] for row in rows]
    np.savetxt("short.csv", x[:, :2], delimiter=",", header="a,b", comments="")
    assert "missing: 'c'" in nnjit("predict", run, "--input", "short.csv", status=1)


def test_two_classes_with_names_and_one_output(tmp_path, here):
    x, kinds = rows_of(60, 5)
    spec = write_table(tmp_path / "t.csv", x, ["yes" if kind == "dog" else "no" for kind in kinds], validation=0.2)
    layers = ["--layers", "dense(1)", "--epochs", "8", "--optimizer", "adam(lr=0.1)", "--loss", "binary_cross_entropy"]
    nnjit("run", "--data", spec, *layers, "--output", "run")
    last = records(here / "run")[-1]
    assert last["val_classes"] == ["no", "yes"] and np.shape(last["val_confusion"]) == (2, 2)
    head, *rows = csv.reader(nnjit("predict", "run", "--data", spec, "--split", "train", stream="stdout").splitlines())
    assert head == ["class", "confidence", "p(no)", "p(yes)"]
    assert all((row[0] == "yes") == (float(row[3]) > 0.5) for row in rows)
    held = data.load(spec).train
    right = np.mean([row[0] == ("no", "yes")[label] for row, label in zip(rows, held.y, strict=True)])
    assert float(measured("run", "--split", "train")["accuracy"]) == pytest.approx(right, abs=1e-6) and right > 0.8


def test_numbers_for_classes_with_names(table, tmp_path):
    run, x, kinds = table
    spec = write_table(tmp_path / "t.csv", x, [KINDS.index(kind) for kind in kinds])
    said = nnjit("evaluate", run, "--data", spec, status=1)
    assert "its labels are numbers, but the network was trained on the classes 'cat', 'cow', 'dog'" in said
    np.savez(tmp_path / "t.npz", x=x, y=[KINDS.index(kind) for kind in kinds])  # numbers of classes, by definition
    found = measured(run, "--data", f"npz({str(tmp_path / 't.npz')!r}, validation=0)")
    words = measured(run, "--data", write_table(tmp_path / "t.csv", x, kinds))
    assert {**found, "samples": None} == {**words, "samples": None}


def test_a_table_without_header_is_no_row_short(table, here):
    run, x, _ = table
    np.savetxt("t.csv", x[:2], delimiter=",")
    assert "put a line of names before it" in nnjit("predict", run, "--input", "t.csv", status=1)


def test_a_folder_of_images_without_one_class(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 9), ("later", 4)):
        for k, name in enumerate(KINDS):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (4, 4, 3)) + 150 * (np.arange(3) == k)
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / part / name / f"{i}.png")
    spec = f"images(path={str(tmp_path / 'train')!r})"
    layers = ["--layers", "flatten dense(3)", "--epochs", "30", "--batch-size", "4", "--optimizer", "adam(lr=0.03)"]
    nnjit("run", "--data", spec, *layers, "--output", tmp_path / "run")
    later = f"images(path={str(tmp_path / 'later')!r}, validation=0)"
    assert float(measured(tmp_path / "run", "--data", later)["accuracy"]) == 1
    for path in (tmp_path / "later" / "cat").iterdir():
        path.unlink()
    (tmp_path / "later" / "cat").rmdir()
    assert float(measured(tmp_path / "run", "--data", later)["accuracy"]) == 1


def test_names_of_a_network_that_knows_none(tmp_path):
    """Older files and fit() on arrays: as many classes with names as outputs, or a refusal."""
    net = registry.compose(["dense(3)"], input_shape=(3,))
    net.save(tmp_path / "net.safetensors")
    assert load(tmp_path / "net.safetensors").trained_on is None
    x, kinds = rows_of(30, 3)
    assert "accuracy" in nnjit(
        "evaluate", tmp_path / "net.safetensors", "--data", write_table(tmp_path / "t.csv", x, kinds)
    )
    spec = write_table(tmp_path / "t.csv", x, ["cow" if kind == "cat" else kind for kind in kinds])
    said = nnjit("evaluate", tmp_path / "net.safetensors", "--data", spec, status=1)
    assert "it has 2 classes with names (cow, dog), but the network has 3, whose names are not known" in said


def test_an_older_file_and_a_damaged_entry(table, tmp_path):
    from safetensors.numpy import save_file

    tensors, about = checkpoint.read(table[0])
    for entry, fits in ((None, True), ({"columns": 5}, False), ([1], False), ("spam", False)):
        about["trained_on"] = entry
        if entry is None:
            del about["trained_on"]
        save_file(tensors, tmp_path / "net.safetensors", {"nnjit": json.dumps(about)})
        if fits:
            assert load(tmp_path / "net.safetensors").trained_on is None
        else:
            with pytest.raises(CheckpointError, match="what the network was trained on cannot be read"):
                load(tmp_path / "net.safetensors")


names = st.lists(st.text("abcé_ 1", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@settings(deadline=None)
@given(columns=names, classes=names, seed=st.randoms(use_true_random=False))
def test_every_order_of_columns_and_part_of_the_classes(columns, classes, seed):
    rng = np.random.default_rng(seed.randrange(2**32))
    known = Schema(tuple(columns), tuple(classes))
    assert Schema.from_table(json.loads(json.dumps(known.table()))) == known
    order = rng.permutation(len(columns))
    there = rng.permutation(len(classes))[: rng.integers(1, len(classes) + 1)]
    x, y = rng.normal(size=(6, len(columns))), rng.choice(there, 6)
    labels = np.array([list(there).index(label) for label in y])
    given = Dataset(
        "t", Split(x[:, order], labels), class_names=tuple(classes[i] for i in there),
        columns=tuple(columns[i] for i in order),
    )  # fmt: skip
    found = known.matched(given)
    np.testing.assert_array_equal(found.train.x, x)
    np.testing.assert_array_equal(found.train.y, y)
    assert found.class_names == tuple(classes) and found.columns == tuple(columns)


# -- units -------------------------------------------------------------------------------------------------------------


def test_bytes_and_floats_are_raw(trained, here):
    net, split = load(trained), data.load("digits").validation
    assert (net.trained_on.holds_bytes, net.trained_on.raw_range, net.trained_on.largest) == (True, (0, 16), 16)
    x, labels = split.take(slice(None), np.float32)
    y = net.predict(x)
    np.testing.assert_array_equal(net.predict(split.x), y)
    assert net.evaluate(split.x, labels, metrics=["accuracy"]) == net.evaluate(x, labels, metrics=["accuracy"])
    np.savez("bytes.npz", x=split.x, y=labels)
    nnjit("predict", trained, "--input", "bytes.npz", "--output", "y.npz")
    with np.load("y.npz") as saved:
        np.testing.assert_array_equal(saved["y"], y)
    found = nnjit("evaluate", trained, "--data", "npz('bytes.npz', validation=0)")
    assert found.splitlines()[2:] == nnjit("evaluate", trained, stream="stdout").splitlines()[2:]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda x: x.astype(np.float32) / 16,
            r"x: the numbers are up to 1 .* bytes up to 16; .* scales them itself, minmax\(0, 16\): give raw numbers",
        ),
        (lambda x: x / 255, "the numbers are up to 0.0627"),
        (lambda x: x[:1] / 16, "the numbers are up to "),
        (lambda x: x > 8, "the numbers are up to 1"),
        (lambda x: (x > 8).astype(int), "the numbers are up to 1"),
        (lambda x: x.astype(np.float16) * 16, "the numbers are up to 256"),
        (lambda x: x * np.uint8(15), "the numbers are up to 240"),  # pictures with values 0 to 255
    ],
)
def test_numbers_in_other_units_are_refused(trained, here, change, match):
    net, split = load(trained), data.load("digits").validation
    x = change(split.x)
    with pytest.raises(DataError, match=match):
        net.predict(x)
    with pytest.raises(DataError, match=match.replace("^x", "x, y").replace("x: ", "")):
        net.evaluate(x, split.y[: len(x)])
    np.savez("x.npz", x=x, y=split.y[: len(x)])
    assert "numbers are up to" in nnjit("predict", trained, "--input", "x.npz", status=1)
    assert "numbers are up to" in nnjit("evaluate", trained, "--data", "npz('x.npz', validation=0)", status=1)


@pytest.fixture
def small():
    return registry.compose(["dense(2)"], input_shape=(16,))


def fitted(net, x, **options):
    net.fit(x, np.arange(len(x)) % 2, epochs=1, batch_size=16, **options)
    return net


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float32), lambda x: x.astype(np.int64), lambda x: x.astype(">f8"), lambda x: x[:1] * 0.0,
        lambda x: x[:1] // 15, lambda x: np.minimum(x, 2.0), lambda x: x[:3] * 1.5,
    ],
)  # fmt: skip
def test_raw_numbers_of_every_kind_are_taken(trained, change):
    """Dark and black pictures too: whole numbers are raw."""
    net, x = load(trained), change(data.load("digits").validation.x)
    np.testing.assert_array_equal(net.predict(x), net._apply(x.astype(np.float32)))


BYTES = np.random.default_rng(0).integers(0, 256, (32, 16)).astype(np.uint8)


@pytest.mark.parametrize(
    ("training", "later", "fits"),
    [
        (BYTES / 255, BYTES, False),
        (BYTES / 255, BYTES.astype(float), False),
        (BYTES / 255, BYTES.astype(np.int32), False),
        (BYTES / 255, BYTES > 127, True),
        (BYTES / 255, (BYTES > 127).astype(int), True),
        (BYTES / 255, (BYTES > 127).astype(np.uint8), True),
        (BYTES / 255, BYTES * 3 / 255, True),
        (BYTES / 255, BYTES * 0.0, True),
        (BYTES / 255, BYTES * 1e-9, True),
        (BYTES, BYTES / 255, False),
        (BYTES, BYTES > 127, False),
        (BYTES, BYTES // 16, True),
        (BYTES, (BYTES // 16).astype(float), True),
        (BYTES, BYTES / 16.5, False),
        (BYTES, BYTES, True),
        (BYTES, BYTES.astype(np.float32), True),
        (BYTES, BYTES * 0, True),
        (BYTES.astype(int), BYTES.astype(int), True),
        (BYTES.astype(int), BYTES * 9.0, False),
    ],
)
def test_arrays_of_another_kind_or_range(small, training, later, fits):
    """net.predict, net.evaluate and the validation set of net.fit accept and refuse the same."""
    fitted(small, training)
    calls = [
        lambda: small.predict(later),
        lambda: small.evaluate(later, np.zeros(32, int)),
        lambda: fitted(registry.compose(["dense(2)"], input_shape=(16,)), training, validation=(later, [0, 1] * 16)),
    ]
    for call in calls:
        if fits:
            call()
        else:
            with pytest.raises(DataError, match=r"the numbers are up to .*, but those of training were"):
                call()


@pytest.mark.parametrize("wrong", [[[1.0], [1.0, 2.0]], "spam", None, [["a"] * 16], 3, np.zeros((0, 16))])
def test_no_samples_for_a_trained_network(small, wrong):
    fitted(small, BYTES / 255)
    with pytest.raises(ShapeError, match="x: expected"):
        small.predict(wrong)


def test_lists_are_samples(small):
    fitted(small, BYTES / 255)
    np.testing.assert_array_equal(small.predict((BYTES / 255).tolist()), small.predict(BYTES / 255))


def test_magnitude_of_more_numbers_than_are_looked_at(monkeypatch):
    x = np.random.default_rng(0).normal(size=(1000, 8))
    expected = abs(x).max(), np.sqrt(np.square(x).mean())
    assert Split(x, np.zeros(1000, int)).magnitude() == pytest.approx(expected)
    monkeypatch.setattr("nnjit.data.split.CHUNK", 80)
    assert Split(x, np.zeros(1000, int)).magnitude() == pytest.approx(expected)
    monkeypatch.setattr("nnjit.data.split.LOOKED", 800)
    seen = x.reshape(100, 10, 8)[::10]
    expected = abs(seen).max(), np.sqrt(np.square(seen).mean())
    assert Split(x, np.zeros(1000, int)).magnitude() == pytest.approx(expected)


@given(
    rows=st.integers(2, 60), width=st.integers(1, 5), seed=st.integers(0, 99), dtype=st.sampled_from(["u1", "f4", "f8"])
)
def test_magnitude_is_that_of_the_rows_of_a_split(rows, width, seed, dtype):
    """In any order of the rows, in parts of parts, and after the whole was measured."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, width)) * 10 ** rng.uniform(-2, 2, (rows, 1))).astype(dtype)
    whole = Split(x, np.zeros((rows, 1)))
    whole.magnitude()
    first = rng.permutation(rows)[: rng.integers(1, rows + 1)]
    second = rng.permutation(len(first))[: rng.integers(1, len(first) + 1)]
    for split, chosen in ((whole.part(first), first), (whole.part(first).part(second), first[second]), (whole, ...)):
        numbers = x[chosen].astype(float)
        assert split.magnitude() == pytest.approx((abs(numbers).max(), np.sqrt((numbers**2).mean())), rel=1e-12)


def test_outliers_that_are_held_out_are_no_other_units(small):
    """The schema knows the rows that train; a held-out row may be far away, all of them may not."""
    x = np.random.default_rng(0).normal(size=(60, 16))
    x[7] *= 1e9
    split = Split(x, np.arange(60) % 2)
    held = split.part(np.arange(5, 25))
    small.fit(x[25:], np.arange(35) % 2, epochs=1)
    known = small.trained_on
    assert known.largest == pytest.approx(abs(x[25:]).max())
    for many in (held, split.part(np.arange(6, 8))):
        assert known.checked(many) is many and np.isfinite(small.predict(many.x)).all()
    for many in (split.part(np.arange(7, 8)), Split(x * 100, np.arange(60) % 2).part(np.arange(9, 60))):
        with pytest.raises(DataError, match="those of training"):
            known.checked(many)
        with pytest.raises(DataError, match="those of training"):
            small.predict(many.x)


def test_a_network_that_was_not_trained_takes_any_numbers(small):
    for x in (BYTES, BYTES * 1e30, BYTES > 3):
        assert np.isfinite(small.predict(x)).all()
    assert np.isnan(small.predict(np.full((1, 16), np.nan))).all()


def test_nan_and_infinity_are_no_matter_of_scale(small):
    fitted(small, BYTES / 255)
    for odd in (np.nan, np.inf, -np.inf):
        y = small.predict(np.where(np.arange(16) == 3, odd, BYTES / 255))
        assert not np.isfinite(y).any()


def test_the_largest_number_of_several_fits_counts(small):
    fitted(small, BYTES / 255)
    fitted(small, BYTES / 2550)
    assert small.trained_on.largest == pytest.approx(BYTES.max() / 255)
    fitted(small, BYTES)
    assert (small.trained_on.holds_bytes, small.trained_on.largest) == (True, BYTES.max())


def test_bytes_for_a_file_that_says_nothing_of_its_training(small, here):
    small.save("net.safetensors")
    np.savez("x.npz", x=BYTES, y=np.zeros(32, int))
    for arguments in (
        ["predict", "net.safetensors", "--input", "x.npz"],
        ["evaluate", "net.safetensors", "--data", "x.npz"],
    ):
        said = nnjit(*arguments, status=1)
        assert (
            "holds raw numbers from 0 to 255, but the saved network does not say on which numbers it was trained"
            in said
        )
    np.savez("real.npz", x=BYTES / 255)
    nnjit("predict", "net.safetensors", "--input", "real.npz")
    registry.compose("minmax(0, 255) dense(2)", (16,)).save("net.safetensors")  # says which numbers it takes
    nnjit("predict", "net.safetensors", "--input", "x.npz")


@settings(deadline=None)
@given(
    size=st.floats(1e-3, 1e3), factor=st.floats(0.01, 100), kind=st.sampled_from(["u1", "f4", "f8", "i4"]),
    holds_bytes=st.booleans(), raw_range=st.sampled_from([None, (0.0, 255.0)]), count=st.integers(1, 3),
)  # fmt: skip
def test_arrays_and_splits_are_judged_alike(size, factor, kind, holds_bytes, raw_range, count):
    """`checked_array`, which takes a shortcut, agrees with `checked` and with the stated rule."""
    known = Schema(holds_bytes=holds_bytes, largest=size, raw_range=raw_range)
    x = np.random.default_rng(count).uniform(-1, 1, (count, 5)) * size * factor
    x = np.clip(x, 0, 255).astype(kind) if kind == "u1" else x.astype(kind)
    numbers = x.astype(float)
    largest, mean = abs(numbers).max(), np.sqrt(np.square(numbers).mean())
    if holds_bytes or raw_range:  # raw numbers: bytes always, others unless they are small and not whole
        small = kind != "u1" and (largest <= 1 or (numbers != np.round(numbers)).any())
    else:
        small = kind == "u1"
    wrong = largest > 0 and (mean > 4 * size or (small and largest < size / 8))
    for call in (
        lambda: known.checked_array(x, np.dtype("f4")),
        lambda: known.checked(Split(x, np.zeros(count, int))).take(slice(None), "f4")[0],
    ):
        if wrong:
            with pytest.raises(DataError, match="the numbers are up to"):
                call()
        else:
            np.testing.assert_allclose(call(), numbers, rtol=1e-6)
