"""Arithmetic of tiles, written as in NumPy: t + u, t - u, t * u, t * number, abs(t), and words made of such rules.

A sum with t * u is rounded once.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from .tile import Tile
from .tile_code import TileCode


def of_vectors(rule):
    """Return the definition of a word that makes one tile of several, vector by vector."""

    def definition(typing, tiles):
        t = tiles[0]

        def generate(context, builder, sig, args):
            result = ir.Constant(context.get_value_type(t), ir.Undefined)
            for k in range(t.r * t.c):
                value = rule(builder, *(builder.extract_value(a, k) for a in args))
                result = builder.insert_value(result, value, k)
            return result

        return t(*tiles), generate

    return definition


def _sum(builder, t, u):
    return builder.fadd(t, u, flags=["contract"])


def _difference(builder, t, u):
    return builder.fsub(t, u)


def _operator(function, rule):
    """Define an operator on two tiles of one type."""

    @infer_global(function)
    class _(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Tile) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Tile, Tile)
    def generate(context, builder, sig, args):
        return of_vectors(rule)(None, sig.args)[1](context, builder, sig, args)


def _product(builder, t, u):
    return builder.fmul(t, u, flags=["contract"])


_operator(operator.add, _sum)
_operator(operator.sub, _difference)
_operator(operator.mul, _product)


@infer_global(abs)
class _Absolute(AbstractTemplate):
    def generic(self, args, kws):
        return signature(args[0], *args) if len(args) == 1 and isinstance(args[0], Tile) else None


@lower_builtin(abs, Tile)
def _lower_absolute(context, builder, sig, args):
    words = TileCode(context, builder, sig.args[0])
    absolute = of_vectors(lambda builder, t: words.absolute(t))
    return absolute(None, sig.args)[1](context, builder, sig, args)


@infer_global(operator.mul)
class _Scaled(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], Tile) and isinstance(args[1], types.Float):
            return signature(args[0], args[0], args[0].real)
        return None


@lower_builtin(operator.mul, Tile, types.Float)
def _lower_scaled(context, builder, sig, args):
    words = TileCode(context, builder, sig.args[0])
    factor = words.splat(args[1])
    scale = of_vectors(lambda builder, t: builder.fmul(t, factor))
    return scale(None, sig.args[:1])[1](context, builder, sig, args[:1])
