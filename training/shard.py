"""A rank's share of the training: its samples of each batch, the sum over ranks, and the update.

The ranks divide a batch into consecutive shares, by their places in the batch. Each computes the gradient of its
samples; the sum, one in-place Allreduce of [gradient | losses | signal] a step, is the same on all ranks, and so is the
update. Losses are those of the batch's places, 0 on ranks that have others, so their sum adds nothing to them. In a
network of narrow layers alone the ranks exchange the gradient of each block instead (`Plan.gathers`), and add them in
the order of one process.
"""

import zlib
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.split import Split
from ..errors import NnjitError
from ..kernels.counters import SEED, STEP, STOP
from ..program.graph import Graph, Ref
from ..program.program import Program
from ..program.state import State
from ..program.text.shards import exchanged
from .orders import Orders
from .ranks import Ranks


class Job(NamedTuple):
    """The part of a training that other ranks must know.

    Parameters
    ----------
    config : str
        The complete config, TOML.
    batch_size, samples, epochs, seed : int
        Samples of a batch and of the training data, and what their orders are keyed by.
    labels : bool
        Whether targets are whole-number labels.
    rates : array
        Learning rate of every step.
    x, y : arrays or None
        Samples and targets, converted; None: each rank takes its rows of `split`.
    split : Split or None
    weights : array or None
        Factors of the losses of the samples.
    """

    config: str
    batch_size: int
    samples: int
    epochs: int
    seed: int
    labels: bool
    rates: NDArray[np.float64]
    x: NDArray[Any] | None
    y: NDArray[Any] | None
    split: Split | None
    weights: NDArray[Any] | None

    def orders(self) -> Orders:
        """Return the orders of the samples, those of one process."""
        return Orders(self.seed, self.samples, self.epochs, self.batch_size < self.samples)


