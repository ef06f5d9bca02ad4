"""The same network in PyTorch, built from the output of `describe`. Imports torch, and no part of nnjit with Numba.

Parameters have nnjit's names ("conv.1.W"), so both networks can start from the same numbers.
"""

import math
import re

import torch
from torch import nn
from torch.nn import functional as F

MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}  # nnjit's border -> torch's padding_mode
PARAMETERS = {"W": "weight", "b": "bias", "gain": "weight", "offset": "bias", "table": "table"}


class NoTwin(Exception):
    """PyTorch has no equivalent layer."""


def build(rows):
    """Build a module from the rows of `describe`; NoTwin for a layer that PyTorch does not have."""
    return nn.Sequential(*(layer(row) for row in rows))


def layer(row):
    """Build the module of one row."""
    kind, options = row["kind"], row["options"]
    if kind in ACTIVATIONS:
        return ACTIVATIONS[kind](options)
    maker = MAKERS.get(re.sub("[123]d$", "", kind))  # conv2d is a conv
    if maker is None:
        raise NoTwin(kind)
    return maker(row, options)


def parameters(module, rows):
    """Map nnjit's parameter names to the tensors of a module made by `build`."""
    found: dict = {}
    for child, row in zip(module, rows, strict=True):
        if "layers" in row:
            found |= parameters(child.inner, row["layers"])
        owner = getattr(child, "twin", child)
        for ours, theirs in PARAMETERS.items():
            tensor = getattr(owner, theirs, None)
            if isinstance(tensor, nn.Parameter) and (ours in ("gain", "offset")) == _is_norm(owner):
                found[f"{row['name']}.{ours}"] = tensor
    return found


def _is_norm(module):
    return isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm))


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + x


class Padded(nn.Module):
    """Padding that the next layer does not support."""

    def __init__(self, pads, mode, twin, value=0.0):
        super().__init__()
        self.pads, self.mode, self.value, self.twin = pads, mode, value, twin

    def forward(self, x):
        given = {"value": self.value} if self.mode == "constant" else {}
        return self.twin(F.pad(x, self.pads, self.mode, **given))


class Embedding(nn.Module):
    """F.embedding for each column of codes; the other inputs pass."""

    def __init__(self, options):
        super().__init__()
        self.columns, self.counts, self.sizes = (options[name] for name in ("columns", "counts", "sizes"))
        shape = (sum(self.counts), *set(self.sizes))
        whole = [count * size for count, size in zip(self.counts, self.sizes, strict=True)]
        self.table = nn.Parameter(torch.empty(shape if len(shape) == 2 else (sum(whole),)))
        self.whole = whole

    def forward(self, x):
        parts, last = [], 0
        tables = self.table.reshape(-1).split(self.whole)
        for column, count, size, table in zip(self.columns, self.counts, self.sizes, tables, strict=True):
            code = x[:, column]
            rows = F.embedding(code.long(), table.reshape(count, size))
            parts += [x[:, last:column], rows + 0 * code[:, None]]
            last = column + 1
        return torch.cat([*parts, x[:, last:]], 1)


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def _rank(row):
    return len(row["in"]) - 1


def _of_rank(name, rank):
    return getattr(nn, f"{name}{rank}d")


def _symmetric(row):
    return all(before == after for before, after in row["padding"])


def _pads(row):
    """Return the padding in F.pad's order: the last dimension first."""
    return [n for pair in reversed(row["padding"]) for n in pair]


def _conv(row, options):
    channels, shape = (row["in"][0], row["out"][0]), row["kernel"]
    alone = options["border"] == "zeros" and _symmetric(row)
    padding = [before for before, _ in row["padding"]] if alone else 0
    made = _of_rank("Conv", _rank(row))(
        *channels, shape, stride=row["stride"], padding=padding, dilation=row["dilation"],
        groups=options["groups"], bias=options["bias"],
    )  # fmt: skip
    return made if alone else Padded(_pads(row), MODES.get(options["border"], "constant"), made)


def _conv_transpose(row, options):
    if options["border"] != "zeros" or not _symmetric(row):
        raise NoTwin(row["kind"])
    whole = [
        (i - 1) * s + d * (k - 1) + 1 - 2 * p
        for i, s, d, k, (p, _) in zip(
            row["in"][1:], row["stride"], row["dilation"], row["kernel"], row["padding"], strict=True
        )
    ]
    extra = [o - w for o, w in zip(row["out"][1:], whole, strict=True)]
    return _of_rank("ConvTranspose", _rank(row))(
        row["in"][0], row["out"][0], row["kernel"], stride=row["stride"], padding=[p for p, _ in row["padding"]],
        output_padding=extra, dilation=row["dilation"], groups=options["groups"], bias=options["bias"],
    )  # fmt: skip


