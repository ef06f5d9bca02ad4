"""The words of pooling on vectors: comparisons, products that are not fused, ramps; they extend those of words.py.

    ramp(P, 5, 2)                       5, 7, 9, ...; with the literal step 0 everywhere 5
    where_beats(t, top, a, b)           number by number a where t is larger than the largest up to now, else b
    load(row(P, p), 1, 1)               the vector P[p], P[p + 1], ...

Maxima are selected, not branched to: no processor can predict which cell is the largest. A vector holds numbers of the
arrays' type, indices of cells too. In plain Python the same words work on NumPy arrays.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..compiler.kernel import inlined
from .tile import Tile, lanes, plain_lanes, word
from .tile_arithmetic import of_vectors
from .tile_code import TileCode
from .view import View
from .words import store


@inlined
def row(data, first=0):
    """Return the numbers of a flat array or a view from number `first` on: a view that LLVM knows to be contiguous."""
    return View(data, 0, 1, first)


@inlined
def fill_row(T, first, end, vector):
    """T[first : end] = a vector, repeated; the numbers behind may be overwritten."""
    for k in range(first, end, lanes(T)):
        store(row(T, k), vector)


def _ramp(like, start, step):
    """Return the vector start, start + step, ..."""
    n = plain_lanes(like)
    numbers = start + step * np.arange(n, dtype=like.dtype)[None] if step else np.full((1, n), start)
    return numbers.astype(like.dtype)


@word(_ramp)
def ramp(typing, like, start, step):
    kind = Tile(like.dtype, 1, 1)
    level = isinstance(step, types.IntegerLiteral) and step.literal_value == 0

    def generate(context, builder, sig, args):
        words = TileCode(context, builder, kind)
        start, step = (
            words.splat(context.cast(builder, a, k, kind.real)) for a, k in zip(args[1:], sig.args[1:], strict=True)
        )
        lanes = ir.Constant(words.vector, [float(k) for k in range(kind.lanes)])
        value = start if level else builder.fadd(start, builder.fmul(lanes, step))
        return builder.insert_value(ir.Constant(context.get_value_type(kind), ir.Undefined), value, 0)

    return kind(like, types.unliteral(start), types.unliteral(step)), generate


def _on_vectors(plain, rule):
    """Return a word that makes one tile of several, number by number."""

    def two(typing, t, u):
        return of_vectors(rule)(typing, (t, u))

    def four(typing, t, u, a, b):
        return of_vectors(rule)(typing, (t, u, a, b))

    return word(plain)({2: two, 4: four}[plain.__code__.co_argcount])


def _where_equal(t, u, a, b):
    """Return a where t = u, else b."""
    return np.where(t == u, a, b)


def _where_beats(t, top, a, b):
    """Return a where t is larger than the largest number up to now, or the first NaN, else b."""
    return np.where((t > top) | ((t != t) & (top == top)), a, b)


def _beats(builder, t, top):
    return builder.and_(builder.fcmp_unordered(">", t, top), builder.fcmp_ordered("ord", top, top))


def _times(t, u):
    """t u, rounded; a sum with t * u is rounded once instead."""
    return t * u


def _over(t, u):
    """t / u."""
    with np.errstate(all="ignore"):
        return t / u


where_equal = _on_vectors(
    _where_equal, lambda builder, t, u, a, b: builder.select(builder.fcmp_ordered("==", t, u), a, b)
)
where_beats = _on_vectors(_where_beats, lambda builder, t, top, a, b: builder.select(_beats(builder, t, top), a, b))
times = _on_vectors(_times, lambda builder, t, u: builder.fmul(t, u))
over = _on_vectors(_over, lambda builder, t, u: builder.fdiv(t, u))


def _highest(t):
    """Return the largest number of a tile; NaN loses to every number."""
    return np.fmax.reduce(t, axis=None)


@word(_highest)
def highest(typing, t):
    def generate(context, builder, sig, args):
        words, kind = TileCode(context, builder, t), f"v{t.lanes}f{t.real.bitwidth}"
        top, *others = (builder.extract_value(args[0], k) for k in range(t.r * t.c))
        for vector in others:
            top = words.call(f"llvm.maxnum.{kind}", words.vector, [top, vector])
        return words.call(f"llvm.vector.reduce.fmax.{kind}", words.vector.element, [top])

    return t.real(t), generate
