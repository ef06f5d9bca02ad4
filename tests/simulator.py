"""Threads of Numba's CUDA simulator as greenlets, which take turns at barriers.

Numba starts a system thread for each thread of a block and asks them in a loop whether they wait. As greenlets they
run one after the other from barrier to barrier, first forwards, then backwards: a kernel that lacks a barrier reads
what has not been written yet, always in the same way. All of on_cuda.py takes a small part of the time.
"""

from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba.cuda.simulator import kernel, kernelapi


class Thread(greenlet):
    """One thread of a block, with the attributes that kernels ask for."""

    def __init__(self, run, block, thread, sizes):
        super().__init__(run)
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*block), kernelapi.Dim3(*thread)
        x, y, z = thread
        self.thread_id = x + sizes[0] * (y + sizes[1] * z)

    def syncthreads(self):
        """Let the other threads come to the barrier."""
        self.parent.switch()


def run(manager, block, *arguments):
    """Run a block, in place of `BlockManager.run`."""
    sizes = manager._block_dim
    threads = [Thread(manager._f, block, place, sizes) for place in np.ndindex(*sizes)]
    for thread in threads:
        thread.switch(*arguments)
    while threads := [thread for thread in reversed(threads) if not thread.dead]:
        for thread in threads:
            thread.switch()


def use():
    """Let the simulator of this process run threads so."""
    kernel.BlockManager.run = run
    kernelapi.threading = SimpleNamespace(current_thread=getcurrent)
