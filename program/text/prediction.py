"""The text's functions without training: prediction, and both passes of a whole batch."""

from ..graph import Ref
from .lines import Text
from .loops import after, before, run_passes
from .refusals import guard


def by_hand(plan):
    """Return forward and backward of a whole batch, for Network.forward and Network.backward."""
    return [
        Text("forward", "s, N, seed, training", run_passes(plan, plan.forward, "training")),
        Text("backward", "s, N, seed, training", run_passes(plan, [*plan.backward, plan.gradients], "training")),
    ]


def predict(plan):
    """Return the functions of a prediction, without its guards and with them."""
    graph = plan.task.graph
    batch, output = (plan.variables[Ref("value", value.index)] for value in (graph.input, graph.output))
    load = [f"batch_copy(s, n0, n1, x, (first + n0) * INPUTS, {batch})"]
    give = [*plan.exit, f"batch_put(s, n0, n1, {output}, (first + n0) * OUTPUTS, y)"]
    size = "N = min(BATCH, x.shape[0] - first)" if plan.task.batch_size > 1 else "N = 1"
    return [
        Text("predict_samples", "s, x, y", [
            "seed = 0",
            "for first in range(0, x.shape[0], BATCH):",
            [size, *run_passes(plan, [before(plan, load), *plan.forward, after(plan, give)], "False")],
        ]),
        Text("predict", "s, x, y", [
            *guard("predict", plan, {"y": graph.output.shape}, ("y",)),
            "predict_samples(s, x, y)",
        ], "y = F(x), batch by batch."),
    ]  # fmt: skip
