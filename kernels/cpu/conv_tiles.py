"""Convolution with positions of a row side by side in a vector: the loops behind conv.py, for few filters.

A row of an image is contiguous and a tap is a fixed offset into it, so convolution is a matrix product whose right
factor, the shifted image, need not be written down: a tile is R filters by C vectors of positions (`plane`). Its sum
runs over the terms, maps and taps, in one loop: the weights are packed for it, and a table holds where in the image
each term lies (`gather`). Backward to the input is the same product with the taps turned round, over deltas in a frame
of zeros. With a stride s it is s such products a dimension: cells whose place leaves the remainder r meet the taps r,
r + s, ... only (`classes`, `remainder`). Backward to the weights multiplies rows with rows (`columns`), the deltas'
laid as far apart as the image's where they end within a vector (`spread`).

Where rows fill their vectors badly, or the stride leaves gaps, a few maps are first packed into a panel on the stack: a
copy of the rows for each tap, without what lies between them, so that vectors run on over the end of a row (`pack`).

Steps of one array carry its letter. ws of the weights W: from filter to filter, map to map, tap to tap (depth, row,
column). ys of the result Y: from filter to filter, row to row. pr of the image P: from row to row of positions. `size`
counts what is summed: maps, and taps in three dimensions.
"""

from ..compiler.kernel import array, helper, inlined, linked, places
from .matrix import product
from .padding import frame
from .tile import REGISTERS, copy, fill, lanes, load, numbers, outer, panel, store, strided, zero
from .view import View
from .words import ADD, ZERO

ROOM = 6144  # numbers of a panel: with the weights and the result it stays in the first-level cache

TERMS = 2048  # of a sum whose weights are packed at once
WEIGHTS = 8 * TERMS

ALIVE = (0, 2**30, 1)  # no row is known to be zeros: see `met`

# -- forward, and backward to the input --------------------------------------------------------------------------------


def _correlation(R, C):
    """R filters at C vectors of positions, `pr` apart: Y = the sum over terms k to K of W times the image moved."""

    @inlined
    def correlation(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, width):
        if begin == 2:
            t = fill(B, b, 1, R, C)
        elif begin == 1:
            t = zero(P, R, C)
        else:
            t = load(Y, y, ys[0], R, C, width, ys[1])
        for i in range(k, K):
            t = outer(t, W, i * R, 1, P, p + terms[i], width, pr)
        store(Y, y, ys[0], t, width, ys[1])

    return correlation


