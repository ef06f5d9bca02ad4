"""Convolution (cross-correlation, as everywhere in the field) and its backward pass.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]

with x~ the padded input, s the stride, d the dilation, g = f // (filters / groups) the group of f. Images have three
dimensions here (a leading 1 for each missing one), so a tap k and a position o are triples.

Shapes: x (N, C, *in), padded (N, C, *padded in) or size 0 where nothing is padded, W (F, m, *kernel) with
m = C / groups, b (F,) or (0,), y (N, F, *out). `pad_before` is the padding before each dimension, `border` an index of
geometry.BORDERS; `haloed_dy` holds the deltas in a halo of zeros (conv_terms.frame_of).

The kernels in this file have positions of a row in the lanes of a vector (conv_by_position.py). For many filters there
is conv_by_filter.py, for 3 x 3 taps and many maps winograd.py, for one map a filter conv_depthwise.py: layers/conv.py
chooses, from shapes.

No race: forward and backward_input loop over blocks of SAMPLES samples, padding included; for very few samples an
iteration of forward computes a run of filters of one sample, and pads that on its own stack. backward_weight loops over
blocks of filters and maps, each a sum over the batch that one iteration owns, backward_bias over filters.
"""

from numba import prange

from ..compiler.kernel import helper, kernel
from .conv_by_position import forward_by_position, unreached_by_correlate
from .conv_by_position_gradient import backward_weight_block, block_of, blocks_of
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_input_by_position import backward_input_by_position
from .conv_terms import Share, images, size_of, steps, window
from .padding import Padding, fold, pad_map, pad_maps
from .tile import lanes, pointer, stack_array
from .view import View

