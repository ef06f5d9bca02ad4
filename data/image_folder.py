"""Folders of images, with a sub-folder for each class, and images without classes.

This file finds the images and their classes, `image_files` decodes them, and `image_cache` keeps large sets.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpecError
from ..registry import Options, datasets
from . import image_cache
from .encoding import Encoding
from .files import SUFFIXES, find, reading
from .image_files import LISTED, read
from .split import Dataset, Split, check_share, check_share_or_path

TRAINING = ("train", "training")  # usual folder names of a split set, in any case
VALIDATION = (("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))
DEEP = {"uint16": (0.0, 65535.0)}  # the range of pixels; that of bytes is known to `Dataset`


class Entries(NamedTuple):
    """The sorted contents of a folder: folders, images, and names of other files."""

    folders: list[str]
    images: list[str]
    others: list[str]


class Part(NamedTuple):
    """The files of one split: their folder, the images class by class, their labels, names of other files."""

    folder: Path
    paths: list[str]
    labels: list[int]
    others: list[str]


@datasets.register("images")
class Images(Options):
    """A folder with one sub-folder per class, or with train/ and validation/ (or val/, test/, ...) of such folders.

    Classes are the sub-folder names in alphabetical order. Images become (C, H, W), with three colours, or one with
    `gray`, rotated by their EXIF orientation, with pixels 0..255; transparency is dropped. Files with one channel of
    16 bits, of 32-bit integers or of floats keep their numbers and have one channel. All images must have the same
    depth and size, unless they are resized (bilinear) to `size`: (H, W), or one number for both. If there are files
    that cannot be used, all are found before the first is named, and with `skip` the set is read without them. Without
    a validation folder the share `validation` of the images is held out. `test` is a share of the training images, or
    another folder with the same classes; a folder test/ beside validation/ is the test set too. Hidden files and
    folders, __MACOSX and files other than images are skipped; images anywhere but directly in a class folder are
    refused. Needs pillow.
    """

    path: str
    size: int | tuple[int, int] | None = None
    gray: bool = False
    validation: float = 0.1
    test: float | str = 0.0
    skip: bool = False

    files = ("test",)  # options that may name a folder
    _names = None  # (N,) of the files that `samples` read

    def validate(self) -> None:
        if isinstance(self.size, int):
            self.size = (self.size, self.size)
        if self.size is not None and min(self.size) < 1:
            raise SpecError(f"images: size: expected (height, width), both at least 1, got {self.size}")
        check_share(self.validation)
        check_share_or_path(self.test, "test")

    def load(self) -> Dataset:
        """Load the data set; DataError for a folder or an image that is missing or damaged."""
        folder = find(self.path, "folder")
        parts = {os.path.basename(path).lower(): Path(path) for path in entries(folder).folders}
        divided = {name: path for name, path in parts.items() if _is_divided(path)}
        training = _one_of(divided, TRAINING)
        if training:
            for name in parts.keys() - {*TRAINING, *sum(VALIDATION, ())}:  # it may be a class, and "train" another
                if images := entries(parts[name]).images:
                    raise DataError(f"{images[0]} lies in neither the training nor the validation folder of {folder}")
        names = _class_names(training or folder)  # a folder "train" without sub-folders is a class
        chosen = find(self.test, "folder") if isinstance(self.test, str) else None
        if chosen is not None and chosen.samefile(training or folder):
            raise DataError(f"{chosen} holds the training images, so it cannot test; give another folder or a share")
        named = [_one_of(parts, group) for group in VALIDATION] if training else []
        found = [path for path in named if path and not (chosen and chosen.samefile(path))]
        held = found[0] if found else None
        tested = chosen or (found[1] if len(found) > 1 else None)
        train = _part(training or folder, names, names)
        others = [None if each is None else _held(each, names, train.folder) for each in (held, tested)]
        splits, notes = self._splits([train, *(part for part in others if part is not None)], names, folder)
        validation, test = (None if part is None else splits.pop(1) for part in others)
        depth = splits[0].x.dtype.name
        return Dataset(
            "images", splits[0], validation, test, class_names=names, notes=notes, raw_range=DEEP.get(depth),
            validation_share=self.validation if held is None else 0.0,
            test_share=0.0 if isinstance(self.test, str) else self.test, depth=depth,
        )  # fmt: skip

    def _splits(self, parts, names, folder):
        """Read all parts and return their splits and notes for the run."""
        paths = [path for part in parts for path in part.paths]
        pixels = self._read(paths, folder)
        labels = np.concatenate([part.labels for part in parts])
        numbers = np.repeat(np.arange(len(parts)), [len(part.paths) for part in parts])
        groups = numbers * len(names) + labels
        if (lost := np.setdiff1d(groups, groups[pixels.kept])).size:
            gone = set(np.flatnonzero(groups == lost[0]).tolist())
            number, label = divmod(int(lost[0]), len(names))
            raise DataError(
                f"{parts[number].folder / names[label]}: none of its {len(gone)} images can be used, so skip=True "
                f"would leave the class {names[label]!r} without images: {_listed(pixels.wrong, paths, folder, gone)}"
            )
        splits, start = [], 0
        for number, part in enumerate(parts):
            rows = pixels.kept[numbers[pixels.kept] == number]
            splits.append(Split(pixels.x[start : start + len(rows)], labels[rows], name=str(part.folder)))
            start += len(rows)
        return splits, (*_passed_over(parts), *self._notes(pixels, paths, folder))

    def _read(self, paths, folder):
        """Read the files; without `skip`, DataError if one of them cannot be used."""
        assert not isinstance(self.size, int)
        pixels = read(paths, self.gray, self.size, self.skip)
        if pixels.wrong and (not self.skip or not len(pixels.kept)):
            if len(paths) == 1:
                raise DataError(f"{_shown(paths[0], '')} {pixels.wrong[0][1]}")
            remedies = [pixels.remedy] * bool(pixels.remedy) + ["skip=True leaves them out"] * (not self.skip)
            some = "the first " * (pixels.looked_at < len(paths))
            raise DataError(
                f"{folder}: {len(pixels.wrong)} of {some}{pixels.looked_at} images cannot be used: "
                f"{_listed(pixels.wrong, paths, folder)}" + "; " * bool(remedies) + ", ".join(remedies)
            )
        return pixels

    def _notes(self, pixels, paths, folder):
        """List what a run says of the files that were left out, of bits that were not read, and of the cache."""
        notes = []
        if pixels.wrong:
            notes.append(
                f"left out: {len(pixels.wrong)} of {len(paths)} images: {_listed(pixels.wrong, paths, folder)}"
            )
        if pixels.cut:
            notes.append(
                f"colours: of {len(pixels.cut)} of {len(paths)} images the upper 8 bits a channel are read, since "
                f"Pillow reads no more; the files have more bits (first: {_shown(paths[pixels.cut[0]], folder)})"
            )
        if isinstance(pixels.x, np.memmap):
            size = f"{len(pixels.x)} decoded images ({pixels.x.nbytes / 1e6:.1f} MB)"
            notes.append(
                f"images: {size} from the cache"
                if pixels.cached
                else f"images: {size} are kept in {image_cache.folder()}; nnjit cache clear deletes them"
            )
        return notes

    def samples(self, known: Encoding | None = None, without: str | None = None) -> Dataset:
        """Read images without classes, one file or a folder with all below it; the targets of the `Dataset` are 0.

        They have no columns: `known` and `without` say nothing about them.
        """
        path = find(self.path, "any")
        paths = [str(path)] if path.is_file() else _below(path)
        if not paths:
            raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        folder = Path(os.path.dirname(path)) if path.is_file() else path
        pixels = self._read(paths, folder)
        self._names = np.array([_relative(paths[i], folder) for i in pixels.kept], object)  # type: ignore[assignment]
        split = Split(pixels.x, np.zeros((len(pixels.x), 1)), name=str(path))
        depth = pixels.x.dtype.name
        notes = tuple(self._notes(pixels, paths, folder))
        return Dataset("images", split, depth=depth, raw_range=DEEP.get(depth), notes=notes)

    def column(self, name: str) -> NDArray[Any]:
        """Return the names of the files that `samples` reads, the column "file"."""
        if name != "file":
            raise DataError(f"{self.path}: images have no column {name!r}, only file")
        if self._names is None:
            self.samples()
        return np.asarray(self._names)


def _held(folder, names, training):
    """List the files to validate or test with, whose classes are among those of training."""
    there = _class_names(folder)
    if odd := sorted(set(there) - set(names)):
        raise DataError(f"{folder} holds the class {odd[0]!r}, which {training} does not")
    return _part(folder, names, there)


def _part(folder, names, there):
    """List the images in the class folders `there`; labels are positions in names."""
    paths, labels, others = [], [], []
    for name in there:
        found = entries(folder / name)
        if below := next(filter(None, map(_first_image, found.folders)), None):
            raise DataError(
                f"{below} lies in a folder below the class {name!r}; a class's images lie directly in its folder"
            )
        if not found.images:
            raise DataError(f"{folder / name} holds no images ({', '.join(SUFFIXES)})")
        paths += found.images
        labels += [names.index(name)] * len(found.images)
        others += found.others
    return Part(folder, paths, labels, others)


def entries(folder: Path | str) -> Entries:
    """List what lies directly in a folder, without hidden files and macOS archive metadata."""
    with reading(folder), os.scandir(folder) as found:
        shown = sorted((e.name, e.is_dir()) for e in found if not e.name.startswith((".", "__MACOSX")))
    start = os.path.join(folder, "")  # texts: a hundred thousand objects of Path take half a second
    files = [name for name, is_folder in shown if not is_folder]
    images = [name for name in files if name[name.rfind(".") :].lower() in SUFFIXES]
    others = [] if len(images) == len(files) else sorted({*files} - {*images})
    return Entries([start + name for name, inner in shown if inner], [start + name for name in images], others)


def _is_divided(folder):
    """Tell whether there are folders in a folder."""
    with reading(folder), os.scandir(folder) as found:
        return any(e.is_dir() and not e.name.startswith((".", "__MACOSX")) for e in found)


def _one_of(folders, names):
    """Return the folder that has one of the names, or None."""
    found = [folders[name] for name in names if name in folders]
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} are both there, but one of them was expected")
    return found[0] if found else None


def _class_names(folder):
    """List the names of the class folders, sorted."""
    found = entries(folder)
    if found.images:
        raise DataError(f"{found.images[0]} lies outside of the folders of the classes")
    if not found.folders:
        raise DataError(f"{folder} holds no folders; one folder of images for each class was expected")
    return tuple(map(os.path.basename, found.folders))


def _first_image(folder):
    """Find an image at any depth below a folder, or None."""
    found = entries(folder)
    return found.images[0] if found.images else next(filter(None, map(_first_image, found.folders)), None)


def _below(folder, seen=frozenset()):
    """List the images in a folder and in all folders below it; a link to a folder around it is not followed."""
    place = os.path.realpath(folder)
    if place in seen:
        return []
    found = entries(folder)
    return found.images + [path for inner in found.folders for path in _below(inner, seen | {place})]


def _relative(path, folder):
    """Return the name of a file in a folder, with forward slashes; of another file its path."""
    start = os.path.join(folder, "")
    return path.removeprefix(start).replace(os.sep, "/") if path.startswith(start) else path


def _shown(path, folder):
    """Return the name of a file for a message, quoted if it would break a line."""
    name = _relative(path, folder) if folder else path
    return name if name.isprintable() else repr(name)


def _listed(wrong, paths, folder, some=None):
    """Format the first files that cannot be used, each with its reason; `some`: positions of the files to name."""
    chosen = [each for each in wrong if some is None or each[0] in some]
    said = [f"{_shown(paths[i], folder)} {why}" for i, why in chosen[:LISTED]]
    return ", ".join(said) + f", and {len(chosen) - LISTED} more" * (len(chosen) > LISTED)


def _passed_over(parts):
    """Return a note, if there are any, on the files that have no suffix of images."""
    found = [os.path.splitext(name)[1].lower() or name for part in parts for name in part.others]
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in Counter(found).most_common(LISTED))
    return [f"skipped: {len(found)} file{'s' * (len(found) > 1)} without the suffix of an image ({kinds})"] * bool(
        found
    )
