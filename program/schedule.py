"""The cost model: serial or sharded, into how many blocks, inlined or bound by symbol. From shapes alone.

The unit is one multiplication of the forward pass of one sample (`Layer.operations`). A kernel does a few of them a
nanosecond; a fork and join costs some microseconds and a block of samples should fill the vector units, so:

* a step is sharded over the batch when it has at least `SHARD` multiplications, into at most `BLOCKS` blocks. One has
  at least `SAMPLES` samples, or, where a sample is much work by itself, `BLOCK` multiplications and two samples, so
  that weights are read for more than one. It is rounded to a power of two, which the usual numbers of threads divide.
  The number is fixed by the shapes, never by the threads, and so are the bits of the result;
* where all samples are one block, every layer of at least `DIVIDE` multiplications is divided into parts of its own
  loops too, with a fork and join for each;
* gradients and batch-coupled layers are divided into `PARTS` parts of their own loops at the same size of work;
* a network of at most `INLINED_LAYERS` layers none of which has more than `INLINE` multiplications a step is compiled
  with inlined kernels and constant sizes: there the calls would cost more than the arithmetic. Deeper ones would take
  too long to compile.
"""

SHARD = 200_000
BLOCKS = 8
SAMPLES = 16
BLOCK = 4_000_000
DIVIDE = 500_000
PARTS = 8
INLINE = 2_000
INLINED_LAYERS = 8


def operations(graph):
    """Multiplications of one sample's forward pass."""
    return sum(node.layer.operations(node.x.shape) for node in graph.nodes)


def blocks(graph, batch_size):
    """Into how many blocks of samples a batch is divided."""
    if operations(graph) * batch_size < SHARD:
        return 1
    samples = max(2, min(SAMPLES, BLOCK // operations(graph)))
    count = max(1, min(BLOCKS, batch_size // samples))
    return 1 << (3 * count // 4).bit_length() if count > 2 else count


def parts(graph, batch_size):
    """Into how many parts the loops over parameters and channels are divided."""
    return PARTS if operations(graph) * batch_size >= SHARD else 1


def divided(graph, batch_size):
    """Numbers of the layers that are divided by themselves, where a batch is one block."""
    if blocks(graph, batch_size) > 1:
        return set()
    nodes = enumerate(graph.nodes)
    return {i for i, node in nodes if node.layer.operations(node.x.shape) * batch_size >= DIVIDE}


def inline(graph, batch_size):
    """Whether kernels are compiled into the program."""
    return len(graph.nodes) <= INLINED_LAYERS and all(
        node.layer.operations(node.x.shape) * batch_size <= INLINE for node in graph.nodes
    )
