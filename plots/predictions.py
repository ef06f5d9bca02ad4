"""Read the predictions of a run, `predictions.safetensors`, which `training/predicted.py` describes."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .run_log import RunLog
from .theme import plain

FILE = "predictions.safetensors"


class Predictions(NamedTuple):
    """The predictions of the best parameters of a run for the validation set, or without one for the training data.

    Attributes
    ----------
    tensors : dict of ndarray
        ``true`` and ``predicted``, and what else was saved; read when it is asked for.
    kind : "classes", "labels" or "values"
    about : dict
        ``data``, ``samples``, ``epoch``, ``confidence``, and names: ``classes``, ``targets``, ``inputs``.
    """

    tensors: Mapping[str, NDArray[Any]]
    kind: str
    about: Mapping[str, Any]

    def names(self, of: str, count: int) -> list[str]:
        """Return the names of classes, targets or inputs; their numbers if they have none, or others."""
        found = self.about.get(of)
        if not isinstance(found, list) or len(found) != count:
            letter = {"classes": "", "targets": "target ", "inputs": "input "}[of]
            return [f"{letter}{k}" for k in (range(count) if of == "classes" else range(1, count + 1))]
        return [plain(name, 20) for name in found]

    def measured(self) -> str:
        """Return what was predicted, such as "360 validation samples, epoch 5"."""
        kept, samples = len(self.tensors["true"]), self.about.get("samples")
        some = f" of {samples:,}" if isinstance(samples, int) and samples > kept else ""
        return f"{kept:,}{some} {self.about.get('data', '')} samples, epoch {self.about.get('epoch', '?')}"


def read(run: RunLog) -> Predictions | None:
    """Return the predictions of a run; None if it saved none.

    Raises
    ------
    DataError
        The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = run.directory / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {})["nnjit"])
            tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 (not a dict)
        kind = about["kind"]
        if len(tensors["true"]) != len(tensors["predicted"]) or not len(tensors["true"]):
            raise ValueError("no samples")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected saved predictions, but they cannot be read ({error})") from None
    return Predictions(tensors, kind, about)
