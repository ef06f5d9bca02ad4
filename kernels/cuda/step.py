"""The end of a training step on CUDA: norms of the gradient by layer, a row of the log, the counters of the next step.

Two launches do the work of the program's `chunk_norm`, `cost` and `record`, so that no number goes to the host: the
update that follows reads learning rate, clipping and stop flag from the memory that `record` writes.

Parallel plan. measure: a block of threads owns a chunk of the gradient, which lies in one layer; its threads divide by
the samples, add the powers in float64 and join them in a tree. record: one block adds the samples' losses and the
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
    """Return the norm of a sum of powers: its p-th root if p >= 1, else the sum."""
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
    for i in range(first + t, last, THREADS):  # the same numbers that this thread adds below
        gradient[i] *= factor
    found = chunk_norm(gradient, first, last, np.float64(p), cells)
    if t == 0:
        log[sums + c] = found


@block_kernel
def record(losses, counters, rates, log, chunks, sizes, places, p, limit, most):
    """Write a row of the log and the next step's counters, or the stop flag if the norm is not finite or too large.

    chunks : the sums of layer k are those from chunks[k] to chunks[k + 1]
    sizes : samples N, rows of the log, width of a row
    places : indices of the first sum, the clipping factor and the total loss in the log, of the position in counters
    p : exponent of the norm
    limit : norm to which the gradient is clipped; 0 means no clipping
    most : largest norm with which a step is taken
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
