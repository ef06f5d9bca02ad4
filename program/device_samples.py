"""The samples of a training on the device: resident, or in slabs that are copied while the device works.

Slabs are whole batches. They pass through two pinned buffers: while one is copied, the host converts the next samples
into the other, so a set may also be larger than the host's memory.
"""

import numpy as np
from numba import cuda

from .graph import Ref

RESIDENT = 0.8  # share of the free memory; a larger data set is streamed
SLAB = 64 * 2**20  # bytes of samples that are copied at once


class Samples:
    """Inputs, targets, weights if samples have them, and their order on the device.

    Parameters
    ----------
    program : Program
    arrays : Arrays
    unbind : function
        Called before the memory of samples is freed, so that nothing stays bound to it.

    Attributes
    ----------
    resident : list or None
        Those of the whole set, the order last.
    """

    def __init__(self, program, arrays, unbind):
        self.program, self.batch_size, self.arrays, self.unbind = program, program.batch_size, arrays, unbind
        self.resident = self._data = self._halves = self._ring = None

    @property
    def order(self):
        """The order of a slab's samples on the device."""
        return self._halves[-1]

    def _rows(self):
        """Return the numbers of a sample's input, target and weight, and their types."""
        real = np.dtype(self.program.dtype)
        rows = self.program.plan.slot(Ref("target", None))
        target = (rows.size, np.dtype(np.int64) if self.program.labels else real)
        return [(self.program.input.size, real), target, *[(1, real)] * self.program.weighted]

    def upload(self, arrays, order, kept):
        """Copy the data set and the order to the device; return False if they do not fit.

        The samples of the same arrays are not copied again if they are `kept` from call to call.
        """
        count = len(arrays[0])
        sizes = [count * width for width, _ in self._rows()] + [max(order.size, count)]
        if self.resident is None or any(n > there.size for n, there in zip(sizes, self.resident, strict=True)):
            if self.resident is not None:
                self.forget()  # make room for a larger set
            kinds = [kind for _, kind in self._rows()] + [np.dtype(np.int64)]
            if sum(n * kind.itemsize for n, kind in zip(sizes, kinds, strict=True)) > RESIDENT * free_memory():
                return False
            self.resident = [cuda.device_array(n, kind) for n, kind in zip(sizes, kinds, strict=True)]
        same = self._data is not None and all(a is b for a, b in zip(self._data, arrays, strict=True))
        if not (kept and same):
            for _ in self.slabs(arrays):
                pass  # each is copied to its place
            self._data = arrays
        numbers = self.arrays.host_copy(order.astype(np.int64))
        self.resident[-1][: order.size].copy_to_device(numbers, stream=self.arrays.stream)
        return True

    def forget(self):
        """Free the memory of the samples."""
        self.unbind()
        self.resident = self._data = self._halves = self._ring = None

    def slabs(self, arrays, order=None):
        """Copy samples to the device, in slabs of whole batches through two pinned buffers; yield count and arrays.

        While the device works on one slab, the host collects the next one, which is copied on a separate stream.
        Samples of an order go to the two halves in turn, those of a resident data set to their places. The
        arrays are read slab by slab, so they may be larger than the memory.
        """
        total = len(arrays[0]) if order is None else order.size
        copies, samples, buffers = self._pinned(len(arrays[0]))
        if order is not None and self._halves is None:
            self._halves = self._two_halves(samples)
        for k, first in enumerate(range(0, total, samples)):
            count, (pinned, copied, worked) = min(samples, total - first), buffers[k % 2]
            rows = slice(first, first + count) if order is None else order[first : first + count]
            there = self.resident[:-1] if order is None else self._halves[k % 2]
            if k > 1:
                worked.synchronize()  # the device has finished with the former contents of these buffers
            for source, host, (width, _), whole in zip(arrays, pinned, self._rows(), there, strict=True):
                host, begin = host[: count * width], first * width if order is None else 0
                host[:] = source[rows].reshape(-1)
                whole[begin : begin + host.size].copy_to_device(host, stream=copies)
            copied.record(copies)
            copied.wait(self.arrays.stream)
            yield count, there
            worked.record(self.arrays.stream)
        self.arrays.stream.synchronize()

    def _pinned(self, samples):
        """Return a stream for copies, the samples of a slab, and two pinned buffers with an event of either stream."""
        size = sum(width * kind.itemsize for width, kind in self._rows()) * self.batch_size  # bytes of a batch
        slab = min(max(1, SLAB // size), -(-samples // self.batch_size)) * self.batch_size
        if self._ring is None or self._ring[1] < slab:
            if self._halves is not None:
                self.forget()  # they have the size of a slab
            buffers = [[cuda.pinned_array(slab * width, kind) for width, kind in self._rows()] for _ in range(2)]
            self._ring = (cuda.stream(), slab, [(pinned, cuda.event(), cuda.event()) for pinned in buffers])
        return self._ring

    def _two_halves(self, samples):
        """Return the two memories of slabs on the device, and the order of their samples."""
        halves = [[cuda.device_array(samples * width, kind) for width, kind in self._rows()] for _ in range(2)]
        return *halves, cuda.to_device(np.arange(samples), stream=self.arrays.stream)


def free_memory():
    """Return the free memory of the device in bytes."""
    return cuda.current_context().get_memory_info()[0]
