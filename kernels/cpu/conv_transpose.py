"""Transposed convolution: the exact adjoint of `conv` with the same options, plus b.

    y[n, c, i] = b[c] + sum over x[n, f, o] W[f, c - g m, k] with i = o s + k d - pad_before (then the border's adjoint)

Where conv maps (C, *in) to (F, *out), this layer maps (F, *out) to (C, *in) with the same W (F, m, *kernel), m = C /
groups: its first axis counts the *input* maps of this layer, its second the output maps of a group (the layout of
PyTorch). So forward is conv's backward_input, backward_input is conv's forward, and backward_weight is conv's with x
and dy in each other's place. Shapes: x (N, F, *out), y (N, C, *in), padded (N, C, *padded in) or size 0.

backward_input runs on conv's register tiles. The other two are plain loops over rows, which LLVM vectorises where the
stride is 1. Each pass over a row takes four products: forward adds four filters to a row of y, backward_weight sums
four taps. Filters that make no four go one by one: a weight of 0 in place of the missing ones would make NaN of an
infinite number.

No race: iterations of forward and backward_input own a sample; an iteration of backward_weight owns an output map c: it
pads dy[:, c] and writes dW[:, c - g m]. The gradient of b is conv.backward_bias.
"""

from numba import prange

from ..compiler.arithmetic import add
from ..compiler.kernel import helper, inlined, kernel
from ..compiler.linked import linked
from .conv_by_position import forward_by_position
from .conv_cells import bounded, forward_by_cells, group_size, mend_weights
from .conv_terms import Block, Share, Sizes, Window, every, images_of, size_of, volume, window
from .padding import fold, pad_maps
from .view import Images, View

SAMPLES = 64  # samples whose sums are added up before they are added to the sum of all: the error grows with its terms


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = conv's adjoint applied to x, plus b; `padded` is scratch."""
    image, layer = padded if padded.size else y, window(stride, dilation, groups, pad_before, border)
    X, weights, Y = images_of(x), images_of(W), images_of(image)
    C, m, each = y.shape[1], W.shape[1], W.shape[0] // groups
    sizes = Sizes(size_of(image), size_of(W), group_size(size_of(x), groups))
    for n in prange(y.shape[0]):
        for c in range(C):
            f = c // m * each  # the first filter of this map's group
            spread_maps(X.at(n, f, 0, 0, 0), weights.at(f, c % m, 0, 0, 0), Y.at(n, c, 0, 0, 0), sizes, layer)
        if padded.size:
            fold(n, padded, y, pad_before, border)
        if b.size:
            add_bias(images_of(y).at(n, 0, 0, 0, 0), b, size_of(y))


