"""Convolution with filters in the lanes of vectors: any taps, stride, dilation and border, many maps.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]           (conv.py)

Shapes are those of conv.py. A tile is R positions by C vectors of filters. For each term (map and tap) it reads C
vectors of packed weights and one number of the image a position, from any address: stride, dilation and dimension only
change addresses, and no lane is lost at the end of a row. (conv_by_position.py has positions in its lanes, which suits
few filters or few terms.) The loops of forward::

    iterations of prange: SAMPLES samples, or a part of the filters of one sample
      for each group, at most ROOM weights at once    pack: they stay in the second-level cache
        for each sample                               convolve, with the loops of conv_by_filter_tiles.py

Backward to the input is the same with filters and maps exchanged and the taps reversed, over deltas in a frame of
zeros, one remainder of the stride after the other (`conv_terms.remainder`). Backward to the weights has other tiles,
those of conv_by_filter_gradient.py.

No race: iterations of forward and backward_input own samples (of forward, perhaps only some of their filters) and pack
weights for themselves; those of backward_weight own filters and maps of dW, whose sums over the batch they make alone.
"""

from typing import NamedTuple

from numba import prange

from ..compiler.kernel import helper, inlined, kernel
from .conv import SAMPLE, SAMPLES, blocks, pad_share, share, splits
from .conv_by_filter_gradient import gradient, shares
from .conv_by_filter_tiles import ROOM, TERMS, Packed, at_once, convolve, pack
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_terms import (
    ALL_LIVE,
    Block,
    Frame,
    Share,
    Size,
    Steps,
    Window,
    every,
    frame_of,
    images,
    remainder,
    remainders,
    size_of,
    volume,
    window,
)
from .padding import fold, pad_and_dilate
from .tile import BYTES, REGISTERS, lanes, numbers, stack_array
from .view import Images, View

TERMS_FROM = 64  # terms that make transposing results pay


