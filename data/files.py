"""Find and open a user's files; each failure has a one-sentence error."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from ..registry.specs import did_you_mean


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
