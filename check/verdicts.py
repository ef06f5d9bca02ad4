"""Verdicts on derivatives, and errors as sentences: common to layers, losses, optimizers and schedules."""

from contextlib import contextmanager

import numpy as np

from ..errors import NnjitError
from ..kernels.compiler.machine_code import first_line
from .derivatives import STEPS
from .kernels import Broken
from .places import placed, written_in

SLOPE = 0.1  # largest deviation of the Taylor slope from 2
KINKS = 0.3  # largest share of derivatives that may be skipped because they lie at a kink


@contextmanager
def guarded(row, place, catalogue, instance):
    """Turn an exception of any kind in a plug-in's code into a sentence of the row."""
    file = catalogue.find(catalogue.name_of(type(instance))).file
    try:
        yield
    except Broken as broken:
        row.answer(broken.column, place, broken.kernel, str(broken))
    except NnjitError as error:
        row.answer("shapes", place, "", f"{error}{placed(error, file)}")
    except Exception as error:
        row.answer("shapes", place, "", f"fails with {type(error).__name__}: {first_line(error)}{placed(error, file)}")


def gradient_sentence(name, found, guess, call=None, output=""):
    """Return what is wrong with the gradient of an array, or None.

    Parameters
    ----------
    name : str
        The array's.
    found : list of derivatives.Derivative
    guess : str
        A probable cause (`derivatives.hint`).
    call, output : Call and name of an array, or None
        Which kernel writes it.
    """
    wrong = [d for d in found if d.verdict == "wrong"]
    if not wrong:
        return None
    worst = max(wrong, key=lambda d: abs(d.analytic - d.numeric))
    at = f"dC/d{name.rpartition('.')[2]}[{', '.join(map(str, worst.index))}]"
    sentence = (
        f"{at} is {worst.numeric:.6g} by differences, backward gives {worst.analytic:.6g}, the largest error;"
        f" {len(wrong)} of {len(found)} are wrong{guess}"
    )
    if call is None:
        return sentence
    return f"{sentence}; {call.name} writes it ({written_in(call.cpu, output)}); with {call.bound()}"


def taylor(row, place, remainder, slope):
    """Record the verdict on a Taylor slope; the row keeps the slope that is farthest from 2."""
    far = abs(slope - 2)
    if np.isnan(slope):
        return
    if not far <= abs(row.slope - 2):
        row.steps, row.remainder, row.slope = STEPS, remainder, slope
    sentence = None if far <= SLOPE else f"the Taylor remainder falls with slope {slope:.2f}, not 2"
    row.answer("taylor", place, "", sentence)


def kinks(row):
    """Answer for the derivatives that lie at kinks: some are a remark, too many a failure."""
    if row.kinks > KINKS * row.derivatives:
        text = f"{row.kinks} of {row.derivatives} derivatives lie at kinks, too many for a verdict"
        row.answer("gradient", row.name, "", text)
    elif row.kinks:
        row.notes.append(f"{row.name}: {row.kinks} of {row.derivatives} derivatives lie at kinks and were skipped")
