"""Certify losses: their gradient by differences, weights of samples, and their kernels as those of layers."""

from functools import partial
from typing import Any

import numpy as np

from ..errors import DataError, ShapeError
from ..program.duties import check_loss, check_rounded
from ..registry import losses as catalogue
from .alone import Alone, Setting
from .cases import BATCHES, COMMON
from .derivatives import differences, hint, remainders
from .extremes import SIZES, compare, numbers
from .kernels import Broken, examine_call, told
from .places import written_in
from .report import Row
from .verdicts import gradient_sentence, guarded, taylor
from .weights import certify_weights

SEED = 7
SHAPES = [(3,), (1,), *COMMON[1:]]


def certify_loss(label: str, loss: Any, shapes: Any = None) -> Row:
    """Return the `Row` of a loss, on output shapes of which it takes some."""
    row = Row(label, "loss")
    with guarded(row, label, catalogue, loss):
        name = catalogue.name_of(type(loss))
        check_loss(name, loss)
        check_rounded(name, loss, np.dtype(np.float32))
        found, reasons = [], []
        for shape in shapes or SHAPES:
            try:
                loss.validate_shape(shape)
                found.append(shape)
            except ShapeError as error:
                reasons.append(str(error))
        if not found:
            raise ShapeError(f"takes none of the output shapes {', '.join(map(str, shapes or SHAPES))}: {reasons[-1]}")
        for shape in found:
            for N in BATCHES:
                with guarded(row, f"{label} of outputs {shape}, batch of {N}", catalogue, loss):
                    _certify(row, label, loss, name, shape, N)
    return row


def _certify(row, label, loss, name, shape, N):
    """Check the kernels of a loss for outputs of one shape, with each form of targets that it takes."""
    taken: dict[str, _Case] = {}
    for form, target in _targets(np.random.default_rng(SEED), shape, N):
        try:
            fits = loss.targets(target, shape)
        except (ShapeError, DataError) as error:
            refused = error
            continue
        place = f"{label} of outputs {shape}, batch of {N}, {form}"
        suffix = "_labels" if fits.ndim == 1 and shape != (1,) else ""
        fits = fits if suffix else fits.reshape(N, *shape)
        case = taken[form] = _Case(row, place, loss, f"{name}{{}}{suffix}", suffix, shape, fits)
        case.kernels()
        case.gradient()
        case.weights()
        case.extremes()
    if not taken:
        raise refused
    if "class numbers" in taken and "one-hot targets" in taken:
        taken["class numbers"].same_as(taken["one-hot targets"])
    row.answer("shapes", "", "")


def _targets(rng, shape, N):
    """Yield (form, targets): values, shares from 0 to 1, rows with a single 1, and class numbers."""
    classes, count = int(np.prod(shape)), (N, *shape)
    labels = rng.integers(0, classes, N)
    one_hot = np.eye(classes)[labels].reshape(count)
    yield "targets of any size", rng.standard_normal(count)
    yield "targets from 0 to 1", rng.random(count)
    yield "one-hot targets", one_hot
    if len(shape) == 1 and classes > 1:
        yield "class numbers", labels


class _Case:
    def __init__(self, row, place, loss, title, suffix, shape, target):
        self.row, self.place, self.loss, self.title, self.target = row, place, loss, title, target
        self.kernels_of = {each: getattr(loss, each + suffix) for each in ("forward", "backward")}
        self.N, self.rng = len(target), np.random.default_rng(SEED + 1)  # other numbers than the targets
        self.y = self.rng.standard_normal((self.N, *shape))
        self.options = {k: v for k, v in loss.options().items() if isinstance(v, (bool, int, float))}

    def call(self, which, real, y):
        """Return the call of forward or backward on outputs y."""
        target = self.target if self.target.dtype.kind in "iu" else self.target.astype(real)
        given = {"y": y.astype(real), "target": target, "dy": np.zeros(y.shape, real), "loss": np.zeros(self.N, real)}
        output = "loss" if which == "forward" else "dy"
        setting, inputs = Setting(real, self.N), ("y", "target", *{"loss", "dy"} - {output})
        kernel = self.kernels_of[which]
        return Alone(setting, self.title.format("_" + which), kernel, given | self.options, inputs, (output,))

    def answer(self, column, part, sentence=None, kind=""):
        self.row.answer(column, self.place + kind, part, sentence)

    def kernels(self):
        """Check both kernels by themselves, in float64 and float32."""
        for real in (np.float64, np.float32):
            for which in self.kernels_of:
                call = self.call(which, real, self.y)
                examine_call(call, partial(self.answer, kind=f", {np.dtype(real)}"))
                result = call.given["loss" if which == "forward" else "dy"]
                if not np.isfinite(result).all():
                    raise Broken("shapes", call.name, f"gives {result[~np.isfinite(result)][0]} for ordinary numbers")

    def gradient(self):
        """Check the gradient and the Taylor slope, in float64."""
        cost = _Cost(self)
        slope = self.call("backward", np.float64, self.y)
        slope.compiled()(*slope.arguments().values(), 0, 1)
        analytic = slope.given["dy"].ravel()
        found = differences(cost, analytic, self.rng)["y"]
        self.row.derivatives += len(found)
        self.row.kinks += sum(d.verdict == "kink" for d in found)
        guess = hint(found, slope.given["dy"])
        self.answer("gradient", "y", gradient_sentence("y", found, guess, slope, "dy"))
        taylor(self.row, self.place, *remainders(cost, analytic, self.rng))

    def weights(self):
        """Check what weights of samples do to the loss and its gradient, in float64."""
        plain = {}
        for which, name in (("forward", "loss"), ("backward", "dy")):
            call = self.call(which, np.float64, self.y)
            call.compiled()(*call.arguments().values(), 0, 1)
            plain[name] = call.given[name]
        certify_weights(self.loss, self.y, self.target, plain, _Cost(self), self.rng, self.answer)

    def same_as(self, other):
        """Check that class numbers give the losses and gradients of one-hot targets; the labels are drawn alike."""
        for which, name in (("forward", "loss"), ("backward", "dy")):
            calls = [case.call(which, np.float64, self.y) for case in (self, other)]
            for call in calls:
                call.compiled()(*call.arguments().values(), 0, 1)
            a, b = (call.given[name] for call in calls)
            text = f"{name} of class numbers differs from that of one-hot targets by {np.abs(a - b).max():.3g}"
            same = np.allclose(a, b, rtol=1e-9, atol=1e-12)
            self.answer(
                "reference", calls[0].name, None if same else told(calls[0], text, written_in(calls[0].cpu, name))
            )

    def extremes(self):
        """Check both kernels on large and tiny outputs."""
        for size in (*SIZES, None):
            for which in self.kernels_of:
                y = numbers(self.rng, size, self.y.shape)
                call = self.call(which, np.float32, y)
                with np.errstate(all="ignore"):
                    compare([call], [call.exact()], size, self.answer)


class _Cost:
    """The sum of the losses as a function of the outputs, for `differences` and `remainders`."""

    def __init__(self, case):
        self.call, self.start = case.call("forward", np.float64, case.y), case.y.ravel()
        self.shape, self.arrays = case.y.shape, {"y": (0, case.y.shape)}
        self.run = self.call.compiled()

    def __call__(self, v):
        return self.each(v).sum()

    def each(self, v):
        """Return the losses (N,) of outputs, a flat vector."""
        self.call.given["y"][...] = v.reshape(self.shape)
        self.run(*self.call.arguments().values(), 0, 1)
        return self.call.given["loss"]
