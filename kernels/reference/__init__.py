"""The contract: every operation in plain NumPy, with its formula and source."""

from . import (
    batch,
    batchnorm,
    conv,
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
)

__all__ = [
    "batch",
    "batchnorm",
    "conv",
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
]
