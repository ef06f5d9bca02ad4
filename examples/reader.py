"""A custom data set, for ``nnjit run --plugin examples/reader.py``: two spirals of points in the plane."""

import numpy as np
from nnjit.data import Dataset, Split
from nnjit.registry import Options, datasets


@datasets.register("spirals")
class Spirals(Options):
    """Points on two interleaved spirals; the label is the number of the spiral. x (count, 2), y (count,)."""

    count: int = 400
    seed: int = 0

    def load(self):
        rng = np.random.default_rng(self.seed)
        y = np.arange(self.count) % 2
        angle = 3 * np.pi * np.sqrt(rng.random(self.count))
        x = np.column_stack([np.cos(angle + np.pi * y), np.sin(angle + np.pi * y)]) * angle[:, None] / (3 * np.pi)
        return Dataset("spirals", Split(x, y, name="spirals"), validation_share=0.2)
