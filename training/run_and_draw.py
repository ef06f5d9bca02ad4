"""A training with a run directory, its predictions, and its pictures."""

from pathlib import Path

from ..errors import DivergenceError
from ..storage.run_directory import RunDirectory
from .history import History
from .predicted import mistakes, predicted
from .trainer import Trainer


def run_and_draw(trainer: Trainer, directory: RunDirectory, pictures: bool = True) -> History:
    """Train, then save predictions and draw what fits the task into the run directory, even if training diverges.

    Without `pictures` nothing is drawn; `nnjit plot` can do it later.
    """
    try:
        history = trainer.run(directory)
    except DivergenceError:
        if pictures:
            _draw(directory.path, trainer.history)
        raise
    found = predicted(trainer)
    if found is not None:
        history.written.append(directory.record_predictions(*found))
        history.written += directory.record_mistakes(mistakes(trainer, found[0]))
    if pictures:
        _draw(directory.path, history)
    return history


def draw_together(path: Path) -> list[Path]:
    """Draw losses and metrics of the runs in a directory, with mean and deviation; return the files."""
    from ..plots import picture
    from ..plots.run_log import expand

    logs = expand(path)
    chosen = [name for name in ("loss", "metrics") if any(map(picture(name).has_data, logs))]
    return [picture(name).draw(logs, path / f"{name}.png") for name in chosen]


def _draw(path, history):
    from ..plots import AT_THE_END, picture  # for the start of processes that only predict
    from ..plots.run_log import RunLog

    # The records of the log; to read the log takes a quarter of the time of a run of very short epochs.
    log = RunLog(path, path.resolve().name, history.steps, history.epochs)
    fitting = [name for name in AT_THE_END if picture(name).has_data(log)]
    if "plane" in fitting:
        fitting = [name for name in fitting if name != "confusion"]  # the plane shows it
    for name in fitting:
        history.written.append(picture(name).draw([log], path / f"{name}.png"))
