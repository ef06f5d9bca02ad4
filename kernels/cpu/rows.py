"""The largest number of a row that lies in memory.

A scalar loop would wait four cycles for each comparison: NaN keeps LLVM from comparing several numbers at once.
"""

from numba import uintp

from ..compiler.kernel import helper
from .pooling_words import highest, row
from .tile import lanes
from .words import load, most


@helper
def largest(P, first, count):
    """Return the largest of the `count` numbers from P[first] on; where there is a NaN, any of them or NaN."""
    if count < lanes(P):  # comparing the numbers of a vector takes longer than comparing so few one by one
        greatest = P[first]
        for j in range(uintp(first + 1), uintp(first + count)):
            greatest = P[j] if P[j] > greatest else greatest
        return greatest
    L = lanes(P)
    top = load(row(P, first), 1, 1)
    for j in range(L, count, L):
        top = most(top, load(row(P, first + min(j, count - L)), 1, 1))  # the last vector may overlap
    return highest(top)
