"""The summary against the linear map of a network: built column by column, its non-zeros and reach counted."""

import re

import numpy as np
import pytest
from nnjit import registry
from nnjit.program.program import Program


def rows(net):
    """Return name -> cells of the table's rows."""
    lines = net.summary().split("\n\n")[1].splitlines()
    found = [re.split(r" {2,}", line.strip()) for line in lines[1:] if not line.startswith("-")]
    return {cells[0]: cells[1:] for cells in found}


def matrix(net):
    """Compute the matrix of F, whose biases are 0, by applying the reference kernels to the unit vectors."""
    x = np.eye(int(np.prod(net.input_shape))).reshape(-1, *net.input_shape)
    program = Program(net, batch_size=len(x), backward=True)
    program.input.of(program.state, 0, len(x))[...] = x
    program.reference().forward(program.state, len(x), 0, False)
    return program.output.of(program.state, 0, len(x)).reshape(len(x), -1)


@pytest.mark.parametrize(
    "layer",
    [
        "conv(3, 3, padding='same')",
        "conv(2, (2, 3), stride=2, padding='full')",
        "conv(4, 3, groups=2, dilation=2, padding=1)",
        "conv(2, 3, padding='same', border='wrap')",
        "conv(2, 3, padding='same', border='edge')",
        "conv_transpose(4, 3, stride=2)",
    ],
)
def test_share_of_non_zeros(layer):
    net = registry.compose([layer], input_shape=(2, 5, 6), dtype="float64")
    share = rows(net)[next(iter(net.parameters)).rpartition(".")[0]][-1]
    assert float(share.removesuffix(" %")) == pytest.approx(
        100 * np.count_nonzero(matrix(net)) / matrix(net).size, rel=5e-3
    )


def test_receptive_field_is_how_far_a_cell_sees():
    layers = [
        "conv(1, (3, 2))",
        "avgpool(2)",
        "identity",
        "conv(1, (2, 3), dilation=(2, 1))",
        "avgpool((1, 2), stride=1)",
    ]
    net = registry.compose(layers, input_shape=(1, 20, 19), dtype="float64")
    column = matrix(net)[:, net.output_shape[2] + 1].reshape(20, 19)  # of an output cell away from the border
    seen = [np.ptp(np.nonzero(column)[axis]) + 1 for axis in (0, 1)]
    assert rows(net)["avgpool.5"][-2] == f"{seen[0]}x{seen[1]}"


def test_costs_and_totals():
    layers = [
        "conv(4, 3)",
        "relu",
        {"layer": "residual", "layers": ["layernorm", "relu"]},
        "flatten",
        "dense(5)",
        "softmax",
    ]
    net = registry.compose(layers, input_shape=(2, 6, 6))
    table = rows(net)
    assert table["conv.1"] == ["4x4x4", "76", f"{2 * 16 * 4 * 2 * 9:,}", "3x3", f"{100 * (18 * 64) / (72 * 64):.3g} %"]
    assert table["dense.5"] == ["5", "325", "640", "all", "100 %"]
    assert table["residual.3.layernorm.1"][0:2] == ["4x4x4", "128"] and table["residual.3.layernorm.1"][-2] == "all"
    assert list(table) == [
        "conv.1", "relu.2", "residual.3.layernorm.1", "residual.3.relu.2", "residual.3", "flatten.4", "dense.5",
        "softmax.6", "total",
    ]  # fmt: skip
    assert table["total"][0] == f"{net.theta.size:,}"
    flops = sum(int(cells[2].replace(",", "")) for name, cells in table.items() if name != "total")
    assert int(table["total"][1].replace(",", "")) == flops


def test_fields_of_features_and_behind_transposed_convolutions():
    net = registry.compose("relu dense(4) relu", input_shape=(3,))
    assert [cells[-2] for name, cells in rows(net).items() if name != "total"] == ["1", "all", "all"]
    net = registry.compose("conv(2, 3) conv_transpose(1, 3) relu flatten dense(2)", input_shape=(1, 5))
    assert [cells[-2] for name, cells in rows(net).items() if name != "total"] == ["3", "-", "-", "-", "all"]
