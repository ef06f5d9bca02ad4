"""Scalar formulas y = f(x) and their derivatives, written once and turned into kernels over flat arrays.

The first arguments of a formula are numbers of the layer's arrays (``x``; in the derivative ``x``, ``y`` or both), the
rest are options. The derivative's arguments determine the arrays that the backward pass keeps: one that takes only
``y`` frees ``x``.
"""

import ast
import inspect
import types as python_types

import numpy as np
from numba import njit, prange

from . import loops, source
from .arithmetic import FUNCTIONS, FUNCTIONS_KEY
from .cache import digest
from .functions import NAMES as FUNCTION_NAMES
from .kernel import Kernel
from .options import INLINED
from .subnormal import exp

# Bytes of the widest vector: an array's numbers beyond a multiple of it are a second loop, a masked vector.
WIDEST = 64
LOOPS_KEY = digest(inspect.getsource(loops))


class Formula(Kernel):
    """A kernel ``for i in prange(x.size): y[i] = f(x[i], ...)`` made from a scalar function."""

    compilers = (loops.LoopCompiler, loops.LoopPartCompiler)

    def __init__(self, function, inputs, output, factor=None):
        super().__init__(function, form="flat")
        given = self.arguments
        self.scalars = tuple(name for name in given if name not in inputs)
        taken = tuple(name for name in given if name in inputs)
        names = [*taken, *((factor,) if factor else ()), output, *self.scalars]
        self.arguments = tuple(names)
        call = f"formula({', '.join(f'{n}[i]' if n in taken else n for n in given)})"
        self.output, self.value = output, f"{factor}[i] * {call}" if factor else call
        self.text = (
            f"def kernel({', '.join(names)}):\n"
            f"    for i in prange({output}.size):\n"
            f"        {output}[i] = {self.value}\n"
        )

    def derivative(self, function):
        """Turn f', a formula of ``x``, ``y`` or both, into the kernel dx = dy f'; a decorator."""
        return Formula(function, ("x", "y"), "dx", "dy")

    def plain(self):
        """Return the kernel in plain Python, which serves as its reference."""
        namespace = {**self.function.__globals__, "_real": float, "_exp": exp}
        definition = source.real(self.source.tree(), namespace, ("exp",))
        formula = source.build(definition, self.function.__name__, self.source.file, namespace)
        space = {"formula": formula, "prange": range}
        exec(self.text, space)
        return space["kernel"]

    def _key(self):
        return self.source.key() + self.text

    def scalar(self, real, functions=()):
        """Return the tree of the scalar function for numbers of type `real`, and its namespace; see `source.real`."""
        namespace = {**self.function.__globals__, "_real": real}
        return _all_real(source.real(self.source.tree(), namespace, functions)), namespace

    def loops(self, lanes):
        """Return the text of two loops over a part of the arrays: whole vectors of `lanes` numbers, then the others."""
        head, _, body = self.text.splitlines()
        return (
            f"{head[: head.index(')')]}, _part, _parts):\n"
            f"    _size = {self.output}.size\n"
            f"    _first = max(_size * _part // _parts, 0)\n"  # LLVM must see that i is not negative
            f"    _count = _size * (_part + 1) // _parts - _first\n"
            f"    for _i in range(_count & {-lanes}):\n"
            f"        i = _first + _i\n"
            f"{body}\n"
            f"    _first = max(_first + (_count & {-lanes}), 0)\n"
            f"    for _i in range(_count & {lanes - 1}):\n"
            f"        i = _first + _i\n"
            f"{body}\n"
        )

    def python(self, real):
        definition, namespace = self.scalar(real, FUNCTION_NAMES)
        definition = source.sums(definition)
        namespace |= FUNCTIONS
        formula = njit(**INLINED)(source.build(definition, definition.name, self.source.file, namespace))
        kernel = ast.parse(self._loops(real)).body[0]
        space = {"formula": formula, "prange": prange, "__name__": self.function.__module__}
        return source.build(kernel, self.name(self.source.key(), real), self.source.file, space)

    def _loops(self, real):
        return self.loops(WIDEST // np.dtype(real).itemsize)

    def name(self, key, real):
        key = digest(key + self.text, self._loops(real), real.__name__, FUNCTIONS_KEY, LOOPS_KEY)
        return f"{source.label(self.function)}_{key}"


class _WholeNumbers(ast.NodeTransformer):
    """Whole numbers in a formula become real ones, except exponents (x ** 2 stays a product)."""

    def visit_Constant(self, node):
        if type(node.value) is int:
            return ast.copy_location(ast.Call(ast.Name("_real", ast.Load()), [node], []), node)
        return node

    def visit_BinOp(self, node):
        node.left = self.visit(node.left)
        if not (isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant)):
            node.right = self.visit(node.right)
        return node

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "_real":
            return node
        return self.generic_visit(node)


def _all_real(definition):
    definition.body = [_WholeNumbers().visit(statement) for statement in definition.body]
    return definition


def elementwise(function):
    """Turn f, a scalar formula of ``x`` and options, into the kernel y = f(x); a decorator."""
    names = list(inspect.signature(function).parameters)
    if not isinstance(function, python_types.FunctionType) or names[:1] != ["x"]:
        raise TypeError(f"an elementwise formula takes x first, then options; {function!r} takes {names}")
    return Formula(function, ("x",), "y")