@kernel
def backward_input(W, dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx = conv applied to dy."""
    image, layer = dpadded if dpadded.size else dy, window(stride, dilation, groups, pad_before, border)
    X, C, none = images_of(image), dy.shape[1], W.reshape(-1)[:0]  # no bias
    for n in prange(dx.shape[0]):
        pad_maps(n * C, (n + 1) * C, 1, dy, dpadded, pad_before, border)
        sample = Share(n, n + 1, 0, W.shape[0] // groups)
        forward_by_position(sample, X.at(n, 0, 0, 0, 0), W, none, dx, layer)
        if dpadded.size and border == 0 and not bounded(W.size, W.reshape(-1), 0):
            forward_by_cells(sample, dy, W, none, dx, layer)


@kernel
def backward_weight(x, dy, dpadded, dW, stride, dilation, groups, pad_before, border):
    """dW[f, a, k] = sum over the batch and positions o of x[n, f, o] dy~[n, g m + a, o s + k d]."""
    image, layer = dpadded if dpadded.size else dy, window(stride, dilation, groups, pad_before, border)
    X, dY = images_of(x), images_of(image)
    weights, sizes = images_of(dW), Sizes(size_of(image), size_of(dW), size_of(x))
    N, C, m, each = x.shape[0], dy.shape[1], dW.shape[1], x.shape[1] // groups
    for c in prange(C):
        pad_maps(c, N * C, C, dy, dpadded, pad_before, border)
        for f in range(c // m * each, (c // m + 1) * each):
            sum_taps(N, X.at(0, f, 0, 0, 0), dY.at(0, c, 0, 0, 0), View(weights.at(f, c % m, 0, 0, 0), 0, 1), sizes,
                     layer)  # fmt: skip
        mend_weights(Block(c // m * each, each, c % m, 1, 0, volume(sizes.sums)), dy, dpadded, x, dW, layer)


# -- forward -----------------------------------------------------------------------------------------------------------


@linked
def spread_maps(X: Images, W: Images, Y: Images, sizes: Sizes, window: Window):
    """Add what the maps X of a group give back to the map Y, each by its filter: the adjoint of a correlation."""
    filters = sizes.out.maps
    for j in range(volume(sizes.image)):
        Y[0, 0, 0, 0, j] = 0.0
    for f in range(0, filters - filters % 4, 4):
        spread_four(X.at(0, f, 0, 0, 0), W.at(f, 0, 0, 0, 0), Y, sizes, window)
    for f in range(filters - filters % 4, filters):
        spread_one(X.at(0, f, 0, 0, 0), W.at(f, 0, 0, 0, 0), Y, sizes, window)


def spread(add_to_row):
    """Y[o s + k d] += X[o] W[k] for all taps k and positions o, a row of positions at a time by `add_to_row`."""

    @inlined
    def spread_rows(X, W, Y, sizes, window):
        taps, out, met = sizes.sums, sizes.out, every(Y, window.dilation)
        each = volume(out)  # X.map_stride, with which a row of vectors takes three instructions more
        for k in range(volume(taps)):
            cells = every(Y.at(0, 0, 0, 0, offset(k, taps, met)), window.stride)
            weights = View(W.at(0, 0, 0, 0, k), W.sample_stride, 1)
            for d in range(out.depth):
                for h in range(out.rows):
                    row = View(cells.at(0, 0, d, h, 0), 0, cells.column_stride)
                    add_to_row(row, View(X.at(0, 0, d, h, 0), each, 1), weights, out.columns)

    return spread_rows


@inlined
def add_four(y, X, w, columns):
    """Add to a row y four rows of X, each times its weight."""
    w0, w1, w2, w3 = w[0, 0], w[1, 0], w[2, 0], w[3, 0]
    x0, x1, x2, x3 = X, X.row(1), X.row(2), X.row(3)
    for j in range(columns):
        y[0, j] += w0 * x0[0, j] + w1 * x1[0, j] + w2 * x2[0, j] + w3 * x3[0, j]


@inlined
def add_one(y, X, w, columns):
    """Add to a row y a row X times its weight."""
    w0 = w[0, 0]
    for j in range(columns):
        y[0, j] += w0 * X[0, j]


spread_four, spread_one = spread(add_four), spread(add_one)


@helper
def add_bias(Y, b, size):
    """Add its bias to each map of a sample."""
    for c in range(size.maps):
        for j in range(volume(size)):
            Y[0, c, 0, 0, j] += b[c]


# -- backward to the weights -------------------------------------------------------------------------------------------


@linked
def sum_taps(N, X: Images, dY: Images, dW: View, sizes: Sizes, window: Window):
    """dW[0, k] of a map X and a map dY: sums of rows, then of SAMPLES samples, then of all; four taps at a time."""
    taps, nothing = sizes.sums, (0.0, 0.0, 0.0, 0.0)
    last, cells, met = volume(taps) - 1, every(dY, window.stride), every(dY, window.dilation)
    for k in range(0, last + 1, 4):
        k1, k2, k3 = min(k + 1, last), min(k + 2, last), min(k + 3, last)
        at = offset(k, taps, met), offset(k1, taps, met), offset(k2, taps, met), offset(k3, taps, met)
        total = nothing
        for n in range(0, N, SAMPLES):
            total = plus(total, sum_samples(n, min(N, n + SAMPLES), X, cells, at, sizes.out, nothing))
        dW[0, k], dW[0, k1], dW[0, k2], dW[0, k3] = total


@inlined
def sum_samples(first, end, X, cells, at, out, nothing):
    """Four sums over samples from `first` to before `end`: of X times the cells that lie `at` behind its own."""
    total = nothing
    for i in range((end - first) * out.depth):
        n, d = first + i // out.depth, i % out.depth
        for h in range(out.rows):
            x, p = View(X.at(n, 0, d, h, 0), 0, 1), View(cells.at(n, 0, d, h, 0), 1, cells.column_stride)
            total = plus(total, sum_row(x, p, at, out.columns, nothing))
    return total


@inlined
def sum_row(x, p, at, columns, nothing):
    """Four sums over a row of x times the cells that lie `at` behind those of the row p."""
    (s0, s1, s2, s3), p0, p1, p2, p3 = nothing, p.row(at[0]), p.row(at[1]), p.row(at[2]), p.row(at[3])
    for w in range(columns):
        delta = x[0, w]
        s0 = add(s0, delta * p0[0, w])
        s1 = add(s1, delta * p1[0, w])
        s2 = add(s2, delta * p2[0, w])
        s3 = add(s3, delta * p3[0, w])
    return s0, s1, s2, s3


@inlined
def plus(a, b):
    """Return the sums of four numbers and four numbers."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


# -- both --------------------------------------------------------------------------------------------------------------


@inlined
def offset(k, taps, P):
    """How far behind the cell of the first tap that of tap k lies, in images P with a cell for each tap."""
    d, h, w = k // (taps.rows * taps.columns), k // taps.columns % taps.rows, k % taps.columns
    return d * P.depth_stride + h * P.row_stride + w * P.column_stride
