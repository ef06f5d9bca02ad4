"""How far the parameters of every layer moved: ||theta_end - theta_start|| / ||theta_start||, epoch by epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def room(epochs: int, segments: Sequence[tuple[str, int, int]]) -> NDArray[np.float64]:
    """Return scratch for `update_ratios`: fresh memory would cost as much as the arithmetic."""
    return np.empty(epochs * max(hi - lo for _, lo, hi in segments))


def update_ratios(
    starts: NDArray[Any],
    ends: NDArray[Any],
    segments: Sequence[tuple[str, int, int]],
    scratch: NDArray[np.float64],
) -> list[dict[str, float | None]]:
    """Return the ratio by layer for every epoch; None for a layer whose parameters were all 0.

    Parameters
    ----------
    starts, ends : (epochs, S)
        Theta at the beginning and at the end of every epoch.
    segments : (name, first, after the last) of every layer
    scratch : as `room` makes it, for at least as many epochs
    """
    ratios: list[dict[str, float | None]] = [{} for _ in starts]
    for name, lo, hi in segments:
        numbers = scratch[: len(starts) * (hi - lo)].reshape(len(starts), hi - lo)
        sizes = row_norms(starts[:, lo:hi], numbers)
        np.subtract(ends[:, lo:hi], starts[:, lo:hi], out=numbers, dtype=np.float64)
        for ratio, moved, size in zip(ratios, row_norms(numbers, numbers), sizes, strict=True):
            ratio[name] = moved / size if size else None
    return ratios


def row_norms(x: NDArray[Any], scratch: NDArray[np.float64]) -> list[float]:
    """Return ||row||_2 of every row, with the bits of `lp_norm`; overwrite `scratch`, of x's shape, which may be x.

    Not by NumPy's norm: it wakes the threads of BLAS, which then spin beside those of the program, and which a fork may
    freeze.
    """
    largest = np.maximum(x.max(axis=1), -x.min(axis=1)).astype(np.float64)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(x, scale[:, None], out=scratch)
        sums = np.square(scratch, out=scratch).sum(axis=1)
    return [
        most * total**0.5 if 0 < most < np.inf else most
        for most, total in zip(largest.tolist(), sums.tolist(), strict=True)
    ]
