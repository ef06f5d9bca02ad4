"""A folder of images, one sub-folder per class. Decoded images are kept in memory, C * H * W bytes each."""

from pathlib import Path

import numpy as np

from ..errors import DataError, SpecError
from ..registry import Options, datasets
from .files import find, reading, reason
from .split import Dataset, Split, check_share, check_share_or_path

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEEP = ("F", "I")  # modes of pixels that do not fit in a byte
TRAINING = ("train", "training")  # usual folder names of a split set, in any case
VALIDATION = (("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))


@datasets.register("images")
class Images(Options):
    """A folder with one sub-folder per class, or with train/ and validation/ (or val/, test/, ...) of such folders.

    Classes are the sub-folder names in alphabetical order. Images become (C, H, W), with three colours, or one with
    `gray`, rotated by their EXIF orientation, with pixels 0..255; transparency is dropped. All images must have the
    same size unless `size` = (H, W) is given, to which they are resized (bilinear). Without a validation folder the
    share `validation` of the images is held out. `test` is a share of the training images, or another folder with the
    same classes; a folder test/ beside validation/ is the test set too. Hidden files and folders, __MACOSX and files
    other than images are skipped; images anywhere but directly in a class folder are refused. Needs pillow.
    """

    path: str
    size: tuple[int, int] | None = None
    gray: bool = False
    validation: float = 0.1
    test: float | str = 0.0

    files = ("test",)  # options that may name a folder

    def validate(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise SpecError(f"images: size: expected (height, width), both at least 1, got {self.size}")
        check_share(self.validation)
        check_share_or_path(self.test, "test")

    def load(self) -> Dataset:
        """Load the data set; DataError for a folder or an image that is missing or damaged."""
        folder = find(self.path, "folder")
        parts = {path.name.lower(): path for path in _entries(folder) if path.is_dir()}
        divided = {name: path for name, path in parts.items() if any(map(Path.is_dir, _entries(path)))}
        training = _one_of(divided, TRAINING)
        if training:
            for name in parts.keys() - {*TRAINING, *sum(VALIDATION, ())}:  # it may be a class, and "train" another
                if images := _images(parts[name]):
                    raise DataError(f"{images[0]} lies in neither the training nor the validation folder of {folder}")
        names = _class_names(training or folder)  # a folder "train" without sub-folders is a class
        train = self._read(training or folder, names, names)
        chosen = find(self.test, "folder") if isinstance(self.test, str) else None
        if chosen is not None and chosen.samefile(training or folder):
            raise DataError(f"{chosen} holds the training images, so it cannot test; give another folder or a share")
        named = [_one_of(parts, group) for group in VALIDATION] if training else []
        found = [path for path in named if path and not (chosen and chosen.samefile(path))]
        held = found[0] if found else None
        tested = chosen or (found[1] if len(found) > 1 else None)
        validation, test = (
            None if each is None else self._held(each, names, training or folder) for each in (held, tested)
        )
        return Dataset(
            "images", train, validation, test, class_names=names,
            validation_share=self.validation if held is None else 0.0,
            test_share=0.0 if isinstance(self.test, str) else self.test,
        )  # fmt: skip

    def _held(self, folder, names, training):
        """Read a folder to validate or test with, whose classes are among those of training."""
        there = _class_names(folder)
        if odd := sorted(set(there) - set(names)):
            raise DataError(f"{folder} holds the class {odd[0]!r}, which {training} does not")
        return self._read(folder, names, there)

    def _read(self, folder, names, there):
        """Read all images in the class folders `there` as a Split; labels are positions in names."""
        paths, labels = [], []
        for name in there:
            if below := next(filter(None, map(_first_image, filter(Path.is_dir, _entries(folder / name)))), None):
                raise DataError(
                    f"{below} lies in a folder below the class {name!r}; a class's images lie directly in its folder"
                )
            found = _images(folder / name)
            if not found:
                raise DataError(f"{folder / name} holds no images ({', '.join(SUFFIXES)})")
            paths += found
            labels += [names.index(name)] * len(found)
        first = self._decode(paths[0])
        x = np.empty((len(paths), *first.shape), np.uint8)
        for i, path in enumerate(paths):
            image = self._decode(path)
            if image.shape != first.shape:
                raise DataError(
                    f"{path} is {_size(image)} (height x width), but {paths[0]} is {_size(first)}; give "
                    f"size=({first.shape[1]}, {first.shape[2]}) to resize all"
                )
            x[i] = image
        return Split(x, np.array(labels), name=str(folder))

    def _decode(self, path):
        """Read one image as bytes (C, H, W)."""
        try:
            from PIL import Image, ImageOps
        except ImportError as error:
            raise DataError('reading images needs pillow: pip install "nnjit[images]"') from error
        try:
            with Image.open(path) as file:
                mode = file.mode
                image: Image.Image = file
                if not mode.startswith(DEEP):
                    image = ImageOps.exif_transpose(file).convert("L" if self.gray else "RGB")
        except MemoryError as error:
            raise DataError(f"{path} does not fit into memory: {reason(error)}") from error
        except Exception as error:  # pillow's decoders raise various errors for a damaged file
            raise DataError(f"{path} is damaged or not an image: {reason(error)}") from error
        if mode.startswith(DEEP):
            raise DataError(f"{path} has pixels of mode {mode}, but only images of 8 bits a channel are read")
        if self.size is not None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if self.gray else pixels.transpose(2, 0, 1)


def _entries(folder):
    """List the entries of a folder, sorted, without hidden files and macOS archive metadata."""
    with reading(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def _one_of(folders, names):
    """Return the folder that has one of the names, or None."""
    found = [folders[name] for name in names if name in folders]
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} are both there, but one of them was expected")
    return found[0] if found else None


def _class_names(folder):
    """List the names of the class folders, sorted."""
    if stray := _images(folder):
        raise DataError(f"{stray[0]} lies outside of the folders of the classes")
    names = tuple(path.name for path in _entries(folder) if path.is_dir())
    if not names:
        raise DataError(f"{folder} holds no folders; one folder of images for each class was expected")
    return names


def _images(folder):
    """List the images directly in a folder, sorted."""
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def _first_image(folder):
    """Find an image at any depth below a folder, or None."""
    found = _images(folder)
    return found[0] if found else next(filter(None, map(_first_image, filter(Path.is_dir, _entries(folder)))), None)


def _size(image):
    return f"{image.shape[1]}x{image.shape[2]}"
