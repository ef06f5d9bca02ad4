"""The memory of a program: lifetimes of its arrays, and the place of each in a state.

The names of kernel arguments determine how long an array must live. Arrays that only one block of samples needs share
scratch memory; all others have one row per sample in the arena, where those share memory whose lives do not overlap.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from ..errors import NnjitError
from ..kernels.compiler.elementwise import Formula
from ..kernels.counters import HEAD
from .duties import where
from .graph import COLUMNS, Ref, is_alias
from .slots import Scratch, Slot, batch, block, columns, fixed, per_block

LINE = 16  # numbers; arrays begin at multiples of it, so that vectors do not cross cache lines
CHUNK = 4096  # numbers of theta that one iteration of the update owns
LOG_ROWS = 1024  # rows of State.log before it wraps around


class Log(NamedTuple):
    """The columns of `State.log`, and theta in chunks, each of one layer.

    Parameters
    ----------
    segments : tuple
        (name, first, last + 1) in theta of each layer that has parameters.
    first_chunk : tuple of int
        The first chunk of each of them, then the number of chunks.
    rows, width : int
        Rows before it wraps around; columns: loss, rate, total norm, norms by layer.
    sums : int
        Where the partial sums of the chunks begin.
    size : int
    chunk : int
        Numbers of a chunk, except the last one of a layer.
    """

    segments: tuple
    first_chunk: tuple
    rows: int
    width: int
    sums: int
    size: int
    chunk: int

    @property
    def chunks(self):
        """The number of chunks."""
        return self.first_chunk[-1]


def log(graph):
    """Return the columns of the log of a graph, and its chunks."""
    segments = tuple((node.name, *_extent(node)) for node in graph.nodes if _extent(node) is not None)
    chunks = [-(-(hi - lo) // CHUNK) for _, lo, hi in segments]
    first_chunk = (0, *np.cumsum(chunks, dtype=int).tolist())
    width = 3 + len(segments)
    sums = LOG_ROWS * width
    return Log(segments, first_chunk, LOG_ROWS, width, sums, sums + max(first_chunk[-1], 1), CHUNK)


def _extent(node):
    """Return the first place of a node's parameters in theta and the one after the last; None if there are none."""
    if not any(parameter.size for _, parameter in node.parameters.values()):
        return None
    offsets = [(offset, offset + parameter.size) for offset, parameter in node.parameters.values()]
    return min(first for first, _ in offsets), max(last for _, last in offsets)


class Storage(NamedTuple):
    """Arrays that share their memory.

    Parameters
    ----------
    aliases : mapping
        Value -> the value whose memory it has: that of a flatten is its input's.
    sums : mapping
        The last value of a residual's branch -> the sum: both have the same delta.
    """

    aliases: Mapping
    sums: Mapping

    def of(self, ref):
        """Return the `Ref` whose memory an array has."""
        if ref.kind not in ("value", "delta", "tangent", *COLUMNS.values()):
            return ref
        key = self.aliases[ref.key]
        while ref.kind in ("delta", COLUMNS["delta"]) and key in self.sums:
            key = self.sums[key]
        return Ref(ref.kind, key)

    def is_double(self, node):
        """Tell whether a residual's sum is x + x: nothing but aliases inside."""
        return self.aliases[node.x.index] == self.aliases[node.skip.index]


def storage(graph):
    """Return the arrays of a graph that share memory."""
    aliases, sums = {0: 0}, {}
    for node in graph.nodes:
        aliases[node.y.index] = aliases[node.x.index] if is_alias(node) else node.y.index
        if node.skip is not None and aliases[node.x.index] != aliases[node.skip.index]:
            sums[aliases[node.x.index]] = node.y.index
    return Storage(aliases, sums)


