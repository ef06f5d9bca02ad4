"""Odd CSV, NPZ and IDX files and folders of images: nnjit reads what other readers read, or refuses in a sentence.

    python tests/odd_files.py --count 1000 --seed 0

Each file is written sound and then made odd in one way. An oracle that shares no code with nnjit reads it: Python's
strict csv reader, and pandas if it is installed; NumPy's loader; a reader of IDX by its definition; Pillow. Failures
are: numbers that differ from the oracle's, numbers if the oracle has none, an error that is not one sentence of
nnjit's, and a refusal of a sound file.
"""

import argparse
import csv
import gzip
import io
import math
import shutil
import struct
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from nnjit.data.csv_file import CSV
from nnjit.data.idx import IDX
from nnjit.data.image_folder import Images
from nnjit.data.npz import NPZ
from nnjit.errors import NnjitError
from PIL import Image, ImageOps

try:
    import pandas
except ImportError:
    pandas = None

MUST, MAY, NEVER = "must be read", "may be read", "must be refused"


class Unreadable(Exception):
    """Exception of an oracle for a file without samples."""


# -- CSV ---------------------------------------------------------------------------------------------------------------

ODD_CELLS = ("1_0", "0x1F", "nan", "inf", "-Infinity", "", "1e999", "1,5", "1 2", "½", "٣", "1\xa0", "--1", "1e",
             "True", "$5", "50%", "1d3", "NA", '"', "1\n")  # fmt: skip
WORDS = ("cat", "dog", "New York", "größe", "a,b", "semi;colon", "it's", "1_0", "2_0", "0x1", "True", "x")


def draw_csv(rng, folder):
    """Write a table; return (oddity, expectation, reader, oracle)."""
    columns, rows = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    names = [f"{letter}{i}" for i, letter in enumerate(rng.choice(list("abcäx"), columns))]
    x = np.round(rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-3, 6), int(rng.integers(0, 6)))
    cells = [[f"{value:{rng.choice(['', '.3e', '+g', 'g'])}}" for value in row] for row in x]
    words = list(rng.choice(WORDS, 3, replace=False))
    labels = list(rng.choice([words, ["0", "1", "2"], ["3", "10", "4"]][int(rng.integers(3))], rows))
    place = int(rng.integers(0, columns + 1))
    header = [*names[:place], "label", *names[place:]]
    table = [[*row[:place], label, *row[place:]] for row, label in zip(cells, labels, strict=True)]
    at, feature = int(rng.integers(rows)), (place + 1) % (columns + 1)
    odd = str(rng.choice(list(CSV_ODD)))
    expected, text = CSV_ODD[odd], None
    end = str(rng.choice(["\n", "\r\n"]))
    if odd == "spaces":
        table = [[f" {cell}\t" for cell in row] for row in table]
        header = [f" {name} " for name in header]
    elif odd == "no header":
        header, table = table[0], table[1:] or [table[0]]
    elif odd == "counted columns":
        header = [str(i) for i in range(columns)]
        header.insert(place, "label")
    elif odd == "index column":
        first = int(rng.integers(2))
        header, table = ["", *header], [[str(i + first), *row] for i, row in enumerate(table)]
    elif odd == "two columns of one name":
        header[feature] = header[feature - 1] if rng.random() < 0.5 else "label"
    elif odd == "odd cell":
        table[at][feature] = str(rng.choice(ODD_CELLS))
    elif odd == "plain cell":
        table[at][feature] = str(rng.choice(["007", ".5", "5.", "+5", "1e-400", "1E5", "-0", "9" * 30, "1e+3"]))
    elif odd == "numbers in two spellings":
        labels = ["1", "01"] if rng.random() < 0.5 else ["2", "2.0"]
        table = [[*cells[i % rows][:place], label, *cells[i % rows][place:]] for i, label in enumerate(labels)]
    elif odd == "odd label":
        table[at][place] = str(rng.choice(["", "NA", "nan", "-1", "1.5", "1e30", "null", "a\nb", "\0", "inf"]))
    elif odd == "labels like floats":
        table = [[*row[:place], f"{k % 3}.0", *row[place + 1 :]] for k, row in enumerate(table)]
    elif odd == "short row":
        table[at].pop()
    elif odd == "long row":
        table[at] += [str(rng.choice(["", "1", "x"]))] * int(rng.integers(1, 3))
    elif odd == "long rows":
        table = [[*row, "1"] for row in table]
    elif odd == "no rows":
        table = []
    elif odd == "header twice":
        table.insert(at + 1, header)
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if odd == "all quoted" else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator=end, quoting=quoting).writerows([header, *table])
    text = text.getvalue()
    if odd == "empty lines":
        text = text.replace(end, end + end) + end
    elif odd == "no end of line":
        text = text.removesuffix(end)
    elif odd == "open quote":
        text = text.replace(",", ',"', 1) if rng.random() < 0.5 else text.removesuffix(end) + '"'
    elif odd == "quote within":
        text = text.replace(end, f'{end}"a"b,' if columns > 1 else f'{end}"1"2,', 1)
    elif odd == "semicolons":
        text = text.replace(",", ";")
    elif odd == "tabs":
        text = text.replace(",", "\t")
    elif odd == "comment":
        text = "# made by hand" + end + text
    elif odd == "old line ends":
        text = text.replace(end, "\r")
    data = text.encode()
    if odd == "byte order mark":
        data = b"\xef\xbb\xbf" + data
    elif odd == "other encoding":
        data = text.encode(str(rng.choice(["utf-16", "utf-16-le", "utf-32"])))
    elif odd == "bytes":
        spot = int(rng.integers(len(data)))
        data = data[:spot] + bytes(rng.choice([0, 0xFF, 0x80, 0x1A, 0x0C], 1).tolist()) + data[spot:]
    elif odd == "cut":
        data = data[: int(rng.integers(1, len(data)))]
    path = folder / "table.csv"
    path.write_bytes(data)
    separator = {"semicolons": ";", "tabs": "\t"}.get(odd, ",")
    kinds = {name.strip(): "number" for name in header if name.strip() != "label"}
    return odd, expected, CSV(str(path), "label", validation=0, kinds=kinds), lambda: read_csv(path, separator)


