"""The register tile: a small matrix that lives in vector registers, and the few words to work with it.

A tile has R rows of C vectors; its shape is part of its type, so LLVM keeps it in registers and every operation is
unrolled. A vector holds as many numbers as the CPU's registers do. With these words a matrix product reads as
mathematics::

    t = zero(B, 4, 6)                                              # 4 rows, 6 vectors wide, of B's element type
    for k in range(K):
        t = outer(t, A, a + k, lda, B, b + k * ldb, None, None)    # t += A[:4, k] (x) B[k, :6 vectors]
    store(C, c, ldc, t, None, None)                                # C[:4, :6 vectors] = t

Arrays (in `linked` functions: their addresses) are taken as flat, whatever their shape: i, j are places in them, si,
sj the distances of rows (and of vectors, where they do not follow each other). `width` says how many columns exist:
loads of the others give 0, stores leave memory alone. Tails are thus a matter of the words, not of the kernels; None
means that all exist.

In plain Python the same words work on NumPy arrays, so that kernels can be run and their races found without compiling.
On views, which hold address and strides, the words of words.py do the same.
"""

import operator
import platform

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, register_model


def vector_bytes():
    """Bytes of a vector register: 64 with AVX-512, 32 with AVX, 16 elsewhere (SSE2, NEON)."""
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


BYTES = vector_bytes()
REGISTERS = 32 if BYTES == 64 or platform.machine() in ("aarch64", "arm64") else 16
NR = 3  # vectors in a row of a tile, as in BLIS
MR = 8 if REGISTERS == 32 else 4  # rows of a tile NR vectors wide: with its factors it fills the registers
HIGH = MR  # its name in the kernels that are not written on views
MASKS = BYTES == 64  # whether loads and stores with a mask cost no more than those without


