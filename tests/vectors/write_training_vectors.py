"""Writer of training.npz: PyTorch's results for layers, losses, updates and schedules, in float64.

Run it with torch installed: ``python tests/vectors/write_training_vectors.py``. The tests read the file, so that they
compare with PyTorch even if it is not installed. Names are "<subject>.<case>.<array>".
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20220402)
arrays = {}


def tensor(*shape, scale=1.0):
    return torch.tensor(scale * rng.standard_normal(shape), requires_grad=True)


def put(name, **values):
    for key, value in values.items():
        arrays[f"{name}.{key}"] = value.detach().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)


def differentiate(name, function, x, **parameters):
    """Compute y, and the gradients for a random dy."""
    y = function(x)
    dy = torch.tensor(rng.standard_normal(tuple(y.shape)))
    y.backward(dy)
    put(name, x=x, y=y, dy=dy, dx=x.grad, **parameters, **{f"d{k}": p.grad for k, p in parameters.items()})


def activations():
    # without 0, where derivatives are conventions, which tests state themselves
    points = np.concatenate([np.linspace(-6, 6, 24), [-60, -30, -12, -1e-3, 1e-3, 12, 30, 60], rng.normal(size=16)])
    functions = {
        "relu": F.relu,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.02),
        "elu": lambda x: F.elu(x, 1.3),
        "selu": F.selu,
        "gelu": F.gelu,
        "silu": F.silu,
        "softplus": lambda x: F.softplus(x, threshold=1e9),  # switches torch's shortcut above 20 off
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    for name, function in functions.items():
        differentiate(f"activation.{name}", function, torch.tensor(points.reshape(6, 8), requires_grad=True))


def layers():
    differentiate("softmax.rows", lambda x: F.softmax(x, 1), tensor(4, 5, scale=3))
    differentiate("softmax.image", lambda x: F.softmax(x, 1), tensor(2, 3, 2, 3, scale=20))
    W, b = tensor(4, 7), tensor(4)
    differentiate("dense.plain", lambda x: F.linear(x, W, b), tensor(5, 7), W=W, b=b)
    for case, shape in {"rows": (6, 3), "image": (4, 3, 2, 3), "volume": (2, 2, 3, 1, 2)}.items():
        C = shape[1]
        gain, offset = tensor(C), tensor(C)
        mean, variance = torch.tensor(rng.normal(size=C)), torch.tensor(rng.uniform(0.5, 2, C))
        put(f"batchnorm.{case}", mean0=mean, variance0=variance)
        new_mean, new_variance = mean.clone(), variance.clone()
        differentiate(
            f"batchnorm.{case}",
            lambda x, a=(new_mean, new_variance, gain, offset): F.batch_norm(x, *a, True, 0.2, 1e-3),
            tensor(*shape, scale=2),
            gain=gain,
            offset=offset,
        )
        x = torch.tensor(arrays[f"batchnorm.{case}.x"])
        fixed = F.batch_norm(x, mean, variance, gain, offset, False, 0.2, 1e-3)
        put(f"batchnorm.{case}", mean1=new_mean, variance1=new_variance, predicted=fixed)
        gain, offset = tensor(*shape[1:]), tensor(*shape[1:])
        differentiate(
            f"layernorm.{case}",
            lambda x, a=(shape[1:], gain, offset): F.layer_norm(x, *a, 1e-3),
            tensor(*shape, scale=2),
            gain=gain,
            offset=offset,
        )


def losses():
    """Compute the mean over the batch, and its gradient."""

    def lp(p):
        return lambda y, t: (y - t).abs().pow(p).sum() / len(y)

    plain = {
        "quadratic": (lambda y, t: 0.5 * (y - t).square().sum() / len(y)),
        "mse": F.mse_loss,
        "mae": F.l1_loss,
        "huber": lambda y, t: F.huber_loss(y, t, delta=0.7),
        "lp_half": lp(0.5),
        "lp_1": lp(1.0),
        "lp_3": lp(3.0),
    }
    cases = [(name, f, tensor(5, 2, 3), torch.tensor(rng.normal(size=(5, 2, 3)))) for name, f in plain.items()]
    soft = torch.tensor(rng.dirichlet(np.ones(4), 6))
    cases.append(("cross_entropy", F.cross_entropy, tensor(6, 4, scale=40), soft))
    cases.append(("cross_entropy_labels", F.cross_entropy, tensor(6, 4, scale=40), torch.tensor([0, 3, 2, 2, 1, 0])))
    zero_one = torch.tensor(rng.uniform(size=(6, 3)))
    cases.append(("binary_cross_entropy", F.binary_cross_entropy_with_logits, tensor(6, 3, scale=40), zero_one))
    for name, function, y, target in cases:
        cost = function(y, target)
        cost.backward()
        put(f"loss.{name}", y=y, target=target, cost=cost, gradient=y.grad)


def updates():
    """Compute theta after each of 12 steps with given gradients."""
    theta, gradients = rng.normal(size=7), rng.normal(size=(12, 7)) * 10.0 ** rng.integers(-3, 2, (12, 7))
    put("update", theta=theta, gradients=gradients)
    cases = {
        "sgd": (torch.optim.SGD, dict(lr=0.1)),
        "sgd_decay": (torch.optim.SGD, dict(lr=0.1, weight_decay=0.02)),
        "sgd_momentum": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.02)),
        "sgd_nesterov": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.02)),
        "rmsprop": (torch.optim.RMSprop, dict(lr=0.01, alpha=0.9, eps=1e-6)),
        "adam": (torch.optim.Adam, dict(lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.02)),
        "adam_default": (torch.optim.Adam, dict(lr=0.001)),
        "adamw": (torch.optim.AdamW, dict(lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.2)),
    }
    for name, (cls, options) in cases.items():
        parameter = torch.nn.Parameter(torch.tensor(theta))
        optimizer, path = cls([parameter], **options), []
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            path.append(parameter.detach().numpy().copy())
        put(f"update.{name}", path=np.array(path))


def schedules():
    """Compute the learning rate of 24 steps, from 1; 6 steps per epoch."""
    lr = torch.optim.lr_scheduler

    def warm(optimizer):
        line, rest = lr.LinearLR(optimizer, 1 / 6, 1, total_iters=5), lr.CosineAnnealingLR(optimizer, 18)
        return lr.SequentialLR(optimizer, [line, rest], milestones=[6])

    cases = {
        "step": lambda o: lr.StepLR(o, step_size=12, gamma=0.3),
        "exponential": lambda o: lr.ExponentialLR(o, 0.8 ** (1 / 6)),
        "exponential_epochs": lambda o: lr.ExponentialLR(o, 0.8),  # the usual way: a step an epoch
        "cosine": lambda o: lr.CosineAnnealingLR(o, 24, eta_min=0.1),
        "warmup_cosine": warm,
    }
    for name, make in cases.items():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler, rates = make(optimizer), []
        for _ in range(4 if name.endswith("_epochs") else 24):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        put(f"schedule.{name}", rates=np.array(rates))


if __name__ == "__main__":
    for write in (activations, layers, losses, updates, schedules):
        write()
    file = Path(__file__).with_name("training.npz")
    np.savez_compressed(file, torch=np.array(torch.__version__), **arrays)
    print(f"{file}: {len(arrays)} arrays, {file.stat().st_size} bytes")
