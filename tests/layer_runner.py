"""Runs one layer on arrays, forward and every backward, binding arguments by name as the program does.

Every array lies between two guards, outputs start as NaN and inputs are compared afterwards: a kernel that writes
beyond its output, forgets a part of it, adds to what was there or changes an input fails here, whatever is tested.
"""

from functools import partial

import numpy as np
from nnjit.kernels.compiler.elementwise import Formula
from nnjit.kernels.compiler.kernel import FLOATS, Kernel, type_of
from nnjit.kernels.operations import Operation

GUARD = 32  # cells before and after every array


def run(layer, x, dy=None, parameters=None, folder="cpu", training=True, seed=1, first=0, buffers=None, parts=1):
    """Forward and all backward kernels of a layer.

    Parameters
    ----------
    layer : Layer
        An instance.
    x : ndarray (N, *in_shape)
        float32 or float64; the type of everything.
    dy : ndarray (N, *out_shape), callable or None
        dC/dy; a callable gets y and returns dy; None runs forward only.
    parameters : dict or None
        name -> array; what is missing is drawn from a normal distribution by `seed`.
    folder : "reference", "cpu" or "cuda"
        Which twins of the kernels run.
    training, seed, first :
        What kernels that bind these names get (`first` is the index in the batch of the first sample).
    buffers : dict or None
        name -> array to start from; what is missing starts as the layer says.
    parts : int
        Into how many parts the loop of a compiled kernel is divided; they run one after the other, the last first.

    Returns
    -------
    dict
        y, dx, ``d`` + parameter for each parameter, and parameters, buffers and scratch arrays under their own names.
        Arrays are the layer's own shapes. dx is missing for a layer without backward_input.
    """
    x = np.ascontiguousarray(x)
    arrays = _Arrays(x.dtype, len(x), parts)
    in_shape = x.shape[1:]
    rng = np.random.default_rng(seed)
    arrays.take("x", x)
    arrays.make("y", (len(x), *layer.output_shape(in_shape)))
    given = {}
    for name, parameter in layer.parameters(in_shape).items():
        value = (parameters or {}).get(name)
        value = rng.standard_normal(parameter.shape) if value is None else np.asarray(value)
        assert value.shape == tuple(parameter.shape), f"{name}: {value.shape} for {parameter.shape}"
        arrays.take(name, value)
        arrays.make("d" + name, parameter.shape)
        given[name] = value.astype(x.dtype)
    for name, buffer in layer.buffers(in_shape).items():
        start = (buffers or {}).get(name, buffer.start)
        arrays.take(name, np.broadcast_to(start, buffer.shape))
    for name, shape in layer.scratch(in_shape).items():
        arrays.make(name, shape)
        arrays.make("d" + name, shape)
    numbers = {**layer.scalars(in_shape), "training": training, "seed": seed, "first": first}

    arrays.call(layer.kernel("forward", in_shape), folder, numbers)
    written = ["y"]
    if dy is not None:
        arrays.take("dy", dy(arrays["y"].copy()) if callable(dy) else dy)
        assert arrays["dy"].shape == arrays["y"].shape
        given["dy"] = arrays["dy"].copy()
        if layer.backward_input is not None:
            arrays.make("dx", x.shape)
            arrays.call(layer.kernel("backward_input", in_shape), folder, numbers)
            written.append("dx")
        for name in layer.gradients():
            arrays.call(layer.kernel(name, in_shape), folder, numbers)
        written += ["d" + name for name in given if name != "dy"]
    for name, before in {"x": x, **given}.items():
        np.testing.assert_array_equal(arrays[name], before, err_msg=f"{layer}: a kernel changed {name}")
    if np.isfinite(x).all():
        for name in written:
            assert not arrays.unwritten(name), f"{layer}: {name} was not written whole"
    return {name: array for name, array in arrays.items() if name in written or name[:1] != "d" or name == "dy"}


class _Arrays(dict):
    """name -> array between guards."""

    def __init__(self, dtype, count, parts):
        super().__init__()
        self.dtype, self.count, self.parts, self.memory = dtype, count, parts, {}

    def make(self, name, shape):
        """An array that holds a NaN of a kind no arithmetic makes."""
        shape = tuple(self.count if n == "N" else n for n in shape)
        size = int(np.prod(shape))
        memory = np.full(size + 2 * GUARD, _marked(self.dtype), self.dtype)
        self.memory[name] = memory
        self[name] = memory[GUARD : GUARD + size].reshape(shape)

    def take(self, name, value):
        self.make(name, np.shape(value))
        self[name][...] = value

    def unwritten(self, name):
        bits = np.dtype(f"u{self.dtype.itemsize}")
        return bool((self[name].view(bits) == _marked(self.dtype).view(bits)).any())

    def call(self, kernel, folder, numbers):
        form = getattr(kernel, "form", None)
        known = {**numbers, **{name: shaped(array, form) for name, array in self.items()}}
        missing = [name for name in kernel.arguments if name not in known]
        assert not missing, f"{kernel!r}: no array or number is called {missing}; there are {sorted(known)}"
        chosen, arguments = function(kernel, folder), [known[name] for name in kernel.arguments]
        if isinstance(chosen, Kernel) and self.parts > 1:
            _parted(chosen, arguments, self.dtype.type, self.parts)
        else:
            chosen(*arguments)
        bits = np.dtype(f"u{self.dtype.itemsize}")
        for name, memory in self.memory.items():
            guards = np.concatenate([memory[:GUARD], memory[len(memory) - GUARD :]]).view(bits)
            assert (guards == _marked(self.dtype).view(bits)).all(), f"{kernel!r} wrote beyond {name}"


def _marked(dtype):
    """A NaN with a payload of its own, so that cells nobody wrote can be told from computed NaN."""
    bits = 0x7FC5_C5C5 if dtype.itemsize == 4 else 0x7FF8_C5C5_C5C5_C5C5
    return np.array(bits, f"u{dtype.itemsize}").view(dtype)[()]


def shaped(array, form):
    """The array as a kernel of this form gets it (`nnjit.program.slots.shaped`)."""
    if form == "flat":
        return array.reshape(-1)
    if form in ("matrix", "channels") and array.ndim > 1:  # of several dimensions are only arrays with a sample axis
        return array.reshape(*array.shape[: 1 if form == "matrix" else 2], -1)
    if form in (None, "matrix", "channels") or array.ndim < 3:
        return array
    return array.reshape(*array.shape[:2], *(1,) * (form + 2 - array.ndim), *array.shape[2:])


def _parted(kernel, arguments, real, parts):
    """A kernel as threads would run it: each call does one part of the loop."""
    arguments = [real(a) if isinstance(a, float) else a for a in arguments]
    numba_float = FLOATS[real]
    signature = [numba_float if isinstance(a, real) else type_of(a) for a in arguments]
    _, dispatcher = kernel.compile(signature, real)
    for part in reversed(range(parts)):
        dispatcher(*arguments, part, parts)


def function(kernel, folder):
    """What to call for a kernel in a folder: "cpu" and "cuda" compile, "reference" is plain Python or NumPy."""
    if folder == "cuda":
        from nnjit.kernels.gpu import launch  # where there is a GPU, or its simulator

        return partial(launch.run, kernel.on("cuda") if isinstance(kernel, Operation) else kernel)
    if isinstance(kernel, Operation):
        return kernel.on(folder)
    if folder == "cpu":
        return kernel
    return kernel.plain() if isinstance(kernel, Formula) else kernel.function
