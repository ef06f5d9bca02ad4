"""Convolution (cross-correlation, as everywhere in the field) and its backward pass.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f. Images have three
dimensions here (a leading 1 for each missing one), so a tap k and a position o are triples.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 where nothing is padded, W (F, m, *kernel) with
m = C / groups, b (F,) or (0,), y (N, F, *out). `before` is the padding before each dimension, `border` an index of
geometry.BORDERS.

Parallel plan: forward and backward_input loop over some samples at a time, padding included; of very few samples
forward takes runs of filters, each of which pads its sample for itself. backward_weight loops over blocks of filters
and maps, whose part of dW is a sum over the batch that one iteration owns, backward_bias over filters. The loops
themselves, on register tiles, are in conv_tiles.py and conv_by_position_gradient.py; of many filters they are in
conv_filters.py, of 3 x 3 taps and many maps in winograd.py, and of one map for each filter in conv_depthwise.py
(layers/conv.py chooses, from shapes). Indices that Numba would test for "counted from the end" are unsigned (uintp).
"""

from numba import prange, uintp

from ..compiler.kernel import helper, kernel
from .conv_by_position_gradient import backward_weight_block, block_of, blocks_of
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_terms import Share, window
from .conv_tiles import backward_input_tiles, forward_tiles
from .padding import fold, pad, pad_maps
from .tile import panel, pointer

ROWS = 512  # samples whose sums are added up before they are added to the sum of all
SAMPLES = 8  # for which weights are packed once
FEW = 3  # samples, at most, that are divided by filters too
SPLITS = 4
SAMPLE = 131072  # numbers of padded samples that have room on the stack


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    N, C = x.shape[:2]
    image = padded if padded.size else x
    P, Wf, B, Y, T = image.reshape(-1), W.reshape(-1), b.reshape(-1), y.reshape(-1), panel(x, SAMPLE)
    volume, runs = image.shape[2] * image.shape[3] * image.shape[4], splits(y, padded, groups)
    for block in prange(blocks(N, runs)):
        first, last, f, some = share(block, N, runs, W.shape[0] // groups)
        own = pad_share(block % runs, first, last, x, padded, T, before, border)
        p = 0 if own else first * C * volume
        forward_tiles(first, last - first, T if own else pointer(P), p, image.shape[1:], Wf, W.shape[1:], B, b.size > 0,
                      Y, y.shape[1:], stride, dilation, groups, f, some)  # fmt: skip
        if padded.size and border == 0 and not bounded(W.size, Wf, 0):
            forward_by_cells(Share(first, last, f, some), x, W, b, y, window(stride, dilation, groups, before, border))


@kernel
def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, first = (dx, before) if inside else (dpadded, (0, 0, 0))
    Wf, dY, U, dX = W.reshape(-1), dy.reshape(-1), framed.reshape(-1), image.reshape(-1)
    shapes = (W.shape[1:], dy.shape[1:], framed.shape[1:], image.shape[1:])
    N, bare, T = dy.shape[0], shapes[1] == shapes[2], panel(W, SAMPLE)
    near = 0 if bare else held(framed[0].size)
    step = near if near else SAMPLES
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        for n in range(block * SAMPLES, min(N, (block + 1) * SAMPLES), step):
            source, u = T if near else pointer(dY if bare else U), 0 if near else n * framed[0].size
            backward_input_tiles(n, min(step, N - n), Wf, shapes[0], dY, shapes[1], source, u, shapes[2], dX, shapes[3],
                                 stride, dilation, groups, first)  # fmt: skip
        if not bare and not bounded(W.size, Wf, 0):
            backward_input_by_cells(block * SAMPLES, min(N, (block + 1) * SAMPLES), W, dy, image,
                                    window(stride, dilation, groups, first, border))  # fmt: skip
        for n in range(N if inside else block * SAMPLES, min(N, (block + 1) * SAMPLES)):
            fold(n, dpadded, dx, before, border)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    image, layer = padded if padded.size else x, window(stride, dilation, groups, before, border)
    for i in prange(blocks_of(dW, groups)):
        block = block_of(i, dW, groups)
        backward_weight_block(block, image, dy, dW, layer)
        mend_weights(block, x, padded, dy, dW, layer)


@kernel
def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    N, F, OD, OH, OW = dy.shape
    dY, plane = dy.reshape(-1), OD * OH * OW
    for f in prange(db.size):
        total = 0.0
        for first in range(0, N, ROWS):
            portion = 0.0
            for n in range(first, min(N, first + ROWS)):
                at, row = uintp((n * F + f) * plane), 0.0
                for i in range(uintp(plane)):
                    row += dY[at + i]
                portion += row
            total += portion
        db[f] = total


@helper
def held(size):
    """How many samples' frames, so many numbers each, have room on the stack: some of an iteration's, or none.

    They leave half of the room, and so of the second-level cache, to what is read and written beside them.
    """
    count = SAMPLES
    while count * size > SAMPLE // 2:
        count //= 2
    return count


# -- how forward is divided --------------------------------------------------------------------------------------------


@helper
def splits(y, padded, groups):
    """Into how many runs of filters each sample is divided: one, but where there are fewer samples than threads."""
    N, F = y.shape[:2]
    return max(1, min(SPLITS, F // 16)) if N <= FEW and groups == 1 and padded.size <= N * SAMPLE else 1


@helper
def blocks(N, runs):
    """How many iterations forward has: some samples each, or a run of filters of one."""
    return (N + SAMPLES - 1) // SAMPLES if runs == 1 else N * runs


@helper
def share(block, N, runs, F):
    """The samples from `first` to before `last` and the filters f to f + some of an iteration, of F filters a group."""
    step, i, run = SAMPLES if runs == 1 else 1, block // runs, block % runs
    wide = (F + runs * 8 - 1) // (runs * 8) * 8 if runs > 1 else F
    return i * step, min(N, (i + 1) * step), min(F, run * wide), min(F, (run + 1) * wide) - min(F, run * wide)


@helper
def pad_share(run, first, last, x, padded, T, before, border):
    """Pad an iteration's samples; whether into T, as all runs of a sample but the first do, which keeps it."""
    own = run > 0 and padded.size > 0
    C, D, H, W = x.shape[1:]
    room, P = padded.shape[2:], x.reshape(-1)
    if run == 0:
        pad_maps(first * C, last * C, 1, x, padded, before, border)
    for c in range(C if own else 0):
        p, t = (first * C + c) * D * H * W, c * room[0] * room[1] * room[2]
        pad(P, p, (D, H, W), T, t, room, before, border)
    return own
