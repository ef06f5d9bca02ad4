"""Names of the program's variables, after the lecture.

The input is a1. An affine layer with the activation after it is one l: its output is z[l], the activation's a[l]; any
other layer has an l of its own. delta[l] = dC/dz[l], da[l] = dC/da[l]; parameters, buffers and scratch arrays carry
their layer's l.
"""

import re

from ..kernels.compiler.elementwise import Formula
from .graph import Ref, is_alias
from .slots import part


def identifier(name):
    """A Python identifier made of a registered name; the text never holds what a user wrote otherwise."""
    name = re.sub(r"\W", "_", name)
    return name if name[:1].isalpha() else f"_{name}"


def variables(graph):
    """Ref or Slot -> variable name."""
    names = {Ref("value", 0): "a1", Ref("delta", 0): "da1", Ref("loss", None): "C_i", Ref("target", None): "target"}
    l, open_affine = 1, False
    for index, node in enumerate(graph.nodes):
        follower = graph.follower(node)
        affine = bool(node.parameters) and isinstance(getattr(follower, "forward", None), Formula)
        if not open_affine:
            l += 1
        letter = "z" if affine else "a"
        names[Ref("value", node.y.index)] = f"{letter}{l}"
        names[Ref("delta", node.y.index)] = f"delta{l}" if affine else f"da{l}"
        for name, (offset, parameter) in node.parameters.items():
            names[part("theta", offset, parameter.shape)] = f"{name}{l}"
            names[part("gradient", offset, parameter.shape)] = f"d{name}{l}"
        for name, (offset, parameter) in node.buffers.items():
            names[part("buffers", offset, parameter.shape)] = f"{name}{l}"
        if not is_alias(node):
            for name in node.layer.scratch(node.x.shape):
                names[Ref("scratch", (index, name))] = f"{name}{l}"
                names[Ref("dscratch", (index, name))] = f"d{name}{l}"
        open_affine = affine
    return names
