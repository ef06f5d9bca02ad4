"""The plan of a program: its kernel calls in order, and the place of every array.

Kernels are bound by the names of their arguments; from the same names follows how long an array must live (layout.py).
Functions make the plan, and its parts are named tuples: `text`, `assemble` and `device` only read it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from . import passes, update
from .calls import Call, CallList, Calls
from .graph import Graph, Ref
from .layout import Layout, Log, Storage, layout, lifetimes, log, single_use, slot_of, storage
from .notation import variables
from .regions import divide, function_names
from .schedule import Shares, shares
from .slots import Slot


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
    regions = divide(graph, division)
    flats = update.flats(task)
    names = variables(graph, division.columns_from, [(slot, name) for name, slot in flats.items()])
    functions = function_names(regions, graph, names, alone=not task.backward or training)
    store, chunks = storage(graph), log(graph)
    calls = Calls(graph, names, division, {name for pair in functions for name in pair})
    leave = (calls.turn("value", graph.output, "to_rows"),) if calls.columns else ()
    forward, backward, sums = _pass_lists(calls, task, store, [*zip(regions, functions, strict=True)], leave)
    order = [(call, each.loop) for each in (*forward, *backward, sums) for call in each.calls]
    lives = lifetimes(graph, order, store, division, _always(task, store, calls.columns), task.device)
    places = layout(graph, lives, task.batch_size, division, task.labels)
    calls.data()
    clear = (update.clear(calls),) if training and calls.columns else ()
    mean, norm, after = update.update(calls, task, flats, chunks, places.added) if training else ((), (), ())
    used = _used_names(calls, [*leave, *clear, *(call for call, _ in order), *mean, *norm, *after])
    refs = [ref for ref in used if isinstance(ref, Ref)]
    return Plan(
        task, division, chunks, names, calls.bindings, flats, forward, backward, sums, leave, clear, mean, norm, after,
        store, places, used, frozenset(single_use(order, store, refs)),
    )  # fmt: skip


def _pass_lists(calls, task, store, named, leave):
    """Return the lists of calls forward, backward and of the gradients; `named` are regions and their functions."""
    forward = [
        CallList(name, tuple(passes.forward(calls, region)), region.whole_batch, region.columns, loop)
        for loop, (region, (name, _)) in enumerate(named)
    ]
    losses = passes.losses(calls, task, leave) if task.loss is not None else []
    if not task.backward:
        return tuple(forward), (), CallList("gradients", (), True, loop=2 * len(named))
    deltas, gradients = passes.backward(calls, task, store, [region for region, _ in named])
    deltas[-1] = [*losses, *deltas[-1]]
    backward = [  # the last region is one loop, both ways
        CallList(name, tuple(each), region.whole_batch, region.columns, loop)
        for loop, ((region, (_, name)), each) in enumerate(
            reversed([*zip(named, deltas, strict=True)]), start=len(named) - 1
        )
    ]
    return tuple(forward), tuple(backward), CallList("gradients", tuple(gradients), True, loop=2 * len(named))


def _always(task, store, columns):
    """Return the arrays that live as long as the batch: input, target, losses, output and its delta."""
    output = task.graph.output.index
    found = {Ref("value", 0), Ref("target", None), Ref("loss", None), store.of(Ref("value", output))}
    if task.backward and not columns:
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
