"""Samples in and out of a program, in NumPy."""


def gather(source, order, first, width, batch):
    """batch[n] = source[order[first + n]], rows of `width` numbers, everything flat."""
    n = batch.size // width
    batch.reshape(n, width)[...] = source.reshape(-1, width)[order[first : first + n]]


def copy(source, at, batch):
    """batch = source[at : at + batch.size], both flat."""
    batch[...] = source[at : at + batch.size]


def put(batch, at, target):
    """target[at : at + batch.size] = batch, both flat."""
    target[at : at + batch.size] = batch
