"""Matrix products on register tiles, Y = A B and Y += A B^T, behind the affine layer.

A tile is HIGH rows by three vectors of Y: for each term of the sum it reads three vectors of B and one number of every
row of A, and makes 3 HIGH fused multiply-adds of them. Where many rows of A meet the same B, a panel of B, three
vectors wide and DEEP terms long, is first copied (for B^T: turned) to the stack, so that it is read in one piece from
nearby cache again and again; so are the rows of A where their terms lie far apart (`rows`) or many panels meet them
(`_near`). Where fewer do, B is read as it is; for A B^T two vectors of rows of A are then turned to lie side by side
(`_beside`), and what is left are dot products (`inner`).
"""

from ..compiler.kernel import array, helper, inlined, linked
from .tile import BYTES, HIGH, REGISTERS, copy, inner, lanes, load, outer, panel, store, sums, turn, zero

DEEP = 24576 // (3 * BYTES)  # terms of a sum whose factors are packed at once: three vectors of each take 24 kB
ROOM = DEEP * 3 * BYTES // 4  # numbers of a panel, three vectors wide
NEAR = 49152  # numbers that are read again and again: they stay in the second-level cache
RESULTS = 8192  # numbers of results that are turned at once
BESIDE = 2 * BYTES // 4 if REGISTERS == 16 else 3 * BYTES // 4  # rows from which they are laid side by side
TALL = 512  # rows of a block, at most
ALONG = 128  # columns, at least, of a block that turns its rows, or that costs a sixth of the product
APART = 16  # more terms than there are from row to row of packed ones, or they share few lines of the cache
REUSED = 10  # panels of B that all rows of A meet, from which packing these, too, is earned
PACKED = (DEEP + APART) * TALL
PORTION = 1024  # terms that are summed before they are added to the result: the error of a sum grows with its terms


def _tile(R, C):
    """R rows, C vectors, `width` columns of them: Y = or += sum over k < K of A[a + r sa + k ka] B[b + k kb :]."""

    @inlined
    def tile(A, a, sa, ka, B, b, kb, exist, Y, y, ys, K, width, begin):
        t = zero(A, R, C)
        for k in range(K):
            t = outer(t, A, a + k * ka, sa, B, b + k * kb, exist, None)
        if not begin:  # only now: of a long sum, portions are added up
            t = t + load(Y, y, ys, R, C, width, None)
        store(Y, y, ys, t, width, None)

    return tile


_high_by_three, _high_by_one, _one_by_three, _one_by_one = _tile(HIGH, 3), _tile(HIGH, 1), _tile(1, 3), _tile(1, 1)


@helper
def _columns(M, A, a, sa, ka, B, b, kb, Y, y, ys, K, width, begin):
    """M rows of up to three vectors of Y, B's panel being padded."""
    for i in range(0, M - M % HIGH, HIGH):
        _high_by_three(A, a + i * sa, sa, ka, B, b, kb, None, Y, y + i * ys, ys, K, width, begin)
    for i in range(M - M % HIGH, M):
        _one_by_three(A, a + i * sa, sa, ka, B, b, kb, None, Y, y + i * ys, ys, K, width, begin)


@linked
def rows(M, K, A: array, a, ka, S: array):
    """S[i step + k HIGH + r] = A[a + k ka + i + r], i every HIGH-th row: the rows of a tile beside each other."""
    whole, step = M - M % HIGH, K + APART
    for k in range(K):
        for i in range(0, whole, HIGH):
            for r in range(HIGH):
                S[i * step + k * HIGH + r] = A[a + k * ka + i + r]
        for i in range(whole, M):
            S[i * step + k] = A[a + k * ka + i]


@helper
def _high_columns(M, S, B, kb, Y, y, ys, K, width, begin):
    """`_columns` of packed rows."""
    for i in range(0, M - M % HIGH, HIGH):
        _high_by_three(S, i * (K + APART), 1, HIGH, B, 0, kb, None, Y, y + i * ys, ys, K, width, begin)
    for i in range(M - M % HIGH, M):
        _one_by_three(S, i * (K + APART), 1, 1, B, 0, kb, None, Y, y + i * ys, ys, K, width, begin)