CSV_ODD = {
    "sound": MUST, "spaces": MUST, "byte order mark": MUST, "all quoted": MUST, "empty lines": MUST,
    "no end of line": MUST, "plain cell": MUST, "old line ends": MUST, "labels like floats": MUST,
    "counted columns": MUST, "no header": NEVER, "index column": NEVER, "two columns of one name": NEVER,
    "numbers in two spellings": NEVER, "short row": NEVER, "long row": NEVER, "long rows": NEVER, "no rows": NEVER,
    "header twice": NEVER, "other encoding": NEVER, "semicolons": MAY, "tabs": MAY, "open quote": MAY,
    "quote within": NEVER, "comment": NEVER, "odd cell": MAY, "odd label": MAY, "bytes": MAY, "cut": MAY,
}  # fmt: skip


def read_csv(path, separator):
    """Read (features, labels as text) with the strict reader, and with pandas, which must then agree."""
    x, labels = _strictly(path, separator)
    if pandas is not None:
        table = pandas.read_csv(path, sep=separator, encoding="utf-8-sig", float_precision="round_trip",
                                index_col=False,
                                keep_default_na=False, na_values={}, skipinitialspace=True)  # fmt: skip
        table.columns = [name.strip() for name in table.columns]
        seen = table.drop(columns="label").to_numpy(dtype=np.float64)
        if not np.array_equal(seen, x):
            raise Unreadable("pandas reads other numbers")
        texts = pandas.read_csv(
            path, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False, index_col=False
        )
        texts.columns = [name.strip() for name in texts.columns]
        if [text.strip(" \t") for text in texts["label"]] != labels:
            raise Unreadable("pandas reads other labels")
    return x, labels


def _strictly(path, separator):
    with open(path, newline="", encoding="utf-8-sig") as file:
        header, *rows = [row for row in csv.reader(file, strict=True, delimiter=separator) if row]
    header = [name.strip() for name in header]
    place = header.index("label")
    if not rows or any(len(row) != len(header) for row in rows):
        raise Unreadable("rows of different lengths")
    x = [[float(cell.strip(" \t")) for i, cell in enumerate(row) if i != place] for row in rows]
    if not np.isfinite(x).all():
        raise Unreadable("not finite")
    return np.array(x), [row[place].strip(" \t") for row in rows]


