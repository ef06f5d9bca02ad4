"""The three passes of pooling over a row of windows, on vectors: down the rows, along the columns, back to the cells.

`rows` are the rows of the map that the windows see: (offset of the first, planes, step, rows of a plane, step). The
first window begins at column `start` of a row of W, which may lie before it; all of them have `cells` columns. A
buffer T holds them: T[c] belongs to column start + c. Buffers have room for ROOM numbers.

The words on vectors at the beginning (`ramp`, `where_more`, ...) extend those of tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..compiler import array, inlined, linked
from .tile import (
    Tile,
    _lanes,
    _of_vectors,
    _word,
    _Words,
    halves,
    interleave,
    lanes,
    load,
    most,
    store,
    strided,
    where_same,
    zero,
)

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
def _fill(T, first, last, number):
    """T[first : last] = a vector of one number; what lies behind may be overwritten."""
    for c in range(first, last, lanes(T)):
        store(T, c, 0, number, None, None)


@inlined
def _border(T, largest):
    """What a column outside the map is: it never wins, or adds nothing."""
    return ramp(T, -np.inf, 0) if largest else zero(T, 1, 1)


@linked
def down(P: array, rows: 5, start, W, cells, T: array, largest):
    """T = the largest number (or the sum) of each column."""
    L = lanes(P)
    lo, hi, border = max(start, 0), min(start + cells, W), _border(P, largest)
    _fill(T, 0, lo - start, border)
    for c in range(lo, hi, L):
        top = border
        for d in range(rows[1]):
            for h in range(rows[3]):
                v = load(P, rows[0] + d * rows[2] + h * rows[4] + c, 0, 1, 1, hi - c, None)
                top = most(top, v) if largest else top + v
        store(T, c - start, 0, top, None, None)
    _fill(T, hi - start, cells + 2 * L, border)


@linked
def along(T: array, count, size, step, largest, Y: array, y, end):
    """Y[y :] = the largest number (or the sum) of each of `count` windows, `step` apart in T; `end`: of the map."""
    L = lanes(T)
    if step > 2:
        for o in range(count):
            total = T[o * step]
            for c in range(o * step + 1, o * step + size):
                larger = T[c] > total or (T[c] != T[c] and total == total)
                total = (T[c] if larger else total) if largest else total + T[c]
            Y[y + o] = total
        return
    for o in range(0, count, L):
        top = _border(T, largest)
        for w in range(0, size, step):
            c = o * step + w
            if step == 1:
                v = load(T, c, 0, 1, 1, None, None)
                top = most(top, v) if largest else top + v
            else:
                first, second = halves(load(T, c, 0, 1, 2, None, None))
                top = most(top, first) if largest else top + first
                if w + 1 < size:
                    top = most(top, second) if largest else top + second
        store(Y, y + o, 0, top, L if y + o + L <= end else count - o, None)


@inlined
def _pair(P, rows, width, largest):
    """The largest number (or the sum) of a vector of windows of two columns, of whose columns `width` are read."""
    top = load(P, rows[0], 0, 1, 2, width, None)
    for row in range(1, rows[1] * rows[3]):
        v = load(P, rows[0] + row // rows[3] * rows[2] + row % rows[3] * rows[4], 0, 1, 2, width, None)
        top = most(top, v) if largest else top + v
    first, second = halves(top)
    return most(first, second) if largest else first + second


@inlined
def _room(rows, L, last):
    """Whether two vectors from the beginning of each of the rows lie before the end of the map."""
    return rows[0] + (rows[1] - 1) * rows[2] + (rows[3] - 1) * rows[4] + 2 * L <= last


@linked
def pairs(P: array, rows: 5, count, largest, last, Y: array, y, end):
    """`down` and `along` for windows of two columns side by side, all in the map, which ends before P[last]."""
    L = lanes(P)
    if count < L and _room(rows, L, last):
        store(Y, y, 0, _pair(P, rows, None, largest), L if y + L <= end else count, None)
        return
    if count < L:
        store(Y, y, 0, _pair(P, rows, 2 * count, largest), L if y + L <= end else count, None)
        return
    for i in range(0, count, L):
        o = min(i, count - L)  # the last ones may begin earlier: some windows twice
        at = (rows[0] + 2 * o, rows[1], rows[2], rows[3], rows[4])
        store(Y, y + o, 0, _pair(P, at, None, largest), None, None)


@inlined
def _claim(P, rows, dP, delta, width, room):
    """dP = delta at the first largest number of each window of a vector of pairs, 0 at the others."""
    top, rest, nothing = _pair(P, rows, width, 1), delta, zero(P, 1, 1)
    for d in range(rows[1]):
        for h in range(rows[3]):
            at = rows[0] + d * rows[2] + h * rows[4]
            left, right = halves(load(P, at, 0, 1, 2, width, None))
            first = where_top(left, top, rest, nothing)
            rest = where_top(left, top, nothing, rest)
            second = where_top(right, top, rest, nothing)
            rest = where_top(right, top, nothing, rest)
            interleave(dP, at, first, second, room)


@linked
def claim(P: array, rows: 5, count, last, dP: array, dY: array, z):
    """dP = dY[z :] at the first largest number of each of `count` windows as in `pairs`, 0 at the others.

    What is written behind a row belongs to the next one, which is written later; `last` is 0 where that is not so.
    """
    L = lanes(P)
    if count < L and _room(rows, L, last):
        _claim(P, rows, dP, load(dY, z, 0, 1, 1, count, None), None, 2 * L)
        return
    if count < L:
        _claim(P, rows, dP, load(dY, z, 0, 1, 1, count, None), 2 * count, 2 * count)
        return
    for i in range(0, count, L):
        o = min(i, count - L)
        at = (rows[0] + 2 * o, rows[1], rows[2], rows[3], rows[4])
        _claim(P, at, dP, load(dY, z + o, 0, 1, 1, None, None), None, 2 * L)


@linked
def divide(P: array, p, count, high, size, step, start, W, padded, Y: array, y, end):
    """Y[y + o] = P[p + o] / the cells of window o: `high` rows of all columns, or (not padded) of those in the map."""
    L = lanes(P)
    nothing, one = zero(P, 1, 1), ramp(P, 1, 0)
    for o in range(0, count, L):
        cell, columns = start + o * step, ramp(P, size, 0)
        if not padded:
            before, behind = ramp(P, -cell, -step), ramp(P, cell + size - W, step)
            columns = most(minus(minus(columns, most(nothing, before)), most(nothing, behind)), one)
        whole = y + o + L <= end
        mean = over(load(P, p + o, 0, 1, 1, count - o, None), times(ramp(P, high, 0), columns))
        store(Y, y + o, 0, mean, L if whole else count - o, None)


@linked
def deal(dX: array, rows: 5, count, T: array):
    """dX = T[o] in every cell of each of `count` windows as in `pairs`."""
    L = lanes(T)
    for row in range(rows[1] * rows[3]):
        at = rows[0] + row // rows[3] * rows[2] + row % rows[3] * rows[4]
        for i in range(0, count, L):
            o = min(i, max(0, count - L))
            t, width = load(T, o, 0, 1, 1, min(count, L), None), 2 * min(count, L)
            interleave(dX, at + 2 * o, t, t, width)


@linked
def highest_down(P: array, rows: 5, start, W, cells, T: array, R: array, size):
    """`down` for maxima; R = the number of the first cell of the row they came from, rows having `size` cells."""
    L = lanes(P)
    lo, hi, border, far = max(start, 0), min(start + cells, W), ramp(P, -np.inf, 0), ramp(P, FAR, 0)
    _fill(T, 0, lo - start, border)
    _fill(R, 0, lo - start, far)
    for c in range(lo, hi, L):
        top, first, k = border, zero(P, 1, 1), 0
        for d in range(rows[1]):
            for h in range(rows[3]):
                v = load(P, rows[0] + d * rows[2] + h * rows[4] + c, 0, 1, 1, hi - c, None)
                first = where_more(top, v, ramp(P, k, 0), first)
                top = most(top, v)
                k += size
        store(T, c - start, 0, top, None, None)
        store(R, c - start, 0, first, None, None)
    _fill(T, hi - start, cells + 2 * L, border)
    _fill(R, hi - start, cells + 2 * L, far)


@linked
def highest_along(T: array, R: array, count, size, step, column, B: array):
    """B = the number of the first largest cell of each of `count` windows, the first of which begins in `column`."""
    L = lanes(T)
    for o in range(0, count, L):
        top = ramp(T, -np.inf, 0)
        best = most(zero(T, 1, 1), ramp(T, -column - o * step, -step))  # the first in the map, if none exceeds -inf
        for w in range(size):
            c = o * step + w
            if step == 1:
                v, k = load(T, c, 0, 1, 1, None, None), load(R, c, 0, 1, 1, None, None)
            elif step == 2:
                v = halves(load(T, c, 0, 1, 2, None, None))[0]
                k = halves(load(R, c, 0, 1, 2, None, None))[0]
            else:
                v, k = strided(T, c, 0, step, L), strided(R, c, 0, step, L)
            k = k + ramp(T, w, 0)
            best = where_same(top, v, least(best, k), where_more(top, v, k, best))
            top = most(top, v)
        store(B, o, 0, best, None, None)


@linked
def spread(Y: array, y, count, step, T: array, first, last, between):
    """T[first + o step] = Y[y + o], o < count, all else up to `last` = `between`."""
    L = lanes(T)
    rest = ramp(T, between, 0)
    if step == 2:
        _fill(T, 0, first, rest)
        for o in range(0, count, L):
            interleave(T, first + 2 * o, load(Y, y + o, 0, 1, 1, count - o, None), rest, 2 * L)
        _fill(T, first + 2 * count, last, rest)
        return
    _fill(T, 0, last, rest)
    for o in range(count):
        T[first + o * step] = Y[y + o]


@linked
def collect(dX: array, rows: 5, start, W, cells, B: array, G: array, size, shared, end):
    """dX += what windows give: G, `spread` from the last column of the first one on, where B names the cell.

    If it is shared, every cell of a window gets it. `end`: where the map ends. Behind the row's last cell the windows
    give nothing, unless they share with padding.
    """
    L = lanes(dX)
    lo, hi = max(start, 0), min(start + cells, W)
    beyond = not shared or start + cells <= W
    for c in range(lo, hi, L):
        i, share = c - start + size - 1, zero(dX, 1, 1)
        for w in range(size if shared else 0):
            share = share + load(G, i - w, 0, 1, 1, None, None)
        for row in range(rows[1] * rows[3]):
            given, at = share, rows[0] + row // rows[3] * rows[2] + row % rows[3] * rows[4] + c
            for w in range(0 if shared else size):
                delta, best = load(G, i - w, 0, 1, 1, None, None), load(B, i - w, 0, 1, 1, None, None)
                given = given + where_equal(best, ramp(dX, row * size + w, 0), delta, zero(dX, 1, 1))
            width = L if beyond and at + L <= end else hi - c
            store(dX, at, 0, load(dX, at, 0, 1, 1, width, None) + given, width, None)
