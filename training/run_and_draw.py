"""A training with a run directory, and its pictures."""

from ..errors import DivergenceError
from ..storage.run_directory import RunDirectory
from .history import History
from .trainer import Trainer


def run_and_draw(trainer: Trainer, directory: RunDirectory) -> History:
    """Train, and draw loss and gradient norms into the run directory, even if training diverges."""
    try:
        history = trainer.run(directory)
    except DivergenceError:
        _draw(directory.path, trainer.history)
        raise
    _draw(directory.path, history)
    return history


def _draw(path, history):
    from ..plots import picture  # for the start of processes that only predict
    from ..plots.run_log import RunLog

    # The records of the log; to read the log takes a quarter of the time of a run of very short epochs.
    log = RunLog(path, path.resolve().name, history.steps, history.epochs)
    for name in ("loss", "gradient_norms"):
        if picture(name).has_data(log):
            picture(name).draw([log], path / f"{name}.png")
