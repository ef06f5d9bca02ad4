"""The text's functions of a step that several processes, ranks, make together: the passes on a share, and the update.

Between the two the gradients of the ranks and the losses of their samples are summed (training/ranks.py). Samples keep
their numbers in the batch, and so do blocks of samples and the random numbers of dropout.
"""

from ..graph import Ref
from .lines import Text
from .loops import before, run_passes
from .refusals import guard, label_guard, refuse, state_guard
from .training import RATE_OF_STEP, SEED_OF_STEP, given, load, sum_of_blocks, update_theta


def shards(plan):
    """Return the functions of the passes on samples N0 to N1 of a batch, and of the update."""
    labels, weighted = plan.task.labels, plan.task.weighted
    shape = () if labels else plan.task.graph.output.shape
    arguments = given(plan, "s, x, targets, order, first, N0, N1")
    losses = plan.slot(Ref("loss", None))
    passes = [before(plan, load(plan)), *plan.forward, *plan.backward, plan.gradients]
    return [
        *_add_chunk(plan),
        Text("shard_samples", arguments, [
            "steps = s.counters[STEP]",
            SEED_OF_STEP,
            "for i in range(BATCH):",
            [f"s.{losses.flat}[LOSSES + i] = 0.0"],
            *_cleared(plan),
            "if N0 < N1:",
            run_passes(plan, passes, "True", ("N0", "N1")),
            *([] if plan.gathers else ["else:", ["for i in range(s.gradient.size):", ["s.gradient[i] = 0.0"]]]),
            *([f"for c in range({plan.log.chunks}):", ["add_chunk(s, c)"]] if _adds(plan) else []),
        ], "The sum of the gradients of samples N0 to N1 of a batch, whose numbers are order[first + N0] and so on."),
        Text("shard_gradient", arguments, [
            *guard("shard_gradient", plan, {"targets": shape, **({"weights": ()} if weighted else {})}),
            "if not (0 <= N0 <= N1 <= BATCH and 0 <= first + N0 and first + N1 <= order.size):",
            refuse("shard_gradient order", "expected samples of a batch, and their numbers in order"),
            "for n in range(first + N0, first + N1):",
            [
                "if not 0 <= order[n] < x.shape[0]:",
                refuse("shard_gradient order", "order must hold indices of samples of x"),
                *label_guard("shard_gradient", "targets[order[n]]", plan),
            ],
            f"shard_samples({arguments})",
        ], "The gradient of a share of a batch, to be summed over all shares; theta is left alone."),
        Text("shard_step", "s, N", [
            "steps = s.counters[STEP]",
            RATE_OF_STEP,
            *update_theta(plan),
        ]),
        Text("shard_update", "s, N", [
            *state_guard("shard_update"),
            "if not 1 <= N <= BATCH:",
            refuse("shard_update samples", "expected the number of samples of a batch"),
            "s.counters[STOP] = 0",
            "return shard_step(s, N)",
        ], "The update by the summed gradient of a batch of N samples; returns their mean loss."),
    ]  # fmt: skip


def _adds(plan):
    """Tell whether gradients of blocks are added before the ranks exchange them."""
    return plan.layout.gradients is not None and not plan.gathers


def _cleared(plan):
    """Return the lines that clear the gradients of all blocks, since this share has samples of some of them only."""
    if not _adds(plan):
        return []
    mark = "NARROW_" * (plan.shares.narrow.first > 0)
    return [f"for p in range({mark}BLOCKS):", [f"n0, n1 = {mark}SAMPLES * p, {mark}SAMPLES * p + 1", *plan.clear]]


def _add_chunk(plan):
    """Return the function that adds the gradients of blocks in a chunk, if that comes before the exchange."""
    if not _adds(plan):
        return []
    body = ["lo, hi = chunk_bounds(c)", "N = BATCH", *sum_of_blocks(plan)]
    return [Text("add_chunk", "s, c", body, "The gradient of chunk c, summed over blocks.", ("lo", "hi"))]
