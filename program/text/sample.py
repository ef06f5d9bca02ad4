"""The text of a function for one sample in one thread: `predict` or `vjp` of a tiny network, for a CUDA kernel.

Each layer has a function for one number of its output, or of its gradients; the text's own function calls them in
order. ``each(n, function, ...)`` is the loop ``for j in range(n): function(j, ...)``, unrolled, so that arrays of the
thread are registers; where they are too many, the text has loops and the arrays lie in the thread's memory. All is
that of prediction.
"""

import inspect
import math
from math import prod

from ...errors import SpecError
from ...kernels.compiler.elementwise import Formula
from ...kernels.operations import Operation
from ..graph import Ref
from ..notation import call_name, equation, numbers, variables
from .lines import wrapped

WIDEST = 64  # numbers of an activation: the arrays of a thread lie in memory of a few kB, which the caches must hold
# A text is unrolled up to these sizes: numbers of an activation; bytes of activations that the way back reads, of the
# 1,020 in a thread's registers (the rest are gradients, addresses and intermediate numbers); weights, since the time to
# compile `vjp` grows faster than they do: 337 take 2 s, 816 6 to 10 s, 1,904 more than half a minute.
UNROLLED, KEPT, WEIGHTS = 16, 512, 1024
ARGUMENTS = {"predict": ("theta", "x", "y"), "vjp": ("theta", "x", "dy", "y", "dx", "dtheta")}
TITLES = {
    "predict": "y = F(x).",
    "vjp": "y = F(x), dx = (dF/dx)^T dy, dtheta += (dF/dtheta)^T dy; dx and dtheta may be None.",
}
BARRIER = "cuda.threadfence_block()"


def arguments(graph, name):
    """List (name, numbers, whether None is allowed) of the arguments of a function, arrays of rank 1."""
    size = {"theta": graph.size, "buffers": graph.buffer_size, "dtheta": graph.size}
    size |= {key: prod(graph.input.shape) for key in ("x", "dx")} | {
        key: prod(graph.output.shape) for key in ("y", "dy")
    }
    listed = list(ARGUMENTS[name])
    if graph.buffer_size:
        listed.insert(1, "buffers")
    return [(key, size[key], key in ("dx", "dtheta")) for key in listed]


def write(graph, dtype, name):
    """Return the text of a function for one sample, and the formulas that it calls by their names.

    Raises
    ------
    SpecError : a layer has no form for one thread, or an activation is too wide.
    """
    check(graph, name)
    widest = max(prod(value.shape) for value in graph.values)
    text = _Text(graph, dtype, name, widest <= UNROLLED and graph.size <= WEIGHTS)
    if text.unrolled and text.kept * dtype.itemsize > KEPT:
        text = _Text(graph, dtype, name, False)
    return text.source, text.formulas


# -- which networks ----------------------------------------------------------------------------------------------------


def check(graph, name):
    """Raise SpecError unless every layer has a form for one thread."""
    for node in graph.nodes:
        if form(node) is None:
            raise SpecError(
                f"device_function: {node.name} has no form for one thread; dense, formulas (activations), softmax,"
                " layernorm, batchnorm, dropout, flatten, reshape and residual have; a network with"
                ' device="cuda" computes every layer, with all threads'
            )
        if form(node) in ("softmax", "batchnorm") and len(node.x.shape) > 1:
            raise SpecError(
                f"device_function: {node.name} has inputs {node.x.shape}, but in one thread it takes (features,)"
                " only; put flatten before it"
            )
        if name == "vjp" and not differentiable(node):
            raise SpecError(
                f"device_function: {node.name} has no derivative for one thread: vjp needs a formula's, which"
                " @forward.derivative marks; predict needs none"
            )
    for value in graph.values:
        if prod(value.shape) > WIDEST:
            place = next((node.name for node in graph.nodes if node.y is value), "the input")
            raise SpecError(
                f"device_function: {place} has {prod(value.shape)} numbers, but one thread holds at most {WIDEST} of"
                ' an activation; a network with device="cuda" has no limit'
            )


