"""nnjit on a GPU beside PyTorch: ``python benchmarks/gpu.py [--output FOLDER]``; needs a GPU, numba-cuda and torch.

PyTorch runs eager, as a captured CUDA graph, and compiled. All is measured in float32 on both sides, then with TF32 on
both. Every pair is checked against each other before it is timed, then timed in turns; a figure is the median of the
turns. Writes gpu.md and gpu.json, beside the roofline measured in the same run: bandwidth of a copy, rate of float32
multiply-adds in registers.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from nnjit import registry
from nnjit.data import load
from nnjit.errors import DeviceError
from nnjit.kernels.operations import operation
from works import LENET, MLP, VGG

TURNS, SECONDS = 11, 0.1  # turns of a side, and about how long one lasts
# Work -> (layers, input shape, batch, at least and aim against eager, at least and aim against graphs).
TRAINING = {
    "MLP": (MLP, (784,), 128, (2, 6), (0.9, 1.5)),
    "LeNet": (LENET, (1, 28, 28), 128, (2, 6), (0.9, 1.5)),
    "small VGG": (VGG, (3, 32, 32), 256, (0.7, 1.1), None),
}
STEPS = 50
ROUNDING = {"float32": 1e-4, "tf32": 1e-2}  # how far results may be apart, relative to the largest


def timed(runs, synchronize):
    """Name -> seconds of one run, the median of turns that the runs take one after the other."""
    counts, found = {}, {name: [] for name in runs}
    for name, run in runs.items():
        run()
        synchronize()
        begin = time.perf_counter()
        run()
        synchronize()
        counts[name] = max(1, round(SECONDS / max(time.perf_counter() - begin, 1e-6)))
    for _ in range(TURNS):
        for name, run in runs.items():
            begin = time.perf_counter()
            for _ in range(counts[name]):
                run()
            synchronize()
            found[name].append((time.perf_counter() - begin) / counts[name])
    return {name: float(np.median(times)) for name, times in found.items()}


# -- whole training steps ----------------------------------------------------------------------------------------------


def training(torch, name, precision):
    """Seconds of a step with plain gradient descent, by who does it."""
    from nnjit.bench import torch_twin
    from nnjit.bench.describe import describe

    layers, shape, batch, *_ = TRAINING[name]
    net = registry.compose(list(layers), shape, device="cuda", seed=1, precision=precision)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * batch, *shape)).astype(np.float32)
    y = rng.integers(0, 10, STEPS * batch)
    rows = describe(net.layers, net.input_shape)
    modules = {}
    for way in ("eager", "graph", "compile"):
        modules[way] = torch_twin.build(rows)
        with torch.no_grad():
            for key, tensor in torch_twin.parameters(modules[way], rows).items():
                tensor.copy_(torch.from_numpy(net.parameters[key].copy()))
        modules[way].cuda()
    program = net.compile("cross_entropy", "sgd(lr=0.01)", batch_size=batch)
    there, labels = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
    batches = [(there[k : k + batch], labels[k : k + batch]) for k in range(0, len(x), batch)]
    runs = {
        "eager": eager(torch, modules["eager"], batches),
        "CUDA graph": graphed(torch, modules["graph"], batches),
        "torch.compile": eager(torch, torch.compile(modules["compile"]), batches),
    }
    order = np.arange(len(x))
    with program.hold():
        mine = program.epoch(program.state, x, y, order[:batch])
        theirs = float(torch.nn.functional.cross_entropy(modules["eager"](batches[0][0]), batches[0][1]))
        near = abs(mine - theirs) < ROUNDING[precision] * abs(theirs)
        assert near, f"{name}: a loss of {mine}, PyTorch's is {theirs}"
        found = timed({"nnjit": lambda: program.epoch(program.state, x, y, order), **runs}, torch.cuda.synchronize)
    return {who: seconds / STEPS for who, seconds in found.items()}


def eager(torch, module, batches):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)

    def run():
        for x, y in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()

    return run


def graphed(torch, module, batches):
    x, y = batches[0][0].clone(), batches[0][1].clone()
    step = eager(torch, module, [(x, y)])
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def run():
        for a, b in batches:
            x.copy_(a)
            y.copy_(b)
            graph.replay()

    return run


# -- single kernels ----------------------------------------------------------------------------------------------------


def bound(name, arrays, precision="float32"):
    """An operation on arrays of the device as a sequence that can be run again and again."""
    from nnjit.kernels import launch
    from nnjit.kernels.driver import Sequence
    from numba import cuda

    with launch.precision(precision):
        return Sequence(launch.launches(operation(name).on("cuda"), arrays), cuda.stream())


def shared(torch, array):
    """An array in the device's memory for both: as Numba and as PyTorch know it."""
    from numba import cuda

    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32)).cuda()
    return cuda.as_cuda_array(tensor), tensor


