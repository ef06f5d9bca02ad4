"""Checkpoints of a run, "last" and "best": written every `KEEP` seconds, and in between kept in memory."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..program.protocols import NetworkLike
from ..storage.checkpoint import read, tensors_of
from ..storage.run_directory import RunDirectory

KEEP = 4.0  # seconds between two checkpoints; with calls of about trainer.PAUSE a kill loses less than 5 s of training


class Checkpoints:
    """Checkpoints of one run.

    Parameters
    ----------
    network : Network
    directory : RunDirectory or None
        Without one nothing is kept, but the best if it will be restored.
    restores : bool
        The best will be restored at the end.
    """

    def __init__(self, network: NetworkLike, directory: RunDirectory | None, restores: bool = False) -> None:
        self.network, self.directory, self._restores = network, directory, restores
        self._unwritten: dict[str, tuple] = {}  # (tensors, progress) of checkpoints newer than their files
        self._written = time.perf_counter()

    def due_in(self) -> float:
        """Return the seconds until the next checkpoint."""
        return self._written + KEEP - time.perf_counter()

    def due(self) -> bool:
        return self.directory is not None and self.due_in() <= 0

    def keeps(self, name: str) -> bool:
        """Return whether the checkpoint of a name, "best" or "last", is kept."""
        return self.directory is not None or (self._restores and name == "best")

    def save(
        self,
        progress: Mapping[str, Any],
        moments: Sequence[NDArray[Any]],
        best: bool = False,
        epoch_start: NDArray[Any] | None = None,
        statistics: NDArray[Any] | None = None,
    ) -> None:
        """Write the network's state if it is due or within an epoch; else keep a copy until it is due.

        Parameters
        ----------
        progress : dict
        moments : of the optimizer
        best : bool
            The state is the best so far.
        epoch_start : theta at the start of an epoch that has not ended
        statistics : those of batches of each rank, if they differ; see `Shard.gather`
        """
        now = epoch_start is not None or self.due()
        keep = (lambda arrays: arrays) if now else (lambda arrays: {name: a.copy() for name, a in arrays.items()})
        if best and self.keeps("best"):
            self._unwritten["best"] = keep(tensors_of(self.network)), dict(progress)
        if self.keeps("last"):
            tensors = tensors_of(self.network, moments, epoch_start)
            tensors |= {} if statistics is None else {"ranks:statistics": statistics}
            self._unwritten["last"] = keep(tensors), dict(progress)
        if now:
            self.write()

    def keep(
        self,
        name: str,
        progress: Mapping[str, Any],
        vectors: tuple[NDArray[Any], NDArray[Any]],
        moments: Sequence[NDArray[Any]] = (),
    ) -> None:
        """Keep a state of the past, theta and the buffers in `vectors`, until it is due."""
        if self.keeps(name):
            self._unwritten[name] = tensors_of(self.network, moments, vectors=vectors), dict(progress)

    def best(self) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]] | None:
        """Return tensors and progress of the best checkpoint, in memory or from its file; None if there is none."""
        file = self.directory.path / "best.safetensors" if self.directory is not None else None
        if "best" in self._unwritten or file is None or not file.exists():
            return self._unwritten.get("best")
        tensors, about = read(file)
        return tensors, about["progress"]

    def write(self) -> None:
        """Write checkpoints newer than their files; the best first: a resume from the former last writes it again."""
        for name in ("best", "last"):
            if self.directory is not None and name in self._unwritten:
                self.directory.checkpoint(name, self.network, *self._unwritten[name])
                del self._unwritten[name]
        self._written = time.perf_counter()
