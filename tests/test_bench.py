"""`nnjit bench` and its parts: single kernels, the machine's peak, the network in PyTorch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from command_line import nnjit
from nnjit import registry
from nnjit.bench import layers as bench_layers
from nnjit.bench import machine
from nnjit.bench.describe import describe
from nnjit.bench.probe import Probe
from nnjit.program.program import Program

LAYERS = ["conv(4, 3)", "relu", "residual(['conv(4, 3, padding=1)', 'tanh'])", "batchnorm", "flatten", "dense(3)"]
SHAPE, BATCH = (2, 6, 6), 5


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Shorten all timings: no test depends on a time."""
    monkeypatch.setattr(bench_layers, "TURN", 1e-4)
    monkeypatch.setattr(bench_layers, "COUNT", 1)
    monkeypatch.setattr(Probe, "_median", lambda self, first, last, turn, count: self.run(first, last) or 1e-6)
    monkeypatch.setattr(Probe, "seconds", lambda self, first, last: self._median(first, last, 0, 1))


@pytest.fixture
def ceilings(monkeypatch):
    monkeypatch.setattr(machine, "peak", lambda *ignored: 1e12)
    monkeypatch.setattr(machine, "bandwidth", lambda *ignored: 1e10)


@pytest.fixture(scope="module")
def probe():
    net = registry.compose(LAYERS, SHAPE, seed=4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, *SHAPE)).astype(np.float32)
    target = rng.integers(0, 3, BATCH)
    return Probe(Program(net, "cross_entropy", "sgd(lr=0.5)", BATCH), x, target)


def test_all_calls_together_are_a_step(probe):
    """A step from the same parameters gives the same theta as the reference program's."""
    probe.restore()
    net = probe.program.network
    oracle = probe.program.new_state()
    probe.program.reference().step(oracle, probe.x, probe.target)
    assert not np.allclose(oracle.theta, net.theta)
    np.testing.assert_allclose(probe.state.theta, oracle.theta, rtol=1e-4, atol=1e-6)


def test_one_call_does_that_and_nothing_else(probe):
    """The first convolution's forward call writes its output; theta and the gradients do not change."""
    probe.restore()
    (number,) = probe.of("conv.1", "forward")
    theta, gradient = probe.state.theta.copy(), probe.state.gradient.copy()
    probe.state.arena[:] = np.nan
    probe.run(number, number)
    np.testing.assert_array_equal(probe.state.theta, theta)
    np.testing.assert_array_equal(probe.state.gradient, gradient)
    probe.restore()
    for line in probe.of("dense.6", "backward_weight"):
        probe.state.gradient[:] = np.nan
        probe.run(line, line)
        written = ~np.isnan(probe.state.gradient)
        assert 0 < written.sum() <= 3 * 64 + 3 and not written[: -3 * 64 - 3].any()


def test_every_layer_has_its_calls(probe):
    for node in probe.program.network.graph.nodes:
        forward = probe.of(node.name, "forward", "add")
        assert bool(forward) == (node.kind not in ("flatten",)), node.name
        if node.parameters:
            assert probe.of(node.name, "backward"), node.name
    assert not probe.of("conv.1", "backward_input"), "the first layer's input needs no gradient"
    assert probe.of("residual.3.conv.1", "backward_input")


def test_bench_of_a_network(ceilings, monkeypatch):
    monkeypatch.setattr(bench_layers, "_torch", lambda *_: {"why": "not asked"})
    net = registry.compose(["conv(4, 3)", "flatten", "dense(3)"], SHAPE)
    found = bench_layers.bench(net, "cross_entropy", "adam", BATCH)
    assert [row.name for row in found.layers] == [node.name for node in net.graph.nodes]
    conv = found.layers[0]
    assert conv.shape == (4, 4, 4) and conv.flops == 2 * (4 * 2 * 9 * 16) * BATCH * 2  # forward and dW
    assert 0 < conv.rate < 1e12 and conv.forward > 0 and conv.backward > 0
    flatten = next(row for row in found.layers if row.name == "flatten.2")
    assert (flatten.forward, flatten.backward, flatten.rate) == (0, 0, None)
    assert found.step > 0 and found.predict > 0 and found.flops == sum(row.flops or 0 for row in found.layers)


