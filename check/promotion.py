"""Detection of float64 inside a float32 kernel, from its LLVM code; Numba's types then give the lines.

Numba converts an integer and a float32 to float64, and the kernel then runs at half its speed or less.
"""

import inspect
import re
from functools import cache as memoize

import numpy as np
from numba import njit, types
from numba.core import ir

from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.options import OPTIONS
from ..kernels.compiler.refusals import place

# Comparing integers as double does no harm: Numba's own reshape does it.
DOUBLE = re.compile(r"^(?!.* = (?:uitofp|sitofp|fcmp) ).*\bdouble\b", re.MULTILINE)
FUNCTION = re.compile(r"^define .*?^}", re.MULTILINE | re.DOTALL)


@memoize
def promoted(kernel, signature):
    """Return a sentence with the lines where float64 arises in a kernel for float32, or None.

    A kernel whose source says ``float64`` means it: the answer is None.

    Parameters
    ----------
    kernel : Kernel
    signature : tuple of Numba types, without part and parts
    """
    if "float64" in inspect.getsource(kernel.function):
        return None
    _, dispatcher = kernel.compile(signature, np.float32)
    if not any(DOUBLE.search(body) for body in _bodies(dispatcher)):
        return None
    lines = _lines(kernel, signature)
    where = "; ".join(lines[:3]) or "in its result or in a function it calls"
    return f"computes in float64 on float32 arrays ({where}): write float(n) where a whole number n meets a float"


def _bodies(dispatcher):
    """LLVM code of the compiled function and of all functions it calls, without the wrappers for Python and C."""
    result = dispatcher.overloads[dispatcher.signatures[0]]
    # inspect_llvm() is empty for code that came from the disk cache.
    text = str(result.library._get_module_for_linking())
    assert f"@{result.fndesc.llvm_func_name}(" in text, "the code of the kernel is not where Numba used to keep it"
    if " double" not in text:
        return []
    wrappers = (result.fndesc.llvm_cpython_wrapper_name, result.fndesc.llvm_cfunc_wrapper_name)
    return [body for body in FUNCTION.findall(text) if not any(w in body.partition("\n")[0] for w in wrappers)]


def _lines(kernel, signature):
    """Return the places of the statements that make a float64, from inferred types: cached kernels have none."""
    function = kernel.python(np.float32)
    dispatcher = njit(**OPTIONS)(function)
    dispatcher.compile((*signature, types.intp, types.intp))
    typed = [v for v in function.__globals__.values() if hasattr(v, "py_func") and hasattr(v, "overloads")]
    if not isinstance(kernel, Formula):  # the user did not write the loop around a formula
        typed.append(dispatcher)
    found = set()
    for given, result in (item for function in typed for item in function.overloads.items()):
        annotation = result.type_annotation
        if types.float64 in given or annotation is None or isinstance(annotation, str):
            continue
        for statement in (s for block in annotation.blocks.values() for s in block.body):
            made = annotation.typemap.get(getattr(getattr(statement, "target", None), "name", None))
            constant = isinstance(getattr(statement, "value", None), (ir.Const, ir.Global, ir.FreeVar))
            if made == types.float64 and not constant:  # a constant is cast where it is used
                found.add((statement.loc.filename, statement.loc.line))
    return [place(file, n) for file, n in sorted(found)]
