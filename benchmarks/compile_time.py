"""Compile time of a program, and the cost of kernel calls by symbol when it runs.

    python benchmarks/compile_time.py [--layers 40] [--linked]

A network of `layers` dense + sigmoid layers (32 wide, batch 256: sharded over the batch) is compiled three times in
new processes with a new cache: everything cold, a new program with warm kernels, and again from disk. With --linked
the same text is also compiled with the kernels linked as ordinary jitted functions, and the two programs are timed in
turns in one process. Prints a Markdown table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

WIDTH, BATCH = 32, 256


def network(layers, width=WIDTH):
    from nnjit import registry

    return registry.compose([s for _ in range(layers) for s in (f"dense({width})", "sigmoid")], (width,))


def compiled(layers, linked=False):
    """Return the seconds to import and to compile, and the program."""
    start = time.perf_counter()
    net = network(layers)
    from nnjit.program.program import Program

    program = Program(net, "quadratic", "sgd(0.1)", BATCH)
    if linked:
        shares = program.plan.shares._replace(inline=True)
        program.plan = program.plan._replace(shares=shares)
    imported = time.perf_counter()
    program.compile()
    return imported - start, time.perf_counter() - imported, program


def child(layers, linked, warm):
    if warm:  # kernels of a small network are the kernels of a large one
        compiled(2)
    imported, seconds, program = compiled(layers, linked)
    print(json.dumps({"import": imported, "compile": seconds, "blocks": program.plan.shares.blocks}))


def race(layers, rounds=21):
    """Median step time of symbol-bound and linked programs in turns, checked against the reference kernels first."""
    import numpy as np

    programs = {"by symbol": compiled(layers)[2], "linked": compiled(layers, linked=True)[2]}
    rng = np.random.default_rng(0)
    x, t = (rng.standard_normal((BATCH, WIDTH)).astype(np.float32) for _ in range(2))
    start, results = programs["by symbol"].state.theta.copy(), {}
    for name, p in programs.items():
        state = p.new_state()
        state.theta[:] = start
        p.step(state, x, t)
        results[name] = state.theta.copy()
    oracle = programs["by symbol"].new_state()
    oracle.theta[:] = start
    programs["by symbol"].reference().step(oracle, x, t)
    for name, theta in results.items():
        np.testing.assert_allclose(theta, oracle.theta, rtol=1e-3, atol=1e-5, err_msg=name)
    times = {name: [] for name in programs}
    for _ in range(rounds):
        for name, p in programs.items():
            begin = time.perf_counter()
            for _ in range(10):
                p.step(p.state, x, t)
            times[name].append((time.perf_counter() - begin) / 10)
    return {name: float(np.median(found)) for name, found in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--linked", action="store_true", help="also compile with linked kernels (minutes)")
    parser.add_argument("--child", choices=["cold", "warm", "disk", "linked"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.layers, options.child == "linked", options.child != "cold")
    print("| program | import s | compile s | blocks |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NNJIT_CACHE_DIR": cache}
        _row(options.layers, "cold", "everything cold", environment)
        _row(options.layers, "disk", "again: kernels warm, program from disk", environment)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NNJIT_CACHE_DIR": cache}
        _row(options.layers, "warm", "new program, kernels warm", environment)
        if options.linked:
            _row(options.layers, "linked", "kernels linked as jitted functions", environment)
    if options.linked:
        times = race(options.layers)
        ratio = times["by symbol"] / times["linked"]
        print("\n| step | us |\n| --- | --- |")
        for name, seconds in times.items():
            print(f"| {name} | {seconds * 1e6:.0f} |")
        print(f"\nby symbol / linked: {ratio:.2f}")


def _row(layers, stage, label, environment):
    command = [sys.executable, __file__, "--layers", str(layers), "--child", stage]
    found = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    print(
        f"| {layers} layers, {label} | {found['import']:.2f} | {found['compile']:.2f} | {found['blocks']} |", flush=True
    )


if __name__ == "__main__":
    main()
