"""PyTorch, eager: both memory formats and all variants of its optimizers; the worker keeps the fastest."""

import numpy as np
import torch
from nnjit import registry
from nnjit.bench import torch_twin
from peers.unit import Unit

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}  # by spatial dimensions
COMPILED = False


def version():
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def prepare(work, rows, arrays):
    every = torch.get_num_threads() if work["threads"] is None else work["threads"]
    kinds = {"train": _training, "predict": _inference, "predict in njit": _inference, "layer": _layer, "loss": _loss}
    return kinds[work["kind"]](work, rows, arrays, every)


def formats(shape):
    """Memory formats that make a difference for inputs of this shape."""
    if len(shape) - 1 not in FORMATS:
        return {"": torch.contiguous_format}
    return {"channels first": torch.contiguous_format, "channels last": FORMATS[len(shape) - 1]}


def twin(work, rows, arrays, layout):
    """Make the module with the initial parameters."""
    module = torch_twin.build(rows).to(getattr(torch, work["dtype"]))
    with torch.no_grad():
        for name, tensor in torch_twin.parameters(module, rows).items():
            tensor.copy_(torch.from_numpy(arrays[f"initial:{name}"]))
    return module.to(memory_format=layout)


def _training(work, rows, arrays, threads):
    ways = {"fused": {"fused": True}}
    if not work["optimizer"].startswith("adam") and not COMPILED:
        ways |= {"foreach": {"foreach": True}, "": {}}
    found = {}
    for label, layout in formats(work["shape"]).items():
        for way, how in ways.items():
            found[", ".join(filter(None, (label, way)))] = Train(work, rows, arrays, layout, how, threads)
    return found


