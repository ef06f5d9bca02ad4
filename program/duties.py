"""Checks that the kernels of layers, losses and optimizers write what they must, by their arguments and their text.

`graph` checks a layer when a network is composed, `program` a loss and an optimizer before training: an array that no
kernel writes would silently hold the former contents of memory. Options must also be valid in the network's dtype.
"""

import ast
import copy
import linecache
import math

import numpy as np

from ..errors import NnjitError, SpecError
from ..kernels.compiler.elementwise import Formula
from ..kernels.compiler.kernel import Kernel
from ..kernels.compiler.refusals import place
from ..kernels.operations import Operation
from ..registry.specs import did_you_mean, shown

READ_ONLY = {"shape", "size", "ndim", "dtype", "strides", "itemsize", "nbytes"}  # attributes that cannot write


def check_layer(node):
    """Raise NnjitError unless forward writes y and every parameter has one gradient; `node` is one of the graph's."""
    layer, name = node.layer, node.name
    learned = [key for key, (_, parameter) in node.parameters.items() if parameter.size]
    deltas = ["dy", "dx", *("d" + key for key in node.parameters)]
    if node.skip is not None or layer.alias:
        if learned:
            raise NnjitError(f"{name}: no kernel reads the parameter {learned[0]}; leave it out of parameters()")
        return
    if layer.forward is None:
        raise NnjitError(f"{name}: the layer has no forward kernel")
    known = names(node)
    for attribute in ("forward", "backward_input", *type(layer).gradients()):
        if (kernel := getattr(layer, attribute)) is not None:
            _check_marked(name, attribute, kernel)
            _check_formula(name, attribute, kernel, node)
            check_names(name, attribute, kernel, known)
    _refuse(name, "forward", layer.forward, deltas, "which only a backward kernel has")
    must_write(name, "forward", layer.forward, "y")
    if layer.backward_input is not None:
        reason = "which needs a separate kernel, such as backward_parameters, for backward_input sees blocks of a batch"
        _refuse(name, "backward_input", layer.backward_input, deltas[2:], reason)
        must_write(name, "backward_input", layer.backward_input, "dx")
    writers: dict[str, list] = {key: [] for key in node.parameters}
    for attribute in type(layer).gradients():
        kernel = getattr(layer, attribute)
        _refuse(name, attribute, kernel, ["dx"], "which only backward_input writes")
        written = [key for key in writers if "d" + key in kernel.arguments]
        if not written:
            raise NnjitError(f"{name}: {attribute} takes no gradient of a parameter, so it would never be called; it"
                             f" takes {', '.join(kernel.arguments)}{where(kernel)}")  # fmt: skip
        for key in written:
            writers[key].append(attribute)
            must_write(name, attribute, kernel, "d" + key)
    for key in learned:
        if key not in layer.forward.arguments:
            raise NnjitError(f"{name}: forward does not read the parameter {key}, so nothing depends on it; take it as"
                             " an argument, or leave it out of parameters()")  # fmt: skip
        if not writers[key]:
            raise NnjitError(
                f"{name}: no kernel writes d{key}, so the parameter {key} would never be trained; write a kernel such"
                f" as backward_parameters(x, dy, d{key}), or make {key} a buffer (in buffers()) if it is to stay fixed"
            )
        if len(writers[key]) > 1:
            raise NnjitError(f"{name}: {' and '.join(writers[key])} all write d{key}, and only the last would count;"
                             " let one kernel write it")  # fmt: skip


def _check_marked(owner, attribute, kernel):
    """Raise NnjitError for a plain function, whose author forgot the decorator."""
    if not isinstance(kernel, (Kernel, Operation)):
        what = "is a plain function" if callable(kernel) else f"is {shown(kernel)}"
        raise NnjitError(f"{owner}: {attribute} {what}: write @kernel above it, or @elementwise above a formula of x"
                         f"{where(kernel)}")  # fmt: skip


def _check_formula(owner, attribute, kernel, node):
    """Raise NnjitError for a formula that takes an array other than x and y."""
    if not isinstance(kernel, Formula):
        return
    arrays = {key: parameter.shape for key, (_, parameter) in (*node.parameters.items(), *node.buffers.items())}
    arrays |= node.layer.scratch(node.x.shape)
    for name in kernel.scalars:
        if name in arrays:
            raise NnjitError(
                f"{owner}: {attribute} is a formula, which takes x and options, but {name} is an array {arrays[name]}; "
                f"write it as a @kernel with a loop, or make {name} an option of the class{where(kernel)}"
            )


def where(kernel):
    """Return where a kernel or plain function is defined, in brackets behind a blank, or ""."""
    code = getattr(getattr(kernel, "function", kernel), "__code__", None)
    if code is None:  # an operation
        return ""
    lines = range(code.co_firstlineno, code.co_firstlineno + 9)  # decorators stand first
    defined = (n for n in lines if linecache.getline(code.co_filename, n).lstrip().startswith("def "))
    line = next(defined, code.co_firstlineno)
    return f" ({place(code.co_filename, line)})"


def names(node):
    """Return all names that the kernels of a node's layer may take as arguments."""
    layer, shape = node.layer, node.x.shape
    arrays = [*node.parameters, *layer.scratch(shape)]
    return ["x", "y", "dx", "dy", *(each for name in arrays for each in (name, "d" + name)), *node.buffers,
            *layer.scalars(shape), "training", "seed", "first"]  # fmt: skip


