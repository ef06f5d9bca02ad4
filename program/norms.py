"""The l_p norm of the lecture, in NumPy."""

import numpy as np

from ..errors import SpecError
from ..registry.annotations import checked

HIGHEST = 8  # largest finite p of a gradient's norm: |g|^p of every float32 number g is a float64 number
WHY = "powers of ordinary gradients would be 0 or infinite in float64"


def lp_norm(x, p=2.0):
    """Return ||x||_p = (sum |x_i|^p)^(1/p) for 1 <= p <= inf, or the metric sum |x_i|^p for 0 < p < 1.

    The largest magnitude is factored out, so a norm that is a number neither overflows nor vanishes on the way.

    Parameters
    ----------
    x : array of any shape, taken as one vector
    p : float, 0 < p <= inf

    Returns
    -------
    float, 0.0 for an empty array

    Raises
    ------
    SpecError : p is not positive.
    """
    check_p(p)
    a = np.abs(np.asarray(x, np.float64)).ravel()
    largest = a.max(initial=0.0)
    if p < 1:
        return float(np.sum(a**p))
    if p == np.inf or largest == 0 or not np.isfinite(largest):
        return float(largest)
    return float(largest * np.sum((a / largest) ** p) ** (1 / p))


def check_p(p, name="p"):
    """Raise SpecError for a p that gives neither norm nor metric."""
    if not checked(name, p, float) > 0:
        raise SpecError(f"{name}: expected a number above 0 or inf, got {p!r}")
