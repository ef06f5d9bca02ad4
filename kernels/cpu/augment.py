"""Augmentation: in training each sample is changed at random; in prediction y = x.

The draw of a sample is a hash of (seed, index of the sample in the batch), as in dropout.py, and is computed again on
the way back. Arrays are flat, samples of `maps` planes of `height` rows of `width` numbers (crop: volumes of `depth`
planes). Parallel plan: an iteration owns a row of the result (noise: a number) and reads what it needs, so no two
iterations write one number, and each sum has one order. Sources are in reference/augment.py.
"""

from math import pi

import numpy as np
from numba import prange, uintp

from ..compiler.kernel import inlined, kernel
from .dropout import mix

HALF = pi / 360  # half an angle in degrees
REACH = 1.5  # a turned square of side 2 lies within sqrt(2) of its centre


@inlined
def drawn(key, index):
    """Return 64 random bits for a sample (noise: a number) of the batch, counted from 0."""
    return mix(np.uint64(key) + np.uint64(index + 1) * np.uint64(0x9E3779B97F4A7C15))


@inlined
def coin(bits, k):
    """Return whether bit k, counted from the first one, is 1."""
    return np.uint64(bits) >> np.uint64(63 - k) & np.uint64(1) == np.uint64(1)


@inlined
def shift(bits, axis, pad):
    """Return a whole number from -pad to pad, each as likely, from the 21 bits of an axis."""
    part = np.uint64(bits) >> np.uint64(21 * axis) & np.uint64(0x1FFFFF)
    return np.int64(part * np.uint64(2 * pad + 1) >> np.uint64(21)) - pad


@inlined
def sine(angle):
    """Return sin(angle) for -pi/2 to pi/2 by Taylor's series, to 5e-14: without branches, for loops of vectors."""
    real = type(angle)
    series = real(1)
    for k in range(8, 0, -1):
        series = real(1) - angle * angle * (real(1) / real(2 * k * (2 * k + 1))) * series
    return angle * series


@inlined
def turn(bits, degrees):
    """Return cosine and sine of an angle from -degrees to degrees."""
    real = type(degrees)
    half = (real(bits >> np.uint64(40)) / real(8388608) - real(1)) * degrees * real(HALF)
    s = sine(half)
    return real(1) - real(2) * s * s, real(2) * s * sine(real(0.5 * pi) - abs(half))


@inlined
def mirrored(x, y, r, bits, horizontal, vertical, height, width):
    """Write row r of y: row r of x or, as the draw says, the row across the middle, its numbers in reverse, or both."""
    row = r + height - 1 - 2 * (r % height) if vertical and coin(bits, 1) else r
    reverse = horizontal and coin(bits, 0)
    for w in range(width):
        y[r * width + w] = x[row * width + (width - 1 - w if reverse else w)]


@inlined
def copied(x, y, start, width):
    """Copy a row: y = x in prediction."""
    for i in range(start, start + width):
        y[i] = x[i]


@inlined
def shown(q, size, reflect):
    """Return the cell of an axis that position q shows; -1 for a zero outside."""
    if reflect:
        q = abs(q)
        q = q if q < size else 2 * (size - 1) - q
    return q if 0 <= q < size else -1


@inlined
def shows(cell, size, move, k):
    """Return the k-th place of the result that shows a cell of an axis; -1 if there is none.

    Place q shows position q + move: the cell itself (k = 0), or its image at the lower or the upper end.
    """
    if (k == 1 and cell == 0) or (k == 2 and cell == size - 1):  # the ends have no image
        return -1
    q = (cell if k == 0 else -cell if k == 1 else 2 * (size - 1) - cell) - move
    return q if 0 <= q < size else -1


@inlined
def shown_from(total, dy, start, w, width, move, ways):
    """Add to a sum the numbers of a row of dy whose places show column w."""
    for k in range(ways):
        column = shows(w, width, move, k)
        if column >= 0:
            total = total + dy[start + column]
    return total


@inlined
def cell(x, start, i, j, height, width):
    """Return number (i, j) of the plane that begins at `start`; 0 outside."""
    inside = 0 <= i < height and 0 <= j < width
    return x[uintp(start + i * width + j)] if inside else type(x[0])(0)


