"""JAX: the whole step under jit, in a Python loop over batches or in one `lax.scan`; the worker keeps the faster."""

from functools import partial

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from nnjit import registry
from peers.unit import Absent, Unit

LAYOUTS = {"NCHW": ("NCHW", "OIHW", "NCHW"), "NHWC": ("NHWC", "HWIO", "NHWC")}
ACTIVATIONS = {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "identity": lambda x: x}


def version():
    return f"{jax.__version__}, {jax.default_backend()}"


def prepare(work, rows, arrays):
    jax.config.update("jax_enable_x64", work["dtype"] == "float64")
    layouts = LAYOUTS if len(work["shape"]) == 3 else {"": None}
    for row in rows:
        if row["kind"] not in ("dense", "conv", "maxpool", "flatten", *ACTIVATIONS):
            raise Absent(f"{row['kind']} is not translated")
    if work["kind"] == "train":
        ways = ("scan",) if work["batches"] > 1000 else ("loop", "scan")
        return {
            ", ".join(filter(None, (label, way))): Train(work, rows, arrays, label, way)
            for label in layouts for way in ways
        }  # fmt: skip
    return {label: Predict(rows, arrays, label) for label in layouts}


def forward(rows, layout, parameters, x):
    """Compute F(x) by `describe`'s rows; parameters keep nnjit's shapes."""
    last = layout == "NHWC"
    for row in rows:
        kind, name = row["kind"], row["name"]
        if kind in ACTIVATIONS:
            x = ACTIVATIONS[kind](x)
        elif kind == "dense":
            x = x @ parameters[f"{name}.W"].T
            x = x + parameters[f"{name}.b"] if f"{name}.b" in parameters else x
        elif kind == "conv":
            W = parameters[f"{name}.W"]
            numbers = lax.conv_dimension_numbers(x.shape, W.shape, (layout, "OIHW", layout))
            x = lax.conv_general_dilated(
                x, W, row["stride"], row["padding"], rhs_dilation=row["dilation"], dimension_numbers=numbers,
                feature_group_count=row["options"]["groups"],
            )  # fmt: skip
            if f"{name}.b" in parameters:
                x = x + parameters[f"{name}.b"].reshape((1, 1, 1, -1) if last else (1, -1, 1, 1))
        elif kind == "maxpool":
            window = [1, *row["kernel"], 1] if last else [1, 1, *row["kernel"]]
            stride = [1, *row["stride"], 1] if last else [1, 1, *row["stride"]]
            padding = [(0, 0), *row["padding"], (0, 0)] if last else [(0, 0), (0, 0), *row["padding"]]
            x = lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)
        else:
            x = (x.transpose(0, 3, 1, 2) if last and x.ndim == 4 else x).reshape(len(x), -1)
    return x


def cost(name, y, target):
    if name == "cross_entropy":
        return -jnp.take_along_axis(jax.nn.log_softmax(y), target[:, None], axis=1).mean()
    if name == "mse":
        return jnp.square(y - target).mean()
    return 0.5 * jnp.square(y - target).sum() / len(y)


def update(rule, options, parameters, gradients, moments, t):
    """Return the new parameters and moments, for Adam by the formulas of Kingma & Ba."""
    lr = options["lr"]
    if rule == "sgd":
        return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), moments
    b1, b2 = options["beta1"], options["beta2"]
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, moments[0], gradients)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, moments[1], gradients)
    scale, root = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
    step = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) / root + options["epsilon"]), parameters, m, v)
    return step, (m, v)


def _initial(arrays):
    return {key.removeprefix("initial:"): jnp.asarray(arrays[key]) for key in arrays if key.startswith("initial:")}


def _images(x, layout):
    return jnp.asarray(np.ascontiguousarray(np.moveaxis(x, -3, -1) if layout == "NHWC" else x))


class Train(Unit):
    def __init__(self, work, rows, arrays, layout, way):
        self.arrays, self.way = arrays, way
        rule, options = registry.parse(work["optimizer"], "optimizer").name, None
        options = registry.optimizers.create(work["optimizer"]).options()
        if rule not in ("sgd", "adam") or options.get("momentum"):
            raise Absent(f"{work['optimizer']} is not translated")
        batch = work["batch"]
        order = arrays["order"].reshape(-1, batch)
        self.units = len(order)
        self.same = work["samples"] == batch  # every step takes the same batch, which is not copied for each
        order = order[:1] if self.same else order
        self.x, self.target = _images(arrays["x"][order], layout), jnp.asarray(arrays["target"][order])
        self.batches = list(zip(list(self.x), list(self.target), strict=True)) if way == "loop" else []
        self.batches *= self.units // len(order)

        def step(carry, data):
            parameters, moments, t = carry
            of = lambda p: cost(work["loss"], forward(rows, layout, p, data[0]), data[1])  # noqa: E731
            loss, gradients = jax.value_and_grad(of)(parameters)
            return (*update(rule, options, parameters, gradients, moments, t), t + 1), loss

        self.step = jax.jit(step, donate_argnums=0)

        def again(carry, data):
            first = data[0][0], data[1][0]
            return lax.scan(lambda carry, _: step(carry, first), carry, None, self.units)

        self.scan = jax.jit(again if self.same else partial(lax.scan, step), donate_argnums=0)
        self.adam = rule == "adam"
        self.reset()

    def reset(self):
        parameters = _initial(self.arrays)
        zeros = lambda: jax.tree.map(jnp.zeros_like, parameters)  # noqa: E731
        self.carry = (parameters, (zeros(), zeros()) if self.adam else (), jnp.asarray(1.0, self.x.dtype))

    def check(self):
        carry, loss = self.step(self.carry, (self.x[0], self.target[0]))
        after = {f"change:{k}": np.asarray(v, float) - self.arrays[f"initial:{k}"] for k, v in carry[0].items()}
        return {"loss": np.asarray(loss).reshape(1), **after}

    def run(self):
        if self.way == "scan":
            self.carry, losses = self.scan(self.carry, (self.x, self.target))
        else:
            for data in self.batches:
                self.carry, losses = self.step(self.carry, data)
        jax.block_until_ready((self.carry, losses))


class Predict(Unit):
    def __init__(self, rows, arrays, layout):
        self.x, self.parameters = _images(arrays["x"], layout), _initial(arrays)
        self.predict = jax.jit(partial(forward, rows, layout))

    def check(self):
        return {"y": np.asarray(self.predict(self.parameters, self.x))}

    def run(self):
        self.predict(self.parameters, self.x).block_until_ready()
