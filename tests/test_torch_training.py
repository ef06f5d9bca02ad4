"""PyTorch, if it is installed, in drawn cases: normalisations, dense, softmax, losses and updates.

PyTorch's results for fixed cases are in vectors/training.npz, which the tests of each subject read.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_runner import run
from nnjit import registry

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
F = torch.nn.functional
TOLERANCE = {np.float32: 2e-4, np.float64: 1e-10}
shapes = st.tuples(st.integers(1, 7), st.integers(1, 5)).flatmap(
    lambda head: st.lists(st.integers(1, 4), max_size=3).map(lambda tail: (*head, *tail))
)
common = {
    "seed": st.integers(0, 2**31),
    "dtype": st.sampled_from([np.float32, np.float64]),
    "scale": st.sampled_from([0.1, 1.0, 30.0]),
}
drawn = settings(max_examples=30, deadline=None)


def numbers(rng, shape, dtype, scale=1.0):
    return (scale * rng.standard_normal(shape)).astype(dtype)


def leaf(array):
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def near(got, want, dtype, name):
    want = want.detach().numpy()
    bound = TOLERANCE[dtype] * max(1.0, np.abs(want).max(initial=0))
    np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=name)


def compare(layer, function, x, dy, own, dtype):
    """Compare forward and every gradient; PyTorch computes in float64."""
    got = run(layer, x, dy, own)
    tensors = {"x": leaf(x)} | {name: leaf(value) for name, value in own.items()}
    y = function(**tensors)
    y.backward(torch.tensor(dy.astype(np.float64)))
    near(got["y"], y, dtype, "y")
    for name, tensor in tensors.items():
        near(got["d" + name], tensor.grad, dtype, "d" + name)


@given(shape=shapes.filter(lambda s: s[0] * int(np.prod(s[2:])) > 1), **common)
@drawn
def test_batchnorm(shape, seed, dtype, scale):
    rng = np.random.default_rng(seed)
    x, dy = numbers(rng, shape, dtype, scale), numbers(rng, shape, dtype)
    own = {name: numbers(rng, shape[1], dtype) for name in ("gain", "offset")}
    layer = registry.create("batchnorm(epsilon=0.01)")  # a large one: few numbers may all be near their mean
    compare(layer, lambda x, gain, offset: F.batch_norm(x, None, None, gain, offset, True, 0, 0.01), x, dy, own, dtype)


@given(shape=shapes, **common)
@drawn
def test_layernorm(shape, seed, dtype, scale):
    rng = np.random.default_rng(seed)
    x, dy = numbers(rng, shape, dtype, scale), numbers(rng, shape, dtype)
    own = {name: numbers(rng, shape[1:], dtype) for name in ("gain", "offset")}
    layer = registry.create("layernorm(0.01)")
    compare(layer, lambda x, gain, offset: F.layer_norm(x, shape[1:], gain, offset, 0.01), x, dy, own, dtype)


@given(shape=shapes, **common)
@drawn
def test_softmax(shape, seed, dtype, scale):
    rng = np.random.default_rng(seed)
    x, dy = numbers(rng, shape, dtype, scale), numbers(rng, shape, dtype)
    compare(registry.create("softmax"), lambda x: F.softmax(x, 1), x, dy, {}, dtype)


@given(N=st.integers(1, 20), m=st.integers(1, 40), n=st.integers(1, 40), bias=st.booleans(), **common)
@drawn
def test_dense(N, m, n, bias, seed, dtype, scale):
    rng = np.random.default_rng(seed)
    x, dy, W = numbers(rng, (N, m), dtype, scale), numbers(rng, (N, n), dtype), numbers(rng, (n, m), dtype)
    own = {"W": W} | ({"b": numbers(rng, n, dtype)} if bias else {})
    layer = registry.create(("dense", {"units": n, "bias": bias}))
    compare(layer, lambda x, W, b=None: F.linear(x, W, b), x, dy, own, dtype)


def lp(p):
    return lambda y, t: (y - t).abs().pow(p).sum() / len(y)


LOSSES = {
    "quadratic": lambda y, t: (y - t).square().sum() / 2 / len(y),
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber(0.3)": lambda y, t: F.huber_loss(y, t, delta=0.3),
    "lp(1.5)": lp(1.5),
    "lp(4)": lp(4),
    "binary_cross_entropy": F.binary_cross_entropy_with_logits,
    "cross_entropy": F.cross_entropy,
}


@given(N=st.integers(1, 20), C=st.integers(2, 9), labels=st.booleans(), spec=st.sampled_from(list(LOSSES)), **common)
@settings(max_examples=80, deadline=None)
def test_losses(N, C, labels, spec, seed, dtype, scale):
    rng = np.random.default_rng(seed)
    y, target = numbers(rng, (N, C), dtype, scale), rng.dirichlet(np.ones(C), N).astype(dtype)
    labels = "_labels" if labels and spec == "cross_entropy" else ""
    if labels:
        target = rng.integers(0, C, N)
    made = registry.losses.create(spec)
    values = {"y": y, "target": target, "loss": np.empty(N, dtype), "dy": np.empty_like(y), **made.options()}
    for operation in (getattr(made, "forward" + labels), getattr(made, "backward" + labels)):
        operation.on("cpu")(*(values[name] for name in operation.arguments))
    tensor = leaf(y)
    cost = LOSSES[spec](tensor, torch.tensor(target if labels else target.astype(np.float64)))
    cost.backward()
    near(values["loss"].mean(), cost, dtype, "cost")
    near(values["dy"] / N, tensor.grad, dtype, "gradient")


@given(
    lr=st.sampled_from([1e-4, 0.05]),
    decay=st.sampled_from([0.0, 0.1]),
    momentum=st.sampled_from([0.0, 0.5, 0.95]),
    nesterov=st.booleans(),
    rule=st.sampled_from(["sgd", "rmsprop", "adam", "adamw"]),
    **common,
)
@settings(max_examples=30, deadline=None)
def test_updates(rule, lr, decay, momentum, nesterov, seed, dtype, scale):
    ours, theirs = {
        "sgd": (
            {"momentum": momentum, "nesterov": nesterov and momentum > 0, "weight_decay": decay},
            lambda p: torch.optim.SGD(
                p, lr, momentum=momentum, nesterov=nesterov and momentum > 0, weight_decay=decay
            ),
        ),
        "rmsprop": ({"decay": momentum}, lambda p: torch.optim.RMSprop(p, lr, alpha=momentum)),
        "adam": ({"beta1": momentum, "weight_decay": decay},
                 lambda p: torch.optim.Adam(p, lr, betas=(momentum, 0.999), weight_decay=decay)),
        "adamw": ({"beta1": momentum, "weight_decay": decay},
                  lambda p: torch.optim.AdamW(p, lr, betas=(momentum, 0.999), weight_decay=decay)),
    }[rule]  # fmt: skip
    rng = np.random.default_rng(seed)
    theta = numbers(rng, 9, dtype)
    parameter = torch.nn.Parameter(torch.tensor(theta.astype(np.float64)))
    optimizer, mine = theirs([parameter]), registry.optimizers.create((rule, {"lr": lr, **ours}))
    values = {"theta": theta, "rate": lr, **mine.options()} | {name: np.zeros(9, dtype) for name in mine.moments}
    for step in range(1, 6):
        gradient = numbers(rng, 9, dtype, scale)
        values |= {"gradient": gradient, "step": step}
        mine.update.on("cpu")(*(values[name] for name in mine.update.arguments))
        parameter.grad = torch.tensor(gradient.astype(np.float64))
        optimizer.step()
    near(theta, parameter, dtype, "theta")
