"""A user's jitted function that calls a network: cached once, right for every network that it is given."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from nnjit.program.program import Program
from nnjit.registry import compose

# A user's code: a simulation that calls a network, and one that also trains it.
USER = '''
import numpy as np
from numba import njit


@njit(cache=True)
def simulate(predict, state, x, y, steps):
    """The network steers a point; returns the way it went."""
    way = 0.0
    for i in range(steps):
        x[0, 0] = np.sin(0.1 * i)
        predict(state, x, y)
        way += y[0, 0]
    return way


@njit(cache=True)
def adapt(step, predict, state, x, target, y):
    """A few steps of training, then a prediction; returns the loss before the last step."""
    loss = 0.0
    for _ in range(5):
        loss = step(state, x, target)
    predict(state, x, y)
    return loss
'''

# The process: a network of a width and seed, and the results of the user's functions.
PROCESS = """
import json, sys
import numpy as np
from nnjit.registry import compose
import user_code
from nnjit.program import function_type, state

width, seed = int(sys.argv[1]), int(sys.argv[2])
for module in (each for each in (function_type, state) if each.__name__ in sys.argv):  # of another version of nnjit
    module.KEY = "other"
net = compose([f"dense({width})", "tanh", "dense(2)"], (50,), dtype="float64", seed=seed)
program = net.compile("mse", "sgd(lr=0.1)", batch_size=4)
x, y, target = np.linspace(-1, 1, 200).reshape(4, 50), np.zeros((4, 2)), np.ones((4, 2))
way = user_code.simulate(program.predict, program.state, x[:1].copy(), y[:1].copy(), 20)
loss = user_code.adapt(program.step, program.predict, program.state, x, target, y)
stats = [getattr(user_code, name).stats for name in ("simulate", "adapt")]
print(json.dumps({
    "way": way, "loss": loss, "y": y.tolist(),
    "hits": [sum(each.cache_hits.values()) for each in stats],
    "misses": [sum(each.cache_misses.values()) for each in stats],
}))
"""


def expected(width, seed):
    """Compute the same with the reference kernels, in plain Python."""
    net = compose([f"dense({width})", "tanh", "dense(2)"], (50,), dtype="float64", seed=seed)
    program = Program(net, "mse", "sgd(lr=0.1)", batch_size=4)
    run, x, way = program.reference(), np.linspace(-1, 1, 200).reshape(4, 50), 0.0
    point = x[:1].copy()
    for i in range(20):
        point[0, 0] = np.sin(0.1 * i)
        way += net.forward(point)[0, 0]
    for _ in range(5):
        loss = run.step(program.state, x, np.ones((4, 2)))
    return {"way": way, "loss": loss, "y": net.forward(x)}


def test_a_cached_function_calls_the_network_it_is_given(tmp_path):
    """Two processes with other weights and another width: the second compiles none of the user's code and is right.

    With another version of nnjit, which may call networks in another way, all of it is compiled again.
    """
    (tmp_path / "user_code.py").write_text(USER)
    (tmp_path / "process.py").write_text(PROCESS)
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    versions = [(), (), ("nnjit.program.function_type",), ("nnjit.program.state",)]
    for width, seed, version, hits in zip((45, 51, 45, 45), (1, 2, 1, 1), versions, (0, 1, 0, 0), strict=True):
        ran = subprocess.run(
            [sys.executable, "process.py", str(width), str(seed), *version],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        got, wanted = json.loads(ran.stdout), expected(width, seed)
        assert got["way"] == pytest.approx(wanted["way"], rel=1e-11)
        assert got["loss"] == pytest.approx(wanted["loss"], rel=1e-11)
        np.testing.assert_allclose(got["y"], wanted["y"], rtol=1e-11)
        assert (got["hits"], got["misses"]) == ([hits] * 2, [1 - hits] * 2)
