"""Samples in and out of a program, in NumPy."""

import numpy as np


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


def repeat(source, at, width, batch):
    """batch[n] = source[at : at + width] for every n, everything flat."""
    batch.reshape(-1, width)[...] = source[at : at + width]


def unit(first, width, batch):
    """batch[n] = the unit vector number first + n, rows of `width` numbers."""
    rows = batch.reshape(-1, width)
    rows[...] = np.eye(width)[first : first + len(rows)]


def put_columns(batch, at, width, step, target):
    """Column n of a matrix of rows of `step` numbers, which begins at target[at - n], = row n of the batch."""
    for n, row in enumerate(batch.reshape(-1, width)):
        target[at + n : at + n + width * step : step] = row
