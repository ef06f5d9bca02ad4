"""The passes of pooling, on vectors of windows: down and along, the largest, pairs of columns, and back to the cells.

`rows` are the rows of the map that a row of windows sees: (offset of the first, planes, step, rows of a plane, step).
The first window begins at column `start` of a row of W, which may lie before it; all of them have `cells` columns. A
row in the buffer T begins with column `start`. Buffers have room for ROOM numbers.

The words on vectors at the beginning (`ramp`, `where_equal`, ...) extend those of tile.py.
"""

import numpy as np
from llvmlite import ir
from numba import types

from ..compiler.kernel import array, inlined, linked
from .tile import Tile, _lanes, _of_vectors, _word, _Words, halves, interleave, lanes, load, most, store, strided, zero

ROOM = 2048  # numbers of a buffer


def _ramp(like, start, step):
    """The vector start, start + step, ..."""
    return (
        start + step * np.arange(_lanes(like), dtype=like.dtype)[None] if step else np.full((1, _lanes(like)), start)
    ).astype(like.dtype)


@_word(_ramp)
def ramp(typing, like, start, step):
    kind = Tile(like.dtype, 1, 1)
    level = isinstance(step, types.IntegerLiteral) and step.literal_value == 0

    def generate(context, builder, sig, args):
        words = _Words(context, builder, kind)
        start, step = (
            words.splat(context.cast(builder, a, k, kind.real)) for a, k in zip(args[1:], sig.args[1:], strict=True)
        )
        lanes = ir.Constant(words.vector, [float(k) for k in range(kind.lanes)])
        value = start if level else builder.fadd(start, builder.fmul(lanes, step))
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


def _where_beats(t, top, a, b):
    """a where t is larger than the largest number up to now, or the first NaN, else b."""
    return np.where((t > top) | ((t != t) & (top == top)), a, b)


def _beats(builder, t, top):
    return builder.and_(builder.fcmp_unordered(">", t, top), builder.fcmp_ordered("ord", top, top))


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
where_beats = _on_vectors(_where_beats, lambda builder, t, top, a, b: builder.select(_beats(builder, t, top), a, b))
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


@linked
def down(P: array, rows: 5, start, W, cells, last, T: array, t):
    """T[t :] = the sum of each column. P[last] lies behind the map."""
    L = lanes(P)
    lo, hi, nothing = max(start, 0), min(start + cells, W), zero(P, 1, 1)
    bottom = rows[0] + (rows[1] - 1) * rows[2] + (rows[3] - 1) * rows[4]
    _fill(T, t, t + lo - start, nothing)
    for c in range(lo, hi, L):
        total, width = nothing, L if bottom + c + L <= last else hi - c
        for d in range(rows[1]):
            for h in range(rows[3]):
                total = total + load(P, rows[0] + d * rows[2] + h * rows[4] + c, 0, 1, 1, width, None)
        store(T, t + c - start, 0, total, None, None)
    _fill(T, t + hi - start, t + cells + 2 * L, nothing)


@linked
def along(T: array, t, count, size, step, Y: array, y, end):
    """Y[y :] = the sum of each of `count` windows, `step` apart in T[t :]; what is written ends before Y[end]."""
    L = lanes(T)
    if step > 2:
        for o in range(count):
            total = T[t + o * step]
            for c in range(o * step + 1, o * step + size):
                total += T[t + c]
            Y[y + o] = total
        return
    for o in range(0, count, L):
        total = zero(T, 1, 1)
        for w in range(0, size, step):
            if step == 1:
                total = total + load(T, t + o + w, 0, 1, 1, None, None)
            else:
                first, second = halves(load(T, t + 2 * o + w, 0, 1, 2, None, None))
                total = total + first
                if w + 1 < size:
                    total = total + second
        store(Y, y + o, 0, total, L if y + o + L <= end else count - o, None)


@linked
def lay(P: array, map, image: 3, first: 3, shape: 3, T: array):
    """T = a piece of the map at P[map], with -inf outside of it: `shape` cells from the cell `first` on, row by row."""
    L = lanes(P)
    d0, h0, w0 = max(first[0], 0), max(first[1], 0), max(first[2], 0)
    d1, h1 = min(first[0] + shape[0], image[0]), min(first[1] + shape[1], image[1])
    count = min(first[2] + shape[2], image[2]) - w0
    if (d1 - d0) * (h1 - h0) * count < shape[0] * shape[1] * shape[2]:
        _fill(T, 0, shape[0] * shape[1] * shape[2], ramp(P, -np.inf, 0))
    for d in range(d0, d1):
        for h in range(h0, h1):
            p = map + (d * image[1] + h) * image[2] + w0
            t = ((d - first[0]) * shape[1] + h - first[1]) * shape[2] + w0 - first[2]
            if count < L:
                store(T, t, 0, load(P, p, 0, 1, 1, count, None), count, None)
            else:
                for c in range(0, count, L):
                    o = min(c, count - L)
                    store(T, t + o, 0, load(P, p + o, 0, 1, 1, None, None), None, None)


