"""A folder of images, one sub-folder a class. Decoded images are held in memory as bytes, C * H * W each."""

import numpy as np

from ..errors import DataError, SpecError
from ..registry import Options, datasets
from .files import find, reading, reason
from .split import Dataset, Split, check_share

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DEEP = ("F", "I")  # modes of pixels that do not fit in a byte


@datasets.register("images")
class Images(Options):
    """A folder with one sub-folder a class, or with train/ and validation/ (or val/, test/) that hold such folders.

    Classes are the sub-folders' names in alphabetical order. Images become (C, H, W), three colours or with `gray`
    one, scaled to 0..1; transparency is dropped. They must all have one size unless `size` = (H, W) is given, to
    which they are resized (bilinear). Without a folder for validation the share `validation` of the images is held
    out. Needs pillow.
    """

    path: str
    size: tuple[int, int] | None = None
    gray: bool = False
    validation: float = 0.1

    def validate(self):
        if self.size is not None and min(self.size) < 1:
            raise SpecError(f"images: size: expected (height, width), both at least 1, got {self.size}")
        check_share(self.validation)

    def load(self):
        """The data set; DataError, in one sentence, for a folder or an image that is missing or damaged."""
        folder = find(self.path, "folder")
        parted = any(path.is_dir() for path in (folder / "train").glob("*"))  # else "train" may be a class
        training = folder / "train" if parted else folder
        names = _class_names(training)
        train, test = self._read(training, names), None
        if parted:
            test = next((folder / name for name in ("validation", "val", "test") if (folder / name).is_dir()), None)
        if test is None:
            train, validation = train.hold_out(self.validation)
        elif _class_names(test) != names:
            odd = sorted(set(names) ^ set(_class_names(test)))[0]
            raise DataError(f"{training} and {test} must hold the same classes, but {odd!r} is in one of them only")
        else:
            validation = self._read(test, names)
        return Dataset("images", train, validation, class_names=names)

    def _read(self, folder, names):
        """All images below the class folders as a Split."""
        paths, labels = [], []
        for label, name in enumerate(names):
            with reading(folder / name):
                found = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(f"{folder / name} holds no images ({', '.join(SUFFIXES)})")
            paths += found
            labels += [label] * len(found)
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
        return Split(x, np.array(labels), scale=1 / 255, name=str(folder))

    def _decode(self, path):
        """One image as bytes (C, H, W)."""
        try:
            from PIL import Image
        except ImportError as error:
            raise DataError('reading images needs pillow: pip install "nnjit[images]"') from error
        try:
            with Image.open(path) as image:
                mode = image.mode
                image = image if mode.startswith(DEEP) else image.convert("L" if self.gray else "RGB")
        except Exception as error:  # each of pillow's decoders fails in its own way on a damaged file
            raise DataError(f"{path} is damaged or no image: {reason(error)}") from error
        if mode.startswith(DEEP):
            raise DataError(f"{path} has pixels of mode {mode}, but only images of 8 bits a channel are read")
        if self.size is not None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if self.gray else pixels.transpose(2, 0, 1)


def _class_names(folder):
    """Names of the class folders, sorted; hidden folders are none."""
    with reading(folder):
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder} holds no folders; one folder of images for each class was expected")
    return tuple(names)


def _size(image):
    return f"{image.shape[1]}x{image.shape[2]}"
