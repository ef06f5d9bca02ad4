"""Convolution (cross-correlation, as everywhere in the field) and its backward pass.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f. Images have three
dimensions here (missing ones have size 1 and come first), so a tap k and a position o are triples.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 without padding, W (F, m, *kernel) with m = C / groups,
b (F,) or (0,), y (N, F, *out). `pad_before` is the padding before each dimension, `border` an index of
geometry.BORDERS.

Parallel plan: every direction is a matrix product (product.py) whose factors are read through tables of offsets. The
index of x~[n, a, o s + k d] is the sum of a number that depends on (n, o) and one that depends on (a, k), so two tables
replace the matrix of all windows:

    forward          rows f       columns (n, o)    sum over (a, k)
    backward_input   rows a       columns (n, i)    sum over (f, k), once for each remainder of i modulo the stride
    backward_weight  rows f       columns (a, k)    sum over (n, o)

In the loops that pad and fold, a thread owns a number of the result. In backward_bias a block of threads owns a filter
and joins its sums in a fixed order. No number is written by two threads.
"""

from itertools import product as combinations
from math import prod

import numpy as np
from numba import cuda, prange

from .. import geometry
from ..compiler.kernel import helper, kernel
from ..gpu.device_code import block_kernel, real
from ..gpu.launch import THREADS, launch, launcher, launches, table, workspace
from .block import total
from .product import Factor, multiply

_source = helper(geometry.source)


@launcher
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    image = padded if padded.size else x
    return pad(x, padded, pad_before, border) + correlate(image, W, b, y, stride, dilation, groups)


@launcher
def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    no_bias = workspace(0, W)
    if border == 0 or not dpadded.size:  # padding of zeros has no gradient: only the inside is computed
        return adjoint(W, dy, no_bias, haloed_dy, dx, stride, dilation, groups, pad_before)
    found = adjoint(W, dy, no_bias, haloed_dy, dpadded, stride, dilation, groups, (0, 0, 0))
    return found + launches(_fold, (dpadded, no_bias, dx, pad_before, border))


@launcher
def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    return weight_gradient(padded if padded.size else x, dy, dW, stride, dilation, groups)


@launcher
def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    yield launch(_backward_bias, db.size, THREADS, dy.reshape(-1), db, dy.shape[0], prod(dy.shape[2:]))


