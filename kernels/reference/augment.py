"""Augmentation, in NumPy: in training each sample is changed at random; in prediction y = x.

A draw depends only on seed and index of the sample in the batch (for noise, of the number): blocks, threads, devices
and resumed runs all draw the same, and the backward pass draws it again instead of keeping it. The generator is that of
dropout.py. Flips, crops and rotations are linear maps of a sample given its draw; backward_input is their transpose.

Arrays are flat, samples of `maps` planes of `height` rows of `width` numbers, for crop of `maps` volumes of `depth`
planes. Rotation is bilinear (Jaderberg et al. 2015, arXiv:1506.02025, eq. 5), as grid_sample of PyTorch with
align_corners=False; noise is normal by the formula of Box & Muller (1958, doi:10.1214/aoms/1177706645).
"""

import numpy as np

from .dropout import _mix as mix


def flip(x, y, horizontal, vertical, maps, height, width, training, seed, first):
    """y = x with columns reversed in half of the samples, and rows; outside training y = x."""
    x, y = (array.reshape(-1, maps, height, width) for array in (x, y))
    y[...] = x
    for n, bits in enumerate(_drawn(seed, first, len(x)) if training else ()):
        if horizontal and bits >> 63:
            y[n] = y[n, :, :, ::-1].copy()
        if vertical and bits >> 62 & 1:
            y[n] = y[n, :, ::-1].copy()


def flip_backward_input(dy, dx, horizontal, vertical, maps, height, width, training, seed, first):
    """dx = dy with the same columns and rows reversed: a flip is its own inverse and adjoint."""
    flip(dy, dx, horizontal, vertical, maps, height, width, training, seed, first)


def crop(x, y, pads, reflect, maps, depth, height, width, training, seed, first):
    """y = x moved by up to pads[k] cells along axis k, with zeros or reflected cells outside; else y = x."""
    x, y = (array.reshape(-1, maps, depth, height, width) for array in (x, y))
    for n, shown in enumerate(_windows(len(x), pads, reflect, (depth, height, width), training, seed, first)):
        y[n] = np.append(x[n].reshape(maps, -1), np.zeros((maps, 1)), 1)[:, shown]


def crop_backward_input(dy, dx, pads, reflect, maps, depth, height, width, training, seed, first):
    """dx = the sum of dy over the places that show a cell; outside training dx = dy."""
    dy, dx = (array.reshape(-1, maps, depth, height, width) for array in (dy, dx))
    for n, shown in enumerate(_windows(len(dy), pads, reflect, (depth, height, width), training, seed, first)):
        sums = np.zeros((shown.size + 1, maps))
        np.add.at(sums, shown.ravel(), dy[n].reshape(maps, -1).T)
        dx[n] = sums[:-1].T.reshape(dx[n].shape)


def rotate(x, y, degrees, maps, height, width, training, seed, first):
    """y = x turned about its centre, bilinear with zeros outside, by an angle up to `degrees`; else y = x."""
    x, y = (array.reshape(-1, maps, height * width) for array in (x, y))
    y[...] = x if not training else 0
    for n, bits in enumerate(_drawn(seed, first, len(x)) if training else ()):
        for cells, weights in _corners(bits, degrees, height, width):
            y[n] += weights * x[n][:, cells]


def rotate_backward_input(dy, dx, degrees, maps, height, width, training, seed, first):
    """dx = the sum of dy over the places that read a cell, with their weights; outside training dx = dy."""
    dy, dx = (array.reshape(-1, maps, height * width) for array in (dy, dx))
    dx[...] = dy if not training else 0
    for n, bits in enumerate(_drawn(seed, first, len(dy)) if training else ()):
        for cells, weights in _corners(bits, degrees, height, width):
            np.add.at(dx[n].T, cells, (weights * dy[n]).T)


def noise(x, y, deviation, features, training, seed, first):
    """y = x + deviation z, z normal; outside training y = x."""
    y[...] = x
    if training:
        bits = _drawn(seed, first * features, x.size)
        u, v = ((bits >> np.uint64(shift) & np.uint64(2**24 - 1)) / 2.0**24 for shift in (40, 16))
        y += (deviation * np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)).astype(x.dtype)


def noise_backward_input(dy, dx):
    """dx = dy."""
    dx[...] = dy


def _drawn(seed, start, count):
    """Return 64 random bits for each of `count` samples or numbers of the batch, from index `start`."""
    index = np.arange(start + 1, start + 1 + count).astype(np.uint64)
    return mix(mix(np.array([seed], np.int64).astype(np.uint64)) + index * np.uint64(0x9E3779B97F4A7C15))


def _windows(count, pads, reflect, sizes, training, seed, first):
    """Yield for each sample the flat index of the cell that each place shows, (D, H, W); one too large for a zero."""
    cells = np.arange(np.prod(sizes)).reshape(sizes)
    padding = [(pad, pad) for pad in pads]
    padded = np.pad(cells, padding, "reflect") if reflect else np.pad(cells, padding, constant_values=cells.size)
    for bits in _drawn(seed, first, count):
        starts = [((int(bits) >> 21 * k) % 2**21 * (2 * pads[k] + 1) >> 21) if training else pads[k] for k in range(3)]
        yield padded[tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))]


def _corners(bits, degrees, height, width):
    """Yield the flat index of the cell at each of the four corners around what each place reads, and its weight."""
    angle = np.radians(((int(bits) >> 40) / 2**23 - 1) * degrees)
    middle, centre = (height - 1) / 2, (width - 1) / 2
    a, b = (axis.ravel() for axis in np.mgrid[:height, :width] - np.array([middle, centre]).reshape(2, 1, 1))
    p, q = middle + np.cos(angle) * a - np.sin(angle) * b, centre + np.sin(angle) * a + np.cos(angle) * b
    for i, down in ((np.floor(p), 1 - p % 1), (np.floor(p) + 1, p % 1)):
        for j, across in ((np.floor(q), 1 - q % 1), (np.floor(q) + 1, q % 1)):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            yield np.where(inside, i * width + j, 0).astype(int), np.where(inside, down * across, 0)
