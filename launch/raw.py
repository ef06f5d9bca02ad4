"""The default of a run on raw numbers of a known range, such as pixels: a layer that scales them."""

from dataclasses import replace

from ..data.split import Dataset
from ..layers.scale import MinMax, Scale
from ..training.config import Resolved
from ..training.spec_check import Problems
from .suits import graph_for


def for_raw(resolved: Resolved, dataset: Dataset, source_name: str = "") -> Resolved:
    """Return the config with ``minmax(low, high)`` as its first layer if the data set knows the range of its numbers.

    Unchanged if ``model.scale`` is "off", or if a layer scales already.

    Raises
    ------
    SpecError
        The layers of the config do not fit the data; the message has the path in the config.
    """
    model, scales = resolved.config.model, any(layer.fitted_to or isinstance(layer, Scale) for layer in resolved.layers)
    if dataset.raw_range is None or model.scale != "auto" or scales:
        return resolved
    problems = Problems()
    graph_for(resolved.layers, dataset, resolved.settings.loss, problems)  # before the places of layers change
    problems.report(source_name)
    layers = [MinMax(*dataset.raw_range), *resolved.layers]
    model = model.model_copy(update={"layers": [layer.spec() for layer in layers]})
    config = resolved.config.model_copy(update={"model": model})
    return replace(resolved, config=config, layers=layers, graph=None)
