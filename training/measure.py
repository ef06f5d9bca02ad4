"""Loss and metrics of a network on data."""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.split import Split, check_channels
from ..errors import DataError, NnjitError, ShapeError, SpecError
from ..kernels.operations import Operation
from ..program.program import NetworkLike
from ..program.slots import Binding, batch
from ..registry import losses
from ..registry.options import SpecLike
from . import metrics as metric_functions
from .losses import Loss, check_labels

CONFUSED = 30  # most classes for which the confusion matrix is logged: its size is their square


def evaluate_split(
    net: NetworkLike, split: Split, loss: SpecLike | None = None, metrics: Iterable[str] | None = None
) -> dict[str, float]:
    """Return mean loss (with a `loss` spec) and metrics of a network on a Split, in parts; see `Network.evaluate`."""
    made = losses.create(loss) if loss is not None else None
    split = targets_for(split, net, made)
    if net.trained_on is not None:
        split = net.trained_on.scaled(split)
    classes = split.y.ndim == 1 or (made is not None and made.classification)
    names = (("accuracy",) if classes else ()) if metrics is None else metric_names(metrics)
    functions = {name: metric_functions.get(name, made) for name in names}
    if made is None and not functions:
        why = "" if classes else " (the targets are values, not class numbers, so accuracy would mean nothing)"
        raise SpecError(f'there is nothing to measure{why}; give a loss, such as "mse", or metrics, such as "l2"')
    try_metrics(functions, split, net)
    found = measure(net._apply, split, made, functions, net)
    return {name: value for name, value in found.items() if name not in ("confusion",)}


class InMemory:
    """A split that is converted once, for many measurements."""

    def __init__(self, split: Split, dtype: np.dtype) -> None:
        self.x, self.y = split.take(slice(None), dtype)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice, dtype: np.dtype) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return some samples, not copied."""
        return self.x[rows], self.y[rows]


def measure(
    predict: Callable[[NDArray[Any]], NDArray[Any]],
    split: Split | InMemory,
    loss: Loss | None,
    metrics: Mapping[str, Callable[[Any, Any], float]],
    network: NetworkLike,
    rows: int = 4096,
) -> dict[str, Any]:
    """Return means of loss and metrics over a split, and the confusion matrix of a classifier."""
    sums: dict[str, float] = {}
    confusion = None
    outputs = network.output_shape
    for begin in range(0, len(split), rows):
        x, target = split.take(slice(begin, min(begin + rows, len(split))), network.dtype)
        y = predict(x)
        found = {"loss": _mean_loss(loss, y, target)} if loss is not None else {}
        found |= {name: f(y, target) for name, f in metrics.items()}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value * len(x)
        one_class = loss is not None and loss.classification and (outputs == (1,) or not loss.independent)
        if one_class and len(outputs) == 1 and outputs[0] <= CONFUSED:
            part = metric_functions.confusion_matrix(y, target)
            confusion = part if confusion is None else confusion + part
    means = {name: value / len(split) for name, value in sums.items()}
    return means if confusion is None else means | {"confusion": confusion.tolist()}


def _mean_loss(loss, y, target):
    """Return the mean loss by its reference kernel, in float64."""
    kernel = (
        loss.forward_labels if target.ndim == 1 and y.ndim > 1 and loss.forward_labels is not None else loss.forward
    )
    function = kernel.on("reference") if isinstance(kernel, Operation) else kernel.function
    values = {"y": y.astype(float), "target": target if target.dtype.kind == "i" else target.astype(float)}
    values |= {"loss": np.zeros(len(y))}
    binding = Binding("loss", "loss", kernel, loss.options())  # shapes the arrays as the program does
    state = SimpleNamespace(**{name: array.reshape(-1) for name, array in values.items()})
    slots = [batch(name, 0, values[name].shape[1:]) for name in binding.free]
    binding.python(function)(state, 0, len(y), *slots)
    return float(values["loss"].mean())


def targets_for(split: Split, network: NetworkLike, loss: Loss | None) -> Split:
    """Return the split with targets as the loss takes them; refuse those that do not fit network and loss."""
    if network.layers and network.layers[0].reads_channels:
        check_channels(split.input_shape, split.name)
    if tuple(split.input_shape) != network.input_shape:
        raise ShapeError(
            f"{split.name}: samples have shape {tuple(split.input_shape)}, the network takes {network.input_shape}"
        )
    try:
        if loss is None:
            if split.y.ndim == 1:
                check_labels(split.y, network.output_shape[0])
            return split
        loss.validate_shape(network.output_shape)
        return split.changed(y=loss.targets(split.y, network.output_shape))
    except (ShapeError, DataError) as error:
        raise type(error)(f"{split.name}: {error}") from None


def metric_names(metrics: Any) -> tuple[str, ...]:
    """Return names of metrics as a tuple; refuse a single text, whose letters would be names."""
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise SpecError(f'metrics: expected a list of names, such as ["accuracy"], got {metrics!r}')
    return tuple(metrics)


def try_metrics(functions: Mapping[str, Callable[[Any, Any], float]], split: Split, network: NetworkLike) -> None:
    """Refuse a metric that does not fit the outputs and targets, by trying it on two samples before any training."""
    _, target = split.take(slice(0, 2), network.dtype)
    for name, metric in functions.items():
        try:
            metric(np.zeros((len(target), *network.output_shape), network.dtype), target)
        except NnjitError as error:
            raise SpecError(f"metrics: {name} cannot be measured on {split.name}: {error}") from None
