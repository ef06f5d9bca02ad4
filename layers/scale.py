"""Scales of raw data as layers, fitted to the training data: first to its samples, last to its targets.

A network that begins and ends with them takes raw units and gives raw units wherever it runs: `predict`, jitted code,
derivatives, exported code, checkpoints. Before it is fitted such a layer is the identity. The range of some data is
known beforehand, such as 0 to 255 of pixels: ``minmax(0, 255)`` states it, and is not fitted.
"""

from math import inf, prod

import numpy as np

from ..errors import DataError, SpecError
from ..kernels.operations import columns_of, operation
from ..registry import register
from .base import Layer, constant, zeros

FINE = 8  # least numbers of the dtype in a deviation: rounding the data changes it by 1 / 8 / sqrt(12) = 4 % or less


class Scale(Layer):
    """Base of the layers with a shift and a scale for each channel: a feature of (features,), a map of (C, *spatial).

    Subclasses give ``forward`` and ``backward_input``, and `measure` the shift and the scale of the training data.
    """

    symmetric = True
    forward = operation("scale.forward", form="flat")
    backward_input = operation("scale.backward_input", form="flat")
    check_cases = [("", (1,)), ("", (7,)), ("", (2, 3)), ("", (3, 5, 4))]

    def column_kernel(self, attribute, in_shape):
        return columns_of(self.kernel(attribute, in_shape)) if len(in_shape) == 1 else None

    def buffers(self, in_shape):
        return {"shift": zeros(in_shape[:1]), "scale": constant(1.0, in_shape[:1])}

    def scalars(self, in_shape):
        return {"positions": prod(in_shape[1:])}

    def fitted(self, parts, names, dtype, numbers):
        shift, scale, low, high = self.measure(parts)
        shift, scale = np.where(numbers, shift, 0.0), np.where(numbers, scale, 1.0)
        with np.errstate(over="ignore"):
            spacing = np.spacing(np.maximum(abs(low), abs(high)).astype(dtype)).astype(np.float64)
        for channel, apart in enumerate(spacing):
            if low[channel] == high[channel] or not numbers[channel]:
                continue
            if not np.finfo(dtype).tiny <= scale[channel] <= np.finfo(dtype).max:
                held = f"its numbers spread over {scale[channel]:.3g}, which {np.dtype(dtype)} cannot hold"
                raise DataError(f"{names(channel)}: {held}; scale it by a power of ten, or choose dtype float64")
            if scale[channel] < FINE * apart:
                raise DataError(
                    f"{names(channel)}: its numbers are about {shift[channel]:.6g} and spread over "
                    f"{scale[channel]:.3g}, but there the numbers of {np.dtype(dtype)} are {apart:.3g} apart; choose "
                    "dtype float64, or subtract a constant from it"
                )
        return {"shift": shift, "scale": scale}

    def measure(self, parts):
        """Return shift, scale, lowest and highest number (C,) of data in parts; a channel of one value has scale 1."""
        low, high, mean = _extremes_and_mean(parts)
        width = _or_one(high - low)
        drift, squares, count = 0.0, 0.0, 0
        for part in parts:
            offset = (_channels(part) - mean[:, None]) / width[:, None]
            drift, squares = drift + offset.sum((0, 2)), squares + np.square(offset).sum((0, 2))
            count += offset[:, 0].size
        drift /= count  # what rounding left of the mean's error
        deviation = np.where(low == high, 1.0, width * np.sqrt(np.maximum(squares / count - drift * drift, 0)))
        return np.where(low == high, low, mean + width * drift), deviation, low, high


@register("standardize")
class Standardize(Scale):
    """y = (x - mean) / deviation for each channel, of the training samples. Any shape.

    `Network.fit` and `nnjit run` measure mean and deviation (biased, 1/N) on the training split before the first step,
    in float64; they stay fixed, in the buffers shift and scale. A channel of one value has the deviation 1. Categories
    stay as they are, with mean 0 and deviation 1: inputs of a table that are one-hot, a code, or tell that a number was
    missing, and inputs that `embedding` takes. It stands first, or behind layers that only change the shape.
    """

    fitted_to = "samples"


@register("minmax")
class MinMax(Scale):
    """y = (x - low) / (high - low) for each channel: numbers from low to high become 0 to 1. Any shape.

    With the options ``low`` and ``high`` these are the same for all channels, such as ``minmax(0, 255)`` for pixels.
    Without them they are the lowest and highest number of each channel of the training samples, fitted like
    standardize; a channel of one value becomes 0, and categories stay as they are. low is the buffer shift, high - low
    the buffer scale.
    """

    low: float | None = None
    high: float | None = None
    check_cases = [*Scale.check_cases, ("(-1, 3)", (7,)), ("(0, 4)", (3, 5, 4))]

    def validate(self):
        if self.low is None and self.high is None:
            return
        if self.low is None or self.high is None:
            missing = "low" if self.low is None else "high"
            raise SpecError(f"minmax: {missing} missing; give both ends of a range, minmax(low=0, high=255), or none")
        if not -inf < self.low < self.high < inf:
            raise SpecError(f"minmax: expected finite numbers low < high, got {self.low:g} and {self.high:g}")

    @property
    def fitted_to(self):  # type: ignore[override]
        return "samples" if self.raw_range is None else None

    @property
    def raw_range(self):
        """(low, high) if they are options; None if they are fitted."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def buffers(self, in_shape):
        if self.raw_range is None:
            return super().buffers(in_shape)
        low, high = self.raw_range
        return {"shift": constant(low, in_shape[:1]), "scale": constant(high - low, in_shape[:1])}

    def measure(self, parts):
        low, high, _ = _extremes_and_mean(parts)
        return low, _or_one(high - low), low, high


@register("unstandardize")
class Unstandardize(Scale):
    """y = x deviation + mean for each channel, of the training targets: the last layer of a network of values.

    Training measures the loss before it, on targets with mean 0 and deviation 1, so that learning rates, clipping and
    the delta of huber do not depend on units; everything else of the network contains it. Fitted like standardize.
    """

    fitted_to = "targets"
    forward = operation("scale.inverse", form="flat")
    backward_input = operation("scale.inverse_backward_input", form="flat")
    symmetric = True

    def to_units(self, y, buffers):
        shift, scale = _broadcast(buffers, y)
        return y * scale + shift

    def from_units(self, y, buffers):
        shift, scale = _broadcast(buffers, y)
        return (y - shift) / scale


def _channels(part):
    return part.reshape(*part.shape[:2], -1)


def _extremes_and_mean(parts):
    low, high, total, count = np.inf, -np.inf, 0.0, 0
    for part in parts:
        x = _channels(part)
        low, high = np.minimum(low, x.min((0, 2))), np.maximum(high, x.max((0, 2)))
        count += x[:, 0].size
        total = total + x.sum((0, 2))
    return low, high, total / count


def _or_one(width):
    return np.where(width == 0, 1.0, width)


def _broadcast(buffers, y):
    """Return shift and scale in float64, for arrays (N, C, ...)."""
    shape = (-1, *[1] * (y.ndim - 2))
    return (buffers[name].astype(np.float64).reshape(shape) for name in ("shift", "scale"))