def product(torch, precision, n=4096):
    from numba import cuda

    rng = np.random.default_rng(0)
    (x, X), (W, Y), (y, Z) = (shared(torch, rng.normal(size=(n, n))) for _ in range(3))
    b = cuda.device_array(0, np.float32)
    mine = bound("dense.forward", [x, W, b, y], precision)
    runs = {"nnjit": mine, "eager": lambda: torch.mm(X, Y.T, out=X.new_empty(n, n))}
    runs["nnjit"]()
    torch.cuda.synchronize()
    want = X @ Y.T
    assert torch.allclose(Z, want, atol=ROUNDING[precision] * want.abs().max().item()), "the product is not PyTorch's"
    return {"matrix product 4096": (timed(runs, torch.cuda.synchronize), 2 * n**3, "flops", (0.6, 0.9))}


def convolution(torch, precision, N=64, C=64, size=56):
    """3x3, 64 to 64 channels, three directions; images of two dimensions have a leading 1 here."""
    from numba import cuda

    rng, one = np.random.default_rng(0), (1, 1, 1)
    (x, X), (dy, DY), (y, Y), (dx, DX) = (shared(torch, rng.normal(size=(N, C, 1, size, size))) for _ in range(4))
    (W, V), (dW, DV) = (shared(torch, rng.normal(size=(C, C, 1, 3, 3)) / 24) for _ in range(2))
    padded, _ = shared(torch, np.zeros((N, C, 1, size + 2, size + 2)))
    framed, _ = shared(torch, np.zeros((N, C, 1, size + 4, size + 4)))
    none, before = cuda.device_array(0, np.float32), (0, 1, 1)
    X, DY, V = X.squeeze(2), DY.squeeze(2), V.squeeze(2)
    grad = torch.nn.grad
    works = {
        "forward": (bound("conv.forward", [x, W, none, padded, y, one, one, 1, before, 0], precision),
                    lambda: torch.nn.functional.conv2d(X, V, padding=1), Y),
        "to input": (bound("conv.backward_input", [W, dy, framed, padded, dx, one, one, 1, before, 0], precision),
                     lambda: grad.conv2d_input(X.shape, V, DY, padding=1), DX),
        "to weight": (bound("conv.backward_weight", [x, padded, dy, dW, one, one, 1, before, 0], precision),
                      lambda: grad.conv2d_weight(X, V.shape, DY, padding=1), DV),
    }  # fmt: skip
    found = {}
    for direction, (mine, theirs, result) in works.items():
        mine()
        torch.cuda.synchronize()
        want = theirs()
        largest = want.abs().max().item()
        near = torch.allclose(result.squeeze(2), want, atol=10 * ROUNDING[precision] * largest)
        assert near, f"convolution {direction}"
        runs = {"nnjit": mine, "eager": theirs}
        flops = 2 * N * C * C * 9 * size * size
        found[f"3x3 convolution 64 at 56x56, batch 64, {direction}"] = (
            timed(runs, torch.cuda.synchronize), flops, "flops", (0.6, 1.0),
        )  # fmt: skip
    return found


