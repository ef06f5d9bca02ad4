"""The errors of a training that diverges."""

import math
from collections.abc import Mapping
from typing import Any

from ..errors import DivergenceError
from ..storage.run_directory import RunDirectory


def not_finite(step: int, epoch: int) -> DivergenceError:
    """Return the error for parameters that are not finite after a step."""
    return DivergenceError(f"theta is not finite after step {step} (epoch {epoch}); choose a smaller learning rate")


def diverged(record: Mapping[str, Any], largest_norm: float, directory: RunDirectory | None) -> DivergenceError:
    """Return the error for a step, from its record, in which loss or gradient is not finite or too large."""
    norms = record["gradient_norms"]
    bad = [name for name, norm in norms.items() if not math.isfinite(norm)]
    where = f"first in the gradient of {bad[-1]}" if bad else "in the loss"
    what = "the loss is not finite" if not math.isfinite(record["loss"]) else "a gradient is not finite"
    if math.isfinite(record["loss"]) and math.isfinite(record["gradient_norm"]):
        where = f"largest in the gradient of {max(norms, key=norms.get)}"
        what = (
            f"the norm of the gradient is above {largest_norm:.1e}, and the squares that the optimizer keeps overflow"
        )
    kept = f"; the last good checkpoint is {directory.path / 'last.safetensors'}" if directory is not None else ""
    return DivergenceError(
        f"{what} at step {record['step']} (epoch {record['epoch']}), {where}; a smaller learning rate or "
        f'clip="norm(max=1)" usually helps{kept}'
    )
