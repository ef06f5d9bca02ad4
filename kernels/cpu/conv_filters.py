"""Convolution with filters beside each other in a vector: any taps, stride, dilation and border, many maps.

    y[n, f, o] = b[f] + sum over a < m, taps k of W[f, a, k] x~[n, g m + a, o s + k d]           (conv.py)

A tile is R positions by C vectors of filters. For each map and tap it reads C vectors of weights and one number of the
image a position, so positions may lie anywhere: stride, dilation and dimension change addresses only, and no lane is
lost at the end of a row. (conv_tiles.py has positions in its lanes instead, which suits few filters or few terms.)

Weights are first packed so that a tile reads them in one piece, W[(map, tap), filter] of C vectors of filters, and
serve some samples. What comes out, M[position, filter], is turned into Y[filter, position] a few rows at a time, in
the first-level cache. Backward to the input is the same with filters and maps changed over and the taps turned round,
over deltas in a frame of zeros, one remainder of the stride after the other (conv_tiles.remainder).

Backward to the weights sums over positions: deltas are turned, Z[position, filter], then

    D[(map, tap), filter] += x~[map, position s + tap d] Z[position, filter]

a tile being R maps (or taps of a row) by C vectors of filters. The sum over one band of rows is made in registers and
then added to D, so that no sum of a whole batch runs in one number.

Parallel plan: forward and backward_input loop over some samples at a time, for which weights are packed anew;
backward_weight over blocks of filters and maps, whose part of dW is a sum over the batch that one iteration owns.
"""

from numba import prange

from ..compiler.kernel import array, helper, inlined, kernel, linked, places
from .conv import SAMPLE, SAMPLES, blocks, pad_share, share, splits
from .conv_cells import backward_input_by_cells, bounded, forward_by_cells, mend_weights
from .conv_terms import Block, Share, window
from .conv_tiles import ALIVE, TERMS, classes, gather, met, remainder
from .padding import fold, frame
from .tile import BYTES, REGISTERS, lanes, load, numbers, outer, panel, pointer, store, turn, zero

POSITIONS = 8 if REGISTERS == 32 else 6  # rows of the widest tile, two vectors wide
ROOM = 65536  # numbers of packed weights, or of a block of the gradient: in the second-level cache
BAND = 4096  # numbers of results, or of turned deltas: in the first-level cache
PORTION = 512  # samples whose gradients are summed before they are added to those of all
LEAST = 64  # terms for which results are worth turning
WIDEST = 32  # filters of two vectors of the largest kind


