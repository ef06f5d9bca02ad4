"""The words of the register tile on views.

With them a matrix product reads as mathematics::

    tile = zeros(C, 4, 2)                               # 4 rows of 2 vectors, in registers
    for k in range(K):
        tile = outer(tile, A.column(k), B.row(k))       # tile += A[:4, k] (x) B[k, :2 vectors]
    store(C, tile)                                      # C[:4, :2 vectors] = tile

The numbers in a row of a View follow each other, whatever the stride of its columns. The vectors in a row of Vectors
lie `vector_stride` apart. `columns` says how many numbers of a row (of Vectors: of each vector) exist: loads of the
others give 0, stores leave memory alone. Without it all of them exist. Arithmetic of tiles is written as in NumPy:
t + u, t - u, t * u, t * number, abs(t). In plain Python the same words work on NumPy arrays (see tile.py).
"""

from numba import types

from ..compiler.kernel import inlined
from . import tile as tiles
from .tile import Tile, _optional, _values, _word, _Words
from .view import parts

ADD, ZERO, BIAS = 0, 1, 2  # what a result starts from: what it holds, zeros, the bias of its row

zeros, stack_array, most, halves = tiles.zero, tiles.panel, tiles.most, tiles.halves


def _apart(view):
    """How far the vectors of a row lie apart; None if they follow each other."""
    return getattr(view, "vector_stride", None)


def _outer(tile, a, b, columns=None):
    """tile + a[:, 0] (x) b[0, :]: one rank-1 update; b may be Vectors."""
    return tiles.outer.py_func(tile, a.data, a.first, a.row_stride, b.data, b.first, columns, _apart(b))


@_word(_outer)
def outer(typing, tile, a, b, columns=None):
    def generate(context, builder, sig, args):
        left, right = (parts(context, builder, *pair) for pair in zip(sig.args[1:3], args[1:3], strict=True))
        (width,) = _values(sig.args[3:], args[3:])
        words, apart = _Words(context, builder, tile), right.vector_stride if b.kind == "Vectors" else None
        return words.outer(args[0], left.data, left.row_stride, right.data, width, apart)

    return tile(tile, a, b, *_optional(columns)), generate


def _dot(tile, a, b, columns=None):
    """tile[i, j] + a[i, :] * b[j, :]: vectors of products, which `hsum_add` sums at the end."""
    return tiles.inner.py_func(tile, a.data, a.first, a.row_stride, b.data, b.first, b.row_stride, columns)


@_word(_dot)
def dot(typing, tile, a, b, columns=None):
    def generate(context, builder, sig, args):
        left, right = (parts(context, builder, *pair) for pair in zip(sig.args[1:3], args[1:3], strict=True))
        (width,) = _values(sig.args[3:], args[3:])
        words = _Words(context, builder, tile)
        return words.inner(args[0], left.data, left.row_stride, right.data, right.row_stride, width)

    return tile(tile, a, b, *_optional(columns)), generate


def _hsum_add(C, tile):
    """C[i, j] += the sum of the numbers of the vector j of the row i of the tile."""
    tiles.sums.py_func(C.data, C.first, C.row_stride, C.column_stride, tile)


@_word(_hsum_add)
def hsum_add(typing, C, tile):
    def generate(context, builder, sig, args):
        view = parts(context, builder, C, args[0])
        _Words(context, builder, tile).add_totals(view.data, view.row_stride, view.column_stride, args[1])
        return context.get_dummy_value()

    return types.void(C, tile), generate


def _load(A, rows, vectors, columns=None):
    """The tile of `rows` rows of so many vectors (literals) where A, a View or Vectors, begins."""
    return tiles.load.py_func(A.data, A.first, A.row_stride, rows, vectors, columns, _apart(A))


@_word(_load)
def load(typing, A, rows, vectors, columns=None):
    if not tiles._literal(rows, vectors):
        return None
    tile = Tile(A.dtype, rows.literal_value, vectors.literal_value)

    def generate(context, builder, sig, args):
        view, (width,) = parts(context, builder, A, args[0]), _values(sig.args[3:], args[3:])
        words, apart = _Words(context, builder, tile), view.vector_stride if A.kind == "Vectors" else None
        return words.load_tile(view.data, view.row_stride, width, apart)

    return tile(A, rows, vectors, *_optional(columns)), generate


def _store(C, tile, columns=None):
    """C = tile, where C, a View or Vectors, begins."""
    tiles.store.py_func(C.data, C.first, C.row_stride, tile, columns, _apart(C))


@_word(_store)
def store(typing, C, tile, columns=None):
    def generate(context, builder, sig, args):
        view, (width,) = parts(context, builder, C, args[0]), _values(sig.args[2:], args[2:])
        words, apart = _Words(context, builder, tile), view.vector_stride if C.kind == "Vectors" else None
        words.store_tile(view.data, view.row_stride, args[1], width, apart)
        return context.get_dummy_value()

    return types.void(C, tile, *_optional(columns)), generate


def _fill(b, rows, vectors):
    """A tile of `rows` rows of so many vectors (literals): in row i everywhere b[i, 0]."""
    return tiles.fill.py_func(b.data, b.first, b.row_stride, rows, vectors)


