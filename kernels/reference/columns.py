"""Samples as columns, in NumPy: the way in and out of that form, and the gradient as a sum over blocks of samples."""

import numpy as np


def transpose(x, y):
    """y = x^T: rows of samples become columns, or columns rows."""
    y[...] = x.T


def clear(gradient):
    """gradient = 0: that of a block of samples before its first tile."""
    gradient[...] = 0


def add_blocks(gradients, count, first, gradient):
    """gradient = the sum of the first `count` rows of gradients, from number `first` of each row on."""
    gradient[...] = np.sum(gradients[:count, first : first + gradient.size], axis=0)


def accumulate(gradients, count, first, gradient):
    """gradient += the sum of the first `count` rows of gradients, from number `first` of each row on."""
    gradient += np.sum(gradients[:count, first : first + gradient.size], axis=0)
