"""The plan of a program: its kernel calls in order, and the place of every array.

Kernels are bound by the names of their arguments; from the same names follows how long an array must live (layout.py).
Functions make the plan, and its parts are named tuples: `text`, `assemble` and `device` only read it.
"""

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

from . import passes, update
from .calls import Call, CallList, Calls
from .graph import Graph, Ref
from .layout import Layout, Log, Storage, layout, lifetimes, log, shape_of, single_use, slot_of, storage
from .notation import variables
from .regions import divide, function_names
from .schedule import Shares, narrow_from, shares
from .slots import Slot

# Functions that users call, by the derivative that a text computes.
ENTRIES = {
    "": ("predict", "step", "epoch"), "gradient": ("gradient", "update"), "vjp": ("vjp", "clear"),
    "jvp": ("jvp",), "rows": ("jacobian",), "columns": ("jacobian",),
}  # fmt: skip
OF_RANKS = ("predict", "shard_gradient", "shard_update")  # the functions of a program whose batches ranks divide


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
    weighted : bool
        Whether each sample has a weight, the factor of its loss.
    clip : Clip or None
    norm : float
        The p of the logged norms.
    largest_norm : float
        The largest norm with which a step is taken.
    derivative : str
        "" for prediction and training, else what the text computes: "gradient", "vjp", "jvp", or a Jacobian by "rows",
        each a vjp, or by "columns", each a jvp.
    ranks : int
        Processes that divide each batch among them; with more than one, the text has a step in two functions, between
        which their gradients are summed.
    global_statistics : bool
        Whether layers that couple a batch see all of it on every rank, and not the rank's share alone.
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
    weighted: bool = False
    clip: Any = None
    norm: float = 2.0
    largest_norm: float = 0.0
    derivative: str = ""
    ranks: int = 1
    global_statistics: bool = False

    @property
    def by_hand(self):
        """Tell whether the text has forward and backward of a whole batch, as `Network.forward` and `backward` need."""
        return self.backward and self.loss is None and not self.derivative

    @property
    def tangents(self):
        """Tell whether every activation has a tangent, its derivative in the direction of one of x."""
        return self.derivative in ("jvp", "columns")

    @property
    def jacobian(self):
        """Tell whether the rows of a batch are those of the Jacobian of one sample, or its columns."""
        return self.derivative in ("rows", "columns")

    @property
    def sums(self):
        """Tell whether the gradients of the parameters are computed."""
        return self.backward and self.derivative != "rows"


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
    tangents : tuple of CallList
        Of a Jacobian by columns, whose forward pass is that of one sample.
    repeated : tuple of Ref
        What that one sample's forward pass leaves to all rows or columns of its Jacobian.
    exit, clear : tuple of Call
        Where samples are columns: the output gets rows; the gradient of a block is cleared before its first tile.
    mean_gradient, chunk_norm, update_chunk : tuple of Call
        The calls on a chunk of theta; the last two before and after the norm of the gradient is known.
    accumulate : tuple of Call
        Adds the gradient of a vjp to that of the state, or scales that for an update.
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
    tangents: tuple[CallList, ...]
    repeated: tuple[Ref, ...]
    exit: tuple[Call, ...]
    clear: tuple[Call, ...]
    mean_gradient: tuple[Call, ...]
    chunk_norm: tuple[Call, ...]
    update_chunk: tuple[Call, ...]
    accumulate: tuple[Call, ...]
    storage: Storage
    layout: Layout
    variables: Mapping
    single_use: frozenset

    @property
    def passes(self):
        """The functions of the passes through the network, those without calls left out."""
        return [each for each in (*self.forward, *self.tangents, *self.backward, self.gradients) if each.calls]

    @property
    def gathers(self):
        """Tell whether ranks exchange the gradient of every block of samples, instead of the sum of their blocks.

        Each then adds all of them in the order of one process, and so the bits are the same.
        """
        blocks, ranks = self.layout.gradients, self.task.ranks
        return ranks > 1 and blocks is not None and self.layout.added == 0 and blocks.workers >= ranks

    def calls(self):
        """Return all calls in the order of the text."""
        chunks = [*self.mean_gradient, *self.chunk_norm, *self.update_chunk, *self.accumulate]
        return [*(call for each in self.passes for call in each.calls), *self.exit, *self.clear, *chunks]

    def slot(self, ref):
        """Return the Slot of an array; None if the program does not have it."""
        return slot_of(self.task.graph, self.storage, self.layout, ref)


def samples(task):
    """Return the copies of samples into the batch and of results out of it: a kernel's name and an array each."""
    x, y = (("value", value.index) for value in (task.graph.input, task.graph.output))
    kind = "tangent" if task.tangents else "delta"
    dx, dy = ((kind, index) for _, index in (x, y))
    ahead = [("batch_copy", x), ("batch_put", y), ("jacobian_repeat", y)]
    gathers = [("batch_gather", x), ("batch_gather", ("target", None))]
    gathers += [("batch_gather", ("weight", None))] * task.weighted
    found = {
        "": [*(gathers if task.loss is not None else []), ("batch_copy", x), ("batch_put", y)],
        "gradient": gathers,
        "vjp": [("batch_copy", x), ("batch_copy", dy), ("batch_put", y), ("batch_put", dx)],
        "jvp": [("batch_copy", x), ("batch_copy", dx), ("batch_put", y), ("batch_put", dy)],
        "rows": [*ahead, ("jacobian_unit", dy), ("batch_put", dx)],
        "columns": [*ahead, ("jacobian_unit", dx), ("jacobian_put_columns", dy)],
    }[task.derivative]
    return [(name, Ref(*ref)) for name, ref in found]


