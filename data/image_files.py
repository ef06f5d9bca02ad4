"""Image files as arrays (C, H, W), decoded by Pillow in threads.

The depth of a file decides the type of its pixels, which keep their own numbers:

============================  =======  ===================================================================
pixels of the file            type     channels
============================  =======  ===================================================================
up to 8 bits; several         uint8    three colours, or one with `gray`, as Pillow's ``convert`` makes them
channels of more, whose
upper 8 bits Pillow reads
16 bits, one channel          uint16   one
32-bit integers               int32    one
floats                        float32  one
============================  =======  ===================================================================

Files of one set have one depth and, unless they are resized, one size. No conversion between depths is right for all
files: 8 bits times 257 are 16 bits only if these fill 0 to 65535, and the 12 bits of a camera do not.

Threads decode: Pillow's decoders release the GIL. Processes would start for 0.3 s each, and import the user's script a
second time. Small files have one thread: Python's part of their decoding, 0.2 ms, holds the GIL, and several threads
take more CPU time and no less time.
"""

import os
import threading
from collections import Counter, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..terminal.progress import Progress
from . import image_cache
from .files import reason
from .split import DEPTHS

CANNOT = "cannot be read"
LINES = 10.0  # seconds between lines on the progress of reading, without a terminal
EARLY = 64  # images after which a set of many sizes is refused
LISTED = 5  # files that a message names
MOST_THREADS = 16
SMALL = 1 << 14  # bytes of a file below which one thread decodes
HEAD = 1 << 16  # bytes in which the first marker of a JPEG 2000 file is looked for
TASK = 1 << 18  # bytes of files that a thread decodes in a row


class Unreadable(Exception):
    """A file that is no image; the message is the end of a sentence that begins with the file's name."""


class Form(NamedTuple):
    """Shape (C, H, W) and type of the pixels of an image."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[1], self.shape[2]


class Decoded(NamedTuple):
    """The pixels (C, H, W) of a file, and whether it has channels of 16 bits of which only the upper 8 were read."""

    pixels: NDArray[Any]
    cut: bool


class Pixels(NamedTuple):
    """The images of a list of files.

    Attributes
    ----------
    x : ndarray (N, C, H, W)
        In memory, or a read-only memory map of a file of the cache.
    kept : ndarray (N,)
        Positions of the images in the list of files.
    wrong : list of (position, reason)
        Files that were left out, in order; the reason follows the name of the file in a sentence.
    remedy : str
        What besides leaving them out makes the set whole; "" if nothing does.
    looked_at : int
        How many of the files were read; fewer than all if the first `EARLY` have many sizes.
    cut : list of positions
        Files that were kept, of whose 16 bits a channel the upper 8 were read.
    cached : bool
        Whether they were read from the cache.
    """

    x: NDArray[Any]
    kept: NDArray[np.intp]
    wrong: list[tuple[int, str]]
    remedy: str
    looked_at: int
    cut: Sequence[int] = ()
    cached: bool = False


def decode(path: str | Path, gray: bool = False, size: tuple[int, int] | None = None) -> Decoded:
    """Read one image as (C, H, W), turned by its EXIF orientation and resized (bilinear) to `size` = (H, W).

    Raises
    ------
    Unreadable
        The file cannot be opened, is damaged or not an image, or holds NaN or infinity.
    DataError
        Pillow is not there, or the image does not fit into memory.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError('reading images needs pillow: pip install "nnjit[images]"') from error
    try:
        with Image.open(path) as file:
            cut = _is_cut(file)
            ImageOps.exif_transpose(file, in_place=True)
            image, dtype = _in_depth(file, gray)
            if size is not None and image.size != size[::-1]:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(image, dtype)
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: {reason(error)}") from error
    except Exception as error:  # pillow's decoders raise various errors for a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise Unreadable(f"{CANNOT}: {error.strerror}") from error
        said = reason(error).replace(f" {str(path)!r}", "")  # the name stands in front
        raise Unreadable(f"is damaged or not an image: {said}") from error
    if dtype == "float32" and not np.isfinite(pixels).all():
        raise Unreadable("holds NaN or infinity")
    return Decoded(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), cut)


