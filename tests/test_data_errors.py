"""Data that is missing, damaged or of the wrong kind: one sentence each."""

import gzip
import io
import os
import pickle
import re
import struct
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnjit import registry
from nnjit.data import Dataset, Split, load
from nnjit.data.csv_file import CSV
from nnjit.data.idx import IDX
from nnjit.data.image_folder import Images
from nnjit.data.npz import NPZ
from nnjit.errors import DataError, NnjitError, SpecError
from PIL import Image

UNSET = object()


def idx(shape, code=0x08, itemsize=1, body=None):
    """Return the bytes of an IDX file of zeros."""
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)
    return header + (bytes(int(np.prod(shape)) * itemsize) if body is None else body)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def png(shape=(2, 3), dtype=np.uint8):
    """Return the bytes of a PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype)).save(file, "png")
    return file.getvalue()


def check_sentence(error):
    text = str(error)
    assert text and "\n" not in text and len(text) < 1500 and not text.endswith("."), text


def fails(match, make, *arguments, error=DataError, **named):
    """Require that `make(...)`, and load() of its reader, raise `error` with one sentence that matches."""
    with pytest.raises(error, match=match) as caught:
        made = make(*arguments, **named)
        made.load()
    check_sentence(caught.value)


# Splits and data sets

GOOD = {"x": np.zeros((4, 3)), "y": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        ("x holds 4 samples but y holds 3", {"y": np.arange(3)}),
        ("empty: x has shape .0, 3.", {"x": np.zeros((0, 3)), "y": np.zeros(0, int)}),
        ("empty: x has shape .4, 0.", {"x": np.zeros((4, 0))}),
        ("x must hold real numbers, but its dtype is object", {"x": np.full((4, 3), None)}),
        ("x must hold real numbers, but its dtype is complex128", {"x": np.zeros((4, 3), complex)}),
        ("y must hold real numbers, but its dtype is <U1", {"y": np.array(list("abcd"))}),
        ("y must hold real numbers, but its dtype is datetime64", {"y": np.zeros(4, "M8[s]")}),
        ("x must have shape", {"x": np.zeros(4)}),
        ("labels .N,. must be whole numbers", {"y": np.zeros(4)}),
        ("row 2 of x .counted from 0. holds NaN", {"x": np.array([[0.0], [1], [np.nan], [np.inf]])}),
        ("row 1 of y .counted from 0. holds NaN", {"y": np.array([[0.0], [np.inf], [1], [1]], np.float32)}),
    ],
)
def test_split(match, wrong):
    with pytest.raises(DataError, match=f"^spam.*{match}") as caught:
        Split(**(GOOD | wrong), name="spam")
    check_sentence(caught.value)


@pytest.mark.parametrize("row", [0, 5, 1023, 1024, 2047, 2999])
def test_the_first_row_that_is_not_finite_is_found_beyond_the_first_chunk(row):
    x = np.zeros((3000, 1024), np.float16)
    x[row, 7], x[-1, 0] = -np.inf, np.nan
    with pytest.raises(DataError, match=f"row {row} of x"):
        Split(x, np.zeros(3000, int))


def test_a_number_too_large_for_the_dtype():
    for split in (Split(np.array([[1e300]]), np.zeros(1, int)), Split(np.eye(1), np.array([[1e300]]))):
        assert split.take(slice(None), "float64")
        for rows in (slice(None), np.array([0])):
            with pytest.raises(DataError, match="too large for float32"):
                split.take(rows, "float32")


@pytest.mark.parametrize(
    ("match", "train", "validation", "options"),
    [
        ("label of row 3 .* is 3, but labels are whole numbers from 0 to 2", [0, 1, 2, 3], None, {"classes": 3}),
        ("label of row 1 .* is -1, but labels begin at 0", [0, -1], None, {}),
        ("val: the label of row 0 .* is 2", [0, 1], [2], {"class_names": ("a", "b")}),
        ("the label 250000 would mean 250001 classes for 2 samples", [0, 250000], None, {}),
        ("differ in target_shape: .. and .1,.", [0, 1], [[1.0]], {}),
    ],
)
def test_labels_that_are_no_classes(match, train, validation, options):
    named = [(name, np.array(y)) for name, y in (("train", train), ("val", validation)) if y]
    with pytest.raises(DataError, match=match) as caught:
        Dataset("set", *[Split(np.zeros((len(y), 2)), y, name=name) for name, y in named], **options)
    check_sentence(caught.value)


def test_a_wrong_label_is_named_by_its_row_in_the_file():
    labels = np.zeros(50, int)
    labels[37] = 2
    with pytest.raises(DataError, match=r"row 37 .* is 2, but labels are whole numbers from 0 to 1"):
        Dataset("set", *Split(np.zeros((50, 1)), labels).hold_out(0.3), classes=2)


def test_training_and_validation_of_different_shapes():
    with pytest.raises(DataError, match=r"differ in input_shape: \(2,\) and \(3,\)"):
        Dataset("set", Split(np.zeros((1, 2)), np.zeros(1, int)), Split(np.zeros((1, 3)), np.zeros(1, int)))


def test_one_sample_cannot_be_divided():
    with pytest.raises(DataError, match="holds one sample"):
        Split(np.zeros((1, 2)), np.zeros(1, int)).hold_out(0.1)


def test_a_reader_that_returns_something_else():
    class Broken(registry.Options):
        def load(self):
            return np.zeros(3)

    registry.datasets.register("broken_reader")(Broken)
    try:
        with pytest.raises(DataError, match=r"load\(\) of the reader Broken must return a Dataset, not ndarray"):
            load("broken_reader")
    finally:
        registry.datasets.unregister("broken_reader")


# Files of every format


@pytest.mark.parametrize("name", ["idx", "npz", "csv", "images"])
@pytest.mark.parametrize("share", [1, 1.5, -0.1, float("inf"), float("nan"), "0.1", True, None])
def test_validation_that_is_no_share(name, share):
    options = {"path": "any", "validation": share} | ({"label": 0} if name == "csv" else {})
    fails("validation: expected", lambda: registry.datasets.create((name, options)), error=SpecError)


@pytest.mark.parametrize("reader", [IDX, NPZ, lambda path: CSV(path, 0)])
def test_files_that_are_not_there_or_hold_nothing(tmp_path, reader):
    (tmp_path / "images.idx").write_bytes(b"")
    fails(r"no file or folder .*imagse\.idx'; did you mean images\.idx\?", reader, str(tmp_path / "imagse.idx"))
    fails("no file or folder", reader, str(tmp_path / "no" / "such" / "folder"))
    fails("no file or folder", reader, "nul\0byte")
    fails("no file or folder", reader, "x" * 5000)
    fails("images.idx is empty .0 bytes.", reader, str(tmp_path / "images.idx"))


@pytest.mark.parametrize("reader", [NPZ, lambda path: CSV(path, 0)])
def test_a_folder_instead_of_a_file(tmp_path, reader):
    fails("is a folder, but a file is needed", reader, str(tmp_path))


@pytest.mark.parametrize("reader", [IDX, NPZ, lambda path: CSV(path, 0)])
def test_files_that_may_not_be_read(tmp_path, monkeypatch, reader):
    def denied(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "images").write_bytes(b"x")
    (tmp_path / "labels").write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", denied)
        fails("images cannot be read: Permission denied", reader, str(tmp_path / "images"))


# IDX


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("match", "images", "labels"),
    [
        ("images is not an IDX file: it begins with the bytes 68 65 6c 6c", b"hello", UNSET),
        ("images is not an IDX file: .* 00 00 0a 03", idx((4, 2, 2), code=0x0A), UNSET),
        ("images is not an IDX file: .* 00 00 08 00", b"\0\0\x08\0", UNSET),
        ("images is not an IDX file", b"\0\0", UNSET),
        ("images is cut short: its header of 3 dimensions", idx((4, 2, 2))[:15], UNSET),
        (r"images is cut short: it holds 15 .* \(4, 2, 2\) of uint8 needs 16", idx((4, 2, 2))[:-1], UNSET),
        ("images is cut short: it holds 0 bytes", idx((4, 2, 2))[:16], UNSET),
        ("images is cut short: .* needs 79228162458924105385300197375", idx((2**32 - 1,) * 3, body=b"123"), UNSET),
        ("images is too long: it holds at least 17 bytes", idx((4, 2, 2)) + b"\0", UNSET),
        (r"images is empty: its shape is \(0, 2, 2\)", idx((0, 2, 2)), UNSET),
        ("images has one dimension, as labels have", idx((4,)), UNSET),
        ("row 1 of x .* holds NaN", idx((4, 1), 0x0D, body=np.array([0, np.nan, 0, 0], ">f4").tobytes()), UNSET),
        ("images holds 4 images but labels.* holds 3 labels", UNSET, idx((3,))),
        (r"labels.* holds uint8 of shape \(4, 2, 2\), but labels", UNSET, idx((4, 2, 2))),
        (r"labels.* holds >f4 of shape \(4,\), but labels", UNSET, idx((4,), 0x0D, 4)),
        (
            "label of row 2 .* is -3, but labels begin at 0",
            UNSET,
            idx((4,), 0x09, body=np.array([0, 1, -3, 0], "i1").tobytes()),
        ),
        ("images has no labels beside it: labels was expected", UNSET, None),
    ],
)
def test_idx(tmp_path, match, images, labels, packed):
    images, labels = idx((4, 2, 2)) if images is UNSET else images, idx((4,)) if labels is UNSET else labels
    suffix = ".gz" if packed else ""
    for name, content in (("images", images), ("labels", labels)):
        if content is not None:
            (tmp_path / (name + suffix)).write_bytes(gzip.compress(content) if packed else content)
    if packed:
        match = match.replace("images is", "images.gz is").replace("images ha", "images.gz ha")
        match = match.replace("images holds", "images.gz holds").replace(": labels was", ": labels.gz was")
    fails(match, IDX, str(tmp_path / f"images{suffix}"))


def test_idx_damaged_gzip(tmp_path):
    path, whole = tmp_path / "images.gz", gzip.compress(idx((4, 20, 20), body=bytes(range(200)) * 8))
    (tmp_path / "labels").write_bytes(idx((4,)))
    for content in (whole[:-1], whole[:40], whole[:3], whole[:60] + b"\xff" + whole[61:], whole + b"rubbish"):
        path.write_bytes(content)
        fails("images.gz is damaged or cut short: its gzip data cannot be unpacked", IDX, str(path))
    path.write_bytes(b"not gzip at all")
    fails("images.gz is not an IDX file", IDX, str(path))


def test_idx_folders(tmp_path):
    fails("holds no training images: a file named like train-images-idx3-ubyte", IDX, str(tmp_path))
    for name in ("train-images", "train-10k-images.gz"):
        (tmp_path / name).write_bytes(idx((4, 2, 2)))
    fails(r"several train images files \(train-10k-images.gz, train-images\); give the path", IDX, str(tmp_path))
    (tmp_path / "train-10k-images.gz").unlink()
    fails("train-images has no labels beside it: train-labels was expected", IDX, str(tmp_path))
    (tmp_path / "train-labels").write_bytes(idx((4,)))
    (tmp_path / "t10k-images").write_bytes(idx((4, 2, 3)))
    (tmp_path / "t10k-labels").write_bytes(idx((4,)))
    fails(r"differ in input_shape: \(1, 2, 2\) and \(1, 2, 3\)", IDX, str(tmp_path))
    (tmp_path / "pictures").write_bytes(idx((4, 2, 2)))
    fails("must hold the word 'images'", IDX, str(tmp_path / "pictures"))


# NPZ


@pytest.mark.parametrize(
    ("match", "content"),
    [
        ("is not an NPZ file: .*zip archive", b"PK but no more than that"),
        ("is not an NPZ file", npz(**GOOD)[:-30]),
        ("holds no arrays x and y .or x_train and y_train., but a, b", npz(a=GOOD["x"], b=GOOD["y"])),
        ("holds x but no y, only x, z", npz(x=GOOD["x"], z=GOOD["y"])),
        ("holds y_test but no x_test", npz(**GOOD, y_test=GOOD["y"])),
        ("x holds 4 samples but y holds 2", npz(x=GOOD["x"], y=np.arange(2))),
        (r"\(x, y\): row 3 of x .* holds NaN", npz(x=np.array([0, 1, 2, np.nan]), y=GOOD["y"])),
        ("dtype is <U3", npz(x=GOOD["x"], y=np.array(["cat"] * 4))),
        ("x must have shape", npz(x=np.zeros(()), y=GOOD["y"])),
        ("label of row 0 .* is -1", npz(x=GOOD["x"], y=GOOD["y"] - 1)),
        ("is empty", npz(x=np.zeros((0, 3)), y=np.zeros(0, int))),
    ],
)
def test_npz(tmp_path, match, content):
    (tmp_path / "a.npz").write_bytes(content)
    fails(match, NPZ, str(tmp_path / "a.npz"), validation=0)


class Trap:
    """Object that makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_npz_never_unpickles(tmp_path):
    trap = Trap(tmp_path / "sprung")
    pickle.loads(pickle.dumps(trap))
    (tmp_path / "sprung").rmdir()  # the trap works
    (tmp_path / "a.npz").write_bytes(npz(x=np.array([trap] * 4, object), y=GOOD["y"]))
    fails("holds an array of Python objects", NPZ, str(tmp_path / "a.npz"))
    (tmp_path / "a.npz").write_bytes(pickle.dumps(trap))
    fails("is not an NPZ file", NPZ, str(tmp_path / "a.npz"))
    assert not (tmp_path / "sprung").exists()


