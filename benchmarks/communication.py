"""The share of communication in a step of several processes, and the scaling that follows for real networks.

    mpiexec -n 2 python benchmarks/communication.py [--steps N] [--only NAME] [--overlap] [--json FILE]

Each rank has its part of the machine's processors. A step is divided into the passes on the share and the update, the
wait for the slower rank (a barrier), and the sum of the gradients. The projection takes measured times of rank 0 alone,
with one share of the batch, and the size of the message:

    t(R) = passes(N / R) + update + 2 (R - 1) / R * bytes / bandwidth + 2 log2(R) * latency
    speed-up = t(1) / t(R)

The third term is that of a ring or of Rabenseifner's algorithm (R. Thakur, R. Rabenseifner, W. Gropp, Optimization of
collective communication operations in MPICH, 2005, doi:10.1177/1094342005051521). If blocks of samples are gathered
(docs/mpi.md), it is (R - 1) / R * blocks * bytes / bandwidth. Latencies are assumptions, see `NETS`; machines are like
this one, with as many threads each as a rank has here.
"""

import argparse
import json
import math
import time
from functools import partial
from itertools import pairwise

import nnjit
import numba
import numpy as np
from nnjit.bench.probe import Probe
from nnjit.launch.launched import launched
from nnjit.program.program import Program
from nnjit.training.ranks import join
from nnjit.training.shard import Job, Shard, compile_steps
from works import NETWORKS

BATCHES = {"MLP": 128, "LeNet": 128, "VGG": 64}
NETS = {"10 Gbit/s": (10e9 / 8, 30e-6), "100 Gbit/s": (100e9 / 8, 5e-6)}  # bytes a second; seconds of a message
MACHINES = (2, 4, 8, 16)
DATA = 2048  # samples
PIECES = 8  # parts of the passes, between which a test lets MPI go on


class Timed(Shard):
    """A share that takes the time of its waits and sums."""

    def begin(self):
        super().begin()
        self.waited, self.summed = [], []

    def _sum(self):
        began = time.perf_counter()
        self.ranks.world.Barrier()
        met = time.perf_counter()
        super()._sum()
        self.waited.append(met - began)
        self.summed.append(time.perf_counter() - met)


def made(ranks, name):
    """Return the share of this rank in the training of a network on random samples."""
    layers, shape = NETWORKS[name]
    network, batch = nnjit.compose(list(layers), shape), BATCHES[name]
    program = Program(network, "cross_entropy", "adam", batch, ranks=ranks.size)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((DATA, *shape), np.float32), rng.integers(0, 10, DATA)
    job = Job("", batch, DATA, 1, 0, True, program.rates, x, y, None, None)
    if ranks.rank:
        ranks.hear()  # that rank 0 has compiled: the others find the code in the cache
    compile_steps(program)
    if not ranks.rank:
        ranks.tell("compiled")
    shard = Timed(ranks, program, job)
    shard.begin()
    return shard


def alone(shard, end, steps):
    """Return the median seconds of the passes on the first `end` samples of a batch, and of the update, here alone."""
    program, state, job, batch = shard.program, shard.state, shard.job, shard.program.batch_size
    order, passes, updates = np.arange(DATA), [], []
    for k in range(steps):
        began = time.perf_counter()
        program.shard_gradient(state, job.x, job.y, order, k * batch % DATA, 0, end, batch, 0)
        there = time.perf_counter()
        program.shard_update(state, batch)
        passes.append(there - began)
        updates.append(time.perf_counter() - there)
    return float(np.median(passes)), float(np.median(updates))


def in_flight(shard, steps):
    """Return the median seconds of a sum after passes, and beside the same passes, without tests and with them."""
    world, MPI, job, N = shard.ranks.world, shard.ranks.MPI, shard.job, shard.program.batch_size
    order, message = np.arange(N), np.zeros_like(shard._message)
    begin, end = shard.samples(N, shard.ranks.rank)
    bounds = [begin + (end - begin) * k // PIECES for k in range(PIECES + 1)]

    def passes(between=lambda: None):
        for first, last in pairwise(bounds):
            shard.program.shard_gradient(shard.state, job.x, job.y, order, 0, first, last, N, 0)
            between()

    def after():
        passes()
        world.Allreduce(MPI.IN_PLACE, message)

    def beside(tested):
        request = world.Iallreduce(MPI.IN_PLACE, message)
        passes(request.Test if tested else lambda: None)
        request.Wait()

    ways = {"after": after, "beside": partial(beside, False), "tested": partial(beside, True)}
    times = {way: [] for way in ways}
    for _ in range(steps):
        for way, run in ways.items():
            world.Barrier()
            began = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - began)
    return {way: float(np.median(found)) for way, found in times.items()}


