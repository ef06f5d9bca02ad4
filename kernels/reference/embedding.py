"""Embedding of categories, in NumPy: a code, a whole number v from 0 to count - 1, becomes row v of its column's table.

x (N, features), y (N, width), dx and dy are flat. Input columns[k], in ascending order, holds one of counts[k] codes
and becomes sizes[k] numbers where it stands; the others are passed on. table holds the tables of the columns one after
the other, row by row. A number that is no code gives NaN.
"""

import numpy as np


def forward(x, table, y, features, width, columns, counts, sizes):
    """y = x with each code replaced by its row."""
    x, y = x.reshape(-1, features), y.reshape(-1, width)
    y[:, _numbers(width, columns, sizes)] = np.delete(x, columns, axis=1)
    for column, place, rows, count in _parts(table, columns, counts, sizes):
        y[:, place] = np.where(_known(x[:, column], count), rows[_rows(x[:, column], count)].T, np.nan).T


def backward_input(x, dy, dx, features, width, columns, counts, sizes):
    """dx = dy for the inputs that are passed on, 0 for codes."""
    x, dy, dx = x.reshape(-1, features), dy.reshape(-1, width), dx.reshape(-1, features)
    dx[:, np.delete(np.arange(features), columns)] = dy[:, _numbers(width, columns, sizes)]
    for column, count in zip(columns, counts, strict=True):
        dx[:, column] = np.where(_known(x[:, column], count), 0, np.nan)


def backward_table(x, dy, dtable, features, width, columns, counts, sizes):
    """dtable[v] = sum of dy over the samples whose code is v; NaN in the whole table of a column with no such code."""
    x, dy = x.reshape(-1, features), dy.reshape(-1, width)
    dtable[...] = 0
    for column, place, rows, count in _parts(dtable, columns, counts, sizes):
        np.add.at(rows, _rows(x[:, column], count), dy[:, place])
        if not _known(x[:, column], count).all():
            rows[...] = np.nan


def _known(code, count):
    return (code >= 0) & (code < count) & (code == np.floor(code))


def _rows(code, count):
    return np.where(_known(code, count), code, 0).astype(int)


def _numbers(width, columns, sizes):
    """Return the places in y of the inputs that are passed on."""
    taken = [range(place.start, place.stop) for place in _places(columns, sizes)]
    return np.delete(np.arange(width), np.concatenate(taken))


def _places(columns, sizes):
    """Return the places in y of each column."""
    starts = [column + sum(size - 1 for size in sizes[:k]) for k, column in enumerate(columns)]
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _parts(table, columns, counts, sizes):
    """Yield each column, its places in y, its table (count, size), a view, and its count."""
    first = 0
    for column, place, count, size in zip(columns, _places(columns, sizes), counts, sizes, strict=True):
        yield column, place, table[first : first + count * size].reshape(count, size), count
        first += count * size
