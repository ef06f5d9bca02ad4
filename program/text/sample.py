"""The text of a function for one sample in one thread: `predict` or `vjp` of a tiny network, for a CUDA kernel.

Each layer has a function for one number of its output, or of its gradients; the text's own function calls them in
order. ``each(n, function, ...)`` is the loop ``for j in range(n): function(j, ...)``, unrolled, so that arrays of the
thread are registers. Dense layers of a network with many weights have loops all the same: an iteration writes the last
number of an array, or reads the first one, and all numbers of the array move by one place.

If the arrays are too many for registers, the text has loops and the arrays lie in the thread's memory, where an array
takes the place of one that is not read again. Then a fence before each layer of the backward pass, together with
``in_memory(...)``, lets the layer read its arrays again: otherwise a compiler would keep in registers what the forward
pass has read of all layers. All is that of prediction.
"""

import re
from math import prod

from ...errors import SpecError
from ...kernels.compiler.elementwise import Formula
from ...kernels.operations import Operation
from ..graph import Ref
from ..notation import call_name, equation, numbers, variables
from .lines import wrapped
from .sample_layers import LAYERS, scalars_of

WIDEST = 64  # numbers of an activation: the arrays of a thread lie in memory of a few kB, which the caches must hold
# Arrays are registers up to these sizes: numbers of an activation; bytes of activations that the way back reads, of the
# 1,020 in a thread's registers (the rest are gradients, addresses and intermediate numbers).
WIDTH, KEPT = 16, 512
# Parameters up to which dense layers are unrolled, too: the time to compile `vjp` grows faster than they do.
UNROLLED = 512
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
    text = _Text(graph, dtype, name, widest <= WIDTH)
    if text.registers and text.kept * dtype.itemsize > KEPT:
        text = _Text(graph, dtype, name, False)
    return text.source, text.formulas


# -- which networks ----------------------------------------------------------------------------------------------------


def check(graph, name):
    """Raise SpecError unless every layer has a form for one thread."""
    for node in graph.nodes:
        if form(node) is None:
            raise SpecError(
                f"device_function: {node.name} has no form for one thread; dense, formulas (activations), softmax,"
                " layernorm, batchnorm, dropout, augmentation (noise, ...), flatten, reshape, residual, embedding and"
                ' scales (standardize, ...) have; a network with device="cuda" computes every layer, with all threads'
            )
        if form(node) in ("softmax", "batchnorm", "scale", "unscale") and len(node.x.shape) > 1:
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
        return "formula" if set(kernel.scalars) <= set(scalars_of(node)) else None
    known = {"dense.forward": "dense", "softmax.forward": "softmax", "layernorm.forward": "layernorm"}
    known |= {"batchnorm.forward": "batchnorm", "dropout.forward": "alias"}
    known |= dict.fromkeys(("augment.flip", "augment.crop", "augment.rotate", "augment.noise"), "alias")
    known |= {"scale.forward": "scale", "scale.inverse": "unscale", "embedding.forward": "embedding"}
    return known.get(kernel.name) if isinstance(kernel, Operation) else None


def differentiable(node):
    """Return whether the derivatives of a node are those of its form."""
    layer = node.layer
    if node.skip is not None or layer.alias:
        return True
    forward, backward = (layer.kernel(name, node.x.shape) for name in ("forward", "backward_input"))
    if isinstance(forward, Formula):
        return isinstance(backward, Formula) and set(backward.scalars) <= set(scalars_of(node))
    others = [backward, *type(layer).gradients().values()]
    return all(isinstance(each, Operation) and each.file == forward.file for each in others)


# -- the text ----------------------------------------------------------------------------------------------------------


