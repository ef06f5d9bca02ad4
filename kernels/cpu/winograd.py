"""Convolution by 3 x 3 taps with fewer multiplications: Winograd's minimal filtering, F(2 x 2, 3 x 3).

2 x 2 neighbouring results of a map come from a 4 x 4 tile d of the image. By the definition they take 36
multiplications; as

    Y = A^T [ (G g G^T) . (B^T d B) ] A           . elementwise, g the 3 x 3 taps

    B^T = 1  0 -1  0     G = 1    0    0     A^T = 1  1  1  0
          0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
          0 -1  1  0         1/2 -1/2  1/2
          0  1  0 -1         0    0    1

they take 16. Summed over maps, each of the 16 places e of the elementwise product is a matrix product

    M[e] = U[e] V[e]       U[e] (results, maps), V[e] (maps, tiles)

(A. Lavin, S. Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.) The transforms
(winograd_transforms.py) are only additions, once for each map instead of once for each pair of maps. The loops around
the products are in winograd_products.py, those of the gradient of the weights in winograd_gradient.py. Backward to the
input is the same convolution of the padded deltas with the taps turned round and filters and maps changed over.

The transforms make numbers at most 4, 9/4 and 9 times as large, so a result is off by at most 81 (m + 12) u times the
sum over m maps of max |x| max |W|, the largest number of its 3 x 3 cells and of the nine taps (u = 2^-24 in float32);
the plain algorithm has |x| |W| cell by cell. It is taken where the difference is large (winograd_rule.py,
`filter_gradient`; docs/architecture.md).

Shapes: see conv.py; taps are (1, 3, 3), strides and dilations 1, groups 1.

Parallel plan: forward and backward_input loop over some samples at a time, for which the weights are transformed each
time; backward_weight loops over blocks of filters and maps. No race: an iteration writes its own samples (forward of
very few samples: its own filters), or its own block of dW, which is a sum over the batch.
"""

from numba import prange

from ..compiler.kernel import helper, kernel
from .conv import SAMPLE, SAMPLES, blocks, held, share, splits, unreached_by_backward_input, unreached_by_forward
from .conv_by_position import Correlation, correlate, forward_by_position
from .conv_by_position_gradient import backward_weight_block
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_terms import ALL_LIVE, Block, Share, Size, Steps, images, size_of, steps, volume, window
from .padding import Padding, fold, pad_map_and_sum
from .tile import lanes, numbers, pointer, stack_array
from .view import Images, Vectors, View
from .winograd_gradient import PAIRS, SQUARE, gradient
from .winograd_products import WEIGHTS, convolve, results_at_once, transformed_weights
from .winograd_rule import SUMMED, sums, uneven
from .winograd_transforms import filter_transform
from .words import ZERO


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, pad_before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    whole, layer = padded if padded.size else x, window(stride, dilation, groups, pad_before, border)
    N, image, out, L = y.shape[0], size_of(whole), size_of(y), lanes(x)
    P, taps, bias, Y = pointer(whole), images(W, size_of(W)), View(b, 1, 1), images(y, out)
    T, transformed, S = stack_array(x, SAMPLE), stack_array(x, WEIGHTS), View(stack_array(x, SUMMED), 2 * L, 1)
    plain, each = numbers(1), image.maps * volume(image)
    most, runs = results_at_once(out.maps, image.maps, L), splits(y, W, padded, groups)
    for block in prange(blocks(N, runs)):
        part = share(block, N, runs, out.maps)
        own = pad_share(block % runs, part, x, padded, T, pad_before, border, S)
        source, p = T if own else P, 0 if own else part.first * each
        for r in range(0, part.filters, most):
            f, count = part.filter + r, min(most, part.filters - r)
            U = transformed_weights(transformed, count, image.maps, L)
            filter_transform(count, image.maps, taps.at(f, 0, 0, 0, 0), U, S.row(SAMPLES), r > 0)
            convolve(part.end - part.first, U, images(source, image, p), image, bias.row(f), b.size > 0,
                     Y.at(part.first, f, 0, 0, 0), Size(count, 1, out.rows, out.columns))  # fmt: skip
        for n in range(part.first, part.end):
            uneven(S, n - part.first, each, part.filters * image.maps * 9, plain)
            if plain[0]:
                sample = Share(n, n + 1, part.filter, part.filters)
                forward_by_position(sample, images(source, image, 0 if own else n * each), W, b, y, layer)
        if plain[0] and padded.size and border == 0 and not bounded(W.size, W.reshape(-1), 0):
            forward_by_cells(part, x, W, b, y, layer)


forward.unreached(unreached_by_forward)


