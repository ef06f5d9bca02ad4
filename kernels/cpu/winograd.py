"""Convolution by 3 x 3 taps with fewer multiplications: Winograd's minimal filtering, F(2 x 2, 3 x 3).

2 x 2 neighbouring results of a map come from a 4 x 4 piece d of the image. By the definition they take 36
multiplications; as

    Y = A^T [ (G g G^T) . (B^T d B) ] A           . elementwise, g the 3 x 3 taps

    B^T = 1  0 -1  0     G = 1    0    0     A^T = 1  1  1  0
          0  1  1  0         1/2  1/2  1/2         0  1 -1 -1
          0 -1  1  0         1/2 -1/2  1/2
          0  1  0 -1         0    0    1

they take 16. Summed over maps, each of the 16 places e of the elementwise product is a matrix product

    M[e] = U[e] V[e]       U[e] (results, maps), V[e] (maps, pieces)

(A. Lavin, S. Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.) The factors before and behind
are only additions, once for each map instead of once for each pair of maps. They make numbers at most 4, 9/4 and 9
times as large, so a result is off by at most 81 (m + 12) u times the sum over m maps of max |x| max |W|, the largest
number of its 3 x 3 cells and of the nine taps (u = 2^-24 in float32), where the plain algorithm has |x| |W| cell by
cell. Where that is much worse the plain one is taken (`uneven`, `taps`; docs/architecture.md). Backward to the input is
the same convolution of the framed deltas with the taps turned round and filters and maps changed over.

Lanes are pieces beside each other. A strip of pieces, as many as keep V in the second-level cache, goes through all
three steps before the next is begun; M is one of eight results at a time, in the first-level cache.

Parallel plan: forward and backward_input loop over some samples at a time, for which the weights are transformed anew;
backward_weight over blocks of filters and maps, whose part of dW is a sum over the batch that one iteration owns.
"""

import numpy as np
from numba import prange

from ..compiler.kernel import array, helper, inlined, kernel, linked, places
from .conv import SAMPLE, SAMPLES, blocks, held, share, splits
from .conv_by_position_gradient import backward_weight_block
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_terms import Block, Share, window
from .conv_tiles import backward_input_tiles, forward_tiles
from .padding import add_sums, fold, pad_and_sum
from .tile import (
    BYTES,
    HIGH,
    fill,
    halves,
    interleave,
    lanes,
    load,
    most,
    numbers,
    outer,
    panel,
    pointer,
    store,
    strided,
    turn,
    zero,
)

# Numbers on the stack (of WEIGHTS and PIECES half as many are used if they are double).
WEIGHTS = 4112 * BYTES  # transformed weights that are kept at once
PIECES = 2080 * BYTES  # transformed pieces
PRODUCTS = 132 * BYTES  # 16 places, eight results, up to four vectors of pieces, and one more
SQUARE = 32  # maps and filters of a block of the gradient
STRIP = 264 * BYTES  # either factor of the gradient, transformed, of a strip of two vectors of pieces
TAPS = 4 * BYTES  # up to 16 of a vector of maps
TURNED = 96 * BYTES  # two rows of deltas, filters beside each other
SUMMED = (SAMPLES + 1) * BYTES // 2  # two vectors for each sample of an iteration, and for the weights
EIGHT = 2 * BYTES  # vectors
UNEVEN = 64.0  # see `uneven`
SMALL, SMALL_DOUBLE = 2.0**-20, 2.0**-49  # 8 eps, of the largest of nine weights' gradients: smaller ones become 0
PAIRS = SQUARE * SQUARE + 1  # how many, then filter and map of each
TOO_LARGE = 1e37  # sums of squares, and products of two of them, from which sums of products may overflow
TOO_SMALL = 1e-37  # a sum of squares that float32 rounds too coarsely to tell
SUMS = 16 * (SQUARE * SQUARE + 16)  # the gradient, transformed
RUN = 32  # strips whose sums are added up before they are added to those of all: rounding errors grow with the runs


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    N, F, _, OH, OW = y.shape
    image = padded if padded.size else x
    C, _, H, width = image.shape[1:]
    P, Wf, B, Y, T = image.reshape(-1), W.reshape(-1), b.reshape(-1), y.reshape(-1), panel(x, SAMPLE)
    U, most, runs = panel(P, WEIGHTS), _results(F, C, lanes(P)), splits(y, padded, groups)
    S, plain = panel(P, SUMMED), numbers(1)
    for block in prange(blocks(N, runs)):
        first, last, begin, some = share(block, N, runs, F)
        own = _padded(block % runs, first, last, x, padded, T, before, border, S)
        source, volume = T if own else pointer(P), C * H * width
        for f in range(begin, begin + some, most):
            count = min(most, begin + some - f)
            weights(count, C, Wf, f * C * 9, (C * 9, 9, 1), U, S, f > begin)
            convolve(last - first, count, C, U, source, 0 if own else first * volume,
                     (volume, H * width, H, width, width), B if b.size else Wf, f, b.size > 0,
                     Y, (first * F + f) * OH * OW, (F * OH * OW, OH * OW, OH, OW))  # fmt: skip
        for n in range(first, last):
            uneven(S, n - first, volume, some * C * 9, plain)
            if plain[0]:
                forward_tiles(n, 1, source, 0 if own else n * volume, image.shape[1:], Wf, W.shape[1:], B, b.size > 0,
                              Y, y.shape[1:], stride, dilation, groups, begin, some)  # fmt: skip
        if plain[0] and padded.size and border == 0 and not bounded(W.size, Wf, 0):
            forward_by_cells(Share(first, last, begin, some), x, W, b, y,
                             window(stride, dilation, groups, before, border))  # fmt: skip


