"""Words for windows that slide along a row: one vector holds the same cell of as many neighbouring windows.

Window o begins at cell o s - before of its row, so the cells of `lanes` windows that follow each other lie s apart.
Those before the row's first number and behind its last are its border: the words know it, kernels have no case for it.
With a step of 2, the usual one, a window's cell and the next lie in the same two vectors, which are loaded and taken
apart, where a gather would fetch number by number.

The words on vectors at the end (`top`, `where_more`, ...) extend those of tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..compiler import helper
from .tile import Tile, _lanes, _of_vectors, _word, _Words


def _ramp(like, start, step):
    """The vector start, start + step, ..."""
    return (
        start + step * np.arange(_lanes(like), dtype=like.dtype)[None] if step else np.full((1, _lanes(like)), start)
    ).astype(like.dtype)


def _pick(P, row, cell, size, fixed, step, border):
    """Numbers cell, cell + step, ... of the row of `size` that begins at P[row]; of a step of 2 also those between.

    What lies outside the row is not read: there the numbers are those of the vector `border`. A step of 1 or 2 is given
    as the literal `fixed`, any other as 0 and `step`. There are always two vectors, the second of use for 2 alone.
    """
    P, found = P.reshape(-1), (border.copy(), border.copy())
    for between in range(1 + (fixed == 2)):
        for k in range(border.size):
            at = cell + between + k * (fixed or step)
            if 0 <= at < size:
                found[between][0, k] = P[row + at]
    return found


def _give(P, row, cell, size, fixed, step, t, u):
    """Add t to the numbers cell, cell + step, ... of the row (see `pick`); of a step of 2 also u to those between."""
    P = P.reshape(-1)
    for between in range(1 + (fixed == 2)):
        for k in range(t.size):
            at = cell + between + k * (fixed or step)
            if 0 <= at < size:
                P[row + at] += (t, u)[between][0, k]


class _Row(_Words):
    """LLVM for the cells of a row."""

    def lane(self, start, step=None):
        """start + k step for each lane k as whole numbers of 32 bits: distances in a row."""
        n, number = self.kind.lanes, ir.IntType(32)
        numbers = ir.VectorType(number, n)
        spread = [
            self._same(self.builder.trunc(value, number), numbers) for value in (start, step) if value is not None
        ]
        lanes = ir.Constant(numbers, list(range(n)))
        return self.builder.add(spread[0], self.builder.mul(lanes, spread[1]) if step is not None else lanes)

    def _same(self, number, kind):
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))

    def inside(self, cell, size):
        """Which cells lie in the row: those before it are huge as unsigned numbers."""
        return self.builder.icmp_unsigned("<", cell, self._same(self.builder.trunc(size, ir.IntType(32)), cell.type))

    def vector_at(self, pointer):
        return self.builder.bitcast(pointer, self.vector.as_pointer())

    def some(self, pointer, mask, border):
        """The numbers of a vector in memory where the mask is set, elsewhere those of `border`."""
        return self._masked("load", self.vector, [self.vector_at(pointer), ir.IntType(32)(self.bytes), mask, border])

    def add_all(self, values, pointer, cell, size):
        """Add vectors that follow each other to the cells of a row: to all, or to those that it has.

        What a store with a mask writes reaches a load only by way of the cache.
        """
        n, builder = self.kind.lanes, self.builder
        last = builder.add(cell, cell.type(len(values) * n))
        inside = builder.and_(builder.icmp_signed(">=", cell, cell.type(0)), builder.icmp_signed("<=", last, size))
        with builder.if_else(inside) as (all_of_them, some):
            with all_of_them:
                for k, value in enumerate(values):
                    self.store(builder.fadd(self.load(pointer, k), value), pointer, k)
            with some:
                for k, value in enumerate(values):
                    place, first = builder.gep(pointer, [cell.type(k * n)]), builder.add(cell, cell.type(k * n))
                    mask, align = self.inside(self.lane(first), size), ir.IntType(32)(self.bytes)
                    total = builder.fadd(self.some(place, mask, ir.Constant(self.vector, None)), value)
                    self._masked("store", ir.VoidType(), [total, self.vector_at(place), align, mask])

    def sieve(self, what, places, mask, value):
        """Gather where the mask is set, else the value; or scatter the value there."""
        n, align = self.kind.lanes, ir.IntType(32)(self.bytes)
        name = f"llvm.masked.{what}.v{n}f{self.bytes * 8}.v{n}p0"
        if what == "gather":
            return self._call(name, self.vector, [places, align, mask, value])
        return self._call(name, ir.VoidType(), [value, places, align, mask])

    def mixed(self, t, u, order):
        return self.builder.shuffle_vector(t, u, ir.Constant(ir.VectorType(ir.IntType(32), self.kind.lanes), order))


@_word(_ramp)
def ramp(typing, like, start, step):
    kind = Tile(like.dtype, 1, 1)

    def generate(context, builder, sig, args):
        words = _Words(context, builder, kind)
        start, step = (
            words.splat(context.cast(builder, a, k, kind.real)) for a, k in zip(args[1:], sig.args[1:], strict=True)
        )
        lanes = ir.Constant(words.vector, [float(k) for k in range(kind.lanes)])
        value = builder.fadd(start, builder.fmul(lanes, step))
        return builder.insert_value(ir.Constant(context.get_value_type(kind), ir.Undefined), value, 0)

    return kind(like, types.unliteral(start), types.unliteral(step)), generate


@_word(_pick)
def pick(typing, P, row, cell, size, fixed, step, border):
    if not isinstance(fixed, types.IntegerLiteral):
        return None
    pair = types.UniTuple(border, 2)

    def generate(context, builder, sig, args):
        words, n = _Row(context, builder, border), border.lanes
        _, row, cell, size, _, step, rest = args
        rest, at = builder.extract_value(rest, 0), words.at(P, args[0], builder.add(row, cell))
        if fixed.literal_value == 2:
            halves = []
            for half in range(2):
                mask = words.inside(words.lane(builder.add(cell, cell.type(half * n))), size)
                order = [half * n // 2 + k // 2 for k in range(n)]  # the border's numbers where they will end up
                halves.append(words.some(builder.gep(at, [cell.type(half * n)]), mask, words.mixed(rest, rest, order)))
            found = [words.mixed(*halves, [2 * k + odd for k in range(n)]) for odd in range(2)]
        else:
            mask = words.inside(words.lane(cell, None if fixed.literal_value else step), size)
            if fixed.literal_value:
                found = [words.some(at, mask, rest)] * 2
            else:
                found = [words.sieve("gather", words._places(at, step), mask, rest)] * 2
        tile = ir.Constant(context.get_value_type(border), ir.Undefined)
        return context.make_tuple(builder, pair, [builder.insert_value(tile, value, 0) for value in found])

    return pair(P, types.intp, types.intp, types.intp, fixed, types.intp, border), generate


@_word(_give)
def give(typing, P, row, cell, size, fixed, step, t, u):
    if not isinstance(fixed, types.IntegerLiteral):
        return None

    def generate(context, builder, sig, args):
        words, n = _Row(context, builder, t), t.lanes
        _, row, cell, size, _, step = args[:6]
        pair, at = [builder.extract_value(a, 0) for a in args[6:]], words.at(P, args[0], builder.add(row, cell))
        if fixed.literal_value == 2:
            orders = ([half * n // 2 + k // 2 + k % 2 * n for k in range(n)] for half in range(2))
            words.add_all([words.mixed(*pair, order) for order in orders], at, cell, size)
        elif fixed.literal_value == 1:
            words.add_all(pair[:1], at, cell, size)
        else:
            mask, places = words.inside(words.lane(cell, step), size), words._places(at, step)
            old = words.sieve("gather", places, mask, ir.Constant(words.vector, None))
            words.sieve("scatter", places, mask, builder.fadd(old, pair[0]))
        return context.get_dummy_value()

    return types.void(P, types.intp, types.intp, types.intp, fixed, types.intp, t, u), generate


@helper
def cells(P, row, cell, size, step, border):
    """`pick` for any step."""
    if step == 1:
        return pick(P, row, cell, size, 1, 1, border)
    if step == 2:
        return pick(P, row, cell, size, 2, 2, border)
    return pick(P, row, cell, size, 0, step, border)


@helper
def add_cells(P, row, cell, size, step, t, u):
    """`give` for any step."""
    if step == 1:
        give(P, row, cell, size, 1, 1, t, u)
    elif step == 2:
        give(P, row, cell, size, 2, 2, t, u)
    else:
        give(P, row, cell, size, 0, step, t, u)


def _on_vectors(plain, rule):
    """A word that makes one tile of several, number by number."""

    def two(typing, t, u):
        return _of_vectors(rule)(typing, (t, u))

    def four(typing, t, u, a, b):
        return _of_vectors(rule)(typing, (t, u, a, b))

    return _word(plain)({2: two, 4: four}[plain.__code__.co_argcount])


def _more(builder, t, u):
    return builder.and_(builder.fcmp_unordered(">", u, t), builder.fcmp_ordered("ord", t, t))


def _shifted(builder, t, u):
    n = t.type.count
    order = ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(n - 1, 2 * n - 1)))
    return builder.shuffle_vector(t, u, order)


def _later(t, u):
    """u one place later: its first number is the last of t."""
    return np.concatenate((t[:, -1:], u[:, :-1]), axis=1)


def _where_more(t, u, a, b):
    """a where u is larger than t or the first NaN, else b."""
    return np.where((u > t) | ((u != u) & (t == t)), a, b)


def _where_equal(t, u, a, b):
    """a where t = u, else b."""
    return np.where(t == u, a, b)


def _minus(t, u):
    """t - u."""
    return t - u


def _times(t, u):
    """t u."""
    return t * u


def _over(t, u):
    """t / u."""
    with np.errstate(all="ignore"):
        return t / u


where_more = _on_vectors(_where_more, lambda builder, t, u, a, b: builder.select(_more(builder, t, u), a, b))
where_equal = _on_vectors(
    _where_equal, lambda builder, t, u, a, b: builder.select(builder.fcmp_ordered("==", t, u), a, b)
)
minus = _on_vectors(_minus, lambda builder, t, u: builder.fsub(t, u))
times = _on_vectors(_times, lambda builder, t, u: builder.fmul(t, u))
over = _on_vectors(_over, lambda builder, t, u: builder.fdiv(t, u))
later = _on_vectors(_later, _shifted)


def _highest(t):
    """The largest number of a vector, NaN aside."""
    return np.fmax.reduce(t, axis=None)


@_word(_highest)
def highest(typing, t):
    def generate(context, builder, sig, args):
        words = _Words(context, builder, t)
        name = f"llvm.vector.reduce.fmax.v{t.lanes}f{words.bytes * 8}"
        return words._call(name, words.vector.element, [builder.extract_value(args[0], 0)])

    return t.real(t), generate
