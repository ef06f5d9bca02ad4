"""Certify a loss with weights of samples: factors w_i of C_i and of its gradient, as a program applies them."""

from typing import Any

import numpy as np

from ..program.program import Program
from ..registry import compose
from .derivatives import differences, hint
from .kernels import told
from .places import written_in
from .runner import Call
from .verdicts import gradient_sentence

SCALE = 4.0  # a power of two, by which products are multiplied without rounding
CLOSE = 1e-12  # largest error of w_i C_i, relative to it


class Weighted:
    """The calls of a loss and of its weights on one batch in float64, bound as a program binds them.

    Parameters
    ----------
    loss : Loss
    y : ndarray (N, *shape)
        Outputs.
    target : ndarray (N, *shape), or class numbers (N,)
    """

    def __init__(self, loss, y, target):
        labels = target.dtype.kind in "iu"
        network = compose(["layernorm"], y.shape[1:], dtype="float64")  # any layer with parameters
        self.program = Program(network, loss, "sgd", len(y), labels=labels, weighted=True)
        self.plan, self.state, self.N, self.real = self.program.plan, self.program.state, len(y), np.float64
        self.space: dict[str, Any] = {"training": True, "seed": 0, "n0": 0}
        made = (call for each in self.plan.backward for call in each.calls if call.node is None)
        self.calls = [Call(self, call, "forward") for call in made]
        self.given = {"y": y, "target": target}

    def __call__(self, weights):
        """Return loss (N,) and dy like y with these weights (N,)."""
        found: dict[str, Any] = {}
        for call in self.calls:
            arguments = call.arguments()
            for name, values in {**self.given, "weight": weights}.items():
                if name in arguments:
                    arguments[name][...] = np.reshape(values, arguments[name].shape)
            call.compiled()(*arguments.values(), 0, 1)
            found |= {name: arguments[name] for name in ("loss", "dy") if name in arguments}
        return {"loss": found["loss"].copy(), "dy": found["dy"].reshape(self.given["y"].shape).copy()}


def certify_weights(loss, y, target, plain, cost, rng, answer):
    """Check what weights do to a loss; call `answer(column, part, sentence)` for each check.

    Parameters
    ----------
    loss, y, target : as for `Weighted`
    plain : dict
        "loss" (N,) and "dy" like y, without weights.
    cost : object with `each`, `start` and `arrays`, see `derivatives.Cost`
        ``each(v)`` are the losses (N,) as a function of the outputs, without weights.
    rng : numpy.random.Generator
    answer : callable
    """
    weighted, weights = Weighted(loss, y, target), rng.uniform(0.25, 3, len(y))
    call = weighted.calls[-1]
    found, ones, many = (weighted(each) for each in (weights, np.ones(len(y)), SCALE * weights))
    for name in ("loss", "dy"):
        factors = weights.reshape(-1, *[1] * (found[name].ndim - 1))
        right, before = factors * plain[name], plain[name]
        remedy = "multiply the loss and the gradient of sample n by weight[n]"
        questions = [
            ("with its weight", found[name], right, CLOSE, f"its weight times its value; {remedy}"),
            ("with weights of 1", ones[name], before, 0, "its value without weights"),
            (f"with weights {SCALE:g} times as large", many[name], SCALE * found[name], 0, "its value times that"),
        ]
        for sample in sorted({0, len(y) - 1}):
            without = np.where(np.arange(len(y)) == sample, 0, weights)
            expected = np.where(without.reshape(factors.shape) == 0, 0, found[name])
            condition = f"if sample {sample} has the weight 0"
            questions.append((condition, weighted(without)[name], expected, 0, "0 for it and no change for others"))
        for condition, came, wanted, error, rule in questions:
            answer("gradient", call.name, _sentence(call, name, condition, came, wanted, error, rule))
    _by_differences(cost, weights, found["dy"], call, rng, answer)


def _sentence(call, name, condition, came, wanted, error, rule):
    """Return the first number that is not as wanted, as a sentence, or None."""
    wrong = ~(np.abs(came - wanted) <= error * np.abs(wanted))
    if not wrong.any():
        return None
    at = tuple(np.argwhere(wrong)[0])
    index = ", ".join(map(str, at))
    text = f"{name}[{index}] is {came[at]:.17g} {condition}, where {wanted[at]:.17g} is right, {rule}"
    return told(call, text, written_in(call.cpu, name))


def _by_differences(cost, weights, dy, call, rng, answer):
    """Compare dy with central differences of the weighted sum of the losses."""
    total = _Total(cost, weights)
    derivatives = differences(total, dy.ravel(), rng)["y"]
    sentence = gradient_sentence("y", derivatives, hint(derivatives, dy), call, "dy")
    answer("gradient", "y", sentence and f"with weights of samples {sentence}")


class _Total:
    """The sum of w_i C_i as a function of the outputs, for `differences`."""

    def __init__(self, cost, weights):
        self.each, self.weights, self.start, self.arrays = cost.each, weights, cost.start, cost.arrays

    def __call__(self, v):
        return float(self.weights @ self.each(v))
