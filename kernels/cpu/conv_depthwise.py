"""Convolution of one map for each filter (depthwise): any taps, dilation and dimension, stride 1, a border of zeros.

    y[c, o] = b[c] + sum over taps k of W[c, k] x~[c, o + k d]                                   (conv.py)

There is little to compute for each number that is read, so nothing is written but the result: a map is padded on the
stack, in the nearest cache, and no padded input is kept; backward_weight pads anew. Vectors hold positions of a row
(conv_tiles.py). Where rows do not fill them, a whole plane is taken as one row: what comes out between its rows is not
copied into the result. Backward to the input is the same over padded deltas with the taps turned round; backward to the
weights multiplies rows with rows.

Parallel plan: forward and backward_input loop over all maps of all samples, which do not touch each other;
backward_weight over filters, each a sum over the batch that one iteration owns.
"""

from numba import prange

from ..compiler.kernel import array, helper, inlined, kernel, linked
from .conv_cells import backward_input_cells, bounded, forward_cells, group_size, mend_weights
from .conv_terms import Block, Sizes, images, size_of, window
from .conv_tiles import gather, plane_of_one, rows_of_taps
from .padding import move, pad
from .tile import REGISTERS, ahead, fill, lanes, load, numbers, panel, slide, store, zero
from .view import View

ROOM = 16384  # numbers of padded maps: in the nearest cache but one
TAPS = 1024
TALL = 8 if REGISTERS == 32 else 4  # rows of positions that three rows of taps are moved over at once
SEEN = TALL + 2  # rows of the map that they see