def test_npz_with_other_things_in_the_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x", b"text")
        archive.writestr("y", b"text")
    fails("y must be a NumPy array, but it is a plain file", NPZ, str(tmp_path / "a.npz"))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': 'spam'}")
        archive.writestr("y.npy", b"")
    fails("a.npz is damaged", NPZ, str(tmp_path / "a.npz"))


def test_npz_larger_than_memory(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", head.getvalue())
    fails("a.npz does not fit into memory: Unable to allocate 728", NPZ, str(tmp_path / "a.npz"))


# CSV


@pytest.mark.parametrize(
    ("match", "text", "options"),
    [
        ("no column 'lable'; did you mean label", "label,x\n0,1\n", {"label": "lable"}),
        ("no column 'spam'; its columns are 'label', 'x'", "label,x\n0,1\n", {"label": "spam"}),
        ("more than one column 'x'; each needs a name", "x,x\n0,1\n", {"label": "x"}),
        ("more than one column 'x'; each needs a name", "y, x,x\n0,1,2\n", {}),
        ("has 2 columns, but label=2 was asked for", "label,x\n0,1\n", {"label": 2}),
        ("has 2 columns, but label=-3", "label,x\n0,1\n", {"label": -3}),
        ("has one column, 'label:x', and so no features", "label:x\n0:1\n", {}),
        ("separator=','", "label,x;y\n0,1;2\n", {}),
        ("its first line has commas and semicolons; say", "a;label,x\n1;0,1\n", {}),
        ("no column 'a'.*x1.*put a line of names before it", "0.5,1\n0,1\n", {"label": "a"}),
        ("may name the columns or be data; say header=True or header=False", "0,1,2\n0,1,2\n", {}),
        ("'1', '2', '3', may name the columns or be data", "1,2,3\n0,1,2\n", {}),
        ("'label', '1e3', may name the columns or be data", "label, 1e3 \n0,1\n", {}),
        ("'cat', 'nan', may name the columns or be data", "cat,nan\ndog,1\n", {}),
        ("'a', 'label', may name the columns or be data", "a,label\nb,yes\nc,no\n", {"label": -1}),
        (r"column 1 has no name; .*to_csv\(index=False\)", ",x,label\n0,5,1\n1,6,0\n", {"label": -1}),
        ("column 3 has no name", "label,x, \n0,5,1\n", {}),
        ("the column name 'x.n' holds a control character", 'label,"x\n"\n0,5\n', {}),
        ("is empty: its first line", "\n\n", {}),
        ("holds a header but no rows", "label,x\n", {}),
        ("line 3: 1 columns, but the header has 2", "label,x\n0,1\n0\n", {}),
        ("line 2: 3 columns, but the header has 2", "label,x\n0,1,2\n", {}),
        ("line 4, column 'x': 'spam' is not a finite number", "label,x\n0,1\n\n0,spam\n", {}),
        ("1 cell is missing .line 2, column 'z'.; missing='drop'", "y,label,z\n0,1,nan\n", {"label": 1}),
        ("line 2, column 'x': '-inf' is not", "label,x\n0,-inf\n", {}),
        ("line 2, column 'x': '9+' is not a finite", f"label,x\n0,{'9' * 500}\n", {}),
        ("1 cell is missing .line 3, column 'x'", "label,x\n0,1\n0,\n", {}),
        ("line 5, column 'x': 'a.nb' is", 'label,x\n0,1\n0,"\n3"\n0,"a\nb"\n'.replace('"\n3"', "3"), {}),
        ("1 cell is missing .line 3, column 'label'.; .* give the class a name", "label,x\na,1\n ,2\n", {}),
        ("line 2 has '3' and line 4 has 'cat'", "label,x\n3,1\n3,1\ncat,1\n", {}),
        ("line 3: the label '1.5' is .* class", "label,x\n0,1\n1.5,1\n", {}),
        ("line 2: the label '-1' is .* class", "label,x\n-1,1\n", {}),
        ("missing .line 2, column 'label'", "label,x\nnan,1\n", {}),
        ("missing .line 3, column 'label'", "label,x\ncat,1\nNA,2\n", {}),
        ("lines 2 and 4 write one label in two ways, '01', '1'", "label,x\n01,1\n01,1\n1,2\n", {}),
        ("lines 2 and 3 write one label in two ways, '1', '1.0'", "label,x\n1,1\n1.0,2\n", {}),
        ("line 3 has '10' and line 2 has '1_0'", "label,x\n1_0,1\n10,1\n", {}),
        ("line 2, column 'x': '1_0' is not a finite number", "label,x\n0,1_0\n", {}),
        ("line 2, column 'x': '0x10' is not a finite number", "label,x\n0,0x10\n", {}),
        ("line 2, column 'x': '.*' is not a finite number", "label,x\n0,\u0661\n", {}),
        ("line 2, column 'x': '1.xa0' is not a finite number", "label,x\n0,1\xa0\n", {}),
        ("line 2, column 'x': '1..' is not a finite number", "label,x\n0,1..\n", {}),
        ("line 2: the label 'a.x00' holds a control character", "label,x\na\0,1\n", {}),
        ("line 3: unexpected end of data", 'label,x\na,1\n"b,2\n', {}),
        ("line 2: ',' expected after '\"'", 'label,x\n"a"b,1\n', {}),
        ("line 2: the label '1e30' is .* class", "label,x\n1e30,1\n", {}),
        ("the label 250000 would mean", "label,x\n250000,1\n3,2\n", {}),
        ("line 3, column 'label': 'cat' is not a finite number", "label,x\n1,1\ncat,1\n", {"target": "value"}),
        ("line 2: field larger than field limit", f'label,x\n0,"{"1" * 200_000}"\n', {}),
    ],
)
def test_csv(tmp_path, match, text, options):
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    fails(f"table.csv.*{match}", CSV, str(tmp_path / "table.csv"), **({"label": 0, "validation": 0} | options))


def test_csv_not_in_utf8(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"label,x\n0,1\n0,\xff\n")
    fails("table.csv is not text in UTF-8", CSV, str(tmp_path / "table.csv"), 0)


def test_csv_of_an_unknown_target(tmp_path):
    fails("target: expected 'class' or 'value'", CSV, "any.csv", 0, target="number", error=SpecError)


# Folders of images


def test_images(tmp_path, monkeypatch):
    folder = str(tmp_path)
    fails("no file or folder", Images, folder + "/none")
    (tmp_path / "file").write_text("x")
    fails("is a file, but a folder is needed", Images, folder + "/file")
    fails("holds no folders; one folder of images for each class", Images, folder)
    (tmp_path / "cat").mkdir()
    fails("cat holds no images", Images, folder)
    (tmp_path / "cat" / "1.png").write_bytes(png((2, 3)))
    (tmp_path / "cat" / "2.png").write_bytes(png((3, 2)))
    fails(r": 1 of 2 images .*cat/2.png is 3x2 .*, but most are 2x3; size=\(2, 3\) resizes all, skip", Images, folder)
    (tmp_path / "cat" / "2.png").write_bytes(png((2, 3), np.uint16))
    fails("2.png has pixels of 16 bits, but 8 bits a channel are expected", Images, folder)
    (tmp_path / "cat" / "2.png").write_bytes(png((200, 3))[:60])
    fails("2.png is damaged or .*image", Images, folder, size=(2, 2))
    (tmp_path / "cat" / "2.png").write_bytes(b"")
    fails("2.png is damaged or .*image", Images, folder)
    fails("size: expected .height, width.", Images, folder, size=(0, 2), error=SpecError)
    monkeypatch.setitem(sys.modules, "PIL", None)
    fails(re.escape('needs pillow: pip install "nnjit[images]"'), Images, folder)


def test_images_with_other_classes_in_validation(tmp_path):
    for name in ("train/cat", "train/dog", "val/cat", "val/cow"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(png())
    fails("val holds the class 'cow', which .*train does not", Images, str(tmp_path))


# Any bytes give a data set or one sentence

TABLE = "a,label,b\n" + "".join(f"{i},{'xyz'[i % 3]},{i / 7}\n" for i in range(12))
WHOLE = {  # file -> (its bytes, the spec that reads it); labels for the images of the IDX files are always there
    "images": (idx((12, 2, 2)), "idx"),
    "wide-images": (idx((12, 2), 0x0E, body=np.arange(24, dtype=">f8").tobytes()), "idx"),
    "packed-images.gz": (gzip.compress(idx((12, 2, 2), body=bytes(range(48)))), "idx"),
    "a.npz": (npz(x=np.arange(24.0).reshape(12, 2), y=np.arange(12) % 3), "npz"),
    "a.csv": (TABLE.encode(), "csv"),
    "png/cat/1.png": (png((4, 4)), "images"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged")
    for name in ("labels", "wide-labels", "packed-labels"):
        (path / name).write_bytes(idx((12,), body=bytes([0, 1, 2] * 4)))
    (path / "png" / "cat").mkdir(parents=True)
    (path / "png" / "cat" / "2.png").write_bytes(png((4, 4)))
    return path


def damage(whole):
    """Strategies for damage to the bytes of a file."""
    places, some = st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=8)
    front = st.integers(0, min(24, len(whole) - 1))  # a flipped byte has most effect in a header
    return st.one_of(
        places.map(lambda end: whole[:end]),
        st.builds(lambda at, new: whole[:at] + new + whole[at + len(new) :], st.one_of(front, places), some),
        st.builds(lambda at, new: whole[:at] + new + whole[at:], places, some),
        st.builds(lambda at, length: whole[:at] + whole[at + length :], places, st.integers(1, 8)),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.binary(max_size=200),
    )


def spec_of(name, folder):
    reader = WHOLE[name][1]
    return reader, {"path": str(folder / name.partition("/")[0])} | ({"label": "label"} if reader == "csv" else {})


def load_or_say(spec):
    """Return None for a sound data set, else the error, which must be one sentence of nnjit's."""
    try:
        dataset = load(spec)
        for split in (dataset.train, dataset.validation):
            x, y = split.take(slice(None), "float64")
            assert len(x) == len(y) == len(split) > 0
            assert np.isfinite(x).all() and np.isfinite(y).all()
            assert y.min() >= 0 and y.max() < dataset.classes
    except NnjitError as error:
        check_sentence(error)
        return error
    return None


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read(folder, name):
    (folder / name).write_bytes(WHOLE[name][0])
    assert load_or_say(spec_of(name, folder)) is None


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.filterwarnings("ignore")  # pillow and zipfile warn of some damage that they can read
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_a_data_set_or_one_sentence(folder, name, data):
    (folder / name).write_bytes(data.draw(damage(WHOLE[name][0])))
    load_or_say(spec_of(name, folder))


@pytest.mark.parametrize("name", ["images", "wide-images", "packed-images.gz", "a.npz", "png/cat/1.png"])
def test_every_truncation_is_noticed(folder, name):
    whole = WHOLE[name][0]
    lost = 30 if name.endswith(".png") else 0  # the end of a PNG is two checksums and an empty chunk
    for end in range(0, len(whole) - lost, 1 + len(whole) // 100):
        (folder / name).write_bytes(whole[:end])
        assert isinstance(load_or_say(spec_of(name, folder)), DataError), end


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["digits", "ten_points", "idx", "npz", "csv", "images"]),
    options=st.dictionaries(
        st.sampled_from(["path", "label", "target", "validation", "size", "gray", "spam"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.tuples(st.integers())),
        max_size=4,
    ),
)
def test_specs_with_drawn_options_give_a_data_set_or_one_sentence(name, options):
    try:
        assert isinstance(load((name, options)), Dataset)
    except NnjitError as error:
        check_sentence(error)
