"""Model-predictive control in compiled loops: a pole on a cart is swung up with a model learned from its motion.

The cart-pole is that of Barto, Sutton & Anderson (Neuronlike adaptive elements that can solve difficult learning
control problems, 1983), with the masses and lengths of Gymnasium's CartPole-v1, but the pole hangs at first, and the
force is any number up to a limit. The controller does not know the equations of the accelerations:

* a network learns from drawn motions by how much the two velocities change in a step;
* ``program.jacobian`` linearises it along a plan of the next 2.5 s, which iterative LQR improves in each step (Tassa,
  Mansard & Todorov, Control-Limited Differential Dynamic Programming, 2014), and at the upright pole for a
  linear-quadratic regulator, which takes over near it. The function ``carry`` does the arithmetic of both.

A start is held if the pole stays within 10 degrees for the last 10 of 20 s, and the cart never leaves its track.

    python examples/control.py [--starts 20] [--seed 0] [--picture swing.png]
"""

import argparse
import time
from math import cos, pi, sin

import numpy as np
from nnjit import registry
from numba import njit, prange

GRAVITY, CART, POLE, HALF = 9.8, 1.0, 0.1, 0.5  # m/s^2, kg, kg, m
LIMIT, EDGE = 5.0, 2.4  # the largest force in N; half the length of the track in m
TAU, PARTS = 0.02, 10  # a step of the controller in s; the true motion is integrated in parts of it
SECONDS, HELD, TILT = 20, 10, 10 * pi / 180  # s of an episode; its last s are to be held, within this angle
SCALE = np.array([1.0, 1.0, 3.0, 8.0, LIMIT])  # of what the network sees: sine, cosine, m/s, rad/s, N
CHANGE = np.array([0.1, 0.5])  # of what it predicts: m/s and rad/s in a step
COST = np.array([1.0, 0.1, 2.0, 0.1, 0.01])  # of a step: of squares of m, m/s, rad, rad/s, N
AHEAD = 125  # steps of a plan
FIRST = 50  # improvements of the first plan
NEAR = 30.0  # the regulator takes over where its cost to go is below this


@njit
def advance(s, force):
    """Move the true cart and pole for a step. The state is (x, v, angle, speed) in m, m/s, rad, rad/s; 0 is upright."""
    for _ in range(PARTS):
        angle, speed, whole = s[2], s[3], CART + POLE
        push = (force + POLE * HALF * speed * speed * sin(angle)) / whole
        turn = (GRAVITY * sin(angle) - cos(angle) * push) / (HALF * (4.0 / 3.0 - POLE * cos(angle) ** 2 / whole))
        s[1] += TAU / PARTS * (push - POLE * HALF * turn * cos(angle) / whole)
        s[3] += TAU / PARTS * turn
        s[0] += TAU / PARTS * s[1]
        s[2] += TAU / PARTS * s[3]


@njit
def features(s, force):
    """Return the network's input: all but the position of the cart."""
    return np.array([sin(s[2]), cos(s[2]), s[1], s[3], force]) / SCALE


def motions(count, steps, rng):
    """Return what the network sees and has to predict in each step of drawn motions under drawn forces."""
    x, change = np.empty((count, steps, 5)), np.empty((count, steps, 2))
    for m in range(count):
        s = rng.uniform(-1, 1, 4) * (0, 3, pi, 8)
        for t in range(steps):
            force, before = rng.uniform(-LIMIT, LIMIT), s.copy()
            advance(s, force)
            x[m, t], change[m, t] = features(before, force), (s[1::2] - before[1::2]) / CHANGE
    return x.reshape(-1, 5), change.reshape(-1, 2)


def learned(seed, epochs=60):
    """Return a network that predicts the changes, and its relative error in motions that it has not seen."""
    rng = np.random.default_rng(seed)
    net = registry.compose("dense(32) tanh dense(32) tanh dense(2)", input_shape=(5,), dtype="float64", seed=seed)
    x, change = motions(500, 40, rng)
    net.fit(
        x, change, loss="mse", optimizer="adam(lr=0.005)", schedule="cosine", epochs=epochs, batch_size=64, seed=seed
    )
    x, change = motions(50, 40, rng)
    return net, np.linalg.norm(net.predict(x) - change) / np.linalg.norm(change)


@njit
def foresee(predict, state, s, force, after):
    """Write the next state, as the network predicts it; positions move by the mean of both velocities."""
    y = predict(state, features(s, force))
    for i in range(2):  # the cart, the pole
        after[2 * i + 1] = s[2 * i + 1] + CHANGE[i] * y[i]
        after[2 * i] = s[2 * i] + TAU / 2 * (s[2 * i + 1] + after[2 * i + 1])


