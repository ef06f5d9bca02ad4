"""The text's functions of derivatives: of the loss for one's own updates, and of the output in either direction.

Each has a body on arrays that fit, and an entry that refuses others.
"""

from math import prod

from ..graph import Ref
from .lines import Text
from .loops import Lines, after, before, one_sample, run_passes
from .refusals import guard, label_guard, state_guard
from .training import RATE_OF_STEP, SEED_OF_STEP, clipping, given, load


def loss_gradient(plan):
    """Return the gradient of the mean loss, and the update by a gradient."""
    N, labels, kept = plan.task.batch_size, plan.task.labels, plan.task.graph.buffer_size
    shape = () if labels else plan.task.graph.output.shape
    arguments, weight = given(plan, "s, x, target", "weight"), {"weight": ()} if plan.task.weighted else {}
    one = given(plan, "s, x, target, s.counters[HEAD : HEAD + BATCH], 0, x.shape[0]", "weight")
    keep = lambda to, at: ["for i in range(BUFFERS):", [f"{to} = {at}"]] if kept else []  # noqa: E731
    return [
        Text("mean_loss", given(plan, "s, x, targets, order, first, N"), [
            "steps = s.counters[STEP]",
            SEED_OF_STEP,
            *keep("s.arena[KEPT + i]", "s.buffers[i]"),
            *run_passes(plan, [before(plan, load(plan)), *plan.forward, *plan.backward, plan.gradients], "True"),
            *keep("s.buffers[i]", "s.arena[KEPT + i]"),
            f"for c in range({plan.log.chunks}):",
            ["chunk_norm(s, c, N)"],
            "return cost(s, N)",
        ], "The mean loss of the samples order[first : first + N], with its gradient; nothing else changes."),
        Text("gradient_samples", arguments, [f"return mean_loss({one})"]),
        Text("loss_gradient", arguments, [
            *guard("gradient", plan, {"target": shape, **weight}, largest=N),
            *(["for label in target:", label_guard("gradient", "label", plan)] if labels else []),
            f"return gradient_samples({arguments})",
        ], "The mean loss of a batch as `step` sees it; s.gradient is its gradient, theta is left alone."),
        Text("scale_chunk", "s, c, scale", [
            "lo, hi = chunk_bounds(c)",
            *plan.accumulate,
            *plan.chunk_norm,
        ], "The scaled gradient of chunk c, and its norm.", ("lo", "hi")),
        Text("update_samples", "s, scale", [
            "s.counters[STOP] = 0",
            "steps = s.counters[STEP]",
            RATE_OF_STEP,
            f"for c in range({plan.log.chunks}):",
            ["scale_chunk(s, c, scale)"],
            "norm = record(s, np.nan, rate)",
            "if not norm <= LARGEST:",
            ["s.counters[STOP] = 1", "return np.nan"],
            *clipping(plan.task.clip),
            f"for c in range({plan.log.chunks}):",
            [f"update_chunk(s, c, rate, steps, {'clip' if plan.task.clip else '1.0'})"],
            "for i in range(s.gradient.size):",
            ["s.gradient[i] = 0.0"],
            "s.counters[STEP] = steps + 1",
            "return norm",
        ]),
        Text("update_theta", "s, scale", [
            *state_guard("update"),
            "return update_samples(s, scale)",
        ], "The update rule on scale * s.gradient, which is then 0; returns its norm, NaN where that is not finite."),
    ]  # fmt: skip


def vjp(plan):
    """Return the product of dy with the derivatives by x and theta, and the way to clear the gradient."""
    x, y, dx, dy = _ends(plan, "delta")
    load = [_copy("batch_copy", "x", "INPUTS", x), _copy("batch_copy", "dy", "OUTPUTS", dy)]
    last = Lines([_put(dx, "INPUTS", "dx")], plan.backward[-1].loop, False)
    add, give = bool(plan.accumulate), [*plan.exit, _put(y, "OUTPUTS", "y")]
    parts = bool(plan.shares.narrow) and plan.shares.narrow.blocks > 1
    used = ["used = (N + SAMPLES - 1) // SAMPLES"] if parts else []
    sums = [*used, *plan.accumulate]
    return [
        *([Text("add_gradient", "s, N", sums, "", ("0", str(plan.task.graph.size)))] if add else []),
        Text("vjp_samples", "s, x, dy, y, dx, training", [
            "steps = s.counters[STEP]",
            SEED_OF_STEP,
            "for first in range(0, x.shape[0], BATCH):",
            [
                _count(plan, "x.shape[0]"),
                *run_passes(plan, [
                    before(plan, load), *plan.forward, after(plan, give), *plan.backward,
                    _own_loop(plan.backward[-1], last), plan.gradients,
                ], "training"),
                *(["add_gradient(s, N)"] if add else []),
            ],
        ]),
        Text("vjp", "s, x, dy, y, dx, training", [
            *guard("vjp", plan, _shapes(plan, dy="output", y="output", dx="input"), ("y", "dx")),
            "vjp_samples(s, x, dy, y, dx, training)",
        ], "y = F(x), dx = (dF/dx)^T dy, and s.gradient += (dF/dtheta)^T dy."),
        Text("clear_samples", "s", ["for i in range(s.gradient.size):", ["s.gradient[i] = 0.0"]]),
        Text("clear", "s", [*state_guard("clear"), "clear_samples(s)"], "s.gradient = 0."),
    ]  # fmt: skip


