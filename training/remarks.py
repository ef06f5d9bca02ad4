"""Remarks on a run that has ended: why it may not have learned, each in one sentence with a remedy.

At most one of these is made:

* All targets are the same, of `FEW` samples or more.
* Layers whose gradient was 0 in every step of the last epoch (and of at least `STEPS` steps).
* A loss like that of the best constant prediction (`constant.constant_loss`), which a network reaches that ignores its
  input: never below it by more than `NEAR` of it, and no longer falling; see `_falls`. With samples that are not scaled
  also one that falls, but is `FAR` above it. The validation loss alone if the training loss is below it.
* An end far above the best epoch: `FACTOR` times its figure or more, and a rise of `RISE` or more of the fall to it
  from the loss of a constant prediction (of the first epoch, if that is not known). Either the last `LAST` epochs are,
  or the last one is by much more: a loss that goes up and down may end high by chance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .constant import constant_loss

STEPS = 10  # least number of steps in which a gradient was 0
EPOCHS, ENOUGH = 3, 100  # least epochs and steps of a run whose loss is compared with that of a constant
NEAR = 0.01  # of the loss of a constant: nearer is like it, and a fall of more in the second half still goes on
WILD, FAR = 0.1, 10.0  # of the loss of a constant: it goes up and down by more, or is higher even while it falls
SOLVED = 1e-3  # of the loss of a constant: below it gradients of 0 mean that nothing is left to learn
FACTOR, RISE, LAST = 1.5, 0.1, 3
MUCH = 3.0  # times these two
POINTS, ERRORS = 5, 3.0  # a slope of fewer points, or of fewer standard errors, is noise
VANISHED = 1e-7  # of the largest norm of a layer's gradient: the norm of another is like 0
LARGE = 30.0  # size of samples that are not scaled
FEW = 10  # samples, fewer of which say too little
ZERO_BELOW, FLAT = ("relu",), ("sigmoid", "tanh", "softmax", "elu", "selu", "gelu", "silu", "softplus")


class Remarks:
    """The losses of a run's epochs, from which the remarks on it follow.

    Parameters
    ----------
    trainer : Trainer
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._losses: list[float] = []
        self._held: list[float] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Take the losses of an epoch."""
        self._losses.append(record["loss"])
        if "val_loss" in record:
            self._held.append(record["val_loss"])

    def at_end(self, norms: NDArray[np.float64]) -> list[str]:
        """Return the remarks after the last epoch.

        Parameters
        ----------
        norms : ndarray (steps, layers)
            Of the gradients in the last steps, at most those of the last epoch and at least `STEPS`.
        """
        trainer, losses = self._trainer, self._losses
        if not losses or not math.isfinite(losses[-1]):
            return []
        targets = trainer.train.y
        if len(targets) >= FEW and (targets == targets[0]).all():
            return [f"all {len(targets)} training samples have the same target, so there was nothing to learn but it"]
        constant = self._constant(trainer.train)
        found = []
        if len(norms) >= STEPS and losses[-1] > SOLVED * (1e-3 if constant is None else constant):
            found += self._of_zeros(norms)
        # After a dead layer, the loss says the same again.
        found += [] if found else self._like_a_constant(constant, norms)
        found += [] if found else self._above_the_best(constant)
        return found

    def _constant(self, split):
        return constant_loss(self._trainer.loss, split.y, split.weights)

    def _of_zeros(self, norms):
        names = self._trainer.program.layer_names
        dead = [name for name, some in zip(names, norms.any(axis=0), strict=True) if not some]
        if not dead:
            return []
        listed = "all layers" if len(dead) == len(names) > 1 else _listed(dead)
        many = len(dead) > 1
        said = f"{listed} learned nothing: {'their gradients were' if many else 'its gradient was'} 0 in every step of "
        said += "the last epoch"
        node = self._behind(dead[-1])
        if node is not None and node.kind in ZERO_BELOW:
            return [f"{said}, since {node.name} gave 0 for each sample; a smaller learning rate, another seed or "
                    "leaky_relu helps"]  # fmt: skip
        if node is not None and node.kind in FLAT:
            return [f"{said}, since {node.name} is saturated; scaled samples, a smaller learning rate or relu helps"]
        return [f"{said}, so a layer behind it passes nothing back; nnjit check certifies the gradients of layers"]

    def _behind(self, name):
        """Return the node of the first activation behind a layer, before the next layer with parameters."""
        nodes = self._trainer.network.graph.nodes
        place = next((k for k, node in enumerate(nodes) if node.name == name), len(nodes))
        for node in nodes[place + 1 :]:
            if node.kind in ZERO_BELOW + FLAT:
                return node
            if node.parameters:
                return None
        return None

    def _like_a_constant(self, constant, norms):
        losses, held = self._losses, self._held
        long = len(losses) >= EPOCHS and len(losses) * self._trainer.steps_per_epoch >= ENOUGH
        if constant is None or constant <= 0 or not long:
            return []
        below, half = 1 - NEAR, (len(losses) - 1) // 2
        held_constant = None
        if len(held) == len(losses) and len(self._trainer.validation) >= FEW:
            held_constant = self._constant(self._trainer.validation)
        if held_constant is not None and min(held) < below * held_constant:
            return []  # also with a high training loss, such as that with dropout
        if min(losses) >= below * constant:
            last = losses[-1]
            falls = _falls(losses[half:], constant) or (held_constant and _falls(held[half:], held_constant))
            if falls and not (last > FAR * constant and self._unscaled()):
                return []
            like = f"the loss of a constant prediction is {constant:.4g}, and this run ended at {last:.4g}"
            return [f"{like}: it learned nothing from its samples; {self._remedy(constant, norms)}"]
        if held_constant is not None and not _falls(held[half:], held_constant):
            return [
                f"val_loss never fell below {held_constant:.4g}, the loss of a constant prediction, while the training "
                f"loss fell to {min(losses):.4g}: nothing that was learned holds for other samples; check that "
                "samples and targets belong together, give more samples or a smaller network"
            ]
        return []

    def _remedy(self, constant, norms):
        losses, trainer = self._losses, self._trainer
        means = norms.mean(axis=0)
        if len(means) > 1 and means.min() < VANISHED * means.max():
            first, most = (trainer.program.layer_names[int(k)] for k in (means.argmin(), means.argmax()))
            return (
                f"the gradient of {first} is {means.min() / means.max():.0e} of that of {most}: fewer layers, relu, "
                "batchnorm or residual helps"
            )
        if size := self._unscaled():
            return f'samples reach {size:.4g}: scale them, such as by a first layer "standardize"'
        second = losses[(len(losses) - 1) // 2 :]
        if max(second) - min(second) > WILD * constant:
            return "the loss goes up and down: choose a smaller learning rate"
        if min(losses) > (1 + NEAR) * constant:
            return "the loss hardly changes: choose a larger learning rate"
        ways = "choose another learning rate or more epochs"
        if not any(node.kind in ZERO_BELOW + FLAT for node in trainer.network.graph.nodes):
            ways = "give the network a hidden layer with an activation, such as dense(32) relu"
        return f"check that samples and targets belong together, or {ways}"

    def _unscaled(self):
        """Return the largest magnitude of some samples, if it is large and no layer scales them, or else 0."""
        nodes = self._trainer.network.graph.nodes
        if not nodes or any(node.layer.fitted_to for node in nodes):
            return 0.0
        x, _ = self._trainer.train.take(slice(0, 1000), np.dtype(np.float64))
        size = float(np.abs(x).max(initial=0))
        return size if size > LARGE else 0.0

    def _above_the_best(self, constant):
        losses = self._losses
        figures = self._held if self._held else losses
        name = "val_loss" if self._held else "loss"
        if len(figures) != len(losses) or self._trainer.settings.patience is not None:
            return []
        best = min((figure for figure in figures if math.isfinite(figure)), default=math.nan)
        start, last = figures[0] if constant is None else constant, figures[-1]

        def is_far(figure, factor=1.0):
            return figure >= factor * FACTOR * best and figure - best >= factor * RISE * (start - best)

        if not (best > 0 and (is_far(last, MUCH) or all(map(is_far, figures[-LAST:])))):
            return []
        trained = losses[-1] < FACTOR * min(losses) and (constant is None or losses[-1] < constant)
        epoch = figures.index(best) + 1
        directory = self._trainer._directory
        kept = f"; {directory.path / 'best.safetensors'} has its parameters" if directory is not None else ""
        way = "patience, more samples or a smaller network" if trained else "a smaller learning rate or patience"
        return [f"{name} ended at {last:.4g}, far above its best, {best:.4g} in epoch {epoch}: {way} helps{kept}"]


def _falls(figures: Sequence[float], constant: float) -> bool:
    """Return whether figures fall by more than `NEAR` of a constant's loss, and not by chance.

    Either they hardly go up and down, or the line of least squares falls by more than its noise: with dropout a loss
    goes up and down while it falls.
    """
    fall = figures[0] - figures[-1]
    if fall > NEAR * constant and fall > 0.5 * float(np.abs(np.diff(figures)).sum()):
        return True
    if len(figures) < POINTS:
        return False
    t = np.arange(len(figures)) - (len(figures) - 1) / 2
    y = np.asarray(figures) - np.mean(figures)
    slope = float(t @ y / (t @ t))
    error = float(np.sqrt(np.square(y - slope * t).sum() / (len(t) - 2) / (t @ t)))
    return -slope * (len(t) - 1) > NEAR * constant and -slope > ERRORS * error


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{names[0]}, {names[1]}, ... and {names[-1]}"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