@inlined
def _step(v, far, top, best):
    """The larger of `top` and v, which is `far` from the window's first cell, and how far it is."""
    return where_beats(v, top, v, top), where_beats(v, top, far, best)


@inlined
def _largest(T, t, shape, size, step, image, nearest):
    """The largest of a vector of windows, `step` apart, the first at T[t], and how far its cell is from the first.

    `nearest` is how far the first one in the map is: in the usual windows (literals) all loops are unrolled.
    """
    top, best = ramp(T, -np.inf, 0), nearest
    for d in range(size[0]):
        for h in range(size[1]):
            c, far = t + (d * shape[1] + h) * shape[2], ramp(T, (d * image[1] + h) * image[2], 0)
            for w in range(0, size[2], 2):
                right = far + ramp(T, w + 1, 0)
                if step == 2:
                    v, u = halves(load(T, c + w, 0, 1, 2, None, None))
                elif step == 1:
                    v, u = load(T, c + w, 0, 1, 1, None, None), load(T, c + w + 1, 0, 1, 1, None, None)
                else:
                    L = lanes(T)
                    v, u = strided(T, c + w, 0, step, L), strided(T, c + w + 1, 0, step, L)
                top, best = _step(v, far + ramp(T, w, 0), top, best)
                if w + 1 < size[2]:
                    top, best = _step(u, right, top, best)
    return top, best


@linked
def tops(T: array, shape: 3, size: 3, stride: 3, image: 3, first: 3, count: 2, pitch, Y: array, Z: array, y, end):
    """Y[y :] = the largest number of each window of the piece in T, Z = its number in the map, which is an `image`.

    The windows are `count` rows, `pitch` apart in Y, of so many; `first` is the first one's first cell. What a row
    writes too much belongs to the next one, and ends before Y[end].
    """
    L = lanes(T)
    for oh in range(count[0]):
        d, h = first[0], first[1] + oh * stride[1]
        number = (d * image[1] + h) * image[2] + first[2]
        inside = (max(-d, 0) * image[1] + max(-h, 0)) * image[2]
        for o in range(0, count[1], L):
            w, t, z = first[2] + o * stride[2], oh * stride[1] * shape[2] + o * stride[2], y + oh * pitch + o
            nearest = ramp(T, inside, 0) + most(ramp(T, -w, -stride[2]), zero(T, 1, 1))
            if size[0] == 1 and size[1] == 3 and size[2] == 3 and stride[2] == 2:
                top, best = _largest(T, t, shape, (1, 3, 3), 2, image, nearest)
            elif size[0] == 1 and size[1] == 3 and size[2] == 3 and stride[2] == 1:
                top, best = _largest(T, t, shape, (1, 3, 3), 1, image, nearest)
            elif stride[2] == 1:
                top, best = _largest(T, t, shape, size, 1, image, nearest)
            elif stride[2] == 2:
                top, best = _largest(T, t, shape, size, 2, image, nearest)
            else:
                top, best = _largest(T, t, shape, size, stride[2], image, nearest)
            width = L if z + L <= end else count[1] - o
            store(Y, z, 0, top, width, None)
            store(Z, z, 0, best + ramp(T, number + o * stride[2], stride[2]), width, None)


# Windows of two columns side by side, all in the map: a plane of them at a time, in vectors of pairs.


@inlined
def _room(rows, L, last):
    """Whether two vectors from the beginning of each of the rows lie before the end of the map."""
    return rows[0] + (rows[1] - 1) * rows[2] + (rows[3] - 1) * rows[4] + 2 * L <= last


@inlined
def _mean_pair(P, rows, width):
    """The mean of a vector of windows, of which `width` numbers are read."""
    total = zero(P, 1, 2)
    for d in range(rows[1]):
        for h in range(rows[3]):
            total = total + load(P, rows[0] + d * rows[2] + h * rows[4], 0, 1, 2, width, None)
    left, right = halves(total)
    return times(left + right, ramp(P, 0.5 / float(rows[1] * rows[3]), 0))


