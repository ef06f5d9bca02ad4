"""A custom initializer, for ``nnjit run --plugin examples/initializer.py``: orthogonal weights."""

import numpy as np
from nnjit.layers import Initializer
from nnjit.registry import initializers


@initializers.register("orthogonal")
class Orthogonal(Initializer):
    """Orthogonal rows or columns of the weight matrix (units, inputs) (Saxe et al. 2014, arXiv:1312.6120)."""

    gain: float = 1.0

    def draw(self, rng, shape, fan_in, fan_out, dtype):
        rows, columns = shape[0], int(np.prod(shape[1:]))
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))
        return (self.gain * (q if rows >= columns else q.T)).reshape(shape).astype(dtype)
