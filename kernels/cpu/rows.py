"""The largest number of a row that lies in memory.

A scalar loop would wait four cycles for each comparison: NaN keeps LLVM from comparing several numbers at once.
"""

from numba import uintp

from ..compiler.kernel import helper, inlined
from .pooling_words import highest, row
from .tile import lanes
from .words import load, most


def by_vectors(vectors):
    """Return `largest` by this number of vectors at once, for rows that are at least as long."""

    @inlined
    def largest(P, first, count):
        step = vectors * lanes(P)
        top = load(row(P, first), 1, vectors)
        for j in range(step, count, step):
            top = most(top, load(row(P, first + min(j, count - step)), 1, vectors))  # the last ones may overlap
        return highest(top)

    return largest


by_one, by_four = by_vectors(1), by_vectors(4)  # a comparison of vectors waits for the one before: four do not


@helper
def largest(P, first, count):
    """Return the largest of the `count` numbers from P[first] on; where there is a NaN, any of them or NaN."""
    if count < lanes(P):  # comparing the numbers of a vector takes longer than comparing so few one by one
        greatest = P[first]
        for j in range(uintp(first + 1), uintp(first + count)):
            greatest = P[j] if P[j] > greatest else greatest
        return greatest
    return by_one(P, first, count) if count < 4 * lanes(P) else by_four(P, first, count)
