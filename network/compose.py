"""Networks made from specs or from a file."""

import os
from collections.abc import Sequence

from numpy.typing import DTypeLike

from ..data.schema import Schema
from ..errors import CheckpointError, NnjitError, SpecError, UnknownName
from ..layers.scale import MinMax
from ..registry import layers as catalogue
from ..registry.options import SpecLike
from ..registry.specs import split
from ..storage.checkpoint import fill, read
from ..training.fitting import raw_range_of
from .network import Network


def compose(
    layers: str | Sequence[SpecLike],
    input_shape: int | Sequence[int],
    dtype: DTypeLike = "float32",
    device: str = "cpu",
    seed: int = 0,
    precision: str = "float32",
) -> Network:
    """Assemble named layers into a network.

    Parameters
    ----------
    layers : list of specs, or one string with specs separated by white space
        ``"conv(8, 3) relu flatten dense(10)"``, ``["relu", ("dense", {"units": 10})]``, instances.
    input_shape : tuple of int
        Without the batch: ``(C, *spatial)`` or ``(features,)``.
    dtype : "float32" or "float64"
    device : "cpu" or "cuda"
    seed : int
        The seed of the initial parameters.
    precision : "float32", "tf32" or "bf16"
        The precision of matrix products and convolutions on CUDA; see `Network`.

    Raises
    ------
    SpecError, UnknownName, ShapeError, DeviceError
    """
    if isinstance(layers, str):
        layers = split(layers)
    if not isinstance(layers, (list, tuple)) or not layers:
        raise SpecError(f"layers: expected a list of layer specs, got {layers!r}")
    made = []
    for position, spec in enumerate(layers, start=1):
        try:
            made.append(catalogue.create(spec))
        except SpecError as error:
            raise type(error)(f"layer {position}: {error}") from None
    return Network(made, input_shape, dtype=dtype, device=device, seed=seed, precision=precision)


def load(path: str | os.PathLike[str]) -> Network:
    """Load the network saved in a file, or in a run directory (the best, else the last).

    Older versions multiplied bytes by a factor, such as 1/255, outside of the network: then it begins with minmax now.

    Raises
    ------
    CheckpointError
        The file is not a saved network; or a layer comes from a plug-in that is not loaded: loading a file never
        imports code by itself, so the message has the name and the origin of the plug-in.
    """
    tensors, about = read(path)
    try:
        network = compose(**about["network"])
    except UnknownName as error:
        plugins = about.get("plugins") or {}
        missing = [f"{name} (from {where})" for name, where in plugins.items() if name not in catalogue.names()]
        if not missing:
            raise CheckpointError(f"{path}: {error}") from None
        wanted = " ".join(f"--plugin {where}" for where in sorted({plugins[m.split(" ")[0]] for m in missing}))
        raise CheckpointError(
            f"{path}: needs plug-in layers that are not loaded: {', '.join(missing)}; give {wanted}"
        ) from None
    except (NnjitError, TypeError) as error:
        raise CheckpointError(f"{path}: the network in it cannot be composed: {error}") from None
    fill(network, tensors, path)
    if (trained_on := about.get("trained_on")) is not None:
        try:
            network.trained_on = Schema.from_table(trained_on)
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"{path}: what the network was trained on cannot be read") from None
        raw_range = network.trained_on.raw_range
        if raw_range is not None and raw_range_of(network) is None:  # of an older version, see `Schema.from_table`
            return _scaling(network, *raw_range)
    return network


def _scaling(network, low, high):
    """Return a network with ``minmax(low, high)`` before the layers of another one."""
    found = Network([MinMax(low, high), *network.layers], network.input_shape, network.dtype, seed=network.seed)
    found.theta = network.theta
    found.flat_buffers[found.flat_buffers.size - network.flat_buffers.size :] = network.flat_buffers
    found.trained_on = network.trained_on
    return found