def make_plan(task):
    """Return the Plan of a task."""
    graph, training = task.graph, task.loss is not None
    whole = task.by_hand or task.device == "cuda"
    # A vjp is of columns in narrow networks alone: its gradient is separate, by blocks or in one piece.
    columns = training or not task.derivative or (task.derivative == "vjp" and narrow_from(graph) == 0)
    division = shares(graph, task.batch_size, training, whole, columns, task.sums)
    regions = divide(graph, division)
    flats = update.flats(task)
    own = 0 if task.derivative == "vjp" else division.columns_from  # gradients from here on are not the state's
    more = [(slot, name) for name, slot in flats.items()]
    names = variables(graph, division.columns_from, own, more, task.tangents)
    functions = function_names(regions, graph, names, not task.by_hand, task.derivative == "columns")
    store, chunks = storage(graph), log(graph)
    taken = {
        *(name for pair in functions for name in pair),
        "loss_gradient",
        "update_theta",
        *(ENTRIES[task.derivative] if task.loss is None else ()),
    }
    calls = Calls(graph, names, division, taken, own)
    leave = (calls.turn("value", graph.output, "to_rows"),) if calls.columns else ()
    forward, tangents, backward, sums = _pass_lists(calls, task, store, [*zip(regions, functions, strict=True)], leave)
    order = [(call, each.loop) for each in (*forward, *tangents, *backward, sums) for call in each.calls]
    repeated = _repeated(graph, store, forward, (*tangents, *backward)) if task.jacobian else ()
    always = {*_always(task, store, calls.columns), *repeated}  # in scratch memory the places depend on the rows
    lives = lifetimes(graph, order, store, division, always, task.device)
    places = layout(graph, lives, task.batch_size, division, task.labels, task.derivative)
    calls.data(name for name, _ in samples(task))
    clear = (update.clear(calls),) if task.sums and calls.columns else ()
    mean, norm, after = update.update(calls, task, flats, chunks, places.added) if training else ((), (), ())
    accumulate = update.accumulate(calls, task, flats)
    listed = [*leave, *clear, *(call for call, _ in order), *mean, *norm, *after, *accumulate]
    used = _used_names(calls, task, repeated, listed)
    refs = [ref for ref in used if isinstance(ref, Ref)]
    return Plan(
        task, division, chunks, names, calls.bindings, flats, forward, backward, sums, tangents, repeated, leave, clear,
        mean, norm, after, accumulate, store, places, used, frozenset(single_use(order, store, refs)),
    )  # fmt: skip


def _pass_lists(calls, task, store, named, leave):
    """Return the lists of calls forward, of tangents alone, backward, and of the gradients.

    `named` are regions and their functions.
    """
    apart = task.derivative == "columns"  # the tangents have more rows than the forward pass
    forward = [
        CallList(name, tuple(passes.forward(calls, task, region, not apart)), region.whole_batch, region.columns, loop)
        for loop, (region, (name, _)) in enumerate(named)
    ]
    start = len(named) if task.jacobian else 0
    tangents = [
        CallList(name, tuple(passes.tangents(calls, region)), region.whole_batch, region.columns, start + loop)
        for loop, (region, (_, name)) in enumerate(named)
        if apart
    ]
    losses = passes.losses(calls, task, leave) if task.loss is not None else passes.given_delta(calls)
    if not task.backward:
        return tuple(forward), tuple(tangents), (), CallList("gradients", (), True, loop=2 * len(named))
    deltas, gradients = passes.backward(calls, task, store, [region for region, _ in named])
    deltas[-1] = [*losses, *deltas[-1]]
    backward = [  # the last region is one loop, both ways, except in a Jacobian
        CallList(name, tuple(each), region.whole_batch, region.columns, loop)
        for loop, ((region, (_, name)), each) in enumerate(
            reversed([*zip(named, deltas, strict=True)]), start=start + len(named) - 1
        )
    ]
    sums = CallList("gradients", tuple(gradients), True, loop=start + 2 * len(named))
    return tuple(forward), tuple(tangents), tuple(backward), sums


def _repeated(graph, store, forward, more):
    """Return the arrays that a forward pass of one sample leaves to further calls, which have more rows."""

    def arrays(lists):
        values = [value for each in lists for call in each.calls for value in call.values.values()]
        return dict.fromkeys(store.of(value) for value in values if isinstance(value, Ref))

    both, later = arrays(forward), arrays(more)
    shapes = {ref: shape_of(graph, ref) for ref in both if ref in later}
    return tuple(ref for ref, (shape, per_sample) in shapes.items() if per_sample and prod(shape))


def _always(task, store, columns):
    """Return the arrays that live as long as the batch: input, target, weights, losses, output and its delta."""
    output = task.graph.output.index
    found = {Ref("value", 0), *(Ref(kind, None) for kind in ("target", "weight", "loss"))}
    found.add(store.of(Ref("value", output)))
    if task.tangents:
        found |= {Ref("tangent", 0), store.of(Ref("tangent", output))}
    if task.backward and not columns:
        found.add(store.of(Ref("delta", output)))
        if task.loss is None:
            found.add(store.of(Ref("delta", 0)))
    return found


def _used_names(made, task, repeated, calls):
    """Return array -> variable of those that the text names, in the order of their first use; `made` named them."""
    names, x, y = made.names, Ref("value", 0), Ref("value", made.graph.output.index)
    more = [*(ref for _, ref in samples(task) if task.derivative), *repeated]  # aliases alone have no calls
    ends = {ref: names[ref] for ref in more}
    found: dict[Ref | Slot, str] = {x: names[x]}
    for call in calls:
        for value in call.values.values():
            if isinstance(value, (Ref, Slot)):
                found.setdefault(value, names[value])
    return {**found, **{ref: name for ref, name in ends.items() if ref not in found}, y: names[y]}
