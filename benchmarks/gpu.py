"""nnjit on a GPU against PyTorch: ``python benchmarks/gpu.py [--output FOLDER]``; needs a GPU, numba-cuda and torch.

PyTorch runs eager, as a captured CUDA graph, and compiled. All is measured in float32 on both sides, then with TF32 and
with bfloat16 on both (PyTorch's by allow_tf32 and by autocast or casts, whose time counts as nnjit's rounding does).
The results of each pair are compared before it is timed in turns; a figure is the median of the turns. The roofline
(bandwidth of a copy, rate of float32 multiply-adds in registers) is measured in the same run. Writes gpu.md and
gpu.json after every part, so that finished parts stay if a later part fails.
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
from nnjit.kernels.gpu.tensor import NEEDS
from nnjit.kernels.operations import operation
from numba import cuda, float32
from works import LENET, MLP, VGG

TURNS, SECONDS = 11, 0.1  # turns of a side, and approximate length of a turn
# Work -> (layers, input shape, batch, least and aimed ratio against eager, the same against graphs).
TRAINING = {
    "MLP": (MLP, (784,), 128, (2, 6), (0.9, 1.5)),
    "LeNet": (LENET, (1, 28, 28), 128, (2, 6), (0.9, 1.5)),
    "small VGG": (VGG, (3, 32, 32), 256, (0.7, 1.1), None),
}
STEPS = 50  # training steps of a timed run
# Largest difference of results, relative to the largest number.
ROUNDING = {"float32": 1e-4, "tf32": 1e-2, "bf16": 3e-2}
WAYS = ("eager", "CUDA graph", "torch.compile")


def timed(runs, synchronize):
    """Return name -> seconds of one run, the median of turns that the runs take one after the other."""
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
    """Seconds of a step with plain gradient descent, for each competitor."""
    from nnjit.bench import torch_twin
    from nnjit.bench.describe import describe

    layers, shape, batch, *_ = TRAINING[name]
    net = registry.compose(list(layers), shape, device="cuda", seed=1, precision=precision)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * batch, *shape)).astype(np.float32)
    y = rng.integers(0, 10, STEPS * batch)
    rows = describe(net.layers, net.input_shape)
    modules = {}
    for way in WAYS:
        modules[way] = torch_twin.build(rows)
        with torch.no_grad():
            for key, tensor in torch_twin.parameters(modules[way], rows).items():
                tensor.copy_(torch.from_numpy(net.parameters[key].copy()))
        modules[way].cuda()
    program = net.compile("cross_entropy", "sgd(lr=0.01)", batch_size=batch)
    there, labels = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
    batches = [(there[k : k + batch], labels[k : k + batch]) for k in range(0, len(x), batch)]
    bf16 = precision == "bf16"
    torch._dynamo.reset()  # otherwise it runs eager after some graphs of one class
    runs = {
        "eager": eager(torch, modules["eager"], batches, bf16),
        "CUDA graph": graphed(torch, modules["CUDA graph"], batches, bf16),
        "torch.compile": eager(torch, torch.compile(modules["torch.compile"]), batches, bf16),
    }
    try:
        runs["torch.compile"]()
    except Exception as error:  # it needs a C compiler and Triton
        print(f"{name}: torch.compile does not run here: {error}", file=sys.stderr)
        del runs["torch.compile"]
    order = np.arange(len(x))
    with program.on_device():
        mine = program.epoch(program.state, x, y, order[:batch])
        theirs = float(loss(torch, modules["eager"], *batches[0], bf16))
        near = abs(mine - theirs) < ROUNDING[precision] * abs(theirs)
        assert near, f"{name}: a loss of {mine}, PyTorch's is {theirs}"
        found = timed({"nnjit": lambda: program.epoch(program.state, x, y, order), **runs}, torch.cuda.synchronize)
    return {who: seconds / STEPS for who, seconds in found.items()}


def loss(torch, module, x, y, bf16):
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False):
        return torch.nn.functional.cross_entropy(module(x), y)


def eager(torch, module, batches, bf16):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)

    def run():
        for x, y in batches:
            optimizer.zero_grad()
            loss(torch, module, x, y, bf16).backward()
            optimizer.step()

    return run


def graphed(torch, module, batches, bf16):
    x, y = batches[0][0].clone(), batches[0][1].clone()
    step = eager(torch, module, [(x, y)], bf16)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
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
    """Bind an operation or a formula to arrays of the device, as a sequence that can be run repeatedly."""
    from nnjit.kernels.gpu import launch
    from nnjit.kernels.gpu.driver import Sequence

    with launch.precision(precision):
        kernel = operation(name).on("cuda") if isinstance(name, str) else name
        return Sequence(launch.launches(kernel, arrays), cuda.stream())


def shared(torch, array):
    """Copy an array to the device; return it as an array of Numba and as a tensor of PyTorch."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, np.float32)).cuda()
    return cuda.as_cuda_array(tensor), tensor


