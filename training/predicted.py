"""Predictions of the best parameters at the end of a run, for its pictures: `predictions.safetensors`.

They are those of the validation set, or without one of the training data, of `MOST` samples at most. The tensors:

* classes: ``true`` and ``predicted`` (N,), class numbers, and ``confidence`` (N,), that of the predicted class;
* labels: ``true`` and ``predicted`` (N, K), yes or no;
* values: ``true`` and ``predicted`` (N, K), in the units of the targets;
* images: ``x`` (M, C, H, W), some samples, and ``mistakes_x``, the mistakes with the highest confidence; ``x_of`` (M,)
  and ``mistakes_of`` are their numbers among the N;
* two inputs: ``plane`` (`CELLS`, `CELLS`), the predicted class at the centre of each cell (row by row from the lowest
  second input up), or the outputs (`CELLS`, `CELLS`, K), with ``low`` and ``high`` (2,), its corners, and training
  samples, ``points`` (P, 2) with ``points_true``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.split import spread
from ..storage.checkpoint import fill
from .measure import parts
from .metrics.predictions import Predictions, Targets
from .trainer import Trainer

MOST = 20_000  # samples of a file
MOST_NUMBERS = 200_000  # numbers of the predictions of values or labels
MISTAKES = 1000  # rows of a table that are listed
SHOWN = 12  # samples that are shown as images, and as many mistakes
PIXELS = 1 << 20  # most numbers of these images
CELLS = 150  # cells of the plane of two inputs along each axis
PLANE_OUTPUTS = 4  # most outputs of values that are drawn over the plane
POINTS = 1000  # most samples that are drawn into the plane
MARGIN = 0.08  # of the plane around the samples


def predicted(trainer: Trainer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Predict with the best parameters of a run that has ended; the network keeps its parameters.

    Returns
    -------
    tensors : dict
    about : dict that JSON can hold
        ``kind`` ("classes", "labels" or "values"), ``data`` ("validation" or "training"), ``samples`` (of the set),
        ``epoch`` (of the parameters), ``classes``, ``targets`` and ``inputs`` (names or None), ``confidence``
        ("probability", or "output" if the loss does not take logits).
    None if the outputs are classes by position, or there is no finished epoch.
    """
    best, network = trainer.best(), trainer.network
    outputs = trainer.metrics.outputs
    if best is None or (outputs.kind == "classes" and len(outputs.shape) > 1):
        return None
    kept = network.theta.copy(), network.flat_buffers.copy()
    try:
        fill(network, best[0], "the best checkpoint")
        return _tensors(trainer, outputs), _about(trainer, outputs, best[1]["epoch"])
    finally:
        network.theta[:], network.flat_buffers[:] = kept


def _about(trainer, outputs, epoch):
    schema, split = trainer.schema, trainer.train if trainer.validation is None else trainer.validation
    return {
        "format": 1,
        "kind": outputs.kind,
        "data": "training" if trainer.validation is None else "validation",
        "samples": len(split),
        "epoch": epoch,
        "classes": schema.classes and list(schema.classes),
        "targets": schema.targets and list(schema.targets),
        "inputs": schema.columns and list(schema.columns),
        "confidence": "probability" if outputs.logits else "output",
    }


def _tensors(trainer, outputs):
    split = _samples(trainer, outputs)
    found = [_forms(trainer, outputs, *split.take(rows, trainer.network.dtype)) for rows in parts(len(split))]
    tensors = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    shape = trainer.network.input_shape
    if outputs.kind == "classes" and len(shape) == 3 and shape[0] in (1, 3):
        tensors |= _images(split, tensors, trainer.network.dtype)
    encoding = trainer.schema.encoding
    numbers = encoding is None or all(encoding.numbers)
    drawn = outputs.kind == "classes" or (outputs.kind == "values" and outputs.size <= PLANE_OUTPUTS)
    if shape == (2,) and numbers and drawn:
        tensors |= _plane(trainer, outputs)
    return tensors


