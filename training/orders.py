"""The order of the samples in every epoch: NumPy's permutations, by NumPy or, if there are many, by compiled code.

An order is keyed by seed and epoch, so a resumed epoch goes through the samples in the same order. The compiled code
gives the bits of ``np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(n)``, ten times as fast:

- Philox4x64-10 (J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC11,
  doi:10.1145/2063384.2063405): counters from 1 on, each of four words of 64 bits, taken as halves, the low one first
- a number up to i: the next half word's lowest bits, as many as i has; larger numbers are rejected
- the shuffle of R. Durstenfeld, Algorithm 235: Random Permutation, CACM 7(7), 1964, doi:10.1145/364520.364540
"""

import _thread
import functools
from contextlib import suppress
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..kernels.compiler.cache import digest
from ..kernels.compiler.kernel import inlined
from ..kernels.compiler.machine_code import compiled

MANY = 4_000_000  # samples in the orders of a run, 30 to 90 ms in NumPy, from which on compiled code draws them
FIXED = 2_000  # samples that NumPy could order in the time in which it makes one generator, 20 us
DRAWN = 2**21  # bytes of orders that are drawn at once
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)  # mask of a half word
HALF = np.uint64(32)  # bits


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of `count` samples in an epoch."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


class Orders:
    """The orders of the epochs of one training.

    Parameters
    ----------
    seed, count : int
        `count` samples in every epoch.
    epochs : int
        Epochs of the training, which decide whether compiled code draws the orders.
    shuffled : bool
        False: every order is 0, 1, 2, ...
    """

    def __init__(self, seed: int, count: int, epochs: int, shuffled: bool = True) -> None:
        self.seed, self.count, self.epochs, self.shuffled = seed, count, epochs, shuffled
        self.many = (count + FIXED) * epochs >= MANY
        self.compiled = shuffled and self.many
        # Orders drawn at once, the epoch of the first, that of the first in `_next` once they are drawn (0: not yet),
        # and the lock that is free when drawing has ended.
        self._now, self._next, self._first, self._ahead = np.empty((0, 0), np.intp), np.empty((0, 0), np.intp), 0, 0
        self._drawn: _thread.LockType | None = None

    def compile(self) -> None:
        """Compile what draws the orders; otherwise the first call of `several` does it."""
        if self.compiled:
            compiled_draw()

    def one(self, epoch: int) -> np.ndarray:
        """Return the order of an epoch."""
        return order(self.seed, epoch, self.count) if self.shuffled else np.arange(self.count)

    def several(self, first: int, epochs: int) -> np.ndarray:
        """Return orders (at most `epochs`, count) of the epochs from `first` on, valid until the next call.

        The following ones are drawn meanwhile: compiled code does not hold Python's lock, and networks that are small
        enough for this to matter leave a processor idle.
        """
        if not self.compiled:
            return np.stack([self.one(epoch) for epoch in range(first, first + epochs)])
        if not self._first <= first < self._first + len(self._now):
            self._advance(first)
        return self._now[first - self._first :][:epochs]

    def _advance(self, first):
        """Set `_now` to the orders from `first` on, and draw the orders after them in another thread."""
        if not len(self._now):
            rows = max(1, min(self.epochs, DRAWN // (8 * self.count)))
            self._now, self._next = (np.empty((rows, self.count), np.intp) for _ in "12")
        if self._drawn is not None:
            self._drawn.acquire()
        self._now, self._next, self._first, self._drawn = self._next, self._now, first, None
        if self._ahead != first:
            self._draw(first, self._now)
        self._ahead = 0
        if first + len(self._now) <= self.epochs:
            self._drawn = _thread.allocate_lock()
            self._drawn.acquire()
            try:  # threading's Thread would wait until it runs, for milliseconds on a busy machine
                _thread.start_new_thread(self._draw_ahead, (first + len(self._now), self._next, self._drawn))
            except RuntimeError:  # there are too many threads
                self._drawn = None

    def _draw(self, first, orders):
        compiled_draw()(self.seed, first, orders, *scratch(self.count))

    def _draw_ahead(self, first, orders, drawn):
        """Draw orders in a thread; what fails there, `_advance` does again."""
        try:
            with suppress(MemoryError):
                self._draw(first, orders)
                self._ahead = first
        finally:
            drawn.release()


@functools.cache
def compiled_draw():
    """Return the compiled function draw(seed, first epoch, orders (epochs, n), *scratch(n))."""
    draw.__name__ = "draw_orders_" + digest(Path(__file__).read_text(encoding="utf-8"))
    orders, words, places = (types.Array(*of, "C") for of in ((types.intp, 2), (types.uint64, 1), (types.uint32, 1)))
    return compiled(draw, (types.intp, types.intp, orders, words, places), no_cfunc_wrapper=True)


def scratch(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scratch for `compiled_draw` with `count` samples: words, about as many as an order needs, and places."""
    return np.empty(4 * (count * 3 // 16 + 1), np.uint64), np.empty(count, np.uint32)


@intrinsic
def high(typing, a, b):
    """Return the upper half of the product of two words."""

    def emit(context, builder, signature, arguments):
        wide = ir.IntType(128)
        a, b = (builder.zext(each, wide) for each in arguments)
        return builder.trunc(builder.lshr(builder.mul(a, b), wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


@inlined
def philox(seed, epoch, counter, words, at):
    """Write the four words of a counter."""
    c0, c1, c2, c3 = np.uint64(counter), np.uint64(0), np.uint64(0), np.uint64(0)
    k0, k1 = np.uint64(seed), np.uint64(epoch)
    for _ in range(ROUNDS):
        high0, low0 = high(np.uint64(0xD2E7470EE14C6C93), c0), np.uint64(0xD2E7470EE14C6C93) * c0
        high1, low1 = high(np.uint64(0xCA5A826395121157), c2), np.uint64(0xCA5A826395121157) * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + np.uint64(0x9E3779B97F4A7C15), k1 + np.uint64(0xBB67AE8584CAA73B)
    words[at], words[at + 1], words[at + 2], words[at + 3] = c0, c1, c2, c3


@inlined
def choose(seed, epoch, n, words, places):
    """Write for every place i below n, the last first, a number up to i; all that have as many bits share a mask."""
    counter, at, i = words.size // 4, 0, n - 1
    while i > 0:
        mask = np.int64(1)
        while mask < i:
            mask = 2 * mask + 1
        while i > mask >> 1:  # i, of as many bits as the mask
            if at == 2 * words.size:
                counter, at = counter + 1, at - 8
                philox(seed, epoch, counter, words, words.size - 4)
            chosen = np.int64((words[at >> 1] >> (HALF * np.uint64(at & 1))) & LOW) & mask
            places[i] = chosen
            at += 1
            i -= chosen <= i  # without a branch, which would be mispredicted every third time


def draw(seed, first, orders, words, places):
    """Write the orders of the epochs from `first` on."""
    n, counters = orders.shape[1], words.size // 4
    for e in range(orders.shape[0]):
        for k in range(counters):
            philox(seed, first + e, k + 1, words, 4 * k)
        choose(seed, first + e, n, words, places)
        order = orders[e]
        for i in range(n):
            order[i] = i
        for i in range(n - 1, 0, -1):
            j = places[i]
            order[i], order[j] = order[j], order[i]
