"""The result of a certification: a table of verdicts and a sentence for each failure."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Column -> the question it answers.
COLUMNS = {
    "gradient": "derivatives equal central differences, in float64",
    "taylor": "the Taylor remainder falls with slope 2",
    "jvp": "in prediction jvp, vjp and central differences agree: <dy, J dx> = <J^T dy, dx>",
    "reference": "compiled kernels equal the reference, in float32 and float64",
    "cuda": "kernels on CUDA equal the reference, where there is a GPU or Numba's simulator",
    "threads": "divided loops and blocks of samples give the same bits",
    "shapes": "odd and tiny shapes, a batch of one, input that is not contiguous",
    "writes": "outputs are written whole and not added to, nothing else is changed",
    "float32": "no float64 inside a float32 kernel",
    "extremes": "large, tiny and mixed numbers give right results in float32, or NaN where there is none",
    "races": "no iteration of a loop touches an element that another writes",
}


@dataclass
class Row:
    """The verdicts on one layer, loss, optimizer or schedule.

    Attributes
    ----------
    name : str
        Its registered name, or its spec.
    kind : str
        "layer", "loss", "optimizer" or "schedule".
    failures : dict
        Column -> list of sentences.
    asked : set of str
        Columns with an answer; a layer without kernels has no races to find.
    steps, remainder : ndarray or None
        Steps and remainders of the Taylor check whose slope is farthest from 2.
    slope : float
        Slope of that check; NaN if the cost has no curvature.
    derivatives, kinks : int
        Number of derivatives compared, and number of these that lie at a kink and were skipped.
    notes : list of str
        Remarks that are not failures.
    """

    name: str
    kind: str = "layer"
    failures: dict[str, list[str]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    steps: NDArray[Any] | None = None
    remainder: NDArray[Any] | None = None
    slope: float = float("nan")
    derivatives: int = 0
    kinks: int = 0
    notes: list[str] = field(default_factory=list)
    _failed_parts: set[tuple[str, str]] = field(default_factory=set)

    def answer(self, column: str, place: str, part: str, sentence: str | None = None) -> None:
        """Record the answer to a column's question about a part (a kernel, an array) of the layer.

        No sentence means success. Only the first failure of a part is kept: other cases repeat it.
        """
        self.asked.add(column)
        if sentence is not None and (column, part) not in self._failed_parts:
            self._failed_parts.add((column, part))
            self.failures.setdefault(column, []).append(": ".join(filter(None, (place, part, sentence))))

    def verdict(self, column: str) -> str:
        """Return "PASS", "FAIL" or "-"."""
        if column in self.failures:
            return "FAIL"
        return "PASS" if column in self.asked else "-"

    @property
    def failed(self) -> bool:
        return bool(self.failures)

    def cell(self, column: str) -> str:
        """Return the verdict as the table shows it; the Taylor column has the slope too."""
        verdict = self.verdict(column)
        return f"{verdict} {self.slope:.2f}" if column == "taylor" and np.isfinite(self.slope) else verdict


@dataclass
class Report:
    """Verdicts on layers, losses, optimizers and schedules, in the order in which they were certified.

    Attributes
    ----------
    rows : list of Row
    """

    rows: list[Row] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if any of them failed any question."""
        return any(row.failed for row in self.rows)

    @property
    def messages(self) -> list[str]:
        """One sentence for each failure."""
        return [text for row in self.rows for texts in row.failures.values() for text in texts]

    @property
    def notes(self) -> list[str]:
        return [text for row in self.rows for text in row.notes]

    @property
    def remainders(self) -> dict[str, tuple[Any, Any, float]]:
        """Map each name to (steps, remainder, slope) of its Taylor check, for `plots.taylor.draw`."""
        return {r.name: (r.steps, r.remainder, r.slope) for r in self.rows if r.remainder is not None}

    def table(self) -> str:
        """Return plain aligned text: a table for each kind, with a row for each name, then failures and notes."""
        lines: list[str] = []
        for kind in dict.fromkeys(row.kind for row in self.rows):
            rows = [row for row in self.rows if row.kind == kind]
            columns = [c for c in COLUMNS if kind == "layer" or any(row.verdict(c) != "-" for row in rows)]
            head = [kind, *columns]
            body = [[row.name, *map(row.cell, columns)] for row in rows]
            widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
            lines += [""] if lines else []
            lines += [
                "  ".join(cell.ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()
                for cells in [head, *body]
            ]
        if self.messages or self.notes:
            lines += ["", *self.messages, *self.notes]
        return "\n".join(lines)
