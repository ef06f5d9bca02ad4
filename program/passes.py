"""The calls of the passes through a network: forward, the loss, deltas and gradients.

A layer's kernels are bound by the names of their arguments: x, y, dx, dy, parameters, scratch, options.
"""

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.operations import columns_of, operation
from .calls import Call, Var, numbers_of
from .duties import check_names
from .graph import Ref, is_alias
from .notation import equation, identifier, known_equation
from .slots import fixed
from .tangents import tangent

WEIGH = operation("loss.weigh", form="matrix")


def forward(calls, task, region, with_tangents=True):
    """Yield the calls of a region's forward pass; a layer's tangent, if the task has any, follows it."""
    if region.columns:
        yield calls.turn("value", calls.graph.nodes[region.nodes[0]].x, "of_rows")
    for index in region.nodes:
        node = calls.graph.nodes[index]
        if node.skip is not None:
            values = {"x": node.x, "skip": node.skip, "y": node.y}
            values = {key: calls.ref("value", value, region.columns) for key, value in values.items()}
            yield _add(calls, index, values, "add")
        elif not is_alias(node):
            yield _of_node(calls, index, "forward", split=region.whole_batch)
        if task.tangents and with_tangents and not is_alias(node):
            yield tangent(calls, index, region.whole_batch)


def tangents(calls, region):
    """Yield the calls of a region's tangents alone."""
    for index in region.nodes:
        if not is_alias(calls.graph.nodes[index]):
            yield tangent(calls, index, region.whole_batch)


def losses(calls, task, leave):
    """Return the calls of the loss, its gradient and weights; those of `leave` turn the output into rows."""
    loss, suffix = task.loss, "_labels" if task.labels else ""
    attributes, output = ("forward", "backward"), calls.graph.output
    kernels = [loss.column_kernel(each + suffix, output.shape) if calls.columns else None for each in attributes]
    turned = calls.columns and None in kernels  # the loss takes rows only
    if None in kernels:
        kernels = [getattr(loss, each + suffix) for each in attributes]
    as_columns = calls.columns and not turned
    values = {"y": calls.ref("value", output, as_columns), "dy": calls.ref("delta", output, as_columns)}
    values |= {"target": Ref("target", None), "loss": Ref("loss", None), **numbers_of(loss)}
    kind = identifier(task.loss_name)
    names = {k: calls.names[v] for k, v in values.items() if isinstance(v, Ref)}
    general = f"C_i = {kind}({names['y']}, t)", f"{names['dy']} = dC_i/d{names['y']}"
    found = [*leave] if turned else []
    for attribute, kernel, text, number in zip(attributes, kernels, general, (1, 2), strict=True):
        name, text = f"{kind}_{attribute}", f"{known_equation(kernel, names) or text}  ({number})"
        found.append(calls.call(name, name, kernel, values, text, attribute=attribute))
    if task.weighted:
        values, kernel = {**values, "weight": Ref("weight", None)}, columns_of(WEIGH) if as_columns else WEIGH
        text = known_equation(kernel, names | {"weight": calls.names[values["weight"]]})
        found.append(calls.call("weigh", "weigh", kernel, values, text, attribute="weigh"))
    return [*found, calls.turn("delta", output, "of_rows")] if turned else found


def given_delta(calls):
    """Return the call that turns the caller's delta of the output into columns, where samples are columns."""
    return [calls.turn("delta", calls.graph.output, "of_rows")] if calls.columns else []


def backward(calls, task, store, regions):
    """Return the calls that compute deltas, for each region, and those of the parameters' gradients."""
    needed = _needs_delta(calls.graph, task)
    gradients: list[Call] = []
    found: list[list] = [[] for _ in regions]
    for k in reversed(range(len(regions))):
        region = regions[k]
        for index in reversed(region.nodes):
            node = calls.graph.nodes[index]
            if node.y.index not in needed:
                continue
            if node.skip is None and not is_alias(node):
                if task.sums:
                    own = found[k] if region.columns else gradients
                    own.extend(_gradients(calls, index, node, not region.columns))
                if node.x.index in needed:
                    found[k].append(_backward_input(calls, task, index, node, region.whole_batch))
            for end, other in enumerate(calls.graph.nodes):  # where a residual begins, the deltas of both ways meet
                if other.skip is not None and other.start == index and other.skip.index in needed:
                    # Two loops that are divided alike may not follow each other without a barrier.
                    there = found[k - 1 if region.whole_batch else k]
                    there.append(_add_deltas(calls, store, end, other, region.columns))
        if region.columns and (value := calls.graph.nodes[region.nodes[0]].x).index in needed:
            found[k].append(calls.turn("delta", value, "to_rows"))
    return found, gradients


