"""Defaults that a run takes from its data: layers, a loss and epochs for a table, and layers that scale.

Layers that scale are added under ``model.scale = "auto"``, unless the layers of the config have one that does.
"""

from dataclasses import replace
from math import prod
from typing import Any

from ..data.split import Dataset
from ..layers.scale import MinMax, Scale
from ..registry import layers as catalogue
from ..registry import losses
from ..training.config import Resolved
from ..training.fitting import unread_codes
from ..training.spec_check import Problems
from .suits import graph_for

# The network for a table, before dense(classes or targets). A table is small: with the larger weights that relu gets
# elsewhere (He) the network fits its noise sooner. Measured: R2 on scikit-learn's diabetes 0.40 instead of 0.47.
HIDDEN = ("dense(64, init='glorot')", "relu", "dense(64, init='glorot')", "relu")

# Steps that a table trains at least: with the default of 10 epochs iris has 40, accuracy 0.90 instead of 0.95; with 450
# R2 on diabetes falls from 0.44 to 0.28 (two seeds by five folds).
STEPS = 150


def complete(resolved: Resolved, dataset: Dataset, source_name: str = "") -> Resolved:
    """Return the config with what the data set needs and the user did not choose.

    For a table without ``model.layers`` the network is `HIDDEN` and a dense layer with an output for each class or
    target, behind an embedding if the table has codes; without ``training.loss`` the loss of values is mse, and without
    ``training.epochs`` there are `STEPS` steps at least. The first layer is standardize, if the table has numbers, and
    the last one, behind a layer with parameters whose loss is one of values, is unstandardize. For other data that
    knows the range of its numbers, such as pixels, the first layer is ``minmax(low, high)``; for images of another
    depth it is ``minmax``, fitted to the training images.

    Raises
    ------
    SpecError
        The layers of the config do not fit the data; the message has the path in the config.
    """
    scales = any(layer.fitted_to or isinstance(layer, Scale) for layer in resolved.layers)
    add = resolved.config.model.scale == "auto" and not scales
    if dataset.columns is not None:
        return _for_table(resolved, dataset, source_name, add)
    if not add or (dataset.raw_range is None and not dataset.depth):
        return resolved
    problems = Problems()
    graph_for(resolved.layers, dataset, resolved.settings.loss, problems)  # before the places of layers change
    problems.report(source_name)
    return _with_layers(resolved, [MinMax(*dataset.raw_range or ()), *resolved.layers])


def _for_table(resolved, dataset, source_name, add):
    training, settings = resolved.config.training, resolved.settings
    values = dataset.train.y.ndim > 1
    if values and "training.loss" not in resolved.given:
        settings = replace(settings, loss=losses.create("mse"))
        training = training.model_copy(update={"loss": settings.loss.spec()})
    if "training.epochs" not in resolved.given:
        rows = len(dataset.train)
        batches = -(-rows // min(settings.batch_size or rows, rows))
        settings = replace(settings, epochs=max(settings.epochs, -(-STEPS // batches)))
        training = training.model_copy(update={"epochs": settings.epochs})
    layers: list[Any] = list(resolved.layers)
    if "model.layers" in resolved.given:
        problems = Problems()
        graph = graph_for(layers, dataset, settings.loss, problems)  # before the places of layers change
        if graph is not None and (wrong := unread_codes(graph, dataset.encoding)):
            problems.add("model.layers", wrong)
        problems.report(source_name)
    else:
        outputs = prod(dataset.train.y.shape[1:]) if values else dataset.classes
        layers = [catalogue.create(spec) for spec in (*HIDDEN, f"dense({outputs})")]
        if codes := {} if dataset.encoding is None else dataset.encoding.codes:
            layers.insert(0, catalogue.create(("embedding", {"columns": [*codes], "counts": [*codes.values()]})))
    if add:
        if dataset.encoding is None or any(dataset.encoding.numbers):
            layers.insert(0, catalogue.create("standardize"))
        if values and not settings.loss.classification and type(layers[-1]).gradients():
            layers.append(catalogue.create("unstandardize"))
    config = resolved.config.model_copy(update={"training": training})
    return _with_layers(replace(resolved, config=config, settings=settings), layers)


def _with_layers(resolved, layers):
    model = resolved.config.model.model_copy(update={"layers": [layer.spec() for layer in layers]})
    config = resolved.config.model_copy(update={"model": model})
    return replace(resolved, config=config, layers=layers, graph=None)
