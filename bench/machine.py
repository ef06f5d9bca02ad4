"""Peak speed of this machine: multiplications and additions in registers, and memory bandwidth.

Both are measured now, with the requested number of threads; the shares in the tables refer to them.
"""

import os
import time
from functools import cache

import numba
import numpy as np
from numba import njit, prange

from ..kernels.cpu.tile import BYTES, MR, cpu_features
from ..kernels.cpu.view import View
from ..kernels.cpu.words import outer, store, zeros

ROUNDS = 5  # measurements, of which the best counts: a peak needs to be reached only once
SECONDS = 0.05  # length of one round


@cache
def peak(dtype="float32", threads=None):
    """Measure floating-point operations per second, for fused multiply-adds (two each) in registers.

    Parameters
    ----------
    dtype : "float32" or "float64"
    threads : int or None
        Numba's number of threads if None.

    Returns
    -------
    float
    """
    run, flops = _register_loop(dtype)
    count = threads or numba.get_num_threads()
    sink = np.zeros((count, 64 * 16), dtype)
    return _best(lambda times: run(sink, times), 2000, flops * count, count)


@cache
def bandwidth(threads=None):
    """Measure bytes per second of a triad a = b + s c over arrays far larger than the caches, three transfers a number.

    As in STREAM (McCalpin 1995), the read of a cache line before its write is not counted.
    """
    count = threads or numba.get_num_threads()
    size = _triad_size()
    a, b, c = (np.ones(size, np.float32) for _ in range(3))
    run = _triad()

    def rounds(times):
        for _ in range(times):
            run(a, b, c, np.float32(0.5), count)

    return _best(rounds, 1, 12 * size, count)


def processor():
    """Describe the processor: its name, the number of cores available to this process, and the vectors in use."""
    import llvmlite.binding as llvm

    features = cpu_features()
    simd = next((name for key, name in VECTORS.items() if key in features), "no vector unit known")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_model() or llvm.get_host_cpu_name()}, {cores} core{'s' * (cores != 1)}, {simd}"


def busy():
    """Read the seconds that the processors were busy or stolen by the host; None if the system hides them."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None


class Others:
    """A meter for the share of the CPU that other processes use, from its creation on."""

    def __init__(self):
        self.began, self.busy, self.own = time.perf_counter(), busy(), sum(os.times()[:4])

    def share(self):
        """Return 0.0 to 1.0; None if the system does not report it. Finished child processes count as this one."""
        if self.busy is None:
            return None
        foreign = busy() - self.busy - (sum(os.times()[:4]) - self.own)
        return max(0.0, foreign / (time.perf_counter() - self.began) / os.cpu_count())


VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sve": "SVE", "neon": "NEON", "sse2": "SSE2"}


def _model():
    """Read the processor's name, on Linux and macOS."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        import platform

        return platform.processor() or None


def _triad_size():
    """Size of an array in numbers: 128 MB, or less if memory is short."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 2**32
    return int(min(2**25, memory // 64))


def _best(run, times, work, threads):
    """Return the highest rate of several rounds; `work` is the amount per repetition."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        run(times)  # compile
        once = 0.0
        while once < SECONDS and times < 2**40:
            times = times if once == 0.0 else 2 * times
            begin = time.perf_counter()
            run(times)
            once = time.perf_counter() - begin
        found = work * times / once
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            run(times)
            found = max(found, work * times / (time.perf_counter() - begin))
        return found
    finally:
        numba.set_num_threads(before)


def _triad():
    @njit(parallel=True, fastmath=True)
    def triad(a, b, c, s, threads):
        for t in prange(threads):
            for i in range(a.size * t // threads, a.size * (t + 1) // threads):
                a[i] = b[i] + s * c[i]

    return triad


def _register_loop(dtype):
    """Return a loop whose accumulators fill half of the registers, and its operations per iteration and thread."""
    rows = MR  # rows x 2 accumulators, more than latency times throughput

    @njit
    def accumulate(A, B, C, times):
        tile = zeros(A, rows, 2)
        for _ in range(times):
            tile = outer(tile, View(A, 1, 1), View(B, 0, 1))  # loads that do not change leave the loop
        store(View(C, 64, 1), tile)

    @njit(parallel=True)
    def run(sink, times):
        for thread in prange(sink.shape[0]):
            small = np.full(64, 1e-6, sink.dtype)
            accumulate(small, small, sink[thread], times)

    return run, 2 * rows * 2 * (BYTES // np.dtype(dtype).itemsize)