def check_names(owner, attribute, kernel, known):
    """Raise NnjitError for an argument of a kernel that is not a known name."""
    for name in kernel.arguments:
        if name not in known:
            near = did_you_mean(name, known)
            raise NnjitError(
                f"{owner}: {attribute} takes {name!r}, which cannot be bound; known names: {', '.join(known)}{near}"
                f"{where(kernel)}"
            )


def check_rounded(owner, options, dtype):
    """Raise SpecError unless options are valid when rounded to a network's dtype, as its kernels get them.

    In float32 an epsilon of 1e-50 is 0, and a rate of dropout of 0.99999999999 is 1.
    """
    rounded = copy.copy(options)
    for name, value in options.options().items():
        if type(value) is float and math.isfinite(value):
            setattr(rounded, name, as_dtype(f"{owner}: {name}", value, dtype))
    try:
        rounded.validate()
    except SpecError as error:
        raise SpecError(f"{error} (rounded to {dtype})") from None


def as_dtype(name, value, dtype):
    """Round a number to a float dtype; raise SpecError if it would become infinite, 0 or subnormal."""
    least, most = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    if value == 0 or least <= abs(value) <= most:
        return float(np.asarray(value, dtype))
    raise SpecError(f"{name}: {dtype} cannot hold {value}, only 0 and magnitudes from {least:.3g} to {most:.3g}")


def check_training(loss_name, loss, optimizer):
    """Raise NnjitError unless the kernels of a loss write the loss and its gradient, and an update changes theta."""
    check_loss(loss_name, loss)
    check_optimizer(optimizer)


def check_loss(name, loss):
    """Raise NnjitError unless the kernels of a loss write the loss and its gradient, from what they can get."""
    known = ["y", "target", "loss", "dy", *_numbers(loss)]
    for suffix in ("", "_labels"):
        for attribute, output in (("forward" + suffix, "loss"), ("backward" + suffix, "dy")):
            kernel = getattr(loss, attribute, None)
            if kernel is not None:
                _check_marked(name, attribute, kernel)
                check_names(name, attribute, kernel, known)
                must_write(name, attribute, kernel, output)
            elif not suffix:
                raise NnjitError(
                    f"{name}: a loss has the kernels forward and backward, and this one has no {attribute}"
                )
    if (loss.forward_labels is None) != (loss.backward_labels is None):
        missing = "forward_labels" if loss.forward_labels is None else "backward_labels"
        raise NnjitError(f"{name}: it takes class numbers by two kernels, and {missing} is missing")


def check_optimizer(optimizer):
    """Raise NnjitError unless the update of an optimizer changes theta and takes the gradient and all moments."""
    update = getattr(optimizer, "update", None)
    if update is None:
        raise NnjitError(
            "optimizer: an optimizer has a kernel update(theta, gradient, ..., rate), and this one has none"
        )
    _check_marked("optimizer", "update", update)
    known = ["theta", "gradient", *optimizer.moments, "rate", "step", *_numbers(optimizer)]
    check_names("optimizer", "update", update, known)
    must_write("optimizer", "update", update, "theta", kept=True)
    for name in ("gradient", *optimizer.moments):
        if name not in update.arguments:
            raise NnjitError(f"optimizer: update does not take {name}; it takes {', '.join(update.arguments)}")


def _numbers(options):
    return [name for name, value in options.options().items() if isinstance(value, (bool, int, float))]


def must_write(owner, attribute, kernel, output, kept=False):
    """Raise NnjitError unless a kernel takes an array as `output` and writes it, as far as its text shows.

    Adding to the former contents is enough for an array that is `kept` from call to call.
    """
    if output not in kernel.arguments:
        raise NnjitError(f"{owner}: {attribute} does not write {output}: it must be one of its arguments, which are"
                         f" {', '.join(kernel.arguments)}{where(kernel)}")  # fmt: skip
    if isinstance(kernel, Kernel) and not isinstance(kernel, Formula):
        try:
            tree = kernel.source.tree()
        except SpecError:  # it has no text; compiling it says so
            return
        found = _Written()
        found.visit(tree)
        if output not in (found.names | found.added if kept else found.names):
            what = "only adds to" if output in found.added else "does not write"
            raise NnjitError(f"{owner}: {attribute} {what} {output}, which holds whatever was in memory before; set all"
                             f" of it, {output}[...] = ...{where(kernel)}")  # fmt: skip


class _Written(ast.NodeVisitor):
    """Collects the names of arrays that a function may write; reading a shape and adding do not count."""

    def __init__(self):
        self.names, self.added = set(), set()

    def visit_Name(self, node):
        self.names.add(node.id)

    def visit_Attribute(self, node):
        if not (isinstance(node.value, ast.Name) and node.attr in READ_ONLY):
            self.generic_visit(node)

    def visit_Call(self, node):
        if not (isinstance(node.func, ast.Name) and node.func.id == "len"):
            self.generic_visit(node)

    def visit_AugAssign(self, node):
        target = node.target
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            self.added.add(target.value.id)
            self.visit(target.slice)
        else:
            self.visit(target)
        self.visit(node.value)


def _refuse(name, attribute, kernel, names, reason):
    for each in names:
        if each in kernel.arguments:
            raise NnjitError(f"{name}: {attribute} takes {each}, {reason}{where(kernel)}")
