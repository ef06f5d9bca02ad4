"""Time of the activations' kernels on one thread, in nanoseconds a number, beside their bound, NumPy and PyTorch.

    python benchmarks/activations.py [--only tanh,gelu] [--types float32] [--sizes 6240,4194304] [--rounds 20]

Each kernel, forward and backward, runs on arrays of `sizes` numbers: 6,240 (65 x 96) stay in the nearest caches,
4,194,304 lie beyond all of them. The bound is that of the machine code of the vector loop: its instructions over the
issue ports, its fused multiply-adds over their ports, or its divisions at the rate of the divider, whichever is
largest. Clock and divider are measured first. NumPy and PyTorch run the formula that their users would write. Prints a
Markdown table; the times are minima of `rounds` turns.
"""

import argparse
import os
import re
import tempfile
import time

import numpy as np
from nnjit import registry
from nnjit.bench.machine import processor
from nnjit.kernels.compiler.kernel import kernel
from nnjit.kernels.compiler.options import FLOATS
from nnjit.kernels.compiler.symbols import external
from numba import njit, prange, types

NAMES = ("relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh")
SECONDS = 0.004  # length of a turn
PORTS = {64: 2, 32: 3}  # vector instructions a cycle, by bytes of a vector (Intel: ports 0 and 5, or 0, 1 and 5)
FUSED = {64: 1, 32: 2}  # of these multiplications and fused multiply-adds, on the weakest server CPUs (Zen 4 and Intel)


@kernel
def reciprocal(x, y):
    """1 / x: a loop that only the divider bounds."""
    for i in prange(x.size):
        y[i] = 1.0 / x[i]


def driver(made, real):
    """Return a compiled function that runs a kernel on arrays `times` times."""
    numbers = [types.float64 if name == "alpha" else None for name in made.arguments]
    arrays = types.Array(FLOATS[real], 1, "C")
    signature = tuple(FLOATS[real] if kind else arrays for kind in numbers)
    name, dispatcher = made.compile(signature, real)
    call = external(name, (*signature, types.intp, types.intp))
    names = ", ".join(made.arguments)
    space = {"call": call}
    exec(f"def run(times, {names}):\n    for _ in range(times):\n        call({names}, 0, 1)\n", space)
    return njit(space["run"]), "\n".join(dispatcher.inspect_asm().values())


def clock():
    """Measure the clock in GHz by a chain of fused multiply-adds, each four cycles after the one before."""

    @njit(fastmath={"contract"})
    def chain(x, times):
        for _ in range(times):
            x = x * 0.5 + 1.0
        return x

    chain(1.0, 1)
    best = min(_seconds(chain, 1.0, 1_000_000) for _ in range(20))
    return 4 * 1e6 / best / 1e9


def _seconds(run, *arguments):
    start = time.perf_counter()
    run(*arguments)
    return time.perf_counter() - start


def fastest(runs, rounds):
    """Return the least seconds a call of each function, timed in turns."""
    counts = []
    for run in runs:
        run(1)
        counts.append(max(1, int(SECONDS / max(min(_seconds(run, 1) for _ in range(3)), 1e-7))))
    best = [np.inf] * len(runs)
    for _ in range(rounds):
        for k, (run, count) in enumerate(zip(runs, counts, strict=True)):
            best[k] = min(best[k], _seconds(run, count) / count)
    return best


