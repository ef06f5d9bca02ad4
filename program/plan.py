"""The plan of a program: its kernel calls in order, and the place of every array.

Kernels are bound by the names of their arguments; from the same names follows how long an array must live (layout.py).
Functions make the plan, and its parts are named tuples: `writer`, `assemble` and `device` only read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.operations import operation
from ..registry import optimizers
from .duties import check_names
from .graph import COLUMNS, Graph, Ref, is_alias
from .layout import Layout, Log, Storage, layout, lifetimes, log, single_use, slot_of, storage
from .notation import call_name, equation, identifier, known_equation, name_of, numbers, variables
from .schedule import Shares, shares
from .slots import Binding, Slot, batch, fixed

RESERVED = ("s", "n0", "n1", "part", "parts")  # arguments that every call of the text has, or its kernel


class Task(NamedTuple):
    """The purpose of a program; see `Program`.

    Parameters
    ----------
    graph : Graph
    batch_size : int
    device, dtype : str
    backward : bool
        Whether deltas and gradients are computed.
    loss, loss_name, optimizer : Loss, str, Optimizer or None
        None: no training.
    labels : bool
        Whether targets are whole-number labels.
    clip : Clip or None
    norm : float
        The p of the logged norms.
    largest_norm : float
        The largest norm with which a step is taken.
    """

    graph: Graph
    batch_size: int
    device: str
    dtype: str
    backward: bool = False
    loss: Any = None
    loss_name: str = ""
    optimizer: Any = None
    labels: bool = False
    clip: Any = None
    norm: float = 2.0
    largest_norm: float = 0.0


@dataclass(frozen=True)
class Var:
    """A local variable of the program's text, plus a whole number, as a kernel argument.

    `kind` is int, float or bool.
    """

    name: str
    kind: type = int
    plus: int = 0

    def __post_init__(self):
        if not self.name.isidentifier():
            raise ValueError(f"a variable must be an identifier, got {self.name!r}")

    @property
    def text(self):
        return f"{self.name} + {self.plus}" if self.plus else self.name


class Call(NamedTuple):
    """One call of a kernel.

    Parameters
    ----------
    binding : Binding
    values : mapping
        Its arguments by name.
    equation : str
        The equation that it computes, with the lecture's number.
    node : int or None
        The number of its node in the graph.
    attribute : str
        Which of the node's kernels it is.
    split : bool
        Whether the kernel's own loop is divided into parts, on the whole batch; else it runs on blocks of samples.
    """

    binding: Binding
    values: Mapping
    equation: str = ""
    node: int | None = None
    attribute: str = ""
    split: bool = False


class CallList(NamedTuple):
    """A function of the text that is one list of calls.

    Parameters
    ----------
    name : str
    calls : tuple of Call
    split : bool
        As in `Call`.
    columns : bool
        Whether samples are columns: it is called tile by tile.
    loop : int
        The number of its loop over blocks: forward and backward pass of the last region are one.
    """

    name: str
    calls: tuple[Call, ...]
    split: bool = False
    columns: bool = False
    loop: int = 0


class Region(NamedTuple):
    """Consecutive nodes that run together on blocks of samples, or one node whose kernels run on the whole batch.

    In a region of `columns` samples are columns.
    """

    nodes: tuple[int, ...]
    whole_batch: bool
    columns: bool = False


class Plan(NamedTuple):
    """A program before it is written.

    Parameters
    ----------
    task : Task
    shares : Shares
        The division of a batch.
    log : Log
    names : mapping
        Ref or Slot -> variable name, also of arrays that no call names.
    bindings : mapping
        Name in the text -> Binding.
    flats : mapping
        Name -> Slot of theta, its gradient and the moments as whole arrays.
    forward, backward : tuple of CallList
        A function for each region; backward from the last region to the first, with the loss.
    gradients : CallList
        Those of the parameters, where samples are rows.
    exit, clear : tuple of Call
        Where samples are columns: the output gets rows; the gradient of a block is cleared before its first tile.
    mean_gradient, chunk_norm, update_chunk : tuple of Call
        The calls on a chunk of theta; the last two before and after the norm of the gradient is known.
    storage : Storage
    layout : Layout
    variables : mapping
        Ref or Slot -> variable name, of the arrays in the text, in the order of their first use.
    single_use : frozenset of Ref
        Arrays that need not be written if their writer and their reader are one kernel.
    """

    task: Task
    shares: Shares
    log: Log
    names: Mapping
    bindings: Mapping
    flats: Mapping
    forward: tuple[CallList, ...]
    backward: tuple[CallList, ...]
    gradients: CallList
    exit: tuple[Call, ...]
    clear: tuple[Call, ...]
    mean_gradient: tuple[Call, ...]
    chunk_norm: tuple[Call, ...]
    update_chunk: tuple[Call, ...]
    storage: Storage
    layout: Layout
    variables: Mapping
    single_use: frozenset

    @property
    def passes(self):
        """The functions of the passes through the network, those without calls left out."""
        return [each for each in (*self.forward, *self.backward, self.gradients) if each.calls]

    def calls(self):
        """Return all calls in the order of the text."""
        return [*(call for each in self.passes for call in each.calls),
                *self.exit, *self.clear, *self.mean_gradient, *self.chunk_norm, *self.update_chunk]  # fmt: skip

    def slot(self, ref):
        """Return the Slot of an array; None if the program does not have it."""
        return slot_of(self.task.graph, self.storage, self.layout, ref)


def make_plan(task):
    """Return the Plan of a task."""
    graph, training = task.graph, task.loss is not None
    whole = (task.backward and not training) or task.device == "cuda"
    division = shares(graph, task.batch_size, training, whole)
    regions = _regions(graph, division)
    flats = _flats(task)
    names = variables(graph, division.columns_from, [(slot, name) for name, slot in flats.items()])
    functions = _function_names(regions, graph, names, alone=not task.backward or training)
    store, columns = storage(graph), log(graph)
    calls = _Calls(task, names, store, division, {name for pair in functions for name in pair})

    forward = [
        CallList(name, tuple(calls.forward(region)), region.whole_batch, region.columns, loop)
        for loop, ((name, _), region) in enumerate(zip(functions, regions, strict=True))
    ]
    losses = calls.losses() if training else []
    deltas, gradients = calls.backward(regions) if task.backward else ([], [])
    backward: list[CallList] = []
    if task.backward:
        deltas[-1] = [*losses, *deltas[-1]]
        backward = [
            CallList(name, tuple(each), region.whole_batch, region.columns, len(regions) - 1 + k)
            for k, ((_, name), region, each) in enumerate(
                reversed([*zip(functions, regions, deltas, strict=True)])  # the last region is one loop, both ways
            )
        ]
    sums = CallList("gradients", tuple(gradients), True, loop=2 * len(regions))
    order = [(call, each.loop) for each in (*forward, *backward, sums) for call in each.calls]
    lives = lifetimes(graph, order, store, division, _always(task, store, calls), task.device)
    places = layout(graph, lives, task.batch_size, division, task.labels)
    calls.data()
    clear = (calls.clear(),) if training and calls.columns else ()
    mean, norm, update = calls.update(flats, columns, places.added) if training else ((), (), ())
    used = _used_names(calls, [*calls.exit, *clear, *(call for call, _ in order), *mean, *norm, *update])
    refs = [ref for ref in used if isinstance(ref, Ref)]
    return Plan(
        task, division, columns, names, calls.bindings, flats, tuple(forward), tuple(backward),
        sums, calls.exit, clear, mean, norm, update, store, places, used,
        frozenset(single_use(order, store, refs)),
    )  # fmt: skip


# -- the division into regions -----------------------------------------------------------------------------------------


def _regions(graph, division):
    """Divide a graph into regions; the last one runs on blocks.

    A layer that couples the batch, or a divided one, is a region. If a residual begins with it, it follows a region
    on blocks, even an empty one: there the residual's two deltas are added.
    """
    regions: list[tuple[list, bool]] = []
    starts = {node.start for node in graph.nodes if node.skip is not None}
    for index, node in enumerate(graph.nodes[: division.columns_from]):
        whole_batch = (node.layer.couples_batch or index in division.divided) and node.skip is None
        if whole_batch and index in starts and (not regions or regions[-1][1]):
            regions.append(([], False))
        if whole_batch or not regions or regions[-1][1]:
            regions.append(([], whole_batch))
        regions[-1][0].append(index)
    found = [Region(tuple(nodes), whole_batch) for nodes, whole_batch in regions]
    if division.narrow:
        return [*found, Region(tuple(range(division.columns_from, len(graph.nodes))), False, True)]
    return found if found and not found[-1].whole_batch else [*found, Region((), False)]


def _function_names(regions, graph, names, alone):
    """Return the names of each region's functions, forward and backward, by the activations between which it lies.

    A single region is `forward` and `backward`, if these names are its own (`alone`).
    """
    if len(regions) == 1 and alone:
        return [("forward", "backward")]
    found, taken, x = [], set(names.values()), name_of(names, graph.input)
    for region in regions:
        y = name_of(names, graph.nodes[region.nodes[-1]].y) if region.nodes else x
        pair = [f"forward_{x}_to_{y}", f"backward_{y}_to_{x}" if region.nodes else f"backward_{y}"]
        for k in range(2):
            while pair[k] in taken:
                pair[k] += "_"
            taken.add(pair[k])
        found.append(tuple(pair))
        x = y
    return found


# -- calls -------------------------------------------------------------------------------------------------------------


class _Calls:
    """Makes the calls of a plan, and collects their bindings, each with a name that nothing else has."""

    def __init__(self, task, names, store, division, functions):
        self.task, self.graph, self.names, self.store = task, task.graph, names, store
        self.division, self.columns = division, division.narrow is not None
        self.bindings: dict = {}
        self._taken, self._numbers = {*names.values(), *functions}, numbers(task.graph)
        self.exit = (self._turn("value", self.graph.output, "to_rows"),) if self.columns else ()

    def call(self, name, title, kernel, values, equation="", **more):
        """Return a call of a kernel, its numbers bound; `more` as in `Call`."""
        for argument in kernel.arguments:
            if argument in RESERVED:
                raise NnjitError(f"{title}: a kernel argument cannot be called {argument!r}, a name of the program")
        values = {k: values[k] for k in kernel.arguments}
        options = {k: v for k, v in values.items() if isinstance(v, (bool, int, float, tuple))}
        while name in self.bindings or name in self._taken:
            name += "_"
        self.bindings[name] = Binding(name, title, kernel, options, self.division.parts if more.get("split") else None)
        return Call(self.bindings[name], values, equation, **more)

    @staticmethod
    def _ref(kind, value, columns):
        return Ref(COLUMNS[kind] if columns else kind, value.index)

    def _of_node(self, index, attribute, suffix="", split=False):
        """Return the call of one of a node's kernels, its arguments bound by name."""
        node, columns = self.graph.nodes[index], index >= self.division.columns_from
        shape = node.x.shape
        kernel = (node.layer.column_kernel if columns else node.layer.kernel)(attribute, shape)
        known: dict = {"x": self._ref("value", node.x, columns), "y": self._ref("value", node.y, columns)}
        known |= {"dx": self._ref("delta", node.x, columns), "dy": self._ref("delta", node.y, columns)}
        for name, (offset, parameter) in node.parameters.items():
            known[name] = fixed("theta", offset, parameter.shape)
            gradient = Ref("gradient", (index, name)) if columns else fixed("gradient", offset, parameter.shape)
            known["d" + name] = gradient
        for name, (offset, parameter) in node.buffers.items():
            known[name] = fixed("buffers", offset, parameter.shape)
        for name in node.layer.scratch(shape):
            known[name] = Ref("scratch", (index, name))
            known["d" + name] = Ref("dscratch", (index, name))
        names = {key: self.names[value] for key, value in known.items()}
        known |= node.layer.scalars(shape)
        known |= {"training": Var("training", bool), "seed": Var("seed", plus=index + 1), "first": Var("n0")}
        check_names(node.name, attribute, kernel, known)
        parameters = [name for name, (_, parameter) in node.parameters.items() if parameter.size]
        text = equation(identifier(node.kind), attribute, kernel, names, parameters) + suffix
        return self._node_call(index, attribute, kernel, known, text, split=split)

    def _node_call(self, index, attribute, kernel, values, text, split=False):
        kind = self.graph.nodes[index].kind
        name = call_name(kind, self._numbers[index][0], attribute)
        title = identifier(f"{kind}_{attribute}")
        return self.call(name, title, kernel, values, text, node=index, attribute=attribute, split=split)

    def forward(self, region):
        """Yield the calls of a region's forward pass."""
        if region.columns:
            yield self._turn("value", self.graph.nodes[region.nodes[0]].x, "of_rows")
        for index in region.nodes:
            node = self.graph.nodes[index]
            if node.skip is not None:
                values = {"x": node.x, "skip": node.skip, "y": node.y}
                values = {key: self._ref("value", value, region.columns) for key, value in values.items()}
                yield self._add(index, values, "add")
            elif not is_alias(node):
                yield self._of_node(index, "forward", split=region.whole_batch)

    def _add(self, index, values, attribute, suffix=""):
        """Return the sum of a residual: of its values, or of the two deltas where it begins."""
        x, skip, y = (self.names[values[key]] for key in ("x", "skip", "y"))
        kernel = self.graph.nodes[index].layer.add
        return self._node_call(index, attribute, kernel, values, f"{y} = {x} + {skip}{suffix}")

    def _turn(self, kind, value, name):
        """Return the call that turns samples into columns, or back into rows."""
        rows, columns = (self._ref(kind, value, as_columns) for as_columns in (False, True))
        x, y = (rows, columns) if name == "of_rows" else (columns, rows)
        text = f"{self.names[y]} = {self.names[x]}, samples as {'columns' if name == 'of_rows' else 'rows'}"
        kernel = operation("columns.transpose", form="matrix")
        return self.call(f"{self.names[columns]}_{name}", "columns_transpose", kernel, {"x": x, "y": y}, text)

    def losses(self):
        """Return the calls of the loss and its gradient."""
        loss, suffix = self.task.loss, "_labels" if self.task.labels else ""
        attributes, output = ("forward", "backward"), self.graph.output
        kernels = [loss.columns.get(each + suffix) if self.columns else None for each in attributes]
        turned = self.columns and None in kernels  # the loss takes rows only
        if None in kernels:
            kernels = [getattr(loss, each + suffix) for each in attributes]
        as_columns = self.columns and not turned
        values = {"y": self._ref("value", output, as_columns), "dy": self._ref("delta", output, as_columns)}
        values |= {"target": Ref("target", None), "loss": Ref("loss", None), **_numbers_of(loss)}
        kind = identifier(self.task.loss_name)
        names = {k: self.names[v] for k, v in values.items() if isinstance(v, Ref)}
        general = f"C_i = {kind}({names['y']}, t)", f"{names['dy']} = dC_i/d{names['y']}"
        found = [*self.exit] if turned else []
        for attribute, kernel, text, number in zip(attributes, kernels, general, (1, 2), strict=True):
            name, text = f"{kind}_{attribute}", f"{known_equation(kernel, names) or text}  ({number})"
            found.append(self.call(name, name, kernel, values, text, attribute=attribute))
        return [*found, self._turn("delta", output, "of_rows")] if turned else found

    def _needs_delta(self):
        """Return the values whose deltas are needed: a parameter is before them (or all, for Network.backward)."""
        needed = set() if self.task.loss is not None else {0}
        for node in self.graph.nodes:
            if node.parameters or node.x.index in needed or (node.skip is not None and node.skip.index in needed):
                needed.add(node.y.index)
        return needed

    def backward(self, regions):
        """Return the calls that compute deltas, for each region, and those of the parameters' gradients."""
        needed = self._needs_delta()
        gradients: list[Call] = []
        found: list[list] = [[] for _ in regions]
        for k in reversed(range(len(regions))):
            region = regions[k]
            for index in reversed(region.nodes):
                node = self.graph.nodes[index]
                if node.y.index not in needed:
                    continue
                if node.skip is None and not is_alias(node):
                    (found[k] if region.columns else gradients).extend(self._gradients(index, node, not region.columns))
                    if node.x.index in needed:
                        found[k].append(self._backward_input(index, node, region.whole_batch))
                for end, other in enumerate(self.graph.nodes):  # where a residual begins, the deltas of both ways meet
                    if other.skip is not None and other.start == index and other.skip.index in needed:
                        # Two loops that are divided alike may not follow each other without a barrier.
                        found[k - 1 if region.whole_batch else k].append(self._add_deltas(end, other, region.columns))
            if region.columns and (value := self.graph.nodes[region.nodes[0]].x).index in needed:
                found[k].append(self._turn("delta", value, "to_rows"))
        return found, gradients

    def _add_deltas(self, end, node, columns):
        dx, dy = (self._ref("delta", value, columns) for value in (node.skip, node.y))
        branch = dy if self.store.is_double(node) else dx
        return self._add(end, {"x": branch, "skip": dy, "y": dx}, "backward_add", "  (3)")

    def _backward_input(self, index, node, split):
        if node.layer.backward_input is None:
            raise NnjitError(f"{node.name}: the layer has no backward_input, so nothing before it can be trained")
        last = node.y is self.graph.output and isinstance(node.layer.forward, Formula)
        number = "  (2)" if last and self.task.loss is not None else "  (3)"
        return self._of_node(index, "backward_input", number, split)

    def _gradients(self, index, node, split):
        for attribute in type(node.layer).gradients():
            arguments = getattr(node.layer, attribute).arguments
            written = [k for k in arguments if k[:1] == "d" and k[1:] in node.parameters]
            if any(node.parameters[k[1:]][1].size for k in written):
                number = "  (4)" if written == ["db"] else "  (5)"
                yield self._of_node(index, attribute, number, split)

    def data(self):
        """Bind the kernels that bring samples into the batch and results out of it."""
        for name in ("batch_gather", "batch_copy", "batch_put"):
            self.bindings[name] = Binding(name, name, operation(name.replace("_", "."), form="flat"))

    def clear(self):
        """Return the call that clears the gradient of a block of samples."""
        values = {"gradient": Ref("gradient", None)}
        return self.call("clear_gradient", "columns_clear", operation("columns.clear"), values)

    def update(self, flats, columns, added):
        """Return the calls on a chunk of theta: mean, norm, and, once the norm is known, the update.

        From number `added` of theta on gradients are added from those of blocks.
        """
        task, optimizer, p = self.task, self.task.optimizer, self.task.norm
        g, scale = flats["gradient"], operation("norm.scale")
        sums = fixed("log", columns.sums, (max(columns.chunks, 1),))
        self.names = {**self.names, sums: "sums"}
        mean = []
        if self.columns and self.division.narrow.blocks > 1:
            values = {"gradients": Ref("gradients", None), "count": Var("used"), "gradient": g}
            values["first"] = Var("first" if added else "lo")
            add = operation("columns.add_blocks")
            mean.append(self.call("add_gradients", "columns_add_blocks", add, values, "gradient = sum of the blocks'"))
        if task.batch_size > 1:
            text = "gradient = gradient / N: 1/N of (4) and (5)"
            mean.append(self.call("mean_gradient", "norm_scale", scale, {"g": g, "factor": Var("share", float)}, text))
        share = "max |gradient|" if p == float("inf") else f"sum |gradient|^{p:g}"
        values = {"g": g, "sums": sums, "index": Var("c"), "p": p}
        norm = self.call("norm_partial", "norm_partial", operation("norm.partial"), values, f"sums[c] = {share}")
        after = []
        if task.clip is not None:
            values = {"g": g, "factor": Var("clip", float)}
            after.append(self.call("clip_gradient", "norm_scale", scale, values, "gradient = clip gradient"))
        known = {**flats, **_numbers_of(optimizer), "rate": Var("rate", float), "step": Var("steps", plus=1)}
        check_names("optimizer", "update", optimizer.update, known)
        names = {name: name for name in flats}
        kind = identifier(optimizers.name_of(type(optimizer)))
        text = known_equation(optimizer.update, names) or f"theta = {kind}(theta, gradient, eta)"
        after.append(self.call("update", "update", optimizer.update, known, text))
        return tuple(mean), (norm,), tuple(after)