def _rectangle(R, C):
    """R filters at all positions of a plane, in tiles of C vectors below each other, or one.

    Where it begins anew, the last vector of a row and the last rows of a column may begin earlier than they need: some
    positions are computed twice.
    """
    many, one = _correlation(R, C), _correlation(R, 1)

    @inlined
    def rectangle(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width):
        L = lanes(P)
        for v in range((width + L - 1) // L):
            o = width - L if begin and v * L > width - L >= 0 else v * L
            first = 0 if width - o < L else rows if begin and rows >= C else rows - rows % C
            for i in range(0, first, C):
                r = min(i, rows - C)
                many(P, p + r * pr + o, pr, terms, k, K, W, B, b, begin, Y, y + r * ys[1] + o, ys, None)
            for r in range(first, rows):
                one(P, p + r * pr + o, pr, terms, k, K, W, B, b, begin, Y, y + r * ys[1] + o, ys, width - o)

    return rectangle


def _plane(R, C):
    rectangle = _rectangle(R, C)

    @linked
    def plane(P: array, p, pr, terms: places, k, K, W: array, B: array, b, begin, Y: array, y, ys: 2, rows, width):
        """R filters at `rows` rows of `width` positions: begin with the bias B (2), with 0 (1), or add to Y (0)."""
        L = lanes(P)
        along = rows == 1 and width > L  # vectors that follow each other in one long row, then what is left
        step = width - L if begin and width < 2 * L else L  # or two, of which the second begins earlier
        qr, zs = (step, (ys[0], step)) if along else (pr, ys)
        for rest in range(2 if along and step == L and width % L else 1):
            o = (width - L if begin else width - width % L) if rest else 0
            high, wide = (1, width - o) if rest else (width // L + (step < L), L) if along else (rows, width)
            rectangle(P, p + o, qr, terms, k, K, W, B, b, begin, Y, y + o, zs, high, wide)

    return plane


# As many numbers in registers as there is room for; the more filters, the fewer loads of the image.
if REGISTERS == 32:
    MOST, SOME, FEW = 8, 6, 4
    _plane_of_most, _plane_of_some, _plane_of_few = _plane(8, 3), _plane(6, 4), _plane(4, 4)
else:
    MOST, SOME, FEW = 6, 4, 2
    _plane_of_most, _plane_of_some, _plane_of_few = _plane(6, 2), _plane(4, 3), _plane(2, 4)
plane_of_one = _plane(1, 8)


@helper
def _at_once(left):
    """How many of the filters that are left are taken at once: as many as leave no odd ones behind."""
    if left == MOST or left == MOST + 1 or left == MOST + 3 or left >= MOST + SOME:
        return MOST
    return SOME if left >= SOME else FEW if left >= FEW else 1


@helper
def _plane_of(R, P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width):
    """R filters, R from `_at_once`."""
    if R == MOST:
        _plane_of_most(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width)
    elif R == SOME:
        _plane_of_some(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width)
    elif R == FEW:
        _plane_of_few(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width)
    else:
        plane_of_one(P, p, pr, terms, k, K, W, B, b, begin, Y, y, ys, rows, width)


@linked
def gather(R, wide, size: 4, ps: 4, W: array, w, ws: 5, T: array, t, terms: places, k):
    """T[t + k wide + r] = W[w + r ws0 + k] of R results, then zeros; terms[k] = where term k lies in the image.

    The first term is the k-th. Rows of taps are outermost, so that those at a border can be left out.
    """
    for kd in range(size[1]):
        for kh in range(size[2]):
            for a in range(size[0]):
                for kw in range(size[3]):
                    terms[k] = a * ps[0] + kd * ps[1] + kh * ps[2] + kw * ps[3]
                    at = w + a * ws[1] + kd * ws[2] + kh * ws[3] + kw * ws[4]
                    for r in range(R):
                        T[t + k * wide + r] = W[at + r * ws[0]]
                    for r in range(R, wide):
                        T[t + k * wide + r] = 0
                    k += 1


@linked
def pack(P: array, p, ph, pw, KW, rows, width, step, T: array, t):
    """T[t :] = for each of KW taps `rows` rows of every `step`-th number, one after the other."""
    L = lanes(P)
    for kw in range(KW):
        for h in range(rows):
            i, j = p + h * ph + kw * pw, t + (kw * rows + h) * width
            for o in range(0, width, L):
                if step == 1:
                    copy(T, j + o, P, i + o, width - o)
                elif step == 2:
                    store(T, j + o, 0, strided(P, i + 2 * o, 2, 2, min(width - o, L)), None, None)
                else:
                    store(T, j + o, 0, strided(P, i + o * step, 0, step, min(width - o, L)), None, None)


@helper
def packs(F, KH, step, width, L):
    """Whether to pack: gaps along the row always, short rows where a copy costs less than the lanes they waste.

    A copied vector costs about as much as sixteen filters' arithmetic on it; a row of less than a vector counts as five
    thirds of one, because such rows go one by one. Of longer rows packing must save a fifth.
    """
    if step > 1:
        return True
    wasted = L * 5 // 3 - width if width < L else (width + L - 1) // L * L - width
    return wasted * F * KH > 16 * width and 4 * wasted >= width


@helper
def met(row, live, taps):
    """First and last + 1 of `taps` rows of taps that meet a live row; live = (the first, the last + 1, dilation)."""
    first = min(taps, max(0, (live[0] - row + live[2] - 1) // live[2]))
    return first, max(first, min(taps, (live[1] - 1 - row) // live[2] + 1))


@linked
def correlate(N, F, P: array, p, pn, image: 4, stride: 3, dilation: 3, W: array, w, ws: 5, size: 4, B: array, b, begin,
              Y: array, y, yn, out: 3, live: 3):  # fmt: skip
    """Y[y + n yn :] = F filters at `out` positions of N padded images P[p + n pn :] of `image` = (maps, *spatial).

    Rows of a plane that are not live (see `met`) are zeros; they are told at stride 1 only.
    """
    _, D, H, width = image
    OD, OH, OW = out
    m, KD, KH, KW = size
    L = lanes(P)
    ys, taps = (OD * OH * OW, OW), KD * KH * KW
    if taps == 1 and D * H * width == ys[0]:  # a matrix product: every position by itself
        for n in range(N):
            if begin == 2:
                for f in range(F):
                    for i in range(ys[0]):
                        Y[y + n * yn + f * ys[0] + i] = B[b + f]
            image, result = View(P, ys[0], 1, p + n * pn), View(Y, ys[0], 1, y + n * yn)
            product(View(W, ws[0], ws[1], w), image, result, F, ys[0], m, ZERO if begin == 1 else ADD)
        return
    T, V, terms = panel(P, ROOM), panel(P, WEIGHTS), numbers(TERMS)
    packed = packs(F, KH, stride[2], OW, L)
    tall, wide, extra, band = shape_of_panel(ROOM - L, m, (KH, KW), stride[1], dilation[1], OH, OW)
    steps = (D * H * width, dilation[0] * H * width, dilation[1] * width, dilation[2])
    f = 0
    while f < F:
        R = _at_once(F - f)
        v, g, z = w + f * ws[0], b + f, y + f * ys[0]
        f += R
        some = max(1, TERMS // taps)  # maps whose weights have room
        for a in range(0, 0 if packed else m, some):
            c, first = min(some, m - a), begin if a == 0 else 0
            gather(R, R, (c, KD, KH, KW), steps, W, v + a * ws[1], ws, V, 0, terms, 0)
            for n in range(N):
                for d in range(OD):
                    q, x, h = p + n * pn + a * steps[0] + d * stride[0] * H * width, z + n * yn + d * OH * OW, 0
                    while h < OH:
                        k, K = met(h, live, KH)
                        rows, row = 1, c * KW
                        if KD > 1 or K - k == KH:  # all taps: as many rows as meet them all
                            rows, k, K = OH - h if KD > 1 else min(OH, live[1] - (KH - 1) * live[2]) - h, 0, KD * KH
                        _plane_of(R, P, q + h * stride[1] * width, stride[1] * width, terms, k * row, K * row, V, B, g,
                                  first, Y, x + h * OW, ys, rows, OW)  # fmt: skip
                        h += rows
        for i in range(N * OD if packed else 0):
            n, d = i // OD, i % OD
            for h in range(0, OH, band):
                for o in range(0, OW, wide):
                    rows, columns = min(band, OH - h), min(wide, OW - o)
                    high = rows + extra
                    each = KW * high * columns  # packed numbers of a map
                    maps = min((ROOM - L) // each, max(1, TERMS // (KH * KW)))
                    first = begin
                    for k in range(KD if tall else KD * KH):
                        kd, kh = (k, 0) if tall else (k // KH, k % KH)
                        for a in range(0, m, maps):
                            c = min(maps, m - a)
                            for e in range(c):
                                plane = ((a + e) * D + d * stride[0] + kd * dilation[0]) * H
                                q = p + n * pn + (plane + h * stride[1] + kh * dilation[1]) * width + o * stride[2]
                                pack(P, q, stride[1] * width, dilation[2], KW, high, columns, stride[2], T, e * each)
                            part = (c, 1, KH if tall else 1, KW)
                            gather(R, R, part, (each, 0, dilation[1] * columns, high * columns), W,
                                   v + a * ws[1] + kd * ws[2] + kh * ws[3], ws, V, 0, terms, 0)  # fmt: skip
                            _plane_of(R, T, 0, 0, terms, 0, c * part[2] * KW, V, B, g, first, Y,
                                      z + n * yn + (d * OH + h) * OW + o, ys, 1, rows * columns)  # fmt: skip
                            first = 0


@helper
def shape_of_panel(room, m, taps, stride, dilation, OH, OW):
    """How rows are packed: whether the taps of a column share them (then `extra` rows are needed), columns, rows."""
    KH, KW = taps
    tall = stride == 1 and KW * (1 + (KH - 1) * dilation) * OW <= room
    extra = (KH - 1) * dilation if tall else 0
    if room < KW * OW:
        return tall, room // KW, extra, 1
    return tall, OW, extra, min(OH, max(1, room // (KW * OW * min(m, 4 if tall else 16)) - extra))


@helper
def forward_tiles(n, N, P, p, image, W, kernel, B, biased, Y, out, stride, dilation, groups, f, some):
    """Y[n + i] = b + W * P[p :], N samples, `some` filters of each group from f on.

    `image`, `kernel`, `out`: shapes of P, W, Y without the first dimension.
    """
    C, F, m = image[0], out[0], kernel[0]
    each, taps, volume = F // groups, W.size // F, image[1] * image[2] * image[3]
    plane = out[1] * out[2] * out[3]
    ws = (taps, taps // m, kernel[2] * kernel[3], kernel[3], 1)
    for g in range(groups):
        first = g * each + f
        correlate(N, some, P, p + g * m * volume, C * volume, image, stride, dilation, W, first * taps, ws, kernel,
                  B if biased else W, first, 2 if biased else 1, Y, (n * F + first) * plane, F * plane,
                  out[1:], ALIVE)  # fmt: skip


@helper
def classes(stride, dilation):
    """Remainders of the places of a dimension that are told apart. With gaps between the taps the deltas get gaps."""
    return stride if dilation == 1 else 1


@helper
def backward_input_tiles(n, N, W, kernel, dY, out, U, u, framed, dX, image, stride, dilation, groups, first):
    """dX[n + i] = W with its taps turned round, moved over dY[n + i] in a frame of zeros, from `first` on; i < N.

    The frames are to be at U[u :], or are the deltas themselves there, where they need none.
    """
    F, C = out[0], image[0]
    m, KD, KH, KW = kernel
    each, K = F // groups, KD * KH * KW
    volume, plane = image[1] * image[2] * image[3], framed[1] * framed[2] * framed[3]
    qd, qh, qw = classes(stride[0], dilation[0]), classes(stride[1], dilation[1]), classes(stride[2], dilation[2])
    # the frame before the deltas: as far as the taps of a class reach
    edge = ((KD - 1) // qd * dilation[0], (KH - 1) // qh * dilation[1], (KW - 1) // qw * dilation[2])
    if out != framed:
        gaps = (stride[0] // qd, stride[1] // qh, stride[2] // qw)
        for i in range(N):
            frame(dY, (n + i) * F * out[1] * out[2] * out[3], out, U, u + i * F * plane, framed, gaps, edge)
    whole = qd * qh * qw == 1
    for r in range(qd * qh * qw):
        begin, tap, size, at, high, live = remainder(
            r, (qd, qh, qw), kernel, dilation, first, edge, framed, (out[2] - 1) * (stride[1] // qh) + 1, image[1:]
        )
        ws = (K, m * K, -qd * KH * KW, -qh * KW, -qw)
        for g in range(groups):
            q, w, x = u + g * each * plane + begin, g * each * m * K + tap, (n * C + g * m) * volume + at
            if whole:
                correlate(N, m, U, q, F * plane, framed, (1, 1, 1), dilation, W, w, ws, (each, *size), W, 0, 1,
                          dX, x, C * volume, image[1:], live)  # fmt: skip
            else:
                for i in range(N):
                    _class(m, U, q + i * F * plane, framed, dilation, W, w, ws, (each, *size), dX,
                           x + i * C * volume, image, (qd, qh, qw), high)  # fmt: skip


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


@helper
def _class(m, U, u, framed, dilation, W, w, ws, taps, dX, x, image, step, out):
    """The cells of one class, `step` apart in dX from x on: m maps, some rows of some maps at a time."""
    T = panel(U, ROOM)
    OD, OH, OW = out
    none = taps[1] * taps[2] * taps[3] == 0  # a stride larger than the kernel leaves cells out
    if OD * OH * OW == 0:
        return
    wide = min(OW, ROOM)
    band = min(OH, ROOM // wide)
    maps = max(1, min(m, ROOM // (band * wide)))
    if maps < min(m, 8):  # fewer rows rather than fewer maps: those share what is loaded
        maps = min(m, 8)
        band = max(1, ROOM // (maps * wide))
        maps = max(1, min(m, ROOM // (band * wide)))
    for a in range(0, m, maps):
        some = min(maps, m - a)
        for d in range(OD):
            for h in range(0, OH, band):
                for o in range(0, OW, wide):
                    rows, columns = min(band, OH - h), min(wide, OW - o)
                    q = u + (d * framed[2] + h) * framed[3] + o
                    if not none:
                        correlate(1, some, U, q, 0, framed, (1, 1, 1), dilation, W, w + a * ws[0], ws, taps,
                                  W, 0, 1, T, 0, 0, (1, rows, columns), ALIVE)  # fmt: skip
                    for e in range(some * rows):
                        c, i = a + e // rows, h + e % rows
                        j = x + ((c * image[1] + d * step[0]) * image[2] + i * step[1]) * image[3] + o * step[2]
                        for k in range(columns):
                            dX[j + k * step[2]] = 0 if none else T[e * columns + k]
