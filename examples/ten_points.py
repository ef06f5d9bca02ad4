"""The ten points of Higham & Higham (2019): a 2-2-3-2 sigmoid network, single samples, a million steps in one call.

python examples/ten_points.py [SEED]
"""

import sys
import time

import numpy as np
from nnjit import registry
from nnjit.data import load

STEPS, ETA = 1_000_000, 0.05


def main(seed=0):
    points = load("ten_points").train
    x, y = points.take(slice(None), "float64")
    layers = [layer for units in (2, 3, 2) for layer in (("dense", {"units": units, "init": "normal(0.5)"}), "sigmoid")]
    net = registry.compose(layers, input_shape=(2,), dtype="float64", seed=seed)
    program = net.compile(loss="quadratic", optimizer=f"sgd(lr={ETA})", batch_size=1)

    order = np.random.default_rng(seed).integers(0, 10, STEPS)  # drawn with replacement, as in the paper
    epoch = program.epoch  # compiled here, before the clock starts
    begin = time.perf_counter()
    epoch(program.state, x, y, order)
    seconds = time.perf_counter() - begin

    cost = net.evaluate(x, y, loss="quadratic")["loss"]
    right = int((net.predict(x).argmax(axis=1) == y.argmax(axis=1)).sum())
    each = seconds / STEPS * 1e6
    print(f"{STEPS} steps in {seconds:.2f} s ({each:.2f} us a step), cost {cost:.1e}, {right} of 10 right")
    return seconds, cost, right


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
