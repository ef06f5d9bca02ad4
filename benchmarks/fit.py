"""The loop around the program: the time of a whole `net.fit` over that of its steps alone.

    python benchmarks/fit.py [--only PATTERN] [--seconds 5] [--turns 3]

A row alternates two sides that do the same epochs: ``program.epoch`` on the orders of `fit`, followed by
``program.predict`` of the validation set if there is one; and `net.fit`, from its call to its return, without output or
with a run directory. Theta must have the same bits after a few epochs of either. All code is compiled before. Printed
are microseconds a step, minima over the turns, and the ratio, which is to be at most 1.05 (with a run directory 1.10).
"""

import argparse
import tempfile
import time
from fnmatch import fnmatch
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nnjit import registry
from nnjit.training.orders import order
from works import LENET, MLP

CHECKED = 3  # epochs of the comparison of bits
ORDERS = 50  # orders that are drawn in advance; more epochs use them again
LEAST, LEAST_WITH_DIRECTORY = 1.05, 1.10


class Work(NamedTuple):
    """One training: `samples` in batches, and a validation set of `held` samples."""

    layers: tuple
    shape: tuple
    loss: str
    optimizer: str
    batch: int
    samples: int
    held: int = 0
    directory: bool = False


NARROW = ("dense(32)", "tanh", "dense(16)", "tanh", "dense(4)")
BASES = {
    "MLP 784-256-128-10, batch 32": Work(MLP, (784,), "cross_entropy", "sgd(lr=0.01)", 32, 12_800),
    "LeNet, batch 32": Work(LENET, (1, 28, 28), "cross_entropy", "sgd(lr=0.01)", 32, 12_800),
    "4-32-16-4, batch 64": Work(NARROW, (4,), "mse", "adam(lr=0.001)", 64, 10_000),
}
WORKS = {
    f"{name}{what}": work._replace(held=work.samples // 5 if "validation" in what else 0, directory="run" in what)
    for what in ("", ", validation", ", run directory")
    for name, work in BASES.items()
}


def data(work, count, seed):
    """Draw samples and targets."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *work.shape), np.float32)
    if work.loss == "mse":
        return x, rng.standard_normal((count, 4), np.float32)
    return x, rng.integers(0, 10, count)


def new_network(work):
    return registry.compose(work.layers, input_shape=work.shape, seed=0)


def steps_alone(work, epochs):
    """Return seconds and theta after the compiled epochs alone."""
    net = new_network(work)
    program = net.compile(work.loss, work.optimizer, work.batch)
    x, y = data(work, work.samples, 0)
    held, _ = data(work, work.held, 1)
    outputs = np.empty((work.held, *net.output_shape), np.float32)
    orders = [order(0, epoch, work.samples) for epoch in range(1, min(epochs, ORDERS) + 1)]
    program.predict(program.state, x[:1], np.empty((1, *net.output_shape), np.float32))
    began = time.perf_counter()
    for each in islice(cycle(orders), epochs):
        program.epoch(program.state, x, y, each)
        if work.held:
            program.predict(program.state, held, outputs)
    return time.perf_counter() - began, net.theta


def whole_fit(work, epochs):
    """Return seconds and theta after `net.fit`."""
    net, (x, y) = new_network(work), data(work, work.samples, 0)
    validation = data(work, work.held, 1) if work.held else None
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run" if work.directory else None
        began = time.perf_counter()
        net.fit(
            x, y, loss=work.loss, optimizer=work.optimizer, epochs=epochs, batch_size=work.batch, validation=validation,
            output=output,
        )  # fmt: skip
        return time.perf_counter() - began, net.theta


def row(work, seconds, turns):
    """Return the seconds of a step on both sides, the least of all turns each."""
    (_, expected), (_, found) = steps_alone(work, CHECKED), whole_fit(work, CHECKED)
    assert np.array_equal(expected, found), "theta differs"
    epochs = CHECKED
    while (alone := steps_alone(work, epochs)[0]) < seconds:  # the machine may be disturbed at the first try
        epochs = int(epochs * min(100, 1.1 * seconds / alone)) + 1
    times = [(steps_alone(work, epochs)[0], whole_fit(work, epochs)[0]) for _ in range(turns)]
    steps = epochs * -(-work.samples // work.batch)
    return tuple(min(side) / steps for side in zip(*times, strict=True)), epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="rows whose names match")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    print("| work | epochs | steps alone, us a step | fit, us a step | ratio | at most |")
    print("| --- " * 6 + "|")
    for name, work in WORKS.items():
        if fnmatch(name, chosen.only):
            (alone, whole), epochs = row(work, chosen.seconds, chosen.turns)
            most = LEAST_WITH_DIRECTORY if work.directory else LEAST
            print(f"| {name} | {epochs} | {alone * 1e6:.2f} | {whole * 1e6:.2f} | {whole / alone:.3f} | {most:.2f} |")


if __name__ == "__main__":
    main()
