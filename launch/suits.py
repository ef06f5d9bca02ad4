"""Checks that layers and a loss suit the data of a run; a problem names the option that does."""

from collections.abc import Sequence

from ..data.split import Dataset
from ..layers.base import Layer
from ..program.graph import Graph
from ..registry import losses
from ..training.losses import Loss
from ..training.spec_check import Problems, check_shapes


def graph_for(layers: Sequence[Layer], dataset: Dataset, loss: Loss, problems: Problems) -> Graph | None:
    """Return the graph of layers for a data set; None if shapes do not fit.

    Problems name the way out: layers for rows where others were given, a loss of values for values.
    """
    shape = tuple(dataset.input_shape)
    suits = loss_suits(loss, dataset, problems)
    graph = check_shapes(layers, shape, loss if suits else None, problems)
    if graph is None and len(shape) == 1:
        outputs = dataset.classes or dataset.train.y[0].size
        problems[-1] += (
            f"; a sample of {dataset.train.name} is a row of {shape[0]} numbers, which --layers "
            f'"dense(32) relu dense({outputs})" takes'
        )
    return graph


def loss_suits(loss: Loss, dataset: Dataset, problems: Problems) -> bool:
    """Tell whether the targets are of the kind that a loss takes: classes, or values."""
    y, name = dataset.train.y, losses.name_of(type(loss))
    takes_labels = loss.classification or loss.forward_labels is not None or type(loss).targets is not Loss.targets
    if y.ndim == 1 and not takes_labels:
        numbers = "; target='value' makes them numbers to predict" if dataset.encoding is not None else ""
        problems.add(
            "training.loss",
            f"{name} is a loss of values, but the targets of {dataset.train.name} are classes; --loss cross_entropy "
            f"takes them{numbers}",
        )
        return False
    if y.ndim == 1 or not loss.classification:
        return True
    least, largest = float(y.min()), float(y.max())
    if least >= 0 and largest <= 1 and (loss.independent or y[0].size > 1):
        return True
    problems.add(
        "training.loss",
        f"{name} is a loss of classes, but the targets of {dataset.train.name} are values from {least:.4g} to "
        f"{largest:.4g}; --loss mse takes them",
    )
    return False