@njit
def linearise(jacobian, state, s, force, F):
    """F = [A B]: the derivatives of the next state with respect to the state (A) and the force (B)."""
    _, J = jacobian(state, features(s, force))
    F[:] = 0.0
    for i in range(2):
        place, velocity, slope = F[2 * i], F[2 * i + 1], CHANGE[i] * J[i] / SCALE
        velocity[1], velocity[3], velocity[4] = slope[2], slope[3], slope[4]
        velocity[2] = slope[0] * cos(s[2]) - slope[1] * sin(s[2])
        velocity[2 * i + 1] += 1.0
        for j in range(5):
            place[j] = TAU / 2 * velocity[j]
        place[2 * i] += 1.0
        place[2 * i + 1] += TAU / 2


@njit
def errors(s, force):
    """Return the terms of the cost, unsquared; the angle's is the distance of the tip from upright, for length 1."""
    return np.array([s[0], s[1], 2 * sin(s[2] / 2), s[3], force])


@njit
def carry(F, V, Q):
    """Q = diag(COST) + F^T V F: the cost to go e^T V e, one step earlier, as a form of the state and the force."""
    for i in range(5):
        for j in range(5):
            Q[i, j] = COST[i] if i == j else 0.0
            for k in range(4):
                for m in range(4):
                    Q[i, j] += F[k, i] * V[k, m] * F[m, j]


@njit
def regulator(jacobian, state):
    """Return V and the gain of the linear-quadratic regulator at the upright pole (the Riccati equation, iterated)."""
    F, V, Q = np.empty((4, 5)), np.zeros((4, 4)), np.empty((5, 5))
    linearise(jacobian, state, np.zeros(4), 0.0, F)
    for _ in range(2000):
        carry(F, V, Q)
        for i in range(4):
            for j in range(4):
                V[i, j] = Q[i, j] - Q[i, 4] * Q[4, j] / Q[4, 4]
    return V, -Q[4, :4] / Q[4, 4]


@njit
def to_go(V, s):
    """Return e = s with its angle from -pi to pi, V e, and the cost to go e^T V e."""
    e = s.copy()
    e[2] = (s[2] + pi) % (2 * pi) - pi
    slope, cost = np.zeros(4), 0.0
    for i in range(4):
        for j in range(4):
            slope[i] += V[i, j] * e[j]
        cost += e[i] * slope[i]
    return e, slope, cost


@njit
def limited(force):
    return min(max(force, -LIMIT), LIMIT)


@njit
def follow(predict, state, V, plan, change, gains, rate, other):
    """Write into other the plan with `rate` times the changes of its forces and the feedback; return its cost."""
    (path, forces), (new_path, new_forces), total = plan, other, 0.0
    for t in range(len(forces)):
        force = forces[t] + rate * change[t]
        for i in range(4):
            force += gains[t, i] * (new_path[t, i] - path[t, i])
        new_forces[t] = limited(force)
        foresee(predict, state, new_path[t], new_forces[t], new_path[t + 1])
        e = errors(new_path[t], new_forces[t])
        for i in range(5):
            total += COST[i] * e[i] * e[i]
    return total + to_go(V, new_path[-1])[2]


@njit
def backward(jacobian, state, V_end, plan, change, gains):
    """Find the change of each force, and its gains, that lower the cost most, from the end of the plan to its start."""
    (path, forces), V, F, Q = plan, V_end.copy(), np.empty((4, 5)), np.empty((5, 5))
    _, slope, _ = to_go(V, path[-1])
    for t in range(len(forces) - 1, -1, -1):
        linearise(jacobian, state, path[t], forces[t], F)
        carry(F, V, Q)
        q = COST * errors(path[t], forces[t])
        q[2] *= cos(path[t, 2] / 2)
        for i in range(5):
            for k in range(4):
                q[i] += F[k, i] * slope[k]
        free = forces[t] - q[4] / Q[4, 4]
        change[t] = limited(free) - forces[t]
        for i in range(4):
            gains[t, i] = -Q[4, i] / Q[4, 4] if limited(free) == free else 0.0  # a force at its limit does not react
        for i in range(4):
            slope[i] = q[i] + Q[i, 4] * change[t] + gains[t, i] * (q[4] + Q[4, 4] * change[t])
            for j in range(4):
                V[i, j] = Q[i, j] + gains[t, i] * Q[4, j]