def form(node):
    """Return how a node is written: a method of `_Text`, "alias" or None."""
    layer = node.layer
    if node.skip is not None:
        return "residual" if isinstance(layer.add, Operation) and layer.add.name == "residual.add" else None
    if layer.alias:
        return "alias"
    kernel = layer.kernel("forward", node.x.shape)
    if isinstance(kernel, Formula):
        return "formula" if set(kernel.scalars) <= set(_scalars(node)) else None
    known = {"dense.forward": "dense", "softmax.forward": "softmax", "layernorm.forward": "layernorm"}
    known |= {"batchnorm.forward": "batchnorm", "dropout.forward": "alias"}
    return known.get(kernel.name) if isinstance(kernel, Operation) else None


def differentiable(node):
    """Return whether the derivatives of a node are those of its form."""
    layer = node.layer
    if node.skip is not None or layer.alias:
        return True
    forward, backward = (layer.kernel(name, node.x.shape) for name in ("forward", "backward_input"))
    if isinstance(forward, Formula):
        return isinstance(backward, Formula) and set(backward.scalars) <= set(_scalars(node))
    others = [backward, *type(layer).gradients().values()]
    return all(isinstance(each, Operation) and each.file == forward.file for each in others)


def _scalars(node):
    """Map the numbers that kernels of a node may bind to their values in prediction."""
    return {**node.layer.scalars(node.x.shape), "training": False}


# -- the text ----------------------------------------------------------------------------------------------------------


