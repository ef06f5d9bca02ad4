"""The end of a training step on CUDA: norms of the gradient by layer, a row of the log, what the next step reads.

What the program's text does chunk by chunk (`chunk_norm`, `cost`, `record`) is two launches here, so that no number has
to come to the host: the update that follows reads learning rate, clipping and stop flag where `record` leaves them.

Parallel plan. measure: a block of threads owns a chunk of the gradient, which lies in one layer; its threads divide by
the samples, add up the powers in float64 and join them in a tree. record: one block adds the samples' losses and the
chunks' sums, layer by layer, in fixed order; its first thread writes. The next launch begins when this one has ended.
"""

import numpy as np
from numba import cuda

from ..counters import ROWS, STEP, STOP
from ..gpu.device_code import block_helper, block_kernel
from ..gpu.launch import THREADS
from .block import largest, total
from .norm import chunk_norm


@block_helper
def root(share, p):
    """The norm of a sum of powers: its p-th root, for p from 1 on."""
    if p == 2:
        return np.sqrt(share)
    if p <= 1 or p == np.inf:
        return share
    return share ** (1 / p)


@block_kernel
def measure(gradient, log, extents, factor, p, sums):
    """gradient <- factor gradient (the mean over the batch), log[sums + c] = this chunk's share of the norms."""
    cells = cuda.shared.array(THREADS, np.float64)
    c, t = cuda.blockIdx.x, cuda.threadIdx.x
    first, last = extents[2 * c], extents[2 * c + 1]
    for i in range(first + t, last, THREADS):  # the numbers that this thread measures below
        gradient[i] *= factor
    found = chunk_norm(gradient, first, last, np.float64(p), cells)
    if t == 0:
        log[sums + c] = found


@block_kernel
def record(losses, counters, rates, log, chunks, sizes, places, p, limit, most):
    """A row of the log; the counters of the next step, or the stop flag: a number is not finite, the norm too large.

    chunks : layer k owns the sums from chunks[k] to chunks[k + 1]
    sizes : samples N, rows of the log, its width
    places : where in the log the sums begin, where clipping and the total loss stand; in the counters the position
    p, limit, most : of the norm, the largest that clipping leaves (0: no clipping), and with which a step is taken
    """
    cells = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    N, rows, width = sizes
    sums, clip, sum_of_losses, position = places
    stopped = counters[STOP]
    step = counters[STEP]
    row = counters[ROWS] % rows * width
    part = np.float64(0)
    for i in range(t, N, THREADS):
        part += np.float64(losses[i])
    cost = total(part, cells) / np.float64(N)
    power, whole = np.float64(p), np.float64(0)
    for k in range(chunks.size - 1):
        part = np.float64(0)
        for c in range(chunks[k] + t, chunks[k + 1], THREADS):
            share = log[sums + c]
            if p != np.inf:
                part += share
            elif share > part or share != share:
                part = share
        part = largest(part, cells) if p == np.inf else total(part, cells)
        if p != np.inf:
            whole += part
        elif part > whole or part != part:
            whole = part
        if t == 0 and stopped == 0:
            log[row + 3 + k] = root(part, power)
    if t == 0 and stopped == 0:
        norm = root(whole, power)
        log[row] = cost
        log[row + 1] = rates[min(step, rates.size - 1)]
        log[row + 2] = norm
        counters[ROWS] += 1
        if np.isfinite(cost) and norm <= np.float64(most):
            log[clip] = min(np.float64(1), np.float64(limit) / norm) if limit > 0 and norm > 0 else np.float64(1)
            log[sum_of_losses] += cost * np.float64(N)
            counters[STEP] = step + 1
            counters[position] += N
        else:
            counters[STOP] = 1
