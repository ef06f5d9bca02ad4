"""The passes of pooling over a row of windows, on vectors: down the rows, along the columns, back to the cells.

`rows` are the rows of the map that the windows see: (offset of the first, planes, step, rows of a plane, step). The
first window begins at column `start` of a row of W, which may lie before it; all of them have `cells` columns. A
buffer T holds them: T[c] belongs to column start + c. Buffers have room for ROOM numbers.

The words on vectors at the beginning (`ramp`, `where_equal`, ...) extend those of tile.py.
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
    panel,
    store,
    strided,
    zero,
)

ROOM = 2048  # numbers of a buffer


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


def _where_equal(t, u, a, b):
    """a where t = u, else b."""
    return np.where(t == u, a, b)


def _where_top(t, top, a, b):
    """a where t is the same as the largest number of all, or NaN, else b."""
    return np.where((t == top) | (t != t), a, b)


def _top(builder, t, top):
    return builder.or_(builder.fcmp_ordered("==", t, top), builder.fcmp_unordered("uno", t, t))


def _times(t, u):
    """t u."""
    return t * u


def _over(t, u):
    """t / u."""
    with np.errstate(all="ignore"):
        return t / u


where_equal = _on_vectors(
    _where_equal, lambda builder, t, u, a, b: builder.select(builder.fcmp_ordered("==", t, u), a, b)
)
where_top = _on_vectors(_where_top, lambda builder, t, top, a, b: builder.select(_top(builder, t, top), a, b))
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
def _pair(P, rows, width, cells):
    """The mean (or with no cells the largest) of a vector of windows of two columns, of which `width` are read."""
    top = load(P, rows[0], 0, 1, 2, width, None)
    for d in range(rows[1]):
        for h in range(0 if d else 1, rows[3]):
            v = load(P, rows[0] + d * rows[2] + h * rows[4], 0, 1, 2, width, None)
            top = most(top, v) if cells == 0 else top + v
    first, second = halves(top)
    return most(first, second) if cells == 0 else over(first + second, ramp(P, cells, 0))


@inlined
def _room(rows, L, last):
    """Whether two vectors from the beginning of each of the rows lie before the end of the map."""
    return rows[0] + (rows[1] - 1) * rows[2] + (rows[3] - 1) * rows[4] + 2 * L <= last


@linked
def pairs(P: array, rows: 5, count, cells, last, Y: array, y, end):
    """`down` and `along` for windows of two columns side by side, all in the map, which ends before P[last].

    The mean of so many cells, or with none the largest.
    """
    L = lanes(P)
    if count < L and _room(rows, L, last):
        store(Y, y, 0, _pair(P, rows, None, cells), L if y + L <= end else count, None)
        return
    if count < L:
        store(Y, y, 0, _pair(P, rows, 2 * count, cells), L if y + L <= end else count, None)
        return
    for i in range(0, count, L):
        o = min(i, count - L)  # the last ones may begin earlier: some windows twice
        at = (rows[0] + 2 * o, rows[1], rows[2], rows[3], rows[4])
        store(Y, y + o, 0, _pair(P, at, None, cells), None, None)


@inlined
def _claim(P, rows, dP, top, delta, width, room):
    """dP = delta at the first number that is `top` of each window of a vector of pairs, 0 at the others."""
    rest, nothing = delta, zero(P, 1, 1)
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
def claim(P: array, rows: 5, count, last, dP: array, Y: array, dY: array, z):
    """dP = dY[z :] at the first Y[z :] in each of `count` windows as in `pairs`, 0 at the others.

    What is written behind a row belongs to the next one, which is written later; `last` is 0 where that is not so.
    """
    L = lanes(P)
    if count < L:
        top, delta = load(Y, z, 0, 1, 1, count, None), load(dY, z, 0, 1, 1, count, None)
        if _room(rows, L, last):
            _claim(P, rows, dP, top, delta, None, 2 * L)
        else:
            _claim(P, rows, dP, top, delta, 2 * count, 2 * count)
        return
    for i in range(0, count, L):
        o = min(i, count - L)
        at = (rows[0] + 2 * o, rows[1], rows[2], rows[3], rows[4])
        _claim(P, at, dP, load(Y, z + o, 0, 1, 1, None, None), load(dY, z + o, 0, 1, 1, None, None), None, 2 * L)


@linked
def divide(P: array, p, count, high, size, step, start, W, padded, Y: array, y, end):
    """Y[y + o] = P[p + o] / the cells of window o: `high` rows of all columns, or (not padded) of those in the map."""
    L = lanes(P)
    nothing, one = zero(P, 1, 1), ramp(P, 1, 0)
    for o in range(0, count, L):
        cell, columns = start + o * step, ramp(P, size, 0)
        if not padded:
            before, behind = ramp(P, -cell, -step), ramp(P, cell + size - W, step)
            columns = most(columns - most(nothing, before) - most(nothing, behind), one)
        whole = y + o + L <= end
        mean = over(load(P, p + o, 0, 1, 1, count - o, None), times(ramp(P, high, 0), columns))
        store(Y, y + o, 0, mean, L if whole else count - o, None)


@linked
def deal(dX: array, rows: 5, count, T: array):
    """dX = T[o] in every cell of each of `count` windows as in `pairs`."""
    L = lanes(T)
    for d in range(rows[1]):
        for h in range(rows[3]):
            at = rows[0] + d * rows[2] + h * rows[4]
            for i in range(0, count, L):
                o = min(i, max(0, count - L))
                t, width = load(T, o, 0, 1, 1, min(count, L), None), 2 * min(count, L)
                interleave(dX, at + 2 * o, t, t, width)


@inlined
def _place(P, p, rows, size, step, top, count, width, pairs):
    """How far behind its first cell the first one that is `top` lies, for a vector of `count` windows.

    `width` numbers are read of a vector, or `pairs` of two.
    """
    best = zero(P, 1, 1)
    for d in range(rows[1] - 1, -1, -1):
        for h in range(rows[3] - 1, -1, -1):
            far = d * rows[2] + h * rows[4] + size
            for _ in range(size):
                far -= 1
                if step == 1:
                    v = load(P, p + far, 0, 1, 1, width, None)
                elif step == 2:
                    v = halves(load(P, p + far, 0, 1, 2, pairs, None))[0]
                else:
                    v = strided(P, p + far, 0, step, count)
                best = where_top(v, top, ramp(P, far, 0), best)
    return best


@linked
def award(P: array, rows: 5, count, size, step, last, Y: array, dY: array, y, dX: array):
    """dX += dY[y + o] at the first cell that is Y[y + o] of each of `count` windows, all in the map.

    rows[0] is the first cell of the first window, P[last] lies behind the map.
    """
    L, T = lanes(P), panel(P, ROOM)
    for begin in range(0, count, ROOM):
        some = min(ROOM, count - begin)
        for i in range(0, some, L):
            o = begin + min(i, max(0, some - L))  # the last ones may begin earlier: some windows twice
            p, width = rows[0] + o * step, min(L, some)
            top = load(Y, y + o, 0, 1, 1, width, None)
            if width == L and p + (rows[1] - 1) * rows[2] + (rows[3] - 1) * rows[4] + size + step * L <= last:
                store(T, o - begin, 0, _place(P, p, rows, size, step, top, L, None, None), None, None)
            else:
                store(T, o - begin, 0, _place(P, p, rows, size, step, top, width, width, 2 * width - 1), None, None)
        for o in range(some):
            dX[rows[0] + (begin + o) * step + int(T[o])] += dY[y + begin + o]


@linked
def spread(Y: array, y, count, step, T: array, first, last):
    """T[first + o step] = Y[y + o], o < count, all else up to `last` = 0."""
    L = lanes(T)
    rest = zero(T, 1, 1)
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
def collect(dX: array, rows: 5, start, W, cells, G: array, size, end):
    """dX += what windows share: G, `spread` from the last column of the first one on. `end`: where the map ends."""
    L = lanes(dX)
    lo, hi = max(start, 0), min(start + cells, W)
    beyond = start + cells <= W  # behind the row's last cell the windows give nothing, unless they share with padding
    for c in range(lo, hi, L):
        i, share = c - start + size - 1, zero(dX, 1, 1)
        for w in range(size):
            share = share + load(G, i - w, 0, 1, 1, None, None)
        for d in range(rows[1]):
            for h in range(rows[3]):
                at = rows[0] + d * rows[2] + h * rows[4] + c
                width = L if beyond and at + L <= end else hi - c
                store(dX, at, 0, load(dX, at, 0, 1, 1, width, None) + share, width, None)