def suits(image, kernel, dilation, padding):
    """Whether maps of a shape, padded, have room on the stack, and no padding is further than the taps reach."""
    reach = tuple((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
    cells = taps = 1
    for i, k, r, (before, after) in zip(image, kernel, reach, padding, strict=True):
        if max(before, after) > r:
            return False
        cells, taps = cells * (i + r), taps * k
    return cells <= ROOM and taps <= TAPS


@helper
def _padded(out, kernel, dilation):
    """The shape of a map of which positions of the shape `out` are taken."""
    return (
        out[0] + (kernel[0] - 1) * dilation[0],
        out[1] + (kernel[1] - 1) * dilation[1],
        out[2] + (kernel[2] - 1) * dilation[2],
    )


@helper
def _one_map(x, W, y):
    """The shapes of one map, its taps and its result."""
    return Sizes(group_size(size_of(x), x.shape[1]), size_of(W), group_size(size_of(y), x.shape[1]))


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b, x~ on the stack: `padded` is left as it is."""
    C, D, H, width = x.shape[1:]
    P, Wf, B, Y = x.reshape(-1), W.reshape(-1), b.reshape(-1), y.reshape(-1)
    kernel, out = W.shape[2:], y.shape[2:]
    taps, plane = kernel[0] * kernel[1] * kernel[2], out[0] * out[1] * out[2]
    ws, room = (kernel[1] * kernel[2], kernel[2], 1), _padded(out, kernel, dilation)
    finite = bounded(W.size, Wf, 0) or not padded.size
    for i in prange(x.shape[0] * C):
        c = i % C
        filter_map(P, i * D * H * width, (D, H, width), before, room, Wf, c * taps, ws, kernel, dilation,
                   B if b.size else Wf, c, 2 if b.size else 1, Y, i * plane, out)  # fmt: skip
        if not finite:
            bias = View(B if b.size else Wf, 1, 1)
            forward_cells(images(P, size_of(x)).at(i // C, c, 0, 0, 0), images(Wf, size_of(W)).at(c, 0, 0, 0, 0),
                          bias.at(c, 0), b.size > 0, images(Y, size_of(y)).at(i // C, c, 0, 0, 0),
                          _one_map(x, W, y), window(stride, dilation, groups, before, border))  # fmt: skip


@kernel
def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from padded dy by the taps turned round; `framed` and `dpadded` are left as they are."""
    C, D, H, width = dy.shape[1:]
    Wf, dY, dX = W.reshape(-1), dy.reshape(-1), dx.reshape(-1)
    kernel, out = W.shape[2:], dx.shape[2:]
    taps, plane = kernel[0] * kernel[1] * kernel[2], out[0] * out[1] * out[2]
    ws, room = (-kernel[1] * kernel[2], -kernel[2], -1), _padded(out, kernel, dilation)
    front = (room[0] - out[0] - before[0], room[1] - out[1] - before[1], room[2] - out[2] - before[2])
    finite = bounded(W.size, Wf, 0)
    for i in prange(dy.shape[0] * C):
        w = i % C * taps
        filter_map(dY, i * D * H * width, (D, H, width), front, room, Wf, w + taps - 1, ws, kernel, dilation,
                   Wf, 0, 1, dX, i * plane, out)  # fmt: skip
        if not finite:
            at, w = i // C, i % C
            backward_input_cells(images(dY, size_of(dy)).at(at, w, 0, 0, 0), images(Wf, size_of(W)).at(w, 0, 0, 0, 0),
                                 images(dX, size_of(dx)).at(at, w, 0, 0, 0), _one_map(dx, W, dy),
                                 window(stride, dilation, groups, before, border))  # fmt: skip


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW[c, k] = sum over the batch and positions o of dy[n, c, o] x~[n, c, o + k d]."""
    N, C = x.shape[:2]
    P, dY, dWf = x.reshape(-1), dy.reshape(-1), dW.reshape(-1)
    for c in prange(C):
        weigh_maps(N, C, c, P, x.shape[2:], before, dilation, dY, dy.shape[2:], dWf, dW.shape[2:])
        mend_weights(Block(c, 1, 0, 1, 0, dW[0, 0].size), x, padded, dy, dW,
                     window(stride, dilation, groups, before, border))  # fmt: skip


@inlined
def _three(T, t, row, V, KW, step, B, b, begin, Y, y, ys):
    """A vector of positions in each of TALL rows, by three rows of KW taps: a row of the map is loaded once for all."""
    tile = fill(B, b, 0, 1, TALL) if begin == 2 else zero(T, 1, TALL)
    for k in range(KW):
        tile = slide(tile, V, k, KW, load(T, t + k * step, 0, 1, SEEN, None, row))
    store(Y, y, 0, tile, None, ys)


@linked
def filter_map(P: array, p, image: 3, before: 3, room: 3, W: array, w, ws: 3, kernel: 3, dilation: 3,
               B: array, b, begin, Y: array, y, out: 3):  # fmt: skip
    """Y[y :] = the filter W[w :], ws from tap to tap, at the positions `out` of the map P[p :], padded; see `plane`."""
    T, M, V, terms = panel(P, ROOM), panel(P, ROOM), panel(P, TAPS), numbers(TAPS)
    L = lanes(P)
    RH, RW = room[1], room[2]
    OD, OH, OW = out
    K = kernel[0] * kernel[1] * kernel[2]
    pad(P, p, image, T, 0, room, before, 0)
    steps = (0, dilation[0] * RH * RW, dilation[1] * RW, dilation[2])
    gather(1, 1, (1, kernel[0], kernel[1], kernel[2]), steps, W, w, (0, 0, ws[0], ws[1], ws[2]), V, 0, terms, 0)
    three = 3 * kernel[2] == K and kernel[1] == 3 and dilation[1] == 1 and OH >= TALL
    for d in range(OD):
        if OW % L == 0 and three:
            for i in range(0, OH, TALL):
                ahead(P, p + (image[0] + d) * image[1] * image[2] + i * image[2], TALL * image[2])
                h = min(i, OH - TALL)  # the last rows may begin earlier: some twice
                for o in range(0, OW, L):
                    _three(T, (d * RH + h) * RW + o, RW, V, kernel[2], dilation[2], B, b, begin, Y,
                           y + (d * OH + h) * OW + o, OW)  # fmt: skip
        elif OW % L == 0:
            plane_of_one(T, d * RH * RW, RW, terms, 0, K, V, B, b, begin, Y, y + d * OH * OW, (0, OW), OH, OW)
        else:
            plane_of_one(T, d * RH * RW, 0, terms, 0, K, V, B, b, begin, M, 0, (0, 0), 1, (OH - 1) * RW + OW)
            for h in range(OH):
                move(Y, y + (d * OH + h) * OW, M, h * RW, OW)


@linked
def weigh_maps(N, C, c, P: array, image: 3, before: 3, dilation: 3, dY: array, out: 3, dW: array, kernel: 3):
    """dW of map c: the sum over N samples, as many at a time as there is room for."""
    T, Z = panel(P, ROOM), panel(P, ROOM)
    room = _padded(out, kernel, dilation)
    RD, RH, RW = room
    OD, OH, OW = out
    _, KH, KW = kernel
    volume, plane, cells, w = image[0] * image[1] * image[2], OD * OH * OW, RD * RH * RW, c * kernel[0] * KH * KW
    for k in range(kernel[0] * KH * KW):
        dW[w + k] = 0
    some = max(1, ROOM // cells)
    filled = OW % lanes(P) == 0
    for n in range(0, N, some):
        count = min(some, N - n)
        for s in range(count):
            i = (n + s) * C + c
            pad(P, i * volume, image, T, s * cells, room, before, 0)
            if not filled:
                pad(dY, i * plane, out, Z, s * cells, room, (0, 0, 0), 0)
        for d in range(OD):
            for k in range(kernel[0] * KH):
                t = ((d + k // KH * dilation[0]) * RH + k % KH * dilation[1]) * RW
                if filled:
                    rows_of_taps(KW, count, dY, (n * C + c) * plane + d * OH * OW, (C * plane, 0, OW), T, t,
                                 (cells, RW), dilation[2], OH, OW, dW, w + k * KW, 0, 1)  # fmt: skip
                else:
                    rows_of_taps(KW, count, Z, d * RH * RW, (cells, 0, 0), T, t, (cells, 0), dilation[2], 1,
                                 (OH - 1) * RW + OW, dW, w + k * KW, 0, 1)  # fmt: skip
