"""The built-in layers, one family a file, and what a new layer is written with."""

from .base import Layer, Parameter, constant, elementwise, kernel, operation, weight, zeros
from .initializers import Initializer

__all__ = ["Initializer", "Layer", "Parameter", "constant", "elementwise", "kernel", "operation", "weight", "zeros"]
