"""Samples as columns: the way in and out of a region in that form, and the gradient as a sum over blocks of samples.

Parallel plan: none here; see dense_columns.py. The sum of the parts runs chunk by chunk of theta, and within a chunk in
the order of the blocks.
"""

from numba import prange, uintp

from ..compiler.kernel import inlined, kernel

MOST = 128  # samples of a tile, at most: kernels have memory on the stack for them


@inlined
def tops(x, top):
    """Write the largest number of each sample into top; of numbers with a NaN, any of them or NaN."""
    N = uintp(x.shape[1])
    for i in range(N):
        top[i] = x[0, i]
    for c in range(uintp(1), uintp(x.shape[0])):
        for i in range(N):
            top[i] = x[c, i] if x[c, i] > top[i] else top[i]


@kernel
def transpose(x, y):
    """y = x^T: rows of samples become columns, or columns rows."""
    for i in prange(uintp(x.shape[0])):
        for j in range(uintp(x.shape[1])):
            y[j, i] = x[i, j]


@kernel
def clear(gradient):
    """gradient = 0: that of a block of samples before its first tile."""
    for i in prange(gradient.size):
        gradient[i] = 0.0


@kernel
def add_blocks(gradients, count, first, gradient):
    """gradient = the sum of the first `count` rows of gradients, from number `first` of each row on."""
    for i in prange(gradient.size):
        total = gradients[uintp(0), uintp(first + i)]
        for k in range(uintp(1), uintp(count)):
            total += gradients[k, uintp(first + i)]
        gradient[i] = total


@kernel
def accumulate(gradients, count, first, gradient):
    """gradient += the sum of the first `count` rows of gradients, from number `first` of each row on."""
    for i in prange(gradient.size):
        total = gradients[uintp(0), uintp(first + i)]
        for k in range(uintp(1), uintp(count)):
            total += gradients[k, uintp(first + i)]
        gradient[i] += total