class Tile(types.Type):
    """R x C vectors of one element type, an LLVM aggregate of vectors."""

    def __init__(self, real, r, c):
        self.real, self.r, self.c = real, r, c
        self.lanes = BYTES * 8 // real.bitwidth
        super().__init__(f"Tile({real}, {r}x{c}x{self.lanes})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = ir.FloatType() if kind.real is types.float32 else ir.DoubleType()
        super().__init__(manager, kind, ir.ArrayType(ir.VectorType(element, kind.lanes), kind.r * kind.c))


class _Words:
    """LLVM for one tile type: addresses, vector loads and stores, fused multiply-add."""

    def __init__(self, context, builder, kind):
        self.context, self.builder, self.kind = context, builder, kind
        self.vector = context.get_value_type(kind).element
        self.bytes = kind.real.bitwidth // 8

    def at(self, array, value, i):
        """Address of place i of an array, or of what `linked` functions get for one: its address."""
        data = value if isinstance(array, types.CPointer) else self.builder.extract_value(value, 4)
        return self.builder.gep(data, [i])

    def step(self, pointer, i, n):
        """Address n steps of i on."""
        return self.builder.gep(pointer, [self.builder.mul(i, i.type(n))]) if n else pointer

    def load(self, pointer, n=0):
        """The vector n vectors behind a pointer; it need not be aligned."""
        pointer = self.builder.gep(pointer, [ir.IntType(64)(n * self.kind.lanes)])
        return self.builder.load(self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def store(self, value, pointer, n=0):
        pointer = self.builder.gep(pointer, [ir.IntType(64)(n * self.kind.lanes)])
        self.builder.store(value, self.builder.bitcast(pointer, self.vector.as_pointer()), align=self.bytes)

    def mask(self, width, n):
        """Which lanes of the n-th vector are columns below `width`."""
        number = ir.IntType(8 * self.bytes)  # as wide as an element, so that what is compared is the mask
        lane = ir.Constant(
            ir.VectorType(number, self.kind.lanes), [n * self.kind.lanes + k for k in range(self.kind.lanes)]
        )
        width = width if width.type == number else self.builder.trunc(width, number)
        one = self.builder.insert_element(ir.Constant(lane.type, ir.Undefined), width, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.lanes), None)
        return self.builder.icmp_signed("<", lane, self.builder.shuffle_vector(one, one, zeros))

    def _masked(self, what, result, arguments):
        return self._call(f"llvm.masked.{what}.v{self.kind.lanes}f{self.bytes * 8}.p0", result, arguments)

    def _call(self, name, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def load_some(self, pointer, n, mask):
        pointer = self.builder.gep(pointer, [ir.IntType(64)(n * self.kind.lanes)])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        align, zero = ir.IntType(32)(self.bytes), ir.Constant(self.vector, None)
        return self._masked("load", self.vector, [pointer, align, mask, zero])

    def store_some(self, value, pointer, n, mask):
        pointer = self.builder.gep(pointer, [ir.IntType(64)(n * self.kind.lanes)])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self._masked("store", ir.VoidType(), [value, pointer, ir.IntType(32)(self.bytes), mask])

    def put(self, pairs, width, count):
        """Store values, each at a pointer n vectors on: (value, pointer, n) of which columns below `width` exist.

        Where `width` reaches `count` all do. Before AVX-512 masks are slow, so they are left to the tails.
        """
        if width is None:
            for value, pointer, n in pairs:
                self.store(value, pointer, n)
        elif MASKS:
            for value, pointer, n in pairs:
                self.store_some(value, pointer, n, self.mask(width, n))
        else:
            with self.builder.if_else(self.builder.icmp_signed(">=", width, width.type(count))) as (whole, tail):
                with whole:
                    for value, pointer, n in pairs:
                        self.store(value, pointer, n)
                with tail:
                    for value, pointer, n in pairs:
                        self.store_some(value, pointer, n, self.mask(width, n))

    def _places(self, pointer, step):
        """Addresses of the lanes, step apart."""
        n = self.kind.lanes
        number = ir.VectorType(ir.IntType(64), n)
        one = self.builder.insert_element(ir.Constant(number, ir.Undefined), step, ir.IntType(32)(0))
        steps = self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), n), None))
        offsets = self.builder.mul(steps, ir.Constant(number, [k * self.bytes for k in range(n)]))
        base = self.builder.ptrtoint(pointer, ir.IntType(64))
        one = self.builder.insert_element(ir.Constant(number, ir.Undefined), base, ir.IntType(32)(0))
        bases = self.builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), n), None))
        return self.builder.inttoptr(self.builder.add(bases, offsets), ir.VectorType(pointer.type, n))

    def gather(self, pointer, step, width):
        """The vector of every step-th number; those from `width` on are 0 and not read."""
        name = f"llvm.masked.gather.v{self.kind.lanes}f{self.bytes * 8}.v{self.kind.lanes}p0"
        arguments = [self._places(pointer, step), ir.IntType(32)(self.bytes), self.mask(width, 0)]
        arguments.append(ir.Constant(self.vector, None))
        return self._call(name, self.vector, arguments)

    def row(self, pointer, count, width, sj):
        """Vectors of a row: one after the other, or sj apart, all of them or the columns below `width`."""
        places = [(pointer, v) if sj is None else (self.step(pointer, sj, v), 0) for v in range(count)]
        if width is None:
            return [self.load(at, n) for at, n in places]
        if MASKS:
            return [self.load_some(at, n, self.mask(width, n)) for at, n in places]
        rooms = [cgutils.alloca_once(self.builder, self.vector) for _ in places]
        last = width.type(self.kind.lanes * (count if sj is None else 1))
        with self.builder.if_else(self.builder.icmp_signed(">=", width, last)) as (whole, tail):
            with whole:
                for room, (at, n) in zip(rooms, places, strict=True):
                    self.builder.store(self.load(at, n), room)
            with tail:
                for room, (at, n) in zip(rooms, places, strict=True):
                    self.builder.store(self.load_some(at, n, self.mask(width, n)), room)
        return [self.builder.load(room) for room in rooms]

    def totals(self, vectors):
        """The sum of each vector's numbers: adding neighbours of two vectors at once gives one vector of half sums."""
        n, number = self.kind.lanes, ir.IntType(32)
        evens, odds = (ir.Constant(ir.VectorType(number, n), [2 * k + odd for k in range(n)]) for odd in range(2))
        found = []
        for first in range(0, len(vectors), n):
            level = vectors[first : first + n]
            count = len(level)
            for _ in range(n.bit_length() - 1):
                pairs = [(level[k], level[min(k + 1, len(level) - 1)]) for k in range(0, len(level), 2)]
                level = [
                    self.builder.fadd(self.builder.shuffle_vector(a, b, evens), self.builder.shuffle_vector(a, b, odds))
                    for a, b in pairs
                ]
            found += [self.builder.extract_element(level[0], number(k)) for k in range(count)]
        return found

    def splat(self, number):
        one = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.lanes), None)
        return self.builder.shuffle_vector(one, one, zeros)

    def fma(self, a, b, c):
        return self._call(f"llvm.fma.v{self.kind.lanes}f{self.bytes * 8}", self.vector, [a, b, c])

    def absolute(self, a):
        return self._call(f"llvm.fabs.v{self.kind.lanes}f{self.bytes * 8}", self.vector, [a])

    # What words mean, on addresses: `left` is stepped through by rows of the tile, `right` by vectors of a row.

    def outer(self, tile, left, row_stride, right, width, vector_stride):
        row = self.row(right, self.kind.c, width, vector_stride)
        for r in range(self.kind.r):
            factor = self.splat(self.builder.load(self.step(left, row_stride, r)))
            for v in range(self.kind.c):
                k = r * self.kind.c + v
                value = self.fma(factor, row[v], self.builder.extract_value(tile, k))
                tile = self.builder.insert_value(tile, value, k)
        return tile

    def inner(self, tile, left, row_stride, right, vector_stride, width):
        columns = self.row(right, self.kind.c, width, vector_stride)
        for r in range(self.kind.r):
            row = self.row(self.step(left, row_stride, r), 1, width, None)[0]
            for v in range(self.kind.c):
                k = r * self.kind.c + v
                value = self.fma(row, columns[v], self.builder.extract_value(tile, k))
                tile = self.builder.insert_value(tile, value, k)
        return tile

    def load_tile(self, place, row_stride, width, vector_stride):
        tile = ir.Constant(self.context.get_value_type(self.kind), ir.Undefined)
        for n in range(self.kind.r):
            for v, vector in enumerate(self.row(self.step(place, row_stride, n), self.kind.c, width, vector_stride)):
                tile = self.builder.insert_value(tile, vector, n * self.kind.c + v)
        return tile

    def store_tile(self, place, row_stride, tile, width, vector_stride):
        t, pairs = self.kind, []
        for r in range(t.r):
            row = self.step(place, row_stride, r)
            for v in range(t.c):
                value = self.builder.extract_value(tile, r * t.c + v)
                at = (row, v) if vector_stride is None else (self.step(row, vector_stride, v), 0)
                pairs.append((value, *at))
        self.put(pairs, width, t.lanes * (t.c if vector_stride is None else 1))

    def add_totals(self, place, row_stride, column_stride, tile):
        t = self.kind
        totals = self.totals([self.builder.extract_value(tile, k) for k in range(t.r * t.c)])
        for k, total in enumerate(totals):
            at = self.step(self.step(place, row_stride, k // t.c), column_stride, k % t.c)
            self.builder.store(self.builder.fadd(self.builder.load(at), total), at)

    def fill_tile(self, place, row_stride):
        tile = ir.Constant(self.context.get_value_type(self.kind), ir.Undefined)
        for n in range(self.kind.r):
            row = self.splat(self.builder.load(self.step(place, row_stride, n)))
            for v in range(self.kind.c):
                tile = self.builder.insert_value(tile, row, n * self.kind.c + v)
        return tile

    def convolve_row(self, tile, weights, stride, row, kind):
        for k in range(kind.c - self.kind.c + 1):
            factor = self.splat(self.builder.load(self.step(weights, stride, k)))
            for v in range(self.kind.c):
                value = self.builder.extract_value(row, v + k)
                value = self.fma(factor, value, self.builder.extract_value(tile, v))
                tile = self.builder.insert_value(tile, value, v)
        return tile

    def prefetch(self, place, count):
        number, builder = ir.IntType(32), self.builder
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        line = count.type(64 // self.bytes)
        with cgutils.for_range_slice(builder, count.type(0), count, line) as (i, _):
            line_at = builder.bitcast(builder.gep(place, [i]), cgutils.voidptr_t)
            builder.call(fetch, [line_at, number(0), number(3), number(1)])  # to read, into the nearest cache, data

    def load_column(self, place, fixed, stride, width):
        n, builder = self.kind.lanes, self.builder
        if fixed == 2:
            exist = builder.sub(builder.add(width, width), width.type(1))
            first, second = self.row(place, 2, exist, None)
            even = ir.Constant(ir.VectorType(ir.IntType(32), n), [2 * k for k in range(n)])
            vector = builder.shuffle_vector(first, second, even)
        else:
            vector = self.gather(place, stride, width)
        return builder.insert_value(ir.Constant(self.context.get_value_type(self.kind), ir.Undefined), vector, 0)

    def store_interleaved(self, place, even, odd, width):
        n, mixed = self.kind.lanes, []
        pair = [self.builder.extract_value(tile, 0) for tile in (even, odd)]
        for half in range(2):
            order = [half * n // 2 + k // 2 + k % 2 * n for k in range(n)]
            both = self.builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), n), order))
            mixed.append((both, place, half))
        self.put(mixed, width, 2 * n)

    def transposed(self, place, stride, rows):
        """Columns of a square as wide and high as a vector has numbers; from `rows` on the last row is repeated."""
        builder, n, number, row = self.builder, self.kind.lanes, ir.IntType(32), []
        for j in range(n):
            at = stride.type(j)
            if rows is not None:
                last = builder.sub(rows, rows.type(1))
                at = builder.select(builder.icmp_signed("<", at, last), at, last)
            row.append(self.load(builder.gep(place, [builder.mul(at, stride)])))
        half = 1
        while half < n:  # bit by bit the number of a row and the number in it change places
            for j in range(n):
                if not j & half:
                    a, b = row[j], row[j + half]
                    low = [k if not k & half else n + k - half for k in range(n)]
                    high = [k + half if not k & half else n + k for k in range(n)]
                    pair = (builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(number, n), o)) for o in (low, high))
                    row[j], row[j + half] = pair
            half *= 2
        return row

    def store_rows(self, target, stride, vectors):
        for k, vector in enumerate(vectors):
            self.store(vector, self.step(target, stride, k))


