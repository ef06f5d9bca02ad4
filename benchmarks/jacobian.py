"""The Jacobian of 8-64-64-4 (tanh, float32) at one sample: nnjit in a jitted loop, JAX in a scan, PyTorch call by call.

    python benchmarks/jacobian.py [--turns 15]

In each loop a sample depends on the last Jacobian, so none can be left out. The sides take turns; results are compared
first. Printed are medians of microseconds a Jacobian, and the other's time over nnjit's.
"""

import argparse
import statistics
import time

import numpy as np
from nnjit import registry
from numba import njit

COUNT = 2000  # Jacobians of a turn
TORCH = 200  # of PyTorch's


@njit
def loop(jacobian, state, x, y, J, count):
    """Take Jacobians one after the other; the next sample is moved by the last one."""
    for _ in range(count):
        jacobian(state, x, y, J)
        x[0, 0] += 1e-6 * J[0, 0, 0]
    return J


def ours(net, start):
    program = net.compile(None, batch_size=1)
    y, J = np.empty((1, 4), np.float32), np.empty((1, 4, 8), np.float32)

    def run(count):
        return loop(program.jacobian, program.state, start.copy(), y, J, count)[0]

    return run


def jax_loop(net, start):
    import jax
    import jax.numpy as jnp

    p = {name: jnp.asarray(value) for name, value in net.parameters.items()}

    def network(x):
        for k in (1, 3):
            x = jnp.tanh(p[f"dense.{k}.W"] @ x + p[f"dense.{k}.b"])
        return p["dense.5.W"] @ x + p["dense.5.b"]

    def body(x, _):
        J = jax.jacrev(network)(x)
        return x.at[0].add(1e-6 * J[0, 0]), J

    def last(x, count):
        carry = jax.lax.fori_loop(0, count, lambda _, c: body(c[0], None), (x, jnp.zeros((4, 8))))
        return carry[1]

    compiled = jax.jit(last, static_argnums=1)
    return lambda count: np.asarray(compiled(jnp.asarray(start[0]), count))


def torch_loop(net, start):
    import torch

    p = {name: torch.from_numpy(value.copy()) for name, value in net.parameters.items()}

    def network(x):
        for k in (1, 3):
            x = torch.tanh(p[f"dense.{k}.W"] @ x + p[f"dense.{k}.b"])
        return p["dense.5.W"] @ x + p["dense.5.b"]

    jacobian = torch.func.jacrev(network)

    def run(count):
        x, J = torch.from_numpy(start[0].copy()), None
        for _ in range(count):
            J = jacobian(x)
            x[0] += 1e-6 * J[0, 0]
        return J.numpy()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    net = registry.compose("dense(64) tanh dense(64) tanh dense(4)", input_shape=(8,), seed=0)
    start = np.linspace(-1, 1, 8, dtype=np.float32)[None]
    sides = {"nnjit": (ours, COUNT), "JAX": (jax_loop, COUNT), "PyTorch": (torch_loop, TORCH)}
    runs = {name: (make(net, start), count) for name, (make, count) in sides.items()}
    expected = runs["nnjit"][0](50)
    for name, (run, _) in runs.items():
        np.testing.assert_allclose(run(50), expected, rtol=1e-4, atol=1e-5, err_msg=name)
    times = {name: [] for name in runs}
    for _ in range(options.turns):
        for name, (run, count) in runs.items():
            run(count)
            began = time.perf_counter()
            run(count)
            times[name].append((time.perf_counter() - began) / count * 1e6)
    middle = {name: statistics.median(found) for name, found in times.items()}
    print("| | us a Jacobian | over nnjit's |\n| --- | --- | --- |")
    for name, value in middle.items():
        print(f"| {name} | {value:.3g} | {value / middle['nnjit']:.2f} |")


if __name__ == "__main__":
    main()
