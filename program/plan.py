"""The plan of a program: which kernels run in which order, and where every array lives.

Kernels are bound by the names of their arguments. From the same names follows how long an array must live: one that
no later phase names shares its memory with others.
"""

from collections import Counter
from dataclasses import dataclass, field
from dataclasses import replace as with_
from math import prod

import numpy as np
from numba import config

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.counters import HEAD
from ..kernels.operations import operation
from ..registry import optimizers
from . import schedule
from .duties import check_names
from .graph import Ref, is_alias
from .notation import call_name, equation, identifier, known_equation, numbers, variables
from .slots import Binding, Scratch, Slot, block, part, rows

LINE = 16  # arrays begin at multiples of this many numbers, so that vectors do not cross cache lines


@dataclass(frozen=True)
class Var:
    """A variable of the program's text, plus a whole number, as a kernel argument; `kind` is int, float or bool."""

    name: str
    kind: type = int
    plus: int = 0

    @property
    def text(self):
        return f"{self.name} + {self.plus}" if self.plus else self.name


@dataclass
class Call:
    """One call of a kernel.

    Parameters
    ----------
    binding : Binding
    values : dict
        Its arguments by name.
    equation : str
        What it computes, with the lecture's number.
    node : int or None
        The graph's node that it is for.
    attribute : str
        Which of the node's kernels it is.
    split : bool
        Whether the kernel's own loop is divided into parts, on the whole batch; else it runs on blocks of samples.
    when : str
        A condition in the text, or "".
    """

    binding: Binding
    values: dict
    equation: str = ""
    node: int | None = None
    attribute: str = ""
    split: bool = False
    when: str = ""


@dataclass
class Region:
    """Nodes that run together: on blocks of samples, or (coupled) one layer, divided by itself, on the whole batch."""

    nodes: list
    coupled: bool
    forward: list = field(default_factory=list)
    backward: list = field(default_factory=list)


@dataclass(frozen=True)
class CallList:
    """A function of the text that is one list of calls; `split` as in `Call`."""

    name: str
    calls: list
    split: bool = False


