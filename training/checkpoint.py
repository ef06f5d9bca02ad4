"""Networks on disk: safetensors files, written so that a crash at any moment leaves the old file or the new one.

Tensors: every parameter by its name, buffers as ``buffer:<name>``, moments of the update rule as ``moment:<k>``. The
metadata entry ``nnjit`` is JSON: how to compose the network again, which plug-ins it needs, what it was trained on (see
`data.schema`; missing in older files), and where training stood.
"""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..data.schema import Schema
from ..errors import CheckpointError, NnjitError, UnknownName
from ..registry import compose
from ..registry import layers as catalogue

FORMAT = 1


@contextmanager
def atomic(path):
    """A temporary file beside `path` to write to; it takes the name, complete and on disk, when the block ends."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder):
    """Make a rename in this folder last through a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(network, path, moments=(), progress=None):
    """Write a network, and with `moments` and `progress` what training needs to continue.

    Parameters
    ----------
    network : Network
    path : path of the safetensors file; its folder must exist
    moments : sequence of ndarray (S,)
    progress : dict that JSON can hold
    """
    from safetensors.numpy import save as serialize

    tensors = {name: np.ascontiguousarray(array) for name, array in network.parameters.items()}
    tensors |= {f"buffer:{name}": np.ascontiguousarray(array) for name, array in network.buffers.items()}
    tensors |= {f"moment:{k}": np.ascontiguousarray(m) for k, m in enumerate(moments)}
    description = network.description()
    about = {
        "format": FORMAT,
        "network": {k: description[k] for k in ("layers", "input_shape", "dtype", "seed")},
        "plugins": {name: p for name in description["names"] if (p := catalogue.plugin_of(name))},
        "trained_on": network.trained_on and network.trained_on.table(),
        "progress": progress or {},
    }
    with atomic(path) as file:
        file.write(serialize(tensors, {"nnjit": json.dumps(about)}))


def read(path):
    """Tensors and description of a saved network; CheckpointError if it is none."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        path = next((path / f for f in ("best.safetensors", "last.safetensors") if (path / f).exists()), path)
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a saved network (.safetensors) or a run directory that holds one")
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get("nnjit", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from None
    if not isinstance(about, dict) or "network" not in about:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one that nnjit wrote (no nnjit entry in its metadata)"
        )
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {about.get('format')}, this nnjit reads format {FORMAT}")
    return tensors, about


def load(path):
    """The network saved in a file, or in a run directory (the best, else the last).

    Raises
    ------
    CheckpointError
        Not a saved network; or a layer comes from a plug-in that is not loaded (its name and where it came from are
        given: loading a file never imports code by itself).
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
    return network


def fill(network, tensors, path):
    """Copy saved parameters and buffers into a network."""
    wanted = dict(network.parameters) | {f"buffer:{name}": array for name, array in network.buffers.items()}
    for name, array in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != array.shape or found.dtype != array.dtype:
            came = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise CheckpointError(f"{path}: {name} should be {array.dtype} {array.shape}, the file holds {came}")
        array[...] = found
