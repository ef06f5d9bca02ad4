"""Certify schedules: a finite factor for each step, from the first to the last, whichever steps are asked for."""

from typing import Any

import numpy as np

from ..errors import SpecError
from ..registry import schedules as catalogue
from .report import Row
from .verdicts import guarded

TRAININGS = ((1, 1), (2, 1), (7, 3), (60, 20), (1000, 100), (100_000, 500))  # (steps, steps of an epoch)


def certify_schedule(label: str, schedule: Any) -> Row:
    """Return the `Row` of a schedule."""
    row = Row(label, "schedule")
    for total, per_epoch in TRAININGS:
        place = f"{label} over {total} step{'s' * (total > 1)}, {per_epoch} an epoch"
        with guarded(row, place, catalogue, schedule), np.errstate(all="ignore"):
            whole = _factors(schedule, np.arange(total), total, per_epoch)
            _whole(row, place, schedule, whole)
            for steps in (np.arange(1), np.arange(total)[total // 2 :], np.arange(total)[-1:]):
                part = _factors(schedule, steps, total, per_epoch)
                same = np.allclose(part, whole[steps], rtol=1e-12, atol=0, equal_nan=True)
                text = "the factor of a step depends on which other steps are asked for; compute it from steps alone"
                row.answer("shapes", place, "factor", None if same else text)
    return row


def _factors(schedule, steps, total, per_epoch):
    """Return the factors of some steps; SpecError unless there is one for each."""
    found = np.asarray(schedule.factor(steps, total, per_epoch))
    if found.shape != steps.shape or found.dtype.kind not in "iuf":
        came = f"an array {found.shape} of {found.dtype}"
        raise SpecError(f"factor gives {came} for {len(steps)} steps; return a number for each element of steps")
    return found.astype(float)


def _whole(row, place, schedule, whole):
    """Check the factors of a whole training."""
    wrong = ~(np.isfinite(whole) & (whole >= 0))
    sentence = None
    if wrong.any():
        at = int(wrong.argmax())
        which = "the first step" if at == 0 else "the last step" if at == len(whole) - 1 else f"step {at}"
        remedy = "steps count from 0, and total and steps_per_epoch may be 1" if at == 0 else "keep it from 0 on"
        sentence = f"the factor of {which} (counted from 0) is {whole[at]:g}; {remedy}"
    elif not whole[0] and len(whole) == 1:
        sentence = "the factor of the only step is 0, so nothing is learned; steps count from 0"
    elif not whole.any():
        sentence = "all factors are 0, so nothing is learned"
    elif schedule.constant and not (whole == 1).all():
        sentence = f"the class says constant = True, but a factor is {whole[whole != 1][0]:g}; leave constant out"
    row.answer("extremes", place, "factor", sentence)