def product(torch, precision, n=4096):
    rng = np.random.default_rng(0)
    (x, X), (W, Y), (y, Z) = (shared(torch, rng.normal(size=(n, n))) for _ in range(3))
    b = cuda.device_array(0, np.float32)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    runs = {
        "nnjit": bound("dense.forward", [x, W, b, y], precision),
        "eager": lambda: torch.mm(X.to(kind), Y.to(kind).T).float(),
    }
    runs["nnjit"]()
    torch.cuda.synchronize()
    want = runs["eager"]()
    assert torch.allclose(Z, want, atol=ROUNDING[precision] * want.abs().max().item()), "the product is not PyTorch's"
    return {"matrix product 4096": (timed(runs, torch.cuda.synchronize), 2 * n**3, "flops", (0.6, 0.9))}


def convolution(torch, precision, N=64, C=64, size=56):
    """3x3, 64 to 64 channels, three directions; 2D images have three dimensions here, the first of size 1."""
    rng, one = np.random.default_rng(0), (1, 1, 1)
    (x, X), (dy, DY), (y, Y), (dx, DX) = (shared(torch, rng.normal(size=(N, C, 1, size, size))) for _ in range(4))
    (W, V), (dW, DV) = (shared(torch, rng.normal(size=(C, C, 1, 3, 3)) / 24) for _ in range(2))
    padded, _ = shared(torch, np.zeros((N, C, 1, size + 2, size + 2)))
    haloed_dy, _ = shared(torch, np.zeros((N, C, 1, size + 4, size + 4)))
    none, before = cuda.device_array(0, np.float32), (0, 1, 1)
    X, DY, V = X.squeeze(2), DY.squeeze(2), V.squeeze(2)
    kind, grad = torch.bfloat16 if precision == "bf16" else torch.float32, torch.nn.grad
    weight = lambda a, b: grad.conv2d_weight(a, V.shape, b, padding=1)  # noqa: E731
    conv, near = torch.nn.functional.conv2d, lambda *given: [a.to(kind) for a in given]
    works = {
        "forward": (bound("conv.forward", [x, W, none, padded, y, one, one, 1, before, 0], precision),
                    lambda: conv(*near(X, V), padding=1).float(), Y),
        "to input": (bound("conv.backward_input", [W, dy, haloed_dy, padded, dx, one, one, 1, before, 0], precision),
                     lambda: grad.conv2d_input(X.shape, *near(V, DY), padding=1).float(), DX),
        "to weight": (bound("conv.backward_weight", [x, padded, dy, dW, one, one, 1, before, 0], precision),
                      lambda: weight(*near(X, DY)).float(), DV),
    }  # fmt: skip
    found = {}
    for direction, (mine, theirs, result) in works.items():
        mine()
        torch.cuda.synchronize()
        want = theirs()
        largest = want.abs().max().item()
        same = torch.allclose(result.squeeze(2), want, atol=10 * ROUNDING[precision] * largest)
        assert same, f"convolution {direction}"
        runs = {"nnjit": mine, "eager": theirs}
        flops = 2 * N * C * C * 9 * size * size
        found[f"3x3 convolution 64 at 56x56, batch 64, {direction}"] = (
            timed(runs, torch.cuda.synchronize), flops, "flops", (0.6, 1.0),
        )  # fmt: skip
    return found


