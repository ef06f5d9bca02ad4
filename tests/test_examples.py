"""The examples do what they say."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports a copy of an example: Numba caches its functions beside it, under the name of an importable module."""

    def imported(name):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        return import_module(name)

    return imported


def test_ten_points(example, capsys):
    """A million single-sample steps for each of ten seeds; how long they may take is a matter for the benchmarks."""
    main = example("ten_points").main
    found = [main(seed) for seed in range(10)]
    learned = [cost < 5e-3 and right == 10 for _, cost, right in found]
    assert sum(learned) >= 8, found
    assert capsys.readouterr().out.count("1000000 steps") == 10


def test_a_network_in_a_jitted_simulation(example, capsys):
    """The pendulum swings over 1 rad; with the network as its force it stays near the true path for 5 s."""
    jitted = example("jitted_simulation")
    assert abs(jitted.true_path(1.0, 0.0, 5000)).max() > 0.9
    assert jitted.main() < 0.15
    assert "5000 steps" in capsys.readouterr().out
