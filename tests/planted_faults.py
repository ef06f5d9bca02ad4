"""Layers with one fault each, in the line that ends with ``# fault``; `nnjit check` must name it."""

import numpy as np
from nnjit.errors import ShapeError
from nnjit.layers import Layer, constant, elementwise, kernel, weight
from nnjit.registry import register
from numba import prange


class _Doubled(Layer):
    """y = 2 x, a right layer whose methods the faulty ones below replace."""

    check_cases = [("", (3,)), ("", (2, 5))]

    @kernel(form="flat")
    def forward(x, y):
        for i in prange(x.size):
            y[i] = 2.0 * x[i]

    @kernel(form="flat")
    def backward_input(dy, dx):
        for i in prange(dx.size):
            dx[i] = 2.0 * dy[i]


@register("unpacks")
class Unpacks(_Doubled):
    """Takes images only, but does not say so by ShapeError."""

    check_cases = None

    def output_shape(self, in_shape):
        channels, height, width = in_shape  # fault
        return channels, height, width


@register("refuses")
class Refuses(_Doubled):
    """Refuses the shape of its own case."""

    check_cases = [("", (3,))]

    def output_shape(self, in_shape):
        if len(in_shape) != 2:
            raise ShapeError(f"refuses: expected (channels, length), got {in_shape}")  # fault
        return in_shape


@register("centres")
class Centres(_Doubled):
    """y = x minus the mean of the batch, without ``couples_batch = True``."""

    check_cases = [("", (3,))]

    @kernel(form="matrix")
    def forward(x, y):
        N, F = x.shape
        for j in prange(F):
            total = 0.0
            for n in range(N):
                total += x[n, j]
            for n in range(N):
                y[n, j] = x[n, j] - total / float(N)  # fault

    @kernel(form="matrix")
    def backward_input(dy, dx):
        N, F = dx.shape
        for j in prange(F):
            total = 0.0
            for n in range(N):
                total += dy[n, j]
            for n in range(N):
                dx[n, j] = dy[n, j] - total / float(N)


@register("small_scratch")
class SmallScratch(_Doubled):
    """Keeps a number for each sample and feature, but declares room for the features alone."""

    check_cases = [("", (3,))]

    def scratch(self, in_shape):  # fault
        return {"kept": (in_shape[0],)}

    @kernel(form="flat")
    def forward(x, y, kept):
        for i in prange(x.size):
            kept[i] = 2.0 * x[i]
            y[i] = kept[i]


@register("tight_scratch")
class TightScratch(_Doubled):
    """Keeps three numbers for each sample, but declares room for two."""

    check_cases = [("", (3,))]

    def scratch(self, in_shape):
        return {"kept": ("N", 2)}

    @kernel
    def forward(x, y, kept):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                kept[n, j] = 2.0 * x[n, j]  # fault
                y[n, j] = kept[n, j]


@register("formula_parameter")
class FormulaParameter(Layer):
    """A formula that names a parameter."""

    check_cases = [("", (3,))]

    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape)}

    @elementwise
    def forward(x, gain):  # fault
        return gain * x

    @forward.derivative
    def backward_input(x, gain):
        return gain


@register("forgotten_kernel")
class ForgottenKernel(_Doubled):
    """Its forward lacks @kernel."""

    check_cases = [("", (3,))]

    def forward(x, y):  # fault
        for i in prange(x.size):
            y[i] = 2.0 * x[i]


@register("makes_array")
class MakesArray(_Doubled):
    """Makes an array inside of a kernel."""

    check_cases = [("", (3,))]

    @kernel(form="matrix")
    def forward(x, y):
        for n in prange(x.shape[0]):
            row = np.zeros(x.shape[1])  # fault
            for j in range(x.shape[1]):
                row[j] = 2.0 * x[n, j]
            for j in range(x.shape[1]):
                y[n, j] = row[j]


