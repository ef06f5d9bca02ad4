"""Memory of training: resident size just before the first step, and its peak during some steps.

    python benchmarks/memory.py nnjit|torch < work as JSON

is the child. Growth counts the memory that the first steps touch: buffers that are only allocated are not resident.
nnjit's cache is warm: a process compiles everything first. The size of nnjit's state must be the sum that
`program.memory()` states.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from child import Failed
from measure import summary
from startup import described, torch_training

STEPS = 20  # training steps


def row(work, peers, count):
    """Growth of memory in bytes, the median of up to three processes on each side."""
    count = min(3, count)
    found = {"work": work.plain(), "peers": {}, "unit": "bytes"}
    try:
        _ask("nnjit", work)  # compiles
        own = [_ask("nnjit", work) for _ in range(count)]
    except Failed as error:
        return found | {"error": f"nnjit: {error}"}
    found["nnjit"] = _medians(own)
    promised, allocated = own[0]["promised"], own[0]["allocated"]
    if promised != allocated:
        return found | {"error": f"nnjit: program.memory() states {promised} bytes, {allocated} are allocated"}
    for name in work.peers:
        if name in peers:
            try:
                theirs = _medians([_ask(name, work) for _ in range(count)])
                ratio = theirs["time"]["median"] / max(1, found["nnjit"]["time"]["median"])
                found["peers"][name] = theirs | {"ratio": {"median": float(ratio)}}
            except Failed as error:
                found["peers"][name] = {"error": str(error)}
    return found


def _medians(answers):
    """Medians of all numbers; the growth takes the place of the time."""
    middle = {key: float(np.median([answer[key] for answer in answers])) for key in answers[0]}
    return middle | {"time": summary([answer["growth"] for answer in answers])}


def _ask(peer, work):
    command = [sys.executable, __file__, peer]
    done = subprocess.run(command, input=json.dumps(described(work)), capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise Failed("not installed" if "ModuleNotFoundError" in last[0] else last[0][:200])
    return json.loads(done.stdout.splitlines()[-1])


def resident(which):
    """VmRSS (now) or VmHWM (peak) of this process in bytes, as Linux counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) * 1024
    raise Failed("the system does not report resident memory")


def forget_peak():
    """Reset the peak to the current resident size."""
    Path("/proc/self/clear_refs").write_text("5")


def train(peer, work):
    """Resident bytes before, peak and growth of some steps on images like MNIST's."""
    rng = np.random.default_rng(0)
    samples = work["batch"] * STEPS
    x = rng.random((samples, *work["shape"]), np.float32)
    target = rng.integers(0, 10, samples)
    state = {}
    if peer == "nnjit":
        from nnjit import registry

        net = registry.compose(work["layers"], tuple(work["shape"]))
        program = net.compile(work["loss"], work["optimizer"], batch_size=work["batch"])
        order = np.arange(samples)
        arrays = [each for each in program.state if isinstance(each, np.ndarray)]
        allocated = sum(array.nbytes for array in arrays)
        state = {"promised": sum(program.memory().values()), "allocated": allocated}
        steps = lambda: program.epoch(program.state, x, target, order)  # noqa: E731
    else:
        steps = _torch(work, x, target)
    forget_peak()
    before = resident("VmRSS")
    steps()
    peak = resident("VmHWM")
    return state | {"before": before, "peak": peak, "growth": peak - before}


def _torch(work, x, target):
    import torch

    module, optimizer, loss = torch_training(work)
    x, target = torch.from_numpy(x), torch.from_numpy(target)

    def steps():
        for batch, labels in zip(x.split(work["batch"]), target.split(work["batch"]), strict=True):
            optimizer.zero_grad()
            loss(module(batch), labels).backward()
            optimizer.step()

    return steps


if __name__ == "__main__":
    print(json.dumps(train(sys.argv[1], json.load(sys.stdin))))
