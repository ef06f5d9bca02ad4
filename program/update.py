"""The calls of the update: the mean gradient of a chunk of theta, its norm, and the optimizer's rule."""

from ..kernels.operations import operation
from ..registry import optimizers
from .calls import Var, numbers_of
from .duties import check_names
from .graph import Ref
from .notation import identifier, known_equation
from .slots import batch, fixed


def clear(calls):
    """Return the call that clears the gradient of a block of samples."""
    values = {"gradient": Ref("gradient", None)}
    return calls.call("clear_gradient", "columns_clear", operation("columns.clear"), values)


def update(calls, task, flats, columns, added):
    """Return the calls on a chunk of theta: mean, norm, and, once the norm is known, the update.

    From number `added` of theta on gradients are added from those of blocks.
    """
    optimizer, p = task.optimizer, task.norm
    g, scale = flats["gradient"], operation("norm.scale")
    sums = fixed("log", columns.sums, (max(columns.chunks, 1),))
    calls.names = {**calls.names, sums: "sums"}
    mean = []
    if calls.columns and calls.division.narrow.blocks > 1:
        values = {"gradients": Ref("gradients", None), "count": Var("used"), "gradient": g}
        values["first"] = Var("first" if added else "lo")
        add = operation("columns.add_blocks")
        mean.append(calls.call("add_gradients", "columns_add_blocks", add, values, "gradient = sum of the blocks'"))
    if task.batch_size > 1:
        text = "gradient = gradient / N: 1/N of (4) and (5)"
        mean.append(calls.call("mean_gradient", "norm_scale", scale, {"g": g, "factor": Var("share", float)}, text))
    share = "max |gradient|" if p == float("inf") else f"sum |gradient|^{p:g}"
    values = {"g": g, "sums": sums, "index": Var("c"), "p": p}
    norm = calls.call("norm_partial", "norm_partial", operation("norm.partial"), values, f"sums[c] = {share}")
    after = []
    if task.clip is not None:
        values = {"g": g, "factor": Var("clip", float)}
        after.append(calls.call("clip_gradient", "norm_scale", scale, values, "gradient = clip gradient"))
    known = {**flats, **numbers_of(optimizer), "rate": Var("rate", float), "step": Var("steps", plus=1)}
    check_names("optimizer", "update", optimizer.update, known)
    names = {name: name for name in flats}
    kind = identifier(optimizers.name_of(type(optimizer)))
    text = known_equation(optimizer.update, names) or f"theta = {kind}(theta, gradient, eta)"
    after.append(calls.call("update", "update", optimizer.update, known, text))
    return tuple(mean), (norm,), tuple(after)


def accumulate(calls, task, flats):
    """Return the call that adds the gradient of a vjp to that of the state, or scales that for an update."""
    if task.derivative == "vjp" and task.graph.size:
        count = Var("used") if calls.columns and calls.division.narrow.blocks > 1 else 1
        values = {"gradients": Ref("gradients", None), "count": count, "first": 0, "gradient": flats["gradient"]}
        kernel, text = operation("columns.accumulate"), "gradient = gradient + that of this call"
        return (calls.call("add_to_gradient", "columns_accumulate", kernel, values, text),)
    if task.derivative == "gradient":
        values = {"g": flats["gradient"], "factor": Var("scale", float)}
        return (
            calls.call("scale_gradient", "norm_scale", operation("norm.scale"), values, "gradient = scale gradient"),
        )
    return ()


def flats(task):
    """Return theta, its gradient and the moments as whole arrays, by name."""
    if task.derivative == "vjp":
        return {"gradient": batch("gradient", 0, ())}
    if task.optimizer is None:
        return {}
    found = {"theta": batch("theta", 0, ()), "gradient": batch("gradient", 0, ())}
    return found | {name: batch("moments", k * task.graph.size, ()) for k, name in enumerate(task.optimizer.moments)}
