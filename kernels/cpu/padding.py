"""Images with a border: padding and its adjoint, and deltas in a frame of zeros.

Images have three dimensions (a leading 1 for each missing one) and are places in flat arrays; `before` is the padding
before each dimension, `border` an index of geometry.BORDERS.
"""

from numba import uintp

from .. import geometry
from ..compiler.kernel import array, helper, inlined, linked
from .tile import lanes, load, store, zero

_source = helper(geometry.source)


@helper
def move(T, t, P, p, count):
    """T[t : t + count] = P[p : p + count]."""
    L = lanes(P)
    if count < L:
        store(T, t, 0, load(P, p, 0, 1, 1, count, None), count, None)
    for o in range(0, count if count >= L else 0, L):
        at = min(o, count - L)  # the last vector may begin earlier: some numbers twice
        store(T, t + at, 0, load(P, p + at, 0, 1, 1, None, None), None, None)


@inlined
def _move_only(T, t, P, p, count, S, s):
    move(T, t, P, p, count)


@inlined
def _move_and_sum(T, t, P, p, count, S, s):
    """`move`, and the vectors S[s] and behind it get the sums of |x| and x^2 added, lane by lane.

    Some numbers count twice where a row does not fill its vectors.
    """
    L = lanes(P)
    total, squares = load(S, s, 0, 1, 1, None, None), load(S, s + L, 0, 1, 1, None, None)
    if count < L:
        row = load(P, p, 0, 1, 1, count, None)
        store(T, t, 0, row, count, None)
        total, squares = total + abs(row), squares + row * row
    for o in range(0, count if count >= L else 0, L):
        at = min(o, count - L)
        row = load(P, p + at, 0, 1, 1, None, None)
        store(T, t + at, 0, row, None, None)
        total, squares = total + abs(row), squares + row * row
    store(S, s, 0, total, None, None)
    store(S, s + L, 0, squares, None, None)


def padding(move_row):
    """`pad`, which moves a row of the image by `move_row`."""

    @linked
    def pad(P: array, p, image: 3, T: array, t, room: 3, before: 3, border, S: array, s):
        D, H, W = image
        RD, RH, RW = room
        front, top, left = before
        L = lanes(P)
        # zeros of a row are in its first and last vector
        narrow = border == 0 and RW >= L and max(left, RW - W - left) <= L
        for d in range(RD):
            inside = front <= d < front + D
            sd = d - front if inside else _source(d - front, D, border)
            at = t + d * RH * RW
            # rows with cells of the image
            first, last = (RH, RH) if sd < 0 else (top, top + H) if border == 0 else (0, RH)
            for i in range(at, at + first * RW):
                T[i] = 0
            for i in range(at + last * RW, at + RH * RW):
                T[i] = 0
            for h in range(first, last):
                inside = top <= h < top + H
                sh = h - top if inside else _source(h - top, H, border)
                at, to = p + (sd * H + sh) * W, t + (d * RH + h) * RW
                if narrow:
                    store(T, to, 0, zero(T, 1, 1), None, None)
                    store(T, to + RW - L, 0, zero(T, 1, 1), None, None)
                for w in range(0 if narrow else RW - W):  # the cells before, then those after
                    w += 0 if w < left else W
                    sw = _source(w - left, W, border)
                    T[to + w] = P[at + sw] if sw >= 0 else 0
                move_row(T, to + left, P, at, W, S, s)

    return pad


_pad, _pad_and_sum = padding(_move_only), padding(_move_and_sum)


@inlined
def pad(P, p, image, T, t, room, before, border):
    """The map T[t :] of shape `room` = the map P[p :] of shape `image` with its border: each cell's source, or zero."""
    _pad(P, p, image, T, t, room, before, border, T, 0)


@inlined
def pad_and_sum(P, p, image, T, t, room, before, border, S, s, begun):
    """`pad`; the vectors S[s] and behind it become the map's sums of |x| and x^2, or get them added, if begun."""
    if not begun:
        store(S, s, 0, zero(S, 1, 2), None, None)
    _pad_and_sum(P, p, image, T, t, room, before, border, S, s)


@inlined
def add_sums(total, squares, S, s, begun):
    """The vectors at S[s] and behind it become the two sums, lane by lane; or get them added, if begun."""
    L = lanes(S)
    if begun:
        total, squares = total + load(S, s, 0, 1, 1, None, None), squares + load(S, s + L, 0, 1, 1, None, None)
    store(S, s, 0, total, None, None)
    store(S, s + L, 0, squares, None, None)


@helper
def pad_maps(first, last, step, x, padded, before, border):
    """`pad` of every `step`-th map, counted over all samples, where anything is padded."""
    if padded.size:
        image, room, P, T = x.shape[2:], padded.shape[2:], x.reshape(-1), padded.reshape(-1)
        for i in range(first, last, step):
            p, t = i * image[0] * image[1] * image[2], i * room[0] * room[1] * room[2]
            pad(P, p, image, T, t, room, before, border)


@helper
def fold(n, dpadded, dx, before, border):
    """dx[n] = the adjoint of pad: every cell of the padded image gives back to its source."""
    C, D, H, W = dx.shape[1:]
    PD, PH, PW = dpadded.shape[2:]
    images, cells = dx.reshape(-1), dpadded.reshape(-1)
    for j in range(uintp(n * C * D * H * W), uintp((n + 1) * C * D * H * W)):
        images[j] = dx.dtype.type(0)
    for c in range(C):
        for d in range(PD):
            for h in range(PH):
                sd, sh = _source(d - before[0], D, border), _source(h - before[1], H, border)
                if sd < 0 or sh < 0:
                    continue
                at = (((n * C + c) * D + sd) * H + sh) * W
                to = (((n * C + c) * PD + d) * PH + h) * PW
                for w in range(uintp(W)):
                    images[uintp(at) + w] += cells[uintp(to + before[2]) + w]
                for w in range(PW - W):
                    w += 0 if w < before[2] else W
                    sw = _source(w - before[2], W, border)
                    if sw >= 0:
                        images[at + sw] += cells[to + w]


@linked
def frame(dY: array, y, out: 4, U: array, u, framed: 4, stride: 3, edge: 3):
    """U = dY, spread by the stride, with `edge` zeros before it and the rest behind."""
    F, OD, OH, OW = out
    _, FD, FH, FW = framed
    if stride[0] * stride[1] * stride[2] == 1:
        for f in range(F):
            pad(dY, y + f * OD * OH * OW, (OD, OH, OW), U, u + f * FD * FH * FW, (FD, FH, FW), edge, 0)
        return
    for j in range(F * FD * FH * FW):
        U[u + j] = 0
    for f in range(F):
        for d in range(OD):
            for h in range(OH):
                i = y + ((f * OD + d) * OH + h) * OW
                j = u + ((f * FD + edge[0] + d * stride[0]) * FH + edge[1] + h * stride[1]) * FW + edge[2]
                for w in range(OW):
                    U[j + w * stride[2]] = dY[i + w]