@register("misspelt")
class Misspelt(Layer):
    """y = W x, with an argument that is called almost like the parameter."""

    check_cases = [("", (3,))]

    def output_shape(self, in_shape):
        return (2,)

    def parameters(self, in_shape):
        return {"weights": weight((2, in_shape[0]), in_shape[0], 2)}

    @kernel
    def forward(x, wieghts, y):  # fault
        for n in prange(x.shape[0]):
            for j in range(2):
                total = 0.0
                for k in range(x.shape[1]):
                    total += wieghts[j, k] * x[n, k]
                y[n, j] = total

    @kernel
    def backward_input(weights, dy, dx):
        for n in prange(dx.shape[0]):
            for k in range(dx.shape[1]):
                dx[n, k] = weights[0, k] * dy[n, 0] + weights[1, k] * dy[n, 1]

    @kernel
    def backward_weights(x, dy, dweights):
        for j in prange(2):
            for k in range(x.shape[1]):
                total = 0.0
                for n in range(x.shape[0]):
                    total += dy[n, j] * x[n, k]
                dweights[j, k] = total


@register("leaves_out")
class LeavesOut(_Doubled):
    """Writes all of y but its last number."""

    check_cases = [("", (3,))]

    @kernel(form="matrix")
    def forward(x, y):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1] - 1):
                y[n, j] = 2.0 * x[n, j]  # fault


@register("races")
class Races(Layer):
    """y = gain x; iterations over samples add to the same gradient."""

    check_cases = [("", (3,))]

    def parameters(self, in_shape):
        return {"gain": constant(1.0, in_shape)}

    @kernel
    def forward(x, gain, y):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[n, j] = gain[j] * x[n, j]

    @kernel
    def backward_input(gain, dy, dx):
        for n in prange(dx.shape[0]):
            for j in range(dx.shape[1]):
                dx[n, j] = gain[j] * dy[n, j]

    @kernel
    def backward_gain(x, dy, dgain):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                if n == 0:
                    dgain[j] = 0.0
                dgain[j] += dy[n, j] * x[n, j]  # fault


@register("wrong_gradient")
class WrongGradient(Races):
    """Its gradient of gain has a factor too much."""

    @kernel
    def backward_gain(x, dy, dgain):
        for j in prange(dgain.size):
            total = 0.0
            for n in range(x.shape[0]):
                total += dy[n, j] * x[n, j]
            dgain[j] = 2.0 * total  # fault


@register("doubles")
class Doubles(_Doubled):
    """Computes in float64 on float32 arrays."""

    check_cases = [("", (3,))]

    @kernel(form="matrix")
    def forward(x, y):
        for n in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[n, j] = x[n, j] * x.shape[1] / x.shape[1] + x[n, j]  # fault


@register("mish")
class Mish(Layer):
    """y = x tanh(log(1 + exp(x))), whose derivative is NaN from x = 89 on in float32."""

    check_cases = [("", (3,))]

    @elementwise
    def forward(x):
        return x * np.tanh(np.log(1 + np.exp(x)))

    @forward.derivative
    def backward_input(x):
        t = np.tanh(np.log(1.0 + np.exp(x)))
        return t + x * (1.0 - t * t) * np.exp(x) / (1.0 + np.exp(x))  # fault


@register("no_loop")
class NoLoop(_Doubled):
    """Its loop is a range."""

    check_cases = [("", (3,))]

    @kernel(form="flat")
    def forward(x, y):  # fault
        for i in range(x.size):
            y[i] = 2.0 * x[i]


@register("undefined")
class Undefined(_Doubled):
    """Uses a name that nothing defines."""

    check_cases = [("", (3,))]

    @kernel(form="flat")
    def forward(x, y):
        for i in prange(x.size):
            y[i] = factor * x[i]  # fault # noqa: F821


@register("untypable")
class Untypable(_Doubled):
    """Calls what Numba cannot compile, although plain Python runs it."""

    check_cases = [("", (3,))]

    @kernel(form="flat")
    def forward(x, y):
        for i in prange(x.size):
            y[i] = float(str(2.0)) * np.spacing(x[i], casting="unsafe") + 2.0 * x[i]  # fault
