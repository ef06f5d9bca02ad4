"""The CPU kernels as a CPU with wider or narrower vectors would have them, in plain Python, against the reference.

    python tests/other_cpu.py 64 100    # bytes of a vector, cases

Tiles, panels and tails depend on the vector. Python can run what this CPU cannot: each word of kernels/cpu/tile.py has
a plain twin, in which an index beyond an array is an error. Prints the number of cases, or fails.
"""

import random
import sys

import llvmlite.binding as llvm
import numpy as np
from numba import njit

FEATURES = {16: {}, 32: {"avx": True}, 64: {"avx": True, "avx512f": True}}
MOST = 30_000  # multiplications of a case
DTYPES = {np.float32: 1e-5, np.float64: 1e-12}  # and how far results may differ, of their scale
WIDE = [  # what drawn cases seldom reach; in both types
    (("conv", {"filters": 18, "kernel_size": 3, "padding": 1}), (17, 3, 5), 2),  # forward by winograd.py
    (("conv", {"filters": 32, "kernel_size": 3, "padding": 1}), (33, 3, 4), 2),  # its gradients, too
]


def shape_as(width):
    """Import the vocabulary for vectors of this width."""
    njit(lambda x: x)(1)  # Numba reads the true features once, and keeps them
    true, llvm.get_host_cpu_features = llvm.get_host_cpu_features, lambda: FEATURES[width]
    from nnjit.kernels.cpu import tile

    llvm.get_host_cpu_features = true
    assert width == tile.BYTES


def drawn(draw):
    """Draw a layer's spec and the shape of its input."""
    sizes = [draw.randint(1, 6) for _ in range(draw.randint(0, 2))]
    sizes.append(draw.choice([draw.randint(1, 12), draw.randint(1, 45)]))
    kind = draw.choice(["conv", "conv", "conv", "pool", "dense"])
    if kind == "dense":
        return ("dense", {"units": draw.choice([draw.randint(1, 20), 70])}), (draw.choice([draw.randint(1, 40), 150]),)
    if kind == "pool":
        most = draw.choice([2, 4])
        kernel = tuple(min(draw.randint(min(2, most), most), i) for i in sizes)
        options = {"size": kernel, "stride": draw.choice([kernel, kernel, 1, 2, 3])}
        options["padding"] = tuple(min(draw.randint(0, 1), k - 1) for k in kernel)
        return (draw.choice(["maxpool", "avgpool"]), options), (2, *sizes)
    groups, kernel = draw.choice([1, 1, 1, 2, 5]), tuple(min(draw.choice([1, 2, 3, 3, 4]), i) for i in sizes)
    alone = groups == 5  # depthwise: each filter sees one map
    filters = 1 if alone else draw.choice([1, 2, 3, 6, 8, 12, 16, 17, 20, 33])
    options = {"filters": filters * groups, "kernel_size": kernel}
    options |= {"stride": draw.choice([1, 1, 2, 3]), "groups": groups, "border": draw.choice(["zeros", "edge", "wrap"])}
    options["padding"] = tuple(min(draw.randint(0, 2), i - 1) for i in sizes)
    if alone:
        options |= {"stride": draw.choice([1, 1, 1, 2]), "border": draw.choice(["zeros", "zeros", "edge"])}
    return ("conv", options), ((1 if alone else draw.choice([1, 2, 3, 5, 16, 18])) * groups, *sizes)


def main(width, count):
    shape_as(width)
    import layer_runner
    from nnjit import registry
    from nnjit.check.races import interpreted
    from nnjit.kernels.compiler.kernel import Kernel
    from nnjit.kernels.cpu import tile

    compiled, plain = layer_runner.function, {}

    def function(kernel, folder):
        """Return the kernel as Python, instead of compiling it."""
        found = compiled(kernel, folder)
        if isinstance(found, Kernel):
            return plain.setdefault(found, interpreted(found.function, range))
        return found

    layer_runner.function = function
    draw, rng, done = random.Random(width), np.random.default_rng(width), 0
    for spec, in_shape, batch in WIDE:
        for dtype in DTYPES:
            tile.UNWRITTEN = 7.0  # where numbers are not finite, Winograd's algorithm leaves a sample to the plain one
            case(layer_runner, rng, registry.create(spec), in_shape, batch, dtype, done)
    tile.UNWRITTEN = np.nan
    while done < count:
        spec, in_shape = drawn(draw)
        layer, batch = registry.create(spec), draw.choice([1, 2, 9, 70])
        if layer.operations(in_shape) * batch <= MOST:
            case(layer_runner, rng, layer, in_shape, batch, draw.choice(list(DTYPES)), done)
            done += 1
    print(done)


def case(layer_runner, rng, layer, in_shape, batch, dtype, seed):
    """Compare a layer's kernels with the reference."""
    x = rng.integers(-3, 4, (batch, *in_shape)).astype(float)  # ties for the largest
    dy = rng.standard_normal((batch, *layer.output_shape(in_shape)))
    exact = layer_runner.run(layer, x, dy, folder="reference", seed=seed)
    given = {name: exact[name] for name in ("W", "b") if name in exact}
    for run in [layer_runner.run] + [layer_runner.run_columns] * hasattr(layer, "units"):
        got = run(layer, x.astype(dtype), dy.astype(dtype), given)
        for name in {"y", "dx", "dW", "db"} & {*exact}:
            scale = 1.0 + np.abs(exact[name]).max(initial=0)
            np.testing.assert_allclose(
                got[name] / scale, exact[name] / scale, atol=DTYPES[dtype], err_msg=f"{layer}: {name}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
