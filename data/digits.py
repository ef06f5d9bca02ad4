"""The UCI handwritten digits, bundled; digits.md states their source and split."""

from pathlib import Path

import numpy as np

from ..registry import Options, datasets
from .split import Dataset, Split


@datasets.register("digits")
class Digits(Options):
    """1,797 handwritten digits 8x8 (Alpaydin and Kaynak, 1998): 1,437 to train with and 360 to validate.

    x is (N, 1, 8, 8), pixels 0..16; y is the digit, 0 to 9. The split is stored and never changes.
    """

    def load(self) -> Dataset:
        """Load the data set."""
        with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as stored:
            train, validation = (
                Split(stored[f"x_{part}"], stored[f"y_{part}"], name=f"digits ({part})") for part in ("train", "val")
            )
        return Dataset("digits", train, validation, class_names=tuple("0123456789"), raw_range=(0.0, 16.0))
