"""LLVM for sums across vectors, as many vectors at once as 256 bits hold numbers."""

from llvmlite import ir


class SumCode:
    """The part of TileCode that sums the numbers of vectors: it needs its builder, kind, bytes of a number and call."""

    def totals(self, vectors):
        """Return the sum of each vector's numbers."""
        sums = self.sums(vectors)
        n = sums[0].type.count
        return [self.builder.extract_element(sums[k // n], ir.IntType(32)(k % n)) for k in range(len(vectors))]

    def sums(self, level):
        """Return the sums of vectors as vectors of at most 256 bits; what follows the last sum is anything.

        First the halves of 512 bits are added, since shuffles of 256 bits take half the time.
        """
        n = min(32 // self.bytes, self.kind.lanes)
        if n < self.kind.lanes:
            level = [self.builder.fadd(*(self._lanes(a, range(k, k + n)) for k in (0, n))) for a in level]
        return [self._neighbours(level[k : k + n], n) for k in range(0, len(level), n)]

    def _neighbours(self, level, n):
        """Return a vector of the sums of vectors of n lanes: neighbours are added, then pairs, then fours.

        Half of the lanes are for one vector and half for the next: the first sum is (a0, b1, a2, b3) + (a1, b0, a3,
        b2), a blend and a shuffle. No shuffle takes such float32 numbers of two vectors: there it is one of a blend.
        """
        for step in (1 << k for k in range(n.bit_length() - 1)):
            own, other = ([k + n * (odd ^ (k & step > 0)) for k in range(n)] for odd in range(2))
            exchange = [k ^ step for k in range(n)]
            sums = []
            for k in range(0, len(level), 2):
                a, b = level[k], level[min(k + 1, len(level) - 1)]
                if self.bytes == 4 and step == 1:
                    second = self._lanes(self._fence(self._lanes(a, other, b)), exchange)
                else:
                    second = self._lanes(a, [other[j] for j in exchange], b)
                    second = self._fence(second) if step == 1 else second
                sums.append(self.builder.fadd(self._lanes(a, own, b), second))
            level = sums
        return level[0]

    def _fence(self, a):
        """Return a, which LLVM must not join with shuffles and a sum to `vhaddps`: it takes 1.7 times as long."""
        return self.call(f"llvm.arithmetic.fence.v{a.type.count}f{self.bytes * 8}", a.type, [a])

    def _lanes(self, a, order, b=None):
        """Return the lanes of a, followed by those of b, that an order names."""
        number = ir.IntType(32)
        order = ir.Constant(ir.VectorType(number, len(order)), list(order))
        return self.builder.shuffle_vector(a, a if b is None else b, order)