@kernel
def flip(x, y, horizontal, vertical, maps, height, width, training, seed, first):
    """y = x with columns reversed in half of the samples, and rows; outside training y = x."""
    key = mix(np.uint64(seed))
    for r in prange(y.size // width):
        if not training:
            copied(x, y, r * width, width)
            continue
        bits = drawn(key, first + r // (maps * height))
        mirrored(x, y, r, bits, horizontal, vertical, height, width)


@kernel
def flip_backward_input(dy, dx, horizontal, vertical, maps, height, width, training, seed, first):
    """dx = dy with the same columns and rows reversed: a flip is its own inverse and adjoint."""
    key = mix(np.uint64(seed))
    for r in prange(dx.size // width):
        if not training:
            copied(dy, dx, r * width, width)
            continue
        bits = drawn(key, first + r // (maps * height))
        mirrored(dy, dx, r, bits, horizontal, vertical, height, width)


@kernel
def crop(x, y, pads, reflect, maps, depth, height, width, training, seed, first):
    """y = x moved by up to pads[k] cells along axis k, with zeros or reflected cells outside; else y = x."""
    key = mix(np.uint64(seed))
    for r in prange(y.size // width):
        if not training:
            copied(x, y, r * width, width)
            continue
        d, h = r // height % depth, r % height
        bits = drawn(key, first + r // (maps * depth * height))
        front = shown(d + shift(bits, 0, pads[0]), depth, reflect)
        row = shown(h + shift(bits, 1, pads[1]), height, reflect)
        move, start = shift(bits, 2, pads[2]), (r + (front - d) * height + row - h) * width
        for w in range(width):
            column = shown(w + move, width, reflect) if front >= 0 and row >= 0 else -1
            y[r * width + w] = x[start + column] if column >= 0 else 0.0


@kernel
def crop_backward_input(dy, dx, pads, reflect, maps, depth, height, width, training, seed, first):
    """dx = the sum of dy over the places that show a cell; outside training dx = dy."""
    key = mix(np.uint64(seed))
    ways = 3 if reflect else 1
    for r in prange(dx.size // width):
        if not training:
            copied(dy, dx, r * width, width)
            continue
        d, h = r // height % depth, r % height
        bits = drawn(key, first + r // (maps * depth * height))
        deep, down, across = shift(bits, 0, pads[0]), shift(bits, 1, pads[1]), shift(bits, 2, pads[2])
        for w in range(width):
            total = 0.0
            for k in range(ways * ways):
                front, row = shows(d, depth, deep, k // ways), shows(h, height, down, k % ways)
                start = (r + (front - d) * height + row - h) * width
                if front >= 0 and row >= 0:
                    total = shown_from(total, dy, start, w, width, across, ways)
            dx[r * width + w] = total


@kernel
def rotate(x, y, degrees, maps, height, width, training, seed, first):
    """y = x turned about its centre, bilinear with zeros outside, by an angle up to `degrees`; else y = x."""
    key = mix(np.uint64(seed))
    middle, centre = 0.5 * float(height - 1), 0.5 * float(width - 1)
    for r in prange(y.size // width):
        if not training:
            copied(x, y, r * width, width)
            continue
        h, (cos, sin) = r % height, turn(drawn(key, first + r // (maps * height)), degrees)
        for w in range(width):
            a, b = float(h) - middle, float(w) - centre
            p, q = middle + cos * a - sin * b, centre + sin * a + cos * b
            i, j = int(np.floor(p)), int(np.floor(q))
            down, across, start = p - float(i), q - float(j), (r - h) * width
            upper, upper_next = cell(x, start, i, j, height, width), cell(x, start, i, j + 1, height, width)
            lower, lower_next = cell(x, start, i + 1, j, height, width), cell(x, start, i + 1, j + 1, height, width)
            upper, lower = upper + across * (upper_next - upper), lower + across * (lower_next - lower)
            y[r * width + w] = upper + down * (lower - upper)


@kernel
def rotate_backward_input(dy, dx, degrees, maps, height, width, training, seed, first):
    """dx = the sum of dy over the places that read a cell, with their weights; outside training dx = dy."""
    key = mix(np.uint64(seed))
    middle, centre = 0.5 * float(height - 1), 0.5 * float(width - 1)
    for r in prange(dx.size // width):
        if not training:
            copied(dy, dx, r * width, width)
            continue
        h, (cos, sin) = r % height, turn(drawn(key, first + r // (maps * height)), degrees)
        for w in range(width):
            a, b = float(h) - middle, float(w) - centre
            p, q = middle + cos * a + sin * b, centre - sin * a + cos * b  # where the cell goes
            rows = max(int(np.ceil(p - REACH)), 0), min(int(np.floor(p + REACH)) + 1, height)
            columns = max(int(np.ceil(q - REACH)), 0), min(int(np.floor(q + REACH)) + 1, width)
            total = 0.0
            for i in range(rows[0], rows[1]):
                for j in range(columns[0], columns[1]):
                    a, b = float(i) - p, float(j) - q
                    down, across = 1.0 - abs(cos * a - sin * b), 1.0 - abs(sin * a + cos * b)
                    total += max(down, 0.0) * max(across, 0.0) * dy[(r - h + i) * width + j]
            dx[r * width + w] = total


@kernel
def noise(x, y, deviation, features, training, seed, first):
    """y = x + deviation sqrt(-2 log(1 - u)) cos(2 pi v) with u, v uniform in [0, 1); outside training y = x."""
    key = mix(np.uint64(seed))
    start = first * features
    for i in prange(y.size):
        bits = drawn(key, start + i)
        u = float(bits >> np.uint64(40)) / 16777216.0
        v = float(bits >> np.uint64(16) & np.uint64(0xFFFFFF)) / 16777216.0
        z = np.sqrt(-2.0 * np.log1p(-u)) * sine(2.0 * np.pi * (abs(v - 0.5) - 0.25))
        y[i] = x[i] + deviation * z if training else x[i]


@kernel
def noise_backward_input(dy, dx):
    """dx = dy."""
    for i in prange(dx.size):
        dx[i] = dy[i]
