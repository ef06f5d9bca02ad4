"""The text's functions of a step that several processes, ranks, make together: the passes on a share, and the update.

Between the two the gradients of the ranks and the losses of their samples are summed (training/shard.py). Samples keep
their numbers in the batch, and so do blocks of samples and the random numbers of dropout. With global statistics the
passes are cut into sections before each layer that couples the batch: there the ranks exchange what the layer reads,
and each runs it on the whole batch.
"""

from ..calls import CallList
from ..graph import Ref
from .lines import Text
from .loops import before, run_passes
from .refusals import guard, label_guard, refuse, state_guard
from .training import RATE_OF_STEP, SEED_OF_STEP, given, load, sum_of_blocks, update_theta


def exchanged(plan):
    """Return the array, a `Slot` with a row for each sample, that ranks exchange before each section but the first."""
    return [
        plan.slot(each.calls[0].values["x" if each.calls[0].attribute == "forward" else "dy"])
        for each in (*plan.forward, *plan.backward)
        if _couples(plan, each)
    ]


def shards(plan):
    """Return the functions of the passes on samples N0 to N1 of a batch of N, and of the update."""
    labels, weighted = plan.task.labels, plan.task.weighted
    shape = () if labels else plan.task.graph.output.shape
    arguments = given(plan, "s, x, targets, order, first, N0, N1, N, section")
    losses = plan.slot(Ref("loss", None))
    sections = _sections(plan)
    begin = ["for i in range(BATCH):", [f"s.{losses.flat}[LOSSES + i] = 0.0"], *_cleared(plan)]
    passes: list = []
    for number, lists in enumerate(sections):
        body: list = [] if number else begin
        if number:
            body = [*body, *run_passes(plan, lists[:1], "True")]
            lists = lists[1:]
        if own := run_passes(plan, lists, "True", ("N0", "N1")):
            body = [*body, "if N0 < N1:", own]
        if number == len(sections) - 1:
            body = [*body, *_summed(plan)]
        passes += [f"if section == {number}:", body] if len(sections) > 1 else body
    return [
        *_add_chunk(plan),
        Text("shard_samples", arguments, [
            "steps = s.counters[STEP]",
            SEED_OF_STEP,
            *passes,
        ], "The sum of the gradients of samples N0 to N1 of a batch, whose numbers are order[first + N0] and so on."),
        Text("shard_gradient", arguments, [
            *guard("shard_gradient", plan, {"targets": shape, **({"weights": ()} if weighted else {})}),
            "if not (0 <= N0 <= N1 <= N <= BATCH and 0 <= first + N0 and first + N1 <= order.size):",
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


def _couples(plan, each):
    """Tell whether a list of calls is that of a layer that sees the whole batch on every rank."""
    if not plan.task.global_statistics or not isinstance(each, CallList) or not each.calls:
        return False
    node = each.calls[0].node
    return each.split and node is not None and plan.task.graph.nodes[node].layer.couples_batch


def _sections(plan):
    """Return the lists of calls of the passes in sections; a layer that couples the batch begins each but the first."""
    found: list[list] = [[]]
    for each in (before(plan, load(plan)), *plan.forward, *plan.backward, plan.gradients):
        if each is not plan.gradients and _couples(plan, each):
            found.append([])
        found[-1].append(each)
    return found


def _summed(plan):
    """Return the lines that complete the gradient of the share: 0 without samples, and else the sum of its blocks."""
    if plan.gathers:
        return []
    clear = ["if N0 == N1:", ["for i in range(s.gradient.size):", ["s.gradient[i] = 0.0"]]]
    return [*clear, *([f"for c in range({plan.log.chunks}):", ["add_chunk(s, c)"]] if _adds(plan) else [])]


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
