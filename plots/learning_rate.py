"""learning_rate.png: the learning rate by step and epoch."""

from pathlib import Path

from . import several
from .run_log import PathLike, RunLog, Runs, read_all
from .series import wants_log
from .theme import epochs_on_top, legend, log_scale, page, plain, whole_numbers

NEEDS = "lr in the lines of log.jsonl"


def has_data(run: RunLog) -> bool:
    return len(_rates(run)[0]) > 0


def _rates(run):
    """Return (step, learning rate) of the steps, or of the epochs if no step has one."""
    steps = run.series("lr")
    return steps if len(steps[0]) else run.series("lr", of="epochs")


def draw(run_dirs: Runs, output: PathLike) -> Path:
    """Draw the learning rates of one or more runs into the file `output`; return its path."""
    runs = read_all(run_dirs, has_data, NEEDS)
    with page(output, 6.4, 3.2) as figure:
        axes = figure.add_subplot()
        shown = several.shown(runs)
        lines = [several.paint(axes, one, [_rates(one.runs[0])], "learning rate") for one in shown]
        if wants_log(*(_rates(run)[1] for run in runs)):
            log_scale(axes)
        axes.set_xlabel("step")
        axes.set_ylabel("learning rate")
        whole_numbers(axes.xaxis)
        each = {run.steps_per_epoch for run in runs}
        epochs_on_top(axes, each.pop() if len(each) == 1 else None)
        if len(runs) == 1:
            axes.set_title(plain(runs[0].name))
        else:
            names = [plain(one.runs[0].group or one.label) for one in shown]
            legend(axes, [*zip(lines, names, strict=True)])
    return Path(output)
