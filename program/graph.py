"""The graph of a network: layers unrolled into nodes in order of execution, with the places of parameters in theta."""

import warnings
from dataclasses import dataclass, field

from ..errors import NnjitError, ShapeError, SpecError
from ..layers.base import Layer, Parameter
from ..registry import layers as catalogue
from .duties import check_layer


@dataclass(frozen=True)
class Value:
    """An activation: its number and its shape without the batch. Value 0 is the input."""

    index: int
    shape: tuple


@dataclass
class Node:
    """One layer in its place, or the sum at the end of a residual (`skip` is then the value added)."""

    layer: Layer
    name: str
    x: Value
    y: Value
    parameters: dict = field(default_factory=dict)  # name -> (offset in theta, Parameter)
    buffers: dict = field(default_factory=dict)  # name -> (offset in the buffers, Parameter)
    skip: Value | None = None
    start: int = -1  # of a residual's sum: the index of the first node inside

    @property
    def kind(self):
        """The registered name of the layer."""
        return self.name.rpartition(".")[0].rpartition(".")[2]


@dataclass(frozen=True)
class Ref:
    """An array by its role.

    ("value" | "delta" | "tangent", value index), ("scratch" | "dscratch", (node index, name)), or ("target" | "weight"
    | "loss", None); the tangent of a value is its derivative in the direction of a tangent of the input. With
    samples as columns there are also ("columns" | "delta columns", value index), ("gradient", (node index, name) or
    None) of a block's samples, and ("gradients", None), those of all blocks.
    """

    kind: str
    key: object


COLUMNS = {"value": "columns", "delta": "delta columns"}  # kinds of arrays where samples are columns


def is_alias(node):
    """Tell whether the layer's output is its input's memory (flatten, reshape, identity)."""
    return node.layer.alias


class Graph:
    """The nodes of a network; `size` numbers are learned, `buffer_size` are saved but not learned."""

    def __init__(self, layers, input_shape):
        self.input = Value(0, tuple(input_shape))
        self.values = [self.input]
        self.nodes = []
        self.size = self.buffer_size = 0
        self.output = self._unroll(layers, self.input, "")

    def _unroll(self, layers, x, prefix):
        for position, layer in enumerate(layers, start=1):
            name = f"{prefix}{catalogue.name_of(type(layer))}.{position}"
            try:
                x = self._add(layer, name, x)
            except ShapeError as error:
                raise ShapeError(f"{name}: {error}" if name not in str(error) else str(error)) from None
        return x

    def _value(self, shape):
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ShapeError(f"every size of an activation must be a positive whole number, got {shape}")
        self.values.append(Value(len(self.values), tuple(shape)))
        return self.values[-1]

    def _add(self, layer, name, x):
        if layer.inner is not None:
            start = len(self.nodes)
            inside = self._unroll(layer.contents(), x, f"{name}.")
            if inside.shape != x.shape:
                raise ShapeError(f"a residual adds its input {x.shape} to its output {inside.shape}: they must agree")
            node = Node(layer, name, inside, self._value(x.shape), skip=x, start=start)
        else:
            node = Node(layer, name, x, self._value(layer.output_shape(x.shape)))
        for key, parameter in layer.parameters(x.shape).items():
            _check(key, parameter, name)
            node.parameters[key] = (self.size, parameter)
            self.size += parameter.size
        for key, parameter in layer.buffers(x.shape).items():
            _check(key, parameter, name)
            node.buffers[key] = (self.buffer_size, parameter)
            self.buffer_size += parameter.size
        check_layer(node)
        self.nodes.append(node)
        return node.y

    def warn_of_batches(self, samples, what):
        """Warn if a layer learns nothing from a training batch of this size; `what` names the batch."""
        few = [node.name for node in self.nodes if samples < node.layer.smallest_batch(node.x.shape)]
        if few:
            warnings.warn(
                f"{what} has one number for each channel of {', '.join(few)}, and one number has no variance: its "
                "running statistics do not move and nothing before it learns from that batch; choose a batch size that "
                "leaves two samples or more",
                stacklevel=2,
            )

    def consumer(self, node):
        """Return the layer that reads the output of `node`, or None."""
        return next((other.layer for other in self.nodes if other.x is node.y), None)


# Names of other kernel arguments (layers/base.py), which no parameter or buffer can have.
RESERVED = {"x", "y", "dx", "dy", "training", "seed", "first"}


def _check(key, parameter, name):
    if not isinstance(parameter, Parameter):
        raise NnjitError(f"{name}: {key} must be made by weight(), constant() or zeros(), got {parameter!r}")
    if not all(isinstance(n, int) and n >= 0 for n in parameter.shape):
        raise ShapeError(f"{name}: the sizes of {key} must be whole numbers from 0 on, got {parameter.shape}")
    if not key.isidentifier():
        raise SpecError(f"{name}: the parameter name {key!r} is not an identifier")
    if key in RESERVED:
        raise SpecError(f"{name}: a parameter cannot be called {key!r}, which means something else to a kernel")