def memory_bound(torch, n=2**26):
    """Time kernels whose speed memory bounds; return also the bytes that they must read and write."""
    (a, _), (b, _), (c, _), (d, _) = (shared(torch, np.random.default_rng(k).random(n)) for k in range(4))
    image, half = (a[: n // 2].reshape(64, 32, 1, 128, -1), b[: n // 8].reshape(64, 32, 1, 64, -1))
    slope, argmax = c[: n // 2].reshape(image.shape), d[: n // 8].reshape(half.shape)
    two, none = (1, 2, 2), (0, 0, 0)
    works = {
        "relu": (bound(registry.create("relu").forward, [a, b]), 8 * n),
        "tanh": (bound(registry.create("tanh").forward, [a, b]), 8 * n),
        "derivative of tanh": (bound(registry.create("tanh").backward_input, [a, b, c]), 12 * n),
        "residual sum": (bound("residual.add", [a, b, c]), 12 * n),
        "gradient descent": (bound("update.gradient_descent", [a, b, 1e-3, 0.0]), 12 * n),
        "SGD with momentum": (bound("update.sgd", [a, b, c, 1e-3, 0.9, False, 0.0]), 20 * n),
        "Adam": (bound("update.adam", [a, b, c, d, 1e-3, 1, 0.9, 0.999, 1e-8, 0.0]), 28 * n),
        "maxpool 2x2 forward": (
            bound("pooling.max_forward", [image, half, argmax, two, two, none]), 4 * (n // 2 + n // 4)
        ),
        "maxpool 2x2 backward": (
            bound("pooling.max_backward_input", [argmax, half, slope, two, two, none]), 4 * (n // 2 + n // 4)
        ),
        "avgpool 2x2 forward": (
            bound("pooling.average_forward", [image, half, two, two, none, False]), 4 * (n // 2 + n // 8)
        ),
        "avgpool 2x2 backward": (
            bound("pooling.average_backward_input", [half, slope, two, two, none, False]), 4 * (n // 2 + n // 8)
        ),
    }  # fmt: skip
    found = {}
    for name, (run, size) in works.items():
        found[name] = (timed({"nnjit": run}, torch.cuda.synchronize), size, "bytes", (0.8, 0.95))
    return found


# -- roofline of the device --------------------------------------------------------------------------------------------


ROUNDS, UNROLLED = 128, 32


def multiply_add(out):
    """Run 4 UNROLLED multiply-adds per iteration, in four independent chains, so that the loop's counting is cheap."""
    x = float32(cuda.threadIdx.x)
    p, q, r, s = x, x, x, x
    for _ in range(ROUNDS):
        for _ in range(UNROLLED):
            p, q, r, s = p * x + x, q * x + x, r * x + x, s * x + x
    out[cuda.grid(1)] = p + q + r + s


def roofline(torch, n=2**28):
    """Bytes per second of a copy, and floating-point operations per second of multiply-adds in registers."""
    a, b = torch.zeros(n, device="cuda"), torch.zeros(n, device="cuda")
    blocks, fma = 16 * cuda.get_current_device().MULTIPROCESSOR_COUNT, cuda.jit(multiply_add)
    out = cuda.device_array(blocks * 256, np.float32)
    runs = {"copy": lambda: b.copy_(a), "fma": lambda: fma[blocks, 256](out)}
    found = timed(runs, lambda: (torch.cuda.synchronize(), cuda.synchronize()))
    return {"bytes": 8 * n / found["copy"], "flops": 8 * blocks * 256 * ROUNDS * UNROLLED / found["fma"]}


def devices_agree(data, devices=("cpu", "cuda")):
    """Train with one seed on both devices; return the largest relative difference of 100 losses, and of accuracies."""
    found, dataset = {}, load(data)
    x, y = dataset.train.take(slice(None), "float32")
    scale = ("minmax", dict(zip(("low", "high"), dataset.raw_range, strict=True)))
    for device in devices:
        net = registry.compose(
            [scale, "conv(16, 3, padding='same')", "relu", "maxpool(2)", "flatten", "dense(10)"],
            x.shape[1:],
            device=device,
        )
        epochs = max(1, round(115 * 64 / len(x)))  # more than 100 steps, and each of them logged
        history = net.fit(x, y, optimizer="adam(lr=3e-3)", epochs=epochs, batch_size=64, seed=0)
        losses = np.array([record["loss"] for record in history.steps[:100]])
        found[device] = losses, net.evaluate(x, y, metrics=["accuracy"])["accuracy"]
    (a, p), (b, q) = (found[device] for device in devices)
    return {"loss": float(np.max(np.abs(a - b) / a)), "accuracy points": 100 * abs(p - q)}


# -- the report --------------------------------------------------------------------------------------------------------


def measure(torch, data):
    """Yield the results so far after every part."""
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "roofline": roofline(torch)}
    found |= {"training": {}, "kernels": {}, "memory": {}}
    yield found
    found["devices agree"] = devices_agree(data)
    yield found
    found["memory"] = memory_bound(torch)
    yield found
    torch.backends.cudnn.benchmark = True
    fits = torch.cuda.get_device_capability() >= NEEDS
    for precision in ROUNDING if fits else ["float32"]:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        found["kernels"][precision] = product(torch, precision) | convolution(torch, precision)
        yield found
        found["training"][precision] = {}
        for name in TRAINING:
            found["training"][precision][name] = training(torch, name, precision)
            yield found


def markdown(found):
    top, agree = found["roofline"], found.get("devices agree")
    lines = [
        "# nnjit on a GPU against PyTorch", "",
        f"{found['device']}, PyTorch {found['torch']}. Ratios are PyTorch's time over nnjit's: above 1 nnjit"
        " is faster. Shares are of the roofline measured in the same run: the copy for bytes, float32 multiply-adds in"
        " registers for operations, which tensor cores may exceed.", "",
        "| roofline | measured |", "| --- | --- |",
        f"| a copy, read and written | {top['bytes'] / 1e9:.0f} GB/s |",
        f"| float32 multiply-adds in registers | {top['flops'] / 1e12:.1f} TFLOP/s |", "",
    ]  # fmt: skip
    if agree:
        lines += ["| CPU and GPU with one seed | measured | at most |", f"|{' --- |' * 3}"]
        lines.append(f"| relative difference of the first 100 losses | {agree['loss']:.1e} | 1e-4 |")
        lines += [f"| difference of accuracy in points | {agree['accuracy points']:.2f} | 0.2 |", ""]
    for key, rows in found["training"].items():
        lines += [f"## Training step, {key}", ""]
        lines += [f"| work | nnjit | {' | '.join(WAYS)} | at least, aim |", f"|{' --- |' * 6}"]
        for name, times in rows.items():
            ratios = [f"{times[who] / times['nnjit']:.2f}" if who in times else "does not run" for who in WAYS]
            _, _, batch, against, graphs = TRAINING[name]
            asked = f"{against[0]}, {against[1]}" + (f"; graph {graphs[0]}, {graphs[1]}" if graphs else "")
            lines.append(f"| {name}, batch {batch} | {times['nnjit'] * 1e6:.0f} us | {' | '.join(ratios)} | {asked} |")
        lines.append("")
    for key, rows in [*found["kernels"].items(), ("bound by memory", found["memory"])]:
        lines += [f"## Kernels, {key}", ""]
        lines += ["| work | nnjit | rate | share of the roofline | PyTorch | at least, aim |", f"|{' --- |' * 6}"]
        for name, (times, amount, kind, asked) in rows.items():
            rate = amount / times["nnjit"]
            ratio = f"{times['eager'] / times['nnjit']:.2f}" if "eager" in times else ""
            spoken = f"{rate / 1e12:.1f} TFLOP/s" if kind == "flops" else f"{rate / 1e9:.0f} GB/s"
            cells = name, f"{times['nnjit'] * 1e6:.0f} us", spoken, f"{rate / top[kind]:.2f}", ratio
            lines.append(f"| {' | '.join(cells)} | {asked[0]}, {asked[1]} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=Path(__file__).with_name("results"), type=Path, metavar="FOLDER")
    parser.add_argument("--data", default="digits", metavar="SPEC", help="CPU against GPU: digits, or MNIST's idx(...)")
    given = parser.parse_args(arguments)
    folder = given.output
    try:
        registry.compose("dense(2)", (2,), device="cuda")
        import torch
    except (DeviceError, ImportError) as error:
        return str(error)
    if not torch.cuda.is_available():
        return "this PyTorch finds no GPU"
    folder.mkdir(parents=True, exist_ok=True)
    for found in measure(torch, given.data):
        (folder / "gpu.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        (folder / "gpu.md").write_text(markdown(found), encoding="utf-8")
    print(folder / "gpu.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
