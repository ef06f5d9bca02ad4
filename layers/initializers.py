"""Initial values of parameters, drawn in float64 and rounded, so that float32 and float64 networks start alike."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import SpecError
from ..registry import Options, initializers


class Initializer(Options):
    """Base of initialisers; a subclass draws an array for one parameter."""

    def draw(
        self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int, dtype: DTypeLike
    ) -> NDArray[Any]:
        """Draw the initial values.

        Parameters
        ----------
        rng : numpy.random.Generator
        shape : tuple of int
        fan_in, fan_out : int
            Inputs and outputs of one unit; for a convolution, maps times kernel cells.
        dtype : NumPy dtype

        Returns
        -------
        ndarray of `shape` and `dtype`
        """
        raise NotImplementedError


class _Scaled(Initializer):
    """Mean 0 and a deviation that keeps the variance from layer to layer; "uniform" ends at sqrt(3) deviations."""

    distribution: Literal["normal", "uniform"] = "normal"

    def deviation(self, fan_in, fan_out):
        raise NotImplementedError

    def draw(self, rng, shape, fan_in, fan_out, dtype):
        s = self.deviation(fan_in, fan_out)
        if self.distribution == "normal":
            return rng.normal(0.0, s, shape).astype(dtype)
        return rng.uniform(-math.sqrt(3) * s, math.sqrt(3) * s, shape).astype(dtype)


@initializers.register("he")
class He(_Scaled):
    """Deviation sqrt(2 / fan_in), for ReLU and similar activations (He et al. 2015, arXiv:1502.01852, eq. 10)."""

    def deviation(self, fan_in, fan_out):
        return math.sqrt(2 / fan_in)


@initializers.register("glorot")
class Glorot(_Scaled):
    """Deviation sqrt(2 / (fan_in + fan_out)), for tanh and sigmoid (Glorot & Bengio 2010, eq. 12 and 16)."""

    def deviation(self, fan_in, fan_out):
        return math.sqrt(2 / (fan_in + fan_out))


@initializers.register("lecun")
class LeCun(_Scaled):
    """Deviation sqrt(1 / fan_in), for SELU and linear layers (LeCun et al. 1998, Efficient BackProp, eq. 16)."""

    def deviation(self, fan_in, fan_out):
        return math.sqrt(1 / fan_in)


@initializers.register("normal")
class Normal(Initializer):
    """Normal with a fixed deviation; the ten-point example has 0.5 (Higham & Higham 2019, section 5)."""

    std: float = 0.5
    mean: float = 0.0

    def validate(self):
        if not 0 <= self.std < math.inf or not math.isfinite(self.mean):
            raise SpecError(f"normal: expected a finite std >= 0 and a finite mean, got {self.std} and {self.mean}")

    def draw(self, rng, shape, fan_in, fan_out, dtype):
        return rng.normal(self.mean, self.std, shape).astype(dtype)


@initializers.register("zeros")
class Zeros(Initializer):
    """Zero for every element."""

    def draw(self, rng, shape, fan_in, fan_out, dtype):
        return np.zeros(shape, dtype)


@initializers.register("constant")
class Constant(Initializer):
    """One number for every element."""

    value: float

    def validate(self):
        if not math.isfinite(self.value):
            raise SpecError(f"constant: value must be a finite number, got {self.value}")

    def draw(self, rng, shape, fan_in, fan_out, dtype):
        return np.full(shape, self.value, dtype)
