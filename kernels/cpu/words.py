"""The words of the register tile on views.

With them a matrix product reads as mathematics::

    tile = zeros(C, 4, 2)                               # 4 rows of 2 vectors, in registers
    for k in range(K):
        tile = outer(tile, A.column(k), B.row(k))       # tile += A[:4, k] (x) B[k, :2 vectors]
    store(C, tile)                                      # C[:4, :2 vectors] = tile

The numbers in a row of a View follow each other, whatever the stride of its columns. The vectors in a row of Vectors
lie `vector_stride` apart. `columns` says how many numbers of a row (of Vectors: of each vector) exist: loads of the
others give 0, stores leave memory alone. Without it all of them exist. Arithmetic of tiles is written as in NumPy:
t + u, t - u, t * u, t * number, abs(t). In plain Python the same words work on NumPy arrays: so kernels can be run, and
their races found, without compiling.
"""

import numpy as np
from llvmlite import ir
from numba import types

from .tile import Tile, are_literals, optional, optional_value, plain_lanes, word
from .tile_arithmetic import of_vectors
from .tile_code import TileCode
from .view import parts

ADD, ZERO, BIAS = 0, 1, 2  # what a result starts from: what it holds, zeros, the bias of its row


def _row(view, i, vectors, columns):
    """Return the numbers of `vectors` vectors in row i of a plain View or Vectors."""
    n, data, apart = plain_lanes(view), view.data, getattr(view, "vector_stride", None)
    if apart is None:
        return existing(data, view.first + i * view.row_stride, vectors * n, columns)
    places = [view.first + i * view.row_stride + v * apart for v in range(vectors)]
    return np.concatenate([existing(data, place, n, columns) for place in places])


def existing(array, first, n, columns):
    """Return n numbers from a place on, of which `columns` exist; the others are 0."""
    count = n if columns is None else max(0, min(columns, n))
    return np.array([array[first + k] for k in range(count)] + [0] * (n - count), array.dtype)


def _zeros(like, rows, vectors):
    """Return an all-zero tile of rows and vectors (literals) of an array's or a view's element type."""
    return np.zeros((rows, vectors * plain_lanes(like)), like.dtype)


@word(_zeros)
def zeros(typing, like, rows, vectors):
    if not are_literals(rows, vectors):
        return None
    kind = Tile(like.dtype, rows.literal_value, vectors.literal_value)
    return kind(like, rows, vectors), lambda context, builder, sig, args: ir.Constant(
        context.get_value_type(kind), None
    )