class Plan:
    """See the module's docstring. `program` gives the network, loss, optimizer and batch size."""

    def __init__(self, program):
        self.program, self.graph = program, program.network.graph
        self.N = program.batch_size
        self.bindings = {}
        self.flats = self._flats()
        self.names = variables(self.graph, [(slot, name) for name, slot in self.flats.items()])
        self._taken, self._numbers = set(self.names.values()), numbers(self.graph)
        self.segments = [
            (node.name, *_extent(node)) for node in self.graph.nodes if any(p.size for _, p in node.parameters.values())
        ]
        training = program.loss is not None
        # Network.forward and backward, called from Python, are one block; on CUDA the device divides the work itself.
        single = (program.backward and not training) or program.device == "cuda"
        self.blocks = 1 if single else schedule.blocks(self.graph, self.N)
        self.samples = -(-self.N // self.blocks)  # of a block
        self.workers = min(self.blocks, config.NUMBA_NUM_THREADS)
        self.parts = 1 if single else schedule.parts(self.graph, self.N)
        self.inline = training and not single and schedule.inline(self.graph, self.N)
        alone = set() if single else schedule.divided(self.graph, self.N)
        self.regions = _regions(self.graph, alone)
        self._shared()
        self.learned = self._which_need_gradients()
        self.gradients = []
        self._forward()
        if training:
            self._loss()
        if program.backward:
            self._backward()
        self.slots = self._layout()
        self._data()
        self.chunk_norm, self.update_chunk = self._update() if training else ([], [])
        self.variables = self._used_names()

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, name, title, kernel, values, equation="", **more):
        """A call of a kernel, its numbers bound; `more` as in `Call`."""
        for argument in kernel.arguments:
            if argument in ("s", "n0", "n1", "part", "parts"):
                raise NnjitError(f"{title}: a kernel argument cannot be called {argument!r}, a name of the program")
        values = {k: values[k] for k in kernel.arguments}
        options = {k: v for k, v in values.items() if isinstance(v, (bool, int, float, tuple))}
        binding = Binding(name, title, kernel, options, self.parts if more.get("split") else None)
        while binding.name in self.bindings or binding.name in self._taken:
            binding.name += "_"
        self.bindings[binding.name] = binding
        return Call(binding, values, equation, **more)

    def _of_node(self, index, attribute, suffix="", split=False):
        """The call of one of a node's kernels, its arguments bound by name."""
        node = self.graph.nodes[index]
        shape = node.x.shape
        kernel = node.layer.kernel(attribute, shape)
        known = {"x": Ref("value", node.x.index), "y": Ref("value", node.y.index)}
        known |= {"dx": Ref("delta", node.x.index), "dy": Ref("delta", node.y.index)}
        for name, (offset, parameter) in node.parameters.items():
            known[name] = part("theta", offset, parameter.shape)
            known["d" + name] = part("gradient", offset, parameter.shape)
        for name, (offset, parameter) in node.buffers.items():
            known[name] = part("buffers", offset, parameter.shape)
        for name in node.layer.scratch(shape):
            known[name] = Ref("scratch", (index, name))
            known["d" + name] = Ref("dscratch", (index, name))
        names = {key: self.names[value] for key, value in known.items()}
        known |= node.layer.scalars(shape)
        known |= {"training": Var("training", bool), "seed": Var("seed", plus=index + 1), "first": Var("n0")}
        check_names(node.name, attribute, kernel, known)
        learned = [name for name, (_, parameter) in node.parameters.items() if parameter.size]
        text = equation(identifier(node.kind), attribute, kernel, names, learned) + suffix
        return self._node_call(index, attribute, kernel, known, text, split=split)

    def _node_call(self, index, attribute, kernel, values, text, split=False):
        kind = self.graph.nodes[index].kind
        name = call_name(kind, self._numbers[index][0], attribute)
        title = identifier(f"{kind}_{attribute}")
        return self.call(name, title, kernel, values, text, node=index, attribute=attribute, split=split)

    def _forward(self):
        for region in self.regions:
            for index in region.nodes:
                node = self.graph.nodes[index]
                if node.skip is not None:
                    values = {"x": Ref("value", node.x.index), "skip": Ref("value", node.skip.index)}
                    values["y"] = Ref("value", node.y.index)
                    region.forward.append(self._add(index, values, "add"))
                elif not is_alias(node):
                    region.forward.append(self._of_node(index, "forward", split=region.coupled))

    def _add(self, index, values, of, suffix=""):
        """The sum of a residual: of its values, or of the two deltas where it begins."""
        x, skip, y = (self.names[values[key]] for key in ("x", "skip", "y"))
        return self._node_call(index, of, self.graph.nodes[index].layer.add, values, f"{y} = {x} + {skip}{suffix}")

    def _loss(self):
        program, region = self.program, self.regions[-1]
        loss, suffix = program.loss, "_labels" if program.labels else ""
        output = self.graph.output.index
        target = Ref("target", None)
        values = {"y": Ref("value", output), "dy": Ref("delta", output), "target": target, "loss": Ref("loss", None)}
        values |= {k: v for k, v in loss.options().items() if isinstance(v, (bool, int, float))}
        kind = identifier(program.loss_name)
        names = {k: self.names[v] for k, v in values.items() if isinstance(v, Ref)}
        general = f"C_i = {kind}({names['y']}, t)", f"{names['dy']} = dC_i/d{names['y']}"
        for attribute, text, number in zip(("forward", "backward"), general, (1, 2), strict=True):
            kernel, name = getattr(loss, attribute + suffix), f"{kind}_{attribute}"
            text = f"{known_equation(kernel, names) or text}  ({number})"
            region.backward.append(self.call(name, name, kernel, values, text, attribute=attribute))

    def _which_need_gradients(self):
        """Values before which something is learned (or all, for Network.backward): their deltas are needed."""
        needed = set() if self.program.loss is not None else {0}
        for node in self.graph.nodes:
            if node.parameters or node.x.index in needed or (node.skip is not None and node.skip.index in needed):
                needed.add(node.y.index)
        return needed

    def _backward(self):
        for region, before in zip(reversed(self.regions), [*reversed(self.regions[:-1]), None], strict=True):
            for index in reversed(region.nodes):
                node = self.graph.nodes[index]
                if node.y.index not in self.learned:
                    continue
                if node.skip is None and not is_alias(node):
                    self._backward_of(index, node, region)
                for end, other in enumerate(self.graph.nodes):  # where a residual begins, the deltas of both ways meet
                    if other.skip is not None and other.start == index and other.skip.index in self.learned:
                        dx, dy = Ref("delta", other.skip.index), Ref("delta", other.y.index)
                        branch = dy if self._doubles(other) else dx
                        values = {"x": branch, "skip": dy, "y": dx}
                        # Two loops that are parted alike may not follow each other without a barrier.
                        where = before if region.coupled else region
                        where.backward.append(self._add(end, values, "backward_add", "  (3)"))

    def _backward_of(self, index, node, region):
        if node.x.index in self.learned:
            if node.layer.backward_input is None:
                raise NnjitError(f"{node.name}: the layer has no backward_input, so nothing before it can be trained")
            last = node.y is self.graph.output and isinstance(node.layer.forward, Formula)
            number = "  (2)" if last and self.program.loss is not None else "  (3)"
            region.backward.append(self._of_node(index, "backward_input", number, region.coupled))
        for attribute in type(node.layer).gradients():
            written = [k for k in getattr(node.layer, attribute).arguments if k[:1] == "d" and k[1:] in node.parameters]
            if all(node.parameters[k[1:]][1].size == 0 for k in written):
                continue
            number = "  (4)" if written == ["db"] else "  (5)"
            self.gradients.append(self._of_node(index, attribute, number, True))

    def _flats(self):
        """theta, its gradient and the moments as whole arrays, by name."""
        optimizer, S = self.program.optimizer, self.program.network.theta.size
        if optimizer is None:
            return {}
        found = {"theta": rows("theta", 0, ()), "gradient": rows("gradient", 0, ())}
        return found | {name: rows("moments", k * S, ()) for k, name in enumerate(optimizer.moments)}

    def _data(self):
        """Bind what brings samples into the batch and results out of it."""
        for name in ("batch_gather", "batch_copy", "batch_put"):
            self.bindings[name] = Binding(name, name, operation(name.replace("_", "."), form="flat"))

    def _update(self):
        """The calls on a chunk of theta: those before its norm is known, and those after."""
        optimizer, p = self.program.optimizer, self.program.norm
        known = dict(self.flats)
        known |= {k: v for k, v in optimizer.options().items() if isinstance(v, (bool, int, float))}
        known |= {"rate": Var("rate", float), "step": Var("steps", plus=1)}
        sums = part("log", self.sums, (max(self.first_chunk[-1], 1),))
        self.names[sums] = "sums"
        g, scale = self.flats["gradient"], operation("norm.scale")
        mean = {"g": g, "factor": Var("1.0 / N", float)}
        text = "gradient = gradient / N: 1/N of (4) and (5)"
        before = [self.call("mean_gradient", "norm_scale", scale, mean, text, when="N > 1")] if self.N > 1 else []
        share = "max |gradient|" if p == float("inf") else f"sum |gradient|^{p:g}"
        norm = {"g": g, "sums": sums, "index": Var("c"), "p": p}
        before.append(self.call("norm_partial", "norm_partial", operation("norm.partial"), norm, f"sums[c] = {share}"))
        factor = {"g": g, "factor": Var("clip", float)}
        after = []
        if self.program.clip is not None:
            after.append(self.call("clip_gradient", "norm_scale", scale, factor, "gradient = clip gradient"))
        check_names("optimizer", "update", optimizer.update, known)
        names = {name: name for name in self.flats}
        kind = identifier(optimizers.name_of(type(optimizer)))
        text = known_equation(optimizer.update, names) or f"theta = {kind}(theta, gradient, eta)"
        after.append(self.call("update", "update", optimizer.update, known, text))
        return before, after

    def forward_lists(self):
        """The forward pass: a function for each region."""
        regions = enumerate(self.regions, start=1)
        return [CallList(f"forward_{i}", region.forward, region.coupled) for i, region in regions]

    def backward_lists(self):
        """The backward pass: a function for each region, from the last to the first, and the gradients."""
        regions = reversed(list(enumerate(self.regions, start=1)))
        found = [CallList(f"backward_{i}", region.backward, region.coupled) for i, region in regions]
        return [*found, CallList("gradients", self.gradients, True)]

    def lists(self):
        """Every function of the text that is one list of calls, in the text's order."""
        found = self.forward_lists()
        if self.program.backward:
            found += self.backward_lists()
        if self.program.loss is not None:
            found += [CallList("chunk_norm", self.chunk_norm), CallList("update_chunk", self.update_chunk)]
        return found

    def calls(self):
        """All calls of `lists`."""
        return [call for each in self.lists() for call in each.calls]

    def _used_names(self):
        """Array -> variable of those that the text names, in the order of their first use."""
        found = {Ref("value", 0): self.names[Ref("value", 0)]}
        for call in self.calls():
            for value in call.values.values():
                if isinstance(value, (Ref, Slot)):
                    found.setdefault(value, self.names[value])
        output = Ref("value", self.graph.output.index)
        return {**found, output: self.names[output]}

    # -- memory ------------------------------------------------------------------------------------------------------

    def _root(self, ref):
        """What an array shares its memory with: a flatten has its input's, a residual's branch the delta of the sum."""
        if ref.kind not in ("value", "delta"):
            return ref
        key = self.originals[ref.key]
        while ref.kind == "delta" and key in self.ends:
            key = self.ends[key]
        return Ref(ref.kind, key)

    def _shared(self):
        """Value -> the one it only names anew, and end of a residual's branch -> the sum, for `_root`."""
        self.originals, self.ends = {0: 0}, {}
        for node in self.graph.nodes:
            self.originals[node.y.index] = self.originals[node.x.index] if is_alias(node) else node.y.index
            if node.skip is not None and not self._doubles(node):
                self.ends[self.originals[node.x.index]] = node.y.index

    def _doubles(self, node):
        """Whether a residual's sum is x + x: nothing but aliases inside."""
        return self.originals[node.x.index] == self.originals[node.skip.index]

    def _shape(self, ref):
        """Shape of an array, and whether it has one row a sample."""
        if ref.kind in ("value", "delta"):
            return self.graph.values[ref.key].shape, True
        if ref.kind == "loss":
            return (), True
        if ref.kind == "target":
            return self.graph.output.shape, True
        index, name = ref.key
        node = self.graph.nodes[index]
        shape = tuple(node.layer.scratch(node.x.shape)[name])
        if shape[:1] == ("N",):
            return shape[1:], True
        if not node.layer.couples_batch:
            raise NnjitError(f"{node.name}: scratch {name!r} must begin with 'N': blocks of samples run at once")
        return shape, False

    def _in_order(self):
        """All calls before the update, each with the number of the loop over blocks that it is in.

        The last region's forward and backward pass are one loop.
        """
        count = len(self.regions)
        calls = [(call, k) for k, region in enumerate(self.regions) for call in region.forward]
        for k in range(count):
            calls += [(call, count - 1 + k) for call in self.regions[count - 1 - k].backward]
        return calls + [(call, 2 * count) for call in self.gradients]

    def _layout(self):
        """Slots of all arrays in the arena."""
        always = {Ref("value", 0), Ref("target", None), Ref("loss", None)}
        always |= {self._root(Ref("value", self.graph.output.index))}
        if self.program.backward:
            always |= {self._root(Ref("delta", self.graph.output.index))}
            always |= {self._root(Ref("delta", 0))} if self.program.loss is None else set()
        lives, loops, kept, before = {}, {}, set(), 0
        calls = self._in_order()
        for time, (call, loop) in enumerate(calls):
            # On CUDA a formula may be fused with the call before it, which then writes what the formula would.
            early = self.program.device == "cuda" and isinstance(call.binding.kernel, Formula)
            begin, before = (time - 1, before) if early else (time, loop), loop
            for value in call.values.values():
                if isinstance(value, Ref):
                    root = self._root(value)
                    lives[root] = (lives.get(root, begin)[0], time)
                    loops[root] = (loops[root][0] if root in loops else begin[1], loop)
                    if call.split or not self._shape(root)[1]:
                        kept.add(root)
        if self.blocks > 1:  # scratch memory is for one loop
            kept |= {root for root, (first, last) in loops.items() if first < last}
        for ref in always:
            if ref in lives or ref.kind in ("value", "delta"):
                kept.add(ref)
                loops[ref] = (0, len(calls))
        places, whole = {}, {}
        for ref in kept:
            shape, by_row = self._shape(ref)
            if ref.kind == "target" and self.program.labels:
                places[ref] = rows("counters", self._counters(), ())
            else:
                whole[ref] = (loops[ref], _up((self.N if by_row else 1) * prod(shape)))
        size, found = _pack(whole)
        for ref, at in found.items():
            shape, by_row = self._shape(ref)
            places[ref] = (rows if by_row else part)("arena", at, shape)
        width, local = _pack({r: (lives[r], _up(prod(self._shape(r)[0]))) for r in lives if r not in kept})
        scratch = Scratch(size, width * self.samples, self.samples, self.workers)
        for ref, at in local.items():
            places[ref] = block(scratch, at, self._shape(ref)[0])
        self.scratch = scratch
        self.arena_size = size + scratch.size * scratch.workers
        self.counters_size = self._counters() + self.N
        chunks = [-(-(hi - lo) // self.chunk) for _, lo, hi in self.segments]
        self.first_chunk = [0, *np.cumsum(chunks, dtype=int).tolist()]
        self.log_width = 3 + len(self.segments)
        self.sums = self.log_rows * self.log_width
        self.log_size = self.sums + max(self.first_chunk[-1], 1)
        return places

    def passing(self):
        """Arrays that one call writes and one other reads, and no more: a fused kernel need not write them."""
        named = Counter(self._root(v) for call, _ in self._in_order() for v in call.values.values() if type(v) is Ref)
        kinds = ("value", "delta")
        refs = [v for v in self.variables if type(v) is Ref and v.kind in kinds]
        return {ref for ref in refs if named[self._root(ref)] == 2}

    chunk = 4096  # numbers of theta that one iteration of the update owns
    log_rows = 1024  # rows of State.log before it wraps around

    def _counters(self):
        """Where the batch's labels begin in State.counters."""
        return HEAD + self.N

    def slot(self, ref):
        """Where an array lives; None if the program does not have it."""
        root = self._root(ref)
        if root not in self.slots:
            return None
        slot = self.slots[root]
        return slot if ref.kind in ("loss", "target") or ref == root else with_(slot, shape=self._shape(ref)[0])


def _extent(node):
    """First and last place of a node's parameters in theta."""
    offsets = [(offset, offset + p.size) for offset, p in node.parameters.values()]
    return min(o[0] for o in offsets), max(o[1] for o in offsets)


def _regions(graph, alone):
    """Batch-coupled layers and those of `alone` are regions of their own; the last one works on blocks, for the loss.

    One with which a residual begins follows a region on blocks, even an empty one: there the two deltas are added.
    """
    regions, starts = [], {node.start for node in graph.nodes if node.skip is not None}
    for index, node in enumerate(graph.nodes):
        coupled = (node.layer.couples_batch or index in alone) and node.skip is None
        if coupled and index in starts and (not regions or regions[-1].coupled):
            regions.append(Region([], False))
        if coupled or not regions or regions[-1].coupled:
            regions.append(Region([], coupled))
        regions[-1].nodes.append(index)
    if not regions or regions[-1].coupled:
        regions.append(Region([], False))
    return regions


def _up(size):
    return -(-size // LINE) * LINE


def _pack(items):
    """First fit of (life, size) intervals: those whose lives overlap do not overlap in memory."""
    placed, width = {}, 0
    for ref, ((first, last), size) in sorted(items.items(), key=lambda item: (item[1][0][0], str(item[0]))):
        at = 0
        busy = [(placed[o], items[o][1]) for o in placed if items[o][0][0] <= last and first <= items[o][0][1]]
        for start, length in sorted(busy):
            if at + size <= start:
                break
            at = max(at, start + length)
        placed[ref] = at
        width = max(width, at + size)
    return width, placed
