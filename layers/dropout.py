"""Dropout: in training a random share of the elements becomes 0."""

import math

from ..errors import SpecError
from ..kernels.operations import columns_of
from ..registry import register
from .base import Layer, operation


@register("dropout")
class Dropout(Layer):
    """In training y = x / (1 - rate), or 0 with probability `rate`; in prediction y = x. Any shape.

    Inverted dropout (Srivastava et al. 2014, jmlr.org/papers/v15/srivastava14a.html). The mask depends only on seed,
    step and element, so it is the same for any number of threads and after a resume.
    """

    rate: float

    forward = operation("dropout.forward", form="flat")
    backward_input = operation("dropout.backward_input", form="flat")
    symmetric = True
    check_cases = [("(0.5)", (7,)), ("(0.2)", (2, 3, 5)), ("(0.0)", (1,))]

    def column_kernel(self, attribute, in_shape):
        return columns_of(self.kernel(attribute, in_shape))

    def validate(self):
        if not 0 <= self.rate < 1:
            raise SpecError(
                f"dropout: rate must be at least 0 and less than 1 (the share that is dropped), got {self.rate}"
            )

    def scalars(self, in_shape):
        return {"rate": self.rate, "features": math.prod(in_shape)}
