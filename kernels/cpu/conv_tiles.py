"""Convolution at stride 1 along a row, on register tiles: what conv.py does with most layers.

A row of an image is contiguous and a tap is a fixed offset into it, so convolution is a matrix product whose right
factor, the shifted image, need not be written down. A tile is four filters by up to six rows of one vector of
positions; the weights are its left factor, read as they are. Backward to the input is the same product with the taps
turned round, over deltas with a frame of zeros. Backward to the weights multiplies rows with rows and sums at the end.

Rows shorter than a vector leave lanes unused; masks keep what lies behind them out.
"""

from ..compiler import helper
from .tile import fill, inner, lanes, outer, store, sums, zero


def _correlation(R, C):
    """R filters at C rows of one vector of positions each: Y = sum over maps and taps of W times the shifted image.

    Steps of one array carry its letter: wf from filter to filter, wa from map to map, wk from tap to tap of W; pa, pd,
    ph, pw from map to map and tap to tap of the image P, pr from row to row; yf, yr of Y. `width` positions exist.
    """

    @helper
    def correlation(P, p, pa, pd, ph, pw, pr, W, w, wf, wa, wk, b, f, m, kernel, Y, y, yf, yr, width):
        KD, KH, KW = kernel
        t = fill(b, f, 1, R, C) if b.size else zero(P, R, C)
        for a in range(m):
            for kd in range(KD):
                for kh in range(KH):
                    at, tap = p + a * pa + kd * pd + kh * ph, w + a * wa + (kd * KH + kh) * KW * wk
                    for kw in range(KW):
                        t = outer(t, W, tap + kw * wk, wf, P, at + kw * pw, width, pr)
        store(Y, y, yf, t, width, yr)

    return correlation


def _plane(R):
    """All rows and positions of R filters, in tiles of as many rows as fit."""
    six, two, one = _correlation(R, 6), _correlation(R, 2), _correlation(R, 1)

    @helper
    def plane(P, p, pa, pd, ph, pw, pr, W, w, wf, wa, wk, b, f, m, kernel, Y, y, yf, yr, rows, width):
        L = lanes(P)
        for o in range(0, width, L):
            r = 0
            while r < rows:
                i, j, left = p + r * pr + o, y + r * yr + o, width - o
                if rows - r >= 6:
                    six(P, i, pa, pd, ph, pw, pr, W, w, wf, wa, wk, b, f, m, kernel, Y, j, yf, yr, left)
                    r += 6
                elif rows - r >= 2:
                    two(P, i, pa, pd, ph, pw, pr, W, w, wf, wa, wk, b, f, m, kernel, Y, j, yf, yr, left)
                    r += 2
                else:
                    one(P, i, pa, pd, ph, pw, pr, W, w, wf, wa, wk, b, f, m, kernel, Y, j, yf, yr, left)
                    r += 1

    return plane


_plane_of_four, _plane_of_one = _plane(4), _plane(1)


