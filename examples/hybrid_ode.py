"""A network inside a differential equation: the interaction of predators and prey is learned from their numbers.

Lotka and Volterra's equations are x' = alpha x - beta x y for the prey and y' = gamma x y - delta y for the predators.
Growth and death rates are known here, the interaction is not: u' = A u + N(u), with a network N. The network is trained
through the integrator (Runge-Kutta of order 4), whose steps are run backwards with ``program.vjp`` (Rackauckas et al.,
Universal Differential Equations for Scientific Machine Learning, 2020, arXiv:2001.04385).

    python examples/hybrid_ode.py [--seed 0] [--picture interaction.png]
"""

import argparse

import numpy as np
from nnjit import registry
from numba import njit

ALPHA, BETA, GAMMA, DELTA = 1.3, 0.9, 0.8, 1.8
START = (0.44, 4.63)
STEP, SAMPLES = 0.1, 61  # time between two observations, and their number
SCALE = 5.0  # of the populations: the network gets numbers of about 1
AHEAD = 5  # observations that are predicted from each one


@njit
def slope(predict, state, u, out):
    """Out = u' = A u + N(u), at the network's scale."""
    n = predict(state, u / SCALE)
    out[0] = ALPHA * u[0] + SCALE * n[0]
    out[1] = -DELTA * u[1] + SCALE * n[1]


@njit
def pull(vjp, state, u, g):
    """Return (du'/du)^T g; (du'/dtheta)^T g is added to the state's gradient."""
    _, back = vjp(state, u / SCALE, SCALE * g)
    back = back / SCALE
    back[0] += ALPHA * g[0]
    back[1] -= DELTA * g[1]
    return back


@njit
def forward(predict, state, u, stages, slopes):
    """Return u after one step; keep where the slope was taken, and the slopes."""
    for s in range(4):
        stages[s] = u if s == 0 else u + (STEP if s == 3 else STEP / 2) * slopes[s - 1]
        slope(predict, state, stages[s], slopes[s])
    return u + STEP / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])


@njit
def backward(vjp, state, stages, g):
    """Return (du_after/du_before)^T g of one step, its stages in reverse."""
    before, later = g.copy(), np.zeros(2)
    for s in range(3, -1, -1):
        weight = STEP / 6 if s in (0, 3) else STEP / 3
        back = pull(vjp, state, stages[s], weight * g + later)
        before += back
        later = (STEP if s == 3 else STEP / 2) * back
    return before


@njit
def train(predict, vjp, update, state, data, turns):
    """Predict AHEAD observations from each one, `turns` times; return the mean squared error before the last update."""
    stages, slopes = np.empty((AHEAD, 4, 2)), np.empty((4, 2))
    error = 0.0
    for _ in range(turns):
        error, count = 0.0, 0
        for first in range(len(data) - 1):
            ahead = min(AHEAD, len(data) - 1 - first)
            path = np.empty((ahead + 1, 2))
            path[0] = data[first]
            for k in range(ahead):
                path[k + 1] = forward(predict, state, path[k], stages[k], slopes)
            g = np.zeros(2)
            for k in range(ahead - 1, -1, -1):
                off = path[k + 1] - data[first + k + 1]
                error += off[0] * off[0] + off[1] * off[1]
                g = backward(vjp, state, stages[k], g + 2 * off)
            count += 2 * ahead
        error /= count
        update(state, 1.0 / count)
    return error


def interaction(u):
    """Return what the network has to find, in numbers of animals: (-beta x y, gamma x y)."""
    product = u[..., 0] * u[..., 1]
    return np.stack([-BETA * product, GAMMA * product], axis=-1)


def observed():
    """Return the populations at SAMPLES times, by the true equations in small steps."""
    u, found, h = np.array(START), [np.array(START)], STEP / 100
    rates = lambda u: np.array([ALPHA, -DELTA]) * u + interaction(u)  # noqa: E731
    for _ in range(SAMPLES - 1):
        for _ in range(100):
            middle = u + h / 2 * rates(u)
            u = u + h * rates(middle)
        found.append(u)
    return np.array(found)


def learned(seed, turns=(3000, 3000)):
    """Return the network, the observations, and the relative error of the interaction where they are."""
    data = observed()
    net = registry.compose("dense(24) tanh dense(24) tanh dense(2)", input_shape=(2,), dtype="float64", seed=seed)
    for rate, count in zip((0.01, 0.001), turns, strict=True):
        program = net.compile(loss="mse", optimizer=f"adam(lr={rate})", batch_size=1)
        train(program.predict, program.vjp, program.update, program.state, data, count)
    found = SCALE * net.predict(data / SCALE)
    return net, data, np.linalg.norm(found - interaction(data)) / np.linalg.norm(interaction(data))


def draw(net, data, path):
    """Draw the observations, and the learned and the true interaction along them."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    times = STEP * np.arange(len(data))
    for k, name in enumerate(("prey", "predators")):
        left.plot(times, data[:, k], label=name)
        right.plot(times, interaction(data)[:, k], color=f"C{k}", label=f"{name}, true")
        right.plot(times, SCALE * net.predict(data / SCALE)[:, k], "k:", label="learned" if k else None)
    left.set(xlabel="time", ylabel="population")
    right.set(xlabel="time", ylabel="effect of the interaction")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="file to draw into")
    options = parser.parse_args()
    net, data, error = learned(options.seed)
    print(f"the interaction is recovered with an error of {error:.2%}")
    if options.picture:
        draw(net, data, options.picture)


if __name__ == "__main__":
    main()