class _Text:
    """A function for one sample. `source` is its text, `formulas` are (name, Formula), `kept` counts numbers kept."""

    def __init__(self, graph, dtype, name, unrolled):
        self.graph, self.unrolled = graph, unrolled
        self.names = variables(graph, len(graph.nodes), len(graph.nodes))
        self.numbers = [l for l, _ in numbers(graph)]
        self.same = {}  # the index of an activation -> the activation whose memory it is
        self.deltas = {}  # the index of an activation -> the array of its gradient, as far as it is summed
        self.functions, self.formulas, self.read = [], [], set()
        self.body: list = []  # (None or the argument that must be given, line, comment)
        self.sums: list = []  # the activations whose gradients have been added
        listed = [key for key, *_ in arguments(graph, name)]
        self._add(f"expect({', '.join(listed)})")
        self._add(BARRIER, "so that loops around a call read theta again, rather than keep it in registers")
        self._copy("x", self._array(graph.input), prod(graph.input.shape))
        for index, node in enumerate(graph.nodes):
            if form(node) == "alias":
                self.same[node.y.index] = self._root(node.x)
            else:
                getattr(self, f"_{form(node)}")(index, node)
        self._copy(self._value(graph.output), "y", prod(graph.output.shape))
        if name == "vjp":
            self._backward()
        count = f"{graph.size} parameter{'s' * (graph.size != 1)}"
        self.functions.append(_function(name, listed, TITLES[name], self.body))
        self.source = "\n\n\n".join(
            [
                f'"""{name} of one sample in one thread: {count} in {dtype.name}."""',
                _COPY,
                *([_ADD] if self.sums else []),
                *self.functions,
            ]
        )
        self.source += "\n"

    def _backward(self):
        graph = self.graph
        self.read.clear()
        self._add(BARRIER, "as above: theta is read again")
        end = self._root(graph.output)
        self.deltas[end.index] = self._array(end, "delta")
        self._copy("dy", self.deltas[end.index], prod(end.shape))
        for index, node in reversed(list(enumerate(graph.nodes))):
            if form(node) != "alias":
                getattr(self, f"_{form(node)}_backward")(index, node)
        self._copy(self.deltas[graph.input.index], "dx", prod(graph.input.shape), "dx")

    @property
    def kept(self):
        """The numbers of activations that the way back reads."""
        return sum(prod(self.graph.values[index].shape) for index in self.read) if self.deltas else 0

    # -- pieces of it

    def _add(self, line, comment="", guard=None):
        self.body.append((guard, line, comment))

    def _root(self, value):
        return self.same.get(value.index, value)

    def _array(self, value, kind="value", guard=None, more=""):
        """Make an array of the thread for an activation or its gradient; return its name."""
        name = self.names[Ref(kind, value.index)] + more
        self._add(f"{name} = cuda.local.array({prod(value.shape)}, real)", guard=guard)
        return name

    def _value(self, value):
        """Return the array of an activation, which has been computed."""
        root = self._root(value)
        self.read.add(root.index)
        return self.names[Ref("value", root.index)]

    def _delta(self, value):
        return self.deltas[self._root(value).index]

    def _each(self, count, function, *given):
        """Return the lines that call a function for each j."""
        if self.unrolled:
            return [f"each({count}, {', '.join([function, *given])})"]
        return [f"for j in range({count}):", f"    {', '.join([f'{function}(j', *given])})"]

    def _call(self, count, function, given, comment="", guard=None):
        *loop, call = self._each(count, function, *given)
        for line in loop:
            self._add(line, guard=guard)
        self._add(call, comment, guard)

    def _copy(self, source, target, count, guard=None):
        self._call(count, "copy", [source, target], guard=guard)

    def _define(self, name, given, title, lines):
        self.functions.append(_function(name, given, title, [(None, line, "") for line in lines]))

    def _called(self, index, attribute):
        return call_name(self.graph.nodes[index].kind, self.numbers[index], attribute)

    def _equation(self, index, node, attribute, arrays, given):
        """Return the equation of a call, and where its parameters are in the vectors given."""
        kernel = node.layer.kernel(attribute, node.x.shape) if node.skip is None else node.layer.add
        l, learned = self.numbers[index], [key for key, (_, p) in node.parameters.items() if p.size]
        names = {f"{d}{key}": f"{d}{key}{l}" for key in node.parameters for d in ("", "d")}
        written = equation(node.kind, attribute, kernel, names | arrays, learned).replace(" = sum ", " += ")
        places = []
        for vector, mark, holder in (
            ("theta", "", node.parameters), ("dtheta", "d", node.parameters), ("buffers", "", node.buffers),
        ):  # fmt: skip
            for key, (offset, parameter) in holder.items() if vector in given else ():
                if parameter.size and (vector == "buffers" or mark + key in kernel.arguments):
                    shape = f" as {parameter.shape}" if len(parameter.shape) > 1 else ""
                    places.append(f"{mark}{key}{l} = {vector}[{offset}:{offset + parameter.size}]{shape}")
        return written, ", ".join(places)

    def _element(self, index, node, attribute, given, lines, count, arrays, guard=None):
        """Define a layer's function for number j, and call it for each j."""
        name, given = self._called(index, attribute), list(dict.fromkeys(given))
        written, places = self._equation(index, node, attribute, arrays, given)
        self._define(name, ["j", *given], f"{written}{places and '; '}{places}.", lines)
        self._call(count, name, given, written, guard)

    def _whole(self, index, node, attribute, given, lines, arrays, guard=None):
        """Define a layer's function for all of its numbers, and call it."""
        name = self._called(index, attribute)
        written, places = self._equation(index, node, attribute, arrays, given)
        self._define(name, given, f"{written}{places and '; '}{places}.", lines)
        self._add(f"{name}({', '.join(given)})", written, guard)

    def _contribute(self, value):
        """Make the array for a gradient with respect to an activation; return its name, its guard, and what follows."""
        root = self._root(value)
        guard = "dx" if root is self.graph.input else None
        former = self.deltas.get(root.index)
        made = self._array(root, "delta", guard, "_inside" if former else "")
        self.deltas[root.index] = made

        def finish():
            if former is not None:
                self._sum(root, former, made, guard)

        return made, guard, finish

    def _sum(self, root, one, other, guard):
        """Add two gradients with respect to an activation."""
        self.sums.append(root.index)
        more = "_sum" * self.sums.count(root.index)
        total = self._array(root, "delta", guard, more)
        self._call(prod(root.shape), "add", [one, other, total], f"{total} = {one} + {other}", guard)
        self.deltas[root.index] = total

    # -- layers

    def _dense(self, index, node):
        (W, weights), (b, biases) = node.parameters["W"], node.parameters["b"]
        n, m = weights.shape
        x, y = self._value(node.x), self._array(node.y)
        start = f"theta[{_at(b, 'j')}]" if biases.size else "0.0"
        lines = [f"total = {start}", f"for k in range({m}):"]
        lines += [f"    total += theta[{_at(W, f'{m} * j + k')}] * {x}[k]", f"{y}[j] = total"]
        self._element(index, node, "forward", ["theta", x, y], lines, n, {"x": x, "y": y})

    def _dense_backward(self, index, node):
        (W, weights), (b, biases) = node.parameters["W"], node.parameters["b"]
        n, m = weights.shape
        x, dy = self._value(node.x), self._delta(node.y)
        lines = [f"for k in range({m}):", f"    dtheta[{_at(W, f'{m} * j + k')}] += {dy}[j] * {x}[k]"]
        arrays = {"x": x, "dy": dy}
        self._element(index, node, "backward_weight", [x, dy, "dtheta"], lines, n, arrays, "dtheta")
        if biases.size:
            line = f"dtheta[{_at(b, 'j')}] += {dy}[j]"
            self._element(index, node, "backward_bias", [dy, "dtheta"], [line], n, arrays, "dtheta")
        dx, guard, finish = self._contribute(node.x)
        lines = ["total = 0.0", f"for k in range({n}):"]
        lines += [f"    total += theta[{_at(W, f'{m} * k + j')}] * {dy}[k]", f"{dx}[j] = total"]
        self._element(index, node, "backward_input", ["theta", dy, dx], lines, m, {"dy": dy, "dx": dx}, guard)
        finish()

    def _formula(self, index, node):
        formula = node.layer.kernel("forward", node.x.shape)
        x, y = self._value(node.x), self._array(node.y)
        line = f"{y}[j] = {self._value_of(index, node, formula, 'formula', {'x': x})}"
        self._element(index, node, "forward", [x, y], [line], prod(node.y.shape), {"x": x, "y": y})

    def _formula_backward(self, index, node):
        formula = node.layer.kernel("backward_input", node.x.shape)
        taken = inspect.signature(formula.function).parameters
        arrays = {key: self._value(value) for key, value in (("x", node.x), ("y", node.y)) if key in taken}
        dy = self._delta(node.y)
        dx, guard, finish = self._contribute(node.x)
        line = f"{dx}[j] = {dy}[j] * {self._value_of(index, node, formula, 'derivative', arrays)}"
        all_names = {"x": self.names[Ref("value", self._root(node.x).index)], **arrays, "dy": dy, "dx": dx}
        given = [*arrays.values(), dy, dx]
        self._element(index, node, "backward_input", given, [line], prod(node.y.shape), all_names, guard)
        finish()

    def _value_of(self, index, node, formula, what, arrays):
        """Return the call of a formula for number j."""
        name, scalars = self._called(index, what), _scalars(node)
        self.formulas.append((name, formula))
        given = inspect.signature(formula.function).parameters
        return f"{name}({', '.join(f'{arrays[n]}[j]' if n in arrays else _literal(scalars[n]) for n in given)})"

    def _residual(self, index, node):
        x, skip, y = self._value(node.x), self._value(node.skip), self._array(node.y)
        line = f"{y}[j] = {x}[j] + {skip}[j]"
        arrays = {"x": x, "skip": skip, "y": y}
        self._element(index, node, "add", [x, skip, y], [line], prod(node.y.shape), arrays)

    def _residual_backward(self, index, node):
        """Pass the gradient on both ways; it is the first part of the one with respect to the skipped activation."""
        dy = self._delta(node.y)
        inside, skip = self._root(node.x), self._root(node.skip)
        for root in (inside, skip):
            if root.index in self.deltas:
                self._sum(root, self.deltas[root.index], dy, "dx" if root is self.graph.input else None)
            else:
                self.deltas[root.index] = dy

    def _softmax(self, index, node):
        (n,) = node.x.shape
        x, y = self._value(node.x), self._array(node.y)
        exponential, share = self._called(index, "exponential"), self._called(index, "share")
        self._define(exponential, ["j", "top", x, y], "", [f"{y}[j] = np.exp({x}[j] - top)"])
        self._define(share, ["j", "reciprocal", y], "", [f"{y}[j] = flush({y}[j] * reciprocal)"])
        lines = [f"top = {x}[0]", f"for k in range(1, {n}):", f"    if {x}[k] > top:", f"        top = {x}[k]"]
        lines += self._each(n, exponential, "top", x, y)
        lines += ["total = 0.0", f"for k in range({n}):", f"    total += {y}[k]"]
        lines += ["reciprocal = 1.0 / total", *self._each(n, share, "reciprocal", y)]
        self._whole(index, node, "forward", [x, y], lines, {"x": x, "y": y})

    def _softmax_backward(self, index, node):
        (n,) = node.x.shape
        y, dy = self._value(node.y), self._delta(node.y)
        dx, guard, finish = self._contribute(node.x)
        element = self._called(index, "difference")
        self._define(element, ["j", "mean", y, dy, dx], "", [f"{dx}[j] = {y}[j] * ({dy}[j] - mean)"])
        lines = ["mean = 0.0", f"for k in range({n}):", f"    mean += {dy}[k] * {y}[k]"]
        lines += self._each(n, element, "mean", y, dy, dx)
        x = self.names[Ref("value", self._root(node.x).index)]
        self._whole(index, node, "backward_input", [y, dy, dx], lines, {"x": x, "y": y, "dy": dy, "dx": dx}, guard)
        finish()

    def _layernorm(self, index, node):
        n, (gain, _), (offset, _) = prod(node.x.shape), node.parameters["gain"], node.parameters["offset"]
        x, y, statistics = self._value(node.x), self._array(node.y), f"statistics{self.numbers[index]}"
        share, epsilon, function = repr(1 / n), _literal(_scalars(node)["epsilon"]), self._called(index, "statistics")
        lines = ["total = 0.0", f"for k in range({n}):", f"    total += {x}[k]", f"mean = total * {share}"]
        lines += ["total = 0.0", f"for k in range({n}):", f"    total += ({x}[k] - mean) * ({x}[k] - mean)"]
        lines += [f"{statistics}[0] = mean", f"{statistics}[1] = 1.0 / np.sqrt(total * {share} + {epsilon})"]
        self._define(function, [x, statistics], "Mean and inverse deviation.", lines)
        self._add(f"{statistics} = cuda.local.array(2, real)")
        self._add(f"{function}({x}, {statistics})", "mean and inverse deviation")
        line = f"{y}[j] = theta[{_at(gain, 'j')}] * {_normal(x, statistics)} + theta[{_at(offset, 'j')}]"
        self._element(index, node, "forward", ["theta", statistics, x, y], [line], n, {"x": x, "y": y})

    def _layernorm_backward(self, index, node):
        n, (gain, _), (offset, _) = prod(node.x.shape), node.parameters["gain"], node.parameters["offset"]
        x, dy, statistics = self._value(node.x), self._delta(node.y), f"statistics{self.numbers[index]}"
        arrays = {"x": x, "y": self.names[Ref("value", node.y.index)], "dy": dy}
        lines = [f"dtheta[{_at(gain, 'j')}] += {dy}[j] * {_normal(x, statistics)}"]
        lines += [f"dtheta[{_at(offset, 'j')}] += {dy}[j]"]
        given = [statistics, x, dy, "dtheta"]
        self._element(index, node, "backward_parameters", given, lines, n, arrays, "dtheta")
        dx, guard, finish = self._contribute(node.x)
        element = self._called(index, "difference")
        line = f"{dx}[j] = {statistics}[1] * (theta[{_at(gain, 'j')}] * {dy}[j] - shift"
        line += f" - ({x}[j] - {statistics}[0]) * slope)"
        self._define(element, ["j", "theta", statistics, "shift", "slope", x, dy, dx], "", [line])
        lines = ["shift, slope = 0.0, 0.0", f"for k in range({n}):"]
        lines += [f"    g = theta[{_at(gain, 'k')}] * {dy}[k]", "    shift += g"]
        lines += [f"    slope += g * {_normal(x, statistics, 'k')}"]
        lines += [f"shift, slope = shift * {1 / n!r}, {statistics}[1] * (slope * {1 / n!r})"]
        lines += self._each(n, element, "theta", statistics, "shift", "slope", x, dy, dx)
        given = ["theta", statistics, x, dy, dx]
        self._whole(index, node, "backward_input", given, lines, arrays | {"dx": dx}, guard)
        finish()

    def _batchnorm(self, index, node):
        gain, offset, mean, inverse = self._running(node)
        x, y = self._value(node.x), self._array(node.y)
        line = f"{y}[j] = {gain} * {inverse} * ({x}[j] - {mean}) + {offset}"
        given = ["theta", "buffers", x, y]
        self._element(index, node, "forward", given, [line], prod(node.x.shape), {"x": x, "y": y})

    def _batchnorm_backward(self, index, node):
        gain, _, mean, inverse = self._running(node)
        x, dy, n = self._value(node.x), self._delta(node.y), prod(node.x.shape)
        places = {key: _at(node.parameters[key][0], "j") for key in ("gain", "offset")}
        arrays = {"x": x, "y": self.names[Ref("value", node.y.index)], "dy": dy}
        lines = [f"dtheta[{places['gain']}] += {dy}[j] * (({x}[j] - {mean}) * {inverse})"]
        lines += [f"dtheta[{places['offset']}] += {dy}[j]"]
        given = ["buffers", x, dy, "dtheta"]
        self._element(index, node, "backward_parameters", given, lines, n, arrays, "dtheta")
        dx, guard, finish = self._contribute(node.x)
        line = f"{dx}[j] = {gain} * {inverse} * {dy}[j]"
        given = ["theta", "buffers", dy, dx]
        self._element(index, node, "backward_input", given, [line], n, arrays | {"dx": dx}, guard)
        finish()

    def _running(self, node):
        """Return gain, offset, running mean and inverse deviation of channel j."""
        gain, offset = (f"theta[{_at(node.parameters[key][0], 'j')}]" for key in ("gain", "offset"))
        mean, variance = (f"buffers[{_at(node.buffers[f'running_{key}'][0], 'j')}]" for key in ("mean", "variance"))
        return gain, offset, mean, f"(1.0 / np.sqrt({variance} + {_literal(_scalars(node)['epsilon'])}))"