def _samples(trainer, outputs):
    """Return the samples whose predictions are saved, a `Split`."""
    split = trainer.train if trainer.validation is None else trainer.validation
    most = MOST if outputs.kind == "classes" else max(1, min(MOST, MOST_NUMBERS // outputs.size))
    return split if len(split) <= most else split.part(spread(len(split), most))


def mistakes(trainer: Trainer, tensors: Mapping[str, NDArray[Any]]) -> tuple[list[str], list[Sequence[Any]]] | None:
    """Return the mistakes among the predictions of classes of a table, those with the highest confidence first.

    `mistakes.csv` has these columns: the line or row in the data's file, the true and the predicted class, the
    confidence, and the columns of the table that are inputs.

    Parameters
    ----------
    trainer : Trainer
        Its run has ended.
    tensors : dict
        The predictions of `predicted`.

    Returns
    -------
    head : names of the columns
    columns : their cells, `MISTAKES` rows at most
    None if there is no mistake, or if the data is no table or has no classes.
    """
    outputs, schema = trainer.metrics.outputs, trainer.schema
    split = _samples(trainer, outputs)
    if outputs.kind != "classes" or schema.encoding is None or split.places is None:
        return None
    chosen = _wrong(tensors)[: max(1, min(MISTAKES, MOST_NUMBERS // len(schema.encoding.codings)))]
    if not len(chosen):
        return None
    counted, numbers = split.places
    count = 1 + max(int(tensors[name].max()) for name in ("true", "predicted"))
    names = schema.classes or range(count)
    cells = schema.encoding.decode(split.part(chosen).x)
    classes = [[names[k] for k in tensors[name][chosen]] for name in ("true", "predicted")]
    head = [counted, "true", "predicted", "confidence", *cells]
    return head, [numbers[chosen], *classes, tensors["confidence"][chosen], *cells.values()]


def _wrong(tensors):
    """Return the numbers of the samples that are predicted wrongly, those with the highest confidence first."""
    wrong = np.flatnonzero(tensors["true"] != tensors["predicted"])
    return wrong[np.argsort(-tensors["confidence"][wrong], kind="stable")]


def _forms(trainer, outputs, x, target):
    """Return the tensors of some samples."""
    y = trainer.metrics.predict(x)
    if outputs.kind == "values":
        if trainer.units is not None:
            y, target = trainer.units.restored(y), trainer.units.restored(target)
        return {"true": np.float64(target).reshape(len(y), -1), "predicted": np.float64(y).reshape(len(y), -1)}
    predictions = Predictions(y, Targets(target, outputs))
    found = {"true": predictions.actual, "predicted": predictions.predicted}
    if outputs.kind == "labels":
        return found
    scores = np.exp(predictions.log_probabilities) if outputs.logits else predictions.scores
    confidence = np.take_along_axis(scores, predictions.predicted[:, None], axis=1)[:, 0]
    return {name: np.int32(numbers) for name, numbers in found.items()} | {"confidence": np.float32(confidence)}


def _images(split, tensors, dtype):
    """Return some samples, and the mistakes with the highest confidence."""
    count = min(SHOWN, PIXELS // (2 * int(np.prod(split.input_shape))), len(split))
    worst = _wrong(tensors)[:count]
    if not count:
        return {}
    some = spread(len(split), count)
    found = {"x_of": np.int32(some), "x": np.float32(split.take(some, dtype)[0])}
    if len(worst):
        found |= {"mistakes_of": np.int32(worst), "mistakes_x": np.float32(split.take(worst, dtype)[0])}
    return found


def _plane(trainer, outputs):
    """Return the predictions over the plane of two inputs, and training samples."""
    train, dtype = trainer.train, trainer.network.dtype
    part = train if len(train) <= POINTS else train.part(spread(len(train), POINTS))
    points, target = part.take(slice(None), dtype)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, MARGIN * (high - low), 1)
    low, high = low - margin, high + margin
    steps = (np.arange(CELLS) + 0.5) / CELLS
    first, second = (low[k] + steps * (high[k] - low[k]) for k in (0, 1))
    x = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2).astype(dtype)
    y = np.concatenate([trainer.metrics.predict(x[rows]) for rows in parts(len(x))])
    true: Any
    cells: Any
    if outputs.kind == "classes":
        targets = Targets(target, outputs)
        true, cells = np.int32(targets.actual), np.int32(Predictions(y, targets).predicted)
        cells = cells.reshape(CELLS, CELLS)
    else:
        if trainer.units is not None:
            y, target = trainer.units.restored(y), trainer.units.restored(target)
        true, cells = np.float64(target).reshape(len(points), -1), np.float64(y).reshape(CELLS, CELLS, -1)
    corners = {"low": np.float64(low), "high": np.float64(high)}
    return {"plane": cells, **corners, "points": np.float64(points), "points_true": true}