def shape_of(graph, ref):
    """Return the shape of an array, and whether it has one row per sample."""
    if ref.kind in ("value", "delta", "tangent", *COLUMNS.values()):
        return graph.values[ref.key].shape, True
    if ref.kind in ("loss", "weight"):
        return (), True
    if ref.kind == "target":
        return graph.output.shape, True
    index, name = ref.key
    node = graph.nodes[index]
    shape = tuple(node.layer.scratch(node.x.shape)[name])
    if shape[:1] == ("N",):
        return shape[1:], True
    if not node.layer.couples_batch:
        begun = "begin with 'N': blocks of samples run at once"
        instead = ("N", *shape)
        raise NnjitError(f"{node.name}: scratch {name!r} of shape {shape} must {begun}; write {instead} in scratch()"
                         f"{where(type(node.layer).scratch)}")  # fmt: skip
    return shape, False


class Lives(NamedTuple):
    """The lifetimes of the arrays of all calls before the update.

    Parameters
    ----------
    calls : mapping
        Ref -> numbers of the first and the last call that need it.
    loops : mapping
        Ref -> numbers of the first and the last loop over blocks that do.
    kept : frozenset of Ref
        Arrays that must not be in scratch memory.
    """

    calls: Mapping
    loops: Mapping
    kept: frozenset


def lifetimes(graph, order, store, shares, always, device):
    """Return the lifetimes of arrays.

    Parameters
    ----------
    graph : Graph
    order : sequence of (Call, int)
        Each call with the number of its loop over blocks.
    store : Storage
    shares : Shares
    always : set of Ref
        Arrays that live from the first call to the last.
    device : str
    """
    calls: dict = {}
    loops: dict = {}
    kept, before = set(), 0
    for time, (call, loop) in enumerate(order):
        # On CUDA a formula may be fused with the call before it, which then writes the formula's result.
        early = device == "cuda" and isinstance(call.binding.kernel, Formula)
        begin, before = (time - 1, before) if early else (time, loop), loop
        arrays = [v for v in call.values.values() if isinstance(v, Ref) and v.kind not in ("gradient", "gradients")]
        turns = any(value.kind in COLUMNS.values() for value in arrays)  # a tile at a time
        for value in arrays:
            root = store.of(value)
            calls[root] = (calls.get(root, begin)[0], time)
            loops[root] = (loops[root][0] if root in loops else begin[1], loop)
            if call.split or not shape_of(graph, root)[1] or (turns and value.kind in COLUMNS):
                kept.add(root)
    if shares.blocks > 1 or shares.narrow:  # scratch memory is for one loop
        kept |= {root for root, (first, last) in loops.items() if first < last}
    end = max([len(order), *(loop for _, loop in order)])  # a Jacobian has more loops than calls
    for ref in always:
        if ref in calls or ref.kind in COLUMNS or ref.kind == "tangent":
            kept.add(ref)
            loops[ref] = (0, end)
    return Lives(calls, loops, frozenset(kept))


class Layout(NamedTuple):
    """The place of every array of a batch.

    Parameters
    ----------
    slots : mapping
        Ref -> Slot, of arrays that have memory themselves.
    scratch : Scratch
    tiles : Scratch or None
        Of arrays with samples as columns.
    gradients : Scratch or None
        A gradient for each block of samples, of the layers in which these are columns.
    added : int
        The first number of theta whose gradient is that of such a layer.
    kept : int
        Where in State.arena "gradient" keeps the buffers.
    arena_size, counters_size : int
        Numbers of State.arena and State.counters.
    """

    slots: Mapping
    scratch: Scratch
    tiles: Scratch | None
    gradients: Scratch | None
    added: int
    kept: int
    arena_size: int
    counters_size: int


