"""The examples do what they say."""

import os
import re
import subprocess
import sys
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


def test_a_network_in_a_jitted_simulation(tmp_path):
    """The pendulum swings over 1 rad; with the network as its force it stays near the true path for 5 s."""
    assert abs(example("jitted_simulation").true_path(1.0, 0.0, 5000)).max() > 0.9
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # the example caches its own jitted function
    script = [sys.executable, str(EXAMPLES / "jitted_simulation.py")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    found = re.fullmatch(r"5000 steps in .* largest error (\d+\.\d+) rad\n", done.stdout)
    assert float(found[1]) < 0.15
