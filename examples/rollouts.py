"""Reinforcement learning in compiled loops: a policy that balances a pole on a cart, trained in parallel environments.

The cart-pole is that of Barto, Sutton & Anderson (Neuronlike adaptive elements that can solve difficult learning
control problems, 1983), with the constants of Gymnasium's CartPole-v1. Each environment runs in an iteration of a
`prange`, with a state of the network each, so the bits do not depend on the threads. Two ways to train:

* policy gradient (Williams 1992): environments sample actions; the gradient of log-probability times advantage comes
  from ``program.vjp``, is added up environment by environment, and ``program.update`` applies it; the network has two
  programs, one for single samples, to act, and one for batches, to learn (its loss, "mse", is never computed);
* an evolution strategy (Salimans et al. 2017, arXiv:1703.03864): ``program.states(K, theta="own")`` are K parameter
  vectors, each of which plays some episodes.

    python examples/rollouts.py [--evolution] [--turns 150] [--seed 0] [--picture learning.png]
"""

import argparse
import time
from math import cos, exp, sin

import numpy as np
from nnjit import registry
from numba import njit, prange

GRAVITY, CART, POLE, HALF, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # m/s^2, kg, kg, m, N, s
EDGE, TILT = 2.4, 12 * 2 * np.pi / 360  # where an episode ends
STEPS = 500  # of an episode, at most
DISCOUNT = 0.99
BATCH = 64  # samples that vjp takes at once; more would be divided among threads inside of the environments' loop


