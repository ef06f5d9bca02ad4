"""The examples do what they say."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name):
    """An example, imported from its file."""
    spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_points(capsys):
    """A million single-sample steps for each of ten seeds; how long they may take is a matter for the benchmarks."""
    main = example("ten_points").main
    found = [main(seed) for seed in range(10)]
    learned = [cost < 5e-3 and right == 10 for _, cost, right in found]
    assert sum(learned) >= 8, found
    assert capsys.readouterr().out.count("1000000 steps") == 10


def test_a_network_in_a_jitted_simulation(capsys):
    """The pendulum swings over 1 rad; with the network as its force it stays near the true path for 5 s."""
    jitted = example("jitted_simulation")
    assert abs(jitted.true_path(1.0, 0.0, 5000)).max() > 0.9
    assert jitted.main() < 0.15
    assert "5000 steps" in capsys.readouterr().out
