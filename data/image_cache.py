"""Decoded images on disk, so that a large set is decoded once and then read as a memory map.

A set is large from `FEWEST` images or `LARGE` bytes of pixels on. Its file, in the folder ``images`` of nnjit's cache
directory, is a .npy file with a note behind the array: the files that were left out, and a hash of each block of
images. Its name is a hash of path, size and times of every image, the options and Pillow's version, so a changed, added
or removed image means another file. A file is written under a hidden name and then renamed; one whose hashes do not
agree is deleted. Beyond `LIMIT` bytes in all, the sets that were not used for the longest time are deleted.
"""

import contextlib
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.compiler.directory import directory

FEWEST = 1000  # images: fewer small ones take a fifth of a second
LARGE = 1 << 26  # bytes
LIMIT = 16 << 30  # bytes of all sets; the newest one may be larger
BLOCK = 1 << 23  # bytes that are written, and hashed, at once
FORMAT = "2"  # of these files
LEFTOVER = 24 * 3600.0  # seconds after which the hidden file of a process that was killed is deleted
END = 40  # bytes of the length and the hash of the note

_warned = False


def folder() -> Path:
    """Return the folder of decoded images."""
    return directory() / "images"


def is_large(count: int, size: int) -> bool:
    """Tell whether a set of `count` images with `size` bytes of pixels each is kept."""
    return count >= FEWEST or count * size >= LARGE


def key(paths: Sequence[str], options: str) -> str:
    """Return the name of the file for a list of images and the options of decoding."""
    try:
        from PIL import __version__
    except ImportError:
        __version__ = ""  # reading says what is missing
    found = sha256(f"{FORMAT} {__version__} {options}".encode())
    folders: dict[str, str] = {}
    for path in paths:
        place, name = os.path.split(path)
        if place not in folders:
            folders[place] = os.path.abspath(place)
        try:
            about = os.stat(path)
            facts = f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {about.st_ino}"
        except OSError as error:
            facts = str(error)
        found.update(f"{folders[place]}\0{name}\0{facts}\0".encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:32]


def load(key: str) -> tuple[NDArray[Any], dict[str, Any]] | None:
    """Return the images (N, C, H, W) of a set as a read-only memory map, and its note; None if they are not there."""
    path = folder() / f"{key}.npy"
    try:
        with open(path, "rb") as file:
            about = _note(file, key)
        if about is None:
            path.unlink()
            return None
        with contextlib.suppress(OSError):  # a read-only disk
            os.utime(path)
        return np.memmap(path, about["dtype"], mode="r", offset=about["start"], shape=tuple(about["shape"])), about
    except OSError:
        return None


def _note(file, key):
    """Return the note of a file; None if the file is damaged."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - END))
    end = file.read()
    length = int.from_bytes(end[:8], "big")
    if len(end) < END or length > size - END:
        return None
    file.seek(size - END - length)
    text = file.read(length)
    if sha256(text).digest() != end[8:]:
        return None
    about = json.loads(text)
    file.seek(0)
    hashes = [sha256(file.read(part)).hexdigest() for part in about["parts"]]
    whole = sum(about["parts"]) + length + END == size
    return about if whole and hashes == about["hashes"] and about["key"] == key else None


class Writer:
    """The file of a set while its images come one by one; see `begin`.

    Parameters
    ----------
    file : file without a buffer
    path : Path of the file
    key : str
    shape, dtype : of one image
    count : int
        The largest number of images.
    """

    def __init__(self, file: FileIO, path: Path, key: str, shape: tuple[int, ...], dtype: str, count: int) -> None:
        self._file, self._path, self._key = file, path, key
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._block = np.empty((min(count, max(1, BLOCK // size)), *shape), dtype)
        self._start = _header(count, shape, dtype)
        self._filled = self._stored = 0  # images in the block and in the file
        self._parts, self._hashes = [len(self._start)], [""]

    def append(self, pixels: NDArray[Any]) -> None:
        """Add an image; an OSError leaves those that came before to `copy_to`."""
        if self._filled == len(self._block):
            self._write()
        self._block[self._filled] = pixels
        self._filled += 1

    def _write(self):
        if self._stored == 0:
            self._file.seek(0)
            self._put(self._start)
        if self._filled == 0:
            return
        data = self._block[: self._filled].tobytes()
        self._put(data)
        self._parts.append(len(data))
        self._hashes.append(sha256(data).hexdigest())
        self._stored, self._filled = self._stored + self._filled, 0

    def _put(self, data):
        """Write all bytes; the file has no buffer, which a full disk would leave full."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def copy_to(self, array: NDArray[Any]) -> None:
        """Copy the images so far to the beginning of an array."""
        size = self._block[0].size
        with open(self._path, "rb") as file:
            file.seek(len(self._start))
            for row in range(self._stored):
                array[row] = np.fromfile(file, self._block.dtype, size).reshape(self._block.shape[1:])
        array[self._stored : self._stored + self._filled] = self._block[: self._filled]

    def finish(self, about: dict[str, Any]) -> NDArray[Any]:
        """Complete the file with a note and return the images as a memory map.

        Raises
        ------
        OSError
        """
        self._write()
        shape, dtype = (self._stored, *self._block.shape[1:]), self._block.dtype
        start = _header(self._stored, shape[1:], dtype)
        self._hashes[0] = sha256(start).hexdigest()
        note = {
            "key": self._key, "start": len(start), "shape": shape, "dtype": dtype.str, "parts": self._parts,
            "hashes": self._hashes, **about,
        }  # fmt: skip
        text = json.dumps(note).encode()
        self._put(text + len(text).to_bytes(8, "big") + sha256(text).digest())
        self._file.seek(0)
        self._put(start)
        os.fsync(self._file.fileno())
        path = folder() / f"{self._key}.npy"
        self._file.close()  # Windows renames no open file
        os.replace(self._path, path)
        return np.memmap(path, dtype, mode="r", offset=len(start), shape=shape)

    def drop(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _header(count, shape, dtype):
    """Return the header of a .npy file, as long for every count of images."""
    file = BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue()


def begin(key: str, shape: tuple[int, ...], dtype: str, count: int) -> Writer | None:
    """Begin the file of a set of up to `count` images; None, with a warning, if there is no place for it."""
    place, size = folder(), count * int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    try:
        place.mkdir(parents=True, exist_ok=True)
        _make_room(place, size)
        free = shutil.disk_usage(place).free
        if size > free / 2:
            warn(f"they are {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free")
            return None
        path = place / f".{key}-{secrets.token_hex(4)}"
        return Writer(open(path, "wb", buffering=0), path, key, shape, dtype, count)
    except OSError as error:
        warn(error.strerror or str(error))
        return None


def _make_room(place, size):
    """Delete files of processes that were killed, and the sets that were not used for the longest time."""
    found = []
    for path in place.iterdir():
        with contextlib.suppress(OSError):  # another process may delete it first
            about = path.stat()
            if path.name.startswith(".") and time.time() - about.st_mtime > LEFTOVER:
                path.unlink()
            elif path.suffix == ".npy":
                found.append((about.st_mtime, about.st_size, path))
    total = size + sum(each for _, each, _ in found)
    for _, each, path in sorted(found):
        if total <= LIMIT:
            return
        with contextlib.suppress(OSError):  # Windows deletes no file that is in use
            path.unlink()
            total -= each


def warn(why: str) -> None:
    """Warn, once in this process, that images are not kept."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"nnjit: decoded images cannot be kept in {folder()}: {why}", RuntimeWarning, stacklevel=2)
