"""The largest number of a row that lies in memory.

Written as a scalar loop it waits four cycles for each comparison, as NaN keeps LLVM from taking several at once.
"""

from numba import uintp

from ..compiler.kernel import helper
from .pooling_tiles import highest
from .tile import lanes, load, most


@helper
def largest(P, row, count):
    """The largest of the `count` numbers from P[row] on; where there is a NaN, it may be any of them or NaN."""
    if count < lanes(P):  # a vector's own numbers take longer to compare than so few
        greatest = P[row]
        for j in range(uintp(row + 1), uintp(row + count)):
            greatest = P[j] if P[j] > greatest else greatest
        return greatest
    L = lanes(P)
    top = load(P, row, 0, 1, 1, None, None)
    for j in range(L, count, L):
        at = row + min(j, count - L)  # the last vector may begin earlier: some numbers twice
        top = most(top, load(P, at, 0, 1, 1, None, None))
    return highest(top)