def completed(shard, name):
    """Return (bytes of the gradient that are complete, seconds until all are) after each layer, from the last one."""
    layers, shape = NETWORKS[name]
    network, N = nnjit.compose(list(layers), shape), shard.program.batch_size // shard.ranks.size
    probe = Probe(Program(network, "cross_entropy", "adam", N), shard.job.x[:N], shard.job.y[:N])
    lines = [line for line in probe.lines if line.function == "gradients"]
    sizes = {node.name: sum(p.size for _, p in node.parameters.values()) for node in network.graph.nodes}
    found, done = [], 0
    for line, following in pairwise(lines):
        if following.node != line.node:
            done += sizes[line.node] * network.theta.itemsize
            found.append((done, probe.seconds(following.number, lines[-1].number)))
    return found


def hidden(found, ranks, bandwidth, latency, shorter):
    """Return the seconds of a step that two sums would hide, by the formula; `shorter` is r(N / R) / r(N / 2)."""
    start = 2 * math.log2(ranks) * latency
    return max(
        min(2 * (ranks - 1) / ranks * size / bandwidth + start, seconds * shorter) - start for size, seconds in found
    )


def measure(ranks, name, steps, overlap):
    """Return the row of a network; None on other ranks than 0."""
    shard = made(ranks, name)
    batch = shard.program.batch_size
    order = np.arange(DATA)[: batch * min(steps, DATA // batch)]
    shard.steps(order)
    shard.waited, shard.summed, took = [], [], 0.0
    taken = 0
    while taken < steps:
        began = time.perf_counter()
        shard.steps(order)
        took += time.perf_counter() - began
        taken += len(order) // batch
    ranks.world.Barrier()
    row = None
    if ranks.rank == 0:
        step, waited, summed = took / taken, float(np.median(shard.waited)), float(np.median(shard.summed))
        size, plan = shard.program.state.theta.nbytes, shard.program.plan
        row = {"network": name, "batch": batch, "ranks": ranks.size, "threads": numba.get_num_threads(), "bytes": size}
        row |= {"step": step, "wait": waited, "sum": summed, "share": summed / step, "gathers": plan.gathers}
        blocks = plan.layout.gradients.workers if plan.gathers else 2  # of an Allreduce every number goes two ways
        times = {R: alone(shard, max(1, batch // R), steps) for R in (1, ranks.size, *MACHINES)}
        row["passes"] = {R: passes for R, (passes, _) in times.items()}
        row["update"] = update = times[1][1]
        whole = times[1][0] + update
        row["speed-up"] = {
            net: {
                R: whole / (times[R][0] + update + blocks * (R - 1) / R * size / bandwidth + 2 * math.log2(R) * latency)
                for R in MACHINES
            }
            for net, (bandwidth, latency) in NETS.items()
        }
        if overlap:
            found, here = completed(shard, name), summed / size  # seconds of a byte
            row["complete"], row["hidden"] = found, {"here": max(min(here * done, left) for done, left in found) / step}
            for net, (bandwidth, latency) in NETS.items():
                row["hidden"] |= {
                    f"{net}, {R}": max(0.0, hidden(found, R, bandwidth, latency, times[R][0] / times[ranks.size][0]))
                    / (whole / row["speed-up"][net][R])
                    for R in MACHINES
                }
    ranks.world.Barrier()
    if overlap:
        flight = in_flight(shard, steps)
        if row is not None:
            row["flight"] = flight
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--json")
    given = parser.parse_args()
    started = launched()
    if started is None:
        parser.error("start it with mpiexec -n 2 python benchmarks/communication.py")
    ranks = join(started[1])
    numba.set_num_threads(ranks.threads)
    rows = [measure(ranks, name, given.steps, given.overlap) for name in ([given.only] if given.only else NETWORKS)]
    if ranks.rank:
        return
    print(f"{ranks.size} ranks with {ranks.threads} threads each; milliseconds, medians but for the step")
    print("| network, batch | bytes | step | wait | sum | share of the sum |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        step, wait, added = (f"{1000 * row[name]:.3f}" for name in ("step", "wait", "sum"))
        print(
            f"| {row['network']}, {row['batch']} | {row['bytes']:,} | {step} | {wait} | {added} | {row['share']:.0%} |"
        )
    heads = [f"{net}, {R}" for net in NETS for R in MACHINES]
    print(f"\nProjected speed-up by the number of machines\n| network | {' | '.join(heads)} |")
    print("| --- |" + " --- |" * len(heads))
    for row in rows:
        cells = [f"{row['speed-up'][net][R]:.1f}" for net in NETS for R in MACHINES]
        print(f"| {row['network']} | {' | '.join(cells)} |")
    if given.overlap:
        print("\nA sum after passes and beside them, milliseconds; and the most of a step that two sums would hide")
        heads = ["after", "beside", "beside, tested", *rows[0]["hidden"]]
        print(f"| network | {' | '.join(heads)} |")
        print("| --- |" + " --- |" * len(heads))
        for row in rows:
            cells = [f"{1000 * seconds:.3f}" for seconds in row["flight"].values()]
            cells += [f"{share:.1%}" for share in row["hidden"].values()]
            print(f"| {row['network']} | {' | '.join(cells)} |")
    if given.json:
        with open(given.json, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