@linked
def product(M, K, n, A: array, a, sa, ka, B: array, b, kb, Y: array, y, ys, begin):
    """Y[y + i ys + j] = or (begin = 0) += sum over k < K of A[a + i sa + k ka] B[b + k kb + j], M x n of them."""
    L = lanes(A)
    wide = 3 * L
    if M >= 64:
        T, S = panel(A, ROOM), panel(A, PACKED)
        turned = sa == 1 and ka > M and n > 2 * wide and M <= TALL
        for k in range(0, K, DEEP):
            deep = min(DEEP, K - k)
            if turned:
                rows(M, deep, A, a + k * ka, ka, S)
            for j in range(0, n, wide):
                for e in range(deep):
                    for v in range(0, wide, L):
                        copy(T, e * wide + v, B, b + (k + e) * kb + j + v, n - j - v)
                if turned:
                    _high_columns(M, S, T, wide, Y, y + j, ys, deep, n - j, begin and k == 0)
                else:
                    _columns(M, A, a + k * ka, sa, ka, T, 0, wide, Y, y + j, ys, deep, n - j, begin and k == 0)
        return
    for k in range(0, K, PORTION):
        _direct(M, min(PORTION, K - k), n, A, a + k * ka, sa, ka, B, b + k * kb, kb, Y, y, ys, begin and k == 0)


