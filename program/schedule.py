"""The cost model: serial or sharded, into how many blocks, inlined or bound by symbol. From shapes alone.

The unit is one multiplication of the forward pass of one sample (`Layer.operations`). A kernel does a few of them per
nanosecond; a fork and join costs some microseconds, and a block of samples should fill the vector units. Therefore:

* A step is sharded over the batch if it has at least `SHARD` multiplications, into at most `BLOCKS` blocks. A block has
  at least `SAMPLES` samples, or, if a sample is much work by itself, `BLOCK` multiplications and two samples, so that
  weights are read for more than one. The number of blocks is rounded to a power of two, which the usual numbers of
  threads divide. It depends on the shapes, never on the threads, and so do the bits of the result.
* If all samples are one block, the loops of every layer of at least `DIVIDE` multiplications are divided into parts,
  with a fork and join for each layer.
* The loops of gradients and of layers that couple the batch are divided into `PARTS` parts at the same size of work.
* A network of at most `INLINED_LAYERS` layers, each with at most `INLINE` multiplications per step, is compiled with
  inlined kernels and constant sizes: there calls would cost more than the arithmetic. Deeper networks would take too
  long to compile. For few samples predictions are inlined, too, and affine layers up to `FEW_INLINE`, or `FEW_PASSED`
  where no gradients of parameters are computed: at most `FEW` samples, in a training step `FEW_OF_STEP`.
* Samples are columns in a network whose layers have at most `NARROW` numbers and kernels for them, in batches of at
  least `COLUMNS_FROM`; if the network could be inlined, of more than those few and of `COLUMN_WORK` multiplications in
  layers of fewer inputs than a vector and more outputs than one: inlined rows serve the others well. A tile of at most
  `TILE` samples passes forward and backward through all layers. A block is whole tiles and has its gradient, to which
  they add.
* Behind other layers (convolutions, wide ones, batch normalisation) the narrow layers that end a network take samples
  as columns if they have `NARROW_SHARE` of the multiplications and at most `TURNED` numbers come in. They have a loop
  over blocks of their own sizes.
"""

import sys
from math import prod
from typing import NamedTuple

from numba import config

from ..kernels.operations import Operation

SHARD = 200_000
BLOCKS = 8
SAMPLES = 16
BLOCK = 4_000_000
DIVIDE = 500_000
PARTS = 8
INLINE = 2_000
FEW = 12  # samples, at most, for which layers with a kernel for few samples are inlined up to FEW_INLINE
FEW_OF_STEP = 16  # of a step: 4-8-8-4 takes half the time of columns; a vjp of 4-32-32-4 up to 1.6 times that
FEW_INLINE = 20_000  # multiplications: 2-128-128-1 relu, one sample, takes 0.4 to 0.6 times the time of linked kernels
FEW_PASSED = 33_000  # of passes alone: 64 x 64 and 8 samples of float32 take 0.76 of the time, of a Jacobian 0.32
INLINED_LAYERS = 8
COLUMNS_FROM = 6  # samples of a batch: with fewer, rows of weights fill the vectors better
COLUMN_WORK = 1_000  # multiplications of a batch, in layers of few inputs, from which columns beat inlined kernels
TURN = 200  # multiplications that take as long as the way of a sample into columns and out of them
NARROW = 256  # numbers of the widest layer of a network whose samples are columns
NARROW_SHARE = 0.5  # of the multiplications: with less, steps gained under 3 % (docs/architecture.md)
TURNED = 128  # numbers of a sample that become columns: from 256 on rows were as fast
TILE = 96  # samples of a tile: whole vectors for every register tile
LARGE_UPDATE = 16_384  # parameters whose update takes longer than a fork and join
COLUMN_BLOCK = 48  # least samples of a block as columns
STEP = 16  # samples of a vector of float32, at most


class Narrow(NamedTuple):
    """The narrow layers that end a network, in which samples are columns.

    Parameters
    ----------
    first : int
        The number of the first of their nodes.
    blocks, samples, workers : int
        Blocks of samples, samples of a block, threads that work on blocks.
    tile : int
        Samples that pass through all these layers together.
    """

    first: int
    blocks: int
    samples: int
    workers: int
    tile: int


class Shares(NamedTuple):
    """The division of a batch.

    Parameters
    ----------
    blocks : int
        Blocks of samples.
    samples : int
        Samples of a block.
    workers : int
        Threads that work on blocks.
    parts : int
        Parts of the loops over parameters and channels.
    divided : frozenset of int
        Numbers of the nodes whose own loops are divided.
    inline : bool
        Whether kernels are compiled into the program.
    narrow : Narrow or None
        The layers in which samples are columns.
    """

    blocks: int
    samples: int
    workers: int
    parts: int
    divided: frozenset
    inline: bool
    narrow: Narrow | None = None

    @property
    def columns_from(self):
        """The number of the first node in which samples are columns; beyond all nodes if there is none."""
        return self.narrow.first if self.narrow else sys.maxsize


