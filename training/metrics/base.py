"""The base of metrics, their names, and the metrics that are measured by default.

examples/metric.py is a metric of a plug-in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError
from ...registry import Options, metrics, split
from ...registry.options import SpecLike
from ...registry.specs import either, shown
from .predictions import Outputs, Predictions

DEFAULTS = {"classes": ("accuracy",), "labels": ("accuracy", "f1"), "values": ("rmse", "r2")}
# Other numbers in the record of an epoch, which no metric may replace.
TAKEN = {"epoch", "step", "seconds", "loss", "lr", "gradient_norm", "gradient_norms", "epoch_end", "update_ratios"}
TAKEN |= {"confusion", "classes", "metric_samples"}


class Metric(Options):
    """Base of metrics. `part` returns what is needed of some samples of a set, and `value` joins all parts.

    So a metric that is no mean over samples, such as F1, is that of the whole set, and outputs as large as images are
    never held together unless a metric keeps them.

    Attributes
    ----------
    kinds : tuple of "classes", "labels" and "values"
        Kinds of outputs that the metric takes; see `Outputs`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("classes", "labels", "values")

    def check(self, outputs: Outputs) -> None:
        """Raise SpecError if the metric cannot be measured on such outputs; a message says why and what fits."""
        if outputs.kind not in self.kinds:
            what = outputs.kind
            if what == "values" and outputs.logits is None:
                what += ', neither class numbers nor one-hot rows (labels need loss="binary_cross_entropy")'
            raise SpecError(f"it is a metric of {either(self.kinds)}, but the targets are {what}; {fitting(outputs)}")

    def part(self, predictions: Predictions) -> Any:
        """Return what is kept of some samples: by default two numbers, a sum and the number of its terms."""
        raise NotImplementedError

    def value(self, parts: Sequence[Any]) -> float | NDArray[np.float64]:
        """Return the metric of all samples, or one number for each class or output (K,); NaN if it is not defined.

        By default the sums of all parts, divided by the number of terms.
        """
        total, count = parts[0] if len(parts) == 1 else (sum(each) for each in zip(*parts, strict=True))
        return float(total / count)


class Averaged(Metric):
    """Base of metrics that each class, label or output has: `each` computes them.

    Those for which the metric is not defined are left out of the mean (macro); without average they are NaN.
    """

    average: Literal["macro", "none"] = "macro"

    def each(self, parts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the metric of each class, label or output (K,); NaN where it is not defined."""
        raise NotImplementedError

    def value(self, parts: Sequence[Any]) -> float | NDArray[np.float64]:
        each = self.each(parts)
        return each if self.average == "none" else mean_of_defined(each) if self.known(parts) else math.nan

    def known(self, parts: Sequence[Any]) -> bool:
        """Return False if a NaN of `each` comes from outputs that are NaN: then the mean is NaN, too."""
        return True


def mean_of_defined(each: NDArray[np.float64]) -> float:
    """Return the mean without NaN; NaN if nothing else is there."""
    defined = each if len(each) == 1 else each[~np.isnan(each)]
    return float(defined.sum() / len(defined)) if len(defined) else math.nan


def create(specs: Any) -> tuple[Metric, ...]:
    """Make metrics from specs: a list of them, or a text such as "f1 top_k(k=3)".

    Raises
    ------
    SpecError, UnknownName
    """
    if isinstance(specs, str):
        specs = split(specs)
    if isinstance(specs, (Options, Mapping)) or not isinstance(specs, Iterable):
        raise SpecError(f'metrics: expected a list of metrics, such as ["accuracy", "top_k(k=3)"], got {shown(specs)}')
    return tuple(create_one(spec) for spec in specs)


def create_one(spec: SpecLike) -> Metric:
    """Make a metric from a spec; return an instance unchanged."""
    made = metrics.create(spec)
    if not isinstance(made, Metric):
        raise SpecError(f"metrics: expected a class derived from nnjit.training.Metric, got {shown(type(made))}")
    if made.spec() in TAKEN:
        raise SpecError(f"metrics: the log has another {made.spec()}; register the metric under another name")
    return made


def chosen(outputs: Outputs, given: Iterable[Metric], defaults: bool = True) -> dict[str, Metric]:
    """Return the defaults for such outputs, and the given metrics, by their names in the log: their specs."""
    first = [metrics.create(each) for each in DEFAULTS[outputs.kind]] if defaults else []
    return {each.spec(): each for each in (*first, *given)}


def fitting(outputs: Outputs) -> str:
    """Return the end of a message: what fits such outputs."""
    return f"{either(DEFAULTS[outputs.kind])} would fit"
