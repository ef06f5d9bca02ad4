"""Metrics of values: errors y - target, in the units of the targets, and the share of variance that is explained."""

import numpy as np

from ...errors import SpecError
from ...registry import metrics
from ..changes import row_norms
from .base import Averaged, Metric, fitting
from .predictions import column_sums


def check_shape(outputs):
    """Raise SpecError unless targets have the outputs' shape."""
    if outputs.target_shape != outputs.shape:
        came = f"values of shape {outputs.target_shape}" if outputs.target_shape else "class numbers"
        raise SpecError(
            f"it compares the outputs {outputs.shape} with targets of their shape, but these are {came}; "
            f"{'accuracy' if not outputs.target_shape else 'targets of the same shape'} would fit"
        )


def check_values(outputs):
    """Raise SpecError unless the outputs are values to be compared with their targets."""
    check_shape(outputs)
    if outputs.logits:
        raise SpecError(f"the outputs are logits, and the targets are {outputs.kind}; {fitting(outputs)}")


@metrics.register("mae")
class MeanAbsoluteError(Averaged):
    """Mean absolute error |y - t|, in the units of the target; the mean over the outputs."""

    def check(self, outputs):
        check_values(outputs)

    def part(self, predictions):
        return column_sums(np.abs(predictions.errors)), len(predictions.y)

    def each(self, parts):
        return mean(parts)

    def known(self, parts):
        return not np.isnan(mean(parts)).any()


@metrics.register("rmse")
class RootMeanSquaredError(Averaged):
    """Root of the mean squared error, sqrt(mean (y - t)^2), in the units of the target; the mean over the outputs."""

    def check(self, outputs):
        check_values(outputs)

    def part(self, predictions):
        return predictions.squares, len(predictions.y)

    def each(self, parts):
        return np.sqrt(mean(parts))

    def known(self, parts):
        return not np.isnan(mean(parts)).any()


@metrics.register("r2")
class R2(Averaged):
    """Coefficient of determination, 1 - sum (y - t)^2 / sum (t - mean t)^2; the mean over the outputs.

    1 is a perfect prediction, 0 that of the mean. For a constant target it is not defined; it is -inf if squares
    overflow float64.
    """

    def check(self, outputs):
        check_values(outputs)

    def part(self, predictions):
        return len(predictions.y), *predictions.targets.variation, predictions.squares

    def each(self, parts):
        count, mean, variation, squares = parts[0]
        if len(parts) > 1:  # differences to the first mean are 0 for constant targets, without a rounding error
            count, mean, variation, squares = (np.array(each) for each in zip(*parts, strict=True))
            difference, count = mean - mean[0], count[:, None]
            shift = (count * difference).sum(axis=0) / count.sum()
            variation = np.nansum(variation, axis=0) + (count * (difference - shift) ** 2).sum(axis=0)
            variation, squares = np.where(variation > 0, variation, np.nan), squares.sum(axis=0)
        return np.where(variation < np.inf, 1 - squares / variation, np.where(variation == np.inf, -np.inf, np.nan))

    def known(self, parts):
        return not any(np.isnan(squares).any() for *_, squares in parts)


@metrics.register("max_error")
class MaxError(Metric):
    """Largest absolute error |y - t| of all samples and outputs, in the units of the target."""

    def check(self, outputs):
        check_values(outputs)

    def part(self, predictions):
        return np.abs(predictions.errors).max()

    def value(self, parts):
        return float(np.max(parts))


@metrics.register("l1")
class L1(Metric):
    """Mean over samples of the 1-norm of the error, ||y - t||_1: the sum of absolute errors of a sample's outputs."""

    def check(self, outputs):
        check_shape(outputs)

    def part(self, predictions):
        return np.abs(predictions.errors).sum(), len(predictions.y)


@metrics.register("l2")
class L2(Metric):
    """Mean over samples of the 2-norm of the error, ||y - t||_2: the length of a sample's error."""

    def check(self, outputs):
        check_shape(outputs)

    def part(self, predictions):
        return sum(row_norms(predictions.errors)), len(predictions.y)


@metrics.register("linf")
class LInf(Metric):
    """Mean over samples of the largest absolute error among a sample's outputs, max |y - t|."""

    def check(self, outputs):
        check_shape(outputs)

    def part(self, predictions):
        return np.abs(predictions.errors).max(axis=1).sum(), len(predictions.y)


def mean(parts):
    """Return the sums of all parts, (K,), divided by the number of samples."""
    total, count = parts[0] if len(parts) == 1 else (sum(each) for each in zip(*parts, strict=True))
    return total / count