_COPY = "def copy(j, source, target):\n    target[j] = source[j]"
_ADD = "def add(j, one, other, total):\n    total[j] = one[j] + other[j]"


def _at(offset, place):
    return f"{offset} + {place}" if offset else place


def _normal(x, statistics, j="j"):
    return f"(({x}[{j}] - {statistics}[0]) * {statistics}[1])"


def _literal(value):
    """Write an option as an expression of the text."""
    return (
        f"np.{value}".replace("np.-", "-np.") if isinstance(value, float) and not math.isfinite(value) else repr(value)
    )


def _function(name, given, title, body):
    """Return the text of a function; consecutive lines with one guard are one block."""
    lines, former = [f"def {name}({', '.join(given)}):"], None
    if title:
        lines += wrapped(title, '    """', "    ")
        lines[-1] += '"""'
    rows = []
    for guard, line, comment in body:
        if guard != former and guard is not None:
            rows.append((f"    if {guard} is not None:", ""))
        former = guard
        rows.append((f"    {'    ' * (guard is not None)}{line}", comment))
    column = max([len(line) for line, comment in rows if comment and len(line) + len(comment) <= 112], default=0)
    for line, comment in rows:
        if comment and max(len(line), column) + len(comment) <= 116:
            lines.append(f"{line:<{column}}  # {comment}")
        else:
            indent = line[: len(line) - len(line.lstrip())]
            lines += [*([f"{indent}# {comment}"] if comment else []), line]
    return "\n".join(lines)
