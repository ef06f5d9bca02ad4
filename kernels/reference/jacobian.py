"""The rows of a batch that are those of a Jacobian, in NumPy."""

import numpy as np


def repeat(width, batch):
    """batch[n] = batch[0] for every n, rows of `width` numbers."""
    batch.reshape(-1, width)[1:] = batch[:width]


def unit(first, width, batch):
    """batch[n] = the unit vector number first + n, rows of `width` numbers."""
    rows = batch.reshape(-1, width)
    rows[...] = np.eye(width)[first : first + len(rows)]


def put_columns(batch, at, width, step, target):
    """Column n of a matrix of rows of `step` numbers, which begins at target[at - n], = row n of the batch."""
    for n, row in enumerate(batch.reshape(-1, width)):
        target[at + n : at + n + width * step : step] = row
