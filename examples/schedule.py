"""A custom schedule, for ``nnjit run --plugin examples/schedule.py``: the rate falls like 1 / sqrt(step)."""

import numpy as np
from nnjit.registry import schedules
from nnjit.training import Schedule


@schedules.register("inverse_sqrt")
class InverseSqrt(Schedule):
    """Factor sqrt(first / max(first, step)): 1 for the first steps, then decreasing."""

    first: int = 100

    def factor(self, steps, total, steps_per_epoch):
        return np.sqrt(self.first / np.maximum(self.first, steps))
