"""Loss and metrics of a network on data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numba.np.numpy_support import from_dtype
from numpy.typing import NDArray

from ..data.split import Split, check_channels
from ..errors import DataError, NnjitError, ShapeError, SpecError
from ..kernels.compiler.lock import once
from ..kernels.operations import Operation
from ..program.protocols import NetworkLike
from ..program.slots import Binding, Slot, batch, sizes
from ..registry import losses
from ..registry.options import SpecLike
from .fitting import Units, raw_range_of, units_of
from .losses import Loss, check_labels
from .metrics import base
from .metrics.base import Metric
from .metrics.predictions import Outputs, Predictions, Targets, confusion_matrix, outputs_of

IN_MEMORY = 2**30  # largest data set in bytes that is converted at once; a larger one is converted part by part
PART = 4096  # samples that are measured at once
CONFUSED = 30  # most classes for which the confusion matrix is logged: its size is their square


def evaluate_split(net: NetworkLike, split: Split, loss: SpecLike | None = None, metrics: Any = None) -> dict[str, Any]:
    """Return mean loss (with a `loss` spec) and metrics of a network on a Split, in parts; see `Network.evaluate`."""
    made = losses.create(loss) if loss is not None else None
    given = None if metrics is None else base.create(metrics)
    split = targets_for(split, net, made)
    if net.trained_on is not None:
        split = net.trained_on.checked(split)
    outputs = outputs_of(made, net.output_shape, split.y)
    units = None if made is None else units_of(net, made)
    if units is not None:  # one-hot rows are values too behind a layer that restores units, as in training
        outputs = outputs._replace(kind="values")
    unclear = made is None and outputs.kind == "values"
    found = base.chosen(outputs, given or (), given is None and not unclear)
    if made is None and not found:
        why = (
            " (the targets are values, not classes, and without a loss the outputs may be anything)" if unclear else ""
        )
        raise SpecError(f'there is nothing to measure{why}; give a loss, such as "mse", or metrics, such as "rmse"')
    try_metrics(found, outputs, split, net)
    names = net.trained_on.output_names if net.trained_on is not None else None
    return Measures(made, found, outputs, names, units=units).of(net._apply, split, net.dtype)


class InMemory:
    """A split that is converted once, for many measurements."""

    def __init__(self, split: Split, dtype: np.dtype) -> None:
        self.x, self.y = split.take(slice(None), dtype)
        self.weights = split.weights

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: slice, dtype: np.dtype) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return some samples, not copied."""
        return self.x[rows], self.y[rows]


