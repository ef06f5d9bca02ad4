"""The built-in layers, one file for each family, and the names with which a new layer is written."""

from .base import Layer, Parameter, constant, elementwise, kernel, operation, weight, zeros
from .initializers import Initializer

__all__ = ["Initializer", "Layer", "Parameter", "constant", "elementwise", "kernel", "operation", "weight", "zeros"]