@kernel
def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, (_, top, left) = (dx, before) if inside else (dpadded, (0, 0, 0))
    N, F, _, OH, OW = dy.shape
    C, _, H, width = image.shape[1:]
    FH, FW = framed.shape[3:]
    Wf, dY, Z, dX = W.reshape(-1), dy.reshape(-1), framed.reshape(-1), image.reshape(-1)
    U, some, T, near = panel(Z, WEIGHTS), _results(C, F, lanes(Z)), panel(Z, SAMPLE), held(framed[0].size)
    step, L, S, plain = near if near else SAMPLES, lanes(Z), panel(Z, SUMMED), numbers(1)
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        first, last = block * SAMPLES, min(N, (block + 1) * SAMPLES)
        for c in range(0, C, some):
            count = min(some, C - c)
            weights(count, F, Wf, c * 9 + 8, (9, C * 9, -1), U, S, c > 0)
            for n in range(first, last, step):
                source, p, several = T if near else pointer(Z), 0 if near else n * F * FH * FW, min(step, last - n)
                for i in range(several * F if near or c == 0 else 0):
                    pad_and_sum(dY, (n * F + i) * OH * OW, (1, OH, OW), source, p + i * FH * FW, (1, FH, FW),
                                (0, 2, 2), 0, S, 2 * L * (n + i // F - first), i % F > 0)  # fmt: skip
                convolve(several, count, F, U, source, p + top * FW + left,
                         (F * FH * FW, FH * FW, FH - top, FW - left, FW), Wf, 0, 0, dX, (n * C + c) * H * width,
                         (C * H * width, H * width, H, width))  # fmt: skip
        for n in range(first, last):
            uneven(S, n - first, F * OH * OW, W.size, plain)
            if plain[0]:
                backward_input_tiles(n, 1, Wf, W.shape[1:], dY, dy.shape[1:], T if near else pointer(Z),
                                     0 if near else n * F * FH * FW, framed.shape[1:], dX, image.shape[1:],
                                     stride, dilation, groups, (0, top, left))  # fmt: skip
        if plain[0] and not bounded(W.size, Wf, 0):
            backward_input_by_cells(first, last, W, dy, image,
                                    window(stride, dilation, groups, (0, top, left), border))  # fmt: skip
        if not inside:
            for n in range(first, last):
                fold(n, dpadded, dx, before, border)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW = sum over the batch and pieces of G^T [(B^T d B) . (A dy A^T)] G."""
    image = padded if padded.size else x
    C, _, H, width = image.shape[1:]
    N, F, _, OH, OW = dy.shape
    P, dY, dWf = image.reshape(-1), dy.reshape(-1), dW.reshape(-1)
    some = SQUARE if F * C >= 4 * SQUARE * SQUARE else SQUARE // 2  # smaller blocks where there are few
    across, found = (C + SQUARE - 1) // SQUARE, numbers(PAIRS)
    for block in prange((F + some - 1) // some * across):
        f, c = block // across * some, block % across * SQUARE
        R, K, y, p, w = min(some, F - f), min(SQUARE, C - c), f * OH * OW, c * H * width, (f * C + c) * 9
        gradient(N, R, K, dY, y, (F * OH * OW, OH * OW, OH, OW), P, p, (C * H * width, H * width, H, width, width),
                 dWf, w, (C * 9, 9), found)  # fmt: skip
        many = found[0] > R * K // 8  # the whole block then, rather than pair by pair
        for i in range(1 if many else found[0]):
            r, k = (0, 0) if many else (found[i + 1] // SQUARE, found[i + 1] % SQUARE)
            part = Block(f + r, R if many else 1, c + k, K if many else 1, 0, 9)
            backward_weight_block(part, image, dy, dW, window(stride, dilation, groups, before, border))
        if found[0]:
            mend_weights(Block(f, R, c, K, 0, 9), x, padded, dy, dW, window(stride, dilation, groups, before, border))


# -- where the plain algorithm is taken --------------------------------------------------------------------------------


@helper
def _padded(run, first, last, x, padded, T, before, border, S):
    """`pad_share`, and the sums over each sample n, as the n - first-th of S."""
    C, L, X, P, cells, room = x.shape[1], lanes(x), x.reshape(-1), padded.reshape(-1), x[0, 0].size, padded.shape[2:]
    own = run > 0 and padded.size > 0
    for i in range((last - first) * C):
        s, at = i // C, first * C + i
        if padded.size and (own or run == 0):
            pad_and_sum(X, at * cells, x.shape[2:], T if own else pointer(P), (i if own else at) * padded[0, 0].size,
                        room, before, border, S, 2 * L * s, i % C > 0)  # fmt: skip
        elif i % C == 0:
            sums(C * cells, X, at * cells, S, s)
    return own


@linked
def sums(count, P: array, p, S: array, s):
    """The sums of |x| and of x^2 over P[p : p + count], lane by lane, as the s-th of S."""
    L = lanes(P)
    total, squares = zero(P, 1, 4), zero(P, 1, 4)
    for o in range(0, count, 4 * L):
        some = load(P, p + o, 0, 1, 4, count - o, None)
        total, squares = total + abs(some), squares + some * some
    T = panel(P, EIGHT)
    store(T, 0, 0, total, None, None)
    store(T, 4 * L, 0, squares, None, None)
    for i in range(2 * L):
        t = i // L * 4 * L + i % L
        S[2 * L * s + i] = (T[t] + T[t + L]) + (T[t + 2 * L] + T[t + 3 * L])


@linked
def uneven(S: array, s, count, weights, found: places):
    """found[0] = whether the plain algorithm is taken for the s-th of S, sums over `count` numbers.

    That is where a number is not finite, sums of products may overflow, or a few of the sample's numbers or of the
    weights hold nearly all of the sum of squares: elsewhere the largest is at most 2 sqrt(UNEVEN count) times the mean
    of |x| (2 since padding.py counts some numbers twice).
    """
    L = lanes(S)
    even, largest, both = True, 0.0, 1.0
    for place, size in ((s, count), (SAMPLES, weights)):
        total, squares = 0.0, 0.0
        for i in range(2 * L * place, 2 * L * place + L):
            total += S[i]
            squares += S[i + L]
        even = even and float(size) * squares <= UNEVEN * total * total and (squares >= TOO_SMALL or total == 0.0)
        largest, both = max(largest, squares), both * squares
    found[0] = 0 if even and max(largest, both) < TOO_LARGE else 1


@helper
def _results(R, K, L):
    """How many of R results, eight at a time, have room for their transformed weights."""
    return max(8, min((R + 7) // 8 * 8, (4 * WEIGHTS * L // BYTES // 16 - L) // (8 * K) * 8))


@helper
def _step(R, K, L):
    """From place to place of U: as in V a vector more than needed, or all places would share few lines of the cache."""
    return (R + 7) // 8 * 8 * K + L


@inlined
def _taken(a, b, c, d):
    """B^T of four numbers."""
    return a - c, b + c, c - b, b - d


@inlined
def _spread(a, b, c):
    """G of three numbers."""
    half, middle = (a + c) * 0.5, b * 0.5
    return a, half + middle, half - middle, c


@inlined
def _summed(a, b, c, d):
    """A^T of four numbers."""
    return a + b + c, b - c - d


@linked
def weights(R, K, W: array, w, ws: 3, U: array, S: array, begun):
    """U[e, r, k] = (G g G^T)[e], g[i] = W[w + r ws0 + k ws1 + i ws2], rows up to a multiple of eight.

    Their sums become the last of S (`sums`), or are added to it if begun.
    """
    L = lanes(W)
    place, total, squares, T = _step(R, K, L), zero(W, 1, 1), zero(W, 1, 1), panel(W, TAPS)
    first, step = (0, L) if ws[2] > 0 else (8 * L, -L)
    for r in range(R):
        for k in range(0, K, L):
            exist, at, u = min(L, K - k), w + r * ws[0] + k * ws[1], r * K + k
            if exist == L and r < R - 1:  # vectors of W reach over the last tap, but not over the end of W
                turn(T, 0, L, W, at if ws[2] > 0 else at - 8, ws[1], None)
                if L < 9:
                    store(T, 8 * L, 0, strided(W, at + 8 if ws[2] > 0 else at, 0, ws[1], L), None, None)
            else:
                for i in range(9):
                    store(T, first + i * step, 0, strided(W, at + i * ws[2], 0, ws[1], exist), None, None)
            a, b, c = _column(T, first, step), _column(T, first + step, step), _column(T, first + 2 * step, step)
            total, squares = _summed_up(*_summed_up(*_summed_up(total, squares, a), b), c)
            a0, a1, a2, a3 = _spread(*a)
            b0, b1, b2, b3 = _spread(*b)
            c0, c1, c2, c3 = _spread(*c)
            _put(U, u, place, _spread(a0, b0, c0), exist)
            _put(U, u + 4 * place, place, _spread(a1, b1, c1), exist)
            _put(U, u + 8 * place, place, _spread(a2, b2, c2), exist)
            _put(U, u + 12 * place, place, _spread(a3, b3, c3), exist)
    add_sums(total, squares, S, 2 * L * SAMPLES, begun)


@inlined
def _summed_up(total, squares, vectors):
    """Sums of |x| and x^2 with three vectors added."""
    a, b, c = vectors
    return total + (abs(a) + abs(b) + abs(c)), squares + a * a + b * b + c * c


@inlined
def _put(U, u, step, vectors, exist):
    """Four vectors, `step` apart."""
    store(U, u, 0, vectors[0], exist, None)
    store(U, u + step, 0, vectors[1], exist, None)
    store(U, u + 2 * step, 0, vectors[2], exist, None)
    store(U, u + 3 * step, 0, vectors[3], exist, None)


@inlined
def _column(T, t, step):
    """A column of taps, for each of them a vector of maps."""
    return (
        load(T, t, 0, 1, 1, None, None),
        load(T, t + 3 * step, 0, 1, 1, None, None),
        load(T, t + 6 * step, 0, 1, 1, None, None),
    )


@helper
def _next(n, h, down):
    """The row of pieces after row h of sample n."""
    return (n, h + 1) if h + 1 < down else (n + 1, 0)


@linked
def pieces(K, P: array, p, image: 5, strip: 4, down, V: array, vs: 2):
    """V[e vs0 + k vs1 + t] = (B^T d B)[e], d the piece t of map k; `image` is that of `convolve`.

    `strip`: the first row of pieces, how many rows, the first column, how many columns; a sample has `down` rows.
    Surplus numbers of the last vector of a row are overwritten by the next row's.
    """
    L = lanes(P)
    start, rows, left, columns = strip
    first, top = start // down, start % down
    at = p + first * image[0] + 2 * top * image[4] + 2 * left
    for k in range(K):
        h, o, t, row = top, 0, 0, at + k * image[1]
        for _ in range(rows * ((columns + L - 1) // L)):  # one loop over rows and columns: half the time of two
            exist, below = image[3] - 2 * (left + o), image[2] - 2 * h > 3  # of odd sizes the last ones do not
            if exist >= 2 * L + 2 and below and t + o + L <= vs[1]:
                _pieces(P, row + 2 * o, image[4], None, None, V, k * vs[1] + t + o, vs[0], None)
            else:
                last, room = exist if below else 0, min(L, vs[1] - t - o)
                _pieces(P, row + 2 * o, image[4], exist, last, V, k * vs[1] + t + o, vs[0], room)
            o += L
            if o >= columns:
                h, o, t, row = h + 1, 0, t + columns, row + 2 * image[4]
                if h == down:
                    h, row = 0, row + image[0] - 2 * down * image[4]


@inlined
def _pieces(P, p, step, exist, last, V, v, place, room):
    """A vector of pieces; of its rows `exist` numbers exist, of the last one `last`; `room` of its results."""
    a0, a1, a2, a3 = _taken(*_row(P, p, exist))
    b0, b1, b2, b3 = _taken(*_row(P, p + step, exist))
    c0, c1, c2, c3 = _taken(*_row(P, p + 2 * step, exist))
    d0, d1, d2, d3 = _taken(*_row(P, p + 3 * step, last))
    _put(V, v, 4 * place, _taken(a0, b0, c0, d0), room)
    _put(V, v + place, 4 * place, _taken(a1, b1, c1, d1), room)
    _put(V, v + 2 * place, 4 * place, _taken(a2, b2, c2, d2), room)
    _put(V, v + 3 * place, 4 * place, _taken(a3, b3, c3, d3), room)


@inlined
def _row(P, p, exist):
    """A row of the pieces from P[p] on, of which `exist` numbers exist: the first, second, third, fourth of each."""
    first, second = halves(load(P, p, 0, 1, 2, exist, None))
    if exist is None:
        third, fourth = halves(load(P, p + 2, 0, 1, 2, None, None))
    else:
        third, fourth = halves(load(P, p + 2, 0, 1, 2, exist - 2, None))
    return first, second, third, fourth


def _tile(C):
    """HIGH results at C vectors of pieces."""

    @inlined
    def tile(K, U, u, V, v, vs, M, m, ms):
        t = zero(V, HIGH, C)
        for k in range(K):
            t = outer(t, U, u + k, K, V, v + k * vs, None, None)
        store(M, m, ms, t, None, None)

    return tile


_three, _two, _one = _tile(3), _tile(2), _tile(1)


@linked
def products(K, U: array, u, us, V: array, vs: 2, M: array, ms):
    """M[(e 8 + r) ms + t] = sum over k of U[u + e us + r K + k] V[e vs0 + k vs1 + t]: eight rows, ms columns."""
    L = lanes(V)
    count = ms // L
    for half in range(16 * 8 // HIGH):
        e, r = half * HIGH // 8, half * HIGH % 8
        a, b, c = u + e * us + r * K, e * vs[0], (e * 8 + r) * ms
        o = 0
        while o < count:
            if count - o >= 3 and count - o != 4:
                _three(K, U, a, V, b + o * L, vs[1], M, c + o * L, ms)
                o += 3
            elif count - o >= 2:
                _two(K, U, a, V, b + o * L, vs[1], M, c + o * L, ms)
                o += 2
            else:
                _one(K, U, a, V, b + o * L, vs[1], M, c + o * L, ms)
                o += 1


@linked
def results(R, M: array, ms, B: array, b, biased, Y: array, y, out: 4, strip: 4, down):
    """Y[y + n out0 + r out1 :] = A^T M A + B[b + r], the pieces of a strip put where they belong: up to eight results.

    `out` is that of `convolve`, `strip` that of `pieces`.
    """
    L = lanes(M)
    start, rows, left, columns = strip
    first, top = start // down, start % down
    for i in range(R):
        bias = fill(B, b + i, 0, 1, 1) if biased else zero(M, 1, 1)
        n, h = first, top
        for r in range(rows):
            row = y + n * out[0] + i * out[1] + 2 * h * out[3] + 2 * left
            for o in range(0, columns, L):
                m, at, exist = i * ms + r * columns + o, row + 2 * o, min(2 * (columns - o), out[3] - 2 * (left + o))
                p0, q0 = _summed(*_at(M, m, 32 * ms))
                p1, q1 = _summed(*_at(M, m + 8 * ms, 32 * ms))
                p2, q2 = _summed(*_at(M, m + 16 * ms, 32 * ms))
                p3, q3 = _summed(*_at(M, m + 24 * ms, 32 * ms))
                even, odd = _summed(p0, p1, p2, p3)
                interleave(Y, at, even + bias, odd + bias, exist)
                if 2 * h + 1 < out[2]:
                    even, odd = _summed(q0, q1, q2, q3)
                    interleave(Y, at + out[3], even + bias, odd + bias, exist)
            n, h = _next(n, h, down)


@inlined
def _at(M, m, step):
    """Four vectors, `step` apart."""
    return (
        load(M, m, 0, 1, 1, None, None),
        load(M, m + step, 0, 1, 1, None, None),
        load(M, m + 2 * step, 0, 1, 1, None, None),
        load(M, m + 3 * step, 0, 1, 1, None, None),
    )


@linked
def convolve(N, R, K, U: array, P: array, p, image: 5, B: array, b, biased, Y: array, y, out: 4):
    """Y[y :] = R results of N samples from K maps of P[p :] and transformed weights U.

    `image`: steps from sample to sample and map to map, rows and columns that exist from p on, step from row to row.
    `out`: steps from sample to sample and result to result, rows and columns.
    """
    V, M = panel(P, PIECES), panel(P, PRODUCTS)
    L = lanes(P)
    down, across = (out[2] + 1) // 2, (out[3] + 1) // 2
    room = max(L, min(4 * L, (4 * PIECES * L // BYTES // 16 - L) // K // L * L))  # pieces of a strip
    columns = min(across, room)
    band = room // columns
    full = max(1, L // (columns & -columns))  # rows that fill their vectors
    if band >= full:
        band -= band % full
    us = _step(R, K, L)
    for o in range(0, across, columns):
        for h in range(0, N * down, band):
            strip = (h, min(band, N * down - h), o, min(columns, across - o))
            ms = (strip[1] * strip[3] + L - 1) // L * L
            vs = (K * ms + L, ms)
            pieces(K, P, p, image, strip, down, V, vs)
            for r in range(0, R, 8):
                products(K, U, r * K, us, V, vs, M, ms)
                results(min(8, R - r), M, ms, B, b + r, biased, Y, y + r * out[1], out, strip, down)


# -- backward to the weights -------------------------------------------------------------------------------------------
#
# dM = A dY A^T (the adjoint of the sum of products), dU[e] = dM[e] V[e]^T, dg = G^T dU G. Lanes are filters here: the
# deltas of a strip are turned first, then dU[e] is a sum over pieces of columns of V times rows of dM.


@linked
def deltas(R, dY: array, y, out: 4, strip: 4, down, T: array, Z: array, zs: 2):
    """Z[e zs0 + t zs1 + r] = (A d A^T)[e], d the 2 x 2 deltas of filter r at piece t; `out` as in `convolve`."""
    L = lanes(Z)
    start, rows, left, columns = strip
    plane = out[2] * out[3]
    exist = min(2 * columns, out[3] - 2 * left)
    for r in range(rows):
        n, h = (start + r) // down, (start + r) % down
        for i in range(2):
            at, row = (6 * i * L + L) * zs[1], (2 * h + i) * out[3] + 2 * left
            if 2 * h + i < out[2]:
                _turned(R, dY, y + n * out[0], out[1], row, exist, plane, T, at, zs[1])
            for q in range(exist if 2 * h + i < out[2] else 0, 2 * columns):
                for v in range(zs[1]):
                    T[at + q * zs[1] + v] = 0
        for c in range(columns):
            for v in range(0, zs[1], L):
                at, z = (L + 2 * c) * zs[1] + v, (r * columns + c) * zs[1] + v
                a, b = load(T, at, 0, 1, 1, None, None), load(T, at + zs[1], 0, 1, 1, None, None)
                at += 6 * L * zs[1]
                c_, d = load(T, at, 0, 1, 1, None, None), load(T, at + zs[1], 0, 1, 1, None, None)
                nothing = zero(Z, 1, 1)
                _put(Z, z, zs[0], _shared(a, b, nothing), None)
                _put(Z, z + 4 * zs[0], zs[0], _shared(a + c_, b + d, nothing), None)
                _put(Z, z + 8 * zs[0], zs[0], _shared(a - c_, b - d, nothing), None)
                _put(Z, z + 12 * zs[0], zs[0], _shared(nothing - c_, nothing - d, nothing), None)


@inlined
def _shared(a, b, nothing):
    """A of two numbers."""
    return a, a + b, a - b, nothing - b


@helper
def _turned(R, dY, y, step, row, count, plane, T, t, width):
    """T[t + q width + r] = deltas row + q of filter r, `step` apart; a vector of them may begin too early."""
    L = lanes(dY)
    if plane < L:
        for q in range(count):
            for r in range(R):
                T[t + q * width + r] = dY[y + r * step + row + q]
        return
    for q in range(0, count, L):
        at = min(q, plane - L - row)
        for r in range(0, R, L):
            turn(T, t + at * width + r, width, dY, y + r * step + row + at, step, R - r)


def _sum(C):
    """HIGH maps, C vectors of filters: D += the sum over a strip's pieces of a column of V times a row of Z.

    The strip is summed before it is added to D: no sum of a whole batch runs in one number.
    """

    @inlined
    def add(count, V, v, vs, Z, z, zs, D, d):
        t = zero(D, HIGH, C)
        for i in range(count):
            t = outer(t, V, v + i, vs, Z, z + i * zs, None, None)
        store(D, d, zs, t + load(D, d, zs, HIGH, C, None, None), None, None)

    return add


_sum_of_two, _sum_of_one = _sum(2), _sum(1)


@linked
def sums_of_products(K, count, V: array, vs: 2, Z: array, zs: 2, D: array, ds):
    """D[e ds + k zs1 + r] += sum over `count` pieces t of V[e vs0 + k vs1 + t] Z[e zs0 + t zs1 + r]."""
    L = lanes(V)
    for e in range(16):
        for k in range(0, K, HIGH):
            v, d = e * vs[0] + k * vs[1], e * ds + k * zs[1]
            for r in range(0, zs[1] - L, 2 * L):
                _sum_of_two(count, V, v, vs[1], Z, e * zs[0] + r, zs[1], D, d + r)
            if zs[1] // L % 2:
                r = zs[1] - L
                _sum_of_one(count, V, v, vs[1], Z, e * zs[0] + r, zs[1], D, d + r)


@linked
def taps(R, K, D: array, ds, rs, T: array, dW: array, w, ws: 2, found: places):
    """dW[w + r ws0 + k ws1 + i] = (G^T dU G)[i], dU[e] = D[e ds + k rs + r].

    Of nine numbers those below 8 eps of the largest become 0: the transforms round off as much. (An optimizer that
    divides by the gradient's size would make whole steps of such remains where the gradient is 0.) `found` counts the
    pairs r, k, then holds SQUARE r + k of each, of whose nine numbers one is not finite.
    """
    L = lanes(D)
    small = SMALL if 4 * L == BYTES else SMALL_DOUBLE
    found[0] = 0
    for k in range(K):
        for r in range(0, R, L):
            d = k * rs + r
            a0, a1, a2 = _gathered(*_at(D, d, ds))
            b0, b1, b2 = _gathered(*_at(D, d + 4 * ds, ds))
            c0, c1, c2 = _gathered(*_at(D, d + 8 * ds, ds))
            d0, d1, d2 = _gathered(*_at(D, d + 12 * ds, ds))
            first, second, third = _gathered(a0, b0, c0, d0), _gathered(a1, b1, c1, d1), _gathered(a2, b2, c2, d2)
            _put_three(T, 0, 3 * L, first)
            _put_three(T, L, 3 * L, second)
            _put_three(T, 2 * L, 3 * L, third)
            nothing = zero(D, 1, 1)
            high, low = _extremes(nothing, nothing - abs(first[0]), first, nothing)
            high, low = _extremes(*_extremes(high, low, second, nothing), third, nothing)
            store(T, 9 * L, 0, high, None, None)
            store(T, 10 * L, 0, low, None, None)
            turn(T, 16 * L, L, T, 0, L, None)
            hidden = 0.0
            for v in range(min(L, R - r)):
                at = w + (r + v) * ws[0] + k * ws[1]
                store(dW, at, 0, load(T, (16 + v) * L, 0, 1, 1, None, None), min(9, L), None)
                for i in range(L, 9):
                    dW[at + i] = T[i * L + v]
                hidden += 0.0 if small * T[9 * L + v] + T[10 * L + v] <= 0.0 else 1.0  # NaN and infinity are hidden too
            for v in range(min(L, R - r) if hidden > 0.0 else 0):
                at, size = w + (r + v) * ws[0] + k * ws[1], 0.0
                for i in range(9):
                    size += abs(dW[at + i])
                if size < float(np.inf):
                    for i in range(9):
                        if abs(dW[at + i]) < small * T[9 * L + v]:
                            dW[at + i] = 0.0
                else:
                    found[0] += 1
                    found[found[0]] = (r + v) * SQUARE + k


@inlined
def _extremes(high, low, vectors, nothing):
    """The largest magnitude of all, and the smallest with a minus sign, of what was seen and of three vectors."""
    a, b, c = vectors
    a, b, c = abs(a), abs(b), abs(c)
    high = most(most(high, a), most(b, c))
    return high, most(most(low, nothing - a), most(nothing - b, nothing - c))


@inlined
def _gathered(a, b, c, d):
    """G^T of four numbers."""
    half = (b + c) * 0.5
    return a + half, (b - c) * 0.5, half + d


@inlined
def _put_three(T, t, step, vectors):
    store(T, t, 0, vectors[0], None, None)
    store(T, t + step, 0, vectors[1], None, None)
    store(T, t + 2 * step, 0, vectors[2], None, None)


@linked
def put_away(count, D: array, total: array, runs):
    """Add the sums D of a run to the total of the `runs` before it, and begin another."""
    for i in range(count):
        total[i] = D[i] + (total[i] if runs else 0.0)
        D[i] = 0


@linked
def gradient(N, R, K, dY: array, y, out: 4, P: array, p, image: 5, dW: array, w, ws: 2, found: places):  # fmt: skip
    """dW[w + r ws0 + k ws1 :] of R filters and K maps, at most SQUARE of either; `out`, `image` as in `convolve`.

    `found`: what `taps` found.
    """
    V, Z, T = panel(P, STRIP), panel(P, STRIP), panel(P, TURNED)
    D, total = panel(P, SUMS), panel(P, SUMS)
    L = lanes(P)
    down, across = (out[2] + 1) // 2, (out[3] + 1) // 2
    columns = min(across, 2 * L)
    band = 2 * L // columns
    rs = (R + L - 1) // L * L
    ds, strips, runs = (K + 7) // 8 * 8 * rs + L, 0, 0
    for i in range(16 * ds):
        D[i] = 0
    for o in range(0, across, columns):
        for h in range(0, N * down, band):
            if strips == RUN:
                put_away(16 * ds, D, total, runs)
                strips, runs = 0, runs + 1
            strip = (h, min(band, N * down - h), o, min(columns, across - o))
            count = strip[1] * strip[3]
            ms = (count + L - 1) // L * L
            vs, zs = (K * ms + L, ms), (count * rs + L, rs)
            pieces(K, P, p, image, strip, down, V, vs)
            deltas(R, dY, y, out, strip, down, T, Z, zs)
            sums_of_products(K, count, V, vs, Z, zs, D, ds)
            strips += 1
    for i in range(16 * ds if runs else 0):
        D[i] += total[i]
    taps(R, K, D, ds, rs, T, dW, w, ws, found)
