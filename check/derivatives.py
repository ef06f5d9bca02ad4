"""Derivatives against differences, on the cost C(v) = 1/2 ||F(x) - t||^2 of a random t; v is x and theta in one vector.

Both checks are Taylor's formula C(v + h p) = C(v) + h grad C . p + O(h^2) (lecture): with p a coordinate, central
differences give one derivative after the other; with p random, what remains must fall with slope 2 as h halves.
"""

from dataclasses import dataclass

import numpy as np

STEP = 1e-5  # near the cube root of float64's rounding, where central differences are most exact
TOLERANCE = 1e-6  # of a derivative, relative to max(|analytic|, |numeric|, 1)
SAMPLES = 48  # coordinates of each array that are differenced; all of a smaller one
STEPS = 2.0 ** -np.arange(9, 17)  # of the Taylor remainder: small enough that kinks are seldom met
ROUNDING = 1e-14  # of C, relative to its value


class Cost:
    """C as a function of one vector. Calls forward and backward of the network, so their binding is checked too.

    Parameters
    ----------
    network : Network
        Of dtype float64.
    x : ndarray (N, *input_shape)
    target : ndarray (N, *output_shape)
    """

    def __init__(self, network, x, target):
        self.network, self.shape, self.target = network, x.shape, target
        self.start = np.concatenate([x.ravel(), network.theta])
        self.arrays = {"x": (0, x.shape)}  # name -> first coordinate, shape
        for name, view in network.parameters.items():
            at = view.__array_interface__["data"][0] - network.theta.__array_interface__["data"][0]
            self.arrays[name] = (x.size + at // view.itemsize, view.shape)

    def __call__(self, v):
        e = self._output(v) - self.target
        return 0.5 * np.sum(e * e)

    def gradient(self):
        """grad C at the start, by the network's backward pass."""
        self.network.gradient[:] = 0  # whether it is written or added to is another question
        y = self._output(self.start)
        dx = self.network.backward(y - self.target)
        return np.concatenate([dx.ravel(), self.network.gradient])

    def _output(self, v):
        size = int(np.prod(self.shape))
        self.network.theta[:] = v[size:]
        return self.network.forward(v[:size].reshape(self.shape), training=True)


@dataclass
class Derivative:
    """One coordinate: what backward says and what differences say."""

    index: tuple
    analytic: float
    numeric: float
    verdict: str  # "right", "wrong" or "kink"


def differences(cost, gradient, rng):
    """Compare the gradient with central differences, coordinate by coordinate.

    Returns
    -------
    dict
        name of array -> list of `Derivative`.
    """
    found = {}
    for name, (first, shape) in cost.arrays.items():
        size = int(np.prod(shape))
        chosen = np.arange(size) if size <= SAMPLES else np.sort(rng.choice(size, SAMPLES, replace=False))
        found[name] = [
            Derivative(
                np.unravel_index(j, shape), gradient[first + j], *_difference(cost, first + j, gradient[first + j])
            )
            for j in chosen
        ]
    return found


def hint(found, analytic):
    """What a wrong gradient of one array looks like, as the end of a sentence; empty if like nothing known.

    Parameters
    ----------
    found : list of Derivative
    analytic : ndarray
        The whole gradient of the array.
    """
    found = [d for d in found if d.verdict != "kink" and max(abs(d.analytic), abs(d.numeric)) > 1e-3]
    a, n = np.array([d.analytic for d in found]), np.array([d.numeric for d in found])
    alike = lambda b: len(n) > 1 and np.allclose(b, n, rtol=1e-4, atol=1e-4)  # noqa: E731
    if alike(-a):
        return ", all with the wrong sign"
    factor = (a @ n) / (n @ n) if n.any() else 0.0
    if factor and alike(a / factor):
        return f", all {factor:.6g} times what they should be"
    if analytic.ndim > 1 and analytic.shape[0] == analytic.shape[1]:
        swapped = analytic.swapaxes(0, 1)
        if alike(np.array([swapped[d.index] for d in found])):
            return ", as if it were transposed"
    return ""


def _difference(cost, j, analytic):
    """The derivative along coordinate j by central differences, and the verdict on the analytic one."""
    numeric = _central(cost, j, STEP)
    if _close(analytic, numeric):
        return numeric, "right"
    # A smaller step is less exact, but meets fewer kinks and feels less curvature.
    fine = _central(cost, j, STEP / 10)
    if _close(analytic, fine):
        return fine, "right"
    # Derivatives from the right and from the left differ by h C'' where C is smooth: by a tenth for a tenth of h.
    coarse_gap, fine_gap = _gap(cost, j, STEP), _gap(cost, j, STEP / 10)
    kink = fine_gap > max(0.3 * coarse_gap, 1e3 * TOLERANCE)
    return numeric, "kink" if kink else "wrong"


def _close(a, b):
    return abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1.0)


def _moved(cost, j, h):
    v = cost.start.copy()
    v[j] += h
    return cost(v)


def _central(cost, j, h):
    return (_moved(cost, j, h) - _moved(cost, j, -h)) / (2 * h)


def _gap(cost, j, h):
    return abs(_moved(cost, j, h) - 2 * cost(cost.start) + _moved(cost, j, -h)) / h


def remainders(cost, gradient, rng, directions=3):
    """|C(v + h p) - C(v) - h grad C . p| for the halving steps `STEPS`, along a random direction p of input and theta.

    A direction on which a kink is met is replaced by another; a wrong gradient is wrong along all of them.

    Returns
    -------
    remainder : ndarray, as long as STEPS
    slope : float
        Of log remainder over log h; NaN if C has no curvature that rounding would not hide.
    """
    start = cost(cost.start)
    for _ in range(directions):
        p = rng.standard_normal(cost.start.size)
        slope_of = gradient @ p
        remainder = np.array([abs(cost(cost.start + h * p) - start - h * slope_of) for h in STEPS])
        slope = _slope(remainder, start)
        if not abs(slope - 2) > 0.1:
            break
    return remainder, slope


def _slope(remainder, start):
    clear = remainder > 1e3 * ROUNDING * max(abs(start), 1.0)
    if clear.sum() < 4:
        return np.nan
    slope, _ = np.polyfit(np.log(STEPS[clear]), np.log(remainder[clear]), 1)
    return float(slope)
