"""The choice between Winograd's algorithm and the plain one: the rule, and the sums that it needs.

Winograd's algorithm spreads the rounding error of a number over its neighbours' results. So a sample takes the plain
algorithm if a few of its numbers, or of the weights, hold nearly all of the sum of squares (docs/architecture.md). The
sums are taken lane by lane while a sample is padded and while weights are transformed:

    S[s, :L], S[s, L : 2 L]     sums of |x| and x^2 of sample s of an iteration, in L lanes; of W in row SAMPLES
"""

from ..compiler.kernel import inlined
from ..compiler.linked import linked, places
from .conv import SAMPLES
from .tile import BYTES, lanes, stack_array
from .view import Vectors, View
from .words import load, store, zeros

SUMMED = (SAMPLES + 1) * BYTES // 2  # numbers of S
PARTIAL = 2 * BYTES  # numbers of two rows of four vectors
UNEVEN = 64.0  # see `uneven`
TOO_LARGE = 1e37  # sums of squares, and products of two of them, from which sums of products may overflow
TOO_SMALL = 1e-37  # a sum of squares that float32 rounds too coarsely to tell


@linked
def sums(count, x: View, S: View):
    """S = the sums of |x| and of x^2 over `count` numbers of a row."""
    L = lanes(x)
    total, squares = zeros(x, 1, 4), zeros(x, 1, 4)
    for i in range(0, count, 4 * L):
        some = load(x.column(i), 1, 4, count - i)
        total, squares = total + abs(some), squares + some * some
    partial = Vectors(stack_array(x, PARTIAL), 4 * L, L)
    store(partial, total)
    store(partial.row(1), squares)
    for i in range(2):
        first = load(partial.at(i, 0), 1, 1) + load(partial.at(i, 1), 1, 1)
        store(S.column(i * L), first + (load(partial.at(i, 2), 1, 1) + load(partial.at(i, 3), 1, 1)))


@inlined
def sums_with(total, squares, a, b, c):
    """Return sums of |x| and of x^2 with three vectors added."""
    return total + (abs(a) + abs(b) + abs(c)), squares + a * a + b * b + c * c


@inlined
def keep_sums(total, squares, S, begun):
    """S = the two sums, or += if `begun`."""
    L = lanes(S)
    if begun:
        total, squares = total + load(S, 1, 1), squares + load(S.column(L), 1, 1)
    store(S, total)
    store(S.column(L), squares)


@linked
def uneven(S: View, s, count, weights, found: places):
    """found[0] = whether sample s, of `count` numbers, takes the plain algorithm; `weights` counts the weights.

    It does if a number is not finite, if sums of products may overflow, or if a few of the sample's numbers or of the
    weights hold nearly all of the sum of squares: elsewhere the largest is at most 2 sqrt(UNEVEN count) times the mean
    of |x| (2 since padding.py counts some numbers twice).
    """
    L, S = lanes(S), View(S, S.row_stride, 1)  # tells LLVM: contiguous
    even, largest, both = True, 0.0, 1.0
    for row, size in ((s, count), (SAMPLES, weights)):
        total, squares = 0.0, 0.0
        for i in range(L):
            total += S[row, i]
            squares += S[row, L + i]
        even = even and float(size) * squares <= UNEVEN * total * total and (squares >= TOO_SMALL or total == 0.0)
        largest, both = max(largest, squares), both * squares
    found[0] = 0 if even and max(largest, both) < TOO_LARGE else 1
