"""Layers that the training data sets before the first step: scales of samples, and of targets.

A last layer that is fitted to targets is left out of the program that trains: the loss is measured before it, on
targets in its form. The network's vectors are one, so everything else contains it.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..data.encoding import Encoding
from ..data.schema import Schema
from ..data.split import Converted, Split
from ..data.table import short
from ..errors import DataError, SpecError
from ..layers.scale import MinMax
from ..program.graph import Graph, Node
from ..program.protocols import NetworkLike
from ..registry import losses
from .losses import Loss
from .metrics.base import Metric
from .metrics.predictions import Predictions, Targets

ROWS = 4096  # samples that are read at once

# Buffers that were fitted for a training that may not have begun: it failed later, so another one fits them again.
_attempts: WeakKeyDictionary[NetworkLike, dict[str, NDArray[Any]]] = WeakKeyDictionary()


class Parts:
    """Samples or targets of a split in float64, some rows at a time, in the shape of a layer's input."""

    def __init__(self, array: Converted, shape: tuple[int, ...]) -> None:
        self._array, self._shape = array, shape

    def __iter__(self) -> Iterator[NDArray[np.float64]]:
        for first in range(0, len(self._array), ROWS):
            yield self._array[first : first + ROWS].reshape(-1, *self._shape)


class Body:
    """A network without its last layer, on the vectors of the network: the part that a program trains.

    All attributes that are not here are those of the network.
    """

    def __init__(self, network: NetworkLike) -> None:
        self._network, self.layers = network, network.layers[:-1]
        self.graph = Graph(self.layers, network.input_shape)
        self.graph.buffer_size = network.graph.buffer_size  # those of the last layer are the end of the vector
        self.output_shape = self.graph.output.shape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