def _is_cut(file):
    """Tell whether Pillow reads fewer bits of an opened image's channels than its file has.

    Its decoder's arguments say so: the mode of the file, such as "RGB;16B", or the largest number of a PPM file.
    """
    if file.mode == "F" or file.mode.startswith("I"):
        return False
    if file.format == "JPEG2000":
        return _bits_of_jpeg_2000(file.fp) > 8
    arguments = file.tile[0][3] if file.tile else ()  # one text, or several things
    mode, largest = (*arguments, "", 0)[:2] if isinstance(arguments, tuple) else (arguments, 0)
    return ";16" in str(mode) or (file.format == "PPM" and largest > 255)


def _bits_of_jpeg_2000(file):
    """Return the bits of the first channel, from the marker SIZ (ISO/IEC 15444-1, A.5.1); 0 if it is not found."""
    place = file.tell()
    file.seek(0)
    start = file.read(HEAD)
    file.seek(place)
    marker = start.find(b"\xff\x4f\xff\x51")
    return 0 if marker < 0 or len(start) < marker + 43 else (start[marker + 42] & 0x7F) + 1


def _in_depth(file, gray):
    """Return the image in the mode of its depth, and the type of its pixels."""
    from PIL import Image

    if file.mode.startswith("I;16"):
        native = "I;16" if file.mode != "I;16B" else "I;16B"
        if native == "I;16":
            return file, "uint16"
        return Image.fromarray(np.asarray(file).astype(np.uint16)), "uint16"  # resizing takes the usual byte order
    if file.mode == "I":  # 16 bits in PGM, and in PNG until Pillow 11; TIFF has 32 bits, or 16 with a sign
        deep = file.format in ("PNG", "PPM")
        return (Image.fromarray(np.asarray(file).astype(np.uint16)) if deep else file), "uint16" if deep else "int32"
    if file.mode == "F":
        return file, "float32"
    mode = "L" if gray else "RGB"
    return file if file.mode == mode else file.convert(mode), "uint8"


def read(paths: Sequence[str], gray: bool, size: tuple[int, int] | None, skip: bool) -> Pixels:
    """Read images of one form: that of most files. Files of another form, and what is no image, are `wrong`.

    Large sets are kept in a cache; see `image_cache`. Photographs of many sizes need not all be decoded to be refused.

    Parameters
    ----------
    paths : sequence of Path
    gray, size : as in `decode`
    skip : bool
        Whether the pixels are wanted even if files are wrong; without it x is then empty.

    Raises
    ------
    DataError
        Pillow is not there, or the pixels do not fit into memory.
    """
    key = image_cache.key(paths, f"{gray} {size}")
    if (found := image_cache.load(key)) is not None:
        x, about = found
        wrong = [(int(i), str(why)) for i, why in about["wrong"]]
        return Pixels(x, _without(wrong, len(paths)), wrong, about["remedy"], len(paths), about["cut"], True)
    form: Form | None = None
    while True:
        store, forms, failed, cut = _read_once(paths, gray, size, skip, form, key)
        usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
        if usual is None or usual == store.form or not skip:
            break
        store.drop()
        form = usual  # the first image was an odd one
    odd = {i: _why_odd(given, usual) for i, given in forms.items() if usual is not None and given != usual}
    wrong = sorted((failed | odd).items())
    resizable = any(given.size != usual.size for given in forms.values()) if usual is not None else False
    remedy = f"size={usual.size} resizes all" if resizable and usual is not None else ""
    kept = _without(wrong, len(paths))
    if (wrong and not skip) or not len(kept):
        store.drop()
        return Pixels(np.empty((0, 1, 1, 1), np.uint8), kept, wrong, remedy, len(forms) + len(failed))
    cut = sorted(set(cut).difference(i for i, _ in wrong))
    later = any(why.startswith(CANNOT) for _, why in wrong)  # such a file may be read later, as it is
    whole = not later and key == image_cache.key(paths, f"{gray} {size}")
    about = {"wrong": wrong, "remedy": remedy, "cut": cut}
    return Pixels(store.finish(about, whole), kept, wrong, remedy, len(paths), cut)


def _without(wrong, count):
    return np.delete(np.arange(count), [i for i, _ in wrong])


def _why_odd(given, usual):
    if given.dtype != usual.dtype:
        return (
            f"has pixels of {DEPTHS[given.dtype.name]}, but {DEPTHS[usual.dtype.name]} are expected, as most files have"
        )
    return f"is {given.size[0]}x{given.size[1]} (height x width), but most are {usual.size[0]}x{usual.size[1]}"


