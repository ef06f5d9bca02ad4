"""A network as a table: what each layer makes of its input, what it costs, and how much of it a cell sees."""

from math import prod

from ..kernels.geometry import receptive_field
from ..program.program import NetworkLike

HEAD = ("layer", "output", "parameters", "FLOPs", "sees", "non-zero")
NOTE = (
    "FLOPs: of one sample's forward pass, two a multiplication. sees: the receptive field, input cells that one output"
    " cell depends on.\nnon-zero: share of the equivalent dense matrix that is not zero."
)


def summary(network: NetworkLike) -> str:
    """The table as plain text, one row a layer and one of totals.

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
    """Names to the left, numbers to the right."""
    return "  ".join(
        cell.rjust(width) if i > 1 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()


def _size(node):
    return sum(parameter.size for _, parameter in node.parameters.values())


def _flops(node):
    return 2 * node.layer.operations(node.x.shape)


def _chain(node, chain):
    """The windows (kernel, stride, dilation) of each dimension between the input and a node's output.

    "all" once every number depends on every other, "-" behind a transposed convolution, where it differs by cell.
    """
    seen = "same" if node.skip is not None else node.layer.sees(node.x.shape)
    if seen == "same":
        return chain  # a residual's branch sees at least what the way around it sees
    if seen == "all" or isinstance(chain, str):
        return "all" if seen == "all" else chain
    return "-" if isinstance(seen, str) else (*chain, tuple(zip(seen.kernel, seen.stride, seen.dilation, strict=True)))


def _field(chain, rank):
    if isinstance(chain, str):
        return chain
    return "x".join(str(receptive_field(window[d] for window in chain)) for d in range(rank)) or "1"


def _share(node):
    """Non-zeros of the matrix that a linear layer stands for, as text."""
    connections = node.layer.connections(node.x.shape)
    return "-" if connections is None else f"{100 * connections / (prod(node.x.shape) * prod(node.y.shape)):.3g} %"
