"""From specs to a network."""

from ..errors import SpecError
from ..network.network import Network
from . import layers as catalogue


def compose(layers, input_shape, dtype="float32", device="cpu", seed=0, precision="float32"):
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
        Of the initial parameters.
    precision : "float32", "tf32" or "bf16"
        Of matrix products and convolutions on CUDA; see `Network`.

    Raises
    ------
    SpecError, UnknownName, ShapeError, DeviceError
    """
    if isinstance(layers, str):
        from .specs import split

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
