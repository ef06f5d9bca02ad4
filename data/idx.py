"""IDX, the format of MNIST: a big-endian header, then the numbers of one array.

Header: two zero bytes, one byte for the element type, one for the number of dimensions, then each dimension as an
unsigned 32-bit number (Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, section "File
formats"). Plain files are memory-mapped; gzip-compressed files are read into memory as bytes.
"""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..registry import Options, datasets
from ..terminal.progress import Progress, open_tracked
from .files import find, reading, reason
from .split import Dataset, Split, check_channels, check_share, check_share_or_path

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"
MOST_DIMENSIONS = 8


@datasets.register("idx")
class IDX(Options):
    """Images and labels in IDX files, plain or gzip-compressed.

    `path` is a folder with the usual file names (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-... or
    test-..., with or without .gz and further words), or the images file, with its labels in the same folder.
    Images (N, H, W) become (N, 1, H, W); bytes are pixels 0..255. The t10k or test files are the validation set;
    without them the share `validation` of the images is held out. `test` is a share of the training images, or an
    images file or a folder; if it names the t10k or test files, they do not validate.
    """

    path: str
    validation: float = 0.1
    test: float | str = 0.0

    files = ("test",)  # options that may name a file

    def validate(self) -> None:
        check_share(self.validation)
        check_share_or_path(self.test, "test")

    def load(self) -> Dataset:
        """Load the data set; DataError for a file that is missing, damaged or of another kind."""
        path, chosen = find(self.path, "any"), self._test_images()
        held = None
        if path.is_file():
            images = path
        else:
            found = _images_in(path, "train")
            if found is None:
                raise DataError(
                    f"{path} holds no training images: a file named like train-images-idx3-ubyte or "
                    "train-images-idx3-ubyte.gz was expected"
                )
            images, held = found, _images_in(path, "t10k") or _images_in(path, "test")
            if held == images:  # "latest-train-images" also contains the word test
                held = None
        if chosen is not None and chosen.samefile(images):
            raise DataError(f"{chosen} holds the training images, so it cannot test; give another file or a share")
        if held is not None and chosen is not None and chosen.samefile(held):
            held = None
        validation, test = (None if each is None else _pair(each) for each in (held, chosen))
        return Dataset(
            "idx", _pair(images), validation, test,
            validation_share=self.validation if validation is None else 0.0,
            test_share=0.0 if isinstance(self.test, str) else self.test,
        )  # fmt: skip

    def _test_images(self):
        """Return the images file that `test` names, or None for a share."""
        if not isinstance(self.test, str):
            return None
        path = find(self.test, "any")
        if path.is_file():
            return path
        found = next(filter(None, (_images_in(path, word) for word in ("t10k", "test", ""))), None)
        if found is None:
            raise DataError(f"test: {path} holds no images: a file named like t10k-images-idx3-ubyte was expected")
        return found


def read_idx(path: Path) -> NDArray[Any]:
    """Read the array in one IDX file: a read-only memory map, or an array if the file is compressed."""
    with reading(path), open(path, "rb") as file:
        packed = file.read(2) == GZIP
    if not packed:
        with reading(path), open(path, "rb") as file:
            dtype, shape = _read_header(file, path)
            start, size = file.tell(), path.stat().st_size
            _check_length(path, size - start, dtype, shape)
            return np.memmap(path, dtype, mode="r", offset=start, shape=shape)
    try:
        with (
            Progress(f"reading {path.name}", "bytes") as progress,
            open_tracked(path, progress) as raw,
            gzip.open(raw) as file,
        ):
            dtype, shape = _read_header(file, path)
            expected, body = dtype.itemsize * math.prod(shape), bytearray()
            while len(body) <= expected and (chunk := file.read(1 << 20)):  # never trust the header with memory
                body += chunk
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged or cut short: its gzip data cannot be unpacked ({reason(error)})"
        ) from error
    _check_length(path, len(body), dtype, shape)
    return np.frombuffer(body, dtype).reshape(shape)


def _read_header(file, path):
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MOST_DIMENSIONS:
        raise DataError(
            f"{path} is not an IDX file: it begins with the bytes {magic.hex(' ') or '(none)'}, but 00 00, a type "
            f"({', '.join(f'{code:02x}' for code in TYPES)}) and the number of dimensions (at most {MOST_DIMENSIONS}) "
            "were expected"
        )
    header = file.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError(f"{path} is cut short: its header of {magic[3]} dimensions is not complete")
    shape = struct.unpack(f">{magic[3]}I", header)
    if 0 in shape:
        raise DataError(f"{path} is empty: its shape is {shape}")
    return np.dtype(TYPES[magic[2]]), shape


def _check_length(path, size, dtype, shape):
    expected = dtype.itemsize * math.prod(shape)
    if size != expected:
        fault = "is cut short: it holds" if size < expected else "is too long: it holds at least"
        raise DataError(f"{path} {fault} {size} bytes of data, but its shape {shape} of {dtype} needs {expected}")


def _images_in(folder, word):
    """Find the images file of `folder` whose name has `word` before 'images'; prefer a plain file to its .gz."""
    with reading(folder):
        paths = sorted(path for path in folder.glob(f"*{word}*images*" if word else "*images*") if path.is_file())
    paths = [path for path in paths if not (path.suffix == ".gz" and path.with_suffix("") in paths)]
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise DataError(f"{folder} holds several {word} images files ({names}); give the path of one of them")
    return paths[0] if paths else None


def _labels_beside(images):
    """Find the labels of an images file: train-images-idx3-ubyte -> train-labels-idx1-ubyte, with or without .gz."""
    if "images" not in images.name:
        raise DataError(f"{images}: the name of an images file must hold the word 'images', to find its labels by")
    name = re.sub(r"idx\d", "idx1", images.name.replace("images", "labels"))
    plain = name.removesuffix(".gz")
    for candidate in (name, plain, plain + ".gz"):
        if images.with_name(candidate).is_file():
            return images.with_name(candidate)
    raise DataError(f"{images} has no labels beside it: {name} was expected")


def _pair(images):
    """Read images and their labels as a Split."""
    labels = _labels_beside(images)
    x, y = read_idx(find(images)), read_idx(find(labels))
    if x.ndim < 2:
        raise DataError(f"{images} has one dimension, as labels have, but images (N, H, W) were expected")
    if y.ndim != 1 or y.dtype.kind == "f":
        raise DataError(f"{labels} holds {y.dtype} of shape {y.shape}, but labels are whole numbers of shape (N,)")
    if len(x) != len(y):
        raise DataError(f"{images.name} holds {len(x)} images but {labels.name} holds {len(y)} labels")
    x = x[:, None] if x.ndim == 3 else x
    check_channels(x.shape[1:], images)
    return Split(x, y, name=str(images))
