"""The network F(x): its layers, the flat vector theta of all parameters, and what can be done with it."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from ..errors import DeviceError, ShapeError, SpecError
from ..registry import initializers
from ..registry import layers as catalogue
from ..registry.annotations import checked
from ..registry.specs import did_you_mean, either, shown
from .duties import check_rounded
from .graph import Graph
from .memory import aligned, need
from .program import Program

DTYPES = {"float32": np.float32, "float64": np.float64}
DEVICES = ("cpu", "cuda")
MAX_SEED = 2**31 - 1
PRECISIONS = ("float32", "tf32", "bf16")


class Views(Mapping):
    """Ordered names of arrays that are views into one flat vector; ``views[name][...] = ...`` writes through."""

    def __init__(self, flat, places):
        self._flat, self._places = flat, places

    def __getitem__(self, name):
        offset, shape = self._places[name]
        return self._flat[offset : offset + prod(shape)].reshape(shape)

    def __iter__(self):
        return iter(self._places)

    def __len__(self):
        return len(self._places)

    def __repr__(self):
        return "{" + ", ".join(f"{name}: {shape}" for name, (_, shape) in self._places.items()) + "}"


class Network:
    """A list of layers applied one after the other.

    Parameters
    ----------
    layers : list of Layer
    input_shape : tuple of int
        Without the batch: ``(C, *spatial)`` or ``(features,)``.
    dtype : "float32" or "float64"
    device : "cpu" or "cuda"
    seed : int
        Of the initial parameters, 0 to 2**31 - 1.
    precision : "float32", "tf32" or "bf16"
        Of the products of dense and convolutional layers. The last two are made by a GPU's tensor cores, whose factors
        have 10 or 7 bits behind the point: a product of two numbers is wrong by up to 1 / 1024 or 1 / 128 of itself.
        Sums are in float32, as is all else.

    Attributes
    ----------
    theta, gradient : ndarray (S,)
        All parameters and all their gradients, in the order of `parameters`.
    running : ndarray
        All buffers, flat.
    parameters, gradients, buffers : mapping
        Views by name, such as ``"conv.1.W"``.
    """

    def __init__(self, layers, input_shape, dtype="float32", device="cpu", seed=0, precision="float32"):
        dtype = getattr(dtype, "__name__", None) or str(dtype)
        if dtype not in DTYPES:
            raise SpecError(f"dtype: expected float32 or float64, got {dtype}")
        if device not in DEVICES:
            raise DeviceError(f"device: expected one of {', '.join(DEVICES)}, got {device!r}")
        if wrong := unfit(precision, device, dtype):
            raise SpecError(f"precision: {wrong}")
        if device == "cuda":
            from ..kernels.driver import require  # numba.cuda is imported by those who use it

            require(precision)
        self.seed = checked("seed", seed, int, 0, MAX_SEED)
        self.input_shape = _shape(input_shape)
        self.layers = list(layers)
        self.dtype, self.device, self.precision = np.dtype(dtype), device, precision
        self.graph = Graph(self.layers, self.input_shape)
        for node in self.graph.nodes:
            check_rounded(node.name, node.layer, self.dtype)
        numbers = 2 * self.graph.size + self.graph.buffer_size
        if self.graph.size:
            most = max(self.graph.nodes, key=lambda node: sum(p.size for _, p in node.parameters.values())).name
            what = f"layers: {self.graph.size} parameters, most of them in {most}, and their gradients"
            need(numbers * self.dtype.itemsize, what)
        self.output_shape = self.graph.output.shape
        self.theta = aligned(self.graph.size, self.dtype)
        self.gradient = aligned(self.graph.size, self.dtype)
        self.running = aligned(self.graph.buffer_size, self.dtype)
        self.parameters = Views(self.theta, self._places("parameters"))
        self.gradients = Views(self.gradient, self._places("parameters"))
        self.buffers = Views(self.running, self._places("buffers"))
        self._programs = {}
        self._last = None
        self.initialize(self.seed)

    def __repr__(self):
        return f"Network({[layer.spec() for layer in self.layers]}, input_shape={self.input_shape})"

    def _places(self, what):
        places = {}
        for node in self.graph.nodes:
            for key, (offset, parameter) in getattr(node, what).items():
                if parameter.size:
                    places[f"{node.name}.{key}"] = (offset, parameter.shape)
        return places

    def initialize(self, seed):
        """Draw all parameters anew and reset the buffers.

        An initialiser left open is chosen by the activation that follows: He before ReLU and its kin, LeCun before
        SELU, Glorot otherwise. SpecError names a parameter that would start as what its dtype cannot hold.
        """
        seed = checked("seed", seed, int, 0, MAX_SEED)
        for index, node in enumerate(self.graph.nodes):
            rng = np.random.Generator(np.random.Philox(key=[seed, index]))
            follower = self.graph.follower(node)
            suits = getattr(follower, "initializer", None) or "glorot"
            for flat, arrays in ((self.theta, node.parameters), (self.running, node.buffers)):
                for key, (offset, parameter) in arrays.items():
                    drawn = _draw(f"{node.name}.{key}", parameter, rng, suits, self.dtype)
                    flat[offset : offset + parameter.size] = drawn

    # -- running -----------------------------------------------------------------------------------------------------

    def forward(self, x, training=False):
        """F(x), kept for `backward`.

        Parameters
        ----------
        x : array (N, *input_shape)
        training : bool
            Whether dropout drops and batch normalisation uses the batch.

        Returns
        -------
        y : ndarray (N, *output_shape)
        """
        x = self._batch(x, self.input_shape, "x")
        program = self._program(False, len(x))
        state = program.state
        x0, y = program.input.of(state, 0, len(x)), program.output
        x0[...] = x
        program.run.forward(state, len(x), self.seed, training)
        self._last = program, training
        return y.of(state, 0, len(x)).copy()

    def backward(self, dy):
        """From dC/dy of the last `forward` to dC/dx; fills `gradient` (sums over the batch, without 1/N).

        Parameters
        ----------
        dy : array (N, *output_shape)

        Returns
        -------
        dx : ndarray (N, *input_shape)
        """
        if self._last is None:
            raise ShapeError("backward: call forward first, it keeps what backward needs")
        program, training = self._last
        state = program.state
        dy = self._batch(dy, self.output_shape, "dy", program.batch_size)
        program.output_gradient.of(state, 0, len(dy))[...] = dy
        program.run.backward(state, len(dy), self.seed, training)
        return program.input_gradient.of(state, 0, len(dy)).copy()

    def predict(self, x, batch_size=64):
        """F(x) for any number of samples, by the compiled program."""
        batch_size = checked("batch_size", batch_size, int, 1)
        x = self._batch(x, self.input_shape, "x")
        need(len(x) * prod(self.output_shape) * self.dtype.itemsize, f"x: the outputs of {len(x)} samples")
        y = np.empty((len(x), *self.output_shape), self.dtype)
        program = self._program(True, batch_size)
        program.predict(program.state, x, y)
        return y

    def compile(self, loss="quadratic", optimizer="sgd(lr=0.1)", batch_size=32, **options):
        """The training program of this network, compiled; see `Program`.

        Its `state` shares theta, gradient and buffers with the network.
        """
        return Program(self, loss, optimizer, batch_size, **options).compile()

    def _program(self, predict, batch_size):
        """The prediction program, compiled, or forward and backward, interpreted; made once for a batch size."""
        key = (predict, batch_size)
        if key not in self._programs:
            program = Program(self, batch_size=batch_size, backward=not predict)
            self._programs[key] = program.compile() if predict else program.interpret()
        return self._programs[key]

    def _batch(self, array, shape, name, count=None):
        expected = f"({count or 'N'}, {', '.join(map(str, shape))})"
        try:
            array = np.ascontiguousarray(array, dtype=self.dtype)
        except (TypeError, ValueError) as error:
            raise ShapeError(f"{name}: expected an array of numbers {expected}: {error}") from None
        if array.shape[1:] != tuple(shape) or array.ndim == 0 or not len(array) or count not in (None, len(array)):
            raise ShapeError(f"{name}: expected shape {expected}, got {array.shape}")
        return array

    # -- training ----------------------------------------------------------------------------------------------------

    def fit(self, x, y, **options):
        """Train on arrays; see `nnjit.training.fit.fit` for the options. Returns the history."""
        from ..training.fit import fit  # training imports network, so this import waits for the call

        return fit(self, x, y, **options)

    def evaluate(self, x, y, loss=None, metrics=()):
        """Mean loss and metrics on arrays; see `nnjit.training.fit.evaluate`."""
        from ..training.fit import evaluate  # as in fit

        return evaluate(self, x, y, loss=loss, metrics=metrics)

    def save(self, path):
        """Write parameters, buffers and the description of the network to a safetensors file."""
        from ..training.checkpoint import save  # as in fit

        save(self, Path(path))

    # -- description -------------------------------------------------------------------------------------------------

    def description(self):
        """What `compose` needs to make this network again."""
        return {
            "layers": [layer.spec() for layer in self.layers],
            "input_shape": list(self.input_shape),
            "dtype": self.dtype.name,
            "seed": self.seed,
            "names": sorted({catalogue.name_of(type(node.layer)) for node in self.graph.nodes}),
        }

    def summary(self):
        """A table: layer, output shape, parameters, multiplications, receptive field, share of non-zeros."""
        from .summary import summary

        return summary(self)


def unfit(precision, device, dtype):
    """What is wrong with a precision for a device and dtype, in words; None if nothing is."""
    if precision not in PRECISIONS:
        return f"expected {either(PRECISIONS)}, got {shown(precision)}{did_you_mean(str(precision), PRECISIONS)}"
    if precision != "float32" and device != "cuda":
        return f"{precision} needs the tensor cores of device cuda, got device {device}; choose cuda, or float32"
    if precision != "float32" and dtype != "float32":
        return f"{precision} rounds float32 numbers, got dtype {dtype}; choose dtype float32, or precision float32"
    return None


def _shape(shape):
    sizes = shape.tolist() if isinstance(shape, np.ndarray) else shape
    sizes = sizes if isinstance(sizes, (list, tuple)) else (sizes,)
    try:
        sizes = tuple(checked("input_shape", n, int, 1) for n in sizes)
    except SpecError:
        sizes = ()
    if not sizes:
        raise ShapeError(f"input_shape: expected positive whole sizes such as (1, 28, 28) or (64,), got {shown(shape)}")
    return sizes


def _draw(name, parameter, rng, suits, dtype):
    start = suits if parameter.start is None else parameter.start
    with np.errstate(over="ignore"):
        if isinstance(start, float):
            drawn = np.full(parameter.size, start, dtype)
        else:
            made = initializers.create(start)
            check_rounded(f"{name}: {initializers.name_of(type(made))}", made, dtype)
            drawn = made.draw(rng, parameter.shape, parameter.fan_in, parameter.fan_out, dtype)
            drawn = np.asarray(drawn, dtype).ravel()
    if drawn.size != parameter.size or not np.isfinite(drawn).all():
        wrong = f"{drawn.size} numbers" if drawn.size != parameter.size else f"{drawn[~np.isfinite(drawn)][0]}"
        raise SpecError(f"{name}: expected {parameter.size} finite numbers of {dtype} to start from, got {wrong}")
    return drawn
