"""Words that rearrange the numbers of views: columns as vectors, copies, transposes, every second number.

They extend those of words.py; in plain Python the same words work on NumPy arrays.
"""

import numpy as np
from llvmlite import ir
from numba import types

from .tile import Tile, are_literals, optional, optional_value, plain_lanes, word
from .tile_code import TileCode
from .view import parts
from .words import existing


def _load_column(A, fixed, columns):
    """Return the vector A[0, 0], A[1, 0], ... of `columns` numbers; `fixed` is the literal 2 for stride 2, or 0."""
    n, step = plain_lanes(A), fixed or A.row_stride
    found = [A.data[A.first + k * step] for k in range(min(columns, n))]
    return np.array([found + [0] * (n - len(found))], A.dtype)


@word(_load_column)
def load_column(typing, A, fixed, columns):
    if not are_literals(fixed):
        return None
    tile = Tile(A.dtype, 1, 1)

    def generate(context, builder, sig, args):
        view, words = parts(context, builder, A, args[0]), TileCode(context, builder, tile)
        return words.load_column(view.data, fixed.literal_value, view.row_stride, args[2])

    return tile(A, fixed, types.intp), generate


def _store_interleaved(C, even, odd, columns):
    """C[0, 0], C[0, 1], ... = even[0], odd[0], even[1], odd[1], ...: the first `columns` numbers of two vectors."""
    mixed = np.stack([even[0], odd[0]], 1).reshape(-1)
    C.data[C.first : C.first + min(columns, mixed.size)] = mixed[: max(columns, 0)]


@word(_store_interleaved)
def store_interleaved(typing, C, even, odd, columns):
    def generate(context, builder, sig, args):
        view = parts(context, builder, C, args[0])
        TileCode(context, builder, even).store_interleaved(view.data, *args[1:])
        return context.get_dummy_value()

    return types.void(C, even, odd, types.intp), generate


def _copy(target, source, columns):
    """target = a vector of the row where source begins: `columns` numbers of it, then zeros."""
    n = plain_lanes(source)
    target.data[target.first : target.first + n] = existing(source.data, source.first, n, columns)


@word(_copy)
def copy(typing, target, source, columns):
    def generate(context, builder, sig, args):
        to, of = (parts(context, builder, *pair) for pair in zip(sig.args[:2], args[:2], strict=True))
        words = TileCode(context, builder, Tile(source.dtype, 1, 1))
        words.store(words.row(of.data, 1, args[2], None)[0], to.data)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), generate


def _transpose(target, source, rows=None):
    """target[j, i] = source[i, j], i and j up to the numbers of a vector; from `rows` on the last row is repeated."""
    n = plain_lanes(source)
    for j in range(n):
        for i in range(n):
            row = source.first + (i if rows is None else min(i, rows - 1)) * source.row_stride
            target.data[target.first + j * target.row_stride + i] = source.data[row + j]


@word(_transpose)
def transpose(typing, target, source, rows=None):
    def generate(context, builder, sig, args):
        to, of = (parts(context, builder, *pair) for pair in zip(sig.args[:2], args[:2], strict=True))
        count = optional_value(sig.args[2], args[2])
        words = TileCode(context, builder, Tile(source.dtype, 1, 1))
        words.store_rows(to.data, to.row_stride, words.transposed(of.data, of.row_stride, count))
        return context.get_dummy_value()

    return types.void(target, source, optional(rows)), generate


def _halves(t):
    """Two vectors of every second number of a tile of two: the first, third, ... and the second, fourth, ..."""
    return t[:, ::2], t[:, 1::2]


@word(_halves)
def halves(typing, t):
    kind = Tile(t.real, 1, 1)

    def generate(context, builder, sig, args):
        pair, n = [builder.extract_value(args[0], k) for k in range(2)], kind.lanes
        none, tiles = ir.Constant(context.get_value_type(kind), ir.Undefined), []
        for odd in range(2):
            order = ir.Constant(ir.VectorType(ir.IntType(32), n), [2 * k + odd for k in range(n)])
            tiles.append(builder.insert_value(none, builder.shuffle_vector(*pair, order), 0))
        return context.make_tuple(builder, sig.return_type, tiles)

    return types.UniTuple(kind, 2)(t), generate