@kernel
def backward_input(W, dy, haloed_dy, dpadded, dx, stride, dilation, groups, pad_before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    whole, (_, top, left) = (dx, pad_before) if inside else (dpadded, (0, 0, 0))
    layer = window(stride, dilation, groups, (0, top, left), border)
    N, image, out, frame, L = dy.shape[0], size_of(whole), size_of(dy), size_of(haloed_dy), lanes(W)
    taps = Images(W, 9, image.maps * 9, 0, -3, -1, 8)  # reversed; results are maps, filters are summed
    deltas = Size(frame.maps, 1, frame.rows - top, frame.columns - left)  # those that the results meet
    dX, bias = images(whole, image), View(W, 1, 1)  # no bias
    T, transformed, S = stack_array(W, SAMPLE), stack_array(W, WEIGHTS), View(stack_array(W, SUMMED), 2 * L, 1)
    plain, each = numbers(1), frame.maps * volume(frame)
    most, near = results_at_once(image.maps, out.maps, L), held(haloed_dy[0].size)
    step = near if near else SAMPLES
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        first, end = block * SAMPLES, min(N, (block + 1) * SAMPLES)
        for c in range(0, image.maps, most):
            count = min(most, image.maps - c)
            U = transformed_weights(transformed, count, out.maps, L)
            filter_transform(count, out.maps, taps.at(c, 0, 0, 0, 0), U, S.row(SAMPLES), c > 0)
            for n in range(first, end, step):
                source, p, some = T if near else pointer(haloed_dy), 0 if near else n * each, min(step, end - n)
                if near or c == 0:
                    pad_deltas(n, some, dy, haloed_dy, source, p, S.row(n - first))
                convolve(some, U, images(source, frame, p).at(0, 0, 0, top, left), deltas, bias, 0,
                         dX.at(n, c, 0, 0, 0), Size(count, 1, image.rows, image.columns))  # fmt: skip
        for n in range(first, end):
            uneven(S, n - first, out.maps * volume(out), W.size, plain)
            if plain[0]:
                source, p = T if near else pointer(haloed_dy), 0 if near else n * each
                pad_deltas(n, 1, dy, haloed_dy, source, p, S.row(n - first))  # the stack has other samples by now
                shape = Correlation(Size(out.maps, 1, 3, 3), image, layer.stride, layer.dilation)
                haloed = images(source, frame, p).at(0, 0, 0, top, left)
                correlate(1, haloed, taps, bias, dX.at(n, 0, 0, 0, 0), ZERO, shape, ALL_LIVE)
        if plain[0] and not bounded(W.size, W.reshape(-1), 0):
            backward_input_by_cells(first, end, W, dy, whole, layer)
        if not inside:
            for n in range(first, end):
                fold(n, dpadded, dx, pad_before, border)


backward_input.unreached(unreached_by_backward_input)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, pad_before, border):
    """dW = sum over the batch and tiles of G^T [(B^T d B) . (A dy A^T)] G."""
    whole, layer = padded if padded.size else x, window(stride, dilation, groups, pad_before, border)
    N, out, image = dy.shape[0], size_of(dy), size_of(whole)
    F, C = out.maps, image.maps
    X, dY, taps = images(whole, image), images(dy, out), Vectors(dW, C * 9, 9)
    some = SQUARE if F * C >= 4 * SQUARE * SQUARE else SQUARE // 2  # smaller blocks where there are few
    across, found = (C + SQUARE - 1) // SQUARE, numbers(PAIRS)
    for block in prange((F + some - 1) // some * across):
        f, c = block // across * some, block % across * SQUARE
        R, K = min(some, F - f), min(SQUARE, C - c)
        gradient(N, dY.at(0, f, 0, 0, 0), Size(R, 1, out.rows, out.columns), X.at(0, c, 0, 0, 0),
                 Size(K, 1, image.rows, image.columns), taps.at(f, c), found)  # fmt: skip
        many = found[0] > R * K // 8  # the whole block then, rather than pair by pair
        for i in range(1 if many else found[0]):
            r, k = (0, 0) if many else (found[i + 1] // SQUARE, found[i + 1] % SQUARE)
            part = Block(f + r, R if many else 1, c + k, K if many else 1, 0, 9)
            backward_weight_block(part, whole, dy, dW, layer)
        if found[0]:
            mend_weights(Block(f, R, c, K, 0, 9), x, padded, dy, dW, layer)


# -- padding, and the sums of the rule in passing ----------------------------------------------------------------------


@helper
def pad_share(run, part, x, padded, T, pad_before, border, S):
    """`conv.pad_share`, and the sums (winograd_rule.py) over each of the samples, in a row of S for each."""
    how, C = Padding(size_of(x), size_of(padded), steps(pad_before), border), x.shape[1]
    P, each = View(x, how.image.columns, 1), volume(how.image)
    own = run > 0 and padded.size > 0
    to = View(T if own else pointer(padded), how.padded.columns, 1)
    for i in range((part.end - part.first) * C):
        s, m = i // C, part.first * C + i
        if padded.size and (own or run == 0):
            target = to.row((i if own else m) * how.padded.rows)
            pad_map_and_sum(P.row(m * how.image.rows), target, how, S.row(s), i % C > 0)
        elif i % C == 0:
            sums(C * each, View(x, 1, 1, m * each), S.row(s))
    return own


@helper
def pad_deltas(first, count, dy, haloed_dy, T, t, S):
    """T = the deltas of `count` samples between two zeros on every side, and their sums in a row of S for each."""
    how, F = Padding(size_of(dy), size_of(haloed_dy), Steps(0, 2, 2), 0), dy.shape[1]
    dY, to = View(dy, how.image.columns, 1), View(T, how.padded.columns, 1, t)
    for i in range(count * F):
        map = dY.row((first * F + i) * how.image.rows)
        pad_map_and_sum(map, to.row(i * how.padded.rows), how, S.row(i // F), i % F > 0)
