"""Measurements at the end of an epoch: metrics on training data, within a budget, and on a validation set."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.schema import Schema
from ..data.split import Split, spread
from ..program.program import Program
from ..program.protocols import NetworkLike
from .fitting import InUnits, Units
from .measure import IN_MEMORY, InMemory, Measures, parts, try_metrics
from .metrics.base import chosen
from .metrics.predictions import Predictions, Targets, outputs_of
from .settings import Settings

SAMPLE = 1000  # most training samples that metrics are measured on at the end of an epoch
# Training samples that metrics are measured on in a run: this number, or this share of the samples of its steps if that
# is more; a measured sample takes a third of a trained one's time. With more, they are measured every k-th epoch.
MEASURED = 20_000
MEASURED_SHARE = 1 / 50
MOST = 50  # epochs that are measured at most, about: each ends a row of short epochs, and a curve needs no more points


class EpochMetrics:
    """The measurements of one training.

    Parameters
    ----------
    network : Network
    train, validation : Split, Split or None
        With targets as the loss takes them.
    settings : Settings
    schema : Schema
    units : Units or None
        Those of the targets, in which metrics are measured; the program's outputs and the targets of the splits are
        then without units, and so is the loss.

    Attributes
    ----------
    held : InMemory, Split or None
        The validation set, converted if it fits into memory.

    Raises
    ------
    SpecError
        A metric does not fit outputs and targets.
    """

    def __init__(
        self,
        network: NetworkLike,
        train: Split,
        validation: Split | None,
        settings: Settings,
        schema: Schema,
        units: Units | None = None,
    ) -> None:
        self.network, loss = network, settings.loss
        splits = [split for split in (train, validation) if split is not None]
        self.outputs = outputs_of(loss, network.output_shape, *(split.y for split in splits))
        self.metrics = chosen(self.outputs, settings.metrics)
        for split in splits:
            try_metrics(self.metrics, self.outputs, split, network)
        self.train, self.validation, self.schema, self.epochs = train, validation, schema, settings.epochs
        # Rows are often sorted by class, so the first ones alone would say nothing.
        self.sample = train if len(train) <= SAMPLE else train.part(spread(len(train), SAMPLE))
        budget = max(MEASURED, MEASURED_SHARE * len(train) * self.epochs)
        self._every = math.ceil(self.epochs * max(len(self.sample) / budget, 1 / MOST))
        self._sampled: Any = None
        self.held: InMemory | Split | None = None
        measured: Any = self.metrics
        if units is not None:
            measured = {name: InUnits(metric, units) for name, metric in self.metrics.items()}
        self._of_sample = Measures(None, measured, self.outputs, schema.output_names)
        self._of_validation = Measures(loss, measured, self.outputs, schema.output_names, confusion=True)
        self._targets: list[Targets] = []  # those of the validation set, if it is in memory, in parts
        self._program: Any = None

    def load(self, program: Program, train: tuple[NDArray[Any], NDArray[Any]] | None) -> None:
        """Take the program to predict with, and convert data that fits into memory; `train` is converted already."""
        self._program, self._sampled, dtype = program, None, self.network.dtype
        if self.metrics and self.sample is self.train and train is not None:
            self._sampled = train
        elif self.metrics and self.sample.nbytes(dtype) <= IN_MEMORY:
            self._sampled = self.sample.take(slice(None), dtype)
        if self.validation is not None:
            fits = self.validation.nbytes(dtype) <= IN_MEMORY
            self.held = held = InMemory(self.validation, dtype) if fits else self.validation
            if isinstance(held, InMemory):
                weights = held.weights
                self._targets = [
                    Targets(held.y[rows], self.outputs, None if weights is None else weights[rows])
                    for rows in parts(len(held))
                ]

    def has_turn(self, epoch: int) -> bool:
        """Return whether metrics on training data are measured at the end of an epoch."""
        return bool(self.metrics) and ((epoch - 1) % self._every == 0 or epoch == self.epochs)

    def measure(self, epoch: int) -> dict[str, Any]:
        """Measure metrics on training data, if it is their turn, and on the validation set."""
        found = self.measure_sample() if self.has_turn(epoch) else {}
        if self.held is None:
            return found
        if isinstance(self.held, InMemory):
            held, rows = self.held, parts(len(self.held))
            predicted = (
                Predictions(self.predict(held.x[some]), t) for some, t in zip(rows, self._targets, strict=True)
            )
            return found | self._named(self._of_validation.of_parts(predicted))
        return found | self._named(
            self._of_validation.of(self.predict, self.held, self.network.dtype, self.held.weights)
        )

    def measure_sample(self) -> dict[str, Any]:
        """Measure metrics on the training data or on a sample, of which `metric_samples` is the size."""
        x, target = self._sampled or self.sample.take(slice(None), self.network.dtype)
        found = self._of_sample.of_parts([Predictions(self.predict(x), Targets(target, self.outputs))])
        return found if self.sample is self.train else found | {"metric_samples": len(self.sample)}

    def measure_outputs(self, outputs: NDArray[Any]) -> list[dict[str, Any]]:
        """Measure outputs (epochs, N, *shape) of the validation set, which is in memory; return those of each epoch."""
        return [self._named(found) for found in self._of_validation.of_epochs(outputs, self._targets)]

    def _named(self, found):
        """Name measurements on the validation set."""
        if "confusion" in found and self.schema.classes is not None:
            found["classes"] = list(self.schema.classes)
        return {f"val_{name}": value for name, value in found.items()}

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the program's outputs for samples x (N, *input_shape)."""
        y = np.empty((len(x), *self.network.output_shape), self.network.dtype)
        self._program.predict(self._program.state, np.ascontiguousarray(x, self.network.dtype), y)
        return y
