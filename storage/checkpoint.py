"""Networks on disk: safetensors files, written so that a crash at any moment leaves the old file or the new one.

Tensors: every parameter by its name, buffers as ``buffer:<name>``, moments of the update rule as ``moment:<k>``. Within
an epoch there is also theta at its beginning, ``epoch:theta``, and, of ranks that normalise their shares alone, the
statistics of each as a row of ``ranks:statistics``. The metadata entry ``nnjit`` is JSON: the description that composes
the network, its plug-ins, the schema of its training data (see `data.schema`; missing in older files), and the progress
of training.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError, UsageError
from ..program.protocols import NetworkLike
from ..registry import layers as catalogue

FORMAT = 1  # version of the metadata


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path`; when the block ends, the file is on disk and takes the name `path`.

    A symbolic link stays: its target is written.

    Raises
    ------
    UsageError : the folder is missing, or `path` is a directory, a device or a pipe.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    mode = _mode(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush a folder to disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode(path):
    """Return the permissions for a new file at `path`: those of the file it replaces, else those that umask gives."""
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}") from None
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
    except OSError as error:  # a loop of links, a file in place of a folder
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
    if not stat.S_ISREG(found):
        kind = "a directory" if stat.S_ISDIR(found) else "a pipe" if stat.S_ISFIFO(found) else "a device or socket"
        raise UsageError(f"{path} is {kind}, not a file that can be replaced; choose another name")
    return stat.S_IMODE(found)


def tensors_of(
    network: NetworkLike,
    moments: Sequence[NDArray[Any]] = (),
    epoch_theta: NDArray[Any] | None = None,
    vectors: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return the tensors of a network that a file holds, by name: views, not copies.

    Parameters
    ----------
    network : Network
    moments : sequence of ndarray (S,)
    epoch_theta : ndarray (S,) or None
        Theta at the beginning of an unfinished epoch.
    vectors : (theta, buffers) or None
        Earlier values of the network's vectors; None means those now.
    """
    parameters, buffers = network.parameters, network.buffers
    if vectors is not None:
        parameters, buffers = _views(network, "parameters", vectors[0]), _views(network, "buffers", vectors[1])
    tensors = dict(parameters) | {f"buffer:{name}": array for name, array in buffers.items()}
    tensors |= {f"moment:{k}": moment for k, moment in enumerate(moments)}
    return tensors if epoch_theta is None else tensors | {"epoch:theta": epoch_theta}


def _views(network, what, flat):
    """Return the parameters or buffers by name, as views into a vector."""
    return {
        f"{node.name}.{key}": flat[first : first + each.size].reshape(each.shape)
        for node in network.graph.nodes
        for key, (first, each) in getattr(node, what).items()
        if each.size
    }


def save(
    network: NetworkLike,
    path: str | os.PathLike[str],
    tensors: Mapping[str, NDArray[Any]] | None = None,
    progress: Mapping[str, Any] | None = None,
) -> None:
    """Write a network and the progress of its training.

    Parameters
    ----------
    network : Network
    path : path of the safetensors file; its folder must exist
    tensors : dict or None
        The result of `tensors_of`, now or earlier; None means parameters and buffers now.
    progress : dict that JSON can hold

    Raises
    ------
    UsageError : the path cannot be written, see `atomic`.
    """
    from safetensors.numpy import save as serialize

    tensors = tensors_of(network) if tensors is None else tensors
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
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


def read(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read tensors and description of a saved network; raise CheckpointError for any other file."""
    from safetensors import SafetensorError, safe_open

    path = chosen = _chosen(path)
    if not chosen.is_file():
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


def _chosen(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path means: itself, or in a run directory the best checkpoint, else the last."""
    path = Path(path)
    if path.is_dir():
        return next((path / f for f in ("best.safetensors", "last.safetensors") if (path / f).exists()), path)
    return path


def label(path: str | os.PathLike[str]) -> str:
    """Name the file that `load` reads, and the epoch of its checkpoint: "best.safetensors (epoch 7)"."""
    file = _chosen(path)
    return f"{file.name}{when(read(file)[1].get('progress'))}"


def when(progress: Mapping[str, Any] | None) -> str:
    """Return the epoch of a checkpoint from its progress: " (epoch 7)"; "" for a network without training."""
    if not progress:
        return ""
    within = f" and {progress['done']} steps" if progress["done"] else ""
    return f" (epoch {progress['epoch']}{within})"


def fill(network: NetworkLike, tensors: Mapping[str, NDArray[Any]], path: object) -> None:
    """Copy saved parameters and buffers into a network."""
    wanted = dict(network.parameters) | {f"buffer:{name}": array for name, array in network.buffers.items()}
    for name, array in wanted.items():
        found = tensors.get(name)
        if found is None or found.shape != array.shape or found.dtype != array.dtype:
            came = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise CheckpointError(f"{path}: {name} should be {array.dtype} {array.shape}, the file holds {came}")
        array[...] = found
