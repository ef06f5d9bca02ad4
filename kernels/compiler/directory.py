"""The directory of compiled code. Nothing here needs Numba, so a command can look into it as soon as it begins."""

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from pathlib import Path

_warned = False


def directory() -> Path:
    """Return the directory of compiled code: ``NNJIT_CACHE_DIR``, else the platform's user cache.

    If it needs a home directory and the user has none, use a temporary directory of this process, with one warning.
    """
    chosen = os.environ.get("NNJIT_CACHE_DIR")
    try:
        if chosen:
            return Path(chosen).expanduser()
        from platformdirs import user_cache_path

        path = user_cache_path("nnjit", appauthor=False)
        if path.is_absolute():  # some versions do not expand the ~ of a user without home
            return path
    except RuntimeError:
        pass
    return _temporary(f"NNJIT_CACHE_DIR={chosen}" if chosen else "NNJIT_CACHE_DIR is not set")


@functools.cache
def _temporary(why) -> Path:
    """Create a directory that this process removes at its end."""
    path = tempfile.mkdtemp(prefix="nnjit-")
    atexit.register(_remove, path, os.getpid())
    warn(f"{why}, and there is no home directory; compiled code is kept in {path} until this process ends")
    return Path(path)


def _remove(path, process):
    if os.getpid() == process:  # not in a fork
        shutil.rmtree(path, ignore_errors=True)


def clear() -> int:
    """Delete all compiled code and decoded images; return the number of bytes freed."""
    freed = 0
    for folder in (directory() / "compiled", directory() / "images"):
        freed += size(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder; 0 if there is no such folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def writable() -> bool:
    """Return whether compiled code can be stored: not in a read-only directory."""
    place = directory() / "compiled"
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def empty() -> bool:
    """Return whether there is no compiled code at all."""
    place = directory() / "compiled"
    return not place.is_dir() or next(place.iterdir(), None) is None


def warn(text):
    """Warn once in this process."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"nnjit: {text}", RuntimeWarning, stacklevel=3)