@_word(_fill)
def fill(typing, b, rows, vectors):
    if not tiles._literal(rows, vectors):
        return None
    tile = Tile(b.dtype, rows.literal_value, vectors.literal_value)

    def generate(context, builder, sig, args):
        view = parts(context, builder, b, args[0])
        return _Words(context, builder, tile).fill_tile(view.data, view.row_stride)

    return tile(b, rows, vectors), generate


def _convolve_row(tile, w, row):
    """tile + the sum over k of w[k, 0] times the vectors of `row` from the k-th on; both tiles have one row."""
    return tiles.slide.py_func(tile, w.data, w.first, w.row_stride, row)


@_word(_convolve_row)
def convolve_row(typing, tile, w, row):
    def generate(context, builder, sig, args):
        view = parts(context, builder, w, args[1])
        return _Words(context, builder, tile).convolve_row(args[0], view.data, view.row_stride, args[2], row)

    return tile(tile, w, row), generate


def _prefetch(A, count):
    """Nothing: `count` numbers of the row where A begins are fetched into the nearest cache; they need not exist."""


@_word(_prefetch)
def prefetch(typing, A, count):
    def generate(context, builder, sig, args):
        view = parts(context, builder, A, args[0])
        _Words(context, builder, Tile(A.dtype, 1, 1)).prefetch(view.data, args[1])
        return context.get_dummy_value()

    return types.void(A, types.intp), generate


def _load_column(A, fixed, columns):
    """The vector A[0, 0], A[1, 0], ... of `columns` numbers; `fixed` is the literal 2 if the row stride is, else 0."""
    return tiles.strided.py_func(A.data, A.first, fixed, A.row_stride, columns)


@_word(_load_column)
def load_column(typing, A, fixed, columns):
    if not tiles._literal(fixed):
        return None
    tile = Tile(A.dtype, 1, 1)

    def generate(context, builder, sig, args):
        view, words = parts(context, builder, A, args[0]), _Words(context, builder, tile)
        return words.load_column(view.data, fixed.literal_value, view.row_stride, args[2])

    return tile(A, fixed, types.intp), generate


def _store_interleaved(C, even, odd, columns):
    """C[0, 0], C[0, 1], ... = even[0], odd[0], even[1], odd[1], ...: the first `columns` numbers of two vectors."""
    tiles.interleave.py_func(C.data, C.first, even, odd, columns)


@_word(_store_interleaved)
def store_interleaved(typing, C, even, odd, columns):
    def generate(context, builder, sig, args):
        view = parts(context, builder, C, args[0])
        _Words(context, builder, even).store_interleaved(view.data, *args[1:])
        return context.get_dummy_value()

    return types.void(C, even, odd, types.intp), generate


def _copy(target, source, columns):
    """target = a vector of the row where source begins: `columns` numbers of it, then zeros."""
    tiles.copy.py_func(target.data, target.first, source.data, source.first, columns)


@_word(_copy)
def copy(typing, target, source, columns):
    def generate(context, builder, sig, args):
        to, of = (parts(context, builder, *pair) for pair in zip(sig.args[:2], args[:2], strict=True))
        words = _Words(context, builder, Tile(source.dtype, 1, 1))
        words.store(words.row(of.data, 1, args[2], None)[0], to.data)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), generate


def _transpose(target, source, rows=None):
    """target[j, i] = source[i, j], i and j up to the numbers of a vector; from `rows` on the last row is repeated."""
    tiles.turn.py_func(target.data, target.first, target.row_stride, source.data, source.first, source.row_stride, rows)


@_word(_transpose)
def transpose(typing, target, source, rows=None):
    def generate(context, builder, sig, args):
        to, of = (parts(context, builder, *pair) for pair in zip(sig.args[:2], args[:2], strict=True))
        (count,) = _values(sig.args[2:], args[2:])
        words = _Words(context, builder, Tile(source.dtype, 1, 1))
        words.store_rows(to.data, to.row_stride, words.transposed(of.data, of.row_stride, count))
        return context.get_dummy_value()

    return types.void(target, source, *_optional(rows)), generate


# -- choice of a size --------------------------------------------------------------------------------------------------


def by_size(make, sizes):
    """A function (most, *arguments) that runs make(size) for the largest size up to `most`, and returns that size.

    `sizes` descend; the last one is taken without a comparison.
    """
    size, *smaller = sizes
    run = make(size)
    if not smaller:

        @inlined
        def last(most, *arguments):
            run(*arguments)
            return size

        return last
    others = by_size(make, smaller)

    @inlined
    def choose(most, *arguments):
        if most >= size:
            run(*arguments)
            return size
        return others(most, *arguments)

    return choose


def of_size(make, sizes):
    """A function (size, *arguments) that runs make(size) for a size that is one of `sizes`, the commonest first.

    The last one is taken without a comparison.
    """
    size, *others = sizes
    run = make(size)
    if not others:

        @inlined
        def last(wanted, *arguments):
            run(*arguments)

        return last
    run_other = of_size(make, others)

    @inlined
    def choose(wanted, *arguments):
        if wanted == size:
            run(*arguments)
        else:
            run_other(wanted, *arguments)

    return choose
