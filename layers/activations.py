"""Activations a = sigma(z), elementwise; each is its formula and the formula of its derivative.

If the derivative is a function of y, the program need not keep x. So it is written in y where y determines it; 1 - y of
sigmoid and tanh loses its last digits where y is near 1, as in PyTorch. Formulas do not overflow for any finite x, and
NaN gives NaN.
"""

import math

import numpy as np

from ..errors import SpecError
from ..kernels.compiler.special import log1p_exp, normal_cdf, normal_pdf
from ..kernels.compiler.subnormal import flush
from ..registry import register
from .base import Layer, elementwise

# Klambauer et al. 2017, arXiv:1706.02515, eq. 2 and 14: the pair for which mean 0 and variance 1 are a fixed point.
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


class Activation(Layer):
    """Base of the activations: any shape, no parameters."""

    check_cases = [("", (1,)), ("", (7,)), ("", (2, 3, 5))]


@register("relu")
class ReLU(Activation):
    """y = max(x, 0), with y' = 0 at 0 (Nair & Hinton 2010). Any shape."""

    initializer = "he"

    @elementwise
    def forward(x):
        return 0.0 if x < 0 else x

    @forward.derivative
    def backward_input(y):
        return 0.0 if y <= 0 else 1.0


@register("leaky_relu")
class LeakyReLU(Activation):
    """y = x for x > 0, else alpha x (Maas, Hannun & Ng 2013). Any shape."""

    alpha: float = 0.01

    initializer = "he"
    check_cases = [("", (1,)), ("(0.2)", (7,)), ("(0.0)", (2, 3, 5))]

    def validate(self):
        _check_alpha("leaky_relu", self.alpha)

    @elementwise
    def forward(x, alpha):
        return x if x > 0 else alpha * x

    @forward.derivative
    def backward_input(y, alpha):
        return 1.0 if y > 0 else alpha


@register("elu")
class ELU(Activation):
    """y = x for x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016, arXiv:1511.07289). Any shape."""

    alpha: float = 1.0

    initializer = "he"
    check_cases = [("", (1,)), ("(0.5)", (7,)), ("(2.0)", (2, 3, 5))]

    def validate(self):
        _check_alpha("elu", self.alpha)

    @elementwise
    def forward(x, alpha):
        return x if x > 0 else alpha * np.expm1(x)

    @forward.derivative
    def backward_input(x, alpha):
        return 1.0 if x > 0 else alpha * np.exp(x)  # y + alpha would cancel for x far below 0


@register("selu")
class SELU(Activation):
    """y = scale x for x > 0, else scale alpha (exp(x) - 1) (Klambauer et al. 2017, arXiv:1706.02515). Any shape."""

    initializer = "lecun"

    @elementwise
    def forward(x):
        return SELU_SCALE * x if x > 0 else SELU_SCALE * SELU_ALPHA * np.expm1(x)

    @forward.derivative
    def backward_input(x):
        return SELU_SCALE if x > 0 else SELU_SCALE * SELU_ALPHA * np.exp(x)


@register("gelu")
class GELU(Activation):
    """y = x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415). Any shape."""

    initializer = "he"

    @elementwise
    def forward(x):
        return flush(x * normal_cdf(x))

    @forward.derivative
    def backward_input(x):
        return flush(normal_cdf(x) + x * normal_pdf(x))


@register("silu")
class SiLU(Activation):
    """y = x s(x), s the logistic sigmoid (Elfwing, Uchibe & Doya 2018, arXiv:1702.03118). Any shape."""

    initializer = "he"

    @elementwise
    def forward(x):
        e = np.exp(-abs(x))
        return x * (e if x < 0 else 1.0) / (1.0 + e)

    @forward.derivative
    def backward_input(x):
        e = np.exp(-abs(x))
        share = 1.0 / (1.0 + e)
        s, rest = (e * share, share) if x < 0 else (share, e * share)  # rest = 1 - s, which would cancel
        return s * (1.0 + x * rest)


@register("softplus")
class Softplus(Activation):
    """y = log(1 + exp(x)), written max(x, 0) + log(1 + exp(-|x|)); y' = 1 - exp(-y) (Dugas et al. 2001). Any shape."""

    initializer = "he"

    @elementwise
    def forward(x):
        return (0.0 if x < 0 else x) + log1p_exp(-abs(x))

    @forward.derivative
    def backward_input(y):
        return -np.expm1(-y)


@register("sigmoid")
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), the lecture's sigma in the ten-point example; y' = y (1 - y). Any shape."""

    @elementwise
    def forward(x):
        e = np.exp(-abs(x))
        return (e if x < 0 else 1.0) / (1.0 + e)

    @forward.derivative
    def backward_input(y):
        return y * (1.0 - y)


@register("tanh")
class Tanh(Activation):
    """y = tanh(x), y' = 1 - y^2. Any shape."""

    @elementwise
    def forward(x):
        return np.tanh(x)

    @forward.derivative
    def backward_input(y):
        return (1.0 - y) * (1.0 + y)


@register("identity")
class Identity(Activation):
    """y = x. Any shape; nothing is computed: input and output are the same memory."""

    forward = None
    alias = True

    def operations(self, in_shape):
        return 0


def _check_alpha(name, alpha):
    """Refuse alpha below 0: the derivative takes the sign of x from the sign of y."""
    if not 0 <= alpha < math.inf:
        raise SpecError(f"{name}: alpha must be 0 or a finite number above it, got {alpha}")
