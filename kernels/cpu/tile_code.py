"""LLVM for register tiles: vector loads and stores, masks, fused multiply-add, transposition.

The words of words.py emit it. Addresses are pointers to numbers, strides numbers of them; `width` is how many columns
exist, None if all do. A mask costs nothing with AVX-512; before, the tail of a row is a separate branch.
"""

from llvmlite import ir
from numba.core import cgutils

from .tile import MASKS
from .tile_sums import SumCode


class TileCode(SumCode):
    """LLVM for one tile type: addresses, vector loads and stores, fused multiply-add."""

    def __init__(self, context, builder, kind):
        self.context, self.builder, self.kind = context, builder, kind
        self.vector = context.get_value_type(kind).element
        self.bytes = kind.real.bitwidth // 8

    def step(self, pointer, i, n):
        """Address n steps of i on."""
        return self.builder.gep(pointer, [self.builder.mul(i, i.type(n))]) if n else pointer

    def load(self, pointer, n=0):
        """Return the vector n vectors behind a pointer; it need not be aligned."""
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
        return self.builder.icmp_signed("<", lane, self.spread(width, lane.type))

    def _masked(self, what, result, arguments):
        return self.call(f"llvm.masked.{what}.v{self.kind.lanes}f{self.bytes * 8}.p0", result, arguments)

    def call(self, name, result, arguments):
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

        All do if `width` reaches `count`. Before AVX-512 masks are slow, so they are left to the tails.
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

    def _halves(self, pointer, step):
        """Return vectors of the tile's columns, `step` numbers apart, loaded as halves of at most 256 bits.

        LLVM joins them to one load, or takes what was just stored with 256 bits from registers.
        """
        n = min(32 // self.bytes, self.kind.lanes)
        few, found = ir.VectorType(self.vector.element, n).as_pointer(), []
        for v in range(self.kind.c):
            at = self.step(pointer, step, v)
            places = [self.builder.gep(at, [ir.IntType(64)(k)]) for k in range(0, self.kind.lanes, n)]
            parts = [self.builder.load(self.builder.bitcast(place, few), align=self.bytes) for place in places]
            found.append(self._lanes(parts[0], range(self.kind.lanes), parts[-1]))
        return found

    def _places(self, pointer, step):
        """Addresses of the lanes, step apart."""
        n = self.kind.lanes
        number = ir.VectorType(ir.IntType(64), n)
        offsets = self.builder.mul(self.spread(step, number), ir.Constant(number, [k * self.bytes for k in range(n)]))
        bases = self.spread(self.builder.ptrtoint(pointer, ir.IntType(64)), number)
        return self.builder.inttoptr(self.builder.add(bases, offsets), ir.VectorType(pointer.type, n))

    def gather(self, pointer, step, width):
        """Return the vector of every step-th number; those from `width` on are 0 and not read."""
        name = f"llvm.masked.gather.v{self.kind.lanes}f{self.bytes * 8}.v{self.kind.lanes}p0"
        arguments = [self._places(pointer, step), ir.IntType(32)(self.bytes), self.mask(width, 0)]
        arguments.append(ir.Constant(self.vector, None))
        return self.call(name, self.vector, arguments)

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

    def spread(self, number, vector):
        """Return a vector of this type, the number in each lane."""
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.kind.lanes), None)
        return self.builder.shuffle_vector(one, one, zeros)

    def splat(self, number):
        return self.spread(number, self.vector)

    def fma(self, a, b, c):
        return self.call(f"llvm.fma.v{self.kind.lanes}f{self.bytes * 8}", self.vector, [a, b, c])

    def absolute(self, a):
        return self.call(f"llvm.fabs.v{self.kind.lanes}f{self.bytes * 8}", self.vector, [a])

    # Words on addresses: `left` is stepped through by rows of the tile, `right` by vectors of a row.

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
        count = self.kind.c
        columns = self._halves(right, vector_stride) if width is None else self.row(right, count, width, vector_stride)
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

    def store_sums(self, place, tile, start):
        level = self.sums([self.builder.extract_value(tile, k) for k in range(self.kind.r)])
        for first, sums in zip(range(0, self.kind.r, level[0].type.count), level, strict=True):
            count = min(self.kind.r - first, sums.type.count)
            few = ir.VectorType(self.vector.element, count)
            sums, at = self._lanes(sums, range(count)), ir.IntType(64)(first)
            if start is not None:
                begin = self.builder.bitcast(self.builder.gep(start, [at]), few.as_pointer())
                sums = self.builder.fadd(self.builder.load(begin, align=self.bytes), sums)
            place_of = self.builder.bitcast(self.builder.gep(place, [at]), few.as_pointer())
            self.builder.store(sums, place_of, align=self.bytes)

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