def same_csv(dataset, oracle):
    x, labels = oracle
    names, y = dataset.class_names, dataset.train.y
    if names is None:
        right = [float(label) for label in labels] == y.tolist()
    else:
        right = [names[label] for label in y] == labels and list(names) == sorted(set(labels))
    return right and np.array_equal(dataset.train.take(slice(None), "f8")[0], x)


# -- NPZ ---------------------------------------------------------------------------------------------------------------

NUMBERS = ("u1", "i1", "i2", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2", ">f8", "?")
SHAPES = ((5,), (1,), (1, 6, 6), (3, 5, 7), (2, 9), (4, 4, 4), (1, 2, 3, 4))


def draw_npz(rng, folder):
    count, odd = int(rng.integers(2, 7)), str(rng.choice(list(NPZ_ODD)))
    shape, kind = SHAPES[int(rng.integers(len(SHAPES)))], str(rng.choice(NUMBERS))
    x = _numbers(rng, (count, *shape), kind)
    y = rng.integers(0, 3, count).astype(str(rng.choice(["i8", "u1", "i4", ">i4", "u8"])))
    arrays, save = {"x": x, "y": y}, np.savez
    if odd == "compressed":
        save = np.savez_compressed
    elif odd == "names of Keras":
        arrays = {"x_train": x, "y_train": y, "x_test": x[:1], "y_test": y[:1]}
    elif odd == "more arrays":
        arrays |= {"note": np.array(["text"]), "z": np.zeros(3)}
    elif odd == "Fortran order":
        arrays["x"] = np.asfortranarray(x)
    elif odd == "column of labels":
        arrays["y"] = y[:, None]
    elif odd == "pictures without channel":
        arrays["x"] = _numbers(rng, (count, 6, 7), "u1")
    elif odd == "real targets":
        arrays["y"] = rng.normal(size=(count, 2))
    elif odd == "channels last":
        arrays["x"] = _numbers(rng, (count, 6, 7, int(rng.choice([1, 3, 4]))), kind)
    elif odd == "not finite":
        arrays["x"] = x.astype("f4")
        arrays["x"].flat[int(rng.integers(x.size))] = rng.choice([np.nan, np.inf, -np.inf])
    elif odd == "other types":
        arrays["x"] = [x.astype(complex), x.astype(str), x.astype("M8[s]"), np.zeros(count, "f4,i4"),
                       x.astype(np.longdouble)][int(rng.integers(4))]  # fmt: skip
    elif odd == "objects":
        arrays[str(rng.choice(["x", "y"]))] = np.array([None, {}] * count, object)[:count]
    elif odd == "odd labels":
        arrays["y"] = [y.astype("i8") - 1 - int(y.max()), y + np.uint64(2**63), y.astype("i8") + 2**40, y.astype(str),
                       y.astype("f4") / 3][int(rng.integers(5))]  # fmt: skip
    elif odd == "other counts":
        arrays["y"] = y[1:]
    elif odd == "nothing":
        arrays = {"x": x[:0], "y": y[:0]}
    elif odd == "a number":
        arrays[str(rng.choice(["x", "y"]))] = np.float32(3)
    elif odd == "other names":
        arrays = {str(rng.choice(["X", "images", "data"])): x, "labels": y}
    elif odd == "no y":
        arrays.pop("y")
    file = io.BytesIO()
    save(file, **arrays)
    data = file.getvalue()
    spot = int(rng.integers(len(data)))
    if odd == "cut":
        data = data[:spot]
    elif odd == "flipped byte":
        data = data[:spot] + bytes([data[spot] ^ (1 << int(rng.integers(8)))]) + data[spot + 1 :]
    elif odd == "bytes put in":
        data = data[:spot] + rng.bytes(3) + data[spot:]
    elif odd == "other member":
        data = _zipped({"x.npy": _member(x), "y.npy": b"no array", "readme.txt": b"hello"})
    elif odd == "huge header":
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10 ** int(rng.integers(3, 15))}, 9), }}"
        member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n"
        data = _zipped({"x.npy": member, "y.npy": _member(y)})
    elif odd == "member cut":
        data = _zipped({"x.npy": _member(x)[: int(rng.integers(1, 60))], "y.npy": _member(y)})
    elif odd == "member too long":
        data = _zipped({"x.npy": _member(x) + b"more", "y.npy": _member(y)})
    elif odd == "a .npy file":
        data = _member(x)
    path = folder / "arrays.npz"
    path.write_bytes(data)
    return odd, NPZ_ODD[odd], NPZ(str(path), 0), lambda: read_npz(path)