def test_peak_and_bandwidth_are_those_of_a_machine(monkeypatch):
    monkeypatch.setattr(machine, "SECONDS", 1e-3)
    monkeypatch.setattr(machine, "ROUNDS", 1)
    monkeypatch.setattr(machine, "_triad_size", lambda: 4096)
    single, double = machine.peak.__wrapped__("float32", 1), machine.peak.__wrapped__("float64", 1)
    assert 1e8 < double < single * 1.5 and single < 1e13
    assert 1e7 < machine.bandwidth.__wrapped__(1) < 1e13
    assert "core" in machine.processor()


def test_the_table(here, ceilings, monkeypatch, by_symbol):
    """Numbers for measured layers, "-" for layers that PyTorch lacks."""
    monkeypatch.setattr(
        bench_layers, "_torch", lambda *_: {"version": "0", "layers": {"dense.2": [1e-6, 1e-6], "tanh.3": None}}
    )
    text = nnjit("bench", "--layers", "flatten dense(4) tanh dense(2)", "--input-shape", "3x40", "--batch-size", "9")
    lines = {line.split()[0]: line.split() for line in text.splitlines() if "." in line.split(" ")[0]}
    assert set(lines) == {"flatten.1", "dense.2", "tanh.3", "dense.4"}
    assert 0 < float(lines["dense.2"][-1]) <= 1 and lines["tanh.3"][-1] == lines["flatten.1"][-1] == "-"
    assert "a training step" in text and "a prediction" in text and "batch of 9, float32" in text
    shares = [
        float(line.split(" %")[0].split()[-1]) for line in text.splitlines() if " %" in line and "others" not in line
    ]
    assert shares and all(0 <= share <= 100 for share in shares)


def test_without_torch(here, monkeypatch):
    monkeypatch.setattr(bench_layers, "find_spec", lambda name: None)
    why = bench_layers._torch(None, None)
    layers = [bench_layers.Timing("dense.1", (2,), 1e-6, 3e-6, 1.6e4), bench_layers.Timing("odd.2", (2,), 0, 0, None)]
    made = bench_layers.Bench(layers, 0.0, 8e-6, 2e-6, 1.6e4, peak=1e10, bandwidth=1e10, others=0.3, torch=why)
    monkeypatch.setattr(bench_layers, "bench", lambda *given, **more: made)
    text = nnjit("bench", "--layers", "dense(2)", "--input-shape", "3", "--loss", "mse", "--batch-size", "2")
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["dense.1"][1:] == ["2", "1.00", "3.00", "4.0", "40", "%", "-", "-", "-"]
    assert lines["odd.2"][1:] == ["2", *7 * ["-"]]
    assert lines["a training step"][3:6] == ["8.00", "2.0", "20"] and "PyTorch is not installed" in text
    assert "used 30 % of the CPU" in text


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--input-shape", "one"], '--input-shape "one": expected sizes such as 1,28,28'),
        (["--input-shape", "0"], "model.input_shape: expected the sizes"),
        (["--layers", "dense(2) rel", "--input-shape", "3"], 'no layer is called "rel"; did you mean'),
        (["--layers", "conv(2, 3)", "--input-shape", "3"], "conv: expected an input of shape"),
        (["--input-shape", "1,8,8", "--batch-size", "0"], "batch_size 0 is the whole data set"),
        (["--batch-size", "-1"], "training.batch_size"),
        (["missing.toml"], "there is no config missing.toml"),
        (["--set", "run.threads=4096"], "4096 threads, but this process has"),
    ],
)
def test_what_cannot_be(here, arguments, sentence):
    output = nnjit("bench", *arguments, status=2)
    assert sentence in output and output.count("\n") == 1


