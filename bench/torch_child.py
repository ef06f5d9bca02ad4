"""The process that times PyTorch: it reads the request of `layers.py` on standard input and prints one line of JSON.

    {"version": ..., "layers": {name: [forward, backward] or null}, "step": seconds or null, "predict": ...}

Each number is the better of both memory formats, or null if PyTorch has no such layer.
"""

import json
import statistics
import sys
import time

import torch

from . import torch_twin

TURN, COUNT = 0.02, 9
UNLEARNED = ("flatten", "reshape", "minmax")  # first layers behind which an input needs no gradient either
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}  # by spatial dimensions


def answer(request):
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    real = getattr(torch, request["dtype"])
    layouts = {torch.contiguous_format} | {FORMATS[n] for n in (len(request["shape"]) - 1,) if n in FORMATS}
    found = [_whole(request, real, layout) for layout in layouts]
    layers, first = {}, True
    for row in _flat(request["rows"]):
        layers[row["name"]] = _layer(row, request["batch"], real, first)
        first = first and row["kind"] in UNLEARNED
    return {"version": torch.__version__, "layers": layers, "step": _least(found, 0), "predict": _least(found, 1)}


def _flat(rows):
    """Yield all layers in order, with residuals replaced by their inner layers."""
    for row in rows:
        yield from _flat(row.get("layers", []))
        if "layers" not in row:
            yield row


def _least(found, place):
    return None if found[0] is None else min(each[place] for each in found)


def _layer(row, batch, real, first):
    """Time one layer: [forward, backward], or None without a twin; the `first` input has no gradient."""
    try:
        best = [
            _alone(torch_twin.layer(row).to(real).train(), row, batch, real, layout, first)
            for layout in {torch.contiguous_format, FORMATS.get(len(row["in"]) - 1, torch.contiguous_format)}
        ]
    except torch_twin.NoTwin:
        return None
    return [min(each[k] for each in best) for k in (0, 1)]


def _alone(module, row, batch, real, layout, first):
    module = module.to(memory_format=layout)
    x = torch.randn(batch, *row["in"], dtype=real)
    x = x.to(memory_format=layout) if x.ndim > 3 else x
    x.requires_grad_(not first)
    y = module(x)

    def forward():
        with torch.no_grad():
            module(x)

    wanted = ([] if first else [x]) + list(module.parameters())
    if not wanted or y is x:
        return median(forward), 0.0
    dy = torch.randn_like(y)
    return median(forward), median(lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True))


def _whole(request, real, layout):
    """Time a training step and a prediction in seconds; None for a network without a twin."""
    try:
        module = torch_twin.build(request["rows"]).to(real).to(memory_format=layout)
        cost = torch_twin.loss(request["loss"])
        fused = {"fused": True} if request["rule"] in ("sgd", "adam", "adamw") else {}
        optimizer = torch_twin.optimizer(request["rule"], request["options"], module.parameters(), **fused)
    except torch_twin.NoTwin:
        return None
    x = torch.randn(request["batch"], *request["shape"], dtype=real)
    x = x.to(memory_format=layout) if x.ndim > 3 else x
    y = module(x)
    target = torch.randint(0, y.shape[1], (len(y),)) if request["labels"] else torch.rand_like(y)

    def step():
        optimizer.zero_grad()
        cost(module(x), target).backward()
        optimizer.step()

    def predict():
        with torch.inference_mode():
            module(x)

    found = median(step)
    module.eval()
    return found, median(predict)


def median(run):
    """Median seconds of a call."""
    run()
    begin = time.perf_counter()
    run()
    times = max(1, int(TURN / max(time.perf_counter() - begin, 1e-9)))
    found = []
    for _ in range(COUNT):
        begin = time.perf_counter()
        for _ in range(times):
            run()
        found.append((time.perf_counter() - begin) / times)
    return statistics.median(found)


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
