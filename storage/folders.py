"""Folders of several runs: made, numbered, and removed if nothing was begun in them."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path


def make(path: Path, exist_ok: bool = False) -> list[Path]:
    """Make a folder and those above it; return the new ones, the innermost first."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    return made


def numbered(name: str) -> tuple[Path, list[Path]]:
    """Make the first of runs/<name>-1, -2, ... that does not exist; return it and the folders that were made."""
    for k in count(1):
        path = Path("runs") / f"{name}-{k}"
        with suppress(FileExistsError):
            return path, make(path)
    raise AssertionError


def remove_empty(path: Path, files: Collection[str], made: Sequence[Path] | None) -> None:
    """Remove these files, and the folders that `make` has made, if nothing else is there; None: it was there before."""
    if made is not None and {file.name for file in path.iterdir()} <= set(files):
        for name in files:
            (path / name).unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()
