"""samples.png: images with their predictions, and the mistakes with the highest confidence.

Images and predictions were saved at the end of the run, with the best parameters.
"""

from pathlib import Path

import numpy as np

from . import predictions
from .run_log import PathLike, RunLog, Runs, read_all
from .theme import page, plain

NEEDS = "predictions.safetensors of a classification of images"
WIDTH, COLUMNS = 6.4, 6  # of the page in inches, and in images
IMAGE, TEXT = 0.9, 0.36  # width of an image, and height of the text above it, in widths of a column
WRONG = "#B3261E"


def has_data(run: RunLog) -> bool:
    found = predictions.read(run)
    return found is not None and found.kind == "classes" and "x" in found.tensors


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the samples of each run into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    found = [(run, each) for run in runs if (each := predictions.read(run)) is not None]
    parts = [part for run, each in found for part in _parts(run, each)]
    heights = [0.4 + WIDTH / COLUMNS * _height(images) for _, images, _, _ in parts]
    with page(output, WIDTH, sum(heights)) as figure:
        panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights).ravel()
        for axes, part in zip(panels, parts, strict=True):
            _paint(axes, *part)
    return Path(output)


def _height(images):
    """Return the height of all rows of images in widths of a column."""
    return -(-len(images) // COLUMNS) * (images.shape[1] / images.shape[2] * IMAGE + TEXT)


def _parts(run, found):
    """List (title, images, texts, whether right): first some samples, then mistakes if there are any."""
    tensors = found.tensors
    true, predicted = tensors["true"], tensors["predicted"]
    wrong = int((true != predicted).sum())
    title = f"{plain(run.name)}: class and {found.about.get('confidence', 'output')}, {found.measured()}"
    parts = [(title, *_shown(found, "x"))]
    if "mistakes_x" in tensors:
        count = len(tensors["mistakes_x"])
        few = f"all {wrong} mistakes" if count == wrong else f"the {count} most confident of {wrong:,} mistakes"
        parts.append((few, *_shown(found, "mistakes_x")))
    return parts


def _shown(found, name):
    """Return images (M, H, W, C) from 0 to 1, a text for each, and whether its prediction is right."""
    tensors = found.tensors
    true, predicted = tensors["true"], tensors["predicted"]
    count = max(int(true.max()) + 1, int(predicted.max()) + 1, len(found.about.get("classes") or ()))
    names = found.names("classes", count)
    of = tensors["x_of" if name == "x" else "mistakes_of"]
    right = true[of] == predicted[of]
    texts = [
        f"{names[predicted[k]]} {tensors['confidence'][k]:.2f}" + ("" if ok else f"\nis {names[true[k]]}")
        for k, ok in zip(of, right, strict=True)
    ]
    low, high = float(tensors["x"].min()), float(tensors["x"].max())
    x = (tensors[name] - low) / (high - low if high > low else 1.0)
    return np.moveaxis(x.clip(0, 1), 1, -1), texts, right


def _paint(axes, title, images, texts, right):
    """Draw the images into one axes, whose unit is the width of a column: 24 axes would take 1 s."""
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
    tall = images.shape[1] / images.shape[2] * IMAGE
    for k, (image, text, ok) in enumerate(zip(images, texts, right, strict=True)):
        row, left = divmod(k, COLUMNS)
        top = row * (tall + TEXT) + TEXT
        box = (left, left + IMAGE, top + tall, top)
        pixels = image.squeeze(-1) if image.shape[-1] == 1 else image
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=box, interpolation="nearest")
        place = {"ha": "center", "va": "bottom", "fontsize": 8}
        axes.text(left + IMAGE / 2, top - 0.03, text, color="0.15" if ok else WRONG, linespacing=1.05, **place)
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(_height(images), 0)
