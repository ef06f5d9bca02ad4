"""A trained network inside a jitted loop: a pendulum with a force law learned from samples.

A network learns the angular acceleration of a damped pendulum. The simulation below is an ordinary ``@njit`` function
that takes ``program.predict`` and the state as ARGUMENTS. So its cached code works with any network of these shapes,
and a call costs little more than the network's arithmetic.

    python examples/jitted_simulation.py [--export pendulum.so] [--picture pendulum.png]

With --export the network is written as a library for embed/pendulum.c, the same simulation in C.
"""

import argparse
import time

import numpy as np
from nnjit import registry
from numba import njit

GRAVITY, DAMPING, DT = 9.81, 0.2, 1e-3


def acceleration(angle, speed):
    """Return the angular acceleration, which the network learns."""
    return -GRAVITY * np.sin(angle) - DAMPING * speed


@njit(cache=True)
def simulate(predict, state, x, y, angle, speed, steps):
    """Integrate by semi-implicit Euler with the network as force; x (1, 2) and y (1, 1) are its input and output."""
    path = np.empty(steps)
    for i in range(steps):
        x[0, 0], x[0, 1] = angle, speed
        predict(state, x, y)
        speed += DT * y[0, 0]
        angle += DT * speed
        path[i] = angle
    return path


def true_path(angle, speed, steps):
    path = np.empty(steps)
    for i in range(steps):
        speed += DT * acceleration(angle, speed)
        angle += DT * speed
        path[i] = angle
    return path


def learned():
    """Return a network that has learned the acceleration from samples."""
    rng = np.random.default_rng(0)
    x = rng.uniform([-np.pi, -8], [np.pi, 8], (4000, 2))
    y = acceleration(x[:, :1], x[:, 1:])
    net = registry.compose(["dense(32)", "tanh", "dense(32)", "tanh", "dense(1)"], input_shape=(2,), dtype="float64")
    net.fit(x, y, loss="mse", optimizer="adam(lr=5e-3)", schedule="cosine", epochs=60, batch_size=64)
    return net


def draw(angles, path):
    """Draw the angle over time, with the network as force and with the true one."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    times = DT * np.arange(1, len(angles) + 1)
    axes.plot(times, true_path(1.0, 0.0, len(angles)), label="true")
    axes.plot(times, angles, "k:", label="with the network")
    axes.set(xlabel="time in s", ylabel="angle in rad", xlim=(0, times[-1]))
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(steps=5000, path=None, picture=None):
    net = learned()
    if path:
        net.export(path)
    program = net.compile(loss="mse", optimizer="sgd", batch_size=1)
    one, out = np.empty((1, 2)), np.empty((1, 1))
    simulate(program.predict, program.state, one, out, 1.0, 0.0, 1)  # compile
    begin = time.perf_counter()
    angles = simulate(program.predict, program.state, one, out, 1.0, 0.0, steps)
    seconds = time.perf_counter() - begin
    error = np.abs(angles - true_path(1.0, 0.0, steps)).max()
    each = seconds / steps * 1e6
    print(f"{steps} steps in {seconds * 1e3:.1f} ms ({each:.2f} us a step), largest error {error:.3f} rad")
    if picture:
        draw(angles, picture)
    return error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", help="a library to write, such as pendulum.so")
    parser.add_argument("--picture", help="file to draw into")
    options = parser.parse_args()
    main(path=options.export, picture=options.picture)