class Shard:
    """The share of this rank in a training.

    Parameters
    ----------
    ranks : Ranks
    program : Program
        Of as many ranks.
    job : Job
    """

    def __init__(self, ranks: Ranks, program: Program, job: Job) -> None:
        self.ranks, self.program, self.job, self.signal = ranks, program, job, 0
        size, batch, plan = program.state.theta.size, program.batch_size, program.plan
        self.state, self._message = program.state, np.zeros(batch + 1, program.dtype)
        if not plan.gathers:
            self._message = np.zeros(size + batch + 1, program.dtype)
            self.state = State(**{**program.state._asdict(), "gradient": self._message[:size]})
        self._kind = ranks.MPI.FLOAT if program.dtype.itemsize == 4 else ranks.MPI.DOUBLE
        self._exchanged = exchanged(plan)
        self._losses = self._message[-batch - 1 : -1]
        first = plan.slot(Ref("loss", None)).offset
        self._own_losses = program.state.arena[first : first + batch]
        self._blocks: Any = None
        if plan.gathers:
            blocks = plan.layout.gradients
            rows = program.state.arena[blocks.offset : blocks.offset + blocks.workers * blocks.size]
            bounds = [blocks.workers * rank // ranks.size for rank in range(ranks.size + 1)]
            counts = [(end - begin) * blocks.size for begin, end in pairwise(bounds)]
            self._blocks = [rows, counts, [begin * blocks.size for begin in bounds[:-1]]]
            self._bounds = [begin * blocks.samples for begin in bounds]
        local = not plan.task.global_statistics
        self._averaged = statistics_of(program.network.graph, program.state.buffers) if local else []

    def lines(self) -> list[str]:
        """Return what a run says of its ranks."""
        size, program = self.ranks.size, self.program
        coupled = [node.name for node in program.network.graph.nodes if node.layer.couples_batch]
        first = f"{size} processes divide each batch of {program.batch_size} samples"
        if coupled and program.plan.task.global_statistics:
            names = ", ".join(coupled)
            return [
                f"{first}, and normalise all of it in {names}; results differ by rounding from those of one process"
            ]
        if coupled:
            return [
                f"{first}, and each normalises its share alone in {', '.join(coupled)}: statistics are those of "
                f"{program.batch_size // size} samples, so results differ from those of one process"
            ]
        same = "have the bits of those" if self._blocks is not None else "differ by rounding from those"
        return [f"{first}; results {same} of one process"]

    def begin(self) -> None:
        """Take over what rank 0 begins with: parameters, buffers, moments and the number of the step."""
        state, world = self.program.state, self.ranks.world
        with self.ranks.in_step():
            for array in (state.theta, state.buffers, state.moments, state.counters[STEP : STEP + 1]):
                world.Bcast(array)
        state.counters[SEED], state.counters[STOP] = self.job.seed, 0

    def gather(self) -> NDArray[Any] | None:
        """Return on rank 0 the statistics of every rank, a row each: they differ within an epoch. None if none do."""
        if not self._averaged:
            return None
        own = np.concatenate(self._averaged)
        rows = np.empty((self.ranks.size, own.size), own.dtype) if self.ranks.rank == 0 else None
        with self.ranks.in_step():
            self.ranks.world.Gather(own, rows)
        return rows

    def scatter(self, rows: NDArray[Any] | None = None) -> None:
        """Give each rank its row of the statistics, which rank 0 has from `gather`."""
        own = np.empty(sum(buffer.size for buffer in self._averaged), self.program.dtype)
        with self.ranks.in_step():
            self.ranks.world.Scatter(rows, own)
        fill_statistics(self._averaged, own)

    def samples(self, N: int, rank: int) -> tuple[int, int]:
        """Return the places of a rank's samples in a batch of N: from the first, below the second."""
        size = self.ranks.size
        if self._blocks is not None:
            return min(self._bounds[rank], N), min(self._bounds[rank + 1], N)
        return N * rank // size, N * (rank + 1) // size

    def steps(self, order: NDArray[np.intp]) -> None:
        """Take a step on each batch of the samples in an order; the stop flag ends them."""
        job, state, batch = self.job, self.state, self.program.batch_size
        x, y, weights = job.x, job.y, [] if job.weights is None else [job.weights]
        with self.ranks.in_step():
            for first in range(0, len(order), batch):
                N = min(batch, len(order) - first)
                begin, end = self.samples(N, self.ranks.rank)
                numbers = order, first, begin, end, N
                some = weights
                if job.split is not None:
                    rows = order[first + begin : first + end]
                    x, y = job.split.take(rows, self.program.dtype)
                    some = [each[rows] for each in weights]
                    numbers = np.arange(len(rows)), -begin, begin, end, N
                self.program.shard_gradient(state, x, y, *numbers, 0, *some)
                for section, array in enumerate(self._exchanged, start=1):
                    self._exchange(array, N)
                    self.program.shard_gradient(state, x, y, *numbers, section, *some)
                self._sum()
                self.program.shard_update(state, N)
                if state.counters[STOP]:
                    return

    def _exchange(self, slot, N):
        """Give every rank the rows of an array that the others have computed."""
        MPI, world = self.ranks.MPI, self.ranks.world
        bounds = [self.samples(N, rank) for rank in range(self.ranks.size)]
        counts = [(end - begin) * slot.size for begin, end in bounds]
        rows = self.state.arena[slot.offset : slot.offset + N * slot.size]
        starts = [begin * slot.size for begin, _ in bounds]
        world.Allgatherv(MPI.IN_PLACE, [rows, counts, starts, self._kind])

    def _sum(self):
        """Sum the gradient, losses and signals over the ranks."""
        MPI, world = self.ranks.MPI, self.ranks.world
        self._losses[:], self._message[-1] = self._own_losses, self.signal
        world.Allreduce(MPI.IN_PLACE, self._message)
        self._own_losses[:] = self._losses
        if self._blocks is not None:
            rows, counts, starts = self._blocks
            world.Allgatherv(MPI.IN_PLACE, [rows, counts, starts, self._kind])

    @property
    def signals(self) -> int:
        """The sum of the numbers of the signals that ended up at ranks, in the latest step."""
        return int(self._message[-1])

    def agree(self) -> None:
        """Average the statistics of batches over the ranks; raise NnjitError unless all have the same parameters."""
        MPI, world = self.ranks.MPI, self.ranks.world
        with self.ranks.in_step():
            for buffer in self._averaged:
                world.Allreduce(MPI.IN_PLACE, buffer)
                buffer /= self.ranks.size
            own = zlib.crc32(self.program.state.theta.data)
            found = np.array([own, -own], np.int64)
            world.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
            if found[0] != -found[1]:
                raise NnjitError(
                    "the ranks have different parameters after the same steps, so their processors or libraries "
                    "compute differently; run on machines of one kind"
                )


def compile_steps(program: Program) -> None:
    """Compile what the steps of a program of ranks call, or load it from disk."""
    program.compile()
    functions: list[Any] = [program.shard_gradient, program.shard_update]
    for function in functions:
        _ = function.dispatcher


def statistics_of(graph: Graph, buffers: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the statistics of batches that layers keep, such as running means: views of the flat buffers."""
    return [
        buffers[offset : offset + buffer.size]
        for node in graph.nodes
        if node.layer.couples_batch
        for offset, buffer in node.buffers.values()
    ]


def fill_statistics(statistics: list[NDArray[Any]], row: NDArray[Any]) -> None:
    """Set the statistics of batches to those of a row of `Shard.gather`."""
    first = 0
    for array in statistics:
        array[:] = row[first : first + array.size]
        first += array.size