def jvp(plan):
    """Return the derivative of the output in the direction of a tangent."""
    x, y, dx, dy = _ends(plan, "tangent")
    load = [_copy("batch_copy", "x", "INPUTS", x), _copy("batch_copy", "dx", "INPUTS", dx)]
    give = [_put(y, "OUTPUTS", "y"), _put(dy, "OUTPUTS", "dy")]
    return [
        Text("jvp_samples", "s, x, dx, y, dy", [
            "seed = 0",
            "for first in range(0, x.shape[0], BATCH):",
            [
                _count(plan, "x.shape[0]"),
                *run_passes(plan, [before(plan, load), *plan.forward, after(plan, give)], "False"),
            ],
        ]),
        Text("jvp", "s, x, dx, y, dy", [
            *guard("jvp", plan, _shapes(plan, dx="input", y="output", dy="output"), ("y", "dy")),
            "jvp_samples(s, x, dx, y, dy)",
        ], "y = F(x), dy = (dF/dx) dx."),
    ]  # fmt: skip


def jacobian(plan):
    """Return the Jacobian of each sample: its rows, a vjp of each unit vector, or its columns, a jvp of each."""
    by_rows = plan.task.derivative == "rows"
    x, y, dx, dy = _ends(plan, "delta" if by_rows else "tangent")
    count, unit = ("OUTPUTS", dy) if by_rows else ("INPUTS", dx)
    lists = plan.backward if by_rows else plan.tangents
    load = [f"jacobian_unit(s, n0, n1, first + n0, {count}, {unit})"]
    if by_rows:
        give = [f"batch_put(s, n0, n1, {dx}, (n * OUTPUTS + first + n0) * INPUTS, J)"]
    else:
        give = [f"jacobian_put_columns(s, n0, n1, {dy}, n * OUTPUTS * INPUTS + first + n0, OUTPUTS, INPUTS, J)"]
    begin, end = (Lines(body, each.loop, False) for body, each in ((load, lists[0]), (give, lists[-1])))
    begin = begin._replace(loop=-1) if lists[0].split else begin
    J = (plan.task.graph.output, plan.task.graph.input)
    shapes = _shapes(plan, y="output") | {"J": tuple(prod(value.shape) for value in J)}
    repeat = [
        f"jacobian_repeat(s, 0, N, {prod(plan.slot(ref).shape)}, {plan.names[ref]})" for ref in plan.repeated
    ]  # fmt: skip
    products = run_passes(plan, [begin, *lists, _own_loop(lists[-1], end)], "False")
    return [
        Text("jacobian_samples", "s, x, y, J", [
            "seed = 0",
            "for n in range(x.shape[0]):",
            [
                f"batch_copy(s, 0, 1, x, n * INPUTS, {x})",
                f"for first in range(0, {count}, BATCH):",
                # The forward pass is repeated with each batch: kernels may write the scratch that it leaves.
                [f"N = min(BATCH, {count} - first)", *one_sample(plan), *repeat, *products],
                f"batch_put(s, 0, 1, {y}, n * OUTPUTS, y)",
            ],
        ]),
        Text("jacobian", "s, x, y, J", [
            *guard("jacobian", plan, shapes, ("y", "J")),
            "jacobian_samples(s, x, y, J)",
        ], "y = F(x), J[n] = dF/dx at sample n, outputs by inputs."),
    ]  # fmt: skip


def _ends(plan, kind):
    """Return the variables of the input, the output, and their deltas or tangents."""
    x, y = plan.task.graph.input.index, plan.task.graph.output.index
    return [plan.variables[Ref(each, index)] for each in ("value", kind) for index in (x, y)]


def _shapes(plan, **ends):
    """Map names of arrays to the shape of a sample."""
    return {name: getattr(plan.task.graph, end).shape for name, end in ends.items()}


def _count(plan, samples):
    return f"N = min(BATCH, {samples} - first)" if plan.task.batch_size > 1 else "N = 1"


def _copy(kernel, source, width, to):
    return f"{kernel}(s, n0, n1, {source}, (first + n0) * {width}, {to})"


def _put(value, width, to):
    return f"batch_put(s, n0, n1, {value}, (first + n0) * {width}, {to})"


def _own_loop(each, lines):
    """Return lines after a list of calls: in its loop, or in one of their own if that is over parts."""
    return lines._replace(loop=-2) if each.split else lines
