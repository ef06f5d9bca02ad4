"""Pooling: one number for each window of each map, and its backward pass.

    max      y = max x_i                        dx gets dy at the argmax: the window's first largest cell, in row order
    average  y = (1/c) sum x_i                  c: cells of the window, in the input or with padding (count_padding)
    lp       y = (sum |x_i|^p)^(1/p)            dx_i = dy sign(x_i) (|x_i| / y)^(p-1); p = inf is max |x_i|

over the cells i of the input in the window at position o, which begins at o s - pad_before. Padding adds nothing to
sums and never wins a maximum; NaN always does. x (N, C, *in), y and argmax (N, C, *out), three dimensions; argmax is a
cell's number in its map, in row order. The global forms take the whole map as the window and give y (N, C).

Parallel plan: a thread owns a place in the map of what is written, and that place in many maps: what divisions and
comparisons the place costs are paid once. Neighbouring threads own neighbouring places. Forward a thread goes over its
window. Backward it owns a cell of dx and goes over the windows that see the cell, in their order, so two threads never
write to one place. The global forms give a map to a block of threads.
"""

from math import inf, prod

import numpy as np
from numba import cuda, prange

from ..compiler.kernel import kernel
from ..gpu.device_code import block_helper, block_kernel, real
from ..gpu.launch import GRID, THREADS, launch, launcher
from .block import total


@launcher
def max_forward(x, y, argmax, size, stride, pad_before):
    """y = the largest of each window, argmax = the number of its cell in the map."""
    yield _over_maps(_max_forward, y, x, (x, y, argmax), size, stride, pad_before)


@launcher
def max_backward_input(argmax, dy, dx, size, stride, pad_before):
    """dx = dy at the argmax of each window, summed over windows."""
    yield _over_maps(_max_backward, dx, dy, (argmax, dy, dx), size, stride, pad_before)


@launcher
def average_forward(x, y, size, stride, pad_before, count_padding):
    """y = the mean of each window."""
    yield _over_maps(_average_forward, y, x, (x, y), size, stride, pad_before, count_padding)


@launcher
def average_backward_input(dy, dx, size, stride, pad_before, count_padding):
    """dx = dy / count in every cell of each window, summed over windows."""
    yield _over_maps(_average_backward, dx, dy, (dy, dx), size, stride, pad_before, count_padding)


@launcher
def lp_forward(x, y, size, stride, pad_before, p):
    """y = the l_p norm of each window, scaled by its largest number so that no power overflows."""
    yield _over_maps(_lp_forward, y, x, (x, y), size, stride, pad_before, p)


@launcher
def lp_backward_input(x, y, dy, dx, size, stride, pad_before, p):
    """dx = dy sign(x) (|x| / y)^(p-1) in every cell of each window, 0 where y = 0; summed over windows."""
    yield _over_maps(_lp_backward, dx, dy, (x, y, dy, dx), size, stride, pad_before, p)


