"""Reading a folder of images: nnjit's first reading, and one from the cache, beside Pillow's plain loop.

    python benchmarks/images.py FOLDER [--size H,W] [--colours] [--turns 5]
    python benchmarks/images.py --idx IMAGES LABELS --write FOLDER

FOLDER has a folder of images for each class; the second form writes one as PNG files from a pair of IDX files, such as
MNIST's. A turn is Pillow's loop, nnjit without a cached set, and nnjit with one, each after the other, in this process.
The arrays must be equal. Printed are seconds, medians and extremes of the turns, and what other processes used of the
processors meanwhile.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--colours", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--idx", nargs=2, type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.write is not None:
        write(*options.idx, options.write)
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NNJIT_CACHE_DIR"] = cache
        compare(options.folder, options.size, not options.colours, options.turns)


def write(images, labels, folder):
    """Write the images of a pair of IDX files as PNG files in a folder for each label."""
    from nnjit.data.idx import read_idx
    from PIL import Image

    for i, (pixels, label) in enumerate(zip(read_idx(images), read_idx(labels), strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / str(label) / f"{i:05d}.png")


def plainly(folder, size, gray):
    """Read the images in order, (N, C, H, W), as most people would write it."""
    import numpy as np
    from PIL import Image, ImageOps

    found = []
    for path in sorted(folder.glob("*/*")):
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("L" if gray else "RGB")
            if size is not None:
                image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
            found.append(pixels[None] if gray else pixels.transpose(2, 0, 1))
    return np.array(found)


def compare(folder, size, gray, turns):
    """Time the three ways in turns and print them."""
    import numpy as np
    from nnjit.bench.machine import busy
    from nnjit.data.image_folder import Images
    from nnjit.kernels.compiler.directory import clear

    def nnjit():
        return Images(str(folder), size=size, gray=gray, validation=0).load().train.x

    sides = {
        "Pillow's loop": lambda: plainly(folder, size, gray),
        "nnjit, first": nnjit,
        "nnjit, cached": nnjit,
    }
    times = {name: [] for name in sides}
    expected, others = plainly(folder, size, gray), []  # also brings the files into memory
    for _ in range(turns):
        clear()
        for name, read in sides.items():
            used, spent, begun = busy(), time.process_time(), time.perf_counter()
            x = read()
            times[name].append(time.perf_counter() - begun)
            if used is not None:
                others.append((busy() - used - (time.process_time() - spent)) / times[name][-1] / os.cpu_count())
            if not np.array_equal(x, expected):
                raise SystemExit(f"{name}: pixels differ from Pillow's")
    print(f"{len(expected)} images {expected.shape[1:]}, {os.cpu_count()} processors, {turns} turns")
    for name, seconds in times.items():
        print(f"{name:13}  {median(seconds):7.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})")
    if others:
        print(f"other processes used {100 * median(others):.0f} % of the processors")


if __name__ == "__main__":
    main()