@helper
def _direct(M, K, n, A, a, sa, ka, B, b, kb, Y, y, ys, begin):
    """`product` of few rows: nothing is packed."""
    L = lanes(A)
    wide = 3 * L
    whole = n - n % wide
    for j in range(0, whole, wide):  # three vectors of B meet all rows while they are near
        for block in range((M + HIGH - 1) // HIGH if begin and M >= HIGH else M // HIGH):
            i = min(block * HIGH, M - HIGH)  # the last ones may begin earlier: some rows twice, rather than one by one
            _high_by_three(A, a + i * sa, sa, ka, B, b + j, kb, None, Y, y + i * ys + j, ys, K, wide, begin)
        for i in range(0 if M < HIGH else M if begin else M - M % HIGH, M):
            _one_by_three(A, a + i * sa, sa, ka, B, b + j, kb, None, Y, y + i * ys + j, ys, K, wide, begin)
    for j in range(whole, n, L):
        for block in range((M + HIGH - 1) // HIGH if begin and M >= HIGH else M // HIGH):
            i = min(block * HIGH, M - HIGH)
            _high_by_one(A, a + i * sa, sa, ka, B, b + j, kb, n - j, Y, y + i * ys + j, ys, K, n - j, begin)
        for i in range(0 if M < HIGH else M if begin else M - M % HIGH, M):
            _one_by_one(A, a + i * sa, sa, ka, B, b + j, kb, n - j, Y, y + i * ys + j, ys, K, n - j, begin)


def _dots(R, C):
    """R x C products of rows: Y[y + r ys + v] += sum over k < K of A[a + r K + k] B[b + v K + k]."""

    @inlined
    def dots(K, A, a, B, b, Y, y, ys):
        t = zero(A, R, C)
        L = lanes(A)
        for k in range(0, K - L + 1, L):
            t = inner(t, A, a + k, K, B, b + k, K, None)
        if K % L:
            k = K - K % L
            t = inner(t, A, a + k, K, B, b + k, K, K - k)
        sums(Y, y, ys, 1, t)

    return dots


_high_dots_3, _high_dots_1, _dots_4, _dots_1 = _dots(HIGH, 3), _dots(HIGH, 1), _dots(1, 4), _dots(1, 1)


_six_beside, _four_beside, _one_beside = _tile(6, 2), _tile(4, 2), _tile(1, 2)


@helper
def _turned(count, deep, B, b, K, T, wide):
    """T[e wide + o] = B[b + o K + e]: `deep` terms of `count` rows, at most `wide`, the rows side by side."""
    L = lanes(B)
    for v in range(0, min(wide, count), L):  # few rows at once, each far: many may share lines of the cache
        for e in range(0, deep - L + 1, L):
            if count >= wide:
                turn(T, e * wide + v, wide, B, b + v * K + e, K, None)
            else:
                turn(T, e * wide + v, wide, B, b + v * K + e, K, count - v)
    for e in range(deep - deep % L, deep):
        for o in range(min(wide, count)):
            T[e * wide + o] = B[b + o * K + e]


@linked
def _beside(K, n, A: array, a, B: array, b, Y: array, y, ys):
    """`add_product_of_rows` for two vectors of rows of A, which lie side by side: no sum is across a vector."""
    T, S = panel(A, ROOM), panel(A, RESULTS)
    L = lanes(A)
    wide, most = 2 * L, RESULTS // (2 * L)
    parts = (K * wide + ROOM - 1) // ROOM
    step = (K + parts * L - 1) // (parts * L) * L
    for j in range(0, n, most):
        some = min(n - j, most)
        for k in range(0, K, step):
            deep = min(step, K - k)
            _turned(wide, deep, A, a + k, K, T, wide)
            r = 0
            while r < some:
                at, s = b + (j + r) * K + k, r * wide
                if some - r >= 6:
                    _six_beside(B, at, K, 1, T, 0, wide, None, S, s, wide, deep, wide, k == 0)
                    r += 6
                elif some - r >= 4:
                    _four_beside(B, at, K, 1, T, 0, wide, None, S, s, wide, deep, wide, k == 0)
                    r += 4
                else:
                    _one_beside(B, at, K, 1, T, 0, wide, None, S, s, wide, deep, wide, k == 0)
                    r += 1
        whole = some - some % L
        for r in range(0, whole, L):
            for i in range(0, wide, L):
                turn(T, 0, L, S, r * wide + i, wide, None)
                for k in range(L):
                    z = y + (i + k) * ys + j + r
                    store(Y, z, 0, load(Y, z, 0, 1, 1, None, None) + load(T, k * L, 0, 1, 1, None, None), None, None)
        for i in range(wide):
            for r in range(whole, some):
                Y[y + i * ys + j + r] += S[r * wide + i]


@helper
def _near(M, A, a, K, S):
    """S[i (DEEP + APART) + k] = A[a + i K + k], k < DEEP: where rows are far apart, many share lines of the cache."""
    L = lanes(A)
    for i in range(M):
        for k in range(0, DEEP, 4 * L):
            store(S, i * (DEEP + APART) + k, 0, load(A, a + i * K + k, 0, 1, 4, None, None), None, None)


@linked
def add_product_of_rows(M, K, n, A: array, a, B: array, b, Y: array, y, ys):
    """Y[y + i ys + j] += sum over k < K of A[a + i K + k] B[b + j K + k], M x n of them."""
    L = lanes(A)
    wide = 3 * L
    if M >= 256 and n >= L:
        T, S = panel(A, ROOM), panel(A, PACKED)
        for k in range(0, K, DEEP):
            deep = min(DEEP, K - k)
            packed = deep == DEEP and M <= TALL and n >= REUSED * wide
            if packed:
                _near(M, A, a + k, K, S)
            for j in range(0, n, wide):
                _turned(n - j, deep, B, b + j * K + k, K, T, wide)
                if packed:
                    _columns(M, S, 0, DEEP + APART, 1, T, 0, wide, Y, y + j, ys, deep, n - j, False)
                else:
                    _columns(M, A, a + k, K, 1, T, 0, wide, Y, y + j, ys, deep, n - j, False)
        return
    done = M - M % (2 * L) if M >= BESIDE else 0
    for i in range(0, done, 2 * L):
        _beside(K, n, A, a + i * K, B, b, Y, y + i * ys, ys)
    M, a, y = M - done, a + done * K, y + done * ys
    near = max(3, NEAR // K // 3 * 3)  # rows of B that stay in the second-level cache for all of A
    for first in range(0, n, near):
        last = min(n, first + near)
        whole = last - (last - first) % 3
        for i in range(0, M - M % HIGH, HIGH):
            for j in range(first, whole, 3):
                _high_dots_3(K, A, a + i * K, B, b + j * K, Y, y + i * ys + j, ys)
            for j in range(whole, last):
                _high_dots_1(K, A, a + i * K, B, b + j * K, Y, y + i * ys + j, ys)
        whole = last - (last - first) % 4
        for i in range(M - M % HIGH, M):
            for j in range(first, whole, 4):
                _dots_4(K, A, a + i * K, B, b + j * K, Y, y + i * ys + j, ys)
            for j in range(whole, last):
                _dots_1(K, A, a + i * K, B, b + j * K, Y, y + i * ys + j, ys)


def _shares(M, n, vector, least):
    """How a result of M x n is divided: rows and columns of a block, blocks side by side and below; at most 16.

    A block has at least so many columns.
    """
    tall = min(M, TALL)
    down = (M + tall - 1) // max(tall, 1)
    panels = (n + 3 * vector - 1) // (3 * vector)
    each = max((panels * down + 15) // 16, (least + 3 * vector - 1) // (3 * vector))
    wide = min(n, each * 3 * vector)
    return tall, wide, (n + wide - 1) // max(wide, 1), down


shares = helper(_shares)
