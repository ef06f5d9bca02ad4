"""The division of a graph into regions, each with a function of the text forward and one backward."""

from typing import NamedTuple

from .notation import name_of


class Region(NamedTuple):
    """Consecutive nodes that run together on blocks of samples, or one node whose kernels run on the whole batch.

    In a region of `columns` samples are columns.
    """

    nodes: tuple[int, ...]
    whole_batch: bool
    columns: bool = False


def divide(graph, division):
    """Divide a graph into regions; the last one runs on blocks.

    A layer that couples the batch, or a divided one, is a region. If a residual begins with it, it follows a region
    on blocks, even an empty one: there the residual's two deltas are added.
    """
    parts: list[tuple[list, bool]] = []
    starts = {node.start for node in graph.nodes if node.skip is not None}
    for index, node in enumerate(graph.nodes[: division.columns_from]):
        whole_batch = (node.layer.couples_batch or index in division.divided) and node.skip is None
        if whole_batch and index in starts and (not parts or parts[-1][1]):
            parts.append(([], False))
        if whole_batch or not parts or parts[-1][1]:
            parts.append(([], whole_batch))
        parts[-1][0].append(index)
    found = [Region(tuple(nodes), whole_batch) for nodes, whole_batch in parts]
    if division.narrow:
        return [*found, Region(tuple(range(division.columns_from, len(graph.nodes))), False, True)]
    return found if found and not found[-1].whole_batch else [*found, Region((), False)]


def function_names(regions, graph, names, alone, tangents=False):
    """Return the names of each region's functions, forward and backward, by the activations between which it lies.

    A single region is `forward` and `backward`, if these names are its own (`alone`). With `tangents` the second
    function computes these, and goes forward, too.
    """
    if len(regions) == 1 and alone:
        return [("forward", "tangents" if tangents else "backward")]
    found, taken, x = [], set(names.values()), name_of(names, graph.input)
    for region in regions:
        y = name_of(names, graph.nodes[region.nodes[-1]].y) if region.nodes else x
        back = f"backward_{y}_to_{x}" if region.nodes else f"backward_{y}"
        pair = [f"forward_{x}_to_{y}", f"tangents_{x}_to_{y}" if tangents else back]
        for k in range(2):
            while pair[k] in taken:
                pair[k] += "_"
            taken.add(pair[k])
        found.append(tuple(pair))
        x = y
    return found
