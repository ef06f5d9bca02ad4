"""Loss and metrics of a network on data."""

from collections.abc import Callable, Iterable, Mapping
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
from . import metrics as metric_functions
from .fitting import units_of
from .losses import Loss, check_labels

IN_MEMORY = 2**30  # largest data set in bytes that is converted at once; a larger one is converted part by part
PART = 4096  # samples that are measured at once
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
    if made is not None and (units := units_of(net, made)) is not None:
        functions = {"scaled_loss": units.loss(MeanLoss(made, net.output_shape, split.y.shape[1:])), **functions}
    found = Measures(made, functions, net.output_shape, split.y.shape[1:]).of(net._apply, split, net.dtype)
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

    def __call__(self, y: NDArray[Any], target: NDArray[Any]) -> float:
        dispatcher, arguments, shapes = self._kernel
        arrays = {"y": y, "target": target, "loss": np.empty(len(y))}
        for name, shape in shapes.items():
            arrays[name] = arrays[name].astype(self._dtypes[name], "C", copy=False).reshape(shape)
        dispatcher(*[arrays[each.flat] if isinstance(each, Slot) else each for each in arguments], 0, 1)
        return float(np.add.reduce(arrays["loss"]) / len(y))


class Measures:
    """Mean loss, metrics and confusion matrix (of a classifier) over a data set."""

    def __init__(
        self,
        loss: Loss | None,
        metrics: Mapping[str, Callable[[Any, Any], float]],
        output_shape: tuple[int, ...],
        target_shape: tuple[int, ...],
    ) -> None:
        self.functions = dict(metrics)
        if loss is not None:
            self.functions = {"loss": MeanLoss(loss, output_shape, target_shape), **metrics}
        one_class = loss is not None and loss.classification and (output_shape == (1,) or not loss.independent)
        self._confuses = one_class and len(output_shape) == 1 and output_shape[0] <= CONFUSED

    def means(self, outputs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, Any]:
        """Return means by name, and "confusion", of outputs and targets that come in parts."""
        sums, count, confusion = dict.fromkeys(self.functions, 0.0), 0, None
        for y, target in outputs:
            for name, function in self.functions.items():
                sums[name] += function(y, target) * len(y)
            count += len(y)
            if self._confuses:
                part = metric_functions.confusion_matrix(y, target)
                confusion = part if confusion is None else confusion + part
        means = {name: value / count for name, value in sums.items()}
        return means if confusion is None else means | {"confusion": confusion.tolist()}

    def of(
        self, predict: Callable[[NDArray[Any]], NDArray[Any]], split: Split | InMemory, dtype: np.dtype
    ) -> dict[str, Any]:
        """Return the mean loss and metrics of `predict` over a split."""
        taken = (split.take(rows, dtype) for rows in parts(len(split)))
        return self.means((predict(x), target) for x, target in taken)


def parts(count: int) -> list[slice]:
    """Return the parts in which `count` samples are measured."""
    return [slice(first, min(first + PART, count)) for first in range(0, count, PART)]


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