def suits(results, terms, width=0, stride=2):
    """Whether so many results side by side, sums of so many terms, are work for these kernels.

    At stride 1 they are only where two vectors are full, or rows of so many positions would fill theirs badly.
    """
    L = BYTES // 4  # numbers of float32 in a vector
    full = 2 * results >= 3 * L or 4 * width < 3 * ((width + L - 1) // L * L)
    enough = results >= 8 and 4 * results >= 3 * L and terms <= TERMS
    return enough and (stride > 1 or (full and terms >= LEAST))


@kernel
def forward(x, W, b, padded, y, stride, dilation, groups, before, border):
    """y = W * x~ + b; the padded input is kept for backward_weight."""
    N, F = y.shape[:2]
    image = padded if padded.size else x
    C, D, H, width = image.shape[1:]
    P, Wf, B, Y = image.reshape(-1), W.reshape(-1), b.reshape(-1), y.reshape(-1)
    m, KD, KH, KW = W.shape[1:]
    each, taps, volume, plane = F // groups, KD * KH * KW, D * H * width, y.shape[2] * y.shape[3] * y.shape[4]
    ws, ys = (m * taps, taps, KH * KW, KW, 1), (plane, y.shape[3] * y.shape[4], y.shape[4], 1)
    ps = (volume, dilation[0] * H * width, dilation[1] * width, dilation[2])
    os = (stride[0] * H * width, stride[1] * width, stride[2])
    S, T, terms, runs = panel(x, SAMPLE), panel(x, ROOM), numbers(TERMS), splits(y, padded, groups)
    K, most = m * taps, at_once(m * taps, lanes(x))
    for block in prange(blocks(N, runs)):
        first, last, begin, some = share(block, N, runs, each)
        own = pad_share(block % runs, first, last, x, padded, S, before, border)
        for g in range(groups):
            for i in range(0, some, most):
                R, f = min(most, some - i), g * each + begin + i
                weights(R, W.shape[1:], ps, Wf, f * K, ws, T, K, terms, 0)
                for n in range(first, last):
                    p = (0 if own else n * C * volume) + g * m * volume
                    convolve(R, S if own else pointer(P), p, os, W.shape[1:], T, K, terms, 0, B if b.size else Wf, f,
                             b.size > 0, Y, (n * F + f) * plane, ys, y.shape[2:], ALIVE)  # fmt: skip
        if padded.size and border == 0 and not bounded(W.size, Wf, 0):
            forward_by_cells(Share(first, last, begin, some), x, W, b, y,
                             window(stride, dilation, groups, before, border))  # fmt: skip


@kernel
def backward_input(W, dy, framed, dpadded, dx, stride, dilation, groups, before, border):
    """dx from dy: the adjoint of forward, that is of the taps, then of the padding."""
    inside = border == 0 or not dpadded.size  # zeros give nothing back: only the inside is computed
    image, first = (dx, before) if inside else (dpadded, (0, 0, 0))
    N, F = dy.shape[:2]
    C, _, H, width = image.shape[1:]
    Wf, dY, Z, dX = W.reshape(-1), dy.reshape(-1), framed.reshape(-1), image.reshape(-1)
    kernel, out, room = W.shape[1:], dy.shape[1:], framed.shape[1:]
    m, KD, KH, KW = kernel
    each, taps = F // groups, KD * KH * KW
    volume, plane, cells = image.shape[2] * H * width, out[1] * out[2] * out[3], room[1] * room[2] * room[3]
    qs = (classes(stride[0], dilation[0]), classes(stride[1], dilation[1]), classes(stride[2], dilation[2]))
    edge = ((KD - 1) // qs[0] * dilation[0], (KH - 1) // qs[1] * dilation[1], (KW - 1) // qs[2] * dilation[2])
    gaps = (stride[0] // qs[0], stride[1] // qs[1], stride[2] // qs[2])
    bare = out == room
    own = not bare and each * cells <= SAMPLE  # a frame that one sample after the other may have
    us = (cells, dilation[0] * room[2] * room[3], dilation[1] * room[3], dilation[2])
    xs = (volume, qs[0] * H * width, qs[1] * width, qs[2])
    ws, rows = (taps, m * taps, -qs[0] * KH * KW, -qs[1] * KW, -qs[2]), (out[2] - 1) * gaps[1] + 1
    S, T, terms = panel(W, SAMPLE), panel(W, ROOM), numbers(TERMS)
    K, most = each * taps, at_once(each * taps, lanes(W))
    for block in prange((N + SAMPLES - 1) // SAMPLES):
        start, count = block * SAMPLES, min(N, (block + 1) * SAMPLES) - block * SAMPLES
        for g in range(groups):
            for c in range(0, m, most):
                R, k = min(most, m - c), 0
                for r in range(qs[0] * qs[1] * qs[2]):
                    w, size = remainder(r, qs, kernel, dilation, first, edge, room, rows, image.shape[2:])[1:3]
                    w += g * each * m * taps + c * taps
                    weights(R, (each, *size), us, Wf, w, ws, T, K, terms, k)
                    k += each * size[0] * size[1] * size[2]
                for n in range(start, start + count):  # all remainders of a sample while it is near
                    source, i, k = S if own else pointer(dY if bare else Z), 0 if own else (n * F + g * each) * cells, 0
                    if own or (not bare and c == 0):
                        y = (n * F + g * each) * plane
                        frame(dY, y, (each, *out[1:]), source, i, (each, *room[1:]), gaps, edge)
                    for r in range(qs[0] * qs[1] * qs[2]):
                        begin, _, size, at, high, live = remainder(
                            r, qs, kernel, dilation, first, edge, room, rows, image.shape[2:]
                        )
                        z = (n * C + g * m + c) * volume + at
                        convolve(R, source, i + begin, (room[2] * room[3], room[3], 1), (each, *size), T, K, terms, k,
                                 Wf, 0, 0, dX, z, xs, high, live)  # fmt: skip
                        k += each * size[0] * size[1] * size[2]
        if not bare and not bounded(W.size, Wf, 0):
            backward_input_by_cells(start, start + count, W, dy, image, window(stride, dilation, groups, first, border))
        if not inside:
            for n in range(start, start + count):
                fold(n, dpadded, dx, before, border)


@kernel
def backward_weight(x, padded, dy, dW, stride, dilation, groups, before, border):
    """dW[f, a, k] = sum over the batch and positions o of dy[n, f, o] x~[n, g m + a, o s + k d]."""
    image = padded if padded.size else x
    C, D, H, width = image.shape[1:]
    N, F = dy.shape[:2]
    P, dY, dWf = image.reshape(-1), dy.reshape(-1), dW.reshape(-1)
    m, KD, KH, KW = dW.shape[1:]
    each, taps, volume, plane = F // groups, KD * KH * KW, D * H * width, dy.shape[2] * dy.shape[3] * dy.shape[4]
    ps = (volume, dilation[0] * H * width, dilation[1] * width, dilation[2])
    os = (stride[0] * H * width, stride[1] * width, stride[2])
    filters, maps = _shares(each, m, taps, groups, 2 * lanes(x))
    down, across = (each + filters - 1) // filters, (m + maps - 1) // maps
    for block in prange(groups * down * across):
        g, f, a = block // (down * across), block // across % down * filters, block % across * maps
        gradient(N, min(filters, each - f), min(maps, m - a), dY, (g * each + f) * plane, F * plane, dy.shape[2:],
                 P, (g * m + a) * volume, C * volume, ps, os, (KD, KH, KW), dWf, ((g * each + f) * m + a) * taps,
                 (m * taps, taps))  # fmt: skip
        mend_weights(Block(g * each + f, min(filters, each - f), a, min(maps, m - a), 0, taps), x, padded, dy, dW,
                     window(stride, dilation, groups, before, border))  # fmt: skip


@helper
def _shares(each, m, taps, groups, wide):
    """How the gradient is divided: filters and maps of a block; eight blocks, unless turning deltas then costs much."""
    filters = min(each, wide)
    blocks = groups * ((each + filters - 1) // filters)
    least = max(1, min(m, (63 + taps) // taps))  # maps for which deltas are turned
    maps = max(least, min(m, m * blocks // 8))
    return filters, min(maps, ROOM // (taps * wide))


# -- forward, and backward to the input --------------------------------------------------------------------------------


def _tile(R, C):
    """R positions, C vectors of filters."""

    @inlined
    def tile(P, p, po, terms, k, K, W, w, B, M, m):
        wide = C * lanes(P)
        t = load(B, 0, 0, R, C, None, None)
        for i in range(k, K):
            t = outer(t, P, p + terms[i], po, W, w + i * wide, None, None)
        store(M, m, wide, t, None, None)

    return tile


def _line(C):
    one, two, three, four = _tile(1, C), _tile(2, C), _tile(3, C), _tile(4, C)
    five, six, seven, eight = _tile(5, C), _tile(6, C), _tile(min(7, POSITIONS), C), _tile(min(8, POSITIONS), C)

    @linked
    def line(P: array, p, po, terms: places, k, K, W: array, w, B: array, M: array, m, count):
        """M[m :] = B + the sums over terms k to K at `count` positions po apart, in tiles of about the same height."""
        wide, tiles = C * lanes(P), (count + POSITIONS - 1) // POSITIONS
        high, more = count // tiles, count % tiles
        for i in range(tiles):
            R = high + 1 if i < more else high
            if R == 6:
                six(P, p, po, terms, k, K, W, w, B, M, m)
            elif R == 5:
                five(P, p, po, terms, k, K, W, w, B, M, m)
            elif R == 4:
                four(P, p, po, terms, k, K, W, w, B, M, m)
            elif POSITIONS > 6 and R == 8:
                eight(P, p, po, terms, k, K, W, w, B, M, m)
            elif POSITIONS > 6 and R == 7:
                seven(P, p, po, terms, k, K, W, w, B, M, m)
            elif R == 3:
                three(P, p, po, terms, k, K, W, w, B, M, m)
            elif R == 2:
                two(P, p, po, terms, k, K, W, w, B, M, m)
            else:
                one(P, p, po, terms, k, K, W, w, B, M, m)
            p += R * po
            m += R * wide

    return line


_line_of_two, _line_of_one = _line(2), _line(1)


@linked
def unpack(R, wide, count, M: array, m, Y: array, y, yf, yo):
    """Y[y + r yf + o yo] = M[m + o wide + r] at `count` positions, of R results."""
    L = lanes(M)
    whole = R - R % L if yo == 1 and count >= L else 0
    for r in range(0, whole, L):
        for o in range(0, count, L):
            at = min(o, count - L)  # the last ones may begin earlier: some positions twice
            turn(Y, y + r * yf + at, yf, M, m + at * wide + r, wide, L)
    for r in range(whole, R):
        for o in range(count):
            Y[y + r * yf + o * yo] = M[m + o * wide + r]


@helper
def at_once(K, L):
    """How many results' weights, K terms each, have room."""
    return max(L, ROOM // max(K, 1) // (2 * L) * 2 * L)


@linked
def weights(R, size: 4, ps: 4, W: array, w, ws: 5, T: array, K, terms: places, k):
    """T = the weights of R results, run by run of up to two vectors of them, each of K terms; these are from the k-th.

    Steps ps of the image from map to map and tap to tap, ws of W from result to result, map to map, tap to tap; `size`
    counts what is summed: maps, and taps in three dimensions.
    """
    L = lanes(W)
    for f in range(0, R, 2 * L):
        wide = 2 * L if R - f > L else L
        gather(min(wide, R - f), wide, size, ps, W, w + f * ws[0], ws, T, f * K, terms, k)


@linked
def convolve(R, P: array, p, os: 3, size: 4, T: array, K, terms: places, k, B: array, b, biased,
             Y: array, y, ys: 4, out: 3, live: 3):  # fmt: skip
    """R results, whose `weights` T are, at `out` positions of a sample; rows not live (`conv_tiles.met`) are zeros.

    Steps of the image P: os from position to position. Of the result Y: ys from result to result and position to
    position.
    """
    M, bias = panel(P, BAND), panel(P, WIDEST)
    L = lanes(P)
    OD, OH, OW = out
    if OD * OH * OW == 0:
        return
    row = size[0] * size[3]  # terms of a row of taps
    for f in range(0, R, 2 * L):
        wide = 2 * L if R - f > L else L
        some = min(wide, R - f)
        for r in range(wide):
            bias[r] = B[b + f + r] if biased and r < some else 0
        columns = min(OW, BAND // wide)
        rows = min(OH, BAND // wide // columns)
        flat = columns == OW and ys[2] == OW and ys[3] == 1  # rows of a band follow each other in Y
        for d in range(OD):
            for h in range(0, OH, rows):
                for o in range(0, OW, columns):
                    high, count = min(rows, OH - h), min(columns, OW - o)
                    at = p + d * os[0] + h * os[1] + o * os[2]
                    for i in range(high):
                        k0, k1 = met(h + i, live, size[2]) if size[1] == 1 else (0, size[1] * size[2])
                        k0, k1, q, m = k + k0 * row, k + k1 * row, at + i * os[1], i * count * wide
                        if wide == L:
                            _line_of_one(P, q, os[2], terms, k0, k1, T, f * K, bias, M, m, count)
                        else:
                            _line_of_two(P, q, os[2], terms, k0, k1, T, f * K, bias, M, m, count)
                    z = y + f * ys[0] + d * ys[1] + h * ys[2] + o * ys[3]
                    for i in range(1 if flat else high):
                        unpack(some, wide, high * count if flat else count, M, i * count * wide, Y,
                               z + i * ys[2], ys[0], ys[3])  # fmt: skip


# -- backward to the weights -------------------------------------------------------------------------------------------


def _sum(R, C, turns):
    """R maps (or taps) that lie pa apart, C vectors of filters: D += the sum over some rows of positions.

    With `turns` there are two sums, of every other position, for small tiles: one alone would wait for itself.
    """

    @inlined
    def add(P, p, pa, row, po, Z, rows, columns, D, d, ds):
        wide, z = C * lanes(P), 0
        t = zero(P, R, C)
        for h in range(rows):
            q = p + h * row
            for o in range(columns):
                t = outer(t, P, q + o * po, pa, Z, z, None, None)
                z += wide
        store(D, d, ds, t + load(D, d, ds, R, C, None, None), None, None)

    @inlined
    def add_by_turns(P, p, pa, row, po, Z, rows, columns, D, d, ds):
        wide, z = C * lanes(P), 0
        t, u = zero(P, R, C), zero(P, R, C)
        for h in range(rows):
            q = p + h * row
            for o in range(0, columns - 1, 2):
                t = outer(t, P, q + o * po, pa, Z, z, None, None)
                u = outer(u, P, q + (o + 1) * po, pa, Z, z + wide, None, None)
                z += 2 * wide
            if columns % 2:
                t = outer(t, P, q + (columns - 1) * po, pa, Z, z, None, None)
                z += wide
        store(D, d, ds, t + u + load(D, d, ds, R, C, None, None), None, None)

    return add_by_turns if turns else add


def _sums(C, turns):
    one, two, three, four = (_sum(R, C, turns) for R in (1, 2, 3, 4))
    five, six, seven, eight = (_sum(min(R, POSITIONS), C, turns) for R in (5, 6, 7, 8))

    @linked
    def sums(count, P: array, p, pa, row, po, Z: array, rows, columns, D: array, d, ds):
        """`count` maps (or taps) that lie pa apart in P and ds apart in D, some at a time."""
        tiles = (count + POSITIONS - 1) // POSITIONS
        high, more = count // tiles, count % tiles
        for i in range(tiles):
            R = high + 1 if i < more else high
            if R == 6:
                six(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif R == 5:
                five(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif R == 4:
                four(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif POSITIONS > 6 and R == 8:
                eight(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif POSITIONS > 6 and R == 7:
                seven(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif R == 3:
                three(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            elif R == 2:
                two(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            else:
                one(P, p, pa, row, po, Z, rows, columns, D, d, ds)
            p += R * pa
            d += R * ds

    return sums


_sums_of_two, _sums_of_one = _sums(2, False), _sums(1, True)
_sum_of_few = _sum(3, 2, True)


@linked
def _sums_of_few(P: array, p, pa, row, po, Z: array, rows, columns, D: array, d, ds):
    """Three maps (or taps), two vectors of filters."""
    _sum_of_few(P, p, pa, row, po, Z, rows, columns, D, d, ds)


@linked
def turned(R, wide, count, dY: array, y, step, Z: array):
    """Z[o wide + r] = dY[y + r step + o] at `count` positions, of R filters; what lies behind them has no meaning."""
    L = lanes(dY)
    if count < L:
        for o in range(count):
            for r in range(wide):
                Z[o * wide + r] = dY[y + min(r, R - 1) * step + o]
        return
    for r in range(0, wide, L):
        first = min(r, R - 1)
        for o in range(0, count, L):
            at = min(o, count - L)
            turn(Z, at * wide + r, wide, dY, y + first * step + at, step, max(1, R - r))


@linked
def gradient(N, R, maps, dY: array, y, yn, out: 3, P: array, p, pn, ps: 4, os: 3, taps: 3, dW: array, w, ws: 2):
    """dW[w + f ws0 + a ws1 + k] of R filters (at most two vectors) and `maps` maps; steps as in `convolve`."""
    D, Z = panel(P, ROOM), panel(P, BAND)
    L = lanes(P)
    KD, KH, KW = taps
    OD, OH, OW = out
    wide, K = 2 * L if R > L else L, KD * KH * KW
    columns = min(OW, BAND // wide)
    rows = min(OH, BAND // wide // columns)
    across = maps < 4 and maps < KW  # taps of a row rather than maps
    for first in range(0, N, PORTION):
        for i in range(maps * K * wide):
            D[i] = 0
        for n in range(first, min(N, first + PORTION)):
            for d in range(OD):
                for h in range(0, OH, rows):
                    for o in range(0, OW, columns):
                        high, count = min(rows, OH - h), min(columns, OW - o)
                        turned(R, wide, high * count, dY, y + n * yn + (d * OH + h) * OW + o, OD * OH * OW, Z)
                        at = p + n * pn + d * os[0] + h * os[1] + o * os[2]
                        for a in range(maps if across else 1):
                            for k in range(KD * KH):
                                q = at + a * ps[0] + k // KH * ps[1] + k % KH * ps[2]
                                for kw in range(1 if across else KW):
                                    i = ((a * KD * KH + k) * KW + kw) * wide
                                    many, pa, ds = (KW, ps[3], wide) if across else (maps, ps[0], K * wide)
                                    if wide == L:
                                        _sums_of_one(
                                            many, P, q + kw * ps[3], pa, os[1], os[2], Z, high, count, D, i, ds
                                        )
                                    elif many == 3:
                                        _sums_of_few(P, q + kw * ps[3], pa, os[1], os[2], Z, high, count, D, i, ds)
                                    else:
                                        _sums_of_two(
                                            many, P, q + kw * ps[3], pa, os[1], os[2], Z, high, count, D, i, ds
                                        )
        for f in range(R):
            for a in range(maps):
                for k in range(K):
                    at = w + f * ws[0] + a * ws[1] + k
                    dW[at] = D[(a * K + k) * wide + f] + (dW[at] if first else 0.0)
