"""Evaluate a population of parameter vectors on one machine or many, with the same code.

An evolution strategy (Salimans et al. 2017, arXiv:1703.03864) trains a policy for the cart-pole of
examples/rollouts.py: vectors of parameters are drawn around the present one, each plays some episodes, and the present
one moves towards those whose episodes were long. `evaluate` plays episodes in a compiled loop and runs in other
processes, which any executor of `concurrent.futures` starts; a client of Dask has one too. Tasks carry the network
(its description and parameters), some vectors and the keys of their random numbers; the other process takes compiled
code from the cache. The lengths depend neither on the executor nor on how many tasks there are.

    python examples/population.py [--workers 2 | --scheduler ADDRESS] [--turns 20] [--population 64] [--seed 0]
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from math import cos, sin
from multiprocessing import get_context

import numpy as np
from nnjit import registry
from numba import njit

GRAVITY, CART, POLE, HALF, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # m/s^2, kg, kg, m, N, s
EDGE, TILT = 2.4, 12 * 2 * np.pi / 360  # where an episode ends
STEPS, EPISODES = 500, 4  # steps of an episode, at most; episodes of a vector


@njit
def advance(s, right):
    """Push the cart for one step of Euler's method; return whether the pole still stands."""
    x, v, angle, speed = s
    whole = CART + POLE
    push = ((FORCE if right else -FORCE) + POLE * HALF * speed * speed * sin(angle)) / whole
    turn = (GRAVITY * sin(angle) - cos(angle) * push) / (HALF * (4.0 / 3.0 - POLE * cos(angle) ** 2 / whole))
    move = push - POLE * HALF * turn * cos(angle) / whole
    s[0], s[1], s[2], s[3] = x + TAU * v, v + TAU * move, angle + TAU * speed, speed + TAU * turn
    return abs(s[0]) <= EDGE and abs(s[2]) <= TILT


@njit(cache=True)
def play(predict, state, thetas, starts, lengths):
    """Let each vector play an episode from each of its starts, always with the likelier action."""
    for k in range(len(thetas)):
        state.theta[:] = thetas[k]
        lengths[k] = 0.0
        for start in starts[k]:
            s = start.copy()
            for _ in range(STEPS):
                y = predict(state, s)
                lengths[k] += 1.0 / len(starts[k])
                if not advance(s, y[1] > y[0]):
                    break


_programs = {}  # of this process: the description of a network -> its program


def evaluate(network, thetas, keys):
    """Return the mean length of the episodes of each vector; a vector's random numbers follow from its key alone."""
    program = _programs.get(repr(network))
    if program is None:
        program = _programs[repr(network)] = network.compile(batch_size=1)
    starts = np.array([np.random.default_rng(key).uniform(-0.05, 0.05, (EPISODES, 4)) for key in keys])
    lengths = np.empty(len(thetas))
    play(program.predict, program.new_state(), thetas, starts, lengths)
    return lengths


def evaluated(pool, network, thetas, keys, tasks):
    """Evaluate a population in some tasks of an executor; return the lengths in the order of the vectors."""
    parts = np.array_split(np.arange(len(thetas)), tasks)
    found = pool.map(evaluate, [network] * tasks, [thetas[part] for part in parts], [keys[part] for part in parts])
    return np.concatenate(list(found))


def evolution(pool, turns, seed, population=64, tasks=4, spread=0.1, rate=0.1):
    """Train a policy; yield it and the mean length of an episode after each turn."""
    net = registry.compose("dense(32) tanh dense(2)", input_shape=(4,), dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    evaluate(net, net.theta[None], [seed])  # compiles, once: the other processes of this machine find it in the cache
    for _ in range(turns):
        noise = rng.standard_normal((population // 2, net.theta.size))
        noise = np.concatenate([noise, -noise])
        keys = rng.integers(0, 2**63, len(noise))
        lengths = evaluated(pool, net, net.theta + spread * noise, keys, tasks)
        ranks = lengths.argsort().argsort() / (len(noise) - 1) - 0.5
        net.theta[:] += rate / (len(noise) * spread) * ranks @ noise
        yield net, lengths.mean()


@contextmanager
def executor(workers, scheduler):
    """Start processes of one thread on this machine, or use those of a Dask scheduler."""
    if scheduler is None:
        os.environ["NUMBA_NUM_THREADS"] = "1"  # of the processes, which read it when they start
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        from distributed import Client

        with Client(scheduler) as client:
            yield client.get_executor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, whose workers evaluate instead")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--population", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=4, help="tasks of a turn; best a few for each worker")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with executor(options.workers, options.scheduler) as pool:
        began = time.perf_counter()
        turns = evolution(pool, options.turns, options.seed, options.population, options.tasks)
        for turn, (_, length) in enumerate(turns, 1):
            print(f"turn {turn}: {length:.2f} steps of {STEPS}, {time.perf_counter() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
