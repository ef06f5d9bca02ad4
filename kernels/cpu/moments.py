"""Mean and deviation of numbers whose sum or squares overflow, for layer normalisation on both devices."""

import numpy as np

from ..compiler.kernel import helper


@helper
def scaled_moments(x, epsilon):
    """Return the mean and 1 / sqrt(v + epsilon), v the biased variance, of finite numbers of any size; else NaN.

    The numbers are multiplied by a power of two that makes the largest one about 1.
    """
    real = type(epsilon)  # a helper's float is float64
    count, zero, top, scale = real(x.size), real(0), real(0), real(1)
    for j in range(x.size):
        top = max(top, abs(x[j]))
    while top * scale > real(1):  # an infinite number ends with scale 0, and 0 times infinity is NaN
        scale *= real(0.5)
    total = zero
    for j in range(x.size):
        total += x[j] * scale
    mean = total / count
    total = zero
    for j in range(x.size):
        total += (x[j] * scale - mean) * (x[j] * scale - mean)
    deviation, least = np.sqrt(total / count) / scale, np.sqrt(epsilon)  # their squares may overflow
    larger = max(deviation, least)
    parts = (deviation / larger) * (deviation / larger) + (least / larger) * (least / larger)
    return mean / scale, real(1) / (larger * np.sqrt(parts))
