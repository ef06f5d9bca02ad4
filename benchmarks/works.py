"""The table of works, as data. One work is one row of the report."""

from fnmatch import fnmatch

import narrow
from work import Work

MLP = ("dense(256)", "relu", "dense(128)", "relu", "dense(10)")
LENET = (
    "conv(6, 5, padding='same')", "relu", "maxpool(2)", "conv(16, 5)", "relu", "maxpool(2)",
    "flatten", "dense(120)", "relu", "dense(84)", "relu", "dense(10)",
)  # fmt: skip
VGG = (
    "conv(32, 3, padding='same')", "relu", "conv(32, 3, padding='same')", "relu", "maxpool(2)",
    "conv(64, 3, padding='same')", "relu", "conv(64, 3, padding='same')", "relu", "maxpool(2)",
    "flatten", "dense(128)", "relu", "dense(10)",
)  # fmt: skip
TEN_POINTS = ("dense(2)", "sigmoid", "dense(3)", "sigmoid", "dense(2)", "sigmoid")
NETWORKS = {"MLP": (MLP, (784,)), "LeNet": (LENET, (1, 28, 28)), "VGG": (VGG, (3, 32, 32))}

PEERS = ("torch", "torch.compile", "jax", "onnx", "sklearn", "c")
TRAINING_PEERS = ("torch", "torch.compile", "jax")
INFERENCE_PEERS = ("onnx", "torch", "torch.compile", "jax")


def _training():
    figures = {("MLP", 32): (2.2, 3), ("MLP", 128): (1.5, 2), ("LeNet", 32): (3.5, 5), ("LeNet", 128): (2.7, 4),
               ("VGG", 64): (1.2, 1.6)}  # fmt: skip
    jax = {("MLP", 32): (("jax", 1.3, 1.6),), ("MLP", 128): (("jax", 1.2, 1.5),)}
    for optimizer in ("sgd(lr=0.01)", "adam(lr=0.001)"):
        adam = optimizer.startswith("adam")
        for (net, batch), (least, aim) in figures.items():
            layers, shape = NETWORKS[net]
            peers = TRAINING_PEERS + (("sklearn",) if net == "MLP" else ())
            yield Work(
                f"{net}, batch {batch}, {'Adam' if adam else 'SGD'}", "training step", "train", layers, shape, batch,
                optimizer=optimizer, batches=4 if net == "VGG" else 20, peers=peers, least=least,
                aim=round(1.2 * least, 2) if adam and net != "LeNet" else aim, also=jax.get((net, batch), ()),
            )  # fmt: skip
    for dtype in ("float32", "float64"):
        yield Work(
            f"ten points, {dtype}", "training step", "train", TEN_POINTS, (2,), 1, "quadratic", "sgd(lr=0.05)",
            dtype, batches=20_000, peers=("jax", "torch", "c"), against=("jax",), least=1.3, aim=1.7,
            also=(("c", 0.8, 1.0),),
        )  # fmt: skip


def _inference():
    single = {"MLP": (0.9, 1.2, 1.0), "LeNet": (1.2, 2, 1.5), "VGG": (0.9, 1.2, 1.0)}
    for net, (least, aim, jitted) in single.items():
        layers, shape = NETWORKS[net]
        for batch in (1, 64) if net == "VGG" else (1, 32, 128):
            common = {"layers": layers, "shape": shape, "batch": batch, "peers": INFERENCE_PEERS}
            against = ("onnx",) if batch == 1 else ("onnx", "torch")
            yield Work(
                f"{net}, batch {batch}, from Python", "inference", "predict", **common, against=against,
                least=least if batch == 1 else 1.0, aim=aim if batch == 1 else 1.3,
            )  # fmt: skip
            yield Work(
                f"{net}, batch {batch}, from a jitted loop", "inference", "predict in njit", **common,
                against=against, least=jitted if batch == 1 else 1.0,
                aim=1.3 if batch > 1 or net == "VGG" else None,
            )  # fmt: skip


def _layer(group, name, layer, shape, batch, directions, **figures):
    """Yield a row for each direction; a linear layer before the measured one makes its input's gradient necessary."""
    before = f"conv({shape[0]}, 1, bias=False)" if len(shape) > 1 else f"dense({shape[0]}, bias=False)"
    for direction in directions:
        yield Work(
            f"{name}, {direction}", group, "layer", (before, layer), shape, batch, "quadratic", "sgd(lr=1.0)",
            direction=direction, batches=1, **figures,
        )  # fmt: skip


THREE = ("forward", "backward to input", "backward to weight")


def _convolutions():
    for channels, size, batch in ((16, 32, 32), (32, 32, 32), (64, 16, 32), (64, 56, 8), (128, 8, 32)):
        yield from _layer(
            "convolution 3x3", f"{channels} channels, {size}x{size}, batch {batch}",
            f"conv({channels}, 3, padding='same', bias=False)", (channels, size, size), batch, THREE,
            least=0.95, aim=1.1,
        )  # fmt: skip
    others = (
        ("depthwise 3x3, 64 channels, 32x32", "conv(64, 3, padding='same', groups=64, bias=False)", (64, 32, 32)),
        ("3x3 with stride 2, 32 to 64, 32x32", "conv(64, 3, stride=2, padding='same', bias=False)", (32, 32, 32)),
        ("1x1, 64 to 128, 16x16", "conv(128, 1, bias=False)", (64, 16, 16)),
        ("5x5, 16 to 32, 28x28", "conv(32, 5, padding='same', bias=False)", (16, 28, 28)),
        ("7x7, 16 to 32, 28x28", "conv(32, 7, padding='same', bias=False)", (16, 28, 28)),
        ("conv1d, 5 taps, 32 to 64, 256", "conv(64, 5, padding='same', bias=False)", (32, 256)),
        ("conv3d 3x3x3, 8 to 16, 16x16x16", "conv(16, 3, padding='same', bias=False)", (8, 16, 16, 16)),
    )
    for name, layer, shape in others:
        yield from _layer("other convolutions", name, layer, shape, 32, THREE, least=1.0, aim=1.5)
    few = (
        ("5x5, 1 to 6, 28x28", "conv(6, 5, padding='same', bias=False)", (1, 28, 28)),
        ("3x3, 3 to 32, 32x32", "conv(32, 3, padding='same', bias=False)", (3, 32, 32)),
        ("5x5, 6 to 16, 14x14", "conv(16, 5, bias=False)", (6, 14, 14)),
    )
    for name, layer, shape in few:
        yield from _layer("few channels", name, layer, shape, 32, THREE)