@linked
def pairs(P: array, rows: 5, high, pitch, count, last, Y: array, y, end):
    """Y[y :] = the mean of each window of a plane of `high` rows of `count`; the map ends before P[last] and Y[end].

    The rows are those of the first row of windows, the next one's lie `pitch` further on.
    """
    L = lanes(P)
    for oh in range(high):
        for i in range(0, count, L):
            o = max(0, min(i, count - L))  # the last ones may begin earlier: some windows twice
            at, z = rows[0] + oh * pitch + 2 * o, y + oh * count + o
            seen, width = (at, rows[1], rows[2], rows[3], rows[4]), L if z + L <= end else count
            whole = count >= L or _room(seen, L, last)
            if whole and rows[1] == 1 and rows[3] == 2:  # the usual windows: no loop
                store(Y, z, 0, _mean_pair(P, (at, 1, 0, 2, rows[4]), None), width, None)
            else:
                store(Y, z, 0, _mean_pair(P, seen, 2 * L if whole else 2 * count), width, None)


@inlined
def _top_pair(P, rows, width):
    """The largest of a vector of windows, of which `width` numbers are read, and how far its cell is from the first."""
    top, best = ramp(P, -np.inf, 0), zero(P, 1, 1)
    for d in range(rows[1]):
        for h in range(rows[3]):
            far = d * rows[2] + h * rows[4]
            left, right = halves(load(P, rows[0] + far, 0, 1, 2, width, None))
            top, best = _step(left, ramp(P, far, 0), top, best)
            top, best = _step(right, ramp(P, far + 1, 0), top, best)
    return top, best


@linked
def top_pairs(P: array, rows: 5, number, high, pitch, count, last, Y: array, Z: array, y, end):
    """As `pairs`: Y = the largest of each window, Z = its number; `number` is that of P[rows[0]]."""
    L = lanes(P)
    for oh in range(high):
        for i in range(0, count, L):
            o = max(0, min(i, count - L))
            far, z = oh * pitch + 2 * o, y + oh * count + o
            seen, width = (rows[0] + far, rows[1], rows[2], rows[3], rows[4]), L if z + L <= end else count
            whole = count >= L or _room(seen, L, last)
            if whole and rows[1] == 1 and rows[3] == 2:
                top, best = _top_pair(P, (rows[0] + far, 1, 0, 2, rows[4]), None)
            else:
                top, best = _top_pair(P, seen, 2 * L if whole else 2 * count)
            store(Y, z, 0, top, width, None)
            store(Z, z, 0, best + ramp(P, number + far, 2), width, None)


@inlined
def _give_pair(dX, rows, best, delta, width):
    """dX = delta in the cell `best` of each of a vector of windows, 0 in the others."""
    nothing = zero(dX, 1, 1)
    for d in range(rows[1]):
        for h in range(rows[3]):
            far = d * rows[2] + h * rows[4]
            left = where_equal(best, ramp(dX, far, 0), delta, nothing)
            right = where_equal(best, ramp(dX, far + 1, 0), delta, nothing)
            interleave(dX, rows[0] + far, left, right, width)


@linked
def give(dX: array, rows: 5, number, high, pitch, count, last, Z: array, dY: array, y):
    """The way back of `top_pairs` for windows that do not overlap: dX = dY in cell Z of each window, 0 in the others.

    What is written behind a row belongs to the next one, which is written later; `last` is 0 where that is not so.
    """
    L = lanes(dX)
    for oh in range(high):
        for i in range(0, count, L):
            o = max(0, min(i, count - L))
            far, z, width = oh * pitch + 2 * o, y + oh * count + o, min(count, L)
            seen = (rows[0] + far, rows[1], rows[2], rows[3], rows[4])
            best, delta = load(Z, z, 0, 1, 1, width, None), load(dY, z, 0, 1, 1, width, None)
            best = best - ramp(dX, number + far, 2)
            whole = count >= L or _room(seen, L, last)
            if whole and rows[1] == 1 and rows[3] == 2:
                _give_pair(dX, (rows[0] + far, 1, 0, 2, rows[4]), best, delta, 2 * L)
            else:
                _give_pair(dX, seen, best, delta, 2 * L if whole else 2 * count)


@linked
def share_out(dX: array, rows: 5, high, pitch, count, last, dY: array, y):
    """The way back of `pairs` for windows that do not overlap: dX = dY / cells in every cell; else as `give`."""
    L = lanes(dX)
    for oh in range(high):
        for i in range(0, count, L):
            o = max(0, min(i, count - L))
            seen = (rows[0] + oh * pitch + 2 * o, rows[1], rows[2], rows[3], rows[4])
            delta = load(dY, y + oh * count + o, 0, 1, 1, min(count, L), None)
            share = times(delta, ramp(dX, 0.5 / float(rows[1] * rows[3]), 0))
            width = 2 * L if count >= L or _room(seen, L, last) else 2 * count
            for d in range(rows[1]):
                for h in range(rows[3]):
                    interleave(dX, seen[0] + d * rows[2] + h * rows[4], share, share, width)


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