class Train(Unit):
    """A loop over batches in memory, in the module's format."""

    def __init__(self, work, rows, arrays, layout, how, threads):
        self.rows, self.arrays, self.threads, self.how = rows, arrays, threads, how
        self.module = twin(work, rows, arrays, layout)
        self.called = torch.compile(self.module) if COMPILED else self.module
        self.loss = torch_twin.loss(work["loss"])
        self.rule = registry.parse(work["optimizer"], "optimizer")
        self.options = registry.optimizers.create(work["optimizer"]).options()
        order = arrays["order"][: 200 * work["batch"]]  # the steps of one turn with the ten points
        self.units = len(order) // work["batch"]
        once = order[: len(arrays["x"])] if work["samples"] == work["batch"] else order  # the same batch in every step
        x = torch.from_numpy(arrays["x"][once]).split(work["batch"])
        target = torch.from_numpy(arrays["target"][once]).split(work["batch"])
        self.x = [batch.clone(memory_format=layout) for batch in x] * (len(order) // len(once))
        self.target = [batch.clone() for batch in target] * (len(order) // len(once))
        self.parameters = torch_twin.parameters(self.module, rows)
        self.reset()

    def reset(self):
        torch.set_num_threads(self.threads)
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(torch.from_numpy(self.arrays[f"initial:{name}"]))
        self.optimizer = torch_twin.optimizer(self.rule.name, self.options, self.module.parameters(), **self.how)

    def step(self, x, target):
        self.optimizer.zero_grad()
        loss = self.loss(self.called(x), target)
        loss.backward()
        self.optimizer.step()
        return loss

    def check(self):
        loss = self.step(self.x[0], self.target[0])
        changes = {
            f"change:{name}": tensor.detach().numpy().astype(float) - self.arrays[f"initial:{name}"]
            for name, tensor in self.parameters.items()
        }
        return {"loss": np.array([loss.item()]), **changes}

    def run(self):
        for x, target in zip(self.x, self.target, strict=True):
            self.step(x, target)


def _inference(work, rows, arrays, threads):
    counts = {threads} | ({1} if work["batch"] == 1 else set())
    found = {}
    for label, layout in formats(work["shape"]).items():
        for count in sorted(counts):
            name = ", ".join(filter(None, (label, f"{count} thread{'s' * (count > 1)}" if len(counts) > 1 else "")))
            found[name] = Predict(work, rows, arrays, layout, count)
    return found


class Predict(Unit):
    def __init__(self, work, rows, arrays, layout, threads):
        self.module = twin(work, rows, arrays, layout).eval()
        self.called = torch.compile(self.module) if COMPILED else self.module
        self.x = torch.from_numpy(arrays["x"]).clone(memory_format=layout)
        self.threads = threads

    def reset(self):
        torch.set_num_threads(self.threads)

    def check(self):
        with torch.inference_mode():
            return {"y": self.called(self.x).numpy()}

    def run(self):
        with torch.inference_mode():
            self.called(self.x)


def _layer(work, rows, arrays, threads):
    return {
        label: Layer(work, rows[-1], arrays, layout, threads)
        for label, layout in formats(arrays["inner"].shape[1:]).items()
    }


class Layer(Unit):
    """One direction of one layer; single gradients if PyTorch offers them, else by autograd."""

    def __init__(self, work, row, arrays, layout, threads):
        self.threads, self.row = threads, row
        self.module = torch_twin.layer(row).to(memory_format=layout)
        self.names = {name: f"{row['kind']}.1.{name.rpartition('.')[2]}"
                      for name in torch_twin.parameters([self.module], [row])}  # fmt: skip
        self.parameters = torch_twin.parameters([self.module], [row])
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(torch.from_numpy(arrays[f"initial:{name}"]))
        self.x = torch.from_numpy(arrays["inner"]).clone(memory_format=layout).requires_grad_()
        dy = torch.from_numpy(arrays["dy"])
        self.dy = dy.clone(memory_format=layout) if dy.ndim == arrays["inner"].ndim else dy.clone()
        self.y = self.module(self.x)
        ways = {"forward": self.forward, "backward": self.backward, "backward to input": self.to_input,
                "backward to weight": self.to_weight}  # fmt: skip
        self.run, self.direction = ways[work["direction"]], work["direction"]

    def reset(self):
        torch.set_num_threads(self.threads)

    def forward(self):
        with torch.no_grad():
            return self.module(self.x)

    def backward(self):
        return torch.autograd.grad(self.y, [self.x, *self.parameters.values()], self.dy, retain_graph=True)

    def to_input(self):
        with torch.no_grad():
            return self.dy @ self.module.weight if isinstance(self.module, torch.nn.Linear) else self._conv(0)

    def to_weight(self):
        with torch.no_grad():
            return self.dy.T @ self.x if isinstance(self.module, torch.nn.Linear) else self._conv(1)

    def _conv(self, which):
        m, mask = self.module, [False, False, False]
        mask[which] = True
        none = [0] * len(m.stride)
        return torch.ops.aten.convolution_backward(
            self.dy, self.x, m.weight, None, m.stride, m.padding, m.dilation, False, none, m.groups, mask
        )[which]

    def check(self):
        """Compute all results by autograd, but the timed one as it is timed."""
        dx, *rest = self.backward()
        found = {"y": self.forward(), "gradient:x": dx}
        found |= {f"gradient:{self.names[name]}": g for name, g in zip(self.parameters, rest, strict=True)}
        if self.direction == "backward to input":
            found["gradient:x"] = self.run()
        elif self.direction == "backward to weight":
            found[f"gradient:{self.row['kind']}.1.W"] = self.run()
        return {name: tensor.detach().numpy() for name, tensor in found.items()}


def _loss(work, rows, arrays, threads):
    return {"": Loss(work, arrays, threads)}


class Loss(Unit):
    def __init__(self, work, arrays, threads):
        self.loss, self.threads = torch_twin.loss(work["loss"]), threads
        self.y = torch.from_numpy(arrays["logits"]).requires_grad_()
        self.target = torch.from_numpy(arrays["target"])

    def reset(self):
        torch.set_num_threads(self.threads)

    def check(self):
        self.run()
        loss = self.loss(self.y, self.target)
        return {"loss": np.array([loss.item()]), "peer:gradient:y": self.y.grad.numpy()}

    def run(self):
        self.y.grad = None
        self.loss(self.y, self.target).backward()
