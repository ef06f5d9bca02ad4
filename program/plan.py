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
from . import schedule
from .duties import check_names
from .graph import Ref, is_alias
from .notation import identifier, variables
from .slots import Binding, Desk, Slot, part, rows, short

LINE = 16  # arrays begin at multiples of this many numbers, so that vectors do not cross cache lines


@dataclass(frozen=True)
class Var:
    """A variable of the program's text as a kernel argument; `kind` is int, float, bool or a Numba type."""

    text: str
    kind: object = int

    def sample(self):
        return self.kind() if self.kind in (int, float, bool) else self.kind


@dataclass
class Call:
    """One call of a kernel: its binding, its arguments by name, and the formula it stands for."""

    binding: Binding
    values: dict
    comment: str = ""
    parted: bool = False
    phase: str = "block"


@dataclass
class Region:
    """Nodes that run together: on blocks of samples, or (coupled) one layer, divided by itself, on the whole batch."""

    nodes: list
    coupled: bool
    forward: list = field(default_factory=list)
    backward: list = field(default_factory=list)


class Plan:
    """See the module's docstring. `program` gives the network, loss, optimizer and batch size."""

    def __init__(self, program):
        self.program, self.graph = program, program.network.graph
        self.N = program.batch_size
        self.bindings = {}
        self.names = variables(self.graph)
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
        if training:
            self._update()

    # -- calls -------------------------------------------------------------------------------------------------------

    def bind(self, name, kernel):
        """The binding of a kernel under a name of the text; one name, one kernel."""
        name = identifier(name)
        while name in self.bindings:
            if self.bindings[name].kernel == kernel:
                return self.bindings[name]
            name += "_"
        for argument in kernel.arguments:
            if argument in ("s", "n0", "n1", "part", "parts"):
                raise NnjitError(f"{name}: a kernel argument cannot be called {argument!r}, a name of the program")
        self.bindings[name] = Binding(name, kernel, kernel.arguments, kernel.form)
        return self.bindings[name]

    def call(self, name, kernel, values, comment="", **more):
        return Call(self.bind(name, kernel), {k: values[k] for k in kernel.arguments}, comment, **more)

    def _of_node(self, index, attribute, comment):
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
        known |= node.layer.scalars(shape)
        known |= {"training": Var("training", bool), "seed": Var(f"seed + {index + 1}"), "first": Var("n0")}
        check_names(node.name, attribute, kernel, known)
        return self.call(f"{node.kind}_{attribute}", kernel, known, comment)

    def _forward(self):
        for region in self.regions:
            for index in region.nodes:
                node = self.graph.nodes[index]
                y = self.names[Ref("value", node.y.index)]
                if node.skip is not None:
                    values = {"x": Ref("value", node.x.index), "skip": Ref("value", node.skip.index)}
                    values["y"] = Ref("value", node.y.index)
                    text = f"{y} = {self.names[values['x']]} + {self.names[values['skip']]}"
                    region.forward.append(self.call("residual_add", node.layer.add, values, text))
                elif not is_alias(node):
                    text = f"{y} = {_formula(self, node)}"
                    region.forward.append(self._of_node(index, "forward", text))
            if region.coupled:
                _whole(region.forward)

    def _loss(self):
        program, region = self.program, self.regions[-1]
        loss, suffix = program.loss, "_labels" if program.labels else ""
        output = self.graph.output.index
        target = Ref("target", None)
        values = {"y": Ref("value", output), "dy": Ref("delta", output), "target": target, "loss": Ref("loss", None)}
        values |= {k: v for k, v in loss.options().items() if isinstance(v, (bool, int, float))}
        name = identifier(program.loss_name)
        region.backward.append(
            self.call(f"{name}_forward", getattr(loss, "forward" + suffix), values, "C_i of every sample (1)")
        )
        region.backward.append(self.call(f"{name}_backward", getattr(loss, "backward" + suffix), values, "(2)"))

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
                for other in self.graph.nodes:  # where a residual begins, the deltas of both its ways meet
                    if other.skip is not None and other.start == index and other.skip.index in self.learned:
                        dx, dy = Ref("delta", other.skip.index), Ref("delta", other.y.index)
                        branch = dy if self._doubles(other) else dx
                        values = {"x": branch, "skip": dy, "y": dx}
                        text = f"{self.names[dx]} = {self.names[branch]} + {self.names[dy]}"
                        # Two loops that are parted alike may not follow each other without a barrier.
                        where = before if region.coupled else region
                        where.backward.append(self.call("residual_add", other.layer.add, values, text))
            if region.coupled:
                _whole(region.backward)

    def _backward_of(self, index, node, region):
        delta = self.names[Ref("delta", node.y.index)]
        if node.x.index in self.learned:
            if node.layer.backward_input is None:
                raise NnjitError(f"{node.name}: the layer has no backward_input, so nothing before it can be trained")
            text = f"{self.names[Ref('delta', node.x.index)]} from {delta} (3)"
            region.backward.append(self._of_node(index, "backward_input", text))
        for attribute in type(node.layer).gradients():
            written = [k for k in getattr(node.layer, attribute).arguments if k[:1] == "d" and k[1:] in node.parameters]
            if all(node.parameters[k[1:]][1].size == 0 for k in written):
                continue
            equation = "(4)" if written == ["db"] else "(5)"
            text = f"{', '.join(self._variable(node, k) for k in written)} from {delta} {equation}"
            call = self._of_node(index, attribute, text)
            call.parted, call.phase = True, "gradients"
            self.gradients.append(call)

    def _variable(self, node, name):
        offset, parameter = node.parameters[name[1:]]
        return self.names[part("gradient", offset, parameter.shape)]

    def _update(self):
        optimizer = self.program.optimizer
        S = self.program.network.theta.size
        known = {"theta": rows("theta", 0, ()), "gradient": rows("gradient", 0, ())}
        for k, name in enumerate(optimizer.moments):
            known[name] = rows("moments", k * S, ())
        known |= {k: v for k, v in optimizer.options().items() if isinstance(v, (bool, int, float))}
        known |= {"rate": Var("rate", float), "step": Var("t + 1")}
        self.names |= {slot: name for name, slot in known.items() if isinstance(slot, Slot)}
        sums = part("log", self.sums, (max(self.first_chunk[-1], 1),))
        self.names[sums] = "sums"
        g = known["gradient"]
        mean = {"g": g, "factor": Var("1.0 / N", float)}
        norm = {"g": g, "sums": sums, "index": Var("c"), "p": self.program.norm}
        self.scale = self.call("norm_scale", operation("norm.scale"), mean, "the mean over the batch: 1/N of (4), (5)")
        self.clip = self.call("norm_scale", operation("norm.scale"), {"g": g, "factor": Var("clip", float)}, "clipping")
        self.measure = self.call("norm_partial", operation("norm.partial"), norm, "this chunk's share of the norms")
        check_names("optimizer", "update", optimizer.update, known)
        self.update = self.call("update", optimizer.update, known, "the update rule")

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
                    if call.phase != "block" or not self._shape(root)[1]:
                        kept.add(root)
        if self.blocks > 1:  # a worker's desk is for one loop
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
        desk = Desk(width * self.samples, self.samples, self.workers)
        for ref, at in local.items():
            places[ref] = short("arena", size, self._shape(ref)[0], at, *desk)
        self.arena_size = size + desk.room * desk.workers
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


def _formula(plan, node):
    x = plan.names[Ref("value", node.x.index)]
    weights = [plan.names[part("theta", o, p.shape)] for o, p in node.parameters.values() if p.size]
    return f"{node.kind}({', '.join([x, *weights])})"


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


def _whole(calls):
    for call in calls:
        call.parted, call.phase = True, "whole"


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
