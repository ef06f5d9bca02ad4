"""Names and equations of the program, after the lecture (docs/lecture.md).

The input is a1. An affine layer and the activation after it share one l: the outputs are z[l] and a[l]; every other
layer has another l. The affine layer that ends the network has a z too: its activation is part of the loss, or it has
none. delta[l] = dC/dz[l], da[l] = dC/da[l]; parameters, buffers and scratch arrays carry their layer's l.
"""

import re

from ..kernels.compiler.elementwise import Formula
from ..kernels.operations import Operation
from .graph import COLUMNS, Ref, is_alias
from .slots import fixed
from .state import FAULTS

# Equations of operations of kernels/, in the names of the kernel's arguments; t is the target, ' the derivative, o the
# product number by number, * the convolution of arrays of maps. Sums run over the samples of the batch.
EQUATIONS = {
    "dense.forward": "{y} = {W} {x} + {b}",
    "dense.backward_input": "{dx} = {W}^T {dy}",
    "dense.backward_weight": "{dW} = sum {dy} {x}^T",
    "dense.backward_bias": "{db} = sum {dy}",
    "dense_columns.forward": "{y} = {W} {x} + {b}",
    "dense_columns.backward_input": "{dx} = {W}^T {dy}",
    "dense_columns.backward_weight": "{dW} += sum {dy} {x}^T",
    "dense_columns.backward_bias": "{db} += sum {dy}",
    "conv.forward": "{y} = {W} * {x} + {b}",
    "conv.backward_input": "{dx} = {W}^T * {dy}",
    "conv.backward_weight": "{dW} = sum {dy} * {x}",
    "conv.backward_bias": "{db} = sum {dy}",
    "conv_transpose.forward": "{y} = {W}^T * {x} + {b}",
    "conv_transpose.backward_input": "{dx} = {W} * {dy}",
    "conv_transpose.backward_weight": "{dW} = sum {x} * {dy}",
    "residual.add": "{y} = {x} + {skip}",
    "scale.forward": "{y} = ({x} - {shift}) / {scale}",
    "scale.backward_input": "{dx} = {dy} / {scale}",
    "scale.inverse": "{y} = {x} {scale} + {shift}",
    "scale.inverse_backward_input": "{dx} = {dy} {scale}",
    "scale_columns.forward": "{y} = ({x} - {shift}) / {scale}",
    "scale_columns.backward_input": "{dx} = {dy} / {scale}",
    "scale_columns.inverse": "{y} = {x} {scale} + {shift}",
    "scale_columns.inverse_backward_input": "{dx} = {dy} {scale}",
    "loss.quadratic": "{loss} = 1/2 ||t - {y}||_2^2",
    "loss.quadratic_backward": "{dy} = {y} - t",
    "loss_columns.quadratic": "{loss} = 1/2 ||t - {y}||_2^2",
    "loss_columns.quadratic_backward": "{dy} = {y} - t",
    "loss_columns.cross_entropy": "{loss} = -sum t log softmax({y})",
    "loss_columns.cross_entropy_backward": "{dy} = softmax({y}) - t",
    "loss_columns.cross_entropy_labels": "{loss} = -log softmax({y})[t]",
    "loss_columns.cross_entropy_labels_backward": "{dy} = softmax({y}) - t",
    "loss.cross_entropy": "{loss} = -sum t log softmax({y})",
    "loss.cross_entropy_backward": "{dy} = softmax({y}) - t",
    "loss.cross_entropy_labels": "{loss} = -log softmax({y})[t]",
    "loss.cross_entropy_labels_backward": "{dy} = softmax({y}) - t",
    "loss.weigh": "{loss} = {weight} {loss}, {dy} = {weight} {dy}",
    "loss_columns.weigh": "{loss} = {weight} {loss}, {dy} = {weight} {dy}",
    "update.gradient_descent": "{theta} = {theta} - eta {gradient}",
}

NOTHING = fixed("theta", 0, (0,))  # the bias of an affine layer's tangent: none

# Names that the text itself uses: functions, constants, local variables, and the names around it.
OWN = """
    gradients chunk_bounds chunk_norm update_chunk cost record train_step step_samples step epoch_samples epoch
    predict_samples predict forward backward update BATCH INPUTS TARGETS OUTPUTS BLOCKS SAMPLES WORKERS PARTS STEP
    SEED ROWS STOP FAULT HEAD BOUNDS FIRST LAYERS CHUNK LOSSES LOG_ROWS LOG_WIDTH SUMS LARGEST POWER SCRATCH LIGHT
    LEARNS WHOLE np inf prange range min max float fixed batch block part ValueError s x y n0 n1 N seed training
    first order targets weights label total share norm row rate clip steps lo hi c k i p q w C t sums GRADIENTS TILE
    columns per_block used last TILES ADDED NARROW_BLOCKS NARROW_SAMPLES NARROW_WORKERS loss_gradient
    gradient_samples mean_loss update_theta update_samples scale_chunk vjp_samples vjp clear clear_samples
    add_gradient jvp_samples jvp jacobian_samples jacobian tangents dx dy J scale KEPT BUFFERS"""
RESERVED = {*OWN.split(), *(name.upper().replace(" ", "_") for name in FAULTS)}


