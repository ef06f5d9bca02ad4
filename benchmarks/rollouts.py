"""Environment steps a second of examples/rollouts.py, collecting and learning: nnjit, JAX, PyTorch with NumPy.

    python benchmarks/rollouts.py [--turns 40]

All three play an episode in each of 64 environments with the same trained policy (4-32-2, tanh, float64), whose
episodes last 500 steps, so that a scan of fixed length wastes none, then take a step of Adam along the policy gradient.
JAX maps environments (`vmap`), scans steps and does all in one jit; PyTorch calls the network on all environments in
each step, and NumPy moves them. Starts and random numbers are nnjit's, which draws them within the measured time; the
others have them as data. The sides run in separate processes, in turns. The first 100 steps and the gradients of whole
episodes are compared first. Printed are million steps a second in the fastest turn, which other work on the machine
disturbs least, and nnjit's over the other's; in brackets those of the median turn.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from child import Child, Failed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import rollouts as example

STEPS, DISCOUNT, RATE, ENVIRONMENTS = example.STEPS, example.DISCOUNT, 0.01, 64
SURE = 100  # steps of an episode that must be equal: rounding errors grow tenfold in 25 and then change an action


class Ours:
    def __init__(self, parameters, starts, numbers, keys):
        net, self.first, self.keys = example.policy(0), keys, keys.copy()
        self.theta = np.concatenate([p.ravel() for p in parameters])
        net.theta[:] = self.theta
        self.acting, shape = net.compile(batch_size=1), (ENVIRONMENTS, STEPS)
        self.learning = net.compile(loss="mse", optimizer=f"adam(lr={RATE})", batch_size=example.BATCH)
        self.actors = self.acting.states(ENVIRONMENTS)
        self.learners = self.learning.states(ENVIRONMENTS, gradient=True)
        self.seen, self.right = np.zeros((*shape, 4)), np.zeros(shape, np.bool_)
        self.chance, self.gain, self.length = np.empty(shape), np.empty(shape), np.empty(ENVIRONMENTS, np.int64)

    def collect(self):
        self.keys[:] = self.first
        example.collect(self.acting.predict, self.actors, self.keys, self.seen, self.right, self.chance, self.length)

    def gradient(self):
        count, arrays = example.advantages(self.length, self.gain), (self.seen, self.right, self.chance, self.length)
        program = self.learning
        example.learn(program.vjp, program.clear, self.learners, program.state, *arrays, self.gain)
        return count

    def turn(self):
        self.learning.state.theta[:] = self.theta
        self.collect()
        self.learning.update(self.learning.state, 1.0 / self.gradient())

    def seen_and_done(self):
        self.collect()
        return self.seen, self.right, self.length

    def gradient_of(self, seen, right, length):  # of what was collected last
        count, state = self.gradient(), self.learning.state
        found = state.gradient / count
        self.learning.clear(state)
        return found


class Jax:
    def __init__(self, parameters, starts, numbers, keys):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        starts, numbers, *parameters = (jnp.asarray(values) for values in (starts, numbers, *parameters))
        moments = [(jnp.zeros_like(p), jnp.zeros_like(p)) for p in parameters]

        def network(p, s):
            return p[2] @ jnp.tanh(p[0] @ s + p[1]) + p[3]

        def advance(s, right):
            x, v, angle, speed = s
            force, whole = jnp.where(right, example.FORCE, -example.FORCE), example.CART + example.POLE
            arm, sine, cosine = example.POLE * example.HALF, jnp.sin(angle), jnp.cos(angle)
            push = (force + arm * speed * speed * sine) / whole
            inertia = example.HALF * (4.0 / 3.0 - example.POLE * cosine**2 / whole)
            turn = (example.GRAVITY * sine - cosine * push) / inertia
            move = push - arm * turn * cosine / whole
            return jnp.stack([x, v, angle, speed]) + example.TAU * jnp.stack([v, move, speed, turn])

        def collect(p, start, numbers):
            def step(carry, number):
                s, alive = carry
                y = network(p, s)
                right = number < 1.0 / (1.0 + jnp.exp(y[0] - y[1]))
                after = advance(s, right)
                stands = (abs(after[0]) <= example.EDGE) & (abs(after[2]) <= example.TILT)
                return (after, alive & stands), (s, right, alive)

            return jax.lax.scan(step, (start, True), numbers)[1]

        def advantages(alive):
            def back(come, alive):
                come = jnp.where(alive, 1.0 + DISCOUNT * come, 0.0)
                return come, come

            come = jax.vmap(lambda row: jax.lax.scan(back, 0.0, row, reverse=True)[1])(alive)
            count = alive.sum()
            mean = come.sum() / count
            spread = jnp.sqrt((come * come).sum() / count - mean * mean) + 1e-9
            return jnp.where(alive, (come - mean) / spread, 0.0), count

        def loss(p, seen, right, gain, count):
            y = jax.vmap(jax.vmap(network, (None, 0)), (None, 0))(p, seen)
            logit = jnp.where(right, y[..., 1] - y[..., 0], y[..., 0] - y[..., 1])
            return -(gain * jax.nn.log_sigmoid(logit)).sum() / count

        def played(p):
            return jax.vmap(collect, (None, 0, 0))(p, starts, numbers)

        def gradient(p, seen, right, alive):
            return jax.grad(loss)(p, seen, right, *advantages(alive))

        def adam(p, g, m, t):
            first, second = 0.9 * m[0] + 0.1 * g, 0.999 * m[1] + 0.001 * g * g
            step = RATE * (first / (1 - 0.9**t)) / (jnp.sqrt(second / (1 - 0.999**t)) + 1e-8)
            return p - step, (first, second)

        def turn(p, moments, t):
            return [adam(*both, t) for both in zip(p, gradient(p, *played(p)), moments, strict=True)]

        play, whole, self.gradient = jax.jit(played), jax.jit(turn), jax.jit(gradient)
        self.collect = lambda: jax.block_until_ready(play(parameters))
        self.turn = lambda: jax.block_until_ready(whole(parameters, moments, 1))
        self.parameters = parameters

    def seen_and_done(self):
        seen, right, alive = self.collect()
        return seen, right, alive.sum(axis=1)

    def gradient_of(self, seen, right, length):
        gradient = self.gradient(self.parameters, seen, right, np.arange(STEPS) < length[:, None])
        return np.concatenate([np.ravel(g) for g in gradient])


class Torch:
    def __init__(self, parameters, starts, numbers, keys):
        import torch

        self.torch, self.starts, self.numbers, self.threads = torch, starts, numbers, torch.get_num_threads()
        layers = torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)
        self.network = torch.nn.Sequential(*layers).double()
        self.theta = [torch.from_numpy(p) for p in parameters]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)
        self.seen, self.right = np.empty((ENVIRONMENTS, STEPS, 4)), np.empty((ENVIRONMENTS, STEPS), bool)
        self.alive = np.zeros((ENVIRONMENTS, STEPS), bool)
        self.restore()

    def restore(self):
        with self.torch.no_grad():
            for p, value in zip(self.network.parameters(), self.theta, strict=True):
                p.copy_(value)

    def collect(self):
        self.torch.set_num_threads(1)  # a step is too small for two
        s, alive = self.starts, np.ones(ENVIRONMENTS, bool)
        whole, arm = example.CART + example.POLE, example.POLE * example.HALF
        self.alive[:] = False
        for t in range(STEPS):
            self.seen[:, t], self.alive[:, t] = s, alive
            with self.torch.no_grad():
                y = self.network(self.torch.from_numpy(s)).numpy()
            self.right[:, t] = right = self.numbers[:, t] < 1.0 / (1.0 + np.exp(y[:, 0] - y[:, 1]))
            v, angle, speed = s[:, 1], s[:, 2], s[:, 3]
            sine, cosine = np.sin(angle), np.cos(angle)
            push = (np.where(right, example.FORCE, -example.FORCE) + arm * speed * speed * sine) / whole
            inertia = example.HALF * (4.0 / 3.0 - example.POLE * cosine**2 / whole)
            turn = (example.GRAVITY * sine - cosine * push) / inertia
            s = s + example.TAU * np.stack([v, push - arm * turn * cosine / whole, speed, turn], axis=1)
            alive = alive & (abs(s[:, 0]) <= example.EDGE) & (abs(s[:, 2]) <= example.TILT)
            if not alive.any():
                break

    def gradient(self):
        self.torch.set_num_threads(self.threads)
        come, total = np.zeros_like(self.numbers), 0.0
        for t in range(STEPS - 1, -1, -1):
            total = come[:, t] = np.where(self.alive[:, t], 1.0 + DISCOUNT * total, 0.0)
        here = come[self.alive]
        gain = self.torch.from_numpy((here - here.mean()) / (here.std() + 1e-9))
        y = self.network(self.torch.from_numpy(self.seen[self.alive]))
        sign = self.torch.from_numpy(2.0 * self.right[self.alive] - 1.0)
        loss = -(gain * self.torch.nn.functional.logsigmoid(sign * (y[:, 1] - y[:, 0]))).mean()
        self.optimizer.zero_grad()
        loss.backward()

    def turn(self):
        self.restore()
        self.collect()
        self.gradient()
        self.optimizer.step()

    def seen_and_done(self):
        self.collect()
        return self.seen, self.right, self.alive.sum(axis=1)

    def gradient_of(self, seen, right, length):
        self.seen[:], self.right[:], self.alive[:] = seen, right, np.arange(STEPS) < length[:, None]
        self.gradient()
        return np.concatenate([p.grad.numpy().ravel() for p in self.network.parameters()])


SIDES = {"nnjit": Ours, "jax": Jax, "torch": Torch}


class Worker:
    """The process of one side; requests and answers are lines of JSON (child.py)."""

    def __init__(self, name):
        self.name, self.side = name, None

    def hello(self):
        return {"version": __import__(self.name).__version__}

    def prepare(self, policy, results):
        """Make the side, and write what it sees and does."""
        with np.load(policy) as file:
            arrays = dict(file)
        parameters = [arrays.pop(f"p{k}") for k in range(4)]
        self.side = SIDES[self.name](parameters, **arrays)
        np.savez(results, *self.side.seen_and_done())
        return {}

    def gradient(self, results):
        """Return the gradient for episodes that nnjit played."""
        with np.load(results) as file:
            return {"gradient": self.side.gradient_of(*file.values()).tolist()}

    def measure(self, part):
        began = time.perf_counter()
        getattr(self.side, part)()
        return {"seconds": time.perf_counter() - began}

    def serve(self):
        for line in sys.stdin:
            request = json.loads(line)
            try:
                found = getattr(self, request.pop("do"))(**request)
            except ImportError as error:
                found = {"absent": str(error)}
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(found), flush=True)


def drawn(keys):
    """Return the starts and the random numbers of each step that the example draws from these keys."""
    starts, numbers = np.empty((len(keys), 4)), np.empty((len(keys), STEPS))
    for k, key in enumerate(keys.copy()):
        example.reset(key, starts[k])
        numbers[k] = [example.uniform(key) for _ in range(STEPS)]
    return {"starts": starts, "numbers": numbers, "keys": keys}


def compare(children, folder):
    """Return the number of steps; raise unless all begin the same episodes, and agree on the gradient of whole ones."""
    net, _ = example.policy_gradient(100, 0, ENVIRONMENTS)
    keys = np.random.default_rng(1).integers(1, 2**63, (ENVIRONMENTS, 1), np.uint64)
    parameters = {f"p{k}": value for k, value in enumerate(net.parameters.values())}
    np.savez(folder / "policy.npz", **parameters, **drawn(keys))
    found, gradients = {}, {}
    for name, child in children.items():
        child.ask("prepare", policy=str(folder / "policy.npz"), results=str(folder / f"{name}.npz"))
        gradients[name] = child.ask("gradient", results=str(folder / "nnjit.npz"))["gradient"]
        with np.load(folder / f"{name}.npz") as file:
            found[name] = list(file.values())
    for name in children:
        for values in zip(found[name], found["nnjit"], strict=True):
            values = [v[:, :SURE] if v.ndim > 1 else np.minimum(v, SURE) for v in values]
            np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(gradients[name], gradients["nnjit"], rtol=1e-9, atol=1e-12, err_msg=name)
    return int(found["nnjit"][2].sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    options = parser.parse_args()
    children = {}
    for name in SIDES:
        try:
            children[name] = Child(name, worker=Path(__file__).resolve())
        except Failed as failed:
            print(f"{name}: {failed}")
    with tempfile.TemporaryDirectory() as folder:
        steps = compare(children, Path(folder))
    times = {(name, part): [] for part in ("collect", "turn") for name in children}
    for k in range(options.turns + 2):
        for name, part in times:
            seconds = children[name].ask("measure", part=part)["seconds"]
            if k > 1:
                times[name, part].append(seconds)
    print(f"{steps} steps in {ENVIRONMENTS} episodes\n")
    print("| | collecting | ratio | collecting and learning | ratio |\n| --- | --- | --- | --- | --- |")
    for name, child in children.items():
        cells = []
        for part in ("collect", "turn"):
            ours, other = ([f(times[n, part]) for f in (min, statistics.median)] for n in ("nnjit", name))
            rate, ratio = [steps / t / 1e6 for t in other], [t / u for t, u in zip(other, ours, strict=True)]
            cells += [f"{rate[0]:.3g} ({rate[1]:.3g}) | {ratio[0]:.2f} ({ratio[1]:.2f})"]
        print(f"| {name} {child.version} | {' | '.join(cells)} |")
        child.close()


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in SIDES:
        Worker(sys.argv[1]).serve()
    else:
        main()