@helper
def forward_tiles(n, P, W, b, y, stride, dilation, groups):
    """y[n] = b + W * P[n] for stride 1 along a row: four filters of a group at a time."""
    F, OD, OH, OW = y.shape[1:]
    C, D, H, width = P.shape[1:]
    m, kernel, each, taps = W.shape[1], W.shape[2:], F // groups, W.size // F
    pa, pd, ph, pw = D * H * width, dilation[0] * H * width, dilation[1] * width, dilation[2]
    pr, wa, volume = stride[1] * width, taps // m, OD * OH * OW
    f = 0
    while f < F:
        for d in range(OD):
            p = (n * C + f // each * m) * pa + d * stride[0] * H * width
            z = ((n * F + f) * OD + d) * OH * OW
            if f % each + 4 <= each:
                _plane_of_four(
                    P, p, pa, pd, ph, pw, pr, W, f * taps, taps, wa, 1, b, f, m, kernel, y, z, volume, OW, OH, OW
                )
            else:
                _plane_of_one(
                    P, p, pa, pd, ph, pw, pr, W, f * taps, taps, wa, 1, b, f, m, kernel, y, z, volume, OW, OH, OW
                )
        f += 4 if f % each + 4 <= each else 1


@helper
def backward_input_tiles(n, W, dy, framed, dx, dilation, groups, first):
    """dx[n] = W with its taps turned round, moved over dy[n] in a frame of zeros, from position `first` on."""
    F, OD, OH, OW = dy.shape[1:]
    C, D, H, width = dx.shape[1:]
    FD, FH, FW = framed.shape[2:]
    m, kernel, each = W.shape[1], W.shape[2:], F // groups
    K = kernel[0] * kernel[1] * kernel[2]
    zs, us = dy.reshape(-1), framed.reshape(-1)
    for j in range(n * F * FD * FH * FW, (n + 1) * F * FD * FH * FW):
        us[j] = framed.dtype.type(0)
    ed, eh, ew = (FD - OD) // 2, (FH - OH) // 2, (FW - OW) // 2
    for f in range(F):
        for d in range(OD):
            for h in range(OH):
                z = (((n * F + f) * OD + d) * OH + h) * OW
                u = (((n * F + f) * FD + d + ed) * FH + h + eh) * FW + ew
                for w in range(OW):
                    us[u + w] = zs[z + w]
    pa, pd, ph, pw = FD * FH * FW, dilation[0] * FH * FW, dilation[1] * FW, dilation[2]
    volume = D * H * width
    none = W[0, 0, 0, 0, :0]
    c = 0
    while c < C:
        g = c // m
        for d in range(D):
            p = (n * F + g * each) * pa + ((d + first[0]) * FH + first[1]) * FW + first[2]
            z = ((n * C + c) * D + d) * H * width
            w = (g * each * m + c % m) * K + K - 1
            if c % m + 4 <= m:
                _plane_of_four(
                    framed,
                    p,
                    pa,
                    pd,
                    ph,
                    pw,
                    FW,
                    W,
                    w,
                    K,
                    m * K,
                    -1,
                    none,
                    0,
                    each,
                    kernel,
                    dx,
                    z,
                    volume,
                    width,
                    H,
                    width,
                )
            else:
                _plane_of_one(
                    framed,
                    p,
                    pa,
                    pd,
                    ph,
                    pw,
                    FW,
                    W,
                    w,
                    K,
                    m * K,
                    -1,
                    none,
                    0,
                    each,
                    kernel,
                    dx,
                    z,
                    volume,
                    width,
                    H,
                    width,
                )
        c += 4 if c % m + 4 <= m else 1


def _taps(R, C):
    """R filters, C taps or maps: dW = sum over batch and positions of rows of dy times rows of the image."""

    @helper
    def taps(dY, y, yf, P, p, pk, pd, pr, pn, shape, dW, w, wf, wk):
        N, F, OD, OH, OW = shape
        L = lanes(dY)
        whole = OW - OW % L
        t = zero(dY, R, C)
        for n in range(N):
            for d in range(OD):
                for h in range(OH):
                    i, j = y + ((n * F * OD + d) * OH + h) * OW, p + n * pn + d * pd + h * pr
                    for o in range(0, whole, L):
                        t = inner(t, dY, i + o, yf, P, j + o, pk, None)
                    if whole < OW:
                        t = inner(t, dY, i + whole, yf, P, j + whole, pk, OW - whole)
        sums(dW, w, wf, wk, t)

    return taps


def _columns(R):
    """All columns of R filters, five, three and one at a time."""
    five, three, one = _taps(R, 5), _taps(R, 3), _taps(R, 1)

    @helper
    def columns(count, dY, y, yf, P, p, pk, pd, pr, pn, shape, dW, w, wf, wk):
        k = 0
        while k < count:
            if count - k >= 5:
                five(dY, y, yf, P, p + k * pk, pk, pd, pr, pn, shape, dW, w + k * wk, wf, wk)
                k += 5
            elif count - k >= 3:
                three(dY, y, yf, P, p + k * pk, pk, pd, pr, pn, shape, dW, w + k * wk, wf, wk)
                k += 3
            else:
                one(dY, y, yf, P, p + k * pk, pk, pd, pr, pn, shape, dW, w + k * wk, wf, wk)
                k += 1

    return columns


_columns_of_four, _columns_of_one = _columns(4), _columns(1)


@helper
def backward_weight_tiles(block, P, dy, dW, stride, dilation, groups):
    """The taps of one row of a kernel for four filters of a group (all maps instead, where a row has one tap)."""
    F, OD, OH, OW = dy.shape[1:]
    C, D, H, width = P.shape[1:]
    m, (KD, KH, KW), each = dW.shape[1], dW.shape[2:], F // groups
    fours = (each + 3) // 4
    rows = KD * KH * (m if KW > 1 else 1)
    row, block = block % rows, block // rows
    first = block // fours * each + block % fours * 4
    last = min(first + 4, (block // fours + 1) * each)
    kh, kd, a = row % KH, row // KH % KD, row // (KH * KD)
    K, volume = KD * KH * KW, D * H * width
    p = (first // each * m + a) * volume + (kd * dilation[0] * H + kh * dilation[1]) * width
    pd, pr, pn = stride[0] * H * width, stride[1] * width, C * volume
    count, pk, wk = (KW, dilation[2], 1) if KW > 1 else (m, volume, K)
    w = (first * m + a) * K + (kd * KH + kh) * KW
    plane = OD * OH * OW
    if last - first == 4:
        _columns_of_four(count, dy, first * plane, plane, P, p, pk, pd, pr, pn, dy.shape, dW, w, m * K, wk)
    else:
        for f in range(first, last):
            at = w + (f - first) * m * K
            _columns_of_one(count, dy, f * plane, plane, P, p, pk, pd, pr, pn, dy.shape, dW, at, m * K, wk)