def _outer(tile, a, b, columns=None):
    """tile + a[:, 0] (x) b[0, :]: one rank-1 update; b may be Vectors."""
    factors = np.array([a[r, 0] for r in range(tile.shape[0])])
    return tile + factors[:, None] * _row(b, 0, tile.shape[1] // plain_lanes(b), columns)


@word(_outer)
def outer(typing, tile, a, b, columns=None):
    def generate(context, builder, sig, args):
        left, right = (parts(context, builder, *pair) for pair in zip(sig.args[1:3], args[1:3], strict=True))
        width = optional_value(sig.args[3], args[3])
        words, apart = TileCode(context, builder, tile), right.vector_stride if b.kind == "Vectors" else None
        return words.outer(args[0], left.data, left.row_stride, right.data, width, apart)

    return tile(tile, a, b, optional(columns)), generate


def _dot(tile, a, b, columns=None):
    """tile[i, j] + a[i, :] * b[j, :]: vectors of products, which `hsum_add` sums at the end."""
    left = np.array([_row(a, r, 1, columns) for r in range(tile.shape[0])])
    right = np.array([_row(b, v, 1, columns) for v in range(tile.shape[1] // plain_lanes(b))])
    return tile + (left[:, None, :] * right).reshape(tile.shape)


@word(_dot)
def dot(typing, tile, a, b, columns=None):
    def generate(context, builder, sig, args):
        left, right = (parts(context, builder, *pair) for pair in zip(sig.args[1:3], args[1:3], strict=True))
        width = optional_value(sig.args[3], args[3])
        words = TileCode(context, builder, tile)
        return words.inner(args[0], left.data, left.row_stride, right.data, right.row_stride, width)

    return tile(tile, a, b, optional(columns)), generate


def _hsum_add(C, tile):
    """C[i, j] += the sum of the numbers of the vector j of the row i of the tile."""
    n = plain_lanes(C)
    for r in range(tile.shape[0]):
        for v in range(tile.shape[1] // n):
            C[r, v] += tile[r, v * n : (v + 1) * n].sum()


@word(_hsum_add)
def hsum_add(typing, C, tile):
    def generate(context, builder, sig, args):
        view = parts(context, builder, C, args[0])
        TileCode(context, builder, tile).add_totals(view.data, view.row_stride, view.column_stride, args[1])
        return context.get_dummy_value()

    return types.void(C, tile), generate


def _store_sums(C, tile, start=None):
    """C[0, i] = the sum of row i of the tile, which is one vector wide, plus start[0, i] of another View."""
    for i, row in enumerate(tile):
        C[0, i] = row.sum() if start is None else start[0, i] + row.sum()


@word(_store_sums)
def store_sums(typing, C, tile, start=None):
    begins = not isinstance(start, types.Omitted) and start not in (None, types.none)

    def generate(context, builder, sig, args):
        place = parts(context, builder, C, args[0]).data
        first = parts(context, builder, start, args[2]).data if begins else None
        TileCode(context, builder, tile).store_sums(place, args[1], first)
        return context.get_dummy_value()

    return types.void(C, tile, start if begins else types.none), generate


def _load(A, rows, vectors, columns=None):
    """Return the tile of `rows` rows of `vectors` vectors (literals) where A, a View or Vectors, begins."""
    return np.array([_row(A, r, vectors, columns) for r in range(rows)])


@word(_load)
def load(typing, A, rows, vectors, columns=None):
    if not are_literals(rows, vectors):
        return None
    tile = Tile(A.dtype, rows.literal_value, vectors.literal_value)

    def generate(context, builder, sig, args):
        view, width = parts(context, builder, A, args[0]), optional_value(sig.args[3], args[3])
        words, apart = TileCode(context, builder, tile), view.vector_stride if A.kind == "Vectors" else None
        return words.load_tile(view.data, view.row_stride, width, apart)

    return tile(A, rows, vectors, optional(columns)), generate


def _store(C, tile, columns=None):
    """C = tile, where C, a View or Vectors, begins."""
    apart = getattr(C, "vector_stride", None)
    n = tile.shape[1] if apart is None else plain_lanes(C)
    for r in range(tile.shape[0]):
        for k in range(tile.shape[1]):
            if columns is None or k % n < columns:
                C.data[C.first + r * C.row_stride + k // n * (apart or 0) + k % n] = tile[r, k]


@word(_store)
def store(typing, C, tile, columns=None):
    def generate(context, builder, sig, args):
        view, width = parts(context, builder, C, args[0]), optional_value(sig.args[2], args[2])
        words, apart = TileCode(context, builder, tile), view.vector_stride if C.kind == "Vectors" else None
        words.store_tile(view.data, view.row_stride, args[1], width, apart)
        return context.get_dummy_value()

    return types.void(C, tile, optional(columns)), generate


def _fill(b, rows, vectors):
    """Return a tile of `rows` rows of `vectors` vectors (literals): in row i everywhere b[i, 0]."""
    return np.array([[b[r, 0]] * (vectors * plain_lanes(b)) for r in range(rows)], b.dtype)


@word(_fill)
def fill(typing, b, rows, vectors):
    if not are_literals(rows, vectors):
        return None
    tile = Tile(b.dtype, rows.literal_value, vectors.literal_value)

    def generate(context, builder, sig, args):
        view = parts(context, builder, b, args[0])
        return TileCode(context, builder, tile).fill_tile(view.data, view.row_stride)

    return tile(b, rows, vectors), generate


def _convolve_row(tile, w, row):
    """tile + the sum over k of w[k, 0] times the vectors of `row` from the k-th on; both tiles have one row."""
    n, wide = plain_lanes(w), tile.shape[1]
    for k in range((row.shape[1] - wide) // n + 1):
        tile = tile + w[k, 0] * row[:, k * n : k * n + wide]
    return tile


@word(_convolve_row)
def convolve_row(typing, tile, w, row):
    def generate(context, builder, sig, args):
        view = parts(context, builder, w, args[1])
        return TileCode(context, builder, tile).convolve_row(args[0], view.data, view.row_stride, args[2], row)

    return tile(tile, w, row), generate


def _prefetch(A, count):
    """Nothing: `count` numbers of the row where A begins are fetched into the nearest cache; they need not exist."""


@word(_prefetch)
def prefetch(typing, A, count):
    def generate(context, builder, sig, args):
        view = parts(context, builder, A, args[0])
        TileCode(context, builder, Tile(A.dtype, 1, 1)).prefetch(view.data, args[1])
        return context.get_dummy_value()

    return types.void(A, types.intp), generate


def _most(t, u):
    """Return the larger of two vectors, number by number; of t and NaN it is NaN."""
    return np.where((u > t) | ((u != u) & (t == t)), u, t)


def _larger(builder, t, u):
    larger = builder.select(builder.fcmp_ordered(">", t, u), t, u)  # u where either is NaN
    return builder.select(builder.fcmp_unordered("uno", t, t), t, larger)


@word(_most)
def most(typing, t, u):
    return of_vectors(_larger)(typing, (t, u))
