"""Options with which Numba compiles nnjit's functions, and the element types."""

import numpy as np
from numba import types

from .part import PartCompiler

# Permitted changes to floating-point arithmetic (table in docs/architecture.md): LLVM may fuse a product and a sum, and
# may add the terms of ``total += term`` in any order, so that sums vectorise.
FAST = {"contract"}
SUM = ["contract", "nsz", "reassoc"]
FLOATS = {np.float32: types.float32, np.float64: types.float64}
# No reference counts by Numba: every array belongs to the caller, and a count costs an atomic operation.
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "nogil": True, "_nrt": False}
NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
HELPER = {**OPTIONS, **NO_WRAPPERS, "pipeline_class": PartCompiler}  # called only by kernels
INLINED = {**HELPER, "forceinline": True}
