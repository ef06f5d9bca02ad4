"""Objects with large arrays, sent from rank 0 to all ranks: each machine holds an array once, and no rank a copy.

An array in memory goes into memory that the ranks of a machine share, an array of a mapped file goes as the place in
that file, so that each rank reads the rows that it needs.
"""

import io
import mmap
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ranks import Ranks

SMALL = 1 << 14  # bytes, up to which an array is sent with the message
PIECE = 1 << 28  # bytes that are sent to other machines at once


def send(ranks: Ranks, value: Any) -> Any:
    """Send a value from rank 0 to all others, which call `receive`; return it with its arrays in shared memory."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    packed = buffer.getvalue()
    ranks.tell("job", packed, [(array.dtype.str, array.shape) for array in pickler.arrays])
    with ranks.in_step():
        shared = [_shared(ranks, array.dtype, array.shape, array) for array in pickler.arrays]
    return _Unpickler(io.BytesIO(packed), shared).load()


def receive(ranks: Ranks, packed: bytes, forms: Sequence[tuple]) -> Any:
    """Return the value that rank 0 sent, from its message."""
    return _Unpickler(io.BytesIO(packed), [_shared(ranks, np.dtype(kind), shape) for kind, shape in forms]).load()


class _Pickler(pickle.Pickler):
    """Leaves large arrays out and lists them."""

    def __init__(self, file):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.arrays: list[NDArray[Any]] = []
        self._places: dict[int, tuple] = {}

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray) or value.nbytes <= SMALL:
            return None
        if id(value) not in self._places:
            place = in_file(value)
            if place is None:
                self.arrays.append(np.ascontiguousarray(value))
                place = ("shared", len(self.arrays) - 1)
            self._places[id(value)] = place
        return self._places[id(value)]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, shared):
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, place):
        if place[0] == "shared":
            return self._shared[place[1]]
        _, path, kind, offset, shape = place
        return np.memmap(path, kind, mode="r", offset=offset, shape=shape)


def in_file(array: NDArray[Any]) -> tuple | None:
    """Return ("file", path, dtype, offset, shape) of an array that is part of a mapped file; None for others."""
    root: Any = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or not array.flags.c_contiguous:
        return None
    begin, first = (each.__array_interface__["data"][0] for each in (root, array))
    return "file", str(root.filename), array.dtype.str, root.offset + first - begin, array.shape


def _shared(ranks, dtype, shape, array=None):
    """Return an array in the memory that the ranks of each machine share; that of rank 0 has the numbers."""
    MPI, machine = ranks.MPI, ranks.machine
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    window = MPI.Win.Allocate_shared(size if machine.rank == 0 else 0, 1, MPI.INFO_NULL, machine)
    memory = np.frombuffer(window.Shared_query(0)[0], np.uint8, size)
    if array is not None:
        memory[:] = array.reshape(-1).view(np.uint8)
    firsts = ranks.world.Split(0 if machine.rank == 0 else MPI.UNDEFINED, ranks.rank)
    if machine.rank == 0:
        for begin in range(0, size, PIECE):
            firsts.Bcast([memory[begin : begin + PIECE], MPI.BYTE])
        firsts.Free()
    machine.Barrier()
    window.Fence()
    found = memory.view(dtype).reshape(shape)
    found.flags.writeable = False
    return found
