"""How far the parameters of every layer moved: ||theta_end - theta_start|| / ||theta_start||, epoch by epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    scratch = np.empty((len(starts), max(hi - lo for _, lo, hi in segments)))
    ratios: list[dict[str, float | None]] = [{} for _ in starts]
    for name, lo, hi in segments:
        numbers = scratch.reshape(-1)[: len(starts) * (hi - lo)].reshape(len(starts), hi - lo)
        numbers[...] = starts[:, lo:hi]
        sizes = row_norms(numbers)
        np.subtract(ends[:, lo:hi], starts[:, lo:hi], out=numbers, dtype=np.float64)
        for ratio, moved, size in zip(ratios, row_norms(numbers), sizes, strict=True):
            ratio[name] = moved / size if size else None
    return ratios


def row_norms(x: NDArray[np.float64]) -> list[float]:
    """Return ||row||_2 of every row, with the bits of `lp_norm`; overwrite x.

    Not by NumPy's norm: it wakes the threads of BLAS, which then spin beside those of the program, and which a fork may
    freeze. In place, since fresh memory costs more than the arithmetic.
    """
    np.abs(x, out=x)
    largest = x.max(axis=1, initial=0.0)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(x, scale[:, None], out=x)
        sums = np.square(x, out=x).sum(axis=1)
    return [
        most * total**0.5 if 0 < most < np.inf else most
        for most, total in zip(largest.tolist(), sums.tolist(), strict=True)
    ]
