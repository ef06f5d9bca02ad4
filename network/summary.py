"""The summary of a network: a table of its layers with shapes, costs and receptive fields."""

from math import prod

from ..kernels.geometry import receptive_field
from ..program.protocols import NetworkLike

HEAD = ("layer", "output", "parameters", "FLOPs", "sees", "non-zero")
NOTE = (
    "FLOPs: of one sample's forward pass, two per multiplication. sees: the receptive field, input cells that one"
    " output cell depends on.\nnon-zero: share of the equivalent dense matrix that is not zero."
)


def summary(network: NetworkLike) -> str:
    """Return the table as plain text, with a row for each layer and one for totals.

    Parameters
    ----------
    network : Network

    Returns
    -------
    str
    """
    nodes = network.graph.nodes
    chains = {0: ()}  # value -> windows on the way to it, or "all" or "-" instead
    rows = []
    for node in nodes:
        chains[node.y.index] = _chain(node, chains[node.x.index])
        rows.append(
            (
                node.name,
                "x".join(map(str, node.y.shape)),
                f"{_size(node):,}",
                f"{_flops(node):,}",
                _field(chains[node.y.index], len(network.input_shape) - 1),
                _share(node),
            )
        )
    rows.append(("total", "", f"{network.theta.size:,}", f"{sum(map(_flops, nodes)):,}", "", ""))
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [_line(row, widths) for row in (HEAD, *rows)]
    shape = "x".join(map(str, network.input_shape))
    return "\n".join([f"input {shape}, {network.dtype}", "", *lines[:-1], "-" * len(lines[0]), lines[-1], "", NOTE])


def _line(row, widths):
    """Format a row: names to the left, numbers to the right."""
    return "  ".join(
        cell.rjust(width) if i > 1 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def _size(node):
    return sum(parameter.size for _, parameter in node.parameters.values())


def _flops(node):
    return 2 * node.layer.operations(node.x.shape)


def _chain(node, chain):
    """Return the windows (kernel, stride, dilation) of each dimension between the input and a node's output.

    "all": every number depends on every other; "-": after a transposed convolution, where the field differs by cell.
    """
    seen = "same" if node.skip is not None else node.layer.sees(node.x.shape)
    if seen == "same":
        return chain  # a residual's branch sees at least as much as its shortcut
    if seen == "all" or isinstance(chain, str):
        return "all" if seen == "all" else chain
    return "-" if isinstance(seen, str) else (*chain, tuple(zip(seen.kernel, seen.stride, seen.dilation, strict=True)))


def _field(chain, rank):
    if isinstance(chain, str):
        return chain
    return "x".join(str(receptive_field(window[d] for window in chain)) for d in range(rank)) or "1"


def _share(node):
    """Format the share of non-zeros in the matrix of a linear layer."""
    connections = node.layer.connections(node.x.shape)
    return "-" if connections is None else f"{100 * connections / (prod(node.x.shape) * prod(node.y.shape)):.3g} %"