class Units:
    """The units of a network's targets, where its last layer restores them.

    Parameters
    ----------
    network : Network
        Its last layer has ``fitted_to = "targets"``.

    Attributes
    ----------
    body : Body
        The network without that layer.
    """

    def __init__(self, network: NetworkLike) -> None:
        self._node = network.graph.nodes[-1]
        self._buffers, self.body = buffers_of(network, self._node), Body(network)

    def restored(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return outputs of the body, or scaled targets, in units."""
        return self._node.layer.to_units(np.asarray(y, np.float64), self._buffers)

    def scaled(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return targets or outputs in units as the body gives them."""
        return self._node.layer.from_units(np.asarray(y, np.float64), self._buffers)

    def split(self, split: Split) -> Split:
        """Return the split with scaled targets."""
        return split.changed(y=self.scaled(split.y))

    def __str__(self) -> str:
        zero = np.zeros((1, *self._node.x.shape))
        widths = (self.restored(zero + 1) - self.restored(zero)).reshape(zero.shape[1], -1)[:, 0]
        listed = ", ".join(f"{width:.4g}" for width in widths[:8]) + ", ..." * (len(widths) > 8)
        return f"loss in units of the target's deviation, {listed}; metrics in units of the target"


class InUnits:
    """A metric of values in units, measured on outputs of the body and scaled targets."""

    def __init__(self, metric: Metric, units: Units) -> None:
        self._units, self._metric, self.value = units, metric, metric.value

    def part(self, predictions: Predictions) -> Any:
        """Return what the metric keeps of some samples."""
        target = self._units.restored(predictions.targets.target)
        return self._metric.part(Predictions(self._units.restored(predictions.y), Targets(target, predictions.outputs)))


def units_of(network: NetworkLike, loss: Loss | None = None) -> Units | None:
    """Return the `Units` of a network's targets; None if its last layer is not fitted to targets.

    Raises
    ------
    SpecError
        The loss is one of classes.
    """
    node = network.graph.nodes[-1]
    if node.layer.fitted_to != "targets":
        return None
    if loss is not None and loss.classification:
        raise SpecError(
            f"{node.name} restores the units of values, but the loss {losses.name_of(type(loss))} takes classes; leave "
            "that layer out, or choose a loss of values, such as mse"
        )
    return Units(network)


def fit_layers(network: NetworkLike, train: Split, schema: Schema | None = None) -> None:
    """Set the buffers of the layers that are fitted to training data, if the network was not trained before.

    Inputs that are codes are checked: the training data must hold nothing else there.

    Parameters
    ----------
    network : Network
    train : Split
        With targets as the loss takes them.
    schema : Schema or None
        That of the training data: names of the features, for errors, and which of them are numbers.

    Raises
    ------
    SpecError
        Such a layer does not stand where it sees the samples, or gives the targets; or no layer takes the codes of a
        table.
    DataError
        The data is too fine or too large for the network's dtype, or a number is none of the codes of its input.
    """
    nodes, columns = network.graph.nodes, None if schema is None else schema.columns
    encoding = None if schema is None else schema.encoding
    if wrong := unread_codes(network.graph, encoding):
        raise SpecError(f"{train.name}: {wrong}")
    for k, node in enumerate(nodes):
        aim = node.layer.fitted_to
        if aim is None:
            continue
        if aim == "samples" and not all(other.layer.alias for other in nodes[:k]):
            raise SpecError(
                f"{node.name} is fitted to the samples, but {next(n.name for n in nodes if not n.layer.alias)} changes"
                " them before it; put it first, or behind layers that only change the shape"
            )
        if aim == "targets" and node is not nodes[-1]:
            raise SpecError(f"{node.name} is fitted to the targets, so it must be the last layer; put it there")
        buffers = buffers_of(network, node)
        if network.trained_on is not None or not _is_free(node, buffers, _attempts.get(network, {})):
            continue
        samples, targets = train.converted(np.float64)
        names = columns if aim == "samples" and len(node.x.shape) == 1 else None
        what = "target" if aim == "targets" else "feature" if len(node.x.shape) == 1 else "channel"
        try:
            found = node.layer.fitted(
                Parts(samples if aim == "samples" else targets, node.x.shape), _namer(names, what), network.dtype,
                _numbers(network.graph, node, encoding),
            )  # fmt: skip
        except DataError as error:
            raise DataError(f"{train.name}: {node.name}: {error}") from None
        for name, values in found.items():
            buffers[name][...] = values
            _attempts.setdefault(network, {})[f"{node.name}.{name}"] = buffers[name].copy()
    if codes := network.graph.codes():
        _check_codes(network, train, codes, _namer(columns, "feature"))


def unread_codes(graph: Graph, encoding: Encoding | None) -> str | None:
    """Return why the layers of a network cannot take the codes of a table, or their own; None if they can."""
    codes = {} if encoding is None else encoding.codes
    taken = graph.codes()
    if wrong := [index for index, count in codes.items() if taken.get(index, 0) < count]:
        assert encoding is not None
        names = [encoding.inputs[index] for index in wrong]
        layer = f"embedding(columns={list(codes)}, counts={list(codes.values())})"
        given = [taken[index] for index in wrong if index in taken]
        what = f"the layers have {given[0]} rows for its {codes[wrong[0]]} codes" if given else "no layer takes them"
        return (
            f"the column {short(names[:1])} holds codes of a category, but {what}; begin the layers with {layer}, or "
            "read the table with categories='onehot'"
        )
    if not taken and (node := next((node for node in graph.nodes if node.layer.codes(node.x.shape)), None)) is not None:
        return f"{node.name} takes codes, but layers before it change them; put it first, or behind standardize"
    return None


def _check_codes(network, train, codes, names):
    """Raise DataError for a training sample with a number that is no code, SpecError for a layer that scales codes."""
    places, counts = list(codes), np.array(list(codes.values()))
    nodes = network.graph.nodes
    taking = next(k for k, node in enumerate(nodes) if node.layer.codes(node.x.shape))
    for node in nodes[:taking]:
        found = buffers_of(network, node)
        for name, wanted in (("shift", 0.0), ("scale", 1.0)):
            if name in found and (wrong := np.flatnonzero(found[name][places] != wanted)).size:
                raise SpecError(
                    f"{node.name} scales the {names(places[wrong[0]])}, which {nodes[taking].name} takes as a code; "
                    "there its shift must be 0 and its scale 1"
                )
    for part in Parts(train.converted(np.float64)[0], nodes[taking].x.shape):
        given = part[:, places]
        wrong = ~((given >= 0) & (given < counts) & (given == np.floor(given)))
        if wrong.any():
            row, k = np.argwhere(wrong)[0]
            raise DataError(
                f"{train.name}: the {names(places[k])} holds {given[row, k]:g}, but {nodes[taking].name} takes whole "
                f"numbers from 0 to {counts[k] - 1} there"
            )


def _numbers(graph, node, encoding):
    """Return a mask of the channels of a node that hold numbers: all but those of categories."""
    channels = node.x.shape[0]
    found = np.ones(channels, bool)
    if node.layer.fitted_to == "samples" and len(node.x.shape) == 1:
        if encoding is not None and len(encoding.numbers) == channels:
            found[:] = encoding.numbers
        found[list(graph.codes())] = False
    return found


def takes_units(network: NetworkLike) -> Node | None:
    """Return the node of a layer that is fitted to the samples and that the network begins with; None: it has none."""
    node = next((node for node in network.graph.nodes if not node.layer.alias), None)
    return node if node is not None and node.layer.fitted_to == "samples" else None


def raw_range_of(network: NetworkLike) -> tuple[float, float] | None:
    """Return (low, high) if the network begins with ``minmax(low, high)``, and so takes raw numbers of this range."""
    node = next((node for node in network.graph.nodes if not node.layer.alias), None)
    return node.layer.raw_range if node is not None and isinstance(node.layer, MinMax) else None


def ranges_of(split: Split, shape: tuple[int, ...]) -> tuple[tuple[float, float], ...]:
    """Return the (lowest, highest) number of each channel of the samples, taken in a shape."""
    low: Any = np.inf
    high: Any = -np.inf
    for part in Parts(split.converted(np.float64)[0], shape):
        channels = part.reshape(*part.shape[:2], -1)
        low, high = np.minimum(low, channels.min((0, 2))), np.maximum(high, channels.max((0, 2)))
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def buffers_of(network: NetworkLike, node: Node) -> dict[str, NDArray[Any]]:
    """Return the buffers of a node by their names in the layer: views."""
    return {name: network.buffers[f"{node.name}.{name}"] for name, (_, each) in node.buffers.items() if each.size}


def _is_free(node, buffers, attempted):
    """Tell whether buffers have the values that the layer begins with, or those of an attempt: the user set none."""
    return all(
        (array == node.buffers[name][1].start).all() or np.array_equal(array, attempted.get(f"{node.name}.{name}"))
        for name, array in buffers.items()
    )


def _namer(names, what):
    return lambda channel: f"column {names[channel]!r}" if names else f"{what} {channel} (counted from 0)"
