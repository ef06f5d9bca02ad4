"""A custom loss, for ``nnjit run --plugin examples/loss.py``: C_i = sum log cosh(y - target)."""

import numpy as np
from nnjit.registry import losses
from nnjit.training import Loss, kernel
from numba import prange


@losses.register("log_cosh")
class LogCosh(Loss):
    """Loss sum_j log cosh(y_j - t_j): quadratic for small differences, linear for large ones."""

    @kernel(form="flat")
    def forward(y, target, loss):
        width = y.size // loss.size
        for n in prange(loss.size):
            total = 0.0
            for j in range(n * width, (n + 1) * width):
                d = abs(y[j] - target[j])
                total += d + np.log1p(np.exp(-2.0 * d)) - np.log(2.0)
            loss[n] = total

    @kernel(form="flat")
    def backward(y, target, dy):
        for j in prange(y.size):
            dy[j] = np.tanh(y[j] - target[j])