NPZ_ODD = {
    "sound": MUST, "compressed": MUST, "names of Keras": MUST, "more arrays": MUST, "Fortran order": MUST,
    "column of labels": MUST, "pictures without channel": MUST, "real targets": MUST,
    "channels last": NEVER, "not finite": NEVER, "other types": NEVER, "objects": NEVER, "other counts": NEVER,
    "nothing": NEVER, "a number": NEVER, "other names": NEVER, "no y": NEVER, "a .npy file": NEVER, "cut": NEVER,
    "huge header": NEVER, "member cut": NEVER, "other member": NEVER,
    "odd labels": MAY, "flipped byte": MAY, "bytes put in": MAY, "member too long": MAY,
}  # fmt: skip


def _numbers(rng, shape, kind):
    kind = np.dtype(kind)
    if kind.kind == "f":
        return rng.normal(size=shape).astype(kind)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    least = max(np.iinfo(kind).min, -300)
    return rng.integers(least, min(np.iinfo(kind).max, 300), shape, endpoint=True).astype(kind)


def _member(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def read_npz(path):
    """Read (samples, targets) with NumPy's loader; shape them by the documentation of `npz`."""
    with np.load(path, allow_pickle=False) as archive:
        pair = ("x", "y") if "x" in archive else ("x_train", "y_train")
        x, y = (archive[name] for name in pair)
    return _samples(x), _targets(x, y)


def _samples(x):
    if x.dtype.kind not in "biuf" or x.ndim == 0 or not x.size or not np.isfinite(x).all():
        raise Unreadable("no samples")
    x = x[:, None] if x.ndim == 1 or (x.ndim == 3 and x.dtype == np.uint8) else x
    return x.astype(float)


def _targets(x, y):
    if y.dtype.kind not in "biuf" or y.ndim == 0 or len(y) != len(x) or not np.isfinite(y).all():
        raise Unreadable("no targets")
    if y.dtype.kind != "f" and math.prod(y.shape) == len(y):
        y = y.reshape(-1)
        if y.min() < 0 or y.max() >= 2**31:
            raise Unreadable("no labels")
    return (y[:, None] if y.ndim == 1 and y.dtype.kind == "f" else y).astype(float)


def same_arrays(dataset, oracle):
    x, y = dataset.train.take(slice(None), "f8")
    return (
        x.shape == oracle[0].shape and y.shape == oracle[1].shape
        and np.allclose(x, oracle[0], rtol=1e-14, atol=0) and np.array_equal(y, oracle[1])
    )  # fmt: skip


# -- IDX ---------------------------------------------------------------------------------------------------------------

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def draw_idx(rng, folder):
    count, odd = int(rng.integers(1, 6)), str(rng.choice(list(IDX_ODD)))
    shape = ((4, 5), (28, 28), (7,), (3, 4, 4))[int(rng.integers(4))]
    code = int(rng.choice(list(IDX_TYPES)))
    x = _numbers(rng, (count, *shape), IDX_TYPES[code][1:])
    images, labels = _idx(x, code), _idx(rng.integers(0, 3, count), 8)
    spot = int(rng.integers(len(images)))
    if odd == "several gzip members":
        images = gzip.compress(images[:spot]) + gzip.compress(images[spot:])
    elif odd == "images cut":
        images = images[:spot]
    elif odd == "labels cut":
        labels = labels[: int(rng.integers(len(labels)))]
    elif odd == "too long":
        images += rng.bytes(int(rng.integers(1, 9)))
    elif odd == "no images":
        images = _idx(x[:0], code)
    elif odd == "other magic":
        images = rng.bytes(4) + images[4:]
    elif odd == "little endian":
        images = images[:4] + struct.pack(f"<{x.ndim}I", *x.shape) + images[4 + 4 * x.ndim :]
    elif odd == "huge sizes":
        images = images[:4] + rng.bytes(4 * x.ndim) + images[4 + 4 * x.ndim :]
    elif odd == "flipped byte":
        images = images[:spot] + bytes([images[spot] ^ (1 << int(rng.integers(8)))]) + images[spot + 1 :]
    elif odd == "other counts":
        labels = _idx(np.zeros(count + 1), 8)
    elif odd == "negative labels":
        labels = _idx(-1 - np.arange(count), 9)
    elif odd == "large labels":
        labels = _idx(np.arange(count) + 2**30, 0x0C)
    elif odd == "real labels":
        labels = _idx(np.arange(count), 0x0D)
    elif odd == "not finite":
        images = _idx(np.where(np.arange(x.size).reshape(x.shape) == 2, np.nan, 0), 0x0D)
    elif odd == "channels last":
        images = _idx(_numbers(rng, (count, 6, 7, 3), "u1"), 8)
    elif odd == "swapped":
        images, labels = labels, images
    elif odd == "text":
        images = b"5.1,3.5\n" * 9
    squeezed = odd == "gzip" or (odd in ("images cut", "flipped byte") and rng.random() < 0.5)
    if squeezed:
        images = gzip.compress(_idx(x, code))
        spot = int(rng.integers(len(images)))
        if odd == "images cut":
            images = images[:spot]
        elif odd == "flipped byte":
            images = images[:spot] + bytes([images[spot] ^ (1 << int(rng.integers(8)))]) + images[spot + 1 :]
    name = "images-idx3-ubyte.gz" if rng.random() < 0.5 or squeezed else "images-idx3-ubyte"
    (folder / name).write_bytes(images)
    if odd != "no labels":
        (folder / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(labels)
    return odd, IDX_ODD[odd], IDX(str(folder / name), 0), lambda: read_idx(folder / name)


IDX_ODD = {
    "sound": MUST, "gzip": MUST, "several gzip members": MUST,
    "labels cut": NEVER, "too long": NEVER, "no images": NEVER, "other counts": NEVER, "negative labels": NEVER,
    "large labels": NEVER, "real labels": NEVER, "not finite": NEVER, "channels last": NEVER, "swapped": NEVER,
    "text": NEVER, "no labels": NEVER, "images cut": NEVER,
    "other magic": MAY, "little endian": MAY, "huge sizes": MAY, "flipped byte": MAY,
}  # fmt: skip


def _idx(numbers, code):
    numbers = np.asarray(numbers).astype(IDX_TYPES[code])
    return struct.pack(f">BBBB{numbers.ndim}I", 0, 0, code, numbers.ndim, *numbers.shape) + numbers.tobytes()


def read_idx(path):
    """Read (images, labels) by the definition of the format."""
    x, y = _parse_idx(path), _parse_idx(Path(str(path).replace("images", "labels").replace("idx3", "idx1")))
    if x.ndim < 2 or y.ndim != 1 or y.dtype.kind == "f":
        raise Unreadable("no images and labels")
    samples = _samples(x[:, None] if x.ndim == 3 else x)
    return samples, _targets(samples, y)


def _parse_idx(path):
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    zeros, code, rank = struct.unpack_from(">HBB", data)
    shape = struct.unpack_from(f">{rank}I", data, 4)
    numbers = np.frombuffer(data, IDX_TYPES[code], offset=4 + 4 * rank)
    if zeros or not rank or math.prod(shape) != numbers.size:
        raise Unreadable("not IDX")
    return numbers.reshape(shape)


# -- folders of images -------------------------------------------------------------------------------------------------

FORMATS = (("png", "RGB"), ("png", "L"), ("png", "RGBA"), ("png", "P"), ("png", "1"), ("png", "LA"), ("jpg", "RGB"),
           ("JPG", "L"), ("jpeg", "CMYK"), ("bmp", "RGB"), ("gif", "P"), ("tif", "RGB"), ("webp", "RGB"),
           ("pgm", "L"), ("ppm", "RGB"), ("jpe", "RGB"))  # fmt: skip
TRAIN, HELD = (
    ("train", "Train", "training", "Training"),
    ("val", "valid", "Validation", "test", "Testing", "eval", "dev"),
)


def draw_images(rng, folder):
    odd = str(rng.choice(list(IMAGES_ODD)))
    divided = odd in ("a class more in validation", "a class less in validation") or rng.random() < 0.4
    root, options = folder / "set", {"validation": 0, "gray": bool(rng.random() < 0.3)}
    names = list(rng.choice(["cat", "dog", "Ärger", "a b", "10", "9"], int(rng.integers(1, 4)), replace=False))
    height, width = (int(n) for n in rng.integers(2, 9, 2))
    parts = [str(rng.choice(TRAIN)), str(rng.choice(HELD))] if divided else ["."]
    written = []
    for part in parts:
        for name in names:
            for i in range(int(rng.integers(1, 3))):
                suffix, mode = FORMATS[int(rng.integers(len(FORMATS)))]
                written.append(root / part / name / f"{i}.{suffix}")
                _write(rng, written[-1], height, width, mode)
    first, there = written[0], root / parts[0] / names[0]
    if odd == "hidden files":
        for name in ("._0.png", ".DS_Store", "Thumbs.db", ".x/0.png"):
            (there / name).parent.mkdir(exist_ok=True)
            (there / name).write_bytes(rng.bytes(20))
    elif odd == "hidden folders":
        for name in (".git", "__MACOSX", ".ipynb_checkpoints"):
            (root / parts[0] / name).mkdir()
            (root / parts[0] / name / "._0.png").write_bytes(rng.bytes(20))
    elif odd == "other files":
        (there / "labels.txt").write_text("text")
        (root / parts[0] / "readme.md").write_text("text")
    elif odd == "turned":
        for i, orientation in enumerate(rng.integers(1, 9, 3)):
            square = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
            square = square.transpose(Image.Transpose.ROTATE_90) if orientation > 4 else square
            exif = square.getexif()
            exif[0x0112] = int(orientation)
            square.save(there / f"turned{i}.{rng.choice(['jpg', 'png', 'webp'])}", exif=exif)
    elif odd == "resized":
        options["size"] = tuple(int(n) for n in rng.integers(1, 12, 2))
    elif odd == "animated":
        frames = [Image.fromarray(rng.integers(0, 256, (height, width), np.uint8)) for _ in range(3)]
        frames[0].save(there / "animated.gif", save_all=True, append_images=frames[1:])
    elif odd == "wrong suffix":
        (there / "really.png").write_bytes(_encoded(rng, height, width, "RGB", "jpeg"))
    elif odd == "a class less in validation":
        shutil.rmtree(root / parts[1] / names[0])
        if len(names) == 1:
            (root / parts[1]).rmdir()
    elif odd == "a class more in validation":
        _write(rng, root / parts[1] / "zebra" / "0.png", height, width, "RGB")
    elif odd == "a folder below":
        _write(rng, there / "more" / "0.png", height, width, "RGB")
    elif odd == "an image beside":
        _write(rng, root / parts[0] / "0.png", height, width, "RGB")
    elif odd == "another size":
        _write(rng, there / "large.png", height + 1, width, "RGB")
    elif odd == "16 bits":
        Image.fromarray(rng.integers(0, 2**16, (height, width), np.uint16)).save(there / "deep.png")
    elif odd == "text":
        (there / "text.png").write_text("hello")
    elif odd == "empty file":
        (there / "empty.jpg").touch()
    elif odd == "empty class":
        (root / parts[0] / "nothing").mkdir()
    elif odd == "cut":
        data = _encoded(rng, 40, 40, "RGB", "png")
        (there / "cut.png").write_bytes(data[: int(rng.integers(1, len(data) - 40))])
        options["size"] = (height, width)
    elif odd == "flipped byte":
        data = first.read_bytes()
        spot = int(rng.integers(len(data)))
        first.write_bytes(data[:spot] + bytes([data[spot] ^ (1 << int(rng.integers(8)))]) + data[spot + 1 :])
    elif odd == "a folder called 0.png":
        (there / "0.0.png").mkdir()
    held = root / parts[1] if divided and (root / parts[1]).is_dir() else None
    return odd, IMAGES_ODD[odd], Images(str(root), **options), lambda: read_images(root / parts[0], held, options)


IMAGES_ODD = {
    "sound": MUST, "hidden files": MUST, "hidden folders": MUST, "other files": MUST, "turned": MUST, "resized": MUST,
    "animated": MUST, "wrong suffix": MUST, "a class less in validation": MUST, "a folder called 0.png": MUST,
    "a class more in validation": NEVER, "a folder below": NEVER, "an image beside": NEVER, "another size": NEVER,
    "16 bits": NEVER, "text": NEVER, "empty file": NEVER, "empty class": NEVER, "cut": NEVER, "flipped byte": MAY,
}  # fmt: skip


def _encoded(rng, height, width, mode, kind):
    pixels = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8), "RGBA")
    file = io.BytesIO()
    pixels.convert("RGB").convert(mode).save(file, kind)
    return file.getvalue()