ROWS = 512  # samples whose sums are added up before they are added to the sum of all
SAMPLES = 8  # samples of an iteration: weights are packed once for them
FEW = 3  # batches up to this size are divided by filters too
SPLITS = 4  # runs of filters, at most: each pads the sample again
DIVIDE = 500_000  # multiplications from which the program divides a layer (schedule.DIVIDE): with less, one run is best
SAMPLE = 131072  # numbers of padded samples that fit on the stack: 512 kB in float32


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    N = x.shape[0]
    image = padded if padded.size else x
    P, T, size = pointer(image), stack_array(x, SAMPLE), size_of(image)
    runs, steps_of = splits(y, W, padded, groups), window(stride, dilation, groups, pad_before, border)
    for block in prange(blocks(N, runs)):
        mine = share(block, N, runs, W.shape[0] // groups)
        own = pad_share(block % runs, mine.first, mine.end, x, padded, T, pad_before, border)
        samples = images(T if own else P, size).at(0 if own else mine.first, 0, 0, 0, 0)
        forward_by_position(mine, samples, W, b, y, steps_of)
        if padded.size and border == 0 and not bounded(W.size, W.reshape(-1), 0):
            forward_by_cells(mine, x, W, b, y, steps_of)


@forward.unreached
def unreached_by_forward(given):
    F = given.W.shape[0] // given.groups
    filters = {share.py_func(run, 1, runs, F).filters for runs in (1, most_splits.py_func(F)) for run in range(runs)}
    return unreached_by_correlate(filters, given.W.shape[3], given.stride[2], given.y.shape[4], lanes.py_func(given.x))


@kernel
def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, first = (dx, pad_before) if inside else (dpadded, (0, 0, 0))
    steps_of, size = window(stride, dilation, groups, first, border), size_of(haloed_dy)
    N, bare, T = dy.shape[0], dy.shape[1:] == haloed_dy.shape[1:], stack_array(W, SAMPLE)
    U, near = pointer(dy if bare else haloed_dy), 0 if bare else held(haloed_dy[0].size)
    step = near if near else SAMPLES
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        begin, end = block * SAMPLES, min(N, (block + 1) * SAMPLES)
        for n in range(begin, end, step):
            deltas = images(T if near else U, size).at(0 if near else n, 0, 0, 0, 0)
            backward_input_by_position(n, min(end, n + step), W, dy, deltas, size, image, steps_of)
        if not bare and not bounded(W.size, W.reshape(-1), 0):
            backward_input_by_cells(begin, end, W, dy, image, steps_of)
        for n in range(N if inside else begin, end):
            fold(n, dpadded, dx, pad_before, border)


@backward_input.unreached
def unreached_by_backward_input(given):
    if max(given.stride) > 1:  # a part of the maps at a time
        return []
    W, image = given.W, given.dx if given.border == 0 or not given.dpadded.size else given.dpadded
    return unreached_by_correlate({W.shape[1]}, W.shape[3], 1, image.shape[4], lanes.py_func(W))


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    image, steps_of = padded if padded.size else x, window(stride, dilation, groups, pad_before, border)
    for i in prange(blocks_of(dW, groups)):
        block = block_of(i, dW, groups)
        backward_weight_block(block, image, dy, dW, steps_of)
        mend_weights(block, x, padded, dy, dW, steps_of)


@kernel
def backward_bias(dy, db):
    """db[f] = sum over the batch and positions of dy[n, f, o]."""
    N, out = dy.shape[0], size_of(dy)
    plane = out.depth * out.rows * out.columns
    deltas = View(dy, plane, 1)
    for f in prange(db.size):
        total = 0.0
        for first in range(0, N, ROWS):
            portion = 0.0
            for n in range(first, min(N, first + ROWS)):
                row, values = 0.0, deltas.row(n * out.maps + f)
                for i in range(plane):
                    row += values[0, i]
                portion += row
            total += portion
        db[f] = total


@helper
def held(size):
    """Return the number of samples whose padded deltas, `size` numbers each, fit on the stack (0: none).

    They leave half of it, and so of the second-level cache, to what is read and written.
    """
    count = SAMPLES
    while count * size > SAMPLE // 2:
        count //= 2
    return count


# -- how forward is divided --------------------------------------------------------------------------------------------


@helper
def splits(y, W, padded, groups):
    """Return the number of runs of filters that divide each sample: 1, unless there are very few samples."""
    N, F = y.shape[:2]
    few = N <= FEW and groups == 1 and padded.size <= N * SAMPLE and y.size * (W.size // F) >= DIVIDE
    return most_splits(F) if few else 1


@helper
def most_splits(F):
    """Return the number of runs that divide F filters of each of few samples."""
    return max(1, min(SPLITS, F // 16))


@helper
def blocks(N, runs):
    """Return the number of iterations of forward: SAMPLES samples each, or a run of filters of one."""
    return (N + SAMPLES - 1) // SAMPLES if runs == 1 else N * runs


@helper
def share(block, N, runs, F):
    """Return the samples and filters of an iteration, of F filters a group."""
    step, i, run = SAMPLES if runs == 1 else 1, block // runs, block % runs
    wide = (F + runs * 8 - 1) // (runs * 8) * 8 if runs > 1 else F
    first = min(F, run * wide)
    return Share(i * step, min(N, (i + 1) * step), first, min(F, (run + 1) * wide) - first)


@helper
def pad_share(run, first, last, x, padded, T, pad_before, border):
    """Pad an iteration's samples; return whether into T, as all runs of a sample but the first do, which keeps it."""
    how, own = Padding(size_of(x), size_of(padded), steps(pad_before), border), run > 0 and padded.size > 0
    maps, rows, padded_rows = how.image.maps, how.image.depth * how.image.rows, how.padded.depth * how.padded.rows
    if run == 0:
        pad_maps(first * maps, last * maps, 1, x, padded, pad_before, border)
    image, target = View(x, how.image.columns, 1), View(T, how.padded.columns, 1)
    for c in range(maps if own else 0):
        pad_map(image.row((first * maps + c) * rows), target.row(c * padded_rows), how)
    return own