def _needs_delta(graph, task):
    """Return the values whose deltas are needed: a parameter is before them (or all, for Network.backward)."""
    needed = set() if task.loss is not None else {0}
    for node in graph.nodes:
        if node.parameters or node.x.index in needed or (node.skip is not None and node.skip.index in needed):
            needed.add(node.y.index)
    return needed


def _of_node(calls, index, attribute, suffix="", split=False):
    """Return the call of one of a node's kernels, its arguments bound by name."""
    node, columns = calls.graph.nodes[index], index >= calls.division.columns_from
    shape = node.x.shape
    kernel = (node.layer.column_kernel if columns else node.layer.kernel)(attribute, shape)
    known: dict = {"x": calls.ref("value", node.x, columns), "y": calls.ref("value", node.y, columns)}
    known |= {"dx": calls.ref("delta", node.x, columns), "dy": calls.ref("delta", node.y, columns)}
    for name, (offset, parameter) in node.parameters.items():
        known[name] = fixed("theta", offset, parameter.shape)
        state = fixed("gradient", offset, parameter.shape)
        known["d" + name] = Ref("gradient", (index, name)) if index >= calls.own else state
    for name, (offset, parameter) in node.buffers.items():
        known[name] = fixed("buffers", offset, parameter.shape)
    for name in node.layer.scratch(shape):
        known[name] = Ref("scratch", (index, name))
        known["d" + name] = Ref("dscratch", (index, name))
    names = {key: calls.names[value] for key, value in known.items()}
    known |= node.layer.scalars(shape)
    known |= {"training": Var("training", bool), "seed": Var("seed", plus=index + 1), "first": Var("n0")}
    check_names(node.name, attribute, kernel, known)
    parameters = [name for name, (_, parameter) in node.parameters.items() if parameter.size]
    text = equation(identifier(node.kind), attribute, kernel, names, parameters) + suffix
    return calls.of_node(index, attribute, kernel, known, text, split=split)


def _add(calls, index, values, attribute, suffix=""):
    """Return the sum of a residual: of its values, or of the two deltas where it begins."""
    x, skip, y = (calls.names[values[key]] for key in ("x", "skip", "y"))
    kernel = calls.graph.nodes[index].layer.add
    return calls.of_node(index, attribute, kernel, values, f"{y} = {x} + {skip}{suffix}")


def _add_deltas(calls, store, end, node, columns):
    """Return the sum of the two deltas where a residual begins."""
    dx, dy = (calls.ref("delta", value, columns) for value in (node.skip, node.y))
    branch = dy if store.is_double(node) else dx
    return _add(calls, end, {"x": branch, "skip": dy, "y": dx}, "backward_add", "  (3)")


def _backward_input(calls, task, index, node, split):
    """Return the call that computes the delta of a node's input."""
    if node.layer.backward_input is None:
        raise NnjitError(f"{node.name}: the layer has no backward_input, so nothing before it can be trained")
    last = node.y is calls.graph.output and isinstance(node.layer.forward, Formula)
    number = "  (2)" if last and task.loss is not None else "  (3)"
    return _of_node(calls, index, "backward_input", number, split)


def _gradients(calls, index, node, split):
    """Yield the calls that compute the gradients of a node's parameters."""
    for attribute in type(node.layer).gradients():
        arguments = getattr(node.layer, attribute).arguments
        written = [k for k in arguments if k[:1] == "d" and k[1:] in node.parameters]
        if any(node.parameters[k[1:]][1].size for k in written):
            number = "  (4)" if written == ["db"] else "  (5)"
            yield _of_node(calls, index, attribute, number, split)