def _maxpool(row, options):
    made = _of_rank("MaxPool", _rank(row))
    half = all(2 * p <= k for (p, _), k in zip(row["padding"], row["kernel"], strict=True))
    if _symmetric(row) and half:
        return made(row["kernel"], row["stride"], [before for before, _ in row["padding"]])
    return Padded(_pads(row), "constant", made(row["kernel"], row["stride"]), -math.inf)


def _avgpool(row, options):
    if not _symmetric(row):
        raise NoTwin(row["kind"])
    padding = [before for before, _ in row["padding"]]
    made = _of_rank("AvgPool", _rank(row))
    return made(row["kernel"], row["stride"], padding, count_include_pad=options["count_padding"])


def _lppool(row, options):
    if any(map(any, row["padding"])) or options["p"] % 2 or len(set(row["stride"])) > 1:  # torch takes x^p, not |x|^p
        raise NoTwin(row["kind"])
    size = row["kernel"] if _rank(row) > 1 else row["kernel"][0]
    return _of_rank("LPPool", _rank(row))(options["p"], size, row["stride"][0])


def _batchnorm(row, options):
    made = _of_rank("BatchNorm", max(1, _rank(row)))
    return made(row["in"][0], eps=options["epsilon"], momentum=1 - options["momentum"])


def _minmax(row, options):
    low, high = options["low"], options["high"]
    if low is None:  # fitted to data
        raise NoTwin(row["kind"])
    return Apply(lambda x: (x - low) / (high - low))


ACTIVATIONS = {
    "relu": lambda o: nn.ReLU(), "leaky_relu": lambda o: nn.LeakyReLU(o["alpha"]), "elu": lambda o: nn.ELU(o["alpha"]),
    "selu": lambda o: nn.SELU(), "gelu": lambda o: nn.GELU(), "silu": lambda o: nn.SiLU(),
    "softplus": lambda o: nn.Softplus(), "sigmoid": lambda o: nn.Sigmoid(), "tanh": lambda o: nn.Tanh(),
    "identity": lambda o: nn.Identity(), "softmax": lambda o: nn.Softmax(1), "flatten": lambda o: nn.Flatten(),
    "dropout": lambda o: nn.Dropout(o["rate"]),
}  # fmt: skip
MAKERS = {
    "dense": lambda row, o: nn.Linear(row["in"][0], row["out"][0], bias=o["bias"]),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "lppool": _lppool,
    "global_avgpool": lambda row, o: Apply(lambda x: x.flatten(2).mean(2)),
    "global_maxpool": lambda row, o: Apply(lambda x: x.flatten(2).amax(2)),
    "batchnorm": _batchnorm,
    "embedding": lambda row, o: Embedding(o),
    "minmax": _minmax,
    "layernorm": lambda row, o: nn.LayerNorm(row["in"], eps=o["epsilon"]),
    "reshape": lambda row, o: nn.Unflatten(1, row["out"]) if len(row["in"]) == 1 else Apply(
        lambda x: x.reshape(len(x), *row["out"])
    ),
    "residual": lambda row, o: Residual(build(row["layers"])),
}  # fmt: skip


def loss(name):
    """Return the cost function of nnjit's loss of that name."""
    if name not in LOSSES:
        raise NoTwin(name)
    return LOSSES[name]


LOSSES = {
    "cross_entropy": F.cross_entropy,
    "quadratic": lambda y, t: 0.5 * (y - t).square().sum() / len(y),
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
}


def optimizer(name, options, parameters, **how):
    """Make the torch.optim optimizer for nnjit's update rule; `how` is foreach or fused."""
    o, decay = options, {"weight_decay": options.get("weight_decay", 0)}
    if name == "sgd":
        rule = {"momentum": o["momentum"], "nesterov": o["nesterov"]}
        return torch.optim.SGD(parameters, o["lr"], **rule, **decay, **how)
    if name in ("adam", "adamw"):
        make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return make(parameters, o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"], **decay, **how)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, o["lr"], alpha=o["decay"], eps=o["epsilon"], **how)
    raise NoTwin(name)
