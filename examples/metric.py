"""A custom metric, for ``nnjit run --plugin examples/metric.py --metrics "within(tolerance=0.5)"``."""

import numpy as np
from nnjit.registry import metrics
from nnjit.training import Metric


@metrics.register("within")
class Within(Metric):
    """Share of outputs whose error is at most `tolerance`, in the units of the target."""

    kinds = ("values",)
    tolerance: float = 0.1

    def part(self, predictions):
        return np.count_nonzero(np.abs(predictions.errors) <= self.tolerance), predictions.errors.size
