"""Derivatives against differences, on the cost C(v) = 1/2 ||F(x) - t||^2 of a random t; v is x and theta in one vector.

Both checks use Taylor's formula C(v + h p) = C(v) + h grad C . p + O(h^2) (lecture). If p is a coordinate, central
differences give one derivative after the other; if p is random, the remainder must fall with slope 2 as h halves.
"""

from dataclasses import dataclass

import numpy as np

STEP = 1e-5  # step of central differences: near the cube root of float64's rounding, where they are most exact
TOLERANCE = 1e-6  # error of a derivative, relative to max(|analytic|, |numeric|, 1)
SAMPLES = 48  # coordinates tested in each array; a smaller array is tested whole
STEPS = 2.0 ** -np.arange(9, 17)  # steps h of the Taylor remainder, small enough that they seldom cross a kink
ROUNDING = 1e-14  # rounding error of C, relative to its value


class Cost:
    """C as a function of one vector; it calls forward and backward of the network, so it checks their binding too.

    Parameters
    ----------
    network : Network
        Of dtype float64.
    x : ndarray (N, *input_shape)
    target : ndarray (N, *output_shape)
    codes : ndarray of bool, like x, or None
        Numbers of x that are codes: C does not depend on changes of them, that is, its derivative is 0.
    """

    def __init__(self, network, x, target, codes=None):
        self.fixed = np.zeros(x.size + network.theta.size, bool)
        self.fixed[: x.size] = False if codes is None else codes.ravel()
        self.network, self.shape, self.target = network, x.shape, target
        self.start = np.concatenate([x.ravel(), network.theta])
        self.arrays = {"x": (0, x.shape)}  # name -> first coordinate, shape
        for name, view in network.parameters.items():
            at = view.__array_interface__["data"][0] - network.theta.__array_interface__["data"][0]
            self.arrays[name] = (x.size + at // view.itemsize, view.shape)

    def __call__(self, v):
        e = self._output(np.where(self.fixed, self.start, v)) - self.target
        return 0.5 * np.sum(e * e)

    def gradient(self):
        """Return grad C at the start, by the network's backward pass."""
        self.network.gradient[:] = 0  # another check finds kernels that add to it
        y = self._output(self.start)
        dx = self.network.backward(y - self.target)
        return np.concatenate([dx.ravel(), self.network.gradient])

    def _output(self, v):
        size = int(np.prod(self.shape))
        self.network.theta[:] = v[size:]
        return self.network.forward(v[:size].reshape(self.shape), training=True)


def forward_product(program):
    """Return jvp(x, dx) of a program's prediction; NnjitError if a layer has none."""
    run = program.derivatives.code("jvp").run

    def jvp(x, dx):
        y, dy = (np.empty((len(x), *program.network.output_shape)) for _ in range(2))
        run.jvp(program.state, x, dx, y, dy)
        return dy

    return jvp


def backward_product(program):
    """Return vjp(x, dy) of a program's prediction, the products by x and theta; NnjitError if a layer has none."""
    run = program.derivatives.code("vjp").run

    def vjp(x, dy):
        y, dx = np.empty_like(dy), np.empty_like(x)
        program.state.gradient[:] = 0
        run.vjp(program.state, x, dy, y, dx, False)
        return dx, program.state.gradient.copy()

    return vjp


def slopes(network, x, dx, dtheta):
    """Return the derivative of a prediction in a direction of x and theta by central differences, with two steps."""
    start = network.theta.copy()

    def moved(h):
        network.theta[:] = start + h * dtheta
        return network.forward(x + h * dx, training=False)

    found = [(moved(h) - moved(-h)) / (2 * h) for h in (STEP, STEP / 10)]
    network.theta[:] = start
    return found


@dataclass
class Derivative:
    """The derivative along one coordinate, by the backward pass and by differences."""

    index: tuple
    analytic: float
    numeric: float
    verdict: str  # "right", "wrong" or "kink"


def differences(cost, gradient, rng):
    """Compare the gradient with central differences, coordinate by coordinate.

    Returns
    -------
    dict
        Name of array -> list of `Derivative`.
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
    """Return a probable cause of a wrong gradient of one array, as the end of a sentence, or "".

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
    """Return the derivative along coordinate j by central differences, and the verdict on the analytic one."""
    numeric = _central(cost, j, STEP)
    if _close(analytic, numeric):
        return numeric, "right"
    # A smaller step is less exact, but crosses fewer kinks, and curvature disturbs it less.
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
    """Return |C(v + h p) - C(v) - h grad C . p| for the steps h in `STEPS`, along a random direction p of x and theta.

    A direction that crosses a kink is replaced by another; a wrong gradient is wrong along all of them.

    Returns
    -------
    remainder : ndarray, as long as STEPS
    slope : float
        Slope of log remainder over log h; NaN if rounding hides the curvature of C.
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
