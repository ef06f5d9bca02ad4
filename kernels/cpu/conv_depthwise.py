"""Convolution of one map for each filter (depthwise): any taps, dilation and dimension, stride 1, a border of zeros.

    y[n, c, o] = b[c] + sum over taps k of W[c, k] x~[n, c, o + k d]                             (conv.py)

x (N, C, *in), W (C, 1, *taps), y (N, C, *out); x~ is x with its padding.

There is little to compute for each number that is read, so nothing is written but the result: a map is padded on the
stack, in the nearest cache, and no padded input is kept; backward_weight pads again. A plane of results is computed

    by three rows of taps      where there are as many, and rows fill their vectors: TALL rows of results share each
                               row of the map that is loaded (three_rows)
    row by row                 where rows fill their vectors (conv_by_position.py)
    as one row                 else: what comes out between its rows is not copied into the result

Backward to the input is the same over padded deltas with the taps reversed; backward to the weights multiplies rows of
deltas with rows of the map (conv_by_position_gradient.py).

No race: an iteration of forward and of backward_input owns a map of a sample, an iteration of backward_weight the taps
of a filter, whose gradient is a sum over the batch.
"""

from numba import prange

from ..compiler.kernel import helper, inlined, kernel
from ..compiler.linked import linked
from .conv_by_position import Terms, rows_of_one
from .conv_by_position_gradient import Positions, add_terms_of_one
from .conv_cells import backward_input_cells, bounded, forward_cells, group_size, mend_weights
from .conv_terms import (
    Block,
    Size,
    Sizes,
    Steps,
    Window,
    every,
    images,
    images_of,
    pack_weights,
    size_of,
    volume,
    window,
)
from .padding import Padding, copy_row, pad_map
from .tile import REGISTERS, lanes, numbers, stack_array
from .view import Images, Vectors, View
from .words import BIAS, ZERO, convolve_row, fill, load, prefetch, store, zeros

ROOM = 16384  # numbers of padded maps: in the nearest cache but one
TAPS = 1024
TALL = 8 if REGISTERS == 32 else 4  # rows of results that share the rows of the map they see
SEEN = TALL + 2  # rows of the map that three rows of taps see from there


def suits(image, kernel, dilation, padding):
    """Return whether maps of a shape, padded, have room on the stack, and no padding is further than the taps reach."""
    reach = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    cells = taps = 1
    for i, k, r, (before, after) in zip(image, kernel, reach, padding, strict=True):
        if max(before, after) > r:
            return False
        cells, taps = cells * (i + r), taps * k
    return cells <= ROOM and taps <= TAPS


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b, x~ on the stack: `padded` is left as it is."""
    C, layer, sizes = x.shape[1], window(stride, dilation, groups, pad_before, border), one_map(x, W, y)
    X, Y, weights = images_of(x), images_of(y), images_of(W)
    bias, start = View(b.reshape(-1) if b.size else W.reshape(-1), 1, 1), BIAS if b.size else ZERO
    room = padded_size(sizes.out, sizes.sums, layer.dilation)
    finite = bounded(W.size, W.reshape(-1), 0) or not padded.size
    for i in prange(x.shape[0] * C):
        n, c = i // C, i % C
        taps, first = weights.at(c, 0, 0, 0, 0), bias.at(c if b.size else 0, 0)
        filter_map(X.at(n, c, 0, 0, 0), taps, first, start, Y.at(n, c, 0, 0, 0), sizes, room, layer)
        if not finite:
            forward_cells(X.at(n, c, 0, 0, 0), taps, first, b.size > 0, Y.at(n, c, 0, 0, 0), sizes, layer)


@kernel
def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from padded dy by the reversed taps; `haloed_dy` and `dpadded` are left as they are."""
    C, layer, sizes = dy.shape[1], window(stride, dilation, groups, pad_before, border), one_map(dx, W, dy)
    dY, dX, weights = images_of(dy), images_of(dx), images_of(W)
    bias, back, mirrored = View(W.reshape(-1), 1, 1), one_map(dy, W, dx), mirrored_window(layer, sizes.sums)
    room = padded_size(back.out, back.sums, layer.dilation)
    finite = bounded(W.size, W.reshape(-1), 0)
    for i in prange(dy.shape[0] * C):
        n, c = i // C, i % C
        taps = weights.at(c, 0, 0, 0, 0)
        filter_map(dY.at(n, c, 0, 0, 0), reversed_taps(taps, sizes.sums), bias, ZERO, dX.at(n, c, 0, 0, 0), back,
                   room, mirrored)  # fmt: skip
        if not finite:
            backward_input_cells(dY.at(n, c, 0, 0, 0), taps, dX.at(n, c, 0, 0, 0), sizes, layer)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW[c, k] = sum over the batch and positions o of dy[n, c, o] x~[n, c, o + k d]."""
    N, C, sizes = x.shape[0], x.shape[1], one_map(x, dW, dy)
    layer = window(stride, dilation, groups, pad_before, border)
    X, dY, weights = images_of(x), images_of(dy), images_of(dW)
    for c in prange(C):
        weigh_map(N, X.at(0, c, 0, 0, 0), dY.at(0, c, 0, 0, 0), View(weights.at(c, 0, 0, 0, 0), 0, 1), sizes, layer)
        mend_weights(Block(c, 1, 0, 1, 0, volume(sizes.sums)), x, padded, dy, dW, layer)


# -- shapes ------------------------------------------------------------------------------------------------------------


@helper
def one_map(x, W, y):
    """Return the shapes of one map, its taps and its result."""
    return Sizes(group_size(size_of(x), x.shape[1]), size_of(W), group_size(size_of(y), x.shape[1]))


@helper
def reversed_taps(W, taps):
    """Return a filter's taps from the last one back."""
    last = W.at(0, 0, taps.depth - 1, taps.rows - 1, taps.columns - 1)
    return Images(last, W.sample_stride, W.map_stride, -W.depth_stride, -W.row_stride, -W.column_stride)


