"""Loops for the CPU, compiled by Numba."""

from . import (
    batch,
    batchnorm,
    conv,
    conv_depthwise,
    conv_filters,
    conv_transpose,
    dense,
    dropout,
    layernorm,
    loss,
    norm,
    pooling,
    residual,
    softmax,
    update,
    winograd,
)

__all__ = [
    "batch",
    "batchnorm",
    "conv",
    "conv_depthwise",
    "conv_filters",
    "conv_transpose",
    "dense",
    "dropout",
    "layernorm",
    "loss",
    "norm",
    "pooling",
    "residual",
    "softmax",
    "update",
    "winograd",
]