def _write(rng, path, height, width, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff", "pgm": "ppm"}
    suffix = path.suffix[1:].lower()
    path.write_bytes(_encoded(rng, height, width, mode, kinds.get(suffix, suffix)))


def read_images(folder, held, options):
    """Read ((pixels, labels) of training, the same of validation or None, class names) with Pillow."""
    suffixes = {"png", "jpg", "jpeg", "jpe", "bmp", "gif", "tif", "webp", "pgm", "ppm"}

    def read(folder, names):
        pixels, labels = [], []
        for name in sorted(path.name for path in folder.iterdir() if path.is_dir()):
            if name[0] == "." or name == "__MACOSX":
                continue
            for path in sorted((folder / name).iterdir()):
                if path.name[0] == "." or path.is_dir() or path.suffix[1:].lower() not in suffixes:
                    continue
                with Image.open(path) as image:
                    if image.mode[0] in "IF":
                        raise Unreadable("16 bits")
                    shown = ImageOps.exif_transpose(image).convert("L" if options["gray"] else "RGB")
                if "size" in options:
                    shown = shown.resize(options["size"][::-1], Image.Resampling.BILINEAR)
                shown = np.atleast_3d(np.asarray(shown))
                pixels.append(np.moveaxis(shown, 2, 0))
                labels.append(names.index(name))
        return np.array(pixels), np.array(labels)

    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX")
    return read(folder, names), None if held is None else read(held, names), names


def same_images(dataset, oracle):
    train, held, names = oracle
    splits = [(dataset.train, train), (dataset.validation, held)]
    return list(dataset.class_names) == names and all(
        (split is None) == (other is None) and (split is None or same_arrays(_Only(split), other))
        for split, other in splits
    )


class _Only:
    """A split that replaces a data set's training split."""

    def __init__(self, split):
        self.train = split


# -- the trial ---------------------------------------------------------------------------------------------------------

FORMS = {"csv": (draw_csv, same_csv), "npz": (draw_npz, same_arrays), "idx": (draw_idx, same_arrays),
         "images": (draw_images, same_images)}  # fmt: skip


def trial(form, seed):
    """Return (oddity, outcome): "read alike", "refused", or the fault."""
    draw, same = FORMS[form]
    rng = np.random.default_rng([list(FORMS).index(form), *seed])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow, NumPy and zipfile warn of some damage that they can read
        odd, expected, reader, oracle = draw(rng, Path(folder))
        try:
            seen = oracle()
        except Exception as error:  # any error of the other reader
            seen, why = None, f"{type(error).__name__}: {error}"
        try:
            dataset = reader.load()
        except NnjitError as error:
            said = str(error)
            if "\n" in said or not 10 < len(said) < 1500 or "Traceback" in said:
                return odd, f"WRONG: no sentence: {said!r}"
            return odd, "refused" if expected != MUST else f"WRONG: a sound file is refused: {said}"
        except Exception as error:
            return odd, f"WRONG: {type(error).__name__}: {error}"
        if expected == NEVER:
            return odd, f"WRONG: read, but it {expected}"
        if seen is None:
            return odd, f"WRONG: read, but the other reader says {why}"
        return odd, "read alike" if same(dataset, seen) else "WRONG: other numbers"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="files in all, a quarter of each form")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes, wrong = Counter(), []
    for i in range(options.count):
        form = list(FORMS)[i % len(FORMS)]
        odd, outcome = trial(form, (options.seed, i))
        outcomes[form, odd, outcome.partition(":")[0]] += 1
        if outcome.startswith("WRONG"):
            wrong.append(f"{form}, {odd}, seed {(options.seed, i)}: {outcome}")
    with_pandas = f"pandas {pandas.__version__}" if pandas else "without pandas"
    print(f"{options.count} files, seed {options.seed}, {with_pandas}")
    for form in FORMS:
        total = Counter()
        for (name, _, outcome), number in outcomes.items():
            total[outcome] += number if name == form else 0
        print(f"{form}: " + ", ".join(f"{number} {outcome}" for outcome, number in sorted(total.items()) if number))
        for (name, odd, outcome), number in sorted(outcomes.items()):
            if name == form:
                print(f"  {odd:30} {outcome:12} {number}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
