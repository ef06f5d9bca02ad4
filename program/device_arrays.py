"""The state of a program on the device: its arrays, and the copies between them and those in host memory."""

from math import prod

import numpy as np
from numba import cuda

from ..kernels.gpu.driver import translated
from ..kernels.gpu.launch import workspace
from .slots import Slot, sizes
from .state import WHOLE, State

LEARNED = ("theta", "gradient", "moments", "buffers")  # arrays that a call copies in and out


class Arrays:
    """The arrays of a state on the device, and the stream on which they are copied.

    Attributes
    ----------
    state : State
    flats : tuple
        Counters, rates and log, from which kernels read the numbers that change from step to step.
    clip, total, position : int
        Places of the device alone: clipping and the sum of losses at the end of the log, after the counters the
        position in the order.
    """

    def __init__(self, program):
        self.program = program
        sizes = {name: (size, np.dtype(dtype)) for name, (size, dtype) in program._sizes().items()}
        sizes["log"] = (sizes["log"][0] + 2, np.dtype(np.float64))
        sizes["counters"] = (sizes["counters"][0] + 1, np.dtype(np.int64))
        self.clip, self.total, self.position = sizes["log"][0] - 2, sizes["log"][0] - 1, sizes["counters"][0] - 1
        self._sizes = sizes
        self._host_copies = []  # arrays that a copy on the stream may still read

    def place(self, array):
        """Make the arrays of the state with a function of their size and type."""
        made = {name: array(*each) for name, each in self._sizes.items()}
        self.state = State(**made, layout=self.program.layout + WHOLE)
        self.flats = (self.state.counters, self.state.rates, self.state.log)

    def allocate(self):
        """Make the arrays in the device's memory, and the stream."""
        needed = sum(size * dtype.itemsize for size, dtype in self._sizes.values()) / 1e6
        with translated(f"device cuda: a program of {needed:.0f} MB"):
            self.stream = cuda.stream()
            self.place(cuda.device_array)
            self._zeros = {name: cuda.to_device(np.zeros(1, self._sizes[name][1])) for name in ("log", "counters")}

    def argument(self, value, form, n):
        """Return a kernel's argument: for a slot its part of the device's memory, in this form; a number as it is."""
        if not isinstance(value, Slot):
            return value
        flat, shape, first = getattr(self.state, value.flat), sizes(value, form, n), value.first(0, n)
        if prod(shape) == 0:
            return workspace(shape, flat)
        return flat[first : first + prod(shape)].reshape(shape)

    def reset(self, flat, index):
        """Set a number of the state to 0, by a copy on the device: one from the host might wait for the stream."""
        getattr(self.state, flat)[index : index + 1].copy_to_device(self._zeros[flat], stream=self.stream)

    def load(self, state):
        """Copy the arrays of a state to the device."""
        for name in LEARNED:
            self.put(name, getattr(state, name))
        for name in ("rates", "counters", "log"):
            self.put(name, getattr(state, name))

    def put(self, name, array):
        """Copy an array of a state to the device."""
        if array.size:
            there = getattr(self.state, name)[: array.size]
            there.copy_to_device(self.host_copy(array), stream=self.stream)

    def host_copy(self, array):
        """Return the array, contiguous, in memory that stays until the stream has been waited for."""
        self._host_copies.append(np.ascontiguousarray(array))
        return self._host_copies[-1]

    def wait(self):
        """Wait for the stream."""
        self.stream.synchronize()
        self._host_copies.clear()

    def store(self, state):
        """Copy the learned arrays to a state, waiting for them."""
        for name in LEARNED:
            self.get(name, getattr(state, name))
        self.wait()

    def get(self, name, into):
        """Copy an array of the device into that of a state, without waiting for it."""
        if into.size:
            getattr(self.state, name).copy_to_host(into, stream=self.stream)

    def read(self, state):
        """Wait for the steps, copy log and counters to the state, and return the sum of the losses."""
        log = self.state.log.copy_to_host(stream=self.stream)
        numbers = self.state.counters.copy_to_host(stream=self.stream)
        self.wait()
        state.log[:], state.counters[:] = log[:-2], numbers[:-1]
        return float(log[self.total])

    def fill(self, slot, values):
        """Copy an array into its slot on the device."""
        there = self.argument(slot, "flat", len(values))
        there.copy_to_device(self.host_copy(values).reshape(-1), stream=self.stream)

    def fetch(self, slot, into):
        """Copy a slot's array to the host, waiting for it."""
        there = self.argument(slot, "flat", len(into)).copy_to_host(stream=self.stream)
        self.wait()
        into[...] = there.reshape(into.shape)


def stand_in(size, dtype):
    """Return an array without memory, of which only type, shape and address are read."""
    one = np.zeros(128, np.uint8)
    one = one[-one.ctypes.data % 64 :][:8].view(dtype)[:1]  # aligned like arrays of the device
    return np.lib.stride_tricks.as_strided(one, (size,), one.strides)
