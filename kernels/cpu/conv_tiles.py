"""Convolution backward to the weights with positions of a row side by side in a vector: the loops behind conv.py.

It multiplies rows with rows (`columns`), the deltas' laid as far apart as the image's where they end within a vector
(`spread`). Where rows fill their vectors badly, or the stride leaves gaps, a few maps are first packed into a panel on
the stack (conv_packing.py). Forward and backward to the input are in conv_by_position.py.
"""

from ..compiler.kernel import array, helper, inlined, linked
from .conv_by_position import TERMS as TERMS
from .conv_by_position import Correlation, Terms, correlate, rows_of_one
from .conv_input_by_position import backward_input_by_position
from .conv_packing import ROOM, pack_taps, packing_pays, panel_shape
from .conv_terms import ALL_LIVE, LiveRows, Size, images, live_taps, pack_weights, steps, window
from .padding import move
from .tile import HIGH, REGISTERS, inner, lanes, panel, store, sums, zero
from .view import Images, Vectors, View
from .words import BIAS, ZERO

ALIVE = (0, 2**30, 1)  # no row is known to be zeros: see `met`

NEAR = 8192  # numbers of deltas that are used again and again

# -- former forms, for files that are not written on views -------------------------------------------------------------


@helper
def _size(maps, shape):
    return Size(maps, shape[0], shape[1], shape[2])


@inlined
def gather(R, wide, size, ps, W, w, ws, T, t, terms, k):
    """T[t + k wide + r] = W[w + r ws0 + k] of R results, then zeros: `pack_weights`."""
    weights, image = Images(W, ws[0], ws[1], ws[2], ws[3], ws[4], w), Images(T, 0, ps[0], ps[1], ps[2], ps[3])
    pack_weights(R, Size(size[0], size[1], size[2], size[3]), weights, image, View(T, wide, 1, t), terms, k)


@inlined
def plane_of_one(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width):
    """One filter at `rows` rows of `width` positions: `rows_of_one`."""
    part = Terms(W, terms, k, K)
    rows_of_one(part, Vectors(P, 1, pr, p), View(B, 1, 1, b), Vectors(Y, ys[0], ys[1], y), begin, rows, width)


@inlined
def pack(P, p, ph, pw, KW, rows, width, step, T, t):
    """T[t :] = for each of KW taps `rows` rows of every `step`-th number, one after the other: `pack_taps`."""
    pack_taps(View(P, ph, step, p), View(T, width, 1, t), KW, pw, rows, width)


packs = packing_pays


@helper
def shape_of_panel(room, m, taps, stride, dilation, OH, OW):
    """How rows are packed: whether taps of a column share them, columns, extra rows, rows: `panel_shape`."""
    shape = panel_shape(room, m, Size(m, 1, taps[0], taps[1]), stride, dilation, Size(1, 1, OH, OW))
    return shape.tall, shape.columns, shape.extra, shape.rows


@helper
def met(row, live, taps):
    """First and last + 1 of `taps` rows of taps that meet a live row: `live_taps`."""
    return live_taps(row, LiveRows(live[0], live[1], live[2]), taps)


