"""Metrics of classes, of which a sample has one, and of labels, of which it may have several or none."""

import numpy as np

from ...errors import SpecError
from ...registry import metrics
from .base import Averaged, Metric, fitting, mean_of_defined


@metrics.register("accuracy")
class Accuracy(Metric):
    """Share of samples whose class is right; of labels the share of all yes or no that are right.

    A class is predicted if its output is the largest (a single output: if it is above 0), a label if its logit is
    above 0.
    """

    kinds = ("classes", "labels")

    def part(self, predictions):
        return np.count_nonzero(predictions.predicted == predictions.actual), predictions.actual.size


@metrics.register("subset_accuracy")
class SubsetAccuracy(Metric):
    """Share of samples whose labels are all right."""

    kinds = ("labels",)

    def part(self, predictions):
        return np.count_nonzero((predictions.predicted == predictions.actual).all(axis=1)), len(predictions.actual)


@metrics.register("top_k")
class TopK(Metric):
    """Share of samples whose class is among the k largest outputs; of equal outputs the first class is the largest."""

    kinds = ("classes",)
    k: int = 5

    def validate(self):
        if self.k < 1:
            raise SpecError(f"top_k: k must be a whole number from 1 on, got {self.k}")

    def check(self, outputs):
        super().check(outputs)
        if self.k >= outputs.size:
            most = outputs.size - 1
            fits = f"top_k(k={most})" if most > 1 else "accuracy"
            raise SpecError(f"of {outputs.size} classes the first {self.k} are always right; {fits} would fit")

    def part(self, predictions):
        scores, actual = predictions.scores, predictions.actual[:, None]
        own = np.take_along_axis(scores, actual, axis=1)
        before = ~(scores <= own) | ((scores == own) & (np.arange(scores.shape[1]) < actual))  # NaN is no answer
        return np.count_nonzero(before.sum(axis=1) < self.k), len(scores)


@metrics.register("balanced_accuracy")
class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share of their samples that are predicted right."""

    kinds = ("classes",)

    def part(self, predictions):
        return predictions.counts

    def value(self, parts):
        right, _, actual = np.sum(parts, axis=0)
        return mean_of_defined(right / actual)


class Counted(Averaged):
    """Base of metrics of how often a class (or label) is right, is predicted and occurs.

    As in scikit-learn 0 / 0 is 0. For a class that neither is predicted nor occurs the metric is not defined.
    """

    kinds = ("classes", "labels")

    def part(self, predictions):
        return predictions.counts

    def each(self, parts):
        right, predicted, actual = np.sum(parts, axis=0)
        ratio = np.nan_to_num(self.ratio(right, predicted, actual))
        return np.where(predicted + actual > 0, ratio, np.nan)

    def ratio(self, right, predicted, actual):
        """Return the metric from three counts, each of all classes."""
        raise NotImplementedError


@metrics.register("precision")
class Precision(Counted):
    """Share of the samples predicted as a class that are of it; 0 if none is predicted. Mean over classes."""

    def ratio(self, right, predicted, actual):
        return right / predicted


@metrics.register("recall")
class Recall(Counted):
    """Share of the samples of a class that are predicted as it; 0 if there is no such sample. Mean over classes."""

    def ratio(self, right, predicted, actual):
        return right / actual


@metrics.register("f1")
class F1(Counted):
    """Harmonic mean of precision and recall of a class, 2 right / (predicted + actual). Mean over classes."""

    def ratio(self, right, predicted, actual):
        return 2 * right / (predicted + actual)


@metrics.register("auc")
class AUC(Averaged):
    """Area under the ROC curve: how often a sample of a class has a higher score than another sample; ties count 1/2.

    For more than two classes each against the rest, by the probabilities of the softmax, and the mean of all. It is not
    defined for a class that no sample or every sample has. All scores are kept and sorted. T. Fawcett, An introduction
    to ROC analysis, Pattern Recognition Letters 27(8), 2006, doi:10.1016/j.patrec.2005.10.010.
    """

    kinds = ("classes", "labels")

    def check(self, outputs):
        super().check(outputs)
        if outputs.kind == "classes" and outputs.size > 2 and outputs.logits is None:
            raise SpecError(
                "without a loss the outputs may be logits or probabilities, which order samples differently; give the "
                f'loss, such as loss="cross_entropy", or measure what needs none: {fitting(outputs)}'
            )

    def part(self, predictions):
        p = predictions
        if p.outputs.kind == "labels":
            return np.reshape(p.y, p.actual.shape).astype(np.float64), p.actual
        if p.outputs.size == 2:  # the probability of a class rises with this difference
            scores = p.scores - p.scores[:, ::-1]
        else:
            scores = np.exp(p.log_probabilities) if p.outputs.logits else p.scores
        return scores, p.actual[:, None] == np.arange(p.outputs.size)

    def each(self, parts):
        scores, has = (np.concatenate(each) for each in zip(*parts, strict=True))
        return np.array([area(*column) for column in zip(scores.T, has.T, strict=True)])

    def known(self, parts):
        return not any(np.isnan(scores).any() for scores, _ in parts)


@metrics.register("log_loss")
class LogLoss(Metric):
    """Mean of -log p, p the predicted probability of the right class (softmax), or of each yes or no (sigmoid)."""

    kinds = ("classes", "labels")

    def check(self, outputs):
        super().check(outputs)
        if not outputs.logits:
            why = "give the loss" if outputs.logits is None else "train with one that does"
            raise SpecError(
                f'it needs a loss that takes the outputs as logits, such as "cross_entropy": {why}; {fitting(outputs)}'
            )

    def part(self, predictions):
        p = predictions
        if p.outputs.kind == "labels":
            z, t = (np.asarray(each, np.float64) for each in (p.y, p.target))
            losses = np.logaddexp(0, z) - t * z
            return losses.sum(), losses.size
        return -(p.targets.probabilities() * p.log_probabilities).sum(), len(p.scores)


def area(scores, has):
    """Return the area under the ROC curve of scores (N,) for a yes or no (N,): Mann and Whitney's U by ranks."""
    yes = np.count_nonzero(has)
    no = len(has) - yes
    if not yes or not no or np.isnan(scores).any():
        return np.nan
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # the mean of equal scores
    return (rank[place[has]].sum() - yes * (yes + 1) / 2) / (yes * no)
