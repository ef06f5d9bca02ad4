"""The ten points of Higham and Higham's introduction: two features, two classes."""

import numpy as np

from ..registry import Options, datasets
from .split import Dataset, Split


@datasets.register("ten_points")
class TenPoints(Options):
    """Ten points in the unit square: five of class A with target (1, 0), then five of class B with target (0, 1).

    x is (10, 2) and y (10, 2), for the loss `quadratic`. C. F. Higham and D. J. Higham, Deep Learning: An Introduction
    for Applied Mathematicians, SIAM Review 61(4), 2019, doi:10.1137/18M1165748, section 6.
    """

    def load(self) -> Dataset:
        """Load the data set; nothing is held out."""
        x1 = [0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7]
        x2 = [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6]
        y = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0)
        return Dataset("ten_points", Split(np.column_stack([x1, x2]), y, name="ten_points"))
