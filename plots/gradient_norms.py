"""gradient_norms.png: the norm of the gradient before clipping, one line per layer in depth order, and the total."""

from pathlib import Path

from . import by_layer
from .run_log import PathLike, RunLog, Runs

NEEDS = "gradient norms in log.jsonl"


def has_data(run: RunLog) -> bool:
    keys = ("gradient_norm", "gradient_norms")
    return any(key in record for record in [*run.steps, *run.epochs] for key in keys)


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the gradient norms, one panel per run, into the file `output`; return its path.

    The total is the norm of the concatenated gradient, so no layer exceeds it (for p >= 1).
    """
    by_layer.draw(
        run_dirs,
        output,
        key="gradient_norms",
        of="steps",
        total="gradient_norm",
        ylabel="gradient norm",
        has_data=has_data,
        needs=NEEDS,
    )
    return Path(output)