@helper
def mirrored_window(layer, taps):
    """Return the window of backward_input: with the padding that the taps reach beyond that of forward."""
    pad_before, dilation = layer.pad_before, layer.dilation
    opposite = Steps(
        (taps.depth - 1) * dilation.depth - pad_before.depth, (taps.rows - 1) * dilation.row - pad_before.row,
        (taps.columns - 1) * dilation.column - pad_before.column,
    )  # fmt: skip
    return Window(layer.stride, dilation, opposite, layer.groups, layer.border)


@helper
def padded_size(out, taps, dilation):
    """Return the shape of the map that `out` positions see."""
    return Size(
        1, out.depth + (taps.depth - 1) * dilation.depth, out.rows + (taps.rows - 1) * dilation.row,
        out.columns + (taps.columns - 1) * dilation.column,
    )  # fmt: skip


@inlined
def pad_zeros(X, size, P, room, pad_before):
    """P, a map of the size `room`, = the map X of a size with `pad_before` zeros before it and zeros behind."""
    pad_map(View(X, size.columns, 1), View(P, room.columns, 1), Padding(size, room, pad_before, 0))


# -- a map -------------------------------------------------------------------------------------------------------------


@linked
def filter_map(X: Images, W: Images, b: View, start, Y: Images, sizes: Sizes, room: Size, window: Window):
    """Y = the taps W at all positions of the map X, padded; each sum begins with b[0, 0] or, if `start` is ZERO, 0."""
    T, V, terms = stack_array(X, ROOM), stack_array(X, TAPS), numbers(TAPS)
    taps, out, dilation = sizes.sums, sizes.out, window.dilation
    P = images(T, room)
    pad_zeros(X, sizes.image, P, room, window.pad_before)
    pack_weights(1, taps, W, every(P, dilation), View(V, 1, 1), terms, 0)
    filled = out.columns % lanes(X) == 0
    three = taps.depth == 1 and taps.rows == 3 and dilation.row == 1 and out.rows >= TALL
    for d in range(out.depth):
        plane, results = View(P.at(0, 0, d, 0, 0), room.columns, 1), View(Y.at(0, 0, d, 0, 0), Y.row_stride, 1)
        if filled and three:
            next_map = View(X.at(0, 1, d, 0, 0), X.row_stride, 1)
            filter_by_three_rows(next_map, plane, View(V, taps.columns, 1), b, start, results, out, dilation)
        elif filled:
            filter_plane(plane, V, terms, b, start, results, sizes)
        else:
            filter_plane_as_row(plane, V, terms, b, start, results, sizes)


