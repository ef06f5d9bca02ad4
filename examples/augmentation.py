"""See what augmentation layers make of a picture in training: a digit, and seven draws of each layer.

    python examples/augmentation.py augmentation.png

Replace LAYERS, or the digit by a picture of yours, to see whether a class can still be recognized.
"""

import sys

import matplotlib
import numpy as np
from nnjit import compose, data

LAYERS = ["random_flip", "random_crop(2)", "random_rotation(25)", "noise(0.15)"]


def draws(layer, image, count):
    """Return draws (count, C, height, width) of a layer, in training, for one picture (C, height, width)."""
    network = compose(layer, image.shape)
    return network.forward(np.repeat(image[None], count, 0), training=True)


def main(path, count=7):
    matplotlib.use("Agg")
    from matplotlib import pyplot

    image = data.load("digits").train.x[9] / 16
    figure, axes = pyplot.subplots(len(LAYERS), count + 1, figsize=(count + 3, len(LAYERS)), layout="constrained")
    for row, layer in zip(axes, LAYERS, strict=True):
        for at, picture in zip(row, [image, *draws(layer, image, count)], strict=True):
            at.imshow(picture[0], cmap="gray_r", vmin=0, vmax=1)
            at.set(xticks=[], yticks=[])
        row[0].set_ylabel(layer, rotation=0, ha="right", va="center", family="monospace")
    axes[0, 0].set_title("sample", fontsize="medium")
    axes[0, 1].set_title("in training", fontsize="medium", loc="left")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "augmentation.png")