@helper
def forward_tiles(n, N, P, p, image, W, kernel, B, biased, Y, out, stride, dilation, groups, f, some):
    """Y[n + i] = b + W * P[p :] for N samples, `some` filters of each group from f on: `forward_by_position`."""
    taps, results = _size(kernel[0], kernel[1:]), _size(out[0], out[1:])
    shape = Correlation(taps, _size(some, out[1:]), steps(stride), steps(dilation))
    samples, weights = images(P, _size(image[0], image[1:]), p), images(W, taps)
    Z, bias = images(Y, results), View(B if biased else W, 1, 1)
    for g in range(groups):
        first = g * (out[0] // groups) + f
        correlate(N, samples.at(0, g * kernel[0], 0, 0, 0), weights.at(first, 0, 0, 0, 0),
                  bias.row(first if biased else 0), Z.at(n, first, 0, 0, 0), BIAS if biased else ZERO, shape,
                  ALL_LIVE)  # fmt: skip


@helper
def classes(stride, dilation):
    """Remainders of the places of a dimension that are told apart. With gaps between the taps the deltas get gaps."""
    return stride if dilation == 1 else 1


@helper
def backward_input_tiles(n, N, W, kernel, dY, out, U, u, framed, dX, image, stride, dilation, groups, first):
    """dX[n + i] from dY[n + i], i < N, whose frames are at U[u :]: `backward_input_by_position`."""
    F, C = out[0], image[0]
    samples, halo = dX.size // (C * image[1] * image[2] * image[3]), _size(framed[0], framed[1:])
    weights = W.reshape((F, kernel[0], kernel[1], kernel[2], kernel[3]))
    deltas = dY.reshape((samples, F, out[1], out[2], out[3]))
    dx = dX.reshape((samples, C, image[1], image[2], image[3]))
    steps_of = window(stride, dilation, groups, first, 0)
    backward_input_by_position(n, n + N, weights, deltas, images(U, halo, u), halo, dx, steps_of)


@helper
def _count(n, step):
    """How many of n are met by going on `step` by `step`."""
    return (n + step - 1) // step


@helper
def remainder(r, step, kernel, dilation, first, edge, framed, rows, image):
    """The r-th class of cells of a plane, `step` apart in each dimension, and the taps that they meet.

    Returns
    -------
    begin, tap : int
        Offsets in the frame of the first cell's first tap and of the first weight; taps are `step` apart, backwards.
    size : (int, int, int)
        How many taps.
    at : int
        Offset of the first cell.
    cells : (int, int, int)
        How many cells.
    live : (int, int, int)
        The rows that the deltas are in, counted from `begin` on, as `met` wants them.
    """
    rd, rh, rw = r // (step[1] * step[2]), r // step[2] % step[1], r % step[2]
    kd, kh, kw = (rd + first[0]) % step[0], (rh + first[1]) % step[1], (rw + first[2]) % step[2]
    _, KD, KH, KW = kernel
    TD, TH, TW = _count(KD - kd, step[0]), _count(KH - kh, step[1]), _count(KW - kw, step[2])
    cells = (_count(image[0] - rd, step[0]), _count(image[1] - rh, step[1]), _count(image[2] - rw, step[2]))
    row = (rh + first[1]) // step[1] + edge[1] - (TH - 1) * dilation[1]
    begin = (((rd + first[0]) // step[0] + edge[0] - (TD - 1) * dilation[0]) * framed[2] + row) * framed[3]
    begin += (rw + first[2]) // step[2] + edge[2] - (TW - 1) * dilation[2]
    tap = ((kd + (TD - 1) * step[0]) * KH + kh + (TH - 1) * step[1]) * KW + kw + (TW - 1) * step[2]
    live = (edge[1] - row, edge[1] - row + rows, dilation[1])
    return begin, tap, (TD, TH, TW), (rd * image[1] + rh) * image[2] + rw, cells, live


# -- backward to the weights -------------------------------------------------------------------------------------------


def _taps(R, C):
    """R filters, C taps or maps: dW += sum over N samples and their rows of dy times rows of the image."""

    @inlined
    def taps(N, Z, z, zs, P, p, ps, pk, rows, width, dW, w, wf, wk):
        L = lanes(Z)
        whole = width - width % L
        t = zero(Z, R, C)
        for n in range(N):
            for h in range(rows):
                i, j = z + n * zs[0] + h * zs[2], p + n * ps[0] + h * ps[1]
                for o in range(0, whole, L):
                    t = inner(t, Z, i + o, zs[1], P, j + o, pk, None)
                if whole < width:
                    t = inner(t, Z, i + whole, zs[1], P, j + whole, pk, width - whole)
        sums(dW, w, wf, wk, t)

    return taps


def _columns(R, widest, narrow):
    many, some, one = _taps(R, widest), _taps(R, narrow), _taps(R, 1)

    @linked
    def columns(count, N, Z: array, z, zs: 3, P: array, p, ps: 2, pk, rows, width, dW: array, w, wf, wk):
        """R filters, `count` taps pk apart, as many at a time as there are registers for.

        zs: from sample to sample, filter to filter, row to row of the deltas Z; ps: from sample to sample, row to row.
        """
        k = 0
        while k < count:
            left, q, v = count - k, p + k * pk, w + k * wk
            if left >= widest and left != widest + 1:
                many(N, Z, z, zs, P, q, ps, pk, rows, width, dW, v, wf, wk)
                k += widest
            elif left >= narrow:
                some(N, Z, z, zs, P, q, ps, pk, rows, width, dW, v, wf, wk)
                k += narrow
            else:
                one(N, Z, z, zs, P, q, ps, pk, rows, width, dW, v, wf, wk)
                k += 1

    return columns


_columns_of_high, rows_of_taps = _columns(HIGH, 3, 2), _columns(1, 5, 3)
_columns_of_three = _columns(3, 5, 3) if REGISTERS == 32 else _columns(3, 3, 2)


@helper
def _filters(F, count, N, Z, z, zs, P, p, ps, pk, rows, width, dW, w, wf, wk):
    """F filters: HIGH at a time, or three, or one; six are twice three."""
    f = 0
    while f < F:
        i, v = z + f * zs[1], w + f * wf
        if F - f >= HIGH and F - f != 6:
            _columns_of_high(count, N, Z, i, zs, P, p, ps, pk, rows, width, dW, v, wf, wk)
            f += HIGH
        elif F - f >= 3:
            _columns_of_three(count, N, Z, i, zs, P, p, ps, pk, rows, width, dW, v, wf, wk)
            f += 3
        else:
            rows_of_taps(count, N, Z, i, zs, P, p, ps, pk, rows, width, dW, v, wf, wk)
            f += 1


@helper
def spreads(OW, width, L):
    """Whether deltas are laid as far apart as the rows of the image are: vectors then run on over the end of a row."""
    tails = OW % L > 0 and L <= OW < width <= OW + L
    return tails and 4 * width <= 5 * ((OW + L - 1) // L * L) and 8 * width <= NEAR


@linked
def spread(Z: array, z, rows, width, T: array, t, pitch):
    """T[t + h pitch + i] = Z[z + h width + i], and zeros between the rows."""
    L = lanes(Z)
    for h in range(rows):
        if h + 1 < rows:  # not more than a vector of them, before the row itself
            store(T, t + h * pitch + pitch - L, 0, zero(T, 1, 1), None, None)
        move(T, t + h * pitch, Z, z + h * width, width)


@linked
def products(F, maps, first, last, N, Z: array, z, out: 4, P: array, p, image: 4, stride: 3, dilation: 3, taps: 3,
             dW: array, w, ws: 2):  # fmt: skip
    """dW[w :] = sum over N samples of F filters' deltas times `maps` maps, for the rows of taps from first to last.

    `out` and `image` are the shapes of a sample in Z and P, whose deltas and maps begin at z and p.
    """
    each, OD, OH, OW = out
    C, D, H, width = image
    KD, KH, KW = taps
    L = lanes(P)
    plane, volume = OD * OH * OW, D * H * width
    for f in range(F):
        for a in range(maps):
            for k in range(first * KW, last * KW):
                dW[w + f * ws[0] + a * ws[1] + k] = 0
    T = panel(P, NEAR)
    if not packs(8, KH, stride[2], OW, L):
        step = stride[1] * width
        apart = stride[1] * stride[2] == 1 and spreads(OW, width, L)
        pitch = width if apart else OW
        band = min(OH, max(1, NEAR // (8 * pitch)))  # rows and samples of eight filters that stay in cache for all maps
        some = max(1, NEAR // (8 * OH * pitch))
        flat = apart or (KW == 1 and step == OW)  # rows follow each other, here and there
        zs, ps = (each * plane, plane, 0 if flat else OW), (C * volume, 0 if flat else step)
        for n in range(0, N, some):
            count = min(some, N - n)
            for d in range(OD):
                for h in range(0, OH, band):
                    rows = min(band, OH - h)
                    high, wide = (1, rows * pitch - pitch + OW) if flat else (rows, OW)
                    for f in range(0, F, 8):
                        i, eight = z + (n * each + f) * plane + (d * OH + h) * OW, min(8, F - f)
                        S, ss = Z, zs
                        if apart:
                            own = rows * pitch
                            for r in range(count * eight):
                                spread(Z, i + r // eight * zs[0] + r % eight * plane, rows, OW, T, r * own, pitch)
                            S, i, ss = T, 0, (eight * own, own, 0)
                        for a in range(maps if KW > 1 else 1):
                            for k in range(first, last):
                                at = a * D + d * stride[0] + k // KH * dilation[0]
                                j = p + n * C * volume + (at * H + h * stride[1] + k % KH * dilation[1]) * width
                                v = w + f * ws[0] + a * ws[1] + k * KW
                                if KW > 1:
                                    _filters(eight, KW, count, S, i, ss, P, j, ps, dilation[2], high, wide, dW, v,
                                             ws[0], 1)  # fmt: skip
                                else:
                                    _filters(eight, maps, count, S, i, ss, P, j, ps, volume, high, wide, dW, v,
                                             ws[0], ws[1])  # fmt: skip
        return
    tall, wide, extra, band = shape_of_panel(ROOM - L, 1, (KH, KW), stride[1], dilation[1], OH, OW)
    tall = tall and last - first == KD * KH
    extra = extra if tall else 0
    for h in range(0, OH, band):
        for o in range(0, OW, wide):
            rows, columns = min(band, OH - h), min(wide, OW - o)
            high = rows + extra
            own = KW * high * columns
            some = max(1, (ROOM - L) // own)
            for n in range(0, N, some):
                count = min(some, N - n)
                for a in range(maps):
                    for d in range(OD):
                        i = z + n * each * plane + (d * OH + h) * OW + o
                        for k in range(first, last, KH if tall else 1):
                            kd, kh = k // KH, k % KH
                            at = (
                                (a * D + d * stride[0] + kd * dilation[0]) * H + h * stride[1] + kh * dilation[1]
                            ) * width
                            for s in range(count):
                                q = p + (n + s) * C * volume + at + o * stride[2]
                                pack(P, q, stride[1] * width, dilation[2], KW, high, columns, stride[2], T, s * own)
                            for e in range(KH if tall else 1):
                                v = w + a * ws[1] + (k + e) * KW
                                _filters(F, KW, count, Z, i, (each * plane, plane, 0), T, e * dilation[1] * columns,
                                         (own, 0), high * columns, 1, rows * columns, dW, v, ws[0], 1)  # fmt: skip


def _shares(F, m, groups, taps):
    """How the gradient is divided: filters and maps of a block, runs of rows of taps; about 8 blocks."""
    filters = min(F // groups, 16)
    blocks = groups * ((F // groups + filters - 1) // filters)
    maps = max(1, min(m, m * blocks // 8))
    blocks *= (m + maps - 1) // maps
    if blocks >= 4:
        return filters, maps, 1
    if blocks == 1 and filters >= 6 and filters % 2 == 0:
        return filters // 2, maps, min(taps, 2)
    return filters, maps, taps


shares = helper(_shares)


@helper
def blocks_of(dW, groups):
    """Number of blocks of dW that `backward_weight_tiles` knows."""
    F, m, KD, KH, _ = dW.shape
    filters, maps, rows = shares(F, m, groups, KD * KH)
    return groups * ((F // groups + filters - 1) // filters) * ((m + maps - 1) // maps) * rows


@helper
def block_of(block, F, kernel, groups):
    """A block of dW: its first filter and how many, its first map and how many, its rows of taps from first to last."""
    m, KD, KH, _ = kernel
    filters, maps, rows = shares(F, m, groups, KD * KH)
    each = F // groups
    run, block = block % rows, block // rows
    a, block = block % ((m + maps - 1) // maps) * maps, block // ((m + maps - 1) // maps)
    fs = (each + filters - 1) // filters
    g, f = block // fs, block % fs * filters
    first, last = run * KD * KH // rows, (run + 1) * KD * KH // rows
    return g * each + f, min(filters, each - f), a, min(maps, m - a), first, last


@helper
def backward_weight_tiles(block, N, P, image, dY, out, dW, kernel, stride, dilation, groups):
    """One block of dW: some filters of a group, some maps, a run of the rows of taps."""
    m, K = kernel[0], kernel[1] * kernel[2] * kernel[3]
    f, filters, a, maps, first, last = block_of(block, out[0], kernel, groups)
    z = f * out[1] * out[2] * out[3]
    p = (f // (out[0] // groups) * m + a) * image[1] * image[2] * image[3]
    products(filters, maps, first, last, N, dY, z, out, P, p, image, stride, dilation, kernel[1:], dW,
             f * m * K + a * K, (m * K, K))  # fmt: skip