@inlined
def filter_by_three_rows(next_map, P, W, b, start, Y, out, dilation):
    """Compute a plane of Y by three rows of taps; meanwhile fetch that plane of the next map into the cache."""
    for i in range(0, out.rows, TALL):
        prefetch(next_map.row(i), TALL * next_map.row_stride)
        h = min(i, out.rows - TALL)  # the last rows may begin earlier: some twice
        for j in range(0, out.columns, lanes(P)):
            three_rows(P.at(h, j), W, b, start, Y.at(h, j), dilation.column)


@inlined
def three_rows(P, W, b, start, Y, step):
    """Compute a vector of results in each of TALL rows by three rows of taps W; a row of P is loaded once."""
    tile = fill(b, 1, TALL) if start == BIAS else zeros(P, 1, TALL)
    for k in range(W.row_stride):
        tile = convolve_row(tile, W.column(k), load(Vectors(P.column(k * step), 0, P.row_stride), 1, SEEN))
    store(Vectors(Y, 0, Y.row_stride), tile)


@inlined
def filter_plane(P, V, terms, b, start, Y, sizes):
    """Compute a plane of Y whose rows fill their vectors."""
    X, Z, out = Vectors(P, 1, P.row_stride), Vectors(Y, 0, Y.row_stride), sizes.out
    rows_of_one(Terms(V, terms, 0, volume(sizes.sums)), X, b, Z, start, out.rows, out.columns)


@inlined
def filter_plane_as_row(P, V, terms, b, start, Y, sizes):
    """Compute a plane of Y as one row as wide as the plane of P, from which the rows are copied."""
    M, rows, columns = stack_array(P, ROOM), sizes.out.rows, sizes.out.columns
    row = (rows - 1) * P.row_stride + columns
    rows_of_one(Terms(V, terms, 0, volume(sizes.sums)), Vectors(P, 1, 0), b, Vectors(M, 0, 0), start, 1, row)
    for h in range(rows):
        copy_row(Y.row(h), View(M, 0, 1, h * P.row_stride), columns)


@linked
def weigh_map(N, X: Images, dY: Images, dW: View, sizes: Sizes, window: Window):
    """dW[0, k] of a map: the sum over N samples, of which as many as there is room for are padded at once."""
    taps, out = sizes.sums, sizes.out
    room = padded_size(out, taps, window.dilation)
    P, Z = images(stack_array(X, ROOM), room), images(stack_array(X, ROOM), room)
    for k in range(volume(taps)):
        dW[0, k] = 0
    filled = out.columns % lanes(X) == 0
    at_once = max(1, ROOM // volume(room))
    for n in range(0, N, at_once):
        samples = min(at_once, N - n)
        for s in range(samples):
            pad_zeros(X.at(n + s, 0, 0, 0, 0), sizes.image, P.at(s, 0, 0, 0, 0), room, window.pad_before)
            if not filled:
                pad_zeros(dY.at(n + s, 0, 0, 0, 0), out, Z.at(s, 0, 0, 0, 0), room, Steps(0, 0, 0))
        if filled:
            weigh_rows(samples, P, dY.at(n, 0, 0, 0, 0), dW, taps, out, window.dilation)
        else:  # a plane is one row, in which zeros lie between the deltas' rows
            row = Size(1, out.depth, 1, (out.rows - 1) * room.columns + out.columns)
            weigh_rows(samples, P, Z, dW, taps, row, window.dilation)


@inlined
def weigh_rows(samples, P, dY, dW, taps, out, dilation):
    """dW[0, k] += sum over samples and `out` positions of deltas times the padded maps P."""
    over = Positions(samples, out.rows, out.columns)
    row = Images(P, P.sample_stride, dilation.column, P.depth_stride, P.row_stride, 1)  # maps are the taps of a row
    for d in range(out.depth):
        for k in range(taps.depth * taps.rows):
            cells = row.at(0, 0, d + k // taps.rows * dilation.depth, k % taps.rows * dilation.row, 0)
            add_terms_of_one(taps.columns, over, cells, dY.at(0, 0, d, 0, 0), dW.column(k * taps.columns))
