"""The program's log of its steps, as records."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.counters import ROWS
from ..program.program import Program

LOGGED = 2000  # most step records of a run; with more steps, every k-th is logged


class ProgramLog:
    """The last rows of a program's log, a row for each step of a training of `steps` steps.

    Attributes
    ----------
    ring : (rows, width)
        The log, which begins again after its last row.
    """

    def __init__(self, program: Program, steps: int) -> None:
        self.counters, self.names = program.state.counters, program.layer_names
        rows, width = program.plan.log.rows, program.plan.log.width
        self.ring = program.state.log[: rows * width].reshape(rows, width)
        self._every = max(1, -(-steps // LOGGED))

    @property
    def row(self) -> int:
        """The number of the next row."""
        return int(self.counters[ROWS])

    def rows(self, first: int, steps: int) -> NDArray[np.float64]:
        """Return the rows (steps, width) from a row on."""
        return self.ring[np.arange(first, first + steps) % len(self.ring)]

    def latest(self, steps: int) -> NDArray[np.float64]:
        """Return the rows of the latest steps."""
        return self.rows(self.row - steps, steps)

    def norms(self, steps: int) -> NDArray[np.float64]:
        """Return the gradient norms (steps, layers) of the latest steps, or of those that there are."""
        return self.latest(min(steps, self.row, len(self.ring)))[:, 3:]

    def record(self, epoch: int, step: int, seconds: float, row: NDArray[np.float64]) -> dict[str, Any]:
        """Return the record of a step from its row."""
        loss, rate, total, *layers = row.tolist()
        return {
            "epoch": epoch, "step": step, "seconds": round(seconds, 4), "loss": loss, "lr": rate,
            "gradient_norm": total, "gradient_norms": dict(zip(self.names, layers, strict=True)),
        }  # fmt: skip

    def records(self, epoch: int, before: int, seconds: float, rows: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Return the records of those steps after step `before` that are logged, from the rows of all."""
        chosen = range(-before % self._every, len(rows), self._every)
        return [self.record(epoch, before + k + 1, seconds, rows[k]) for k in chosen]
