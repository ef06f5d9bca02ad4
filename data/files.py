"""Find and open a user's files; each failure has a one-sentence error."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, SpecError
from ..registry import datasets
from ..registry.options import SpecLike
from ..registry.specs import did_you_mean, quoted

# Suffix -> the reader of a file that is named alone.
READERS = {".csv": "csv", ".tsv": "csv", ".npz": "npz"}
READERS |= dict.fromkeys((".parquet", ".pq", ".arrow", ".feather", ".ipc"), "arrow")
# Names of image files, in any case.
SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
)  # fmt: skip
FORM = ("path", "separator", "header", "size", "gray", "skip")  # options of readers that say how files are read
SPEC = re.compile(r"\s*[\w.-]+\s*\(.*\)\s*", re.DOTALL)


def reader_spec(spec: SpecLike) -> SpecLike:
    """Return the spec of the reader for the name of a file or folder alone; any other spec is returned unchanged.

    "iris.csv" is ("csv", {"path": "iris.csv"}). A folder with a file of IDX images in it is read by `idx`, any other by
    `images`. The name of a data set takes precedence: "./digits" is a folder.

    Raises
    ------
    SpecError
        It looks like a path, but nothing is there, or nothing that the name tells how to read.
    """
    if not isinstance(spec, str) or spec in datasets.names() or "(" in os.path.splitext(spec)[1]:
        return spec
    path = os.path.expanduser(spec) if spec.startswith("~/") else spec
    suffix, base = os.path.splitext(path)[1].lower(), os.path.basename(path)
    if suffix in READERS:
        return READERS[suffix], {"path": spec}
    if os.path.isdir(path):
        files = [name for name in os.listdir(path) if "images" in name and os.path.isfile(os.path.join(path, name))]
        return "idx" if files else "images", {"path": spec}
    if os.path.isfile(path) and "images-idx" in base:
        return "idx", {"path": spec}
    if os.path.isfile(path):
        raise SpecError(
            f"{quoted(spec)} is a file, but its name does not end in {', '.join(READERS)}; name the reader, such as "
            f"csv(path={spec!r})"
        )
    if "(" not in spec and (os.sep in spec or suffix):
        raise SpecError(f"there is no file or folder {quoted(spec)}, nor a data set of this name")
    return spec


def samples_reader(source: SpecLike | Path) -> Any:
    """Return the reader of samples without targets, which has `samples` and `column`.

    Parameters
    ----------
    source : path, spec or reader
        A file whose name says how to read it, a folder of images, "-" (a CSV file), or the spec of a reader.

    Raises
    ------
    UnknownName, SpecError
        There is no such reader, or it has no such option; or it has one that is about targets.
    DataError
        The name of the file does not say how to read it.
    """
    if isinstance(source, Path) or (isinstance(source, str) and (not SPEC.fullmatch(source) or os.path.exists(source))):
        suffix = os.path.splitext(source)[1].lower()
        images = suffix in SUFFIXES or os.path.isdir(source)
        if str(source) != "-" and suffix not in READERS and not images:
            raise DataError(
                f"{source}: expected samples in a .npz or .csv file, in one of .tsv, .parquet, .arrow or .feather, or "
                f"images, such as .png files or a folder; name the reader of another, such as "
                f'"csv(path={str(source)!r})"'
            )
        source = "images" if images else READERS.get(suffix, "csv"), {"path": str(source)}
    reader = datasets.create(source)
    name, options = datasets.name_of(type(reader)), reader.options()
    if not hasattr(reader, "samples") or "path" not in options:
        raise SpecError(
            f"{name} does not read samples without targets; csv, arrow, npz and images do, and --data takes {name}"
        )
    usual = type(reader)(path=options["path"]).options()
    allowed = [option for option in options if option in FORM]
    if wrong := [option for option, value in options.items() if option not in FORM and value != usual[option]]:
        raise SpecError(
            f"{name}: {', '.join(wrong)} is about training; for samples without targets {name} takes "
            f"{', '.join(allowed)}"
        )
    return reader


def find(path: str | os.PathLike[str], kind: str = "file") -> Path:
    """Return `path` as a Path that exists; ~/ is the home directory, a relative path starts at the current one.

    `kind` is "file", "folder" or "any"; a file must not be empty. DataError names the nearest file in the same folder.
    """
    found = Path(os.path.expanduser(path)) if str(path).startswith("~/") else Path(path)
    if not os.path.exists(found):  # unlike Path.exists it also accepts impossible names
        names = os.listdir(found.parent) if os.path.isdir(found.parent) else []
        raise DataError(f"there is no file or folder {str(path)[:200]!r}{did_you_mean(found.name, names)}")
    if kind == "folder" and not found.is_dir():
        raise DataError(f"{found} is a file, but a folder is needed")
    if kind == "file" and found.is_dir():
        raise DataError(f"{found} is a folder, but a file is needed")
    if found.is_file() and found.stat().st_size == 0:
        raise DataError(f"{found} is empty (0 bytes)")
    return found


@contextmanager
def reading(path: object) -> Iterator[None]:
    """Convert an OSError while `path` is read into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def reason(error: BaseException) -> str:
    """Format a library's error message as part of one sentence."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