class Loop:
    """The vector loop of a kernel's machine code: the block that jumps back to its label with most vector stores."""

    def __init__(self, text, real):
        found, block, label = [], [], None
        for line in (each.strip() for each in text.splitlines()):
            if match := re.match(r"(\.L\w+):", line):
                label, block = match[1], []
            elif line and not line.startswith((".", "#")):
                block.append(line)
                if re.match(r"j\w+\s", line) and line.split()[-1] == label:
                    found.append(block)
        size, wide = np.dtype(real).itemsize, {"zmm": 64, "ymm": 32, "xmm": 16}
        self.stored, self.width, self.lines = 0, 0, []
        for lines in found:
            stores = [m[1] for line in lines if (m := re.match(r"vmov\w+\s+%(\wmm)\d+, .*\)", line))]
            count = sum(wide[name] // size for name in stores)
            if count > self.stored:
                self.stored, self.width, self.lines = count, wide[stores[0]], lines

    def count(self, pattern):
        return sum(bool(re.match(pattern, line)) for line in self.lines)

    def bound(self, ghz, divider):
        """Return the nanoseconds a number that the loop takes at least, and what bounds it."""
        if self.width < 32:
            return float("nan"), "no vectors"
        copies = self.count(r"v?mov(u|a)p")
        bounds = {
            "issue": (self.count("v") - copies) / PORTS[self.width] / ghz,
            "multiply-add": self.count(r"v(mul|fn?m)") / FUSED[self.width] / ghz,
            "divider": self.count("vdiv") * divider * self.width,
        }
        kind = max(bounds, key=bounds.get)
        return bounds[kind] / self.stored, kind


def torch_runs(name, x, y, dy, dx):
    """Return PyTorch's functions for forward and backward, on the same memory."""
    import torch

    torch.set_num_threads(1)
    a, b, da, db = (torch.from_numpy(v) for v in (x, y, dx, dy))
    aten = torch.ops.aten
    forward = {
        "relu": lambda: torch.clamp_min(a, 0, out=b), "elu": lambda: aten.elu.out(a, 1.0, 1.0, 1.0, out=b),
        "selu": lambda: aten.elu.out(a, 1.67, 1.05, 1.0, out=b), "gelu": lambda: aten.gelu.out(a, out=b),
        "silu": lambda: aten.silu.out(a, out=b), "softplus": lambda: aten.softplus.out(a, 1, 20, out=b),
        "sigmoid": lambda: torch.sigmoid(a, out=b), "tanh": lambda: torch.tanh(a, out=b),
    }[name]  # fmt: skip
    backward = {
        "relu": lambda: aten.threshold_backward.grad_input(db, b, 0, grad_input=da),
        "elu": lambda: aten.elu_backward.grad_input(db, 1.0, 1.0, 1.0, False, a, grad_input=da),
        "selu": lambda: aten.elu_backward.grad_input(db, 1.67, 1.05, 1.0, False, a, grad_input=da),
        "gelu": lambda: aten.gelu_backward.grad_input(db, a, grad_input=da),
        "silu": lambda: aten.silu_backward.grad_input(db, a, grad_input=da),
        "softplus": lambda: aten.softplus_backward.grad_input(db, a, 1, 20, grad_input=da),
        "sigmoid": lambda: aten.sigmoid_backward.grad_input(db, b, grad_input=da),
        "tanh": lambda: aten.tanh_backward.grad_input(db, b, grad_input=da),
    }[name]  # fmt: skip
    return {"forward": forward, "backward_input": backward}


def numpy_run(name, x, y):
    """Return NumPy's formula of the forward pass; None where NumPy has none without SciPy (gelu)."""
    return {
        "relu": lambda: np.maximum(x, 0, out=y), "elu": lambda: np.where(x > 0, x, np.expm1(x)),
        "selu": lambda: 1.05 * np.where(x > 0, x, 1.67 * np.expm1(x)), "silu": lambda: x / (1 + np.exp(-x)),
        "softplus": lambda: np.logaddexp(0, x), "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x, out=y),
    }.get(name)  # fmt: skip


def repeated(run):
    def times(count):
        for _ in range(count):
            run()

    return times


def row(name, direction, real, size, rounds, machine):
    """Return the cells of one row of the table: nnjit's time, the bound and what it is, PyTorch's and NumPy's time."""
    layer, rng = registry.create(name), np.random.default_rng(0)
    x, y, dy, dx = (rng.normal(0, 2, size).astype(real) for _ in range(4))
    made, options = getattr(layer, direction), {n: real(v) for n, v in layer.options().items()}
    run, text = driver(made, real)
    given = {"x": x, "y": y, "dy": dy, "dx": dx, **options}
    runs = [lambda times: run(times, *(given[n] for n in made.arguments))]
    peers = {"torch": torch_runs(name, x, y, dy, dx)[direction]}
    if direction == "forward" and (formula := numpy_run(name, x, y)):
        peers["numpy"] = formula
    times = [1e9 * t / size for t in fastest([*runs, *map(repeated, peers.values())], rounds)]
    bound, kind = Loop(text, real).bound(*machine)
    found = dict(zip(("nnjit", *peers), times, strict=True))
    others = (f"{found[p]:.3f}" if p in found else "-" for p in ("torch", "numpy"))
    return [f"{found['nnjit']:.3f}", f"{bound:.3f} ({kind})" if bound == bound else f"- ({kind})", *others]


def main():
    os.environ["NNJIT_CACHE_DIR"] = tempfile.mkdtemp()  # Numba shows the machine code of what it compiles only
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--types", default="float32,float64")
    parser.add_argument("--sizes", default="6240,4194304")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    ghz = clock()
    print(f"{processor()}; {ghz:.2f} GHz\n")
    print("| activation | numbers | ns a number | bound | torch | numpy |\n| --- | --- | --- | --- | --- | --- |")
    for kind in options.types.split(","):
        real = getattr(np, kind)
        run, _ = driver(reciprocal, real)
        ones = np.ones(1024, real)
        divider = fastest([lambda times, run=run, ones=ones: run(times, ones, ones.copy())], 20)[0] / 1024 * 1e9
        machine = ghz, divider / np.dtype(real).itemsize
        print(f"| 1 / x, {kind} | 1024 | {divider:.3f} | | | |")
        for name in options.only.split(","):
            for direction in ("forward", "backward_input"):
                for size in map(int, options.sizes.split(",")):
                    cells = row(name, direction, real, size, options.rounds, machine)
                    print(f"| {name} {direction}, {kind} | {size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