@block_kernel
def _backward_bias(dy, db, N, positions):
    """Sum of a filter's deltas; dy is flat."""
    cells = cuda.shared.array(THREADS, real)
    f, t = cuda.blockIdx.x, cuda.threadIdx.x
    part = 0.0
    for k in range(t, N * positions, THREADS):
        part += dy[(k // positions * db.size + f) * positions + k % positions]
    part = total(part, cells)
    if t == 0:
        db[f] = part


# -- convolutions as matrix products with tables of offsets; shared with conv_transpose --------------------------------


def correlate(image, W, b, y, stride, dilation, groups):
    """y[n, f, o] = b[f] + sum over (a, k) of W[f, a, k] image[n, g m + a, o s + k d]."""
    (N, C, *cells), (F, m, *kernel), places = image.shape, W.shape, prod(y.shape[2:])
    each, taps, volume = F // groups, m * prod(kernel), prod(cells)
    A = Factor(W.reshape(-1), (taps, 1), group=each * taps)
    samples = _offsets((N, C * volume), *zip(y.shape[2:], _steps(cells, stride), strict=True))
    windows = _offsets((m, volume), *zip(kernel, _steps(cells, dilation), strict=True))
    B = Factor(image.reshape(-1), along_k=False, outer=samples, inner=windows, group=m * volume)
    columns = _offsets((N, F * places), (places, 1))
    return multiply(
        A, B, b, y.reshape(-1), each, N * places, taps, columns, places * np.arange(each), groups, each * places, True
    )


def weight_gradient(image, dy, dW, stride, dilation, groups):
    """dW[f, a, k] = sum over (n, o) of dy[n, f, o] image[n, g m + a, o s + k d]."""
    (N, C, *cells), (F, m, *kernel), places = image.shape, dW.shape, prod(dy.shape[2:])
    each, taps, volume = F // groups, m * prod(kernel), prod(cells)
    inner = _offsets((N, F * places), (places, 1))
    A = Factor(dy.reshape(-1), outer=places * np.arange(each), inner=inner, group=each * places)
    samples = _offsets((N, C * volume), *zip(dy.shape[2:], _steps(cells, stride), strict=True))
    windows = _offsets((m, volume), *zip(kernel, _steps(cells, dilation), strict=True))
    B = Factor(image.reshape(-1), outer=windows, inner=samples, group=m * volume)
    rows = taps * np.arange(each)
    no_bias = workspace(0, dW)
    return multiply(
        A, B, no_bias, dW.reshape(-1), each, taps, N * places, np.arange(taps), rows, groups, each * taps, True
    )


def adjoint(W, dy, b, room, image, stride, dilation, groups, first):
    """image[n, c, q - first] = b[c] + sum over (f, k) of W[f, c - g m, k] dy[n, f, (q - k d) / s] where that is whole.

    Cells q with the same remainder modulo the stride have the same taps: each such class is a product. Zeros around dy
    (in `room`, if it is large enough) stand for positions beyond its edges.
    """
    (N, F, *places), (_, m, *kernel), (_, C, *cells) = dy.shape, W.shape, image.shape
    each, size, volume = F // groups, prod(kernel), prod(cells)
    rows = [list(_classes(*row)) for row in zip(kernel, stride, dilation, first, cells, strict=True)]
    low = [min(c[1] - max(c[4], default=0) for c in row) for row in rows]
    high = [max(c[1] + c[2] - min(c[4], default=0) for c in row) for row in rows]
    found, dy_padded = [], dy
    if any(low) or tuple(high) != tuple(places):
        places = [h - l for l, h in zip(low, high, strict=True)]
        needed = N * F * prod(places)
        dy_padded = room if room is not None and room.size >= needed else workspace(needed, dy)
        found = launches(_pad_dy, (dy, dy_padded.reshape(-1), N * F, tuple(places), tuple(low)))
    steps, positions = _steps(places, (1, 1, 1)), prod(places)
    for parts in combinations(*rows):
        cell, begin, count, taps, shifts = zip(*parts, strict=True)
        tap = _offsets(*zip(taps, _steps(kernel, (1, 1, 1)), strict=True))
        picked = _offsets((groups, each * m * size), (m, size), (each, m * size), (tap, 1))
        taken = workspace(len(picked), W)
        found += launches(_take, (W.reshape(-1), table(picked, W), taken))
        A = Factor(taken, (each * len(tap), 1), group=m * each * len(tap))
        back = _offsets(*((-np.asarray(e, int), step) for e, step in zip(shifts, steps, strict=True)))
        at = sum((u - l) * step for u, l, step in zip(begin, low, steps, strict=True))
        columns = at + _offsets((N, F * positions), *zip(count, steps, strict=True))
        B = Factor(dy_padded.reshape(-1), along_k=False, outer=columns, inner=_offsets((each, positions), (back, 1)),
                   group=each * positions)  # fmt: skip
        start = sum(c * step for c, step in zip(cell, _steps(cells, (1, 1, 1)), strict=True))
        to = start + _offsets((N, C * volume), *zip(count, _steps(cells, stride), strict=True))
        found += multiply(
            A, B, b, image.reshape(-1), m, len(columns), each * len(tap), to, volume * np.arange(m), groups, m * volume,
            True,
        )  # fmt: skip
    return found


def _classes(k, s, d, first, i):
    """Yield (first cell, its u, number, taps, shifts) of the cells q = s u + r, for each remainder r of one dimension.

    Cell q has tap t if t d has the same remainder; the tap's position is u - shift.
    """
    for r in range(s):
        begin, end = -(-(first - r) // s), (first + i - 1 - r) // s + 1
        taps = [t for t in range(k) if t * d % s == r]
        if begin < end:
            yield s * begin + r - first, begin, end - begin, taps, [t * d // s for t in taps]


def _steps(sizes, factors):
    """Return the step from cell to cell of an image in each dimension, times that dimension's factor."""
    return [prod(sizes[k + 1 :]) * factors[k] for k in range(len(sizes))]


def _offsets(*axes):
    """Return all sums of i step over axes (count or indices, step), the last axis fastest."""
    found = np.zeros(1, np.int64)
    for count, step in axes:
        indices = np.arange(count) if np.ndim(count) == 0 else np.asarray(count, np.int64)
        found = (found[:, None] + indices * step).reshape(-1)
    return found


# -- padding -----------------------------------------------------------------------------------------------------------


def pad(x, padded, pad_before, border):
    """Return the launches that fill `padded`; [] without padding."""
    return launches(_pad, (x, padded, pad_before, border)) if padded.size else []


@kernel
def _pad(x, padded, pad_before, border):
    """padded[q] = x at the source cell of q, or zero."""
    D, H, W = x.shape[2:]
    PD, PH, PW = padded.shape[2:]
    images, cells = x.reshape(-1), padded.reshape(-1)
    for i in prange(padded.size):
        w, h, d, image = i % PW, i // PW % PH, i // (PW * PH) % PD, i // (PW * PH * PD)
        sd = _source(d - pad_before[0], D, border)
        sh = _source(h - pad_before[1], H, border)
        sw = _source(w - pad_before[2], W, border)
        inside = sd >= 0 and sh >= 0 and sw >= 0
        cells[i] = images[((image * D + sd) * H + sh) * W + sw] if inside else 0.0


@kernel
def _fold(dpadded, b, dx, pad_before, border):
    """dx = b + the adjoint of padding: every cell adds the gradients of the padded cells that hold its value."""
    C, D, H, W = dx.shape[1:]
    PD, PH, PW = dpadded.shape[2:]
    images, cells = dx.reshape(-1), dpadded.reshape(-1)
    for i in prange(dx.size):
        w, h, d, image = i % W, i // W % H, i // (W * H) % D, i // (W * H * D)
        total = b[image % C] if b.size > 0 else 0.0
        for pd in range(PD):
            if _source(pd - pad_before[0], D, border) == d:
                for ph in range(PH):
                    if _source(ph - pad_before[1], H, border) == h:
                        for pw in range(PW):
                            if _source(pw - pad_before[2], W, border) == w:
                                total += cells[((image * PD + pd) * PH + ph) * PW + pw]
        images[i] = total


@kernel
def _take(W, places, taken):
    """taken = W[places]: the weights of some taps, a row for each map of the result."""
    for i in prange(taken.size):
        taken[i] = W[places[i]]


@kernel
def _pad_dy(dy, dy_padded, maps, places, low):
    """dy_padded[map, p] = dy[map, p + low], zero beyond the edges of dy."""
    OD, OH, OW = dy.shape[2:]
    deltas = dy.reshape(-1)
    PD, PH, PW = places
    for i in prange(maps * PD * PH * PW):
        w, h, d = i % PW + low[2], i // PW % PH + low[1], i // (PW * PH) % PD + low[0]
        inside = 0 <= w < OW and 0 <= h < OH and 0 <= d < OD
        dy_padded[i] = deltas[((i // (PW * PH * PD) * OD + d) * OH + h) * OW + w] if inside else 0.0
