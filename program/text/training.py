"""The text's functions of training: the update of theta chunk by chunk, the log, a step, and an epoch."""

from math import inf

from ..graph import Ref
from .lines import Text
from .loops import before, run_passes
from .refusals import guard, label_guard, refuse

SEED_OF_STEP = "seed = (s.counters[SEED] * 1000003 + steps) * 1009"
RATE_OF_STEP = "rate = s.rates[min(steps, s.rates.size - 1)]"


def update(plan):
    """Return the functions of a chunk of theta, of the cost and of the log."""
    p = plan.task.norm
    root = "share" if p == inf or p < 1 else ("np.sqrt(share)" if p == 2 else f"share ** {1 / p!r}")
    join = "np.maximum({0}, s.log[SUMS + c])" if p == inf else "{0} + s.log[SUMS + c]"
    losses = plan.slot(Ref("loss", None))
    bounds, parts = "lo, hi = chunk_bounds(c)", plan.layout.gradients is not None
    sums = [] if plan.task.ranks > 1 and not plan.gathers else sum_of_blocks(plan)
    return [
        Text("chunk_bounds", "c", [
            "k = 0",
            "while FIRST[k + 1] <= c:",
            ["k += 1"],
            "lo = BOUNDS[k] + (c - FIRST[k]) * CHUNK",
            "return lo, min(lo + CHUNK, BOUNDS[k + 1])",
        ], "The part of theta that chunk c owns."),
        Text("chunk_norm", "s, c, N", [
            bounds,
            *sums,
            *(["if N > 1:", ["share = 1.0 / N", *plan.mean_gradient[parts:]]] if plan.mean_gradient[parts:] else []),
            *plan.chunk_norm,
        ], "The mean gradient of chunk c, and its norm.", ("lo", "hi")),
        Text("update_chunk", "s, c, rate, steps, clip", [
            "if not s.log[SUMS + c] <= POWER:",
            ["return"],
            bounds,
            *plan.update_chunk,
        ], "The update rule on chunk c, unless its gradient is not finite.", ("lo", "hi")),
        Text("cost", "s, N", [
            "total = 0.0",
            "for i in range(N):",
            [f"total += s.{losses.flat}[LOSSES + i]"],
            "return total / N",
        ], "C = 1/N sum C_i  (1)"),
        Text("record", "s, C, rate", [
            "row = (s.counters[ROWS] % LOG_ROWS) * LOG_WIDTH",
            "s.counters[ROWS] += 1",
            "s.log[row], s.log[row + 1] = C, rate",
            "total = 0.0",
            "for k in range(LAYERS):",
            [
                "share = 0.0",
                "for c in range(FIRST[k], FIRST[k + 1]):",
                [f"share = {join.format('share')}", f"total = {join.format('total')}"],
                f"s.log[row + 3 + k] = {root}",
            ],
            f"s.log[row + 2] = {root.replace('share', 'total')}",
            "return s.log[row + 2]",
        ], "A row of the log: loss, rate, norm of the gradient in total and by layer; returns the total."),
    ]  # fmt: skip


def sum_of_blocks(plan):
    """Return the lines that add the gradients of the blocks of samples in chunk lo to hi of theta, if there are any."""
    if plan.layout.gradients is None:
        return []
    samples = "NARROW_SAMPLES" if plan.shares.narrow.first else "SAMPLES"
    sums: list = [f"used = (N + {samples} - 1) // {samples}", plan.mean_gradient[0]]
    return ["if lo >= ADDED:", ["first = lo - ADDED", *sums]] if plan.layout.added else sums


def train_step(plan):
    """Return the function of a step."""
    N = plan.task.batch_size
    return Text("train_step", given(plan, "s, x, targets, order, first, N"), [
        *(["N = 1"] if N == 1 else []),  # a constant, so that there are no loops over the batch
        "steps = s.counters[STEP]",
        SEED_OF_STEP,
        RATE_OF_STEP,
        *run_passes(plan, [before(plan, load(plan)), *plan.forward, *plan.backward, plan.gradients], "True"),
        *update_theta(plan),
    ], "One step of gradient descent on the samples order[first : first + N]; returns their mean loss.")  # fmt: skip