def _over_maps(code, written, other, arrays, *options):
    """Return the launch with a thread for each place of a map of `written`, and blocks in y for the maps."""
    (N, C, *places), cells = written.shape, prod(written.shape[2:])
    threads = min(THREADS, max(32, 1 << (cells - 1).bit_length()))
    across = -(-cells // threads)
    down = min(N * C, max(1, 4 * GRID // across), 65535)
    flat = (array.reshape(-1) for array in arrays)
    return launch(code, (across, down), threads, *flat, N * C, tuple(places), tuple(other.shape[2:]), *options)


# -- places, windows and the cells in them -----------------------------------------------------------------------------


@block_helper
def _place(shape):
    """Return the thread's number in a map, and the place as a triple."""
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    return i, (i // (shape[2] * shape[1]), i // shape[2] % shape[1], i % shape[2])


@block_helper
def _cells(o, size, stride, pad_before, image):
    """First and last + 1 of the input's cells in the window at position o, in each dimension."""
    d, h, w = o[0] * stride[0] - pad_before[0], o[1] * stride[1] - pad_before[1], o[2] * stride[2] - pad_before[2]
    first = (max(d, 0), max(h, 0), max(w, 0))
    return first, (min(d + size[0], image[0]), min(h + size[1], image[1]), min(w + size[2], image[2]))


@block_helper
def _seen(q, size, stride, pad_before, out):
    """First and last + 1 of the positions whose windows see the cell q, in each dimension."""
    d, h, w = q[0] + pad_before[0], q[1] + pad_before[1], q[2] + pad_before[2]
    first = ((d - size[0]) // stride[0] + 1, (h - size[1]) // stride[1] + 1, (w - size[2]) // stride[2] + 1)
    last = (min(d // stride[0] + 1, out[0]), min(h // stride[1] + 1, out[1]), min(w // stride[2] + 1, out[2]))
    return (max(first[0], 0), max(first[1], 0), max(first[2], 0)), last


@block_helper
def _beats(v, largest):
    """Return whether v is larger, or the first NaN."""
    return v > largest or (v != v and largest == largest)


@block_helper
def _argmax(x, base, image, first, last, magnitude):
    """Return the place in x of the first largest number (or magnitude) among the cells from first to last of a map."""
    best = base + (first[0] * image[1] + first[1]) * image[2] + first[2]
    top = abs(x[best]) if magnitude else x[best]
    for d in range(first[0], last[0]):
        for h in range(first[1], last[1]):
            at = base + (d * image[1] + h) * image[2]
            for w in range(first[2], last[2]):
                v = abs(x[at + w]) if magnitude else x[at + w]
                if _beats(v, top):
                    best, top = at + w, v
    return best


@block_helper
def _count(first, last, size, count_padding):
    """Return the cells that a mean is divided by."""
    if count_padding:
        return float(size[0] * size[1] * size[2])
    return float((last[0] - first[0]) * (last[1] - first[1]) * (last[2] - first[2]))


# -- the code of a thread ----------------------------------------------------------------------------------------------


@block_kernel
def _max_forward(x, y, argmax, maps, out, image, size, stride, pad_before):
    """Compute a position in many maps."""
    i, o = _place(out)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < places:
        first, last = _cells(o, size, stride, pad_before, image)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            at = _argmax(x, m * cells, image, first, last, False)
            y[m * places + i] = x[at]
            argmax[m * places + i] = at - m * cells


@block_kernel
def _max_backward(argmax, dy, dx, maps, image, out, size, stride, pad_before):
    """Compute a cell in many maps."""
    i, q = _place(image)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < cells:
        begin, end = _seen(q, size, stride, pad_before, out)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            total = 0.0
            for d in range(begin[0], end[0]):
                for h in range(begin[1], end[1]):
                    for w in range(begin[2], end[2]):
                        o = m * places + (d * out[1] + h) * out[2] + w
                        if argmax[o] == i:
                            total += dy[o]
            dx[m * cells + i] = total


@block_kernel
def _average_forward(x, y, maps, out, image, size, stride, pad_before, count_padding):
    """Compute a position in many maps."""
    i, o = _place(out)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < places:
        first, last = _cells(o, size, stride, pad_before, image)
        count = _count(first, last, size, count_padding)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            total = 0.0
            for d in range(first[0], last[0]):
                for h in range(first[1], last[1]):
                    for w in range(first[2], last[2]):
                        total += x[m * cells + (d * image[1] + h) * image[2] + w]
            y[m * places + i] = total / count


@block_kernel
def _average_backward(dy, dx, maps, image, out, size, stride, pad_before, count_padding):
    """Compute a cell in many maps."""
    i, q = _place(image)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < cells:
        begin, end = _seen(q, size, stride, pad_before, out)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            total = 0.0
            for d in range(begin[0], end[0]):
                for h in range(begin[1], end[1]):
                    for w in range(begin[2], end[2]):
                        first, last = _cells((d, h, w), size, stride, pad_before, image)
                        delta = dy[m * places + (d * out[1] + h) * out[2] + w]
                        total += delta / _count(first, last, size, count_padding)
            dx[m * cells + i] = total


@block_kernel
def _lp_forward(x, y, maps, out, image, size, stride, pad_before, p):
    """Compute a position in many maps."""
    i, o = _place(out)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < places:
        first, last = _cells(o, size, stride, pad_before, image)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            largest = abs(x[_argmax(x, m * cells, image, first, last, True)])
            if p != inf and 0.0 < largest < inf:
                total = 0.0
                for d in range(first[0], last[0]):
                    for h in range(first[1], last[1]):
                        for w in range(first[2], last[2]):
                            ratio = abs(x[m * cells + (d * image[1] + h) * image[2] + w]) / largest
                            total += ratio * ratio if p == 2.0 else ratio**p
                largest *= np.sqrt(total) if p == 2.0 else total ** (1.0 / p)
            y[m * places + i] = largest


@block_kernel
def _lp_backward(x, y, dy, dx, maps, image, out, size, stride, pad_before, p):
    """Compute a cell in many maps."""
    i, q = _place(image)
    places, cells = out[0] * out[1] * out[2], image[0] * image[1] * image[2]
    if i < cells:
        begin, end = _seen(q, size, stride, pad_before, out)
        for m in range(cuda.blockIdx.y, maps, cuda.gridDim.y):
            v, total = x[m * cells + i], 0.0
            for d in range(begin[0], end[0]):
                for h in range(begin[1], end[1]):
                    for w in range(begin[2], end[2]):
                        o = m * places + (d * out[1] + h) * out[2] + w
                        ratio = abs(v) / (y[o] if y[o] != 0.0 else 1.0)
                        if p == inf:
                            first, last = _cells((d, h, w), size, stride, pad_before, image)
                            wins = _argmax(x, m * cells, image, first, last, True) == m * cells + i
                            slope = np.sign(v) if wins else 0.0
                        else:
                            slope = np.sign(v) * (ratio if p == 2.0 else ratio ** (p - 1.0))
                        total += slope * dy[o] if slope != 0.0 else 0.0  # 0 times infinity is NaN
            dx[m * cells + i] = total


@launcher
def global_average_forward(x, y):
    """y (N, C) = the mean of each map."""
    yield launch(_mean, y.size, THREADS, x.reshape(-1), y.reshape(-1))


@kernel
def global_average_backward_input(dy, dx):
    """dx = dy / cells."""
    deltas, slopes = dy.reshape(-1), dx.reshape(-1)
    count = dx.size // dy.size
    for i in prange(dx.size):
        slopes[i] = deltas[i // count] / float(count)


@launcher
def global_max_forward(x, y):
    """y (N, C) = the largest of each map."""
    yield launch(_largest, y.size, THREADS, x.reshape(-1), y.reshape(-1), y.reshape(-1), False)


@launcher
def global_max_backward_input(x, dy, dx):
    """dx = dy at the first largest cell of each map."""
    yield launch(_largest, dy.size, THREADS, x.reshape(-1), dy.reshape(-1), dx.reshape(-1), True)


@block_kernel
def _mean(x, y):
    """Compute a map."""
    cells = cuda.shared.array(THREADS, real)
    image, t = cuda.blockIdx.x, cuda.threadIdx.x
    count = x.size // y.size
    part = 0.0
    for i in range(t, count, THREADS):
        part += x[image * count + i]
    part = total(part, cells)
    if t == 0:
        y[image] = part / float(count)


@block_kernel
def _largest(x, y, into, backward):
    """Compute a map: the threads find the first largest number; it is written to y, or dy to its place in dx."""
    tops = cuda.shared.array(THREADS, real)
    places = cuda.shared.array(THREADS, np.int64)
    image, t = cuda.blockIdx.x, cuda.threadIdx.x
    count = x.size // y.size
    best, top = image * count, x[image * count]
    for i in range(t, count, THREADS):
        v = x[image * count + i]
        if _beats(v, top):
            best, top = image * count + i, v
    tops[t], places[t] = top, best
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            v, at, top = tops[t + half], places[t + half], tops[t]
            tie = (v == top or (v != v and top != top)) and at < places[t]
            if _beats(v, top) or tie:
                tops[t], places[t] = v, at
        cuda.syncthreads()
        half //= 2
    if not backward:
        if t == 0:
            into[image] = tops[0]
    else:
        for i in range(t, count, THREADS):
            at = image * count + i
            into[at] = y[image] if at == places[0] else 0.0