def memory_bound(torch, n=2**26):
    """Bytes that have to be read and written, and the share of a copy's bandwidth."""
    (a, _), (b, _), (c, _), (d, _) = (shared(torch, np.zeros(n)) for _ in range(4))
    image, half = (a[: n // 2].reshape(64, 32, 1, 128, -1), b[: n // 8].reshape(64, 32, 1, 64, -1))
    slope = c[: n // 2].reshape(image.shape)
    two, none = (1, 2, 2), (0, 0, 0)
    works = {
        "residual sum": (bound("residual.add", [a, b, c]), 12 * n),
        "Adam": (bound("update.adam", [a, b, c, d, 1e-3, 1, 0.9, 0.999, 1e-8, 0.0]), 28 * n),
        "maxpool 2x2 forward": (bound("pooling.max_forward", [image, half, two, two, none]), 4 * (n // 2 + n // 8)),
        "maxpool 2x2 backward": (
            bound("pooling.max_backward_input", [image, half, half, slope, two, two, none]), 4 * (n + n // 8)
        ),
        "avgpool 2x2 forward": (
            bound("pooling.average_forward", [image, half, two, two, none, False]), 4 * (n // 2 + n // 8)
        ),
    }  # fmt: skip
    found = {}
    for name, (run, size) in works.items():
        found[name] = (timed({"nnjit": run}, torch.cuda.synchronize), size, "bytes", (0.8, 0.95))
    return found


# -- what the device can do --------------------------------------------------------------------------------------------


def roofline(torch, n=2**28, rounds=4096):
    """Bytes a second of a copy, and floating-point operations a second of multiply-adds in registers."""
    from numba import cuda, float32

    a, b = torch.zeros(n, device="cuda"), torch.zeros(n, device="cuda")

    @cuda.jit
    def multiply_add(out):
        x = float32(cuda.threadIdx.x)
        p, q, r, s = x, x, x, x
        for _ in range(rounds):
            p, q, r, s = p * x + x, q * x + x, r * x + x, s * x + x
        out[cuda.grid(1)] = p + q + r + s

    blocks = 16 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    out = cuda.device_array(blocks * 256, np.float32)
    runs = {"copy": lambda: b.copy_(a), "fma": lambda: multiply_add[blocks, 256](out)}
    found = timed(runs, lambda: (torch.cuda.synchronize(), cuda.synchronize()))
    return {"bytes": 8 * n / found["copy"], "flops": blocks * 256 * rounds * 8 / found["fma"]}


def devices_agree():
    """The embedded digits on both devices, one seed: largest relative difference of the first 100 losses, accuracy."""
    digits, found = load("digits"), {}
    x, y = digits.train.take(slice(None), "float32")
    for device in ("cpu", "cuda"):
        net = registry.compose(
            ["conv(16, 3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"], (1, 8, 8), device=device
        )
        history = net.fit(x, y, optimizer="adam(lr=3e-3)", epochs=5, batch_size=64, seed=0)
        found[device] = np.array([r["loss"] for r in history.steps[:100]]), net.evaluate(x, y)["accuracy"]
    (a, p), (b, q) = found["cpu"], found["cuda"]
    return {"loss": float(np.max(np.abs(a - b) / a)), "accuracy points": 100 * abs(p - q)}


# -- the report --------------------------------------------------------------------------------------------------------


def measure(torch):
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "roofline": roofline(torch)}
    found["devices agree"] = devices_agree()
    found["training"], found["kernels"] = {}, {}
    torch.backends.cudnn.benchmark = True
    for precision in ROUNDING:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        found["training"][precision] = {name: training(torch, name, precision) for name in TRAINING}
        found["kernels"][precision] = product(torch, precision) | convolution(torch, precision)
    found["memory"] = memory_bound(torch)
    return found


def markdown(found):
    top, agree = found["roofline"], found["devices agree"]
    lines = [
        "# nnjit on a GPU beside PyTorch", "",
        f"{found['device']}, PyTorch {found['torch']}. Measured in the same run: a copy moves {top['bytes'] / 1e9:.0f}"
        f" GB/s, float32 multiply-adds in registers do {top['flops'] / 1e12:.1f} TFLOP/s, which TF32 may exceed. Ratios"
        " are PyTorch's time over nnjit's.",
        "",
        f"CPU and GPU with one seed: losses of the first 100 steps within {agree['loss']:.1e}, accuracy within"
        f" {agree['accuracy points']:.2f} points.",
        "",
    ]  # fmt: skip
    for key, rows in found["training"].items():
        lines += [f"## Training step, {key}", ""]
        lines += ["| work | nnjit | eager | CUDA graph | torch.compile | at least, aim |", f"|{' --- |' * 6}"]
        for name, times in rows.items():
            ratios = [f"{times[who] / times['nnjit']:.2f}" for who in ("eager", "CUDA graph", "torch.compile")]
            _, _, batch, against, graphs = TRAINING[name]
            asked = f"{against[0]}, {against[1]}" + (f"; graph {graphs[0]}, {graphs[1]}" if graphs else "")
            lines.append(f"| {name}, batch {batch} | {times['nnjit'] * 1e6:.0f} us | {' | '.join(ratios)} | {asked} |")
        lines.append("")
    for key, rows in [*found["kernels"].items(), ("memory-bound", found["memory"])]:
        lines += [f"## Kernels, {key}", ""]
        lines += ["| work | nnjit | share of the roofline | PyTorch | at least, aim |", f"|{' --- |' * 5}"]
        for name, (times, amount, kind, asked) in rows.items():
            share = amount / times["nnjit"] / top[kind]
            ratio = f"{times['eager'] / times['nnjit']:.2f}" if "eager" in times else ""
            lines.append(f"| {name} | {times['nnjit'] * 1e6:.0f} us | {share:.2f} | {ratio} | {asked[0]}, {asked[1]} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_name("results"), type=Path, metavar="FOLDER")
    folder = parser.parse_args(arguments).output
    try:
        registry.compose("dense(2)", (2,), device="cuda")
        import torch
    except (DeviceError, ImportError) as error:
        return str(error)
    found = measure(torch)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (folder / "gpu.md").write_text(markdown(found), encoding="utf-8")
    print(folder / "gpu.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
