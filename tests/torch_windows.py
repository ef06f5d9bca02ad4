"""Convolutions and pooling in PyTorch: drawn geometries, and PyTorch's results and gradients.

vectors/write_vectors.py stores the results; test_torch_peers.py compares directly. Padding and borders are computed
here independently, so that nnjit's arithmetic is not compared with itself.
"""

from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from nnjit import registry
from nnjit.errors import ShapeError

torch.set_num_threads(1)
MODES = {"zeros": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
PARAMETERS = ("W", "b")


def geometry(family, pick):
    """Draw a layer and an input shape (N, C, *spatial) that it takes.

    Parameters
    ----------
    family : "conv", "conv_transpose" or "pooling"
    pick : callable
        Takes a list and returns one of its elements.
    """
    while True:
        rank = pick([1, 2, 2, 3])
        spatial = tuple(pick(range(1, (12, 8, 5)[rank - 1] + 1)) for _ in range(rank))
        name, options, maps = pooling(pick, rank) if family == "pooling" else convolution(family, pick, rank)
        layer = registry.create((name, options))
        try:
            layer.output_shape((maps, *spatial))
        except ShapeError:
            continue
        return layer, (pick([1, 2, 3]), maps, *spatial)


def convolution(family, pick, rank):
    m, n, groups = pick([(1, 1, 1), (3, 2, 1), (2, 5, 1), (4, 6, 2), (6, 3, 3), (3, 3, 3), (2, 4, 2), (5, 9, 1)])
    options = {
        "filters": n,
        "kernel_size": each(pick, rank, [1, 2, 3, 3, 4]),
        "stride": each(pick, rank, [1, 1, 2, 3]),
        "padding": padding(pick, rank, 3),
        "dilation": each(pick, rank, [1, 1, 2]),
        "groups": groups,
        "border": pick(["zeros", "zeros", "edge", "reflect", "wrap"]),
        "bias": pick([True, True, False]),
    }
    if family == "conv_transpose":
        options["output_padding"] = each(pick, rank, [0, 0, 1])
    return family, options, m


def pooling(pick, rank):
    name = pick(["maxpool", "maxpool", "avgpool", "avgpool", "lppool", "lppool", "global_avgpool", "global_maxpool"])
    options = {}
    if not name.startswith("global"):
        options = {"size": each(pick, rank, [1, 2, 2, 3]), "padding": padding(pick, rank, 2)}
        stride = pick([None, 1, 2, each(pick, rank, [1, 2, 3])])
        options |= {} if stride is None else {"stride": stride}
    if name == "avgpool":
        options["count_padding"] = pick([True, False])
    if name == "lppool":
        options["p"] = pick([1.0, 2.0, 2.0, 3.0, 2.5, float("inf")])
    return name, options, pick([1, 3])


def each(pick, rank, values):
    return pick([pick(values), tuple(pick(values) for _ in range(rank))])


def padding(pick, rank, most):
    sides = range(most + 1)
    pairs = tuple((pick(sides), pick(sides)) for _ in range(rank))
    flat = tuple(pick(sides) for _ in range(rank))
    return pick(["valid", "same", "full", pick(sides), flat, pairs, pairs])


def numbers(rng, shape):
    """Draw odd multiples of 1/16: exact in float32, never 0, and sometimes equal."""
    return (2 * rng.integers(-16, 16, shape) + 1) / 16


def answer(layer, x, dy, W=None, b=None):
    """Compute y and dx (and dW, db) in float64, by PyTorch; `dy` is a function of the shape of y."""
    tensors = {"x": _leaf(x)} | {k: _leaf(v) for k, v in zip(PARAMETERS, (W, b), strict=True) if v is not None}
    y = _function(layer)(layer, **tensors)
    dy = dy(tuple(y.shape))
    y.backward(torch.tensor(dy))
    gradients = {"d" + k: v.grad.numpy() if v.numel() else np.zeros(0) for k, v in tensors.items()}
    return {"y": y.detach().numpy(), "dy": dy} | gradients


def _leaf(array):
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def _function(layer):
    return globals()["_" + registry.name_of(type(layer))]


def _tuple(value, rank):
    return tuple(value) if isinstance(value, tuple) else (value,) * rank


def _sides(layer, kernel, dilation=1):
    """Return (before, after) for each dimension."""
    rank = len(kernel)
    spans = [d * (k - 1) for k, d in zip(kernel, _tuple(dilation, rank), strict=True)]
    if layer.padding == "valid":
        return [(0, 0)] * rank
    if layer.padding == "same":
        return [(span // 2, span - span // 2) for span in spans]
    if layer.padding == "full":
        return [(span, span) for span in spans]
    return [side if isinstance(side, tuple) else (side, side) for side in _tuple(layer.padding, rank)]


def _padded(x, sides, mode="constant", value=0.0):
    flat = list(chain.from_iterable(reversed(sides)))
    return F.pad(x, flat, mode, value) if mode == "constant" else F.pad(x, flat, mode)


def _conv(layer, x, W, b=None):
    rank = x.ndim - 2
    sides = _sides(layer, W.shape[2:], layer.dilation)
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    b = b if b is not None and b.numel() else None
    x = _padded(x, sides, MODES[layer.border])
    return function(x, W, b, layer.stride, 0, layer.dilation, layer.groups)


def _conv_transpose(layer, x, W, b):
    rank = x.ndim - 2
    stride, dilation, extra = (_tuple(v, rank) for v in (layer.stride, layer.dilation, layer.output_padding))
    sides = _sides(layer, W.shape[2:], dilation)
    if layer.border == "zeros" and all(before == after for before, after in sides):
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        before = [before for before, _ in sides]
        b = b if b.numel() else None
        return function(x, W, b, stride, before, extra, layer.groups, dilation)
    rows = zip(x.shape[2:], W.shape[2:], stride, dilation, sides, extra, strict=True)
    sizes = [(o - 1) * s + d * (k - 1) + 1 - sum(pair) + e for o, k, s, d, pair, e in rows]
    u = torch.zeros((len(x), W.shape[1] * layer.groups, *sizes), dtype=x.dtype, requires_grad=True)
    image = _conv(layer, u, W)  # the vector-Jacobian product of the convolution
    x = _padded(x, [(0, o - i) for o, i in zip(image.shape[2:], x.shape[2:], strict=True)])
    (y,) = torch.autograd.grad(image, u, x, create_graph=True)
    return y + b.reshape(-1, *(1,) * rank) if b.numel() else y


def _pool(layer, x, value, kind):
    rank = x.ndim - 2
    size = _tuple(layer.size, rank)
    stride = size if layer.stride is None else _tuple(layer.stride, rank)
    return getattr(F, f"{kind}_pool{rank}d")(_padded(x, _sides(layer, size), value=value), size, stride)


def _maxpool(layer, x):
    return _pool(layer, x, -torch.inf, "max")


def _avgpool(layer, x):
    y = _pool(layer, x, 0.0, "avg")
    return y if layer.count_padding else y / _pool(layer, torch.ones_like(x), 0.0, "avg")


def _lppool(layer, x):
    if layer.p == torch.inf:
        return _pool(layer, x.abs(), 0.0, "max")
    cells = np.prod(_tuple(layer.size, x.ndim - 2))
    return (_pool(layer, x.abs() ** layer.p, 0.0, "avg") * cells) ** (1 / layer.p)


def _global_avgpool(layer, x):
    return x.mean(dim=tuple(range(2, x.ndim)))


def _global_maxpool(layer, x):
    return getattr(F, f"adaptive_max_pool{x.ndim - 2}d")(x, 1).flatten(1)
