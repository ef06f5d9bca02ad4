"""The calls of forward mode: the tangent of each activation, its derivative in the direction of a tangent of the input.

A linear layer's own forward kernel, without bias, computes the tangent; where the Jacobian is symmetric (every formula:
it is diagonal) backward_input does; other layers have a kernel `jvp`.
"""

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from .calls import Var
from .duties import check_names
from .graph import Ref
from .notation import NOTHING, equation, identifier
from .slots import fixed

TANGENTS = ("jvp", "add_tangents")  # attributes of these calls


def tangent(calls, index, split):
    """Return the call that computes the tangent of a node's output."""
    node = calls.graph.nodes[index]
    x, y = Ref("tangent", node.x.index), Ref("tangent", node.y.index)
    if node.skip is not None:
        values = {"x": x, "skip": Ref("tangent", node.skip.index), "y": y}
        text = f"{calls.names[y]} = {calls.names[x]} + {calls.names[values['skip']]}"
        return calls.of_node(index, "add_tangents", node.layer.add, values, text)
    attribute, known, left_out = _arguments(node, x, y)
    layer, shape = node.layer, node.x.shape
    kernel = layer.kernel(attribute, shape)
    for name, (offset, parameter) in node.parameters.items():
        known[name] = NOTHING if name in left_out else fixed("theta", offset, parameter.shape)
    for name, (offset, parameter) in node.buffers.items():
        known[name] = fixed("buffers", offset, parameter.shape)
    known |= {name: Ref("scratch", (index, name)) for name in layer.scratch(shape)} | layer.scalars(shape)
    known |= {"training": Var("training", bool), "seed": Var("seed", plus=index + 1), "first": Var("n0")}
    check_names(node.name, attribute, kernel, known)
    text = _equation(calls, node, attribute, kernel, known)
    return calls.of_node(index, "jvp", kernel, known, text, split=split)


def _arguments(node, x, y):
    """Return the kernel's attribute, its arrays, and the parameters that it does not get; x and y are tangents."""
    layer, values = node.layer, {"x": Ref("value", node.x.index), "y": Ref("value", node.y.index)}
    if isinstance(layer.forward, Formula) or _says(layer, "symmetric"):
        return "backward_input", {**values, "dy": x, "dx": y}, ()
    if _says(layer, "linear"):
        return "forward", {"x": x, "y": y}, layer.linear
    if _says(layer, "jvp"):
        return "jvp", {**values, "dx": x, "dy": y}, ()
    raise NnjitError(
        f"{node.name}: the layer has no derivative in forward mode; give it a kernel jvp(x, dx, dy), which computes dy,"
        " the derivative of y in the direction dx, or linear = () if its forward is linear in x"
    )


def _says(layer, name):
    """Tell whether a layer's class says this of its forward: not of that of a class from which it derives."""
    owner = {each: next(c for c in type(layer).__mro__ if each in vars(c)) for each in (name, "forward")}
    return getattr(layer, name) not in (None, False) and issubclass(owner[name], owner["forward"])


def _equation(calls, node, attribute, kernel, known):
    """Return the equation of a tangent."""
    names = {key: calls.names[value] for key, value in known.items() if isinstance(value, (Ref, type(NOTHING)))}
    kind = identifier(node.kind)
    if attribute == "forward":
        listed = [name for name, value in known.items() if name in node.parameters and value is not NOTHING]
        return equation(kind, attribute, kernel, names, listed)
    x, y = calls.names[Ref("value", node.x.index)], calls.names[Ref("tangent", node.y.index)]
    by = calls.names[Ref("tangent", node.x.index)]
    return f"{y} = {kind}'({x}){' o ' if isinstance(kernel, Formula) else ' '}{by}"
