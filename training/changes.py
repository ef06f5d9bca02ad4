"""How far the parameters of every layer moved: ||theta_end - theta_start|| / ||theta_start||, epoch by epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..program.norms import lp_norm

SAFE = 1e-280, 1e300  # a sum of squares between has lost nothing, neither to overflow nor to small terms


def update_ratios(
    starts: NDArray[Any], ends: NDArray[Any], segments: Sequence[tuple[str, int, int]]
) -> list[dict[str, float | None]]:
    """Return the ratio by layer for every epoch; None for a layer whose parameters were all 0.

    Parameters
    ----------
    starts, ends : (epochs, S)
        Theta at the beginning and at the end of every epoch.
    segments : (name, first, after the last) of every layer
    """
    ratios: list[dict[str, float | None]] = [{} for _ in starts]
    for name, lo, hi in segments:
        begin, end = starts[:, lo:hi], ends[:, lo:hi]
        sizes, moves = row_norms(begin), row_norms(np.subtract(end, begin, dtype=np.float64))
        for ratio, moved, size in zip(ratios, moves, sizes, strict=True):
            ratio[name] = moved / size if size else None
    return ratios


def row_norms(x: NDArray[Any]) -> list[float]:
    """Return ||row||_2 of every row, summed in float64.

    Not by NumPy's norm: it wakes the threads of BLAS, which then spin beside those of the program, and which a fork may
    freeze.
    """
    wide = x.astype(np.float64, "C", copy=False)
    sums = np.einsum("ij,ij->i", wide, wide).tolist()  # an overflow here makes no warning
    return [
        total**0.5 if SAFE[0] < total < SAFE[1] else lp_norm(row) for row, total in zip(wide, sums, strict=True)
    ]  # fmt: skip
