"""Works of narrow networks, single samples, and those that SimpleChains.jl published, as data."""

from work import Work

NARROW = {
    "4-32-16-4 tanh": (("dense(32)", "tanh", "dense(16)", "tanh", "dense(4)"), 4),
    "8-64-64-1 tanh": (("dense(64)", "tanh", "dense(64)", "tanh", "dense(1)"), 8),
    "8-64-64-1 relu": (("dense(64)", "relu", "dense(64)", "relu", "dense(1)"), 8),
    "16-128-128-128-4 relu": (("dense(128)", "relu") * 3 + ("dense(4)",), 16),
}
SAMPLES = 10_000  # of the data of narrow networks; the largest batch is all of them
STEPS = {1: 2000, 32: 500, 256: 100, 1024: 20, SAMPLES: 5}  # of a call by batch, so that it takes milliseconds

CONV1D = ("conv(16, 5, padding='same')", "relu", "conv(32, 5, padding='same')", "relu")
LENET5 = (
    "conv(6, 5)", "relu", "maxpool(2)", "conv(16, 5)", "relu", "maxpool(2)",
    "flatten", "dense(120)", "relu", "dense(84)", "relu", "dense(10)",
)  # fmt: skip

# Seconds after compilation, and cores of the machine.
SOURCE = (
    "C. Elrod, N. Korsbo, C. Rackauckas, Doing small network scientific machine learning in Julia 5x faster than"
    " PyTorch, 2022, https://julialang.org/blog/2022/04/simple-chains/"
)
I9, EPYC, I7 = "i9-10980XE (AVX-512)", "EPYC 7513 (AVX2)", "i7-1165G7 (AVX-512)"
FULL_BATCH = (
    (f"SimpleChains.jl, {I9}", 41e-6, 18), (f"SimpleChains.jl, {EPYC}", 72e-6, 32),
    (f"PyTorch, {I9}", 1.5e-3, 18), (f"PyTorch, {EPYC}", 7.0e-3, 32),
)  # fmt: skip
# PyTorch's batches were 2048; SimpleChains' grew with the number of threads, and their size is not stated.
TEN_EPOCHS = (
    (f"SimpleChains.jl, {I9}", 1.23, 18), (f"SimpleChains.jl, {EPYC}", 3.08, 32), (f"SimpleChains.jl, {I7}", 5.32, 4),
    (f"PyTorch, {I9}", 10.8, 18), (f"PyTorch, {EPYC}", 14.9, 32),
)  # fmt: skip


def works(lenet):
    """Yield all works of this file; `lenet` are the layers of the rows named LeNet."""
    yield from _training()
    yield from _published()
    yield from _one_sample()
    yield from _one_image(lenet)


def _training():
    common = {"optimizer": "adam(lr=0.001)", "samples": SAMPLES, "peers": ("torch", "jax"), "against": ("torch", "jax")}
    for name, (layers, inputs) in NARROW.items():
        for batch, steps in STEPS.items():
            yield Work(
                f"{name}, batch {batch}", "narrow training", "train", layers, (inputs,), batch, "mse", **common,
                batches=steps, least=1.2, aim=2,
            )  # fmt: skip


def _published():
    group = "works published for SimpleChains.jl"
    common = {"peers": ("torch", "jax"), "samples": SAMPLES, "batches": 5, "source": SOURCE}
    layers, inputs = NARROW["4-32-16-4 tanh"]
    yield Work(
        "MLP 4-32-16-4, an epoch of one batch of 10,000", group, "train", layers, (inputs,), SAMPLES, "mse",
        "adam(lr=0.001)", **common, seconds=True, least=0.8e-3, aim=0.4e-3, narrower=1.5e-3, published=FULL_BATCH,
    )  # fmt: skip
    yield Work(
        "LeNet-5, ten epochs of 60,000 images in batches of 2048", group, "train", LENET5, (1, 28, 28), 2048,
        "cross_entropy", "adam(lr=0.0003)", **common, times=10 * 60_000 / 2048, least=3, aim=5, published=TEN_EPOCHS,
    )  # fmt: skip


def _one_sample():
    for width in (4, 16, 32, 64):
        for activation in ("relu", "tanh"):
            layers = (f"dense({width})", activation) * 2 + ("dense(1)",)
            for dtype in ("float32", "float64"):
                yield Work(
                    f"2-{width}-{width}-1 {activation}, {dtype}", "one sample", "feedback", layers, (2,), 1, "mse",
                    dtype=dtype, peers=("c",), against=("c",), least=1.0, aim=1.5,
                )  # fmt: skip


def _one_image(lenet):
    group = "single samples through convolutions"
    common = {"batch": 1, "peers": ("onnx", "torch"), "against": ("onnx",), "least": 1.5, "aim": 2.5}
    yield Work("LeNet, from a jitted loop", group, "predict in njit", lenet, (1, 28, 28), **common)
    yield Work(
        "conv1d 1-16-32, 128 positions, from a jitted loop", group, "predict in njit", CONV1D, (1, 128), **common
    )