def update_theta(plan):
    """Return the lines of a step from the mean loss on, once the gradient of its samples is known."""
    return ["C = cost(s, N)", *_chunks(plan), "s.counters[STEP] = steps + 1", "return C"]


def load(plan):
    """Return the lines that copy a block's samples, targets and weights into the batch."""
    arrays = {"x": (Ref("value", 0), "INPUTS"), "targets": (Ref("target", None), "TARGETS")}
    arrays |= {"weights": (Ref("weight", None), "1")} if plan.task.weighted else {}
    return [
        f"batch_gather(s, n0, n1, {name}, order, first + n0, {width}, {plan.variables[ref]})"
        for name, (ref, width) in arrays.items()
    ]


def given(plan, arguments, weights="weights"):
    """Return the arguments of a function, or of a call, with the weights of the samples behind them, if there are."""
    return f"{arguments}, {weights}" if plan.task.weighted else arguments


def _chunks(plan):
    """Return the update of theta chunk by chunk; clipping takes two passes, since it needs the norm."""
    total = plan.log.chunks
    each = f"for c in {'prange' if plan.shares.parts > 1 and total > 1 else 'range'}({total}):"
    stop = ["if not norm <= LARGEST or not np.isfinite(C):", ["s.counters[STOP] = 1", "return np.nan"]]
    clip = plan.task.clip
    if clip is None:
        return [
            "if not np.isfinite(C):",
            [
                f"for c in range({total}):", ["chunk_norm(s, c, N)"],
                "record(s, C, rate)", "s.counters[STOP] = 1", "return C",
            ],
            each, ["chunk_norm(s, c, N)", "update_chunk(s, c, rate, steps, 1.0)"],
            "norm = record(s, C, rate)", *stop,
        ]  # fmt: skip
    return [
        each, ["chunk_norm(s, c, N)"],
        "norm = record(s, C, rate)", *stop,
        *clipping(clip),
        each, ["update_chunk(s, c, rate, steps, clip)"],
    ]  # fmt: skip


def clipping(clip):
    """Return the line of the factor that clips the gradient, if there is one."""
    return [] if clip is None else [f"clip = min(1.0, {clip.max!r} / norm) if norm > 0.0 else 1.0"]


def entries(plan):
    """Return step and epoch, without their guards and with them."""
    N, labels, weighted = plan.task.batch_size, plan.task.labels, plan.task.weighted
    shape = () if labels else plan.task.graph.output.shape
    step = [
        *guard("step", plan, {"target": shape, **({"weight": ()} if weighted else {})}, largest=N),
        f"return step_samples({given(plan, 's, x, target', 'weight')})",
    ]
    one = given(plan, "s, x, target, s.counters[HEAD : HEAD + BATCH], 0, x.shape[0]", "weight")
    samples = [
        *(["for label in target:", label_guard("step", "label", plan)] if labels else []),
        "s.counters[STOP] = 0",
        f"return train_step({one})",
    ]
    arguments = given(plan, "s, x, targets, order")
    epoch = [
        *guard("epoch", plan, {"targets": shape, **({"weights": ()} if weighted else {})}),
        "if order.size == 0:",
        refuse("epoch order", "order must hold at least one index"),
        "for i in order:",
        [
            "if not 0 <= i < x.shape[0]:",
            refuse("epoch order", "order must hold indices of samples of x"),
            *label_guard("epoch", "targets[i]", plan),
        ],
        f"return epoch_samples({arguments})",
    ]
    batches = [
        "s.counters[STOP] = 0",
        "total = 0.0",
        "for first in range(0, order.size, BATCH):",
        [
            "N = min(BATCH, order.size - first)",
            f"total += N * train_step({given(plan, 's, x, targets, order, first, N')})",
            "if s.counters[STOP]:",
            ["return np.nan"],
        ],
        "return total / order.size",
    ]
    return [
        Text("step_samples", given(plan, "s, x, target", "weight"), samples),
        Text("step", given(plan, "s, x, target", "weight"), step,
             "One step on one batch; returns its mean loss, NaN where a gradient is not finite."),
        Text("epoch_samples", arguments, batches),
        Text("epoch", arguments, epoch,
             "One step on every batch of `order`; returns the mean loss. Stops where one of them is not finite."),
    ]  # fmt: skip