def identifier(name):
    """Make a Python identifier of a registered name; no other text of a user gets into the program."""
    name = re.sub(r"\W", "_", name)
    return name if name[:1].isalpha() else f"_{name}"


def numbers(graph):
    """Return (l, whether the output is z[l]) of every node."""
    found, l, is_open = [], 1, False
    for node in graph.nodes:
        if not is_open:
            l += 1
        consumer = graph.consumer(node)
        last = node.y is graph.output and not isinstance(node.layer.forward, Formula)
        is_open = bool(node.parameters) and isinstance(getattr(consumer, "forward", None), Formula)
        found.append((l, is_open or (last and bool(node.parameters))))
    return found


def variables(graph, narrow, own, more=(), tangents=False):
    """Map each Ref or Slot to a variable name, each name once; `more` are further (Slot, name) pairs.

    In the nodes from number `narrow` on samples are columns, and rows where they enter and leave. From number `own` on
    gradients are not the state's. With `tangents` the derivative of a2 in the direction of a tangent of x is a2_dot.
    """
    inside = {value.index for node in graph.nodes[narrow:] for value in (node.x, node.y)}

    def ref(kind, value):
        return Ref(COLUMNS[kind] if value.index in inside else kind, value.index)

    wanted = [(ref("value", graph.input), "a1"), (ref("delta", graph.input), "da1"), (Ref("loss", None), "C_i")]
    wanted += [(Ref("target", None), "target"), (Ref("weight", None), "weight"), *more]
    for index, (node, (l, is_z)) in enumerate(zip(graph.nodes, numbers(graph), strict=True)):
        wanted.append((ref("value", node.y), f"z{l}" if is_z else f"a{l}"))
        wanted.append((ref("delta", node.y), f"delta{l}" if is_z else f"da{l}"))
        for name, (offset, parameter) in node.parameters.items():
            wanted.append((fixed("theta", offset, parameter.shape), f"{name}{l}"))
            state = fixed("gradient", offset, parameter.shape)
            wanted.append((Ref("gradient", (index, name)) if index >= own else state, f"d{name}{l}"))
        for name, (offset, parameter) in node.buffers.items():
            wanted.append((fixed("buffers", offset, parameter.shape), f"{name}{l}"))
        if not is_alias(node):
            for name in node.layer.scratch(node.x.shape):
                wanted.append((Ref("scratch", (index, name)), f"{name}{l}"))
                wanted.append((Ref("dscratch", (index, name)), f"d{name}{l}"))
    if inside:
        found = dict(wanted)
        for value in (graph.nodes[narrow].x, graph.output):
            wanted += [(Ref(kind, value.index), f"{found[ref(kind, value)]}_rows") for kind in COLUMNS]
        wanted += [(Ref("gradient", None), "gradient_of_block"), (Ref("gradients", None), "gradients_of_blocks")]
    elif own < len(graph.nodes):
        wanted.append((Ref("gradients", None), "gradient_of_call"))
    if tangents:
        found = dict(wanted)
        wanted += [(Ref("tangent", value.index), f"{found[Ref('value', value.index)]}_dot") for value in graph.values]
        wanted.append((NOTHING, "nothing"))
    names, taken = {}, set(RESERVED)
    for key, name in wanted:
        while name in taken:
            name += "_"
        taken.add(name)
        names[key] = name
    return names


def name_of(names, value):
    """Return the variable name of an activation, where it is both rows and columns that of the columns."""
    return names.get(Ref(COLUMNS["value"], value.index)) or names[Ref("value", value.index)]


def call_name(kind, l, attribute):
    """Return the name of a layer's call, such as ``conv2_forward``."""
    kind = identifier(kind)
    return f"{kind}{'_' * kind[-1:].isdigit()}{l}_{attribute}"


def known_equation(kernel, names):
    """Return the equation of an operation of kernels/ in variable names; None for any other kernel."""
    known = EQUATIONS.get(kernel.name) if isinstance(kernel, Operation) else None
    return known and known.format_map(names)


def equation(kind, attribute, kernel, names, parameters=()):
    """Return the equation that a call computes.

    Parameters
    ----------
    kind, attribute : str
        Registered name of the layer, loss or optimizer, and the name of its kernel.
    kernel : Kernel or Operation
    names : dict
        Variable names by argument names.
    parameters : sequence of str
        Those of the layer that have numbers.
    """
    known = known_equation(kernel, names)
    if known is not None:
        return known if "b" in parameters or "b" not in names else known.removesuffix(f" + {names['b']}")
    listed = ", ".join(names[name] for name in parameters)
    x, y, dy = (names.get(name, name) for name in ("x", "y", "dy"))
    if attribute == "forward":
        return f"{y} = {kind}({', '.join([x, *([listed] if listed else [])])})"
    if attribute == "backward_input":
        product = f" o {dy}" if isinstance(kernel, Formula) else f"^T {dy}"
        return f"{names['dx']} = {kind}'({x}){product}"
    written = [name for name in parameters if "d" + name in kernel.arguments]
    gradients = ", ".join(names["d" + name] for name in written)
    return f"{gradients} = sum (d {y} / d {', '.join(names[name] for name in written)})^T {dy}"
