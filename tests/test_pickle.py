"""Networks, programs and instances of plug-ins in other processes, by pickle."""

import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from nnjit import registry
from nnjit.errors import NnjitError, UsageError

LAYER = """
from numba import prange
from nnjit.layers import Layer, kernel
from nnjit.registry import register

@register("NAME")
class Halves(Layer):
    factor: float = 0.5

    @kernel
    def forward(x, y, factor):
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] = factor * x[i, j]

    @kernel
    def backward_input(dy, dx, factor):
        for i in prange(dy.shape[0]):
            for j in range(dy.shape[1]):
                dx[i, j] = factor * dy[i, j]
"""

MAIN = """
import multiprocessing, os, pickle
import numpy as np
from nnjit.registry import compose, load_plugin

load_plugin(os.path.join(os.path.dirname(os.path.abspath(__file__)), "folder", "second.py"))
x = np.random.default_rng(0).normal(size=(9, 5)).astype("f")

def predicted(program):
    y = np.empty((9, 3), "f")
    program.predict(program.state, x, y)
    return y

def answers(net, program):
    return net, predicted(program), type(net.layers[1]) is Halves, repr(net)

if __name__ == "__main__":
    net = compose(["dense(6)", "halves(factor=0.25)", "second", "dense(3)"], (5,))
    program = net.compile(batch_size=9)
    with open("net.pickle", "wb") as file:
        pickle.dump(net, file)
    np.save("x.npy", x), np.save("y.npy", net.predict(x))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        again, y, same, text = pool.apply(answers, (net, program))
    assert same and type(again.layers[1]) is Halves and type(again.layers[2]) is type(net.layers[2])
    assert np.array_equal(again.predict(x), net.predict(x)) and np.array_equal(y, predicted(program))
    assert text == repr(net)
"""

OTHER = """
import pickle
import numpy as np
from nnjit.errors import UsageError

try:
    with open("net.pickle", "rb") as file:
        net = pickle.load(file)
except UsageError as error:
    print("refused:", error)
else:
    assert np.array_equal(net.predict(np.load("x.npy")), np.load("y.npy"))
    print(net)
"""


def python(folder, *arguments):
    """Run Python in a folder and return what it printed."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_classes_of_a_script_and_of_plug_in_files(tmp_path):
    """A pool and a process that runs something else have the same bits, or one sentence says what they lack."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "second.py").write_text(LAYER.replace("NAME", "second"))
    script = tmp_path / "script.py"
    script.write_text(LAYER.replace("NAME", "halves") + MAIN)
    python(tmp_path, "script.py")
    (tmp_path / "elsewhere").mkdir()
    for file in ("net.pickle", "x.npy", "y.npy"):
        (tmp_path / file).rename(tmp_path / "elsewhere" / file)
    said = python(tmp_path / "elsewhere", "-c", OTHER)
    assert "Network(['dense(units=6)', 'halves(factor=0.25)', 'second', 'dense(units=3)']" in said
    script.write_text(script.read_text().replace("class Halves", "class Thirds"))
    assert re.search(r"^refused: plug-in .*script.py: has no class Halves", python(tmp_path / "elsewhere", "-c", OTHER))
    script.unlink()
    assert re.search(r"^refused: plug-in .*script.py: no such file", python(tmp_path / "elsewhere", "-c", OTHER))


def test_a_class_of_a_prompt(tmp_path):
    """It is copied in its process; another process cannot have it."""
    code = "import copy, pickle; from nnjit.registry import Options; exec('class Mine(Options):\\n    size: int = 1')\n"
    code += "mine = pickle.loads(pickle.dumps(Mine(3))); assert type(copy.deepcopy(mine)) is Mine and mine.size == 3\n"
    python(tmp_path, "-c", code + "pickle.dump(mine, open('mine', 'wb'))")
    with open(tmp_path / "mine", "rb") as file, pytest.raises(UsageError, match="Mine was defined at a prompt"):
        pickle.load(file)


def test_local_classes_are_copied():
    class Local(registry.Options):
        size: int = 1

    assert type(copy.deepcopy(Local(2))) is Local and copy.copy(Local(2)).size == 2


@pytest.mark.parametrize("how", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_program_goes_on_with_the_same_bits(how):
    """A copy has its own network, moments and counters; both continue as one program would."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 8, 3)).astype("f"), rng.integers(0, 2, (4, 8))

    def program():
        net = registry.compose("dense(4) dropout(0.5) dense(2)", (3,), seed=1)
        return net.compile("cross_entropy", "adam", batch_size=8, rates=[0.1, 0.01, 0.02, 0.05])

    whole, begun = program(), program()
    for k in range(4):
        whole.step(whole.state, x[k], y[k])
    for k in range(2):
        begun.step(begun.state, x[k], y[k])
    went = how(begun)
    assert went.network is not begun.network and went.source == begun.source
    for each in (went, begun):
        for k in (2, 3):
            each.step(each.state, x[k], y[k])
        np.testing.assert_array_equal(each.network.theta, whole.network.theta)
        np.testing.assert_array_equal(each.state.moments, whole.state.moments)
        assert each.state.theta is each.network.theta or np.shares_memory(each.state.theta, each.network.theta)


def test_compiled_functions_stay_in_their_process():
    program = registry.compose("dense(2)", (3,)).compile("mse", "sgd", batch_size=2)
    for how in (pickle.dumps, copy.deepcopy):
        with pytest.raises(NnjitError, match=r"predict\(.*\) is compiled code.*pickle or copy the program"):
            how(program.predict)
    net, twin = pickle.loads(pickle.dumps((program.network, program)))
    assert twin.network is net
