"""Time to the first finished step in a new process: with an empty cache, with warm kernels, and once more.

    python benchmarks/startup.py nnjit|torch < work as JSON

is the child: it builds the network, does one step and says so. The parent's clock begins before the process does, so
that the start of Python and all imports count.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from child import Failed
from measure import summary

OTHER = {"dense(120)": "dense(100)", "dense(128)": "dense(96)", "dense(84)": "dense(60)"}  # in a related network


def row(work, peers, count):
    """Measure the seconds of a start, the median of up to three."""
    count = min(3, count)
    found = {"work": work.plain(), "peers": {}}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found["nnjit"] = {"time": summary([_nnjit(work, Path(scratch) / str(k)) for k in range(count)])}
        except Failed as error:
            return found | {"error": f"nnjit: {error}"}
    for name in work.peers:
        if name in peers:
            try:
                times = [_peer(name, work) for _ in range(count)]
                ratio = np.median(times) / found["nnjit"]["time"]["median"]
                found["peers"][name] = {"time": summary(times), "ratio": {"median": float(ratio)}}
            except Failed as error:
                found["peers"][name] = {"error": str(error)}
    return found


def _peer(name, work):
    """Seconds of one start; torch.compile finds its cache on disk only if the row starts a network again."""
    command, plain = [sys.executable, __file__, name], described(work)
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TORCHINDUCTOR_CACHE_DIR": folder}
        if name == "torch.compile" and work.direction == "again":
            _start(command, plain, environment)
        return _start(command, plain, environment)


def _nnjit(work, folder):
    """Seconds of one start, with the cache in the state that the row names."""
    folder.mkdir()
    environment = {"NNJIT_CACHE_DIR": str(folder / "cache"), "MPLBACKEND": "Agg"}
    if work.direction == "empty cache":
        return _default_run(folder, environment)
    command, plain = [sys.executable, __file__, "nnjit"], work.plain()
    _start(command, plain | {"layers": [OTHER.get(layer, layer) for layer in work.layers] + _tail(work)}, environment)
    seconds = _start(command, plain, environment)
    return seconds if work.direction == "kernels warm" else _start(command, plain, environment)


def _tail(work):
    """Layers that make the related network another one if no width differs."""
    return [] if any(layer in OTHER for layer in work.layers) else ["relu", "dense(10)"]


def _default_run(folder, environment):
    """Run `nnjit run` until its log holds the first step; return the seconds."""
    command = [sys.executable, "-c", "from nnjit.cli.main import main; main()", "run", "--output", str(folder / "run")]
    log = folder / "run" / "log.jsonl"
    begin = time.perf_counter()
    with open(folder / "said", "w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=said, stderr=said)
        try:
            while not (log.exists() and b"\n" in log.read_bytes()):
                if process.poll() is not None:
                    said.seek(0)
                    raise Failed(f"nnjit run ended with status {process.returncode}: {said.read()[-200:].strip()}")
                time.sleep(0.005)
            return time.perf_counter() - begin
        finally:
            process.kill()
            process.wait()


def _start(command, plain, environment=None):
    """Seconds from before the start of a process until it says that the step is finished."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    process.stdin.write(json.dumps(plain) + "\n")
    process.stdin.flush()
    said = process.stdout.readline()
    seconds = time.perf_counter() - begin
    _, errors = process.communicate()
    if said.strip() != "done" or process.returncode:
        last = errors.strip().splitlines()[-1:] or [f"status {process.returncode}"]
        raise Failed("not installed" if "ModuleNotFoundError" in last[0] else last[0][:200])
    return seconds


def described(work):
    """Describe a work so that a peer need not import nnjit's layers, and with them Numba."""
    from nnjit import registry
    from nnjit.bench.describe import describe

    rows = describe([registry.create(spec) for spec in work.layers], work.shape)
    options = registry.optimizers.create(work.optimizer).options()
    rule = registry.parse(work.optimizer, "optimizer").name
    return work.plain() | {"rows": rows, "rule": rule, "options": options}


def torch_training(work):
    """Return module, optimizer and loss of a `described` work."""
    from nnjit.bench import torch_twin

    module = torch_twin.build(work["rows"])
    optimizer = torch_twin.optimizer(work["rule"], work["options"], module.parameters())
    return module, optimizer, torch_twin.loss(work["loss"])


def first_step(peer, work):
    """Build the network and do one step with a finite loss."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((work["batch"], *work["shape"])).astype(np.float32)
    target = rng.integers(0, 10, work["batch"])
    if peer == "nnjit":
        from nnjit import registry

        net = registry.compose(work["layers"], tuple(work["shape"]))
        program = net.compile(work["loss"], work["optimizer"], batch_size=work["batch"])
        loss = program.step(program.state, x, target)
    else:
        import torch

        module, optimizer, cost = torch_training(work)
        called = torch.compile(module) if peer == "torch.compile" else module
        loss = cost(called(torch.from_numpy(x)), torch.from_numpy(target))
        loss.backward()
        optimizer.step()
        loss = loss.item()
    assert np.isfinite(loss)


if __name__ == "__main__":
    first_step(sys.argv[1], json.loads(sys.stdin.readline()))
    print("done", flush=True)