def layout(graph, lives, batch_size, shares, labels, derivative=""):
    """Return the place of every array; `labels` lie in the counters.

    A vjp has a separate gradient; "gradient" keeps the buffers, which training changes.
    """
    places, whole = {}, {}
    for ref in lives.kept:
        shape, per_sample = shape_of(graph, ref)
        if ref.kind == "target" and labels:
            places[ref] = batch("counters", HEAD + batch_size, ())
        else:
            whole[ref] = (lives.loops[ref], _up((batch_size if per_sample else 1) * prod(shape)))
    size, found = pack(whole)
    for ref, offset in found.items():
        shape, per_sample = shape_of(graph, ref)
        places[ref] = (batch if per_sample else fixed)("arena", offset, shape)
    narrow, in_scratch = shares.narrow, {ref: life for ref, life in lives.calls.items() if ref not in lives.kept}
    as_columns = {ref for ref in in_scratch if _as_columns(ref, shares.columns_from)}

    def memory(refs, division, once, make):
        width, found = pack({ref: (in_scratch[ref], _up(prod(shape_of(graph, ref)[0]))) for ref in refs})
        scratch = Scratch(size, width * once, division.samples, division.workers)
        places.update({ref: make(scratch, offset, shape_of(graph, ref)[0]) for ref, offset in found.items()})
        return scratch

    scratch = memory(in_scratch.keys() - as_columns, shares, shares.samples, block)
    size += scratch.size * scratch.workers
    tiles = memory(as_columns, narrow, narrow.tile, columns) if narrow else None
    size += tiles.size * tiles.workers if tiles else 0
    gradients, before = None, graph.nodes[: shares.columns_from]
    added = sum(parameter.size for node in before for _, parameter in node.parameters.values())
    if narrow and narrow.blocks > 1:
        gradients = Scratch(size, _up(graph.size - added), narrow.samples, narrow.blocks)
        size += gradients.size * gradients.workers
    if derivative == "vjp" and gradients is None:
        gradients, added = Scratch(size, _up(graph.size), batch_size, 1), 0
        size += gradients.size
    kept, size = size, size + (graph.buffer_size if derivative == "gradient" else 0)
    return Layout(places, scratch, tiles, gradients, added, kept, size, HEAD + 2 * batch_size)


def _as_columns(ref, narrow):
    """Tell whether samples are columns of an array, as in the nodes from number `narrow` on."""
    return ref.kind in COLUMNS.values() or (ref.kind in ("scratch", "dscratch") and ref.key[0] >= narrow)


def slot_of(graph, store, found, ref):
    """Return the Slot of an array in a Layout; None if the program does not have it."""
    if ref.kind == "gradients":
        return fixed("arena", found.gradients.offset, (found.gradients.workers, found.gradients.size))
    if ref.kind == "gradient":
        offset, shape = found.added, (graph.size - found.added,)
        if ref.key is not None:
            offset, parameter = graph.nodes[ref.key[0]].parameters[ref.key[1]]
            shape = parameter.shape
        if found.gradients:
            return per_block(found.gradients, offset - found.added, shape)
        return fixed("gradient", offset, shape)
    root = store.of(ref)
    if root not in found.slots:
        return None
    slot: Slot = found.slots[root]
    return (
        slot
        if ref.kind in ("loss", "target", "weight") or ref == root
        else replace(slot, shape=shape_of(graph, ref)[0])
    )


def single_use(order, store, refs):
    """Return the values and deltas that one call writes and one other reads: a fused kernel need not write them."""
    uses = Counter(store.of(v) for call, _ in order for v in call.values.values() if isinstance(v, Ref))
    return {ref for ref in refs if ref.kind in ("value", "delta") and uses[store.of(ref)] == 2}


def _up(size):
    return -(-size // LINE) * LINE


def pack(items):
    """Return the size of a memory and the offsets of (life, size) items in it, by first fit.

    Items whose lives overlap do not share memory.
    """
    placed: dict = {}
    width = 0
    for ref, ((first, last), size) in sorted(items.items(), key=lambda item: (item[1][0][0], str(item[0]))):
        offset = 0
        busy = [(placed[o], items[o][1]) for o in placed if items[o][0][0] <= last and first <= items[o][0][1]]
        for start, length in sorted(busy):
            if offset + size <= start:
                break
            offset = max(offset, start + length)
        placed[ref] = offset
        width = max(width, offset + size)
    return width, placed
