"""No float64 in float32 kernels: types of every variable, as Numba infers them.

Literals are float64 until the next call makes them float32; any other float64 variable is a promotion.
"""

import inspect
from importlib import import_module

import numpy as np
import pytest
from nnjit import registry
from nnjit.kernels.compiler.elementwise import Formula
from nnjit.kernels.compiler.kernel import Kernel
from numba import types
from numba.core import compiler, typed_passes
from numba.core.registry import cpu_target

FILES = ("dense", "softmax", "dropout", "batchnorm", "layernorm", "residual", "loss", "update", "norm")
FILES += ("softmax_columns", "loss_columns", "augment")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh")
REALS = {
    "momentum",
    "epsilon",
    "rate",
    "delta",
    "p",
    "decay",
    "beta1",
    "beta2",
    "weight_decay",
    "factor",
    "degrees",
    "deviation",
}
DIMENSIONS = {"batchnorm": 3, "softmax": 3, "loss": 2, "dense": 2, "softmax_columns": 2, "loss_columns": 2}
KERNELS = [
    (file, name, kernel)
    for file in FILES
    for name, kernel in vars(import_module(f"nnjit.kernels.cpu.{file}")).items()
    if isinstance(kernel, Kernel) and (file, name) != ("norm", "partial")  # which sums in float64
]
FORMULAS = [
    (name, attribute, getattr(registry.get(name), attribute))
    for name in ACTIVATIONS
    for attribute in ("forward", "backward_input")
]


def argument(file, function, name):
    if name in ("step", "seed", "first", "features", "maps", "depth", "height", "width"):
        return types.intp
    if name == "pads":
        return types.UniTuple(types.intp, 3)
    if name in ("training", "nesterov", "horizontal", "vertical", "reflect"):
        return types.boolean
    if name in REALS:
        return types.float32
    if name == "target" and "labels" in function:
        return types.Array(types.int64, 1, "C")
    wide = name in ("x", "y", "dx", "dy", "target", "W", "dW")
    return types.Array(types.float32, DIMENSIONS.get(file, 1) if wide else 1, "C")


def promoted(function, arguments):
    """Names of float64 variables, without literals and constants of a module."""
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh(), target.refresh()
    ir = compiler.run_frontend(function)
    found = typed_passes.type_inference_stage(typing, target, ir, arguments, None).typemap
    literal = ("const", "load_global", "load_attr")
    return [name for name, kind in found.items() if kind == types.float64 and not any(word in name for word in literal)]


@pytest.mark.parametrize("file, name, kernel", KERNELS, ids=lambda v: v if isinstance(v, str) else "")
def test_kernels(file, name, kernel):
    arguments = tuple(argument(file, name, each) for each in kernel.arguments)
    assert promoted(kernel.python(np.float32), (*arguments, types.intp, types.intp)) == []


@pytest.mark.parametrize("name, attribute, kernel", FORMULAS, ids=lambda v: v if isinstance(v, str) else "")
def test_formulas(name, attribute, kernel):
    assert isinstance(kernel, Formula)
    formula = kernel.python(np.float32).__globals__["formula"].py_func
    assert promoted(formula, (types.float32,) * len(inspect.signature(formula).parameters)) == []


def test_a_promotion_is_seen():
    real = np.float32

    def whole(x, n):
        return x * n  # int64 with float32 is float64

    def literal(x):
        return x + 1.5

    def cast(x):
        return x + real(1.5)

    assert promoted(whole, (types.float32, types.intp)) and promoted(literal, (types.float32,))
    assert promoted(cast, (types.float32,)) == []
