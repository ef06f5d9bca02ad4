"""Launches of kernels on CUDA: a kernel bound to its arrays, on a grid of threads.

The kernels come from device_code.py: a `Kernel`, a loop with independent iterations, or a `block_kernel`, written for
the threads of a block together. In the second case the twin of an operation in kernels/cuda is a `launcher`: a function
that takes the arrays and returns the launches, each a grid for one such kernel.

A formula that reads the result of the kernel before is applied where that kernel stores it (`with_epilogue`).

Importing this file compiles nothing, and nothing here needs a GPU before the first launch.
"""

import inspect
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numba import cuda

from ..compiler.elementwise import Formula
from .device_code import SIMULATED, DeviceScalar, Epilogue, epilogue_kernel, extent, loop_kernel, stored_by

THREADS = 4 if SIMULATED else 256  # threads per block; the simulator runs one after the other
GRID = 2 if SIMULATED else 1024  # maximum number of blocks of a grid-stride loop
PRECISION = ContextVar("precision", default="float32")  # precision of products: float32, or a form of tensor.py


@contextmanager
def precision(name):
    """Make the launches of products inside the block for this precision."""
    token = PRECISION.set(name)
    try:
        yield
    finally:
        PRECISION.reset(token)


@dataclass(eq=False)
class Launch:
    """One CUDA kernel with its grid and its arguments.

    `stores` has a pair (array, make) for every array that can take an epilogue, because the launch stores its final
    numbers; ``make(kernel, keep, out, x, y)`` makes the launch with the epilogue (see `with_epilogue`).
    """

    kernel: object
    grid: tuple
    threads: int
    arguments: tuple
    stores: tuple = ()

    def on(self, stream=0):
        """Return the configured kernel, to call with the arguments."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")  # Numba warns of small grids
            return self.kernel[self.grid, self.threads, stream]

    def __call__(self, stream=0):
        self.on(stream)(*self.arguments)


class Launcher:
    """A twin in kernels/cuda that chooses kernels and grids; called on arrays, it runs them."""

    form = None

    def __init__(self, function):
        self.function, self.__name__, self.__doc__ = function, function.__name__, function.__doc__
        self.__wrapped__ = function
        self.arguments = tuple(inspect.signature(function).parameters)

    def __repr__(self):
        return f"<launcher {self.function.__module__}.{self.__name__}({', '.join(self.arguments)})>"

    def __call__(self, *arguments):
        run(self, *arguments)


def launcher(function):
    """Mark a function from arrays and numbers to a list of `Launch`."""
    return Launcher(function)


def launches(kernel, arguments, flats=(), guarded=False):
    """Return the launches of a kernel on arguments.

    Parameters
    ----------
    kernel : Kernel or Launcher
    arguments : sequence
        Arrays (all of one floating-point type), numbers, tuples of whole numbers; `DeviceScalar` for a number that the
        kernel reads from the state (loops only).
    flats : sequence of arrays
        The counters, rates and log that `DeviceScalar` refers to.
    guarded : bool
        Whether the loop does nothing while the stop flag, the fourth counter, is set.
    """
    if isinstance(kernel, Launcher):
        return [launch for launch in kernel.function(*arguments) if launch is not None]
    real = real_of(arguments)
    named = zip(kernel.arguments, arguments, strict=True)
    scalars = tuple((name, value) for name, value in named if type(value) is DeviceScalar)
    count = extent(kernel, real)(*map(_sample, arguments))
    if count == 0:
        return []
    given = [_number(value, real) for value in arguments if type(value) is not DeviceScalar]
    read = flats if scalars or guarded else ()

    def made(epilogue=None, *more):
        aligned = all(address(a) % 16 == 0 for a in (*arguments, *more) if getattr(a, "ndim", 0))
        fours = isinstance(kernel, Formula) and aligned
        code = loop_kernel(kernel, real, scalars, guarded, fours, epilogue)
        return Launch(code, (blocks(-(-count // 4) if fours else count),), THREADS, (*given, *more, *read))

    if guarded:
        return [made()]
    return [_storing(made, stored_by(kernel, real), dict(zip(kernel.arguments, arguments, strict=True)))]


def blocks(count):
    """Return the number of blocks for a grid-stride loop of `count` iterations."""
    return min(GRID, -(-count // THREADS))


def launch(kernel, grid, threads, *arguments):
    """Return the `Launch` of a block kernel; None for an empty grid."""
    grid = grid if isinstance(grid, tuple) else (grid,)
    if not min(grid):
        return None
    real = real_of(arguments)
    given = tuple(_number(a, real) for a in arguments)

    def made(epilogue=None, *more):
        return Launch(kernel.on(real, epilogue), grid, threads, (*given, *more))

    return _storing(made, kernel.stored, dict(zip(kernel.arguments, arguments, strict=True)))


def storing(make, array):
    """Build the launch and record that `array` can take a fused epilogue; see `Launch`."""
    made = make()
    made.stores = ((array, make),)
    return made


def _storing(make, names, arguments):
    """Build the launch and record which outputs can take a fused epilogue."""

    def store(name, array):
        def with_epilogue(kernel, keep, *arrays):
            return make(Epilogue(name, kernel, keep), *(each.reshape(array.shape) for each in arrays))

        return array, with_epilogue

    made = make()
    made.stores = tuple(store(name, arguments[name]) for name in names)
    return made


def with_epilogue(trace, formula, arguments, single_use=()):
    """Return the launches with a formula as epilogue of those that store its input; None if that is impossible.

    So the formula needs no separate pass over memory.

    Parameters
    ----------
    trace : list of Launch
        The launches of the kernel before.
    formula : Formula
    arguments : sequence
        The formula's arguments; its output shares no memory with the inputs of the launches.
    single_use : collection of str
        Names of arguments that no other kernel reads; they are not written.
    """
    given = dict(zip(formula.arguments, arguments, strict=True))
    if any(type(value) is DeviceScalar for value in arguments):
        return None
    arrays = {name: value for name, value in given.items() if hasattr(value, "shape")}
    out = arrays.pop(formula.output)
    for name, array in arrays.items():
        touching = [each for each in trace if any(_same(array, a) for a in each.arguments)]
        makers = [[make for stored, make in each.stores if _same(array, stored)] for each in touching]
        if touching and array.size == out.size and all(makers):
            applied = epilogue_kernel(formula, name, tuple((key, given[key]) for key in formula.scalars))
            more = applied, name not in single_use, out, arrays.get("x", out), arrays.get("y", out)
            make = {id(each): maker for each, (maker,) in zip(touching, makers, strict=True)}
            return [make[id(each)](*more) if id(each) in make else each for each in trace]
    return None


def _same(array, other):
    """Return whether two arguments are the same array."""
    return getattr(other, "ndim", 0) > 0 and array.size == other.size and address(array) == address(other)


def run(kernel, *arguments):
    """Run a kernel once on NumPy arrays, which are copied to the device and back."""
    there = {id(a): cuda.to_device(a) for a in arguments if isinstance(a, np.ndarray)}
    for each in launches(kernel, [there.get(id(a), a) for a in arguments]):
        each()
    for array in arguments:
        if isinstance(array, np.ndarray) and array.size:
            array[...] = there[id(array)].copy_to_host()


def real_of(arguments):
    """Return the floating-point type of the first float array; float64 if there is none."""
    return next((a.dtype.type for a in arguments if getattr(getattr(a, "dtype", None), "kind", "") == "f"), np.float64)


def workspace(shape, like):
    """Allocate an uninitialised array of the type and memory kind of `like`; it lives as long as its launch."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else cuda.device_array(shape, like.dtype)


def address(array):
    """Address of an array, on the device or, in the simulator, in host memory."""
    if isinstance(array, np.ndarray):
        return array.ctypes.data
    return array._ary.ctypes.data if SIMULATED else array.device_ctypes_pointer.value or 0


def table(numbers, like, dtype=np.int32):
    """Lookup table of whole numbers, in the memory kind of `like`."""
    numbers = np.ascontiguousarray(numbers, dtype)
    return numbers if isinstance(like, np.ndarray) else cuda.to_device(numbers)


def _number(value, real):
    """Convert floats to the arrays' type."""
    return real(value) if type(value) is float else value


def _sample(value):
    """Return a placeholder for an argument of which only the shape matters: an array of zeros that takes no memory."""
    if type(value) is DeviceScalar:
        return value.kind(1)
    if hasattr(value, "shape") and not isinstance(value, np.generic):
        return np.broadcast_to(np.zeros((), value.dtype), value.shape)
    return value