@njit
def uniform(key):
    """Advance a generator of random numbers, one for each environment; return a number from 0 to 1 (xorshift64)."""
    x = key[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    key[0] = x
    return (x >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit
def reset(key, s):
    for i in range(4):
        s[i] = 0.1 * uniform(key) - 0.05


@njit
def advance(s, right):
    """Push the cart for one step of Euler's method; return whether the pole still stands."""
    x, v, angle, speed = s
    force = FORCE if right else -FORCE
    whole = CART + POLE
    push = (force + POLE * HALF * speed * speed * sin(angle)) / whole
    turn = (GRAVITY * sin(angle) - cos(angle) * push) / (HALF * (4.0 / 3.0 - POLE * cos(angle) ** 2 / whole))
    move = push - POLE * HALF * turn * cos(angle) / whole
    s[0], s[1], s[2], s[3] = x + TAU * v, v + TAU * move, angle + TAU * speed, speed + TAU * turn
    return abs(s[0]) <= EDGE and abs(s[2]) <= TILT


@njit(parallel=True, cache=True)
def collect(predict, states, keys, seen, right, chance, length):
    """Play an episode in each environment, with drawn actions; keep what was seen and done."""
    for k in prange(len(length)):
        s, y = np.empty(4), np.empty(2)
        reset(keys[k], s)
        length[k] = STEPS
        for t in range(STEPS):
            seen[k, t] = s
            predict(states[k], s, y)
            chance[k, t] = 1.0 / (1.0 + exp(y[0] - y[1]))  # of the action "right"
            right[k, t] = uniform(keys[k]) < chance[k, t]
            if not advance(s, right[k, t]):
                length[k] = t + 1
                break


@njit
def advantages(length, out):
    """Write the discounted returns, scaled to mean 0 and standard deviation 1; return the number of steps."""
    count, total, squares = 0, 0.0, 0.0
    for k in range(len(length)):
        come = 0.0
        for t in range(length[k] - 1, -1, -1):
            come = 1.0 + DISCOUNT * come
            out[k, t] = come
            total += come
            squares += come * come
        count += length[k]
    mean = total / count
    spread = (squares / count - mean * mean) ** 0.5 + 1e-9
    for k in range(len(length)):
        for t in range(length[k]):
            out[k, t] = (out[k, t] - mean) / spread
    return count


@njit(parallel=True, cache=True)
def learn(vjp, clear, states, state, seen, right, chance, length, gain):
    """Add the gradient of -sum gain log p(action) to that of the state: by environment, then in their order."""
    for k in prange(len(length)):
        steps = length[k]
        dy = np.empty((steps, 2))
        for t in range(steps):
            dy[t, 1] = gain[k, t] * (chance[k, t] - right[k, t])
            dy[t, 0] = -dy[t, 1]
        clear(states[k])
        vjp(states[k], seen[k, :steps], dy)
    for k in range(len(length)):
        for i in range(state.gradient.size):
            state.gradient[i] += states[k].gradient[i]


def policy(seed):
    return registry.compose("dense(32) tanh dense(2)", input_shape=(4,), dtype="float64", seed=seed)


def policy_gradient(turns, seed, environments=64, report=None):
    """Train a policy; return it and the mean length of an episode in each turn."""
    net = policy(seed)
    acting, learning = net.compile(batch_size=1), net.compile(loss="mse", optimizer="adam(lr=0.01)", batch_size=BATCH)
    actors, learners = acting.states(environments), learning.states(environments, gradient=True)
    shape = environments, STEPS
    keys = np.random.default_rng(seed).integers(1, 2**63, (environments, 1), np.uint64)
    seen, right = np.empty((*shape, 4)), np.empty(shape, np.bool_)
    chance, gain, length = np.empty(shape), np.empty(shape), np.empty(environments, np.int64)
    lengths = []
    for turn in range(turns):
        collect(acting.predict, actors, keys, seen, right, chance, length)
        count = advantages(length, gain)
        learn(learning.vjp, learning.clear, learners, learning.state, seen, right, chance, length, gain)
        learning.update(learning.state, 1.0 / count)
        lengths.append(length.mean())
        if report:
            report(turn, lengths[-1])
    return net, lengths


@njit(parallel=True, cache=True)
def play(predict, states, keys, episodes, length):
    """Let each parameter vector play some episodes, always with the likelier action; length = their mean length."""
    for k in prange(len(length)):
        s, total = np.empty(4), 0
        for _ in range(episodes):
            reset(keys[k], s)
            for _ in range(STEPS):
                y = predict(states[k], s)
                total += 1
                if not advance(s, y[1] > y[0]):
                    break
        length[k] = total / episodes


def evolution(turns, seed, population=64, spread=0.1, rate=0.1, report=None):
    """Train a policy by an evolution strategy; return it and the mean length of an episode in each turn."""
    net, rng = policy(seed), np.random.default_rng(seed)
    program = net.compile(batch_size=1)
    states, lengths = program.states(population, theta="own"), []
    keys, length = rng.integers(1, 2**63, (population, 1), np.uint64), np.empty(population)
    for turn in range(turns):
        noise = rng.standard_normal((population // 2, net.theta.size))
        noise = np.concatenate([noise, -noise])
        states.theta[:] = net.theta + spread * noise
        play(program.predict, states, keys, 4, length)
        ranks = length.argsort().argsort() / (population - 1) - 0.5
        net.theta[:] += rate / (population * spread) * ranks @ noise
        lengths.append(length.mean())
        if report:
            report(turn, lengths[-1])
    return net, lengths


def draw(lengths, path):
    """Draw the mean length of an episode in each turn."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3), layout="constrained")
    axes.plot(np.arange(1, len(lengths) + 1), lengths)
    axes.axhline(STEPS, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="turn", ylabel="steps of an episode, mean", xlim=(1, max(2, len(lengths))), ylim=(0, 1.05 * STEPS))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--evolution", action="store_true", help="an evolution strategy, not policy gradient")
    parser.add_argument("--turns", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", help="file to draw into")
    options = parser.parse_args()
    train = evolution if options.evolution else policy_gradient
    began = time.perf_counter()
    report = lambda k, mean: k % 10 or print(f"turn {k}: {mean:.0f} steps")  # noqa: E731
    net, lengths = train(options.turns, options.seed, report=report)
    print(f"{options.turns} turns in {time.perf_counter() - began:.1f} s")
    program, length = net.compile(batch_size=1), np.empty(100)
    keys = np.random.default_rng(options.seed + 1).integers(1, 2**63, (100, 1), np.uint64)
    play(program.predict, program.states(100), keys, 1, length)
    print(f"100 episodes: {length.mean():.0f} steps on average, {int(length.min())} at least")
    if options.picture:
        draw(lengths, options.picture)


if __name__ == "__main__":
    main()