# -- what the words mean, in plain Python ------------------------------------------------------------------------------


def _lanes(array):
    """Numbers in a vector of this array's element type."""
    return BYTES // array.dtype.itemsize


def _zero(like, r, c):
    """An all-zero tile of r rows and c vectors (literals) of an array's element type."""
    return np.zeros((r, c * _lanes(like)), like.dtype)


def _fill(A, i, si, r, c):
    """A tile of r rows and c vectors (literals) whose row n is A[i + n si] everywhere."""
    A = A.reshape(-1)
    return np.array([[A[i + n * si]] * (c * _lanes(A)) for n in range(r)], A.dtype)


def _outer(t, A, i, si, B, j, width, sj):
    """t + A[i + r si] (x) B[j : + c vectors]: one rank-1 update. With sj the vectors of B lie that far apart."""
    A = A.reshape(-1)
    left = np.array([A[i + r * si] for r in range(t.shape[0])])
    if sj is None:
        return t + left[:, None] * _some(B, j, t.shape[1], width)[None, :]
    n = _lanes(A)
    return t + left[:, None] * np.concatenate([_some(B, j + v * sj, n, width) for v in range(t.shape[1] // n)])


def _inner(t, A, i, si, B, j, sj, width):
    """t[r, v] + A[i + r si : + a vector] * B[j + v sj : + a vector]: r x c products, to be summed at the end."""
    n = _lanes(A)
    rows = np.array([_some(A, i + r * si, n, width) for r in range(t.shape[0])])
    columns = np.array([_some(B, j + v * sj, n, width) for v in range(t.shape[1] // n)])
    return t + (rows[:, None, :] * columns[None, :, :]).reshape(t.shape)


def _slide(t, A, i, si, u):
    """t + the sum of A[i + k si] times u from its k-th vector on, u being as much wider than t."""
    A, n = A.reshape(-1), _lanes(A)
    for k in range((u.shape[1] - t.shape[1]) // n + 1):
        t = t + A[i + k * si] * u[:, k * n : k * n + t.shape[1]]
    return t


def _ahead(P, p, count):
    """Nothing: P[p : p + count] is fetched into the nearest cache; it may lie beyond the array."""


def _store(C, i, si, t, width, sj):
    """C[i + r si : + c vectors] = t; with sj the vectors go that far apart."""
    C, n = C.reshape(-1), _lanes(t) if sj is not None else t.shape[1]
    for r in range(t.shape[0]):
        for k in range(t.shape[1]):
            if width is None or k % n < width:
                C[i + r * si + k // n * (sj or 0) + k % n] = t[r, k]


def _sums(C, i, si, sj, t):
    """C[i + r si + v sj] += the sum over the vector t[r, v]."""
    n, C = _lanes(t), C.reshape(-1)
    for r in range(t.shape[0]):
        for v in range(t.shape[1] // n):
            C[i + r * si + v * sj] += t[r, v * n : (v + 1) * n].sum()


def _load(C, i, si, r, c, width, sj):
    """The tile of r rows of c vectors (literals) at C[i + r si :]; with sj the vectors lie that far apart."""
    n = _lanes(C)
    if sj is None:
        return np.array([_some(C, i + k * si, c * n, width) for k in range(r)])
    return np.array([np.concatenate([_some(C, i + k * si + v * sj, n, width) for v in range(c)]) for k in range(r)])


def _copy(T, t, P, p, width):
    """T[t : + a vector] = the numbers from P[p] on of which `width` exist, then zeros: T needs room for a vector."""
    T, n = T.reshape(-1), _lanes(P)
    T[t : t + n] = _some(P, p, n, width)


def _turn(T, t, st, P, p, sp, rows):
    """T[t + k st + j] = P[p + j sp + k], as many of either as a vector has; from `rows` on the last row is repeated."""
    T, P, n = T.reshape(-1), P.reshape(-1), _lanes(P)
    for k in range(n):
        for j in range(n):
            T[t + k * st + j] = P[p + (j if rows is None else min(j, rows - 1)) * sp + k]


def _strided(P, p, fixed, step, width):
    """The vector P[p], P[p + step], ... of `width` numbers. A step of 2 is given as the literal `fixed`, else 0."""
    P, step = P.reshape(-1), fixed or step
    found = [P[p + k * step] for k in range(min(width, _lanes(P)))]
    return np.array([found + [0] * (_lanes(P) - len(found))], P.dtype)


def _interleave(C, c, t, u, width):
    """C[c], C[c + 1], ... = t[0], u[0], t[1], u[1], ..., the first `width` of these numbers of two vectors."""
    C, mixed = C.reshape(-1), np.stack([t[0], u[0]], 1).reshape(-1)
    C[c : c + min(width, mixed.size)] = mixed[: max(width, 0)]


def _halves(t):
    """Two vectors of every second number of a tile of two: the first, third, ... and the second, fourth, ..."""
    return t[:, ::2], t[:, 1::2]


def _most(t, u):
    """The larger of two vectors, number by number; of t and NaN it is NaN."""
    return np.where((u > t) | ((u != u) & (t == t)), u, t)


def _pointer(A):
    """Where an array begins, of the type of a panel: so that a variable may be either."""
    return A


def _panel(like, n):
    """Room for n numbers (a literal) of an array's element type, on the stack: it lives as long as the call."""
    return np.full(n, np.nan, like.dtype)


def _numbers(n):
    """Room for n whole numbers (a literal) on the stack."""
    return np.full(n, -1, np.intp)


def _some(array, i, n, width):
    """n numbers from place i on, of which `width` exist."""
    array = array.reshape(-1)
    count = n if width is None else max(0, min(width, n))
    return np.array([array[i + k] for k in range(count)] + [0] * (n - count), array.dtype)


# -- the words -------------------------------------------------------------------------------------------------------


def _word(plain):
    """An intrinsic, and as its `py_func` (as of any jitted function) what it means in plain Python."""

    def mark(definition):
        made = intrinsic(definition)
        made.py_func, made.__doc__ = plain, plain.__doc__
        return made

    return mark


def _literal(*kinds):
    return all(isinstance(kind, types.IntegerLiteral) for kind in kinds)


def _optional(*kinds):
    """Numba types of whole numbers that may be None, or left out."""
    return [types.none if kind in (None, types.none) else types.intp for kind in kinds]


def _values(kinds, values):
    """LLVM values of optional numbers, None where None was given."""
    return [None if isinstance(kind, types.NoneType) else value for kind, value in zip(kinds, values, strict=True)]


@_word(_lanes)
def lanes(typing, array):
    n = BYTES * 8 // array.dtype.bitwidth
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, n)


@_word(_zero)
def zero(typing, like, r, c):
    if not _literal(r, c):
        return None
    kind = Tile(like.dtype, r.literal_value, c.literal_value)
    return kind(like, r, c), lambda context, builder, sig, args: ir.Constant(context.get_value_type(kind), None)


@_word(_fill)
def fill(typing, A, i, si, r, c):
    if not _literal(r, c):
        return None
    t = Tile(A.dtype, r.literal_value, c.literal_value)

    def generate(context, builder, sig, args):
        words = _Words(context, builder, t)
        return words.fill_tile(words.at(A, args[0], args[1]), args[2])

    return t(A, types.intp, types.intp, r, c), generate


@_word(_outer)
def outer(typing, t, A, i, si, B, j, width, sj):
    def generate(context, builder, sig, args):
        tile, a, i, si, b, j, width, sj = (*args[:6], *_values(sig.args[6:], args[6:]))
        words = _Words(context, builder, t)
        left, right = words.at(A, a, i), words.at(B, b, j)
        return words.outer(tile, left, si, right, width, sj)

    return t(t, A, types.intp, types.intp, B, types.intp, *_optional(width, sj)), generate


@_word(_inner)
def inner(typing, t, A, i, si, B, j, sj, width):
    def generate(context, builder, sig, args):
        tile, a, i, si, b, j, sj, width = (*args[:7], *_values(sig.args[7:], args[7:]))
        words = _Words(context, builder, t)
        left, right = words.at(A, a, i), words.at(B, b, j)
        return words.inner(tile, left, si, right, sj, width)

    return t(t, A, types.intp, types.intp, B, types.intp, types.intp, *_optional(width)), generate


@_word(_ahead)
def ahead(typing, P, p, count):
    def generate(context, builder, sig, args):
        words = _Words(context, builder, Tile(P.dtype, 1, 1))
        words.prefetch(words.at(P, args[0], args[1]), args[2])
        return context.get_dummy_value()

    return types.void(P, types.intp, types.intp), generate


@_word(_slide)
def slide(typing, t, A, i, si, u):
    def generate(context, builder, sig, args):
        tile, a, i, si, wider = args
        words = _Words(context, builder, t)
        return words.convolve_row(tile, words.at(A, a, i), si, wider, u)

    return t(t, A, types.intp, types.intp, u), generate


@_word(_store)
def store(typing, C, i, si, t, width, sj):
    def generate(context, builder, sig, args):
        c, i, si, tile, width, sj = (*args[:4], *_values(sig.args[4:], args[4:]))
        words = _Words(context, builder, t)
        words.store_tile(words.at(C, c, i), si, tile, width, sj)
        return context.get_dummy_value()

    return types.void(C, types.intp, types.intp, t, *_optional(width, sj)), generate


@_word(_sums)
def sums(typing, C, i, si, sj, t):
    def generate(context, builder, sig, args):
        c, i, si, sj, tile = args
        words = _Words(context, builder, t)
        words.add_totals(words.at(C, c, i), si, sj, tile)
        return context.get_dummy_value()

    return types.void(C, types.intp, types.intp, types.intp, t), generate


@_word(_load)
def load(typing, C, i, si, r, c, width, sj):
    if not _literal(r, c):
        return None
    t = Tile(C.dtype, r.literal_value, c.literal_value)

    def generate(context, builder, sig, args):
        words, (width, sj) = _Words(context, builder, t), _values(sig.args[5:], args[5:])
        return words.load_tile(words.at(C, args[0], args[1]), args[2], width, sj)

    return t(C, types.intp, types.intp, r, c, *_optional(width, sj)), generate


@_word(_panel)
def panel(typing, like, n):
    if not _literal(n):
        return None
    kind = types.CPointer(like.dtype)

    def generate(context, builder, sig, args):
        room = cgutils.alloca_once(builder, context.get_value_type(like.dtype), size=n.literal_value)
        room.align = 64
        return room

    return kind(like, n), generate


@_word(_pointer)
def pointer(typing, A):
    def generate(context, builder, sig, args):
        return builder.extract_value(args[0], 4)

    return types.CPointer(A.dtype)(A), generate


@_word(_numbers)
def numbers(typing, n):
    if not _literal(n):
        return None

    def generate(context, builder, sig, args):
        return cgutils.alloca_once(builder, context.get_value_type(types.intp), size=n.literal_value)

    return types.CPointer(types.intp)(n), generate


@_word(_copy)
def copy(typing, T, t, P, p, width):
    kind = Tile(P.dtype, 1, 1)

    def generate(context, builder, sig, args):
        words = _Words(context, builder, kind)
        row = words.row(words.at(P, args[2], args[3]), 1, args[4], None)[0]
        words.store(row, words.at(T, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(T, types.intp, P, types.intp, types.intp), generate


@_word(_turn)
def turn(typing, T, t, st, P, p, sp, rows):
    kind, kind_of_rows = Tile(P.dtype, 1, 1), rows

    def generate(context, builder, sig, args):
        words, rows = _Words(context, builder, kind), _values((kind_of_rows,), args[6:])[0]
        columns = words.transposed(words.at(P, args[3], args[4]), args[5], rows)
        words.store_rows(words.at(T, args[0], args[1]), args[2], columns)
        return context.get_dummy_value()

    return types.void(T, types.intp, types.intp, P, types.intp, types.intp, *_optional(rows)), generate


@_word(_strided)
def strided(typing, P, p, fixed, step, width):
    if not _literal(fixed):
        return None
    kind = Tile(P.dtype, 1, 1)

    def generate(context, builder, sig, args):
        words = _Words(context, builder, kind)
        return words.load_column(words.at(P, args[0], args[1]), fixed.literal_value, args[3], args[4])

    return kind(P, types.intp, fixed, types.intp, types.intp), generate


@_word(_interleave)
def interleave(typing, C, c, t, u, width):
    def generate(context, builder, sig, args):
        words = _Words(context, builder, t)
        words.store_interleaved(words.at(C, args[0], args[1]), *args[2:])
        return context.get_dummy_value()

    return types.void(C, types.intp, t, t, types.intp), generate


@_word(_halves)
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


def _of_vectors(rule):
    """The definition of a word that makes one tile of several, vector by vector."""

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


def _nan(builder, value):
    return builder.fcmp_unordered("uno", value, value)


def _rule_most(builder, t, u):
    larger = builder.select(builder.fcmp_ordered(">", t, u), t, u)  # u where either is NaN
    return builder.select(_nan(builder, t), t, larger)


@_word(_most)
def most(typing, t, u):
    return _of_vectors(_rule_most)(typing, (t, u))


# Arithmetic of tiles is written as in NumPy: t + u, t - u, t * u, t * number, abs(t). A sum with t * u is rounded once.


def _sum(builder, t, u):
    return builder.fadd(t, u, flags=["contract"])


def _difference(builder, t, u):
    return builder.fsub(t, u)


def _operator(function, rule):
    """What an operator does with two tiles of one type."""

    @infer_global(function)
    class _(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Tile) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    @lower_builtin(function, Tile, Tile)
    def generate(context, builder, sig, args):
        return _of_vectors(rule)(None, sig.args)[1](context, builder, sig, args)


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
    words = _Words(context, builder, sig.args[0])
    absolute = _of_vectors(lambda builder, t: words.absolute(t))
    return absolute(None, sig.args)[1](context, builder, sig, args)


@infer_global(operator.mul)
class _Scaled(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], Tile) and isinstance(args[1], types.Float):
            return signature(args[0], args[0], args[0].real)
        return None


@lower_builtin(operator.mul, Tile, types.Float)
def _lower_scaled(context, builder, sig, args):
    words = _Words(context, builder, sig.args[0])
    factor = words.splat(args[1])
    scale = _of_vectors(lambda builder, t: builder.fmul(t, factor))
    return scale(None, sig.args[:1])[1](context, builder, sig, args[:1])
