"""Loops for CUDA; an operation that has no file here is that of `cpu`, which runs on both."""

from . import (
    batch,
    batchnorm,
    conv,
    conv_transpose,
    dense,
    layernorm,
    loss,
    norm,
    pooling,
    softmax,
)

__all__ = [
    "batch",
    "batchnorm",
    "conv",
    "conv_transpose",
    "dense",
    "layernorm",
    "loss",
    "norm",
    "pooling",
    "softmax",
]
