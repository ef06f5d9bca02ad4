"""Data, initial parameters and expected results of a work, by the NumPy reference kernels in float64. Never timed."""

import numpy as np
from nnjit import registry
from nnjit.bench.describe import describe
from nnjit.data import load
from nnjit.program import schedule
from nnjit.program.program import Program
from peers.unit import CHECKED, FEEDBACK

schedule.COLUMNS_FROM = 10**9  # rows: dC/dy of the whole batch is read after a step


IMAGES = (1, 28, 28)  # shape for which a given data set takes the place of random numbers


def version():
    return f"NumPy {np.__version__}, float64"


def make(work, path, images=None):
    """Write data and expected results of a work into one file; return its entries of the table.

    `images` is a folder in the format of MNIST for the training on images of its shape; without it they are random.

    Names in the file: ``initial:<parameter>``, the data, and expected results ``expected:<name>`` for every side,
    ``expected:own:<name>`` for nnjit only, ``expected:peer:<name>`` for the others only.
    """
    rng = np.random.default_rng(7)
    net = registry.compose(list(work["layers"]), tuple(work["shape"]), dtype="float64", seed=3)
    net.theta[:] = net.theta.astype(work["dtype"])
    arrays = {f"initial:{name}": value.astype(work["dtype"]) for name, value in net.parameters.items()}
    if images and work["kind"] == "train" and tuple(work["shape"]) == IMAGES:
        work = work | {"images": images}
    rows = describe(net.layers, net.input_shape)
    about = {"rows": rows, "flops": flops(net, work), "bytes": traffic(net, work), "parameters": int(net.theta.size)}
    kinds = {"train": _train, "predict": _predict, "predict in njit": _predict, "feedback": _feedback,
             "layer": _layer, "loss": _loss}  # fmt: skip
    np.savez(path, **arrays, **kinds[work["kind"]](work, net, rng))
    return about


def _train(work, net, rng):
    steps = work["batch"] * work["batches"]
    samples = work["samples"] or (steps if work["batch"] > 1 else 10)
    x, target = _images(work, samples) if "images" in work else _samples(work, net, rng, samples)
    order = np.arange(steps) % len(x) if work["batch"] > 1 else rng.integers(0, len(x), steps)
    loss, changes, _ = _step(work, net, x, target, order[: work["batch"]])
    return {"x": x, "target": target, "order": order, "expected:loss": loss, **_named("expected:change", changes)}


def _samples(work, net, rng, samples):
    """Random inputs, with random labels; for "mse" with a smooth function of them, which can be learned but not soon.

    Constant targets would be met after some steps, and gradients of nearly zero take other times.
    """
    x, outputs = _numbers(rng, (samples, *net.input_shape), work), net.output_shape[0]
    if work["loss"] == "mse":
        return x, np.tanh(x @ rng.standard_normal((x.shape[1], outputs))).astype(work["dtype"])
    labels = rng.integers(0, outputs, samples)
    return x, labels if work["loss"] == "cross_entropy" else np.eye(outputs, dtype=work["dtype"])[labels]


def _images(work, samples):
    """Return the first images, scaled to 0..1, and labels of a folder in the format of MNIST."""
    train = load(("idx", {"path": work["images"]})).train
    rows = np.arange(min(samples, len(train)))
    x, target = train.take(rows, work["dtype"])
    return x / x.dtype.type(255), target


def _feedback(work, net, rng):
    """Run a feedback loop over its first samples."""
    x, found = _numbers(rng, (work["batch"], *net.input_shape), work), []
    sample = x.astype(float)
    for _ in range(CHECKED):
        found.append(_outputs(net, sample))
        sample.flat[0] = found[-1].flat[0] * FEEDBACK
    return {"x": x, "expected:y": np.array(found)}


def _predict(work, net, rng):
    x = _numbers(rng, (work["batch"], *net.input_shape), work)
    return {"x": x, "expected:y": _outputs(net, x)}


