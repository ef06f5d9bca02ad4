"""The three passes of pooling over a row of windows, on vectors: down the rows, along the columns, back to the cells.

`rows` are the rows of the map that the windows see: (offset of the first, planes, step, rows of a plane, step). The
first window begins at column `start` of a row of W, which may lie before it; all of them have `cells` columns. A
buffer T holds them: T[c] belongs to column start + c. Buffers have room for ROOM numbers.

The words on vectors at the beginning (`ramp`, `where_more`, ...) extend those of tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..compiler import inlined
from .tile import Tile, _lanes, _of_vectors, _word, _Words, halves, interleave, lanes, load, most, store, strided
from .tile import where_same, zero

ROOM = 2048  # numbers of a buffer
FAR = 1e30  # the row number of a column that is not there


def _ramp(like, start, step):
    """The vector start, start + step, ..."""
    return (
        start + step * np.arange(_lanes(like), dtype=like.dtype)[None] if step else np.full((1, _lanes(like)), start)
    ).astype(like.dtype)


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


def _on_vectors(plain, rule):
    """A word that makes one tile of several, number by number."""

    def two(typing, t, u):
        return _of_vectors(rule)(typing, (t, u))

    def four(typing, t, u, a, b):
        return _of_vectors(rule)(typing, (t, u, a, b))

    return _word(plain)({2: two, 4: four}[plain.__code__.co_argcount])


def _more(builder, t, u):
    return builder.and_(builder.fcmp_unordered(">", u, t), builder.fcmp_ordered("ord", t, t))


def _where_more(t, u, a, b):
    """a where u is larger than t or the first NaN, else b."""
    return np.where((u > t) | ((u != u) & (t == t)), a, b)


def _where_equal(t, u, a, b):
    """a where t = u, else b."""
    return np.where(t == u, a, b)


def _where_top(t, top, a, b):
    """a where t is the same as the largest number of all, or NaN, else b."""
    return np.where((t == top) | (t != t), a, b)


def _top(builder, t, top):
    return builder.or_(builder.fcmp_ordered("==", t, top), builder.fcmp_unordered("uno", t, t))


def _least(t, u):
    """The smaller of two vectors, number by number; neither is NaN."""
    return np.minimum(t, u)


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
where_top = _on_vectors(_where_top, lambda builder, t, top, a, b: builder.select(_top(builder, t, top), a, b))
least = _on_vectors(_least, lambda builder, t, u: builder.select(builder.fcmp_ordered("<", u, t), u, t))
minus = _on_vectors(_minus, lambda builder, t, u: builder.fsub(t, u))
times = _on_vectors(_times, lambda builder, t, u: builder.fmul(t, u))
over = _on_vectors(_over, lambda builder, t, u: builder.fdiv(t, u))


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


# -- the passes --------------------------------------------------------------------------------------------------------


@inlined
def wipe(T, count, value):
    """T[: count] = value; up to a vector more."""
    number = ramp(T, value, 0)
    for c in range(0, count, lanes(T)):
        store(T, c, 0, number, None, None)


@inlined
def _outside(T, first, last, value):
    """T[first : last] = value; what lies behind may be overwritten."""
    number = ramp(T, value, 0)
    for c in range(first, last, lanes(T)):
        store(T, c, 0, number, None, None)


@inlined
def down(P, rows, start, W, cells, T, border, largest):
    """T = the largest number (or the sum) of each column; columns outside the map are `border`."""
    L = lanes(P)
    lo, hi = max(start, 0), min(start + cells, W)
    _outside(T, 0, lo - start, border)
    for c in range(lo, hi, L):
        top = ramp(P, border, 0)
        for d in range(rows[1]):
            for h in range(rows[3]):
                v = load(P, rows[0] + d * rows[2] + h * rows[4] + c, 0, 1, 1, hi - c, None)
                top = most(top, v) if largest else top + v
        store(T, c - start, 0, top, None, None)
    _outside(T, hi - start, cells + 2 * L, border)


@inlined
def along(T, c, size, step, largest):
    """The largest number (or the sum) of a vector of windows, `step` apart, the first of which begins at T[c]."""
    if step == 2:
        top, second = halves(load(T, c, 0, 1, 2, None, None))
        if size > 1:
            top = most(top, second) if largest else top + second
        for w in range(2, size, 2):
            first, second = halves(load(T, c + w, 0, 1, 2, None, None))
            top = most(top, first) if largest else top + first
            if w + 1 < size:
                top = most(top, second) if largest else top + second
        return top
    top = _cells(T, c, step)
    for w in range(1, size):
        v = _cells(T, c + w, step)
        top = most(top, v) if largest else top + v
    return top


@inlined
def _cells(T, c, step):
    """T[c], T[c + step], ..., a vector of them."""
    if step == 1:
        return load(T, c, 0, 1, 1, None, None)
    if step == 2:
        return halves(load(T, c, 0, 1, 2, None, None))[0]
    return strided(T, c, 0, step, lanes(T))


@inlined
def pairs(P, rows, width, largest):
    """The largest number (or the sum) of a vector of windows of two columns, from the first of `rows` on.

    Windows lie within the map; of their columns `width` are read, or all.
    """
    top = load(P, rows[0], 0, 1, 2, width, None)
    for row in range(1, rows[1] * rows[3]):
        v = load(P, rows[0] + row // rows[3] * rows[2] + row % rows[3] * rows[4], 0, 1, 2, width, None)
        top = most(top, v) if largest else top + v
    first, second = halves(top)
    return most(first, second) if largest else first + second


@inlined
def claim(P, rows, dP, delta, width, room):
    """dP = delta at the first largest number of each window of two columns (as `pairs`), 0 at the others; `room` are
    written of a row."""
    top, rest, nothing = pairs(P, rows, width, 1), delta, zero(P, 1, 1)
    for d in range(rows[1]):
        for h in range(rows[3]):
            at = rows[0] + d * rows[2] + h * rows[4]
            left, right = halves(load(P, at, 0, 1, 2, width, None))
            first = where_top(left, top, rest, nothing)
            rest = where_top(left, top, nothing, rest)
            second = where_top(right, top, rest, nothing)
            rest = where_top(right, top, nothing, rest)
            interleave(dP, at, first, second, room)


@inlined
def highest_down(P, rows, start, W, cells, T, R, size):
    """`down` for maxima; R = the number of the first cell of the row they came from, rows having `size` cells."""
    L = lanes(P)
    lo, hi = max(start, 0), min(start + cells, W)
    _outside(T, 0, lo - start, -np.inf)
    _outside(R, 0, lo - start, FAR)
    for c in range(lo, hi, L):
        top, first, k = ramp(P, -np.inf, 0), zero(P, 1, 1), 0
        for d in range(rows[1]):
            for h in range(rows[3]):
                v = load(P, rows[0] + d * rows[2] + h * rows[4] + c, 0, 1, 1, hi - c, None)
                first = where_more(top, v, ramp(P, k, 0), first)
                top = most(top, v)
                k += size
        store(T, c - start, 0, top, None, None)
        store(R, c - start, 0, first, None, None)
    _outside(T, hi - start, cells + 2 * L, -np.inf)
    _outside(R, hi - start, cells + 2 * L, FAR)


@inlined
def highest_along(T, R, c, size, step, column):
    """The number of the first largest cell of a vector of windows; the first of them begins at T[c], in `column`."""
    top = ramp(T, -np.inf, 0)
    best = most(zero(T, 1, 1), ramp(T, -column, -step))  # the first cell in the map, if none is more than -inf
    for w in range(size):
        v, k = _cells(T, c + w, step), _cells(R, c + w, step) + ramp(T, w, 0)
        best = where_same(top, v, least(best, k), where_more(top, v, k, best))
        top = most(top, v)
    return best


@inlined
def spread(T, c, step, t, width, between):
    """T[c], T[c + step], ... = the first `width` numbers of t, apart from others that are all `between`."""
    L = lanes(T)
    if step == 1:
        store(T, c, 0, t, None, None)
    elif step == 2:
        interleave(T, c, t, ramp(T, between, 0), 2 * L)
    else:
        store(T, ROOM - L, 0, t, None, None)
        for j in range(min(width, L)):
            T[c + j * step] = T[ROOM - L + j]


@inlined
def collect(dX, rows, start, W, cells, B, G, size, end):
    """dX += what windows give: G, as `spread` from the last column of the first one on, where B names the cell.

    With a negative size every cell of a window gets its share. `end`: where the map ends. Behind the row's last cell
    the windows give nothing, unless they share what they have with padding.
    """
    L = lanes(dX)
    lo, hi = max(start, 0), min(start + cells, W)
    over_end = size > 0 or start + cells <= W
    for c in range(lo, hi, L):
        share, k = zero(dX, 1, 1), 0
        for w in range(-size):
            share = share + load(G, c - start - w - size - 1, 0, 1, 1, None, None)
        for d in range(rows[1]):
            for h in range(rows[3]):
                given, at = share, rows[0] + d * rows[2] + h * rows[4] + c
                for w in range(size):
                    i = c - start - w + size - 1
                    delta, best = load(G, i, 0, 1, 1, None, None), load(B, i, 0, 1, 1, None, None)
                    given = given + where_equal(best, ramp(dX, k + w, 0), delta, zero(dX, 1, 1))
                k += size
                width = L if over_end and at + L <= end else hi - c
                store(dX, at, 0, load(dX, at, 0, 1, 1, width, None) + given, width, None)
