"""A call of an exported network from C, beside ONNX Runtime's C API if the package is installed; one thread, float32.

    python benchmarks/exported.py [--turns 15]

A program in C (exported.c) makes calls of one sample in which each depends on the last result; both sides write into
the caller's memory. They take turns; results are compared first. Printed are medians of microseconds a call, and the
median over the turns of ONNX Runtime's time over ours. Networks are exported for this processor (--cpu native); ONNX
Runtime has one thread, sequential execution and all optimisations.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from nnjit import registry
from nnjit.bench.describe import describe
from works import LENET, MLP

SECONDS = 0.03  # of a turn, about
NETWORKS = {
    "2-16-1, tanh": (("dense(16)", "tanh", "dense(1)"), (2,)),
    "4-32-16-4, tanh": (("dense(32)", "tanh", "dense(16)", "tanh", "dense(4)"), (4,)),
    "784-256-128-10, relu": (MLP, (784,)),
    "LeNet": (LENET, (1, 28, 28)),
}


def onnx_runtime():
    """Return the package's shared library; None without the packages onnx and onnxruntime."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        return None
    return next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"), None)


def built(net, folder):
    """Export a network and compile exported.c against it; return the program."""
    library, program = net.export(folder / "network.o", cpu="native"), folder / "exported"
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    source = Path(__file__).with_name("exported.c")
    subprocess.run([compiler, "-O2", f"-I{folder}", "-o", program, source, library, "-lm", "-ldl"], check=True)
    return program


def session(net, folder, library):
    """Write the network as an ONNX model; return the arguments of the program that open a session."""
    from peers import onnx_peer

    rows = describe(net.layers, net.input_shape)
    arrays = {f"initial:{name}": value for name, value in net.parameters.items()}
    model = folder / "model.onnx"
    work = {"dtype": "float32", "batch": 1}
    model.write_bytes(onnx_peer.network(rows, arrays, work).SerializeToString())
    return [str(library), str(model), rows[-1]["name"], *map(str, net.input_shape)]


def measured(name, turns, library):
    """Return the times of each side in nanoseconds, a turn a row."""
    layers, shape = NETWORKS[name]
    net = registry.compose(layers, shape, seed=0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        program = built(net, folder)
        more = session(net, folder, library) if library else []

        def run(count, turns):
            done = subprocess.run([program, str(count), str(turns), *more], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name}: {done.stderr.strip() or done.returncode}")
            lines = [np.array(line.split(), float) for line in done.stdout.splitlines()]
            return lines[:-turns], lines[-turns:]

        results, ((first, *_),) = run(100, 1)
        for other in results[1:]:
            np.testing.assert_allclose(other, results[0], rtol=1e-4, atol=1e-5, err_msg=name)
        return np.array(run(max(100, int(SECONDS * 1e9 / first)), turns)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    options, library = parser.parse_args(), onnx_runtime()
    print("| | exported, us a call | ONNX Runtime, us a call | over the exported one's |\n| --- | --- | --- | --- |")
    for name in NETWORKS:
        times = measured(name, options.turns, library) / 1e3
        ours, *others = (f"{statistics.median(side):.3g}" for side in times.T)
        ratio = f"{statistics.median(times[:, -1] / times[:, 0]):.2f}" if others else ""
        print(f"| {name} | {ours} | {others[0] if others else 'not installed'} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