def _numbers_of(options):
    """Return the options that a kernel can take."""
    return {k: v for k, v in options.options().items() if isinstance(v, (bool, int, float))}


def _flats(task):
    """Return theta, its gradient and the moments as whole arrays, by name."""
    if task.optimizer is None:
        return {}
    found = {"theta": batch("theta", 0, ()), "gradient": batch("gradient", 0, ())}
    return found | {name: batch("moments", k * task.graph.size, ()) for k, name in enumerate(task.optimizer.moments)}


# -- lives and names ---------------------------------------------------------------------------------------------------


def _always(task, store, calls):
    """Return the arrays that live as long as the batch: input, target, losses, output and its delta."""
    output = task.graph.output.index
    found = {Ref("value", 0), Ref("target", None), Ref("loss", None), store.of(Ref("value", output))}
    if task.backward and not calls.columns:
        found.add(store.of(Ref("delta", output)))
        if task.loss is None:
            found.add(store.of(Ref("delta", 0)))
    return found


def _used_names(made, calls):
    """Return array -> variable of those that the text names, in the order of their first use; `made` named them."""
    names, x, y = made.names, Ref("value", 0), Ref("value", made.graph.output.index)
    found: dict[Ref | Slot, str] = {x: names[x]}
    for call in calls:
        for value in call.values.values():
            if isinstance(value, (Ref, Slot)):
                found.setdefault(value, names[value])
    return {**found, y: names[y]}
