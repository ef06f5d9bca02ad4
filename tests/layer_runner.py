"""Run of one layer on given arrays, forward and every backward, without a network.

Arguments are bound by name and lie between guards as in `nnjit.check.runner`; outputs start as NaN, and inputs are
compared afterwards. So a kernel that writes beyond its output, forgets a part of it, adds to it or changes an input
fails here in every test.
"""

import math
from functools import partial

import numpy as np
from nnjit.check.runner import Guarded, compiled, in_form, plain, unwritten
from nnjit.kernels.compiler.kernel import Kernel
from nnjit.kernels.operations import Operation
from nnjit.program.slots import Slot


def run(layer, x, dy=None, parameters=None, folder="cpu", training=True, seed=1, first=0, buffers=None, parts=1):
    """Run forward and all backward kernels of a layer.

    Parameters
    ----------
    layer : Layer
        An instance.
    x : ndarray (N, *in_shape)
        float32 or float64; the type of everything.
    dy : ndarray (N, *out_shape), callable or None
        dC/dy; a callable gets y and returns dy; None runs forward only.
    parameters : dict or None
        Arrays by name; missing ones are drawn from a normal distribution by `seed`.
    folder : "reference", "cpu" or "cuda"
        Folder of the kernels.
    training, seed, first :
        Numbers for kernels that bind these names (`first` is the index in the batch of the first sample).
    buffers : dict or None
        Initial arrays by name; missing ones start as the layer says.
    parts : int
        Number of parts of a compiled kernel's loop; they run one after the other, the last first.

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
    arrays.take("x", x, rows=True)
    arrays.make("y", layer.output_shape(in_shape), rows=True)
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
        arrays.take("dy", dy(arrays["y"].copy()) if callable(dy) else dy, rows=True)
        assert arrays["dy"].shape == arrays["y"].shape
        given["dy"] = arrays["dy"].copy()
        if layer.backward_input is not None:
            arrays.make("dx", in_shape, rows=True)
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


def run_columns(layer, x, dy, parameters, folder="cpu"):
    """Run the kernels of a layer of features for samples that are columns; arguments and result as in `run`.

    The gradients of parameters, to which the kernels add, start as 1.
    """
    real, in_shape = x.dtype.type, x.shape[1:]
    arrays = Guarded()

    def make(name, shape, value=None):
        arrays[name] = arrays.marked(name, math.prod(shape), real).reshape(shape)
        if value is not None:
            arrays[name][...] = value

    N, features = len(x), math.prod(layer.output_shape(in_shape))
    make("x", x.T.shape, x.T)
    make("y", (features, N))
    for name, parameter in layer.parameters(in_shape).items():
        make(name, parameter.shape, parameters[name])
        make("d" + name, parameter.shape, 1)
    make("dy", (features, N), dy.T)
    make("dx", x.T.shape)
    for name, (_, *shape) in layer.scratch(in_shape).items():
        make(name, (math.prod(shape), N))
    numbers = layer.scalars(in_shape)
    for attribute in ("forward", "backward_input", *layer.gradients()):
        kernel = layer.column_kernel(attribute, in_shape)
        function(kernel, folder)(*(numbers[name] if name in numbers else arrays[name] for name in kernel.arguments))
        assert not list(arrays.crossed()), f"{kernel!r} wrote beyond its arrays"
    for name, before in {"x": x.T, "dy": dy.T, **{n: parameters[n] for n in layer.parameters(in_shape)}}.items():
        np.testing.assert_array_equal(arrays[name], before.astype(real), err_msg=f"{layer}: a kernel changed {name}")
    gradients = {"d" + name: arrays["d" + name] - 1 for name in layer.parameters(in_shape)}
    return {"y": arrays["y"].T, "dx": arrays["dx"].T, **gradients}


class _Arrays(Guarded):
    """Arguments by name, as the program shapes them for each kernel."""

    def __init__(self, dtype, count, parts):
        super().__init__()
        self.real, self.count, self.parts, self.slots = dtype.type, count, parts, {}

    def make(self, name, shape, rows=False):
        """Add an array that holds the mark; `rows` gives it a row for each sample, as does "N" in its shape."""
        if shape[:1] == ("N",):
            shape, rows = shape[1:], True
        slot = self.slots[name] = Slot("arena", 0, tuple(shape), rows)
        full = (self.count, *slot.shape) if rows else slot.shape
        self[name] = self.marked(name, math.prod(full), self.real).reshape(full)

    def take(self, name, value, rows=False):
        self.make(name, np.shape(value)[1:] if rows else np.shape(value), rows)
        self[name][...] = value

    def unwritten(self, name):
        return bool(unwritten(self[name]).any())

    def call(self, kernel, folder, numbers):
        form = getattr(kernel, "form", None)
        known = {**numbers, **{name: in_form(array, self.slots[name], form) for name, array in self.items()}}
        missing = [name for name in kernel.arguments if name not in known]
        assert not missing, f"{kernel!r}: no array or number is called {missing}; there are {sorted(known)}"
        chosen, arguments = function(kernel, folder), [known[name] for name in kernel.arguments]
        if isinstance(chosen, Kernel) and self.parts > 1:
            _divided(chosen, arguments, self.real, self.parts)
        else:
            chosen(*arguments)
        crossed = list(self.crossed())
        assert not crossed, f"{kernel!r} wrote beyond {crossed[0]}"


def _divided(kernel, arguments, real, parts):
    """Run a kernel as threads do, but one part of its loop after the other, the last first."""
    arguments = [real(a) if isinstance(a, float) else a for a in arguments]
    dispatcher = compiled(kernel, arguments, real)
    for part in reversed(range(parts)):
        dispatcher(*arguments, part, parts)


def function(kernel, folder):
    """Return the callable of a kernel in a folder: "cpu" and "cuda" compile, "reference" is plain Python or NumPy."""
    if folder == "cuda":
        from nnjit.kernels.gpu import launch  # late: needs a GPU or its simulator

        return partial(launch.run, kernel.on("cuda") if isinstance(kernel, Operation) else kernel)
    if isinstance(kernel, Operation):
        return kernel.on(folder)
    return kernel if folder == "cpu" else plain(kernel)
