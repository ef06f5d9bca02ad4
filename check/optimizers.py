"""Certify optimizers: their update by the questions that layers are asked, and that a step goes down."""

from typing import Any

import numpy as np

from ..program.duties import check_optimizer, check_rounded
from ..registry import optimizers as catalogue
from .alone import Alone, Setting
from .extremes import SIZES, compare, numbers
from .kernels import examine_call, told
from .places import written_in
from .report import Row
from .verdicts import guarded

SEED = 7
COUNTS = (1, 7, 40)  # numbers of theta
STEPS = 3


def certify_optimizer(label: str, optimizer: Any) -> Row:
    """Return the `Row` of an optimizer."""
    row = Row(label, "optimizer")
    with guarded(row, label, catalogue, optimizer):
        check_optimizer(optimizer)
        check_rounded(label, optimizer, np.dtype(np.float32))
        optimizer.check_dtype(np.dtype(np.float32))
        for count in COUNTS:
            for real in (np.float64, np.float32):
                place = f"{label} of {count} numbers, {np.dtype(real)}"
                with guarded(row, place, catalogue, optimizer):
                    _steps(row, place, optimizer, count, real)
        with guarded(row, label, catalogue, optimizer):
            _extremes(row, label, optimizer)
    return row


def _call(optimizer, real, theta, gradient, moments, step):
    """Return the call of one step; it changes theta and the moments."""
    given = {"theta": theta, "gradient": gradient, **dict(zip(optimizer.moments, moments, strict=True))}
    options = {k: v for k, v in optimizer.options().items() if isinstance(v, (bool, int, float))}
    given |= {**options, "rate": optimizer.lr, "step": step}
    return Alone(Setting(real), "update", optimizer.update, given, ("gradient",), (), ("theta", *optimizer.moments))


def _steps(row, place, optimizer, count, real):
    """Check some steps one after the other, and that the first goes down the gradient."""
    rng = np.random.default_rng(SEED)
    theta, moments = rng.standard_normal(count).astype(real), [np.zeros(count, real) for _ in optimizer.moments]
    for step in range(1, STEPS + 1):
        gradient, before = rng.standard_normal(count).astype(real), theta.copy()
        call = _call(optimizer, real, theta, gradient, moments, step)
        examine_call(call, lambda *answer: row.answer(answer[0], place, *answer[1:]))
        bad = [name for name in call.results if not np.isfinite(call.given[name]).all()]
        sentence = f"{bad[0]} is not finite after step {step} with an ordinary gradient" if bad else None
        row.answer("shapes", place, "update", sentence and told(call, sentence, written_in(call.cpu, bad[0])))
        if step == 1:
            # Weight decay moves theta, too: compare with the step of the opposite gradient.
            other = _call(optimizer, real, before.copy(), -gradient, [np.zeros(count, real) for _ in moments], step)
            other.compiled()(*other.arguments().values(), 0, 1)
            up = float(gradient @ (theta - other.given["theta"])) >= 0
            sentence = "the first step does not go down the gradient; subtract rate times it from theta" if up else None
            row.answer("gradient", place, "update", sentence and told(call, sentence, written_in(call.cpu, "theta")))


def _extremes(row, label, optimizer):
    """Check a step with a large or tiny gradient, and one with gradient 0 after it."""
    rng, count = np.random.default_rng(SEED), COUNTS[1]
    for size in (*SIZES, None):
        theta = rng.standard_normal(count).astype(np.float32)
        moments = [np.zeros(count, np.float32) for _ in optimizer.moments]
        for step, gradient in enumerate((numbers(rng, size, count), np.zeros(count, np.float32)), start=1):
            call = _call(optimizer, np.float32, theta, gradient, moments, step)
            with np.errstate(all="ignore"):
                going = compare([call], [call.exact()], size, lambda *answer: row.answer(answer[0], label, *answer[1:]))
            lost = [name for name in optimizer.moments if not np.isfinite(call.given[name]).all()]
            if lost and step == 1 and not optimizer.squares:
                sentence = (
                    f"{lost[0]} overflows for a gradient of size {size or 'mixed'}, and theta would stay for ever"
                )
                remedy = "say squares = True in the class, so that such a gradient stops the training"
                sentence = told(call, sentence, written_in(call.cpu, lost[0]), remedy)
                row.answer("extremes", label, "update", sentence)
            if not going:
                break