def test_a_description_holds_numbers_only():
    net = registry.compose([*LAYERS[:3], "maxpool(2, padding='same')", "reshape((2, -1))"], SHAPE)
    rows = json.loads(json.dumps(describe(net.layers, net.input_shape)))
    assert [row["name"] for row in rows] == ["conv.1", "relu.2", "residual.3", "maxpool.4", "reshape.5"]
    assert rows[2]["layers"][0]["name"] == "residual.3.conv.1" and rows[2]["layers"][0]["padding"] == [[1, 1], [1, 1]]
    assert rows[3]["kernel"] == [2, 2] and rows[3]["stride"] == [2, 2] and rows[3]["padding"] == [[0, 1], [0, 1]]
    assert rows[-1]["out"] == list(net.output_shape)


# -- beside PyTorch, where it is installed ---------------------------------------------------------------------------

TWINS = [
    (["conv(4, 3, stride=2, padding='same', groups=2)", "leaky_relu(0.2)", "flatten", "dense(3, bias=False)"],
     (2, 7, 6)),
    (["conv(3, 2, padding='same', border='edge')", "conv(2, 3, dilation=2, padding='full')", "elu"], (2, 9)),
    (["conv(2, (1, 2, 3), padding=((0, 0), (1, 0), (1, 1)))", "maxpool(2, padding='same')", "selu"], (1, 3, 4, 5)),
    (["conv_transpose(3, 3, stride=2, padding=1, output_padding=1)", "avgpool(2)", "gelu", "softmax"], (2, 4, 4)),
    (["residual(['conv(2, 3, padding=1)', 'silu'])", "global_avgpool", "layernorm(0.01)", "softplus"], (2, 4, 4)),
    (["lppool(2)", "maxpool(3, stride=2, padding=2)", "sigmoid", "reshape((2, -1))", "tanh"], (2, 6, 6)),
    (["minmax(-1, 3)", "conv(2, 2)"], (2, 4, 4)),
    (["batchnorm", "global_maxpool", "reshape((2, 2))", "batchnorm", "identity"], (4, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("layers, shape", TWINS)
def test_twins_compute_the_same(layers, shape, by_symbol):
    """Compute F(x) in training and every gradient of a random functional, in float64."""
    torch = pytest.importorskip("torch")
    from nnjit.bench import torch_twin

    rng = np.random.default_rng(1)
    net = registry.compose(layers, shape, dtype="float64", seed=2)
    net.theta[:] += 0.1 * rng.standard_normal(net.theta.size)
    rows = describe(net.layers, net.input_shape)
    module = torch_twin.build(rows).double()
    parameters = torch_twin.parameters(module, rows)
    assert set(parameters) == set(net.parameters)
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(torch.from_numpy(net.parameters[name].copy()))
    x = rng.standard_normal((3, *shape))
    leaf = torch.tensor(x, requires_grad=True)
    theirs, ours = module(leaf), net.forward(x, training=True)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-11)
    dy = rng.standard_normal(ours.shape)
    theirs.backward(torch.from_numpy(dy))
    np.testing.assert_allclose(net.backward(dy), leaf.grad.numpy(), rtol=1e-8, atol=1e-10)
    for name, tensor in parameters.items():
        np.testing.assert_allclose(net.gradients[name], tensor.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=name)


def test_the_child_answers_for_every_layer():
    """A layer that PyTorch lacks is null, and so are step and prediction of the whole."""
    pytest.importorskip("torch")
    rows = describe([registry.create(spec) for spec in ("dense(3)", "relu", "dense(2)")], (4,))
    rows[1]["kind"] = "nobody_knows"
    request = {"rows": rows, "shape": [4], "batch": 2, "dtype": "float32", "threads": 1, "loss": "cross_entropy",
               "labels": True, "rule": "sgd", "options": registry.optimizers.create("sgd").options()}  # fmt: skip
    command = [sys.executable, "-m", "nnjit.bench.torch_child"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["layers"]["relu.2"] is None and answer["step"] is answer["predict"] is None
    assert all(seconds > 0 for seconds in answer["layers"]["dense.3"])


def test_a_network_of_inlined_kernels_is_probed():
    net = registry.compose("dense(2)", (3,))
    program = Program(net, "mse", "sgd(lr=0.1)", 4)
    assert program.plan.shares.inline
    probe = Probe(program, np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32))
    assert probe.seconds(probe.lines[0].number, probe.lines[0].number) >= 0