def shares(graph, batch_size, training, whole=False, columns=True, gradients=True):
    """Return the division of a batch; with `whole` it is not divided. Without `training` few samples are inlined.

    Samples are rows unless `columns` is set; `gradients` of parameters are computed or not.
    """
    if whole:
        return Shares(1, batch_size, 1, 1, frozenset(), False)
    inlined = (training or batch_size <= FEW) and inline(graph, batch_size, gradients, FEW_OF_STEP if training else FEW)
    count = blocks(graph, batch_size)
    alone = frozenset(divided(graph, batch_size))
    found = None if inlined or not columns or batch_size < COLUMNS_FROM else narrow(graph, batch_size)
    if found and found.first == 0:
        loops = PARTS if found.blocks > 1 and graph.size >= LARGE_UPDATE else 1
        return Shares(found.blocks, found.samples, found.workers, loops, frozenset(), False, found)
    if found and max(alone, default=0) >= found.first:
        found = None
    samples, workers = -(-batch_size // count), min(count, config.NUMBA_NUM_THREADS)
    return Shares(count, samples, workers, parts(graph, batch_size), alone, inlined, found)


def narrow(graph, batch_size):
    """Return the narrow layers that end a network, None where columns do not pay."""
    first = narrow_from(graph)
    if first == len(graph.nodes) or (first and not pays(graph, first)):
        return None
    count = 1
    if (operations(graph.nodes[first:]) + TURN) * batch_size >= SHARD:
        while count < BLOCKS and batch_size >= 2 * count * COLUMN_BLOCK:
            count *= 2
    samples = -(-batch_size // count)
    number = -(-samples // TILE)
    tile = min(-(-samples // (number * STEP)) * STEP, batch_size)
    count = -(-batch_size // (number * tile))
    return Narrow(first, count, number * tile, min(count, config.NUMBA_NUM_THREADS), tile)


def narrow_from(graph):
    """Return the number of the first of the layers that end a network and can take samples as columns.

    No residual begins before them. If there are none, it is the number of the nodes.
    """
    first = len(graph.nodes)
    for index in reversed(range(first)):
        node = graph.nodes[index]
        if max(prod(node.x.shape), prod(node.y.shape)) > NARROW or not _takes_columns(node):
            break
        first = index
    while any(node.skip is not None and node.start < first for node in graph.nodes[first:]):
        first += 1
    return first


def pays(graph, first):
    """Tell whether rows become columns for the layers from number `first` on."""
    most = operations(graph.nodes[first:]) >= NARROW_SHARE * operations(graph.nodes)
    return most and prod(graph.nodes[first].x.shape) <= TURNED


def _takes_columns(node):
    if node.skip is not None:  # a sum, number by number
        return True
    if node.layer.couples_batch:
        return False
    attributes = ("forward", "backward_input", *type(node.layer).gradients())
    used = [name for name in attributes if getattr(node.layer, name) is not None]
    return node.layer.alias or all(node.layer.column_kernel(name, node.x.shape) is not None for name in used)


def operations(nodes):
    """Return the multiplications of one sample's forward pass through nodes."""
    return sum(node.layer.operations(node.x.shape) for node in nodes)


def blocks(graph, batch_size):
    """Return the number of blocks of samples that a batch is divided into."""
    if operations(graph.nodes) * batch_size < SHARD:
        return 1
    samples = max(2, min(SAMPLES, BLOCK // operations(graph.nodes)))
    count = max(1, min(BLOCKS, batch_size // samples))
    return 1 << (3 * count // 4).bit_length() if count > 2 else count


def parts(graph, batch_size):
    """Return the number of parts that loops over parameters and channels are divided into."""
    return PARTS if operations(graph.nodes) * batch_size >= SHARD else 1


def divided(graph, batch_size):
    """Return the numbers of the layers whose own loops are divided because the batch is one block."""
    if blocks(graph, batch_size) > 1:
        return set()
    nodes = enumerate(graph.nodes)
    return {i for i, node in nodes if node.layer.operations(node.x.shape) * batch_size >= DIVIDE}


def inline(graph, batch_size, gradients=True, few=FEW):
    """Tell whether kernels are compiled into the program; `gradients` of parameters are computed or not."""
    short = [node for node in graph.nodes if prod(node.x.shape) < STEP and prod(node.y.shape) > 1]
    if batch_size > few and operations(short) * batch_size >= COLUMN_WORK and narrow_from(graph) == 0:
        return False
    return len(graph.nodes) <= INLINED_LAYERS and all(
        node.layer.operations(node.x.shape) * batch_size <= most_inlined(node.layer, batch_size <= few, gradients)
        for node in graph.nodes
    )


def most_inlined(layer, few, gradients):
    """Return the most multiplications of a layer, for few samples or more, whose kernels are inlined."""
    if not few or not (isinstance(layer.forward, Operation) and "few" in layer.forward.files):
        return INLINE
    return FEW_INLINE if gradients else FEW_PASSED