class _Text:
    """A function for one sample. `source` is its text, `formulas` are (name, Formula), `kept` counts numbers kept."""

    def __init__(self, graph, dtype, name, registers):
        self.graph, self.registers = graph, registers  # whether arrays of the thread are registers
        self.loops = registers and graph.size > UNROLLED  # whether dense layers have loops all the same
        self.names = variables(graph, len(graph.nodes), len(graph.nodes))
        self.numbers = [l for l, _ in numbers(graph)]
        self.same = {}  # the index of an activation -> the activation whose memory it is
        self.deltas = {}  # the index of an activation -> the array of its gradient, as far as it is summed
        self.functions, self.formulas = [], []
        self.read: set = set()  # the indices of the activations that a pass reads
        self.body: list = []  # (None or the argument that must be given, line, comment)
        self.sums: list = []  # the activations whose gradients have been added
        self.made: dict = {}  # the place of an array in the body -> its name, its numbers
        self.beside: dict = {}  # the place of a call in the body -> the arrays that it reads at j only
        listed = [key for key, *_ in arguments(graph, name)]
        self.add(f"expect({', '.join(listed)})")
        self.add(BARRIER, "so that loops around a call read theta again, rather than keep it in registers")
        self._copy("x", self.array(graph.input), prod(graph.input.shape))
        for index, node in enumerate(graph.nodes):
            if form(node) == "alias":
                self.same[node.y.index] = self.root(node.x)
            else:
                LAYERS[form(node)][0](self, index, node)
        if name == "vjp":  # dy is read first, since y may be written where it lies
            end = self.root(graph.output)
            self.deltas[end.index] = self.array(end, "delta")
            self._copy("dy", self.deltas[end.index], prod(end.shape))
        self._copy(self.value(graph.output), "y", prod(graph.output.shape))
        place = len(self.body)
        if name == "vjp":
            self._backward()
        if not self.registers:
            self._share()
            if self.deltas and self.read:
                read = ", ".join(self.names[Ref("value", index)] for index in sorted(self.read))
                self.body.insert(place, (None, f"in_memory({read})", "each layer reads them again, after its fence"))
        count = f"{graph.size} parameter{'s' * (graph.size != 1)}"
        self.functions.append(_function(name, listed, TITLES[name], self.body))
        self.source = "\n\n\n".join(
            [
                f'"""{name} of one sample in one thread: {count} in {dtype.name}."""',
                _COPY,
                *([_ADD] if self.sums else []),
                *([_MOVE] if self.loops else []),
                *self.functions,
            ]
        )
        self.source += "\n"

    def _backward(self):
        graph = self.graph
        self.read.clear()
        self.add(BARRIER, "as above: theta is read again")
        for index, node in reversed(list(enumerate(graph.nodes))):
            if form(node) != "alias":
                if not self.registers and self.body[-1][1] != BARRIER:
                    self.add(BARRIER)  # one layer's numbers at a time, so the registers do not grow with depth
                LAYERS[form(node)][1](self, index, node)
        self._copy(self.deltas[graph.input.index], "dx", prod(graph.input.shape), "dx")

    @property
    def kept(self):
        """The numbers of activations that the way back reads."""
        return sum(prod(self.graph.values[index].shape) for index in self.read) if self.deltas else 0

    def _share(self):
        """Let an array take the memory of one that is not read again: the caches hold the arrays of more threads."""
        used = [set(re.findall(r"\w+", line)) for _, line, _ in self.body]
        last = {name: place for place, names in enumerate(used) for name in names}
        held: dict = {}  # an array -> the numbers of its memory, as long as no other has taken it
        for place, (name, size) in self.made.items():
            first = next(p for p in range(place + 1, len(used)) if name in used[p])  # the call that computes it
            free = [n for n in held if held[n] >= size and last[n] < first + (n in self.beside.get(first, ()))]
            guard = self.body[place][0]
            if free:
                former = min(free, key=held.__getitem__)
                size = held.pop(former)
                self.body[place] = (guard, f"{name} = {former}", f"{former} is not read again")
            if guard is None:
                held[name] = size

    # -- pieces of it, for sample_layers.py

    def add(self, line, comment="", guard=None):
        """Add a line to the text's function; with a guard it runs if that argument is not None."""
        self.body.append((guard, line, comment))

    def root(self, value):
        """Return the activation whose memory an activation is."""
        return self.same.get(value.index, value)

    def array(self, value, kind="value", guard=None, more=""):
        """Make an array of the thread for an activation or its gradient; return its name."""
        name = self.names[Ref(kind, value.index)] + more
        self.made[len(self.body)] = name, prod(value.shape)
        self.add(f"{name} = cuda.local.array({prod(value.shape)}, real)", guard=guard)
        return name

    def value(self, value):
        """Return the array of an activation, which has been computed."""
        root = self.root(value)
        self.read.add(root.index)
        return self.names[Ref("value", root.index)]

    def delta(self, value):
        """Return the array of the gradient with respect to an activation, which has been summed."""
        return self.deltas[self.root(value).index]

    def each(self, count, function, *given):
        """Return the lines that call a function for each j."""
        if self.registers:
            return [f"each({count}, {', '.join([function, *given])})"]
        return [f"for j in range({count}):", f"    {', '.join([f'{function}(j', *given])})"]

    def _call(self, count, function, given, comment="", guard=None):
        *loop, call = self.each(count, function, *given)
        for line in loop:
            self.add(line, guard=guard)
        self.add(call, comment, guard)

    def _copy(self, source, target, count, guard=None):
        self._call(count, "copy", [source, target], guard=guard)

    def define(self, name, given, title, lines):
        """Add a function."""
        self.functions.append(_function(name, given, title, [(None, line, "") for line in lines]))

    def called(self, index, attribute):
        """Return the name of a layer's function."""
        return call_name(self.graph.nodes[index].kind, self.numbers[index], attribute)

    def _equation(self, index, node, attribute, arrays, given):
        """Return the equation of a call, and where its parameters are in the vectors given."""
        kernel = node.layer.kernel(attribute, node.x.shape) if node.skip is None else node.layer.add
        l, learned = self.numbers[index], [key for key, (_, p) in node.parameters.items() if p.size]
        names = {f"{d}{key}": f"{d}{key}{l}" for key in node.parameters for d in ("", "d")}
        names |= {key: f"{key}{l}" for key in node.buffers}
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

    def element(self, index, node, attribute, given, lines, count, arrays, guard=None, result=None, term=None):
        """Define a layer's function for number j, and call it for each j.

        In a loop the array `result`, written at j alone, or `term`, read at j alone, moves.
        """
        name, given = self.called(index, attribute), list(dict.fromkeys(given))
        written, places = self._equation(index, node, attribute, arrays, given)
        moved, end = result or term, count - 1
        moves = self.loops and moved is not None and end > 0
        if moves:
            lines = [line.replace(f"{moved}[j]", f"{moved}[{end if result else 0}]") for line in lines]
        self.define(name, ["j", *given], f"{written}{places and '; '}{places}.", lines)
        if moves:
            call, move = (f"{name}(j, {', '.join(given)})", written), (f"each({end}, move, {moved})", "")
            turn = [
                call,
                (f"first = {moved}[0]", ""),
                move,
                (f"{moved}[{end}] = first", f"{moved} has its order again"),
            ]
            self.add(f"for j in range({count}):", guard=guard)
            for line, comment in [move, call] if result else turn:
                self.add(f"    {line}", comment, guard)
        else:
            self._call(count, name, given, written, guard)
        code = "\n".join(lines)  # an array read at j only may be overwritten by this call
        self.beside[len(self.body) - 1] = {n for n in given if set(re.findall(rf"\b{n}\[(.*?)\]", code)) == {"j"}}

    def whole(self, index, node, attribute, given, lines, arrays, guard=None):
        """Define a layer's function for all of its numbers, and call it."""
        name = self.called(index, attribute)
        written, places = self._equation(index, node, attribute, arrays, given)
        self.define(name, given, f"{written}{places and '; '}{places}.", lines)
        self.add(f"{name}({', '.join(given)})", written, guard)

    def contribute(self, value):
        """Make the array for a gradient with respect to an activation; return its name, its guard, and what follows."""
        root = self.root(value)
        guard = "dx" if root is self.graph.input else None
        former = self.deltas.get(root.index)
        made = self.array(root, "delta", guard, "_inside" if former else "")
        self.deltas[root.index] = made

        def finish():
            if former is not None:
                self.sum(root, former, made, guard)

        return made, guard, finish

    def sum(self, root, one, other, guard):
        """Add two gradients with respect to an activation."""
        self.sums.append(root.index)
        more = "_sum" * self.sums.count(root.index)
        total = self.array(root, "delta", guard, more)
        self._call(prod(root.shape), "add", [one, other, total], f"{total} = {one} + {other}", guard)
        self.deltas[root.index] = total


_COPY = "def copy(j, source, target):\n    target[j] = source[j]"
_ADD = "def add(j, one, other, total):\n    total[j] = one[j] + other[j]"
_MOVE = """def move(j, array):
    \"\"\"Move a number to the place before it: a loop writes the next result last, or reads the next term first.\"\"\"
    array[j] = array[j + 1]"""


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
