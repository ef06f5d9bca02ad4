"""Times of each layer in training, of a training step and of a prediction, compared with the machine's peak."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

from ..program.program import Program
from ..registry import optimizers
from . import machine
from .describe import describe
from .probe import Probe

TURN, COUNT = 0.02, 9  # seconds per timing, and timings per median


@dataclass
class Timing:
    """Seconds of one layer on a batch, forward and backward; 0.0 for a pass without computation.

    `flops` counts two per multiplication, over all timed passes; None if the layer multiplies nothing.
    """

    name: str
    shape: tuple
    forward: float
    backward: float
    flops: float | None
    torch: tuple | None = None  # the same two by PyTorch

    @property
    def rate(self):
        """Floating-point operations per second."""
        seconds = self.forward + self.backward
        return self.flops / seconds if self.flops and seconds > 0 else None


@dataclass
class Bench:
    """The results of `bench`; times in seconds, for one batch.

    `rest` is the part of a step outside its layers (data, loss, norms, update); `torch` holds "version", "step" and
    "predict" of PyTorch, or "why" PyTorch was not timed.
    """

    layers: list
    rest: float
    step: float
    predict: float
    flops: float  # of the whole step
    peak: float
    bandwidth: float
    others: float | None = None  # share of the CPU that other processes used meanwhile
    torch: dict = field(default_factory=dict)


def bench(network, loss, optimizer, batch_size, progress=None):
    """Measure a network on random data.

    Parameters
    ----------
    network : Network
    loss, optimizer : specs
    batch_size : int
    progress : callable or None
        Called with a short description before each part.

    Returns
    -------
    Bench
    """
    tell = progress or (lambda words: None)
    rng = np.random.default_rng(0)
    tell("compiling")
    program = Program(network, loss, optimizer, batch_size)
    x = network.graph.draw(rng, batch_size).astype(network.dtype)
    if program.labels:
        target = rng.integers(0, network.output_shape[0], batch_size)
    else:
        target = rng.random((batch_size, *network.output_shape)).astype(network.dtype)
    probe = Probe(program, x, target)
    program.compile()
    others = machine.Others()
    rows, shared = [], 0.0
    for node in network.graph.nodes:
        tell(node.name)
        rows.append(_layer(probe, node, batch_size))
    tell("the whole")
    for line in probe.lines:
        if line.node is None:
            shared += probe.seconds(line.number, line.number)
    state, y = program.new_state(), np.empty((batch_size, *network.output_shape), network.dtype)
    step = _median(lambda: program.step(state, x, target))
    predict = _median(lambda: program.predict(state, x, y))
    tell("the machine")
    ceilings = machine.peak(network.dtype.name), machine.bandwidth()
    tell("PyTorch")
    found = Bench(rows, shared, step, predict, sum(row.flops or 0.0 for row in rows), *ceilings)
    found.torch = _torch(network, program)
    found.others = others.share()
    for row in rows:
        row.torch = (found.torch.get("layers") or {}).get(row.name)
    return found


def _layer(probe, node, batch_size):
    forward, backward = (_seconds(probe, probe.of(node.name, way)) for way in ("forward", "backward"))
    if node.skip is not None:
        forward = _seconds(probe, probe.of(node.name, "add"))
    # A layer with weights multiplies as often for dx as for dW; other layers make one pass per direction.
    passes = {line.direction for line in probe.lines if line.node == node.name} - {"backward_bias"}
    flops = 2.0 * node.layer.operations(node.x.shape) * batch_size * len(passes)
    return Timing(node.name, node.y.shape, forward, backward, flops or None)


def _seconds(probe, numbers):
    return sum(probe.seconds(number, number) for number in numbers)


def _median(run):
    """Median seconds of a call."""
    run()
    begin = time.perf_counter()
    run()
    times = max(1, int(TURN / max(time.perf_counter() - begin, 1e-9)))
    found = []
    for _ in range(COUNT):
        begin = time.perf_counter()
        for _ in range(times):
            run()
        found.append((time.perf_counter() - begin) / times)
    return float(np.median(found))


def _torch(network, program):
    """Time PyTorch in a separate process, since two OpenMP runtimes in one would compete for the cores."""
    if find_spec("torch") is None:
        return {"why": "PyTorch is not installed"}
    import numba

    rule = program.optimizer
    request = {
        "rows": describe(network.layers, network.input_shape), "shape": list(network.input_shape),
        "batch": program.batch_size, "dtype": network.dtype.name, "threads": numba.get_num_threads(),
        "loss": program.plan.task.loss_name, "labels": bool(program.labels),
        "rule": optimizers.name_of(type(rule)), "options": rule.options(),
    }  # fmt: skip
    command = [sys.executable, "-m", f"{__package__}.torch_child"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"why": f"PyTorch failed: {said[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])