@njit
def improve(predict, jacobian, state, V, start, forces, turns):
    """Return better forces from a start, by iterative LQR."""
    change, gains, path = np.zeros(len(forces)), np.zeros((len(forces), 4)), np.zeros((len(forces) + 1, 4))
    for i in range(4):
        path[0, i] = start[i]
    plan, other = (path.copy(), forces), (path, forces.copy())
    cost = follow(predict, state, V, plan, change, gains, 0.0, other)
    for _ in range(turns):
        plan, other = other, plan
        backward(jacobian, state, V, plan, change, gains)
        rate, lower = 1.0, follow(predict, state, V, plan, change, gains, 1.0, other)
        while lower >= cost and rate > 0.001:
            rate /= 3
            lower = follow(predict, state, V, plan, change, gains, rate, other)
        if lower >= cost:
            return plan[1]
        cost = lower
    return other[1]


@njit
def episode(predict, jacobian, state, V, gain, s, path, forces):
    """Control the true cart and pole from the state s; keep where they are, and the forces."""
    plan = np.zeros(AHEAD)
    for t in range(len(forces)):
        e, _, cost = to_go(V, s)
        force = 0.0
        if cost < NEAR:
            for i in range(4):
                force += gain[i] * e[i]
        else:
            plan = improve(predict, jacobian, state, V, s, plan, 1 if t else FIRST)
            force = plan[0]
            for k in range(AHEAD - 1):
                plan[k] = plan[k + 1]
        forces[t] = limited(force)
        for i in range(4):
            path[t, i] = s[i]
        advance(s, forces[t])


@njit(parallel=True, cache=True)
def control(predict, jacobian, states, V, gain, starts, paths, forces):
    """Play an episode from each start."""
    for k in prange(len(starts)):
        episode(predict, jacobian, states[k], V, gain, starts[k].copy(), paths[k], forces[k])


def tilts(paths):
    return (paths[..., 2] + pi) % (2 * pi) - pi


def swing(net, count, seed):
    """Return motions from drawn starts, the pole hanging within 1 rad, the forces, and which starts are held."""
    program, steps = net.compile(None, batch_size=1), round(SECONDS / TAU)
    V, gain = regulator(program.jacobian, program.state)
    starts = np.random.default_rng(seed).uniform(-1, 1, (count, 4)) * (0.5, 0.5, 1, 1) + (0, 0, pi, 0)
    paths, forces = np.empty((count, steps, 4)), np.empty((count, steps))
    control(program.predict, program.jacobian, program.states(count), V, gain, starts, paths, forces)
    upright = abs(tilts(paths))[:, -round(HELD / TAU) :].max(axis=1) <= TILT
    return paths, forces, upright & (abs(paths[..., 0]).max(axis=1) <= EDGE)


def draw(paths, forces, path):
    """Draw the angles and the forces over time, a line for each start."""
    import matplotlib.pyplot as plt

    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 4.5), layout="constrained", sharex=True)
    times = TAU * np.arange(forces.shape[1])
    upper.plot(times, np.degrees(paths[..., 2]).T, linewidth=0.8)
    upper.set(ylabel="angle", yticks=(0, 180, 360), yticklabels=("upright", "hanging", "upright"))
    lower.plot(times, forces.T, linewidth=0.8)
    lower.set(ylabel="force (N)", xlabel="time (s)", xlim=(0, SECONDS))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the motions, the network and the starts")
    parser.add_argument("--picture", help="file to draw into")
    options = parser.parse_args()
    if options.starts < 1:
        parser.error(f"--starts must be at least 1, not {options.starts}")
    began = time.perf_counter()
    net, error = learned(options.seed)
    print(f"the model was learned in {time.perf_counter() - began:.1f} s; its error in unseen motions is {error:.2%}")
    began = time.perf_counter()
    paths, forces, held = swing(net, options.starts, options.seed)
    print(f"{len(held)} episodes of {SECONDS} s took {time.perf_counter() - began:.1f} s")
    print(f"within 10 degrees of upright for the last {HELD} s, on the track: {held.sum()} of {len(held)}")
    if held.any():
        slowest = TAU * max(1 + np.flatnonzero(abs(tilts(row)) > TILT)[-1] for row in paths[held])
        reach = abs(paths[held][..., 0]).max()
        print(f"the slowest of them took {slowest:.1f} s; the carts moved up to {reach:.2f} m from the middle")
    if options.picture:
        draw(paths, forces, options.picture)


if __name__ == "__main__":
    main()