def _layer(work, net, rng):
    """Input, dy and gradients of the last layer, and the changes of one step of nnjit's program."""
    x = _numbers(rng, (work["batch"], *net.input_shape), work)
    target = _numbers(rng, (work["batch"], *net.output_shape), work)
    before = registry.compose(net.layers[:-1], net.input_shape, dtype="float64")
    before.theta[:] = net.theta[: before.theta.size]
    inner = _outputs(before, x).astype(work["dtype"])
    dy = _numbers(rng, (work["batch"], *net.output_shape), work)
    y, dx, gradients = _alone(net, inner, dy)
    _, changes, _ = _step(work, net, x, target, np.arange(len(x)))
    return {
        "x": x, "target": target, "inner": inner, "dy": dy, "expected:y": y, "expected:gradient:x": dx,
        **_named("expected:gradient", gradients), **_named("expected:own:change", changes),
    }  # fmt: skip


def _alone(net, x, dy):
    """Run forward and backward of the last layer, whose parameters are the last of theta."""
    last = registry.compose(net.layers[-1:], x.shape[1:], dtype="float64")
    last.theta[:] = net.theta[net.theta.size - last.theta.size :]
    program = Program(last, batch_size=len(x), backward=True)
    run, state, N = program.reference(), program.state, len(x)
    program.input.of(state, 0, N)[...] = x
    run.forward(state, N, 0, True)
    y = program.output.of(state, 0, N).copy()
    program.output_gradient.of(state, 0, N)[...] = dy
    run.backward(state, N, 0, True)
    return y, program.input_gradient.of(state, 0, N).copy(), last.gradients


def _loss(work, net, rng):
    """Compute the loss of logits and, for the peers, the gradient of its mean over the batch."""
    x = _numbers(rng, (work["batch"], *net.input_shape), work)
    target = rng.integers(0, net.output_shape[0], len(x))
    logits = _outputs(net, x)
    loss, changes, gradient = _step(work, net, x, target, np.arange(len(x)))
    return {
        "x": x, "target": target, "logits": logits.astype(work["dtype"]), "expected:loss": loss,
        "expected:peer:gradient:y": gradient / len(x), **_named("expected:own:change", changes),
    }  # fmt: skip


def _numbers(rng, shape, work):
    return rng.standard_normal(shape).astype(work["dtype"])


def _named(prefix, arrays):
    return {f"{prefix}:{name}": value for name, value in arrays.items()}


def _outputs(net, x):
    y = np.empty((len(x), *net.output_shape))
    program = Program(net, batch_size=len(x))
    program.reference().predict(program.state, x.astype(float), y)
    return y


def _step(work, net, x, target, batch):
    """Loss, change of every parameter, and dC_i/dy of one step."""
    program = Program(net, work["loss"], work["optimizer"], work["batch"])
    before = {name: value.copy() for name, value in net.parameters.items()}
    target = target[batch] if target.ndim == 1 else target[batch].astype(float)
    loss = program.reference().step(program.state, x[batch].astype(float), target)
    changes = {name: net.parameters[name] - before[name] for name in before}
    for name, value in before.items():
        net.parameters[name][...] = value
    return np.array([loss]), changes, program.output_gradient.of(program.state, 0, len(batch)).copy()


def flops(net, work):
    """Count two per multiplication of the layers with weights; in training in three passes, the first layer in two."""
    cost = [2 * node.layer.operations(node.x.shape) for node in net.graph.nodes if "W" in node.parameters]
    last = net.graph.nodes[-1]
    if work["kind"] in ("layer", "loss"):
        cost = [2 * last.layer.operations(last.x.shape)] if work["bound"] == "compute" else [0]
        return work["batch"] * cost[0]
    return work["batch"] * (3 * sum(cost) - cost[0] if work["kind"] == "train" else sum(cost))


def traffic(net, work):
    """Least number of bytes that the kernels of a row read and write: each array of the batch that they name, once."""
    if work["bound"] != "memory":
        return 0
    last, item = net.graph.nodes[-1], np.dtype(work["dtype"]).itemsize
    width = {"x": np.prod(last.x.shape), "y": np.prod(last.y.shape)}
    width |= {"dx": width["x"], "dy": width["y"]}
    if work["kind"] == "loss":
        return int(3 * width["y"] * work["batch"] * item)  # both passes read y, one writes dy
    kernels = [last.layer.forward] if work["direction"] == "forward" else [
        kernel for kernel in (last.layer.backward_input, *type(last.layer).gradients().values())
    ]  # fmt: skip
    names = {name for kernel in kernels for name in kernel.arguments}
    return int(sum(width[name] for name in names & set(width)) * work["batch"] * item)
