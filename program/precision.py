"""The number formats and devices that a program is written for."""

import numpy as np

from ..registry.specs import did_you_mean, either, shown

DTYPES = {"float32": np.float32, "float64": np.float64}
DEVICES = ("cpu", "cuda")
PRECISIONS = ("float32", "tf32", "bf16")  # formats of the factors in matrix products and convolutions


def unfit(precision, device, dtype):
    """Say why a precision does not suit a device and dtype; return None if it does."""
    if precision not in PRECISIONS:
        return f"expected {either(PRECISIONS)}, got {shown(precision)}{did_you_mean(str(precision), PRECISIONS)}"
    if precision != "float32" and device != "cuda":
        return f"{precision} needs the tensor cores of device cuda, got device {device}; choose cuda, or float32"
    if precision != "float32" and dtype != "float32":
        return f"{precision} rounds float32 numbers, got dtype {dtype}; choose dtype float32, or precision float32"
    return None