class MeanLoss:
    """The mean of a loss over samples, in float64: by the loss's kernel for the CPU, and NumPy's sum of its results.

    Threads do not divide the work, so the bits depend on the samples alone.

    Parameters
    ----------
    loss : Loss
    output_shape, target_shape : tuple of int
        Without the samples; targets of shape () are whole numbers.
    """

    def __init__(self, loss: Loss, output_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        self._loss, self._shapes = loss, {"y": output_shape, "target": target_shape, "loss": ()}
        self._dtypes = {"y": np.float64, "target": np.float64 if target_shape else np.int64, "loss": np.float64}

    @once
    def _kernel(self):
        """Return the kernel as compiled code, its arguments, and the shapes of its arrays."""
        labels = not self._shapes["target"] and self._loss.forward_labels is not None
        kernel: Any = self._loss.forward_labels if labels else self._loss.forward
        binding = Binding("loss", "loss", kernel, self._loss.options())
        slots = {name: batch(name, 0, shape) for name, shape in self._shapes.items()}
        arguments = binding.values([slots[name] for name in binding.free])
        types = {name: from_dtype(np.dtype(dtype)) for name, dtype in self._dtypes.items()}
        function = kernel.on("cpu") if isinstance(kernel, Operation) else kernel
        _, dispatcher = function.compile(binding.signature(arguments, types, np.float64), np.float64)
        return dispatcher, arguments, {name: (-1, *sizes(slot, binding.form, 1)[1:]) for name, slot in slots.items()}

    def compile(self) -> None:
        """Compile the kernel now; otherwise the first call does it."""
        _ = self._kernel

    def __call__(self, y: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
        """Return the mean over samples of outputs y (N, *shape); weights (N,) are factors of their losses."""
        return self.of_epochs(y[None], target, weights)[0]

    def of_epochs(
        self, outputs: NDArray[Any], target: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> list[float]:
        """Return the means over samples of outputs (epochs, N, *shape) for the same targets and weights (N,)."""
        epochs, count = outputs.shape[:2]
        y = outputs.reshape(epochs * count, *outputs.shape[2:])
        if epochs > 1:
            target = np.broadcast_to(target, (epochs, *target.shape)).reshape(epochs * count, *target.shape[1:])
        dispatcher, arguments, shapes = self._kernel
        arrays = {"y": y, "target": target, "loss": np.empty(len(y))}
        for name, shape in shapes.items():
            arrays[name] = arrays[name].astype(self._dtypes[name], "C", copy=False).reshape(shape)
        dispatcher(*[arrays[each.flat] if isinstance(each, Slot) else each for each in arguments], 0, 1)
        found = arrays["loss"].reshape(epochs, count)
        return (np.add.reduce(found if weights is None else found * weights, axis=1) / count).tolist()


class Measures:
    """Mean loss, metrics and confusion matrix over a data set.

    Parameters
    ----------
    loss : Loss or None
    metrics : dict
        Name -> `Metric`.
    outputs : Outputs
    names : sequence of str or None
        Names of classes (or of labels, or of values), for metrics of each of them; None: their numbers.
    confusion : bool
        Whether to count the confusion matrix too, if there are classes and not too many.
    units : Units or None
        Those of outputs and targets, to measure "scaled_loss" too: the loss without units, as training has it.
    """

    def __init__(
        self,
        loss: Loss | None,
        metrics: Mapping[str, Metric],
        outputs: Outputs,
        names: Sequence[str] | None = None,
        confusion: bool = False,
        units: Units | None = None,
    ) -> None:
        self.units = units
        self.loss = None if loss is None else MeanLoss(loss, outputs.shape, outputs.target_shape)
        self.metrics, self.outputs = metrics, outputs
        fits = names is not None and len(names) == outputs.size
        self._names = list(names) if fits and names is not None else [str(k) for k in range(outputs.size)]
        classes = outputs.kind == "classes" and len(outputs.shape) == 1
        self._confuses = confusion and classes and outputs.size <= CONFUSED

    def of_parts(self, predictions: Iterable[Predictions], with_loss: bool = True) -> dict[str, Any]:
        """Return "loss", metrics by their names, and "confusion", of outputs and targets that come in parts.

        A metric of each class, label or value is a dict of numbers by their names.
        """
        total, scaled, count = 0.0, 0.0, 0
        kept: list[list[Any]] = [[] for _ in self.metrics]
        confusion: Any = 0
        with np.errstate(all="ignore"):
            for some in predictions:
                if with_loss and self.loss is not None:
                    total += self.loss(some.y, some.target, some.targets.weights) * len(some.y)
                    count += len(some.y)
                    if self.units is not None:
                        y, target = self.units.scaled(some.y), self.units.scaled(some.target)
                        scaled += self.loss(y, target) * len(y)
                for parts, metric in zip(kept, self.metrics.values(), strict=True):
                    parts.append(metric.part(some))
                if self._confuses:
                    confusion = confusion + confusion_matrix(some)
            found: dict[str, Any] = {"loss": total / count} if count else {}
            if count and self.units is not None:
                found["scaled_loss"] = scaled / count
            for parts, (name, metric) in zip(kept, self.metrics.items(), strict=True):
                found[name] = self._named(metric.value(parts))
        return found | {"confusion": confusion.tolist()} if self._confuses else found

    def of_epochs(self, outputs: NDArray[Any], targets: Sequence[Targets]) -> list[dict[str, Any]]:
        """Return the measures of the outputs (epochs, N, *shape) of each epoch; `targets` are those of the parts."""
        pairs = [(outputs[:, rows], t) for rows, t in zip(parts(outputs.shape[1]), targets, strict=True)]
        found: list[dict[str, Any]] = [{} for _ in outputs]
        if self.loss is not None:  # at once: a call for each epoch would cost more than a small network's epoch
            terms = [np.multiply(self.loss.of_epochs(y, t.target, t.weights), len(t.target)) for y, t in pairs]
            means = np.cumsum(terms, axis=0)[-1] / outputs.shape[1]
            found = [{"loss": loss} for loss in means.tolist()]
        predictions = zip(*(Predictions.of_epochs(y, t) for y, t in pairs), strict=True)
        for measured, of_epoch in zip(found, predictions, strict=True):
            measured |= self.of_parts(of_epoch, with_loss=False)
        return found

    def of(
        self,
        predict: Callable[[NDArray[Any]], NDArray[Any]],
        split: Split | InMemory,
        dtype: np.dtype,
        weights: NDArray[Any] | None = None,
    ) -> dict[str, Any]:
        """Return the mean loss and metrics of `predict` over a split; weights (N,) are factors of the losses."""

        def predictions(rows):
            x, target = split.take(rows, dtype)
            return Predictions(predict(x), Targets(target, self.outputs, None if weights is None else weights[rows]))

        return self.of_parts(map(predictions, parts(len(split))))

    def _named(self, value):
        if isinstance(value, np.ndarray) and value.ndim:
            return dict(zip(self._names, value.tolist(), strict=True))
        return float(value)


def parts(count: int) -> list[slice]:
    """Return the parts in which `count` samples are measured."""
    return [slice(first, min(first + PART, count)) for first in range(0, count, PART)]


def targets_for(split: Split, network: NetworkLike, loss: Loss | None) -> Split:
    """Return the split with targets as the loss takes them; refuse those that do not fit network and loss."""
    layers = network.layers if raw_range_of(network) is None else network.layers[1:]
    if layers and layers[0].reads_channels:
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


def try_metrics(metrics: Mapping[str, Metric], outputs: Outputs, split: Split, network: NetworkLike) -> None:
    """Refuse a metric that does not fit the outputs and targets, by trying it on two samples before any training."""
    _, target = split.take(slice(0, 2), network.dtype)
    zeros = np.zeros((len(target), *network.output_shape), network.dtype)
    for name, metric in metrics.items():
        try:
            metric.check(outputs)
            with np.errstate(all="ignore"):
                metric.value([metric.part(Predictions(zeros, Targets(target, outputs)))])
        except NnjitError as error:
            raise SpecError(f"metrics: {name} cannot be measured on {split.name}: {error}") from None
