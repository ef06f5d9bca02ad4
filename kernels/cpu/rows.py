"""The largest number of a row that lies in memory.

Written as a scalar loop it waits four cycles for each comparison, as NaN keeps LLVM from taking several at once.
"""

from math import inf

from numba import uintp

from ..compiler import helper
from .pooling_tiles import highest, pick, ramp
from .tile import lanes, most


@helper
def largest(P, row, count):
    """The largest of the `count` numbers from P[row] on; where there is a NaN, it may be any of them or NaN."""
    if count < lanes(P):  # a vector's own numbers take longer to compare than so few
        greatest = P[row]
        for j in range(uintp(row + 1), uintp(row + count)):
            greatest = P[j] if P[j] > greatest else greatest
        return greatest
    lowest = ramp(P, -inf, 0.0)
    top = lowest
    for j in range(0, count, lanes(P)):
        top = most(top, pick(P, row, j, count, 1, 1, lowest)[0])
    return highest(top)