def _products():
    for n in (512, 1024, 2048):
        yield from _layer(
            "matrix product", f"{n} x {n} x {n}", f"dense({n}, bias=False)", (n,), n, ("forward",), least=0.95, aim=1.0
        )
    for n, m, batch in ((128, 10, 128), (784, 256, 128)):
        name = f"dense {n} to {m}, batch {batch}"
        yield from _layer("narrow layers", name, f"dense({m}, bias=False)", (n,), batch, THREE)


def _memory_bound():
    group, figures = "pooling, normalisation, loss", {"least": 1.0, "aim": 2, "bound": "memory"}
    layers = (
        ("maxpool 2x2, 32 channels, 32x32", "maxpool(2)", (32, 32, 32)),
        ("maxpool 3x3 with stride 2, 32 channels, 32x32", "maxpool(3, stride=2, padding=1)", (32, 32, 32)),
        ("maxpool 2x2, 6 channels, 28x28", "maxpool(2)", (6, 28, 28)),
        ("avgpool 2x2, 32 channels, 32x32", "avgpool(2)", (32, 32, 32)),
        ("batchnorm, 32 channels, 32x32", "batchnorm", (32, 32, 32)),
        ("layernorm, 512 features", "layernorm", (512,)),
    )
    for name, layer, shape in layers:
        yield from _layer(group, f"{name}, batch 64", layer, shape, 64, ("forward", "backward"), **figures)
    for classes, batch in ((10, 128), (1000, 256)):
        yield Work(
            f"softmax cross-entropy, {classes} classes, batch {batch}, forward and backward", group, "loss",
            (f"dense({classes})",), (16,), batch, "cross_entropy", "sgd(lr=1.0)", batches=1, **figures,
        )  # fmt: skip


def _threads():
    """Ratio of the time with one thread to that with all; and nnjit with one thread against PyTorch with one."""
    for net, batch in (("LeNet", 128), ("VGG", 64)):
        layers, shape = NETWORKS[net]
        common = {"layers": layers, "shape": shape, "batch": batch, "batches": 4 if net == "VGG" else 20}
        yield Work(
            f"{net}, batch {batch}, all threads over one", "threads", "train", **common,
            peers=("nnjit@1",), against=("nnjit@1",), least=1.7, aim=1.9,
        )  # fmt: skip
        yield Work(
            f"{net}, batch {batch}, one thread on either side", "threads", "train", **common,
            peers=("torch@1",), against=("torch@1",), threads=1,
        )  # fmt: skip


RESIDUAL = ("conv(16, 3, padding='same')", "relu") + 19 * (
    "residual(['conv(16, 3, padding=\\'same\\')', 'relu'])",
) + ("maxpool(4)", "flatten", "dense(10)")  # fmt: skip


def _startup():
    yield Work(
        "default `nnjit run`, empty cache", "to the first finished step", "startup", (), (), 0,
        direction="empty cache", peers=(), against=(), least=20, aim=10,
    )  # fmt: skip
    networks = {"LeNet": (LENET, (1, 28, 28), 3, 1.5), "VGG": (VGG, (3, 32, 32), 3, 1.5),
                "40-layer residual": (RESIDUAL, (3, 32, 32), 6, 4)}  # fmt: skip
    for net, (layers, shape, least, aim) in networks.items():
        common = {"layers": layers, "shape": shape, "batch": 64, "peers": ("torch", "torch.compile"), "against": ()}
        yield Work(
            f"{net} never seen, kernels warm", "to the first finished step", "startup", **common,
            direction="kernels warm", least=least, aim=aim,
        )  # fmt: skip
        yield Work(
            f"{net} again, in a new process", "to the first finished step", "startup", **common,
            direction="again", least=1.5, aim=0.8,
        )  # fmt: skip


def _memory():
    """Figures: nnjit's growth is at most half, and a third, of torch's."""
    group = "growth of memory in training"
    for batch in (32, 128, 512):
        figures = {"least": 2.0, "aim": 3.0} if batch == 128 else {}
        yield Work(f"LeNet, batch {batch}", group, "memory", LENET, (1, 28, 28), batch, **figures)
    for depth in (2, 8, 32):
        layers = depth * ("conv(16, 3, padding='same')", "relu") + ("maxpool(4)", "flatten", "dense(10)")
        yield Work(f"{depth} convolutions, batch 64", group, "memory", layers, (1, 28, 28), 64)


WORKS = (
    *_training(), *narrow.works(LENET), *_inference(), *_convolutions(), *_products(), *_memory_bound(), *_threads(),
    *_startup(), *_memory(),
)  # fmt: skip


def chosen(patterns, works=WORKS):
    """Return the works whose "group: name" contains one of the patterns (with * and ?); all without a pattern."""
    whole = [f"*{pattern.lower()}*" for pattern in patterns] or ["*"]
    return [work for work in works if any(fnmatch(f"{work.group}: {work.name}".lower(), p) for p in whole)]