def _read_once(paths, gray, size, skip, form, key):
    """Read all files and store those of a form (None: that of the first image), and show how many are done.

    Returns
    -------
    store : _Store
    forms : dict, position -> `Form`
    failed : dict, position -> reason
    cut : list of positions
    """
    store, forms, failed, cut = _Store(len(paths), form, key), {}, {}, []
    try:
        with Progress("reading images", lines=LINES) as progress, closing(_decoded(paths, gray, size)) as images:
            for i, found in enumerate(images):
                if isinstance(found, Unreadable):
                    failed[i] = str(found)
                else:
                    forms[i] = Form(found.pixels.shape, found.pixels.dtype)
                    cut += [i] * found.cut
                    if forms[i] == (store.form or forms[i]) and (skip or not failed):
                        store.append(found.pixels, forms[i])
                if i + 1 == EARLY and size is None and not skip and _many_sizes(forms):
                    break
                progress(i + 1, len(paths), *[f"{len(failed)} cannot be used"] * bool(failed))
    except BaseException:
        store.drop()
        raise
    return store, forms, failed, cut


def _many_sizes(forms):
    """Tell whether most of the images have another size than the most frequent one."""
    counts = Counter(form.size for form in forms.values())
    return 2 * max(counts.values(), default=0) < counts.total()


def _decoded(paths, gray, size) -> Generator[Any, None, None]:
    """Yield the image of each file, or an `Unreadable`, in order; threads decode some ahead."""
    size_of_file, stopped = _usual_size(paths), threading.Event()

    def some(part):
        return [_decode_or_say(path, gray, size) for path in part if not stopped.is_set()]

    number = max(1, min(32, TASK // max(size_of_file, 1)))
    threads = min(MOST_THREADS, _processors(), -(-len(paths) // number))
    if threads == 1 or size_of_file < SMALL:
        yield from (_decode_or_say(path, gray, size) for path in paths)
        return
    rest, waiting, pool = iter(paths), deque[Future[list[Any]]](), ThreadPoolExecutor(threads)
    try:
        while True:
            while len(waiting) < 3 * threads and (part := list(islice(rest, number))):
                waiting.append(pool.submit(some, part))
            if not waiting:
                return
            yield from waiting.popleft().result()
    finally:
        stopped.set()  # an interrupt waits for one image of each thread
        pool.shutdown(cancel_futures=True)


def _decode_or_say(path, gray, size):
    try:
        return decode(path, gray, size)
    except Unreadable as error:
        return error


def _usual_size(paths):
    """Return the median of the sizes, in bytes, of some of the files."""
    some = [paths[k] for k in range(0, len(paths), -(-len(paths) // 9))]
    return sorted(os.path.getsize(path) if os.path.exists(path) else 0 for path in some)[len(some) // 2]


def _processors():
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class _Store:
    """Images of one form that come one by one: in memory, or in a file of the cache if the set is large."""

    def __init__(self, count, form, key):
        self.form, self._count, self._key = form, count, key
        self._rows = 0
        self._array: Any = None
        self._file: Any = None

    def append(self, pixels, form):
        if self._rows == 0:
            self.form = form
            if image_cache.is_large(self._count, pixels.nbytes):
                self._file = image_cache.begin(self._key, form.shape, form.dtype.name, self._count)
        if self._file is not None:
            try:
                self._file.append(pixels)
            except OSError as error:
                self._into_memory(error)
        if self._file is None:
            self._allocate()
            self._array[self._rows] = pixels
        self._rows += 1

    def finish(self, about, whole):
        """Return all images; their file becomes part of the cache if it is `whole`."""
        if self._file is not None and whole:
            try:
                return self._file.finish(about)
            except OSError as error:
                self._into_memory(error)
        elif self._file is not None:
            self._into_memory(None)
        return self._array[: self._rows]

    def drop(self):
        """Delete what is there."""
        if self._file is not None:
            self._file.drop()
        self._file = self._array = None

    def _into_memory(self, error):
        """Take the images out of a file that cannot be written, by an error, or shall not be kept."""
        if error is not None:
            image_cache.warn(error.strerror or str(error))
        self._allocate()
        try:
            self._file.copy_to(self._array)
        except (OSError, ValueError) as failure:
            raise DataError(f"{image_cache.folder()} cannot be read: {reason(failure)}") from failure
        self._file.drop()
        self._file = None

    def _allocate(self):
        if self._array is not None:
            return
        try:
            self._array = np.empty((self._count, *self.form.shape), self.form.dtype)
        except MemoryError as error:
            shape = "x".join(map(str, self.form.shape))
            raise DataError(
                f"{self._count} images of {shape} numbers do not fit into memory; size=(H, W) makes them smaller"
            ) from error