def suits(results, terms, width=0, stride=2):
    """Return whether these kernels suit `results` filters (or maps) of a group, each a sum of `terms`.

    At stride 1 they do only if two vectors are full, or if rows of `width` positions would fill theirs badly. With 32
    registers one full vector does, too, unless rows fill pairs of vectors.
    """
    L = BYTES // 4  # numbers of float32 in a vector
    full = 2 * results >= 3 * L or (REGISTERS == 32 and results == L and width % (2 * L) > 0)
    full = full or 4 * width < 3 * ((width + L - 1) // L * L)
    enough = results >= 8 and 4 * results >= 3 * L and terms <= TERMS
    return enough and (stride > 1 or (full and terms >= TERMS_FROM))


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    layer, image = window(stride, dilation, groups, pad_before, border), padded if padded.size else x
    size, sums, out = size_of(image), size_of(W), size_of(y)
    P, weights, Y = images(image.reshape(-1), size), images(W.reshape(-1), sums), images(y.reshape(-1), out)
    bias = View(b.reshape(-1) if b.size else W.reshape(-1), 1, 1)
    N, each, K = y.shape[0], out.maps // groups, sums.maps * volume(sums)
    S, T, terms = stack_array(x, SAMPLE), stack_array(x, ROOM), numbers(TERMS)
    packed, most, runs = Packed(View(T, K, 1), terms, 0), at_once(K, lanes(x)), splits(y, W, padded, groups)
    for block in prange(blocks(N, runs)):
        first, last, begin, some = share(block, N, runs, each)
        own = pad_share(block % runs, first, last, x, padded, S, pad_before, border)
        source = images(S, size) if own else P.at(first, 0, 0, 0, 0)
        for g in range(groups):
            for i in range(0, some, most):
                R, f = min(most, some - i), g * each + begin + i
                pack(R, weights.at(f, 0, 0, 0, 0), every(source, layer.dilation), sums, packed)
                for n in range(first, last):
                    convolve(every(source.at(n - first, g * sums.maps, 0, 0, 0), layer.stride), packed,
                             bias.at(f if b.size else 0, 0), b.size > 0, Y.at(n, f, 0, 0, 0), sums,
                             Size(R, out.depth, out.rows, out.columns), ALL_LIVE)  # fmt: skip
        if padded.size and border == 0 and not bounded(W.size, W.reshape(-1), 0):
            forward_by_cells(Share(first, last, begin, some), x, W, b, y, layer)


@kernel
def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, first = (dx, pad_before) if inside else (dpadded, (0, 0, 0))
    N, layer = dy.shape[0], window(stride, dilation, groups, first, border)
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        start, end = block * SAMPLES, min(N, (block + 1) * SAMPLES)
        for g in range(groups):
            backward_group(g, start, end, W, dy, haloed_dy, image, layer)
        if dy.shape[1:] != haloed_dy.shape[1:] and not bounded(W.size, W.reshape(-1), 0):
            backward_input_by_cells(start, end, W, dy, image, layer)
        if not inside:
            for n in range(start, end):
                fold(n, dpadded, dx, pad_before, border)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    layer, image = window(stride, dilation, groups, pad_before, border), padded if padded.size else x
    size, sums, out = size_of(image), size_of(dW), size_of(dy)
    P, dY, weights = images(image.reshape(-1), size), images(dy.reshape(-1), out), images(dW.reshape(-1), sums)
    each, m, K = out.maps // groups, sums.maps, volume(sums)
    filters, maps = shares(each, m, K, groups, 2 * lanes(x))
    down, across = (each + filters - 1) // filters, (m + maps - 1) // maps
    for block in prange(groups * down * across):
        g, first, a = block // (down * across), block // across % down * filters, block % across * maps
        R, some, f = min(filters, each - first), min(maps, m - a), g * each + first
        gradient(dy.shape[0], P.at(0, g * m + a, 0, 0, 0), dY.at(0, f, 0, 0, 0), weights.at(f, a, 0, 0, 0),
                 Size(some, sums.depth, sums.rows, sums.columns), Size(R, out.depth, out.rows, out.columns),
                 layer)  # fmt: skip
        mend_weights(Block(f, R, a, some, 0, K), x, padded, dy, dW, layer)


# -- backward to the input ---------------------------------------------------------------------------------------------


class Adjoint(NamedTuple):
    """The terms of the gradient of the input: filters of a group and all taps, over deltas in a frame."""

    sums: Size
    frame: Frame
    image: Size
    window: Window


@helper
def backward_group(g, start, end, W, dy, haloed_dy, dx, layer):
    """dx (or the padded dx) of one group's maps, of the samples from `start` to before `end`."""
    taps, out, room, image = size_of(W), size_of(dy), size_of(haloed_dy), size_of(dx)
    each, m = out.maps // layer.groups, taps.maps
    first, K = g * each, each * volume(taps)
    sums = Size(each, taps.depth, taps.rows, taps.columns)
    deltas_at = frame_of(Steps(taps.depth, taps.rows, taps.columns), layer.stride, layer.dilation, out.rows)
    adjoint = Adjoint(sums, deltas_at, image, layer)
    deltas, frames, bare = dy.reshape(-1), haloed_dy.reshape(-1), dy.shape[1:] == haloed_dy.shape[1:]
    own = not bare and each * volume(room) <= SAMPLE  # one frame on the stack serves one sample after the other
    S, T, terms = stack_array(W, SAMPLE), stack_array(W, ROOM), numbers(TERMS)
    U = images(S, room) if own else images(deltas if bare else frames, room, first * volume(room))
    weights, dX, dY = images(W.reshape(-1), taps), images(dx.reshape(-1), image), images(deltas, out)
    packed, most = Packed(View(T, K, 1), terms, 0), at_once(K, lanes(W))
    for c in range(0, m, most):
        R = min(most, m - c)
        pack_remainders(R, weights.at(first, c, 0, 0, 0), U, packed, adjoint)
        for n in range(start, end):
            if own or (not bare and c == 0):
                results, frame = Size(each, out.depth, out.rows, out.columns), adjoint.frame
                pad_and_dilate(dY.at(n, first, 0, 0, 0), U.at(0 if own else n, 0, 0, 0, 0), results, room, frame.gaps,
                               frame.edge)  # fmt: skip
            convolve_remainders(R, U.at(0 if own else n, 0, 0, 0, 0), packed, dX.at(n, g * m + c, 0, 0, 0), adjoint)


@inlined
def nth(r, adjoint):
    """Return the r-th remainder, and what is summed for one of its cells: filters, and the taps that it meets."""
    taps, layer = adjoint.sums, adjoint.window
    part = remainder(r, adjoint.frame, Steps(taps.depth, taps.rows, taps.columns), layer.dilation, layer.pad_before,
                     adjoint.image)  # fmt: skip
    return part, Size(taps.maps, part.taps.depth, part.taps.row, part.taps.column)


@helper
def pack_remainders(R, W, U, packed, adjoint):
    """Pack the weights of R maps, one remainder after the other."""
    k, step = 0, adjoint.frame.classes
    for r in range(remainders(adjoint.frame)):
        part, sums = nth(r, adjoint)
        last = W.at(0, 0, part.tap.depth, part.tap.row, part.tap.column)
        exchanged = Images(last, W.map_stride, W.sample_stride, -step.depth * W.depth_stride, -step.row * W.row_stride,
                           -step.column * W.column_stride)  # fmt: skip
        pack(R, exchanged, every(U, adjoint.window.dilation), sums, Packed(packed.weights, packed.terms, k))
        k += sums.maps * volume(sums)


@helper
def convolve_remainders(R, U, packed, dX, adjoint):
    """dX = R maps of a sample, one remainder after the other while its frame U is near."""
    k = 0
    for r in range(remainders(adjoint.frame)):
        part, sums = nth(r, adjoint)
        cells = every(dX.at(0, 0, part.cell.depth, part.cell.row, part.cell.column), adjoint.frame.classes)
        out = Size(R, part.cells.depth, part.cells.row, part.cells.column)
        convolve(U.at(0, 0, part.deltas.depth, part.deltas.row, part.deltas.column),
                 Packed(packed.weights, packed.terms, k), packed.weights, 0, cells, sums, out, part.live)  # fmt: skip
        k += sums.maps * volume(sums)
